-- The tables of the store. Every key begins with the pod: pods may share a database.
-- Identifiers are VARBINARY: compared byte for byte, without padding or folding.
-- A ledger of Crossfade's own is made apart (sql/ledger.sql), since another application may own it.

-- One row a pod. Every write transaction locks it in share mode, so nothing else is kept here.
CREATE TABLE crossfade_fence (
  pod     VARBINARY(64)    NOT NULL,
  epoch   BIGINT UNSIGNED  NOT NULL DEFAULT 0,
  stage   TINYINT UNSIGNED NOT NULL DEFAULT 0,
  is_open TINYINT UNSIGNED NOT NULL DEFAULT 0,
  filled  TINYINT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (pod)
) ENGINE=InnoDB;

-- The companion of the ledger: what Crossfade knows of a level besides the units on hand. pooled
-- is an upper bound of the rows in the pool (fast reserves delete rows without coming here);
-- adopted says that what was on hand before this row was made has been counted in.
CREATE TABLE crossfade_levels (
  pod            VARBINARY(64)    NOT NULL,
  shop           VARBINARY(64)    NOT NULL,
  item           VARBINARY(64)    NOT NULL,
  location       VARBINARY(64)    NOT NULL,
  unmaterialised BIGINT           NOT NULL DEFAULT 0,
  pooled         BIGINT           NOT NULL DEFAULT 0,
  adopted        TINYINT UNSIGNED NOT NULL DEFAULT 0,
  taken          BIGINT           NOT NULL DEFAULT 0,
  taken_epoch    BIGINT UNSIGNED  NOT NULL DEFAULT 0,
  taken_n        BIGINT UNSIGNED  NOT NULL DEFAULT 0,
  owed           BIGINT           NOT NULL DEFAULT 0,
  PRIMARY KEY (pod, shop, item, location)
) ENGINE=InnoDB;

-- The unit pool. No other index, ever: one record lock a unit is a promise.
CREATE TABLE crossfade_units (
  pod      VARBINARY(64)   NOT NULL,
  shop     VARBINARY(64)   NOT NULL,
  item     VARBINARY(64)   NOT NULL,
  location VARBINARY(64)   NOT NULL,
  id       BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (pod, shop, item, location, id)
) ENGINE=InnoDB;

-- Ballast: 2,048 rows of no pod. On a table of some dozen rows the optimizers prefer reading all of it
-- to looking up what a list names, and a DELETE that reads all of it waits for the units that
-- neighbours have locked. With these rows a list of 64 is always cheaper than a scan.
INSERT IGNORE INTO crossfade_units VALUES ('', '', '', '', 0), ('', '', '', '', 1), ('', '', '', '', 2), ('', '', '', '', 3);
INSERT IGNORE INTO crossfade_units SELECT '', '', '', '', id + 4 FROM crossfade_units WHERE pod = '';
INSERT IGNORE INTO crossfade_units SELECT '', '', '', '', id + 8 FROM crossfade_units WHERE pod = '';
INSERT IGNORE INTO crossfade_units SELECT '', '', '', '', id + 16 FROM crossfade_units WHERE pod = '';
INSERT IGNORE INTO crossfade_units SELECT '', '', '', '', id + 32 FROM crossfade_units WHERE pod = '';
INSERT IGNORE INTO crossfade_units SELECT '', '', '', '', id + 64 FROM crossfade_units WHERE pod = '';
INSERT IGNORE INTO crossfade_units SELECT '', '', '', '', id + 128 FROM crossfade_units WHERE pod = '';
INSERT IGNORE INTO crossfade_units SELECT '', '', '', '', id + 256 FROM crossfade_units WHERE pod = '';
INSERT IGNORE INTO crossfade_units SELECT '', '', '', '', id + 512 FROM crossfade_units WHERE pod = '';
INSERT IGNORE INTO crossfade_units SELECT '', '', '', '', id + 1024 FROM crossfade_units WHERE pod = '';
ANALYZE TABLE crossfade_units;

-- due is when the sweeper has to look: the expiry of an open hold (the truth's clock), the moment
-- of the last change of an ended one (this server's clock). stamp tells one write from another.
CREATE TABLE crossfade_holds (
  pod         VARBINARY(64)    NOT NULL,
  id          VARBINARY(64)    NOT NULL,
  shop        VARBINARY(64)    NOT NULL,
  state       TINYINT UNSIGNED NOT NULL,
  epoch       BIGINT UNSIGNED  NOT NULL,
  n           BIGINT UNSIGNED  NOT NULL,
  stamp       BIGINT UNSIGNED  NOT NULL,
  digest      VARBINARY(64)    NOT NULL,
  body        MEDIUMBLOB       NOT NULL,
  allocs      MEDIUMBLOB       NOT NULL,
  caller      VARBINARY(64)    NOT NULL,
  created     BIGINT           NOT NULL,
  expires     BIGINT           NOT NULL,
  ended       BIGINT           NOT NULL,
  ledger_owed TINYINT UNSIGNED NOT NULL,
  own         MEDIUMBLOB           NULL,
  due         BIGINT           NOT NULL,
  PRIMARY KEY (pod, id),
  KEY due (pod, state, due)
) ENGINE=InnoDB;

-- seq is time-ordered, made by the proxies.
CREATE TABLE crossfade_outbox (
  pod     VARBINARY(64)   NOT NULL,
  seq     BIGINT UNSIGNED NOT NULL,
  created BIGINT          NOT NULL,
  body    MEDIUMBLOB      NOT NULL,
  PRIMARY KEY (pod, seq)
) ENGINE=InnoDB;

-- What a full outbox dropped. Spread over slots, so that writers that drop do not wait for one
-- another.
CREATE TABLE crossfade_outbox_lost (
  pod     VARBINARY(64)     NOT NULL,
  slot    SMALLINT UNSIGNED NOT NULL,
  lost    TINYINT UNSIGNED  NOT NULL,
  dropped BIGINT            NOT NULL,
  PRIMARY KEY (pod, slot)
) ENGINE=InnoDB;

-- Operation ids of restocks and takes, with the answer and the delta of the units on hand that each
-- has here.
CREATE TABLE crossfade_ops (
  pod     VARBINARY(64)   NOT NULL,
  op_id   VARBINARY(64)   NOT NULL,
  stamp   BIGINT UNSIGNED NOT NULL,
  value   BIGINT          NOT NULL,
  delta   BIGINT          NOT NULL,
  created BIGINT          NOT NULL,
  PRIMARY KEY (pod, op_id),
  KEY created (pod, created)
) ENGINE=InnoDB;

CREATE TABLE crossfade_apologies (
  pod      VARBINARY(64)   NOT NULL,
  seq      BIGINT UNSIGNED NOT NULL,
  hold     VARBINARY(64)   NOT NULL,
  shop     VARBINARY(64)   NOT NULL,
  item     VARBINARY(64)   NOT NULL,
  location VARBINARY(64)   NOT NULL,
  quantity BIGINT          NOT NULL,
  reason   VARBINARY(255)  NOT NULL,
  at       BIGINT          NOT NULL,
  PRIMARY KEY (pod, seq)
) ENGINE=InnoDB;
