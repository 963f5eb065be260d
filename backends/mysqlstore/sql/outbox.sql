-- name: outbox_insert
-- locks: implicit ones on the new rows.
INSERT INTO crossfade_outbox (pod, seq, created, body) VALUES [[(?, ?, ?, ?)|, ]];

-- name: outbox_lost
-- index: PRIMARY. locks: X,REC_NOT_GAP on one of the pod's slots.
INSERT INTO crossfade_outbox_lost (pod, slot, lost, dropped) VALUES (?, ?, 1, ?)
  ON DUPLICATE KEY UPDATE lost = 1, dropped = dropped + VALUES(dropped);

-- name: outbox_found
-- index: PRIMARY, one point. locks: X,REC_NOT_GAP on one of the pod's slots.
UPDATE crossfade_outbox_lost SET lost = 0 WHERE pod = ? AND slot = ?;

-- name: outbox_page
-- index: PRIMARY range. locks: none.
SELECT seq, created, body FROM crossfade_outbox WHERE pod = ? AND seq > ?
  AND created <= TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000 - ? ORDER BY seq LIMIT ?;

-- name: outbox_take
-- index: PRIMARY eq_ref for each row of the list, in seq order. locks: X,REC_NOT_GAP on each row found; it
-- waits for another who takes the same ones, so that exactly one is told.
SELECT o.seq FROM (SELECT 0 AS seq[[ UNION ALL SELECT ?|]]) v
  STRAIGHT_JOIN crossfade_outbox o FORCE INDEX (PRIMARY) ON o.pod = ? AND o.seq = v.seq FOR UPDATE;

-- name: outbox_delete
-- index: PRIMARY eq_ref for each row of the list. locks: none new, the rows are locked.
DELETE o FROM (SELECT 0 AS seq[[ UNION ALL SELECT ?|]]) v
  STRAIGHT_JOIN crossfade_outbox o FORCE INDEX (PRIMARY) ON o.pod = ? AND o.seq = v.seq;

-- name: outbox_left
-- index: PRIMARY range of single points. locks: none.
SELECT COUNT(*) FROM crossfade_outbox WHERE pod = ? AND seq IN ([[?|, ]]);

-- name: outbox_count
-- index: PRIMARY range. locks: none. Reads no more rows than the LIMIT.
SELECT COUNT(*) FROM (SELECT 1 FROM crossfade_outbox WHERE pod = ? AND seq > ? LIMIT ?) c;

-- name: outbox_oldest
-- index: PRIMARY range, first row. locks: none.
SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000 - created
  FROM crossfade_outbox WHERE pod = ? AND seq > ? ORDER BY seq LIMIT 1;

-- name: outbox_losses
-- index: PRIMARY ref. locks: none.
SELECT COALESCE(MAX(lost), 0), COALESCE(SUM(dropped), 0) FROM crossfade_outbox_lost WHERE pod = ?;
