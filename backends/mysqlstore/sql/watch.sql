-- Who uses the server, for people who look. Nothing here locks a row or waits for one. All of it reads
-- tables that the server makes up in passing, so each is bounded in rows, and in time by the server
-- itself (a second), whether or not we are still there to hear the answer.

-- name: watch_about
SELECT VERSION(), @@GLOBAL.performance_schema;

-- name: watch_consumers
-- What performance_schema keeps. One that is off by configuration has no rows, and no rights to it is
-- an error that the caller takes for off.
SELECT NAME FROM performance_schema.setup_consumers WHERE ENABLED = 'YES' LIMIT 100;

-- name: watch_sessions_mysql
-- index: events by THREAD_ID (hash). locks: none, not even a mutex. The last statement of an idle
-- session is still there, with its tag; the text is cut to its first bytes.
SELECT /*+ MAX_EXECUTION_TIME(1000) */ t.PROCESSLIST_ID, t.THREAD_ID, COALESCE(t.PROCESSLIST_USER, ''),
  COALESCE(t.PROCESSLIST_HOST, ''), COALESCE(t.PROCESSLIST_COMMAND, ''), COALESCE(t.PROCESSLIST_STATE, ''),
  x.THREAD_ID IS NOT NULL, COALESCE(x.TIMER_WAIT, 0) DIV 1000000000,
  LEFT(COALESCE(s.SQL_TEXT, t.PROCESSLIST_INFO, ''), ?),
  CASE WHEN LOCATE('conn_tag:', COALESCE(s.SQL_TEXT, t.PROCESSLIST_INFO)) > 0 THEN
    SUBSTRING(COALESCE(s.SQL_TEXT, t.PROCESSLIST_INFO), LOCATE('conn_tag:', COALESCE(s.SQL_TEXT, t.PROCESSLIST_INFO)), 340)
    ELSE '' END,
  s.SQL_TEXT IS NOT NULL OR t.PROCESSLIST_INFO IS NOT NULL
  FROM performance_schema.threads t
  LEFT JOIN performance_schema.events_statements_current s ON s.THREAD_ID = t.THREAD_ID AND s.NESTING_EVENT_LEVEL = 0
  LEFT JOIN performance_schema.events_transactions_current x ON x.THREAD_ID = t.THREAD_ID AND x.STATE = 'ACTIVE'
  WHERE t.PROCESSLIST_ID IS NOT NULL AND t.PROCESSLIST_ID <> CONNECTION_ID() LIMIT ?;

-- name: watch_sessions_mariadb
-- locks: none. A session that is idle has no text here.
SET STATEMENT max_statement_time = 1 FOR SELECT ID, 0, COALESCE(USER, ''), COALESCE(HOST, ''), COALESCE(COMMAND, ''),
  COALESCE(STATE, ''), 0, 0, COALESCE(LEFT(INFO, ?), ''),
  CASE WHEN LOCATE('conn_tag:', INFO) > 0 THEN SUBSTRING(INFO, LOCATE('conn_tag:', INFO), 340) ELSE '' END,
  INFO IS NOT NULL
  FROM information_schema.processlist WHERE ID <> CONNECTION_ID() LIMIT ?;

-- name: watch_threads
-- MariaDB's performance_schema has no indexes: the two are joined by us. locks: none.
SELECT THREAD_ID, PROCESSLIST_ID FROM performance_schema.threads WHERE PROCESSLIST_ID IS NOT NULL LIMIT ?;

-- name: watch_statements
SELECT THREAD_ID, LEFT(SQL_TEXT, ?),
  CASE WHEN LOCATE('conn_tag:', SQL_TEXT) > 0 THEN SUBSTRING(SQL_TEXT, LOCATE('conn_tag:', SQL_TEXT), 340) ELSE '' END
  FROM performance_schema.events_statements_current WHERE SQL_TEXT IS NOT NULL LIMIT ?;

-- name: watch_cpu
-- Picoseconds of CPU of all statements that have ended.
SELECT COALESCE(SUM(SUM_CPU_TIME), 0) FROM performance_schema.events_statements_summary_global_by_event_name;

-- name: watch_waiting
-- A copy that is renewed only when nobody has read it for 0.1 s. locks: none.
SELECT trx_mysql_thread_id, trx_state = 'LOCK WAIT' FROM information_schema.innodb_trx LIMIT ?;

-- name: watch_totals
-- As before; what is read next comes from the same copy.
SELECT COUNT(*), COALESCE(SUM(trx_rows_locked), 0), COALESCE(SUM(trx_state = 'LOCK WAIT'), 0) FROM information_schema.innodb_trx;

-- name: watch_transactions
-- As before. Its times are those of the machine's own zone, whatever the session's is.
SELECT trx_id, trx_mysql_thread_id, trx_state = 'LOCK WAIT',
  COALESCE(GREATEST(0, TIMESTAMPDIFF(SECOND, CONVERT_TZ(trx_started, 'SYSTEM', '+00:00'), UTC_TIMESTAMP())), 0) * 1000,
  COALESCE(GREATEST(0, TIMESTAMPDIFF(SECOND, CONVERT_TZ(trx_wait_started, 'SYSTEM', '+00:00'), UTC_TIMESTAMP())), 0) * 1000,
  trx_isolation_level, trx_rows_locked, trx_rows_modified, trx_query IS NOT NULL
  FROM information_schema.innodb_trx ORDER BY trx_started LIMIT ?;

-- name: watch_locks_mysql
-- locks: none of a row. InnoDB's lock system is latched while it is read, a range of transactions at
-- a time: it is asked only when there are few locks. Intentions on tables, which hinder nobody here,
-- are left out.
SELECT /*+ MAX_EXECUTION_TIME(1000) */ ENGINE_TRANSACTION_ID, COALESCE(MIN(THREAD_ID), 0), COALESCE(OBJECT_SCHEMA, ''),
  COALESCE(OBJECT_NAME, ''), COALESCE(INDEX_NAME, ''), LOCK_TYPE, LOCK_MODE, LOCK_STATUS, COUNT(*)
  FROM performance_schema.data_locks WHERE NOT (LOCK_TYPE = 'TABLE' AND LOCK_MODE IN ('IS', 'IX'))
  GROUP BY ENGINE_TRANSACTION_ID, OBJECT_SCHEMA, OBJECT_NAME, INDEX_NAME, LOCK_TYPE, LOCK_MODE, LOCK_STATUS
  ORDER BY COUNT(*) DESC LIMIT ?;

-- name: watch_waits_mysql
-- As before. The thread of a lock that was implicit (a row just inserted) is the one that waits for
-- it, so transactions are what counts, and threads only where a transaction is not in the copy.
SELECT /*+ MAX_EXECUTION_TIME(1000) */ w.REQUESTING_ENGINE_TRANSACTION_ID, COALESCE(w.REQUESTING_THREAD_ID, 0),
  w.BLOCKING_ENGINE_TRANSACTION_ID, COALESCE(w.BLOCKING_THREAD_ID, 0), COALESCE(r.OBJECT_SCHEMA, ''),
  COALESCE(r.OBJECT_NAME, ''), COALESCE(r.INDEX_NAME, ''), COALESCE(LEFT(r.LOCK_DATA, 200), ''), r.LOCK_MODE, b.LOCK_MODE,
  b.LOCK_STATUS = 'GRANTED'
  FROM performance_schema.data_lock_waits w
  JOIN performance_schema.data_locks r ON r.ENGINE_LOCK_ID = w.REQUESTING_ENGINE_LOCK_ID AND r.ENGINE = w.ENGINE
  JOIN performance_schema.data_locks b ON b.ENGINE_LOCK_ID = w.BLOCKING_ENGINE_LOCK_ID AND b.ENGINE = w.ENGINE
  LIMIT ?;

-- name: watch_locks_mariadb
-- Of the same copy as the transactions: locks that are waited for, and those that wait.
SELECT lock_id, lock_trx_id, lock_table, COALESCE(lock_index, ''), lock_type, lock_mode, COALESCE(LEFT(lock_data, 200), '')
  FROM information_schema.innodb_locks LIMIT ?;

-- name: watch_waits_mariadb
SELECT requesting_trx_id, requested_lock_id, blocking_trx_id, blocking_lock_id FROM information_schema.innodb_lock_waits LIMIT ?;

-- name: watch_status
-- The one place that knows of read views. InnoDB's lock system is latched while it is written: not to
-- be asked more often than a person can read.
SHOW ENGINE INNODB STATUS;
