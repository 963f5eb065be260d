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
SELECT DISTINCT b.trx_mysql_thread_id FROM performance_schema.data_lock_waits w
  JOIN information_schema.innodb_trx r ON r.trx_id = w.REQUESTING_ENGINE_TRANSACTION_ID
  JOIN information_schema.innodb_trx b ON b.trx_id = w.BLOCKING_ENGINE_TRANSACTION_ID
  WHERE r.trx_mysql_thread_id = ? AND b.trx_mysql_thread_id <> 0;

-- name: blockers_mariadb
SELECT DISTINCT b.trx_mysql_thread_id FROM information_schema.innodb_lock_waits w
  JOIN information_schema.innodb_trx r ON r.trx_id = w.requesting_trx_id
  JOIN information_schema.innodb_trx b ON b.trx_id = w.blocking_trx_id
  WHERE r.trx_mysql_thread_id = ? AND b.trx_mysql_thread_id <> 0;

-- name: session_gone
-- 0 when neither the session nor its transaction is there any more. locks: none.
SELECT (SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?)
     + (SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = ?);

-- name: uptime
SHOW GLOBAL STATUS LIKE 'Uptime';
