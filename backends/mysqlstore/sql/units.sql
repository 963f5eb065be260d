-- name: units_skip
-- index: PRIMARY range (pod, shop, item, location, id >= cursor). locks: X,REC_NOT_GAP on the rows
-- answered and no others, each branch up to its LIMIT. It passes over what others have locked.
[[(SELECT ? AS i, id FROM crossfade_units
  WHERE pod = ? AND shop = ? AND item = ? AND location = ? AND id >= ? ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED)| UNION ALL ]];

-- name: units_points
-- Rows that are likely to be free, by their whole keys: a tenth of the cost of a scan for each key.
-- index: PRIMARY eq_ref for each row of the list. locks: X,REC_NOT_GAP on the rows answered. It passes
-- over what others have locked, and over what is gone. The list is a table and not a condition, since an
-- optimizer may look for many points by reading all of the table; its first row only names the columns.
SELECT u.id FROM (SELECT NULL AS shop, NULL AS item, NULL AS location, 0 AS id[[ UNION ALL SELECT ?, ?, ?, ?|]]) v
  STRAIGHT_JOIN crossfade_units u FORCE INDEX (PRIMARY) ON u.pod = ? AND u.shop = v.shop AND u.item = v.item AND u.location = v.location AND u.id = v.id
  FOR UPDATE SKIP LOCKED;

-- name: unit_point
-- The same for one row, at a third of the cost. index: PRIMARY const. locks: X,REC_NOT_GAP on the row, if it is
-- there and nobody has it.
SELECT id FROM crossfade_units WHERE pod = ? AND shop = ? AND item = ? AND location = ? AND id = ? FOR UPDATE SKIP LOCKED;

-- name: units_wait
-- index: PRIMARY ref (pod, shop, item, location). locks: X,REC_NOT_GAP on the rows answered; it waits
-- for rows that others have locked. No condition on id: the end of a range, unlike the end of a
-- prefix, would make it wait for the first row of the next key as well.
[[(SELECT ? AS i, id FROM crossfade_units
  WHERE pod = ? AND shop = ? AND item = ? AND location = ? ORDER BY id LIMIT ? FOR UPDATE)| UNION ALL ]];

-- name: units_count
-- index: PRIMARY ref. locks: none.
[[(SELECT ? AS i, COUNT(*) FROM crossfade_units
  WHERE pod = ? AND shop = ? AND item = ? AND location = ?)| UNION ALL ]];

-- name: units_low
-- index: PRIMARY ref of units, PRIMARY const of levels. locks: none. Reads no more rows than the
-- LIMIT.
[[(SELECT ? AS i, unmaterialised, (SELECT COUNT(*) FROM (SELECT 1 FROM crossfade_units
  WHERE pod = ? AND shop = ? AND item = ? AND location = ? LIMIT ?) c) AS pool
  FROM crossfade_levels WHERE pod = ? AND shop = ? AND item = ? AND location = ?)| UNION ALL ]];

-- name: units_delete
-- index: PRIMARY eq_ref for each row of the list. locks: none new, the rows are locked.
DELETE u FROM (SELECT NULL AS shop, NULL AS item, NULL AS location, 0 AS id[[ UNION ALL SELECT ?, ?, ?, ?|]]) v
  STRAIGHT_JOIN crossfade_units u FORCE INDEX (PRIMARY) ON u.pod = ? AND u.shop = v.shop AND u.item = v.item AND u.location = v.location AND u.id = v.id;

-- name: unit_delete
-- The same for one row, at half of the cost. index: PRIMARY const. locks: none new, the row is locked.
DELETE FROM crossfade_units WHERE pod = ? AND shop = ? AND item = ? AND location = ? AND id = ?;

-- name: units_insert
-- locks: implicit ones on the new rows.
INSERT INTO crossfade_units (pod, shop, item, location, id) VALUES [[(?, ?, ?, ?, ?)|, ]];

-- name: row_count
-- An assertion: rows that the statement before it changed, in the same packet. With another number of
-- them the sum is out of range, which is an error on both servers, and ends the packet.
SELECT 9223372036854775807 + (ROW_COUNT() <> ?);
