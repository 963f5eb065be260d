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
			c.protected("tidy", c.record.tidy)
			_ = c.flush(ctx, false) // counted in Stats
		}
	}
}

// Flush saves what has collected: to the store, else to the spool. It answers nil when all of it is
// in the one or the other. It waits for a flush that is under way.
func (c *Comparator) Flush(ctx context.Context) error { return c.flush(ctx, true) }

// unsaved is what a flush has to bring to a safe place.
type unsaved struct {
	findings []Finding
	rows     []CoverageRow
	tallies  []TallyRow
}

func (u *unsaved) empty() bool { return len(u.findings)+len(u.rows)+len(u.tallies) == 0 }

// next is the next batch.
func (u *unsaved) next() Batch {
	return Batch{Findings: part(u.findings), Coverage: part(u.rows), Tallies: part(u.tallies)}
}

// took forgets a batch that is safe.
func (u *unsaved) took(b *Batch) {
	u.findings, u.rows, u.tallies = u.findings[len(b.Findings):], u.rows[len(b.Coverage):], u.tallies[len(b.Tallies):]
}

func part[T any](s []T) []T { return s[:min(len(s), saveBatch)] }

// flush with now set spools the account even if it has been spooled a moment ago.
func (c *Comparator) flush(ctx context.Context, now bool) (err error) {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	err = errPanicked
	defer c.recovered("flush")
	u := unsaved{rows: c.acct.unsaved()}
	if now || c.cfg.Now().Sub(c.tallied) >= tallyEvery {
		u.tallies = c.tally.unsaved(false)
	}
	u.findings = c.keep.take()
	defer func() { // what is still in it; also after a panic
		c.stats.dropped.Add(int64(c.keep.back(u.findings)))
	}()
	err = c.bring(ctx, &u, now)
	c.acct.bound(c.cfg.Now())
	return err
}

// bring brings to the store what is unsaved, else to the spool.
func (c *Comparator) bring(ctx context.Context, u *unsaved, now bool) error {
	down := c.replay(ctx)
	if down == nil {
		down = c.saveAll(ctx, u)
	}
	if down == nil {
		return nil
	}
	c.stats.savesFailed.Add(1)
	c.failed(down)
	return c.spool(u, now, down)
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

// saveAll saves in batches; what was not saved stays in u.
func (c *Comparator) saveAll(ctx context.Context, u *unsaved) error {
	if len(u.tallies) > 0 {
		c.tallied = c.cfg.Now()
	}
	for !u.empty() {
		b := u.next()
		if err := c.save(ctx, b); err != nil {
			return err
		}
		c.safe(u, &b)
	}
	return nil
}

// safe notes that a batch is in the store or the spool.
func (c *Comparator) safe(u *unsaved, b *Batch) {
	c.acct.savedRows(b.Coverage)
	c.tally.saved(b.Tallies)
	u.took(b)
}

// save is one bounded call of the store, which may panic.
func (c *Comparator) save(ctx context.Context, b Batch) (err error) {
	err = errPanicked
	defer c.recovered("save")
	sctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	for _, s := range []struct {
		n  int
		do func() error
	}{
		{len(b.Findings), func() error { return c.cfg.Store.SaveFindings(sctx, b.Findings) }},
		{len(b.Coverage), func() error { return c.cfg.Store.SaveCoverage(sctx, b.Coverage) }},
		{len(b.Tallies), func() error { return c.cfg.Store.SaveTallies(sctx, b.Tallies) }},
	} {
		if s.n == 0 {
			continue
		}
		if serr := s.do(); serr != nil {
			err = serr
			return err
		}
	}
	err = nil
	return err
}

// spool keeps on disk what the store did not take; findings that are in neither stay in u. Tallies are spooled
// when their slot is over, or at the end: they would fill it otherwise.
func (c *Comparator) spool(u *unsaved, force bool, down error) (err error) {
	if c.cfg.Spool == nil {
		return down
	}
	now := c.cfg.Now()
	if !force && now.Sub(c.spooled) < spoolCoverageEvery {
		u.rows = nil
	}
	if !force {
		u.tallies = c.tally.unsaved(true)
	}
	if u.empty() {
		return nil
	}
	err = errPanicked
	defer func() {
		if err != nil {
			c.stats.spoolFailed.Add(1)
			c.failed(errors.Join(down, err))
		}
	}()
	defer c.recovered("spool")
	for !u.empty() {
		b := u.next()
		if aerr := c.cfg.Spool.Append(b); aerr != nil {
			err = aerr
			return err
		}
		c.safe(u, &b)
	}
	c.spooled = now
	err = nil
	return err
}
