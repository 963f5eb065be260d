-- The apologies of both stores in one list, and who has seen to them (package comparator/mysqlfindings).
-- A claim of which both stores filed the same key is one row, with the larger quantity. What Redis
-- files is copied here by the proxies, so that it outlives Redis. id follows from pod, hold and key.
-- acked is how many units somebody has acknowledged: a row with more is open.
CREATE TABLE crossfade_apology_book (
  pod      VARBINARY(64)    NOT NULL,
  id       VARBINARY(32)    NOT NULL,
  hold     VARBINARY(64)    NOT NULL,
  shop     VARBINARY(64)    NOT NULL,
  item     VARBINARY(64)    NOT NULL,
  location VARBINARY(64)    NOT NULL,
  quantity BIGINT           NOT NULL,
  reason   VARBINARY(255)   NOT NULL,
  at       BIGINT           NOT NULL,
  redis    TINYINT UNSIGNED NOT NULL,
  mysql    TINYINT UNSIGNED NOT NULL,
  acked    BIGINT           NOT NULL DEFAULT 0,
  acked_by VARBINARY(64)    NOT NULL DEFAULT '',
  acked_at BIGINT           NOT NULL DEFAULT 0,
  why      VARBINARY(1000)  NOT NULL DEFAULT '',
  PRIMARY KEY (pod, id),
  KEY oldest (pod, at)
) ENGINE=InnoDB;
