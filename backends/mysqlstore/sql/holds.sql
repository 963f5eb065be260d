-- What locks names one row by its whole key: on small tables a list would be looked for by reading
-- all of the table, waiting for whatever is locked there. Where it can be said, the primary key is
-- forced: on a table of a row or two MariaDB takes the other index, for all of the pod.

-- name: hold_read
-- index: PRIMARY range of single points. locks: none.
SELECT id, shop, state, epoch, n, digest, body, allocs, caller, created, expires, ended, ledger_owed, own
  FROM crossfade_holds FORCE INDEX (PRIMARY) WHERE pod = ? AND id IN ([[?|, ]]);

-- name: hold_lock
-- index: PRIMARY const in each branch, in id order. locks: X,REC_NOT_GAP on each row found.
[[(SELECT id, shop, state, epoch, n, digest, body, allocs, caller, created, expires, ended, ledger_owed, own
  FROM crossfade_holds WHERE pod = ? AND id = ? FOR UPDATE)| UNION ALL ]];

-- name: hold_insert
-- locks: an implicit one on the new row; waits for another transaction that inserts the same id.
INSERT INTO crossfade_holds (pod, id, shop, state, epoch, n, stamp, digest, body, allocs, caller, created, expires, ended, ledger_owed, own, due)
  VALUES [[(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)|, ]];

-- name: hold_update
-- index: PRIMARY const. locks: X,REC_NOT_GAP on one row. Changes nothing when another was faster.
UPDATE crossfade_holds FORCE INDEX (PRIMARY) SET shop = ?, state = ?, epoch = ?, n = ?, stamp = ?, digest = ?, body = ?, allocs = ?, caller = ?,
  created = ?, expires = ?, ended = ?, ledger_owed = ?, own = ?, due = ?
  WHERE pod = ? AND id = ? AND epoch = ? AND n = ?;

-- name: hold_epoch
-- index: PRIMARY, one point. locks: none new, the row is locked.
UPDATE crossfade_holds FORCE INDEX (PRIMARY) SET epoch = ? WHERE pod = ? AND id = ?;

-- name: hold_stamp
-- index: PRIMARY range of single points. locks: none.
SELECT COUNT(*) FROM crossfade_holds FORCE INDEX (PRIMARY) WHERE stamp = ? AND pod = ? AND id IN ([[?|, ]]);

-- name: holds_advance
-- index: PRIMARY const for each row of the list, in id order. locks: X,REC_NOT_GAP on each row found.
-- Changes no row when another was faster. The list is a table since VALUES is not the same on both.
UPDATE ([[SELECT ? AS id, ? AS was_epoch, ? AS was_n, ? AS state, ? AS epoch, ? AS n, ? AS expires, ? AS ended, ? AS ledger_owed, ? AS due| UNION ALL ]]) v
  STRAIGHT_JOIN crossfade_holds h FORCE INDEX (PRIMARY) ON h.pod = ? AND h.id = v.id AND h.epoch = v.was_epoch AND h.n = v.was_n
  SET h.state = v.state, h.epoch = v.epoch, h.n = v.n, h.stamp = ?, h.expires = v.expires, h.ended = v.ended, h.ledger_owed = v.ledger_owed, h.due = v.due;

-- name: holds_due
-- index: due, range. locks: none.
SELECT id, due FROM crossfade_holds WHERE pod = ? AND state = ? AND due >= ? AND due <= ? ORDER BY due, id LIMIT ?;

-- name: holds_page
-- index: PRIMARY range. locks: none.
SELECT id, shop, state, epoch, n, digest, body, allocs, caller, created, expires, ended, ledger_owed, own
  FROM crossfade_holds WHERE pod = ? AND id > ? ORDER BY id LIMIT ?;

-- name: holds_open_page
-- index: PRIMARY range. locks: none. It reads over ended holds; the index on due would not give
-- the order of ids.
SELECT id, shop, state, epoch, n, digest, body, allocs, caller, created, expires, ended, ledger_owed, own
  FROM crossfade_holds FORCE INDEX (PRIMARY) WHERE pod = ? AND id > ? AND state = 1 ORDER BY id LIMIT ?;

-- name: holds_purge
-- index: PRIMARY, one point. locks: X,REC_NOT_GAP on the row.
DELETE FROM crossfade_holds WHERE pod = ? AND id = ? AND state <> 1 AND due < ?;

-- name: holds_open_all
-- index: due, ref. locks: none. Streamed, within one snapshot.
SELECT shop, body, allocs FROM crossfade_holds WHERE pod = ? AND state = 1;

-- name: op_read
-- index: PRIMARY const. locks: none.
SELECT value, delta, void FROM crossfade_ops WHERE pod = ? AND op_id = ?;

-- name: op_insert
-- locks: an implicit one on the new row; waits for another transaction that inserts the same id.
INSERT INTO crossfade_ops (pod, op_id, stamp, value, delta, void, created) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: op_update
-- index: PRIMARY const. locks: X,REC_NOT_GAP on one row. Its age stays that of the first time.
UPDATE crossfade_ops SET stamp = ?, value = ?, delta = ?, void = ?
WHERE pod = ? AND op_id = ? AND delta = ? AND void = 0;

-- name: op_stamp
-- index: PRIMARY const. locks: none.
SELECT COUNT(*) FROM crossfade_ops WHERE pod = ? AND op_id = ? AND stamp = ?;

-- name: ops_old
-- index: created, range. locks: none.
SELECT op_id FROM crossfade_ops WHERE pod = ? AND created < ? ORDER BY created LIMIT ?;

-- name: ops_purge
-- index: PRIMARY, one point. locks: X,REC_NOT_GAP on the row.
DELETE FROM crossfade_ops WHERE pod = ? AND op_id = ?;

-- name: apology_insert
-- locks: an implicit one on the new row.
INSERT INTO crossfade_apologies (pod, seq, hold, shop, item, location, quantity, reason, at)
  VALUES [[(?, ?, ?, ?, ?, ?, ?, ?, ?)|, ]];

-- name: apologies
-- index: PRIMARY, range. locks: none.
SELECT seq, hold, shop, item, location, quantity, reason, at FROM crossfade_apologies WHERE pod = ? AND seq > ? ORDER BY seq LIMIT ?;
