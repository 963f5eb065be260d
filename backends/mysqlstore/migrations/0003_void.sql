-- An operation id that is void: a kill took its operation back, and it will never be done.
ALTER TABLE crossfade_ops ADD COLUMN void TINYINT UNSIGNED NOT NULL DEFAULT 0;
