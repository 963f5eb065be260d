-- What a finding is about: shop and item of each of its keys, to look for. NULL where a finding was
-- last seen before this column was there; its next sight fills it in.
ALTER TABLE crossfade_findings ADD COLUMN subjects MEDIUMBLOB NULL;

-- The excuse that covered its last sight; empty for none.
ALTER TABLE crossfade_findings ADD COLUMN excuse VARBINARY(64) NOT NULL DEFAULT '';

ALTER TABLE crossfade_coverage ADD COLUMN excused BIGINT NOT NULL DEFAULT 0;
