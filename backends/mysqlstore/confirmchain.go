package mysqlstore

import (
	"context"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// A chain is confirmed where free rows do not decide it: stock is short, or the truth allocated otherwise. The level rows
// of all its keys are locked, and of each pool so many rows as all of its links together may want, or all there
// are. From there on each link is decided and followed in memory, on just the stock that those before it left:
// what comes back is unmaterialised until the end, so that a later link may have it, and a debt is made only where a
// pool was read whole. A hold may come more than once: its row is written as it is at the end.

// confirmHolds follows entries from the front in one confirmed transaction, and tells how many. 0 says that the
// first wants one of its own.
func (s *Store) confirmHolds(ctx context.Context, j job, asOf backends.Instant, es []backends.Entry, as []backends.Applied) (n int, err error) {
	return s.runChain(ctx, j, es, func(j job, es []backends.Entry) (int, error) {
		return s.linked(ctx, j, asOf, es, as, s.newConfirmedLink, func(x *txn, links []link) error { return x.confirmLinks(ctx, links) })
	})
}

// newConfirmedLink says what a mirrored state makes of what is there; false: it cannot be part of a chain.
func (s *Store) newConfirmedLink(rec *record, h *backends.Hold) (link, bool) {
	l := link{h: h, was: rec}
	next, decides := nextOf(rec, h)
	switch {
	case next == nil:
		return l, true
	case rec == nil:
		l.next, l.decides, l.ms = next, decides, moves(nil, next)
		l.is = &record{hold: next, digest: digestOf(next)}
		return l, true
	case decides, rec.bare(), !sameLines(rec, next):
		return l, false
	}
	l.next, l.ms = next, moves(rec.hold, next)
	l.is = &record{hold: next, digest: rec.digest}
	return l, true
}

// confirmed is what a confirmed chain knows while it goes from link to link.
type confirmed struct {
	*txn
	keys  []backends.Key
	began map[backends.Key]int64 // unmaterialised, before the first link
	back  map[backends.Key]int64 // units that came back
	ch    *changes
	// debts are at keys that nothing moves, whose level rows are not locked.
	debts map[backends.Key]int64
	// counts are plain counts of the pools that were not read whole; nil until a refusal wants them.
	counts map[backends.Key]int64
}

// confirmLinks follows links in the order of locks: levels, ledger, units, holds.
func (x *txn) confirmLinks(ctx context.Context, links []link) error {
	c := &confirmed{txn: x, began: map[backends.Key]int64{}, back: map[backends.Key]int64{}, debts: map[backends.Key]int64{}, ch: newChanges()}
	c.keys = keysOfLinks(links)
	if err := x.lock(ctx, c.keys, nil); err != nil {
		return err
	}
	var all []move
	for i := range links {
		for _, k := range levelKeys(links[i].ms) {
			if x.levels[k] == nil {
				return shorterError{i} // it makes its level
			}
		}
		all = append(all, links[i].ms...)
	}
	for k, l := range x.levels {
		c.began[k] = l.unmaterialised
	}
	b := x.batch()
	x.moveOnHand(b, sumMoves(all))
	var debts []backends.Units
	x.s.askDebts(b, unmovedKeys(links, x.levels), &debts)
	if err := x.send(ctx, b); err != nil { // the ledger is locked before the units
		return err
	}
	for _, u := range debts {
		c.debts[u.Key] = u.Quantity
	}
	if err := x.reach(ctx, demandOf(links)); err != nil {
		return err
	}
	for i := range links {
		if err := c.followLink(ctx, &links[i]); err != nil {
			return err
		}
	}
	return c.finishConfirmed(ctx, links)
}

// keysOfLinks are the keys whose level rows the links need.
func keysOfLinks(links []link) (keys []backends.Key) {
	for i := range links {
		keys = append(keys, levelKeys(links[i].ms)...)
		if links[i].decides {
			keys = append(keys, backends.Keys(links[i].h.Shop, links[i].h.Lines)...)
		}
	}
	slices.SortFunc(keys, backends.Key.Compare)
	return slices.Compact(keys)
}

// demandOf is how many units the links together may want at each key, so that a pool of which so many are within reach
// needs no second look. A second one would find the rows again that are drawn already: a session does not skip
// its own locks.
func demandOf(links []link) []want {
	sums := map[backends.Key]int64{}
	for i := range links {
		own := map[backends.Key]int64{}
		if links[i].decides {
			for _, line := range links[i].h.Lines {
				for _, loc := range line.Locations {
					own[backends.Key{Shop: links[i].h.Shop, Item: line.Item, Location: loc}] += line.Quantity
				}
			}
		}
		for _, m := range links[i].ms {
			if m.sellable < 0 {
				own[m.key] = max(own[m.key], -m.sellable)
			}
		}
		for k, n := range own {
			sums[k] += n
		}
	}
	return wantsOf(sums)
}

// followLink decides, where there is something to decide, and moves the stock.
func (c *confirmed) followLink(ctx context.Context, l *link) error {
	switch {
	case l.decides:
		if err := c.decide(ctx, l); err != nil {
			return err
		}
	case l.is != nil && l.was != nil:
		l.is.own = l.was.own // which an earlier link may have decided a moment ago
	}
	for _, m := range l.ms {
		if m.sellable == 0 && m.owed == 0 {
			continue
		}
		lv := c.levels[m.key]
		lv.dirty = true
		lv.owed += m.owed
		if m.sellable < 0 {
			c.ch.gone[m.key] = append(c.ch.gone[m.key], c.draw(m.key, -m.sellable)...)
			c.after = append(c.after, func() { c.s.fill.short(c.tok, m.key) })
		} else {
			lv.unmaterialised += m.sellable
			c.back[m.key] += m.sellable
		}
	}
	if l.next == nil {
		return nil
	}
	for _, k := range unitKeys(l.h) {
		debt := c.debts[k]
		if lv := c.levels[k]; lv != nil {
			debt = -lv.unmaterialised
		}
		if debt > 0 {
			l.a.Debt = append(l.a.Debt, backends.Units{Key: k, Quantity: debt})
		}
	}
	return nil
}

// unmovedKeys are the keys of which a link tells the debt and at which none of them moves anything.
func unmovedKeys(links []link, locked map[backends.Key]*level) (keys []backends.Key) {
	for i := range links {
		if links[i].next == nil {
			continue
		}
		for _, k := range unitKeys(links[i].h) {
			if locked[k] == nil {
				keys = append(keys, k)
			}
		}
	}
	slices.SortFunc(keys, backends.Key.Compare)
	return slices.Compact(keys)
}

// decide takes this store's own decision about a link, by the rule of a confirmed reserve.
func (c *confirmed) decide(ctx context.Context, l *link) error {
	allocs, short := backends.Allocate(l.h.Shop, l.h.Lines, c.within)
	own := &backends.OwnDecision{Outcome: backends.OutcomeGranted, Allocs: allocs}
	l.is.own = own
	c.after = append(c.after, func() { c.s.count.confirmed.Add(1) })
	keys := backends.Keys(l.h.Shop, l.h.Lines)
	whole := !slices.ContainsFunc(keys, func(k backends.Key) bool { return c.levels[k] != nil && !c.pool(k).all })
	if len(short) == 0 {
		if whole {
			own.Seen = seenIn(requestOf(l.h), c.within)
		}
		return nil
	}
	if !whole {
		if err := c.count(ctx); err != nil {
			return err
		}
		_, short = backends.Allocate(l.h.Shop, l.h.Lines, c.sellable) // each short line is named
	}
	*own = backends.OwnDecision{Outcome: backends.OutcomeSoldOut, Short: short, Seen: seenIn(requestOf(l.h), c.sellable)}
	return nil
}

// count counts the pools that were not read whole, once.
func (c *confirmed) count(ctx context.Context) error {
	if c.counts != nil {
		return nil
	}
	c.counts = map[backends.Key]int64{}
	var keys []backends.Key
	for _, k := range c.keys {
		if c.levels[k] != nil && !c.pool(k).all {
			keys = append(keys, k)
		}
	}
	b := c.batch()
	c.askCount(b, keys, c.counts)
	return c.send(ctx, b)
}

// sellable is exact where the pool was read whole, else as committed, less what this chain has drawn.
func (c *confirmed) sellable(k backends.Key) int64 {
	l := c.levels[k]
	if n, counted := c.counts[k]; counted && l != nil {
		return n - int64(len(c.ch.gone[k])) + l.unmaterialised
	}
	return c.within(k)
}

// finishConfirmed writes what the links come to, and answers them.
func (c *confirmed) finishConfirmed(ctx context.Context, links []link) error {
	made, advs := answerConfirmed(links)
	if len(made)+len(advs) == 0 {
		return errNothing
	}
	if err := c.materialise(ctx); err != nil {
		return err
	}
	c.after = append(c.after, func() {
		for k := range c.ch.gone {
			c.s.hints.rewind(k)
		}
	})
	b := c.batch()
	c.writeUnits(b, c.ch)
	c.writeLevels(b)
	c.insertHolds(b, made)
	c.advanceHolds(b, advs)
	return c.finish(ctx, b)
}

// answerConfirmed answers the links, and says what there is to write: of each hold its last state.
func answerConfirmed(links []link) (made []newHold, advs []advance) {
	first, last := map[backends.HoldID]*record{}, map[backends.HoldID]*link{}
	var ids []backends.HoldID
	for i := range links {
		l := &links[i]
		if l.next == nil {
			l.a.Own = ownOf(l.was, l.h)
			continue
		}
		if l.a.Changed = true; l.h.State.Open() {
			l.a.Own = l.is.own
		}
		id := l.next.ID
		if last[id] == nil {
			first[id], ids = l.was, append(ids, id)
		}
		last[id] = l
	}
	for _, id := range ids {
		if l := last[id]; first[id] == nil {
			made = append(made, newHold{l.next, l.is.own})
		} else {
			advs = append(advs, advance{first[id], l.next})
		}
	}
	return made, advs
}

// materialise makes rows of what came back, as giveBack does: as far as the pool has room, and not where units were
// unmaterialised already, which a refill takes in batches.
func (c *confirmed) materialise(ctx context.Context) error {
	rest := map[backends.Key]int64{}
	var full []backends.Key
	for k, back := range c.back {
		l := c.levels[k]
		n := min(back, l.unmaterialised)
		if c.began[k] > 0 || n <= 0 {
			continue
		}
		if rest[k] = n; l.pooled+n > c.s.cfg.capFor(k) {
			full = append(full, k) // by an upper bound, which those who take rows do not lower
		}
	}
	if len(full) > 0 {
		slices.SortFunc(full, backends.Key.Compare)
		counts := map[backends.Key]int64{}
		b := c.batch()
		c.askCount(b, full, counts)
		if err := c.send(ctx, b); err != nil {
			return err
		}
		for k, n := range counts {
			c.levels[k].pooled = n - int64(len(c.ch.gone[k]))
		}
	}
	for k, n := range rest {
		l := c.levels[k]
		n = min(n, max(0, c.s.cfg.capFor(k)-l.pooled))
		l.unmaterialised -= n
		l.pooled += n
		c.ch.made[k] += n
	}
	return nil
}
