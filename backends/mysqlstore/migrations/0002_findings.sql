-- Findings and coverage of the comparator (package comparator/mysqlfindings). They are written off
-- checkout's path, some rows a second at most, and never by a transaction that touches stock.

-- body is the whole finding as JSON. The columns beside it are what one searches and sums by.
-- Times are microseconds since 1970 by the clock of the proxy that saw it.
CREATE TABLE crossfade_findings (
  pod        VARBINARY(64) NOT NULL,
  id         VARBINARY(32) NOT NULL,
  class      VARBINARY(32) NOT NULL,
  life       VARBINARY(16) NOT NULL,
  units      BIGINT        NOT NULL,
  sights     BIGINT        NOT NULL,
  first_seen BIGINT        NOT NULL,
  last_seen  BIGINT        NOT NULL,
  body       MEDIUMBLOB    NOT NULL,
  PRIMARY KEY (pod, id),
  KEY seen (pod, last_seen)
) ENGINE=InnoDB;

-- One row for each minute in which a run of a proxy counted something. A minute's row is written
-- again while the minute lasts, and only ever replaced by one with a higher rev.
CREATE TABLE crossfade_coverage (
  pod          VARBINARY(64)   NOT NULL,
  minute       BIGINT          NOT NULL,
  proxy        VARBINARY(64)   NOT NULL,
  run          VARBINARY(64)   NOT NULL,
  epoch        BIGINT UNSIGNED NOT NULL,
  rev          BIGINT UNSIGNED NOT NULL,
  decisions    BIGINT          NOT NULL,
  pending      BIGINT          NOT NULL,
  matched      BIGINT          NOT NULL,
  probed       BIGINT          NOT NULL,
  settling     BIGINT          NOT NULL,
  explained    BIGINT          NOT NULL,
  confirmed    BIGINT          NOT NULL,
  sampled_out  BIGINT          NOT NULL,
  undetermined BIGINT          NOT NULL,
  lost         BIGINT          NOT NULL,
  PRIMARY KEY (pod, minute, proxy, run, epoch)
) ENGINE=InnoDB;
