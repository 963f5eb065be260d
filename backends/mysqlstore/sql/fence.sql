-- The fence, and the clock that comes with it. A clock reading is UTC_TIMESTAMP, which no session's
-- time zone moves, in milliseconds.

-- name: begin
START TRANSACTION;

-- name: fence_share
-- index: PRIMARY const. locks: S,REC_NOT_GAP on the pod's row, kept to COMMIT; first in every write.
SELECT epoch, stage, is_open, filled, CONNECTION_ID(),
  TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000
  FROM crossfade_fence WHERE pod = ? LOCK IN SHARE MODE;

-- name: fence_read
-- index: PRIMARY const. locks: none.
SELECT epoch, stage, is_open, filled, CONNECTION_ID(),
  TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000
  FROM crossfade_fence WHERE pod = ?;

-- name: clock
SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000;

-- name: fence_make
-- index: PRIMARY. locks: X on the new row; S on one that came in between.
INSERT IGNORE INTO crossfade_fence (pod) VALUES (?);

-- name: fence_raise
-- index: PRIMARY const. locks: X,REC_NOT_GAP on the pod's row: it waits for every write under way.
UPDATE crossfade_fence SET epoch = ?, stage = ?, is_open = ?, filled = ?
  WHERE pod = ? AND epoch = ? AND is_open = ?;

-- name: blockers_mysql
-- Who holds what session ? waits for. locks: none.
SELECT DISTINCT b.PROCESSLIST_ID FROM performance_schema.data_lock_waits w
  JOIN performance_schema.threads r ON r.THREAD_ID = w.REQUESTING_THREAD_ID
  JOIN performance_schema.threads b ON b.THREAD_ID = w.BLOCKING_THREAD_ID
  WHERE r.PROCESSLIST_ID = ? AND b.PROCESSLIST_ID IS NOT NULL;

-- name: blockers_mariadb
-- The three tables are a copy that is renewed only when nobody has read it for 0.1 s. A transaction that
-- has changed nothing has the id 0, as all of its kind: of those only who has locked rows can be meant.
SELECT DISTINCT b.trx_mysql_thread_id FROM information_schema.innodb_lock_waits w
  JOIN information_schema.innodb_trx r ON r.trx_id = w.requesting_trx_id
  JOIN information_schema.innodb_trx b ON b.trx_id = w.blocking_trx_id
  WHERE r.trx_mysql_thread_id = ? AND b.trx_mysql_thread_id <> 0 AND b.trx_rows_locked > 0;

-- name: session_there
-- locks: none.
SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?;

-- name: session_writes
-- A session leaves the process list after its transaction has ended; this one makes sure. The table
-- is a copy that is renewed only when nobody has read it for 0.1 s. locks: none.
SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = ?;

-- name: uptime
SHOW GLOBAL STATUS LIKE 'Uptime';
