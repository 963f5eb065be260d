-- name: tally_save
-- index: PRIMARY. locks: X,REC_NOT_GAP on each row, which only this run of this proxy writes.
-- rev comes last: the assignments are made from left to right.
-- cells come as hexadecimal digits: while a statement with bytes that are no text runs, MySQL 9.7 refuses every
-- reading of innodb_trx, which shows statements as text (error 3854).
INSERT INTO crossfade_tallies (pod, slot, proxy, run, epoch, name, rev, n, k, cells)
  VALUES [[(?, ?, ?, ?, ?, ?, ?, ?, ?, UNHEX(?))|, ]]
  ON DUPLICATE KEY UPDATE
    n     = IF(VALUES(rev) > rev, VALUES(n), n),
    k     = IF(VALUES(rev) > rev, VALUES(k), k),
    cells = IF(VALUES(rev) > rev, VALUES(cells), cells),
    rev   = GREATEST(VALUES(rev), rev);

-- name: tally_read
-- index: PRIMARY, range, read backwards, so that the limit ends it. locks: none.
SELECT proxy, run, epoch, slot, name, rev, n, k, cells
  FROM crossfade_tallies WHERE pod = ? AND slot >= ? ORDER BY slot DESC LIMIT ?;

-- name: tally_prune
-- index: PRIMARY, range. locks: X on the rows that it removes, all of them old.
DELETE FROM crossfade_tallies WHERE pod = ? AND slot < ? ORDER BY slot LIMIT ?;

-- name: trend_first
-- index: PRIMARY, its first entry of the range. locks: none.
SELECT minute FROM crossfade_coverage WHERE pod = ? AND minute >= ? ORDER BY minute LIMIT 1;

-- name: trend_coverage
-- index: PRIMARY, range. locks: none. The inner part sums up the proxies by minute, since a peak is of
-- all of them.
SELECT FLOOR(minute / ?) AS step, CAST(SUM(decisions) AS SIGNED), CAST(SUM(pending) AS SIGNED), CAST(SUM(matched) AS SIGNED),
    CAST(SUM(probed) AS SIGNED), CAST(SUM(settling) AS SIGNED), CAST(SUM(explained) AS SIGNED), CAST(SUM(confirmed) AS SIGNED),
    CAST(SUM(excused) AS SIGNED), CAST(SUM(sampled_out) AS SIGNED), CAST(SUM(undetermined) AS SIGNED), CAST(SUM(lost) AS SIGNED),
    CAST(MAX(decisions) AS SIGNED), CAST(MAX(IF(sampled_out = 0, matched + probed + LEAST(settling, 0) + explained + confirmed + excused, 0)) AS SIGNED)
  FROM (SELECT minute, SUM(decisions) AS decisions, SUM(pending) AS pending, SUM(matched) AS matched, SUM(probed) AS probed,
      SUM(settling) AS settling, SUM(explained) AS explained, SUM(confirmed) AS confirmed, SUM(excused) AS excused,
      SUM(sampled_out) AS sampled_out, SUM(undetermined) AS undetermined, SUM(lost) AS lost
    FROM crossfade_coverage WHERE pod = ? AND minute >= ? GROUP BY minute) m
  GROUP BY step ORDER BY step;

-- name: trend_findings
-- index: seen, range. locks: none. It reads every finding since then.
SELECT FLOOR(last_seen / ?) AS step, class, COUNT(*), CAST(SUM(units) AS SIGNED)
  FROM crossfade_findings WHERE pod = ? AND last_seen >= ? AND life IN ('open', 'repaired', 'acknowledged')
  GROUP BY step, class ORDER BY step;
