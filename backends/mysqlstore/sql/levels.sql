-- name: levels_lock
-- index: PRIMARY const in each branch, in key order. locks: X,REC_NOT_GAP on each row found.
[[(SELECT ? AS i, unmaterialised, pooled, adopted, taken, taken_epoch, taken_n, owed FROM crossfade_levels
  WHERE pod = ? AND shop = ? AND item = ? AND location = ? FOR UPDATE)| UNION ALL ]];

-- name: levels_make
-- index: PRIMARY. locks: X,REC_NOT_GAP on each row, new or old, in key order.
INSERT INTO crossfade_levels (pod, shop, item, location) VALUES [[(?, ?, ?, ?)|, ]]
  ON DUPLICATE KEY UPDATE pooled = pooled;

-- name: level_update
-- index: PRIMARY const. locks: none new, the row is locked.
UPDATE crossfade_levels SET unmaterialised = ?, pooled = ?, adopted = 1, taken = ?, taken_epoch = ?, taken_n = ?, owed = ?
  WHERE pod = ? AND shop = ? AND item = ? AND location = ?;

-- name: stock_view
-- index: PRIMARY const of levels, PRIMARY ref of units. locks: none: one statement is one read view, so
-- the pool and what is unmaterialised belong to one instant. Units that an open transaction has
-- taken count as available: it may still roll back.
[[(SELECT ? AS i, unmaterialised,
  (SELECT COUNT(*) FROM crossfade_units WHERE pod = ? AND shop = ? AND item = ? AND location = ?) AS pool
  FROM crossfade_levels WHERE pod = ? AND shop = ? AND item = ? AND location = ?)| UNION ALL ]];

-- name: levels_debt
-- index: PRIMARY const. locks: none.
[[(SELECT ? AS i, unmaterialised FROM crossfade_levels
  WHERE pod = ? AND shop = ? AND item = ? AND location = ? AND unmaterialised < 0)| UNION ALL ]];

-- name: levels_wanting
-- index: PRIMARY range. locks: none. Keys that may want a refill, page by page; %s is the rest of
-- the range's condition.
SELECT shop, item, location FROM crossfade_levels l
  WHERE l.pod = ? AND %s ORDER BY l.shop, l.item, l.location LIMIT ?;

-- name: view_fence
-- A view is one statement of three parts, and so of one instant: fence, stock, holds. index: PRIMARY
-- const. locks: none.
SELECT 0 AS kind, 0 AS i, epoch AS a, stage AS b, is_open AS c, filled AS d, '' AS id FROM crossfade_fence WHERE pod = ?;

-- name: view_stock
-- index: PRIMARY const of levels, PRIMARY ref of units. locks: none. Units that an open transaction
-- has taken count as available: it may still roll back.
[[SELECT 1, ?, unmaterialised,
  (SELECT COUNT(*) FROM crossfade_units WHERE pod = ? AND shop = ? AND item = ? AND location = ?), 0, 0, ''
  FROM crossfade_levels WHERE pod = ? AND shop = ? AND item = ? AND location = ?| UNION ALL ]];

-- name: view_holds
-- index: PRIMARY range of single points. locks: none.
SELECT 2, 0, 0, 0, 0, 0, id FROM crossfade_holds FORCE INDEX (PRIMARY) WHERE pod = ? AND id IN ([[?|, ]]);
