package comparator

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// keeper holds findings until they are saved.
type keeper struct {
	mu       sync.Mutex
	findings map[string]Finding
	away     []Finding // what was taken and is not saved yet, as far as is known
	minute   int64
	kept     [lives]int // examples of this minute
}

func newKeeper() *keeper { return &keeper{findings: map[string]Finding{}} }

// room tells whether one more example of that life may be kept in this minute.
func (k *keeper) room(l Life, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m := now.Unix() / 60; m != k.minute {
		k.minute = m
		clear(k.kept[:])
	}
	k.kept[l]++
	return k.kept[l] <= keptPerMinute
}

// put answers false when there is no room.
func (k *keeper) put(f Finding) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	old, known := k.findings[f.ID]
	if !known && len(k.findings) >= MaxUnsaved {
		return false
	}
	if known {
		f = Merge(old, f)
	}
	k.findings[f.ID] = f
	return true
}

// take empties it; back returns what could not be saved. In between, new sights collect apart.
func (k *keeper) take() []Finding {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]Finding, 0, len(k.findings))
	for _, f := range k.findings {
		out = append(out, f)
	}
	clear(k.findings)
	slices.SortFunc(out, func(a, b Finding) int { return a.FirstSeen.Compare(b.FirstSeen) })
	k.away = out
	return out
}

func (k *keeper) back(fs []Finding) (dropped int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.away = nil
	for _, f := range fs {
		newer, known := k.findings[f.ID]
		switch {
		case known:
			k.findings[f.ID] = Merge(f, newer)
		case len(k.findings) < MaxUnsaved:
			k.findings[f.ID] = f
		default:
			dropped++
		}
	}
	return dropped
}

// len counts what is not saved, also what is on its way.
func (k *keeper) len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := len(k.findings)
	for i := range k.away {
		if _, again := k.findings[k.away[i].ID]; !again {
			n++
		}
	}
	return n
}

// put keeps a finding until it is saved.
func (c *Comparator) put(f Finding) {
	if f.Life.Confirmed() {
		c.counted(f.Class)
	}
	if !c.keep.put(f) {
		c.stats.dropped.Add(1)
	}
}

func (c *Comparator) flushLoop(ctx context.Context) {
	t := time.NewTicker(c.cfg.FlushEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			_ = c.flush(ctx, false) // counted in Stats
		}
	}
}

// Flush saves what has collected: to the store, else to the spool. It answers nil when all of it is
// in the one or the other. It waits for a flush that is under way.
func (c *Comparator) Flush(ctx context.Context) error { return c.flush(ctx, true) }

// flush with now set spools the account even if it has been spooled a moment ago.
func (c *Comparator) flush(ctx context.Context, now bool) error {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	findings, rows := c.keep.take(), c.acct.unsaved()
	down := c.replay(ctx)
	if down == nil {
		findings, rows, down = c.saveAll(ctx, findings, rows)
	}
	var err error
	if down != nil {
		c.stats.savesFailed.Add(1)
		c.failed(down)
		findings, err = c.spool(findings, rows, now, down)
	}
	if n := c.keep.back(findings); n > 0 {
		c.stats.dropped.Add(int64(n))
	}
	c.acct.bound(c.cfg.Now())
	return err
}

// replay brings the spool to the store first, so that the store sees things in their order.
func (c *Comparator) replay(ctx context.Context) (err error) {
	if c.cfg.Spool == nil || c.cfg.Spool.Size() == 0 {
		return nil
	}
	err = errPanicked
	defer c.recovered("replay")
	return c.cfg.Spool.Replay(ctx, c.save)
}

// saveAll saves in batches; it answers what was not saved.
func (c *Comparator) saveAll(ctx context.Context, fs []Finding, rows []CoverageRow) ([]Finding, []CoverageRow, error) {
	for len(fs) > 0 || len(rows) > 0 {
		nf, nr := min(len(fs), saveBatch), min(len(rows), saveBatch)
		if err := c.save(ctx, Batch{Findings: fs[:nf], Coverage: rows[:nr]}); err != nil {
			return fs, rows, err
		}
		c.acct.savedRows(rows[:nr])
		fs, rows = fs[nf:], rows[nr:]
	}
	return nil, nil, nil
}

// save is one bounded call of the store, which may panic.
func (c *Comparator) save(ctx context.Context, b Batch) (err error) {
	err = errPanicked
	defer c.recovered("save")
	sctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if len(b.Findings) > 0 {
		if ferr := c.cfg.Store.SaveFindings(sctx, b.Findings); ferr != nil {
			err = ferr
			return err
		}
	}
	err = nil
	if len(b.Coverage) > 0 {
		err = errPanicked
		err = c.cfg.Store.SaveCoverage(sctx, b.Coverage)
	}
	return err
}

// spool keeps on disk what the store did not take; it answers the findings that are in neither.
func (c *Comparator) spool(fs []Finding, rows []CoverageRow, force bool, down error) (left []Finding, err error) {
	if c.cfg.Spool == nil {
		return fs, down
	}
	now := c.cfg.Now()
	if !force && now.Sub(c.spooled) < spoolCoverageEvery {
		rows = nil
	}
	if len(fs) == 0 && len(rows) == 0 {
		return nil, nil
	}
	left, err = fs, errPanicked
	defer func() {
		if err != nil {
			c.stats.spoolFailed.Add(1)
			c.failed(errors.Join(down, err))
		}
	}()
	defer c.recovered("spool")
	for start := 0; start == 0 || start < max(len(fs), len(rows)); start += saveBatch {
		b := Batch{Findings: part(fs, start), Coverage: part(rows, start)}
		if aerr := c.cfg.Spool.Append(b); aerr != nil {
			err = aerr
			return left, err
		}
		c.acct.savedRows(b.Coverage)
		left = fs[min(len(fs), start+len(b.Findings)):]
	}
	c.spooled = now
	return nil, nil
}

func part[T any](s []T, start int) []T {
	return s[min(len(s), start):min(len(s), start+saveBatch)]
}
