-- name: apology_file
-- index: PRIMARY. locks: X,REC_NOT_GAP on each row that is there already, an implicit one on a new
-- row. reason comes before at: the assignments are made from left to right.
INSERT INTO crossfade_apology_book (pod, id, hold, shop, item, location, quantity, reason, at, redis, mysql)
  VALUES [[(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)|, ]]
  ON DUPLICATE KEY UPDATE
    quantity = GREATEST(quantity, VALUES(quantity)),
    reason   = IF(VALUES(at) < at, VALUES(reason), reason),
    at       = LEAST(at, VALUES(at)),
    redis    = GREATEST(redis, VALUES(redis)),
    mysql    = GREATEST(mysql, VALUES(mysql));

-- name: apology_list
-- index: oldest, range, in order, so that the limit ends it. locks: none. Its end is put together from
-- the conditions below that are asked for, then apology_list_end.
SELECT id, hold, shop, item, location, quantity, reason, at, redis, mysql, acked, acked_by, acked_at, why
  FROM crossfade_apology_book WHERE pod = ?

-- name: apology_list_open
-- a condition of apology_list
 AND quantity > acked

-- name: apology_list_acked
-- a condition of apology_list
 AND quantity <= acked

-- name: apology_list_after
-- a condition of apology_list: what comes behind a cursor
 AND at >= ? AND (at > ? OR id > ?)

-- name: apology_list_end
-- the end of apology_list, in the order of the index, so that nothing is sorted
 ORDER BY at, id LIMIT ?

-- name: apology_sum
-- index: ref by pod, of any index. locks: none. It reads every apology of the pod.
SELECT COALESCE(SUM(quantity > acked), 0), COALESCE(SUM(quantity - acked), 0), COALESCE(SUM(quantity <= acked), 0), COALESCE(SUM(acked), 0)
  FROM crossfade_apology_book WHERE pod = ?;

-- name: apology_lock
-- index: PRIMARY const. locks: X,REC_NOT_GAP on the row.
SELECT id, hold, shop, item, location, quantity, reason, at, redis, mysql, acked, acked_by, acked_at, why
  FROM crossfade_apology_book WHERE pod = ? AND id = ? FOR UPDATE;

-- name: apology_ack
-- index: PRIMARY const. locks: none new, the row is locked.
UPDATE crossfade_apology_book SET acked = ?, acked_by = ?, acked_at = ?, why = ? WHERE pod = ? AND id = ?;
