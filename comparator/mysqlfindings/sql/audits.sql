-- The audits of pods. rev grows with every change, so that each changes its row and can be counted.

-- name: audit_read
-- index: PRIMARY const. locks: none.
SELECT holder, n, until, begun, last_begun, last_ended, fails, failed, failure, state, last, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)
  FROM crossfade_audits WHERE pod = ?;

-- name: audit_make
-- index: PRIMARY const. locks: X,REC_NOT_GAP on the row when it is there; it changes nothing then.
INSERT INTO crossfade_audits (pod) VALUES (?) ON DUPLICATE KEY UPDATE pod = crossfade_audits.pod;

-- name: audit_take
-- index: PRIMARY const. locks: X,REC_NOT_GAP on the row. Changes nothing while it is somebody's.
UPDATE crossfade_audits SET holder = ?, n = n + 1, rev = rev + 1, until = CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) + ?
  WHERE pod = ? AND until <= CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED);

-- name: audit_keep
-- index: PRIMARY const. locks: X,REC_NOT_GAP on the row. As all below: changes nothing when somebody has taken it since; a
-- term of 0 gives it back.
UPDATE crossfade_audits SET rev = rev + 1,
  until = IF(? = 0, 0, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) + ?) WHERE pod = ? AND n = ?;

-- name: audit_begin
-- index: PRIMARY const. locks: X,REC_NOT_GAP on the row.
UPDATE crossfade_audits SET rev = rev + 1, state = NULL, begun = CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED),
  until = IF(? = 0, 0, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) + ?) WHERE pod = ? AND n = ?;

-- name: audit_go_on
-- index: PRIMARY const. locks: X,REC_NOT_GAP on the row.
UPDATE crossfade_audits SET state = ?, rev = rev + 1,
  until = IF(? = 0, 0, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) + ?) WHERE pod = ? AND n = ?;

-- name: audit_end
-- index: PRIMARY const. locks: X,REC_NOT_GAP on the row. The assignments are made from left to right.
UPDATE crossfade_audits SET last = ?, rev = rev + 1, last_begun = begun, last_ended = CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED),
  begun = 0, state = NULL, fails = 0, failed = 0, failure = '',
  until = IF(? = 0, 0, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) + ?) WHERE pod = ? AND n = ?;

-- name: audit_drop
-- index: PRIMARY const. locks: X,REC_NOT_GAP on the row.
UPDATE crossfade_audits SET rev = rev + 1, state = NULL, begun = 0,
  until = IF(? = 0, 0, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) + ?) WHERE pod = ? AND n = ?;

-- name: audit_fail
-- index: PRIMARY const. locks: X,REC_NOT_GAP on the row.
UPDATE crossfade_audits SET failure = ?, rev = rev + 1, fails = fails + 1, failed = CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED),
  until = IF(? = 0, 0, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) + ?) WHERE pod = ? AND n = ?;
