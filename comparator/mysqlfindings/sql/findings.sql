-- name: finding_insert
-- index: PRIMARY. locks: X,REC_NOT_GAP on each row that is there already, an implicit one on a new
-- row. It changes no row that is there: the assignment is for the lock.
INSERT INTO crossfade_findings (pod, id, class, life, units, sights, first_seen, last_seen, subjects, excuse, body)
  VALUES [[(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)|, ]]
  ON DUPLICATE KEY UPDATE id = crossfade_findings.id;

-- name: finding_lock
-- index: PRIMARY, range of single points in key order. locks: X,REC_NOT_GAP on each row found.
SELECT id, body FROM crossfade_findings WHERE pod = ? AND id IN ([[?|, ]]) ORDER BY id FOR UPDATE;

-- name: finding_update
-- index: PRIMARY const. locks: none new, the row is locked.
UPDATE crossfade_findings SET class = ?, life = ?, units = ?, sights = ?, first_seen = ?, last_seen = ?, subjects = ?, excuse = ?, body = ?
  WHERE pod = ? AND id = ?;

-- name: finding_read
-- index: PRIMARY const. locks: none.
SELECT body FROM crossfade_findings WHERE pod = ? AND id = ?;

-- name: finding_list
-- index: seen, range, read backwards, so that the limit ends it. locks: none. Its end is put
-- together from the conditions below that are asked for, then finding_list_end.
SELECT body FROM crossfade_findings WHERE pod = ? AND last_seen >= ?

-- name: finding_list_classes
-- a condition of finding_list
 AND class IN ([[?|, ]])

-- name: finding_list_lives
-- a condition of finding_list
 AND life IN ([[?|, ]])

-- name: finding_list_subject
-- a condition of finding_list; it reads the rows of the range
 AND INSTR(subjects, ?) > 0

-- name: finding_list_after
-- a condition of finding_list: what comes behind a cursor
 AND last_seen <= ? AND (last_seen < ? OR id < ?)

-- name: finding_list_end
-- the end of finding_list, in the order of the index, so that nothing is sorted
 ORDER BY last_seen DESC, id DESC LIMIT ?

-- name: finding_summary
-- index: seen, range. locks: none. It reads every finding since then.
SELECT class, life, COUNT(*), CAST(SUM(units) AS SIGNED), CAST(SUM(sights) AS SIGNED), MAX(last_seen)
  FROM crossfade_findings WHERE pod = ? AND last_seen >= ? GROUP BY class, life;

-- name: finding_excuses
-- index: seen, range. locks: none. It reads every finding since then.
SELECT excuse, COUNT(*), CAST(SUM(units) AS SIGNED), MAX(last_seen)
  FROM crossfade_findings WHERE pod = ? AND last_seen >= ? AND excuse <> '' GROUP BY excuse ORDER BY excuse;

-- name: finding_prune
-- index: seen, range. locks: X on the index entries and rows that it reads, at most its limit, all
-- of them old.
DELETE FROM crossfade_findings WHERE pod = ? AND last_seen < ? AND life <> 'open' ORDER BY last_seen LIMIT ?;

-- name: coverage_save
-- index: PRIMARY. locks: X,REC_NOT_GAP on each row, which only this run of this proxy writes.
-- rev comes last: the assignments are made from left to right.
INSERT INTO crossfade_coverage (pod, minute, proxy, run, epoch, rev, decisions, pending, matched, probed, settling, explained, confirmed, excused, sampled_out, undetermined, lost)
  VALUES [[(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)|, ]]
  ON DUPLICATE KEY UPDATE
    decisions    = IF(VALUES(rev) > rev, VALUES(decisions), decisions),
    pending      = IF(VALUES(rev) > rev, VALUES(pending), pending),
    matched      = IF(VALUES(rev) > rev, VALUES(matched), matched),
    probed       = IF(VALUES(rev) > rev, VALUES(probed), probed),
    settling     = IF(VALUES(rev) > rev, VALUES(settling), settling),
    explained    = IF(VALUES(rev) > rev, VALUES(explained), explained),
    confirmed    = IF(VALUES(rev) > rev, VALUES(confirmed), confirmed),
    excused      = IF(VALUES(rev) > rev, VALUES(excused), excused),
    sampled_out  = IF(VALUES(rev) > rev, VALUES(sampled_out), sampled_out),
    undetermined = IF(VALUES(rev) > rev, VALUES(undetermined), undetermined),
    lost         = IF(VALUES(rev) > rev, VALUES(lost), lost),
    rev          = GREATEST(VALUES(rev), rev);

-- name: coverage_sum
-- index: PRIMARY, range. locks: none.
SELECT proxy, run, epoch, MAX(minute), MAX(rev), CAST(SUM(decisions) AS SIGNED), CAST(SUM(pending) AS SIGNED),
    CAST(SUM(matched) AS SIGNED), CAST(SUM(probed) AS SIGNED), CAST(SUM(settling) AS SIGNED), CAST(SUM(explained) AS SIGNED),
    CAST(SUM(confirmed) AS SIGNED), CAST(SUM(excused) AS SIGNED), CAST(SUM(sampled_out) AS SIGNED), CAST(SUM(undetermined) AS SIGNED), CAST(SUM(lost) AS SIGNED)
  FROM crossfade_coverage WHERE pod = ? AND minute >= ? GROUP BY proxy, run, epoch;

-- name: coverage_prune
-- index: PRIMARY, range. locks: X on the rows that it removes, all of them old.
DELETE FROM crossfade_coverage WHERE pod = ? AND minute < ? ORDER BY minute LIMIT ?;

-- name: sheet_put
-- index: PRIMARY. locks: X,REC_NOT_GAP on the row, which only this run of this proxy writes.
INSERT INTO crossfade_sheets (pod, proxy, run, n, written, body)
  VALUES (?, ?, ?, ?, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED), ?)
  ON DUPLICATE KEY UPDATE n = VALUES(n), written = VALUES(written), body = VALUES(body);

-- name: sheet_heads
-- index: PRIMARY, range. locks: none. It reads no bodies.
SELECT proxy, run, n, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) - written FROM crossfade_sheets
  WHERE pod = ? AND written >= CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) - ?;

-- name: sheet_read
-- index: PRIMARY const. locks: none.
SELECT n, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) - written, body FROM crossfade_sheets WHERE pod = ? AND proxy = ? AND run = ?;

-- name: sheet_old
-- index: PRIMARY, range. locks: none. It reads no bodies, of one row for each run of a proxy within the last hour or so:
-- older ones have been removed.
SELECT proxy, run FROM crossfade_sheets WHERE pod = ? AND written < CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) - ? LIMIT ?;

-- name: sheet_prune
-- index: PRIMARY const. locks: X,REC_NOT_GAP on the row, which nobody writes any more.
DELETE FROM crossfade_sheets WHERE pod = ? AND proxy = ? AND run = ? AND written < CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) - ?;
