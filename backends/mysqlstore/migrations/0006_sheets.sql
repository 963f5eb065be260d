-- What the proxies of a pod tell each other about the operations that they had the shadow follow
-- (package comparator/mysqlfindings). One small row for each run of a proxy, written again while somebody asks
-- something, by statements of their own.

-- body is the whole sheet as a gob (encoding/gob); written is when, in microseconds since 1970 by this server's clock.
CREATE TABLE crossfade_sheets (
  pod     VARBINARY(64)   NOT NULL,
  proxy   VARBINARY(64)   NOT NULL,
  run     VARBINARY(64)   NOT NULL,
  n       BIGINT UNSIGNED NOT NULL,
  written BIGINT          NOT NULL,
  body    MEDIUMBLOB      NOT NULL,
  PRIMARY KEY (pod, proxy, run)
) ENGINE=InnoDB;
