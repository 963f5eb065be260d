-- The ledger: units on hand. {…} are the names of Config.Ledger; {key} is the condition on its key.

-- name: ledger_create
-- Only for a ledger of our own.
CREATE TABLE IF NOT EXISTS {ledger} (
  {pod} VARBINARY(64) NOT NULL, {shop} VARBINARY(64) NOT NULL, {item} VARBINARY(64) NOT NULL,
  {location} VARBINARY(64) NOT NULL, {on_hand} BIGINT NOT NULL,
  PRIMARY KEY ({pod}, {shop}, {item}, {location})
) ENGINE=InnoDB;

-- name: ledger_make
-- index: the unique key. locks: X,REC_NOT_GAP on the row, new or old.
INSERT INTO {ledger} ({columns}, {on_hand}) VALUES ({marks}, 0)
ON DUPLICATE KEY UPDATE {on_hand} = {on_hand};

-- name: ledger_lock
-- index: the unique key, const. locks: X,REC_NOT_GAP on one row.
SELECT {on_hand} FROM {ledger} WHERE {key} FOR UPDATE;

-- name: ledger_add
-- index: the unique key, const. locks: X,REC_NOT_GAP on one row.
UPDATE {ledger} SET {on_hand} = {on_hand} + ? WHERE {key};

-- name: level_view
-- index: PRIMARY const of levels, the ledger's unique key, PRIMARY ref of units. locks: none: one
-- statement is one read view, so the pool and what is unmaterialised belong to one instant.
[[(SELECT ? AS i, unmaterialised, taken, taken_epoch, taken_n, owed,
  COALESCE((SELECT {on_hand} FROM {ledger} WHERE {key}), 0) AS on_hand,
  (SELECT COUNT(*) FROM crossfade_units WHERE pod = ? AND shop = ? AND item = ? AND location = ?) AS pool
  FROM crossfade_levels WHERE pod = ? AND shop = ? AND item = ? AND location = ?)| UNION ALL ]];

-- name: level_page
-- index: PRIMARY range of levels, the ledger's unique key (no pod column: a join by equality),
-- PRIMARY ref of units. locks: none. %s is the rest of the range's condition.
SELECT shop, item, location, unmaterialised, taken, taken_epoch, taken_n, owed,
  COALESCE((SELECT g.{on_hand} FROM {ledger} g WHERE {joined}), 0) AS on_hand,
  (SELECT COUNT(*) FROM crossfade_units u WHERE u.pod = l.pod AND u.shop = l.shop AND u.item = l.item AND u.location = l.location) AS pool
  FROM crossfade_levels l WHERE l.pod = ? AND %s ORDER BY l.shop, l.item, l.location LIMIT ?;
