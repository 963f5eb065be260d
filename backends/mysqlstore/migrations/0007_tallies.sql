-- What readiness and the report's charts are counted from (package comparator/mysqlfindings): for each slot of
-- ten minutes, run of a proxy and epoch, one row for each stratum of decisions and one for the
-- latencies of each store. A slot's row is written again while the slot lasts, and only ever replaced
-- by one with a higher rev.

-- slot is its first minute since 1970 by the proxy's clock. n is what was counted, k what of it are
-- findings. cells are the parts of both that are not zero: by cluster of items, or by step of a
-- histogram; at most some kB, usually 200 bytes.
CREATE TABLE crossfade_tallies (
  pod   VARBINARY(64)   NOT NULL,
  slot  BIGINT          NOT NULL,
  proxy VARBINARY(64)   NOT NULL,
  run   VARBINARY(64)   NOT NULL,
  epoch BIGINT UNSIGNED NOT NULL,
  name  VARBINARY(32)   NOT NULL,
  rev   BIGINT UNSIGNED NOT NULL,
  n     BIGINT          NOT NULL,
  k     BIGINT          NOT NULL,
  cells BLOB            NOT NULL,
  PRIMARY KEY (pod, slot, proxy, run, epoch, name)
) ENGINE=InnoDB;
