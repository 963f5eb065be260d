-- What a finding is about: shop and item of each of its keys, to look for. NULL where a finding was
-- last seen before this column was there; its next sight fills it in.
ALTER TABLE crossfade_findings ADD COLUMN subjects MEDIUMBLOB NULL;
