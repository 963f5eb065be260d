-- Whose a pod's audit is at present, how far it is, and what the last complete one found (package
-- comparator/mysqlfindings). One row for each pod, written every some seconds while an audit runs, by statements of
-- their own.

-- n counts how often it was taken: who has another number may not write. until is for how long it is the holder's. Times
-- are microseconds since 1970 by this server's clock; 0 for never. state and last are JSON; empty for none.
CREATE TABLE crossfade_audits (
  pod        VARBINARY(64)   NOT NULL,
  holder     VARBINARY(255)  NOT NULL DEFAULT '',
  n          BIGINT UNSIGNED NOT NULL DEFAULT 0,
  rev        BIGINT UNSIGNED NOT NULL DEFAULT 0,
  until      BIGINT          NOT NULL DEFAULT 0,
  begun      BIGINT          NOT NULL DEFAULT 0,
  last_begun BIGINT          NOT NULL DEFAULT 0,
  last_ended BIGINT          NOT NULL DEFAULT 0,
  fails      BIGINT          NOT NULL DEFAULT 0,
  failed     BIGINT          NOT NULL DEFAULT 0,
  failure    VARBINARY(1000) NOT NULL DEFAULT '',
  state      MEDIUMBLOB          NULL,
  last       MEDIUMBLOB          NULL,
  PRIMARY KEY (pod)
) ENGINE=InnoDB;
