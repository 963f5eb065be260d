package mysqlstore

import (
	"context"
	"errors"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// A chain is entries about holds that one transaction follows, in their order. What can be a link of
// it: a new hold whose allocation is the one that this store makes itself, from free rows, which
// finding is the decision; a hold that ends or moves its expiry; one that ended before it was
// heard of; and what changes nothing. The first entry that is none of these ends the chain, so that
// the order is kept: an own decision is taken on just the stock that those before it left.

// shorterError: the chain has to be cut before a link, and begun again.
type shorterError struct{ links int }

func (e shorterError) Error() string { return "the chain is shorter" }

// link is one entry of a chain.
type link struct {
	h    *backends.Hold
	a    *backends.Applied
	was  *record
	next *backends.Hold // nil: nothing changes
	take []want         // units that it takes from free rows
	ms   []move         // what else it moves
	// In a confirmed chain: decides says that this store decides it for itself, is what there will be behind it.
	decides bool
	is      *record
}

// holdRun tells how many entries at the front are about holds, as far as a chain goes; and how many of them about
// different ones.
func (s *Store) holdRun(es []backends.Entry) (all, different int) {
	ids := map[backends.HoldID]bool{}
	weight := 0
	for i := range es {
		h := es[i].Hold
		if i == s.cfg.Combine || h == nil || es[i].Level != nil || nameless(h) {
			break
		}
		if weight += len(h.Lines); weight > maxWeight {
			break
		}
		if all++; different == i && !ids[h.ID] {
			different++
		}
		ids[h.ID] = true
	}
	return all, different
}

// applyHolds follows entries about holds from the front in one transaction, and tells how many; the first so many of
// them are about different holds. 0 says that the first wants a transaction of its own.
func (s *Store) applyHolds(ctx context.Context, j job, asOf backends.Instant, es []backends.Entry, different int, as []backends.Applied) (n int, err error) {
	h := es[0].Hold
	if different*leastPart >= len(es) && (!h.State.Open() || s.ownWay(h)) {
		n, err = s.runChain(ctx, j, es[:different], func(j job, es []backends.Entry) (int, error) {
			return s.linked(ctx, j, asOf, es, as, s.newLink,
				func(x *txn, links []link) error { return x.follow(ctx, links) })
		})
		if n > 0 || err != nil {
			return n, err
		}
	}
	return s.confirmHolds(ctx, j, asOf, es, as)
}

// runChain makes attempts at a chain until it needs no cut. One that would be cut to less than a part of itself is
// left alone: n is 0.
func (s *Store) runChain(ctx context.Context, j job, es []backends.Entry, attempt func(j job, es []backends.Entry) (int, error)) (n int, err error) {
	j.callers = make([]string, len(es))
	for i := range es {
		j.callers[i] = es[i].Hold.Caller
	}
	most := len(es)
	err = s.again(ctx, func() error {
		for {
			var err error
			n, err = attempt(j, es[:most])
			var cut shorterError
			if !errors.As(err, &cut) {
				return err
			}
			if most = cut.links; most*leastPart < len(es) {
				n = 0
				return nil
			}
		}
	})
	return n, err
}

// leastPart is the part of a chain that is worth a transaction of its own: one that is cut shorter is confirmed.
const leastPart = 4

// linked is one attempt at a chain: links are made of entries from the front, as far as they go, and followed.
func (s *Store) linked(ctx context.Context, j job, asOf backends.Instant, es []backends.Entry, as []backends.Applied,
	newLink func(*record, *backends.Hold) (link, bool), follow func(*txn, []link) error,
) (n int, err error) {
	ids := make([]backends.HoldID, len(es))
	for i := range es {
		ids[i] = es[i].Hold.ID
		as[i] = backends.Applied{Seq: es[i].Seq}
	}
	recs := map[backends.HoldID]*record{}
	j.first = func(_ *txn, b *batch) { s.askRecords(b, ids, recs) }
	err = s.write(ctx, j, func(x *txn) error {
		if err := s.ageOf(asOf, x.now); err != nil {
			return err
		}
		var links []link
		for i := range es {
			l, ok := newLink(recs[ids[i]], es[i].Hold)
			if !ok {
				break
			}
			if l.a = &as[i]; l.is != nil {
				recs[ids[i]] = l.is // the chain goes on from there
			}
			links = append(links, l)
		}
		if n = len(links); n*leastPart < len(es) {
			return shorterError{n}
		}
		return follow(x, links)
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	return n, err
}

// newLink says what a mirrored state makes of what is there; false: it cannot be part of a chain.
func (s *Store) newLink(rec *record, h *backends.Hold) (link, bool) {
	l := link{h: h, was: rec}
	next, decides := nextOf(rec, h)
	switch {
	case next == nil:
		return l, true
	case decides:
		if rec != nil || !s.ownWay(h) {
			return l, false
		}
		l.next, l.take = next, h.Takes()
		return l, true
	case rec == nil:
		l.next, l.ms = next, moves(nil, next)
		return l, len(l.ms) == 0 // a claim of a hold that was not known takes units in debt
	case rec.bare(), !sameLines(rec, next):
		return l, false
	}
	l.next, l.ms = next, moves(rec.hold, next)
	return l, !slices.ContainsFunc(l.ms, func(m move) bool { return m.sellable < 0 })
}

// sameLines tells whether a state differs from what is there in nothing that an advance leaves as it is.
func sameLines(rec *record, h *backends.Hold) bool {
	return slices.Equal(rec.hold.Allocs, h.Allocs) && rec.digest == digestOf(h) && rec.hold.Caller == h.Caller && rec.hold.CreatedAt == h.CreatedAt
}

// follow follows links in the order of locks: levels, ledger, units, holds.
func (x *txn) follow(ctx context.Context, links []link) error {
	var ms []move
	takes := map[backends.Key]int64{}
	for _, l := range links {
		ms = append(ms, l.ms...)
		for _, w := range l.take {
			takes[w.Key] += w.Quantity
		}
	}
	ms = sumMoves(ms)
	rows := map[backends.Key][]uint64{}
	wants := wantsOf(takes)
	b := x.batch()
	x.askLevels(b, levelKeys(ms))
	x.moveOnHand(b, ms)
	var debts []backends.Units
	x.s.askDebts(b, debtKeys(links), &debts)
	x.askFree(b, wants, rows)
	if err := x.send(ctx, b); err != nil {
		return err
	}
	for _, k := range levelKeys(ms) {
		if l := x.levels[k]; l == nil || !l.adopted {
			return shorterError{0} // the first makes its level; the ledger's lock comes before the units'
		}
	}
	if err := x.behind(ctx, wants, rows); err != nil {
		return err
	}
	gone := map[backends.Key][]uint64{}
	for i := range links {
		l := &links[i]
		if len(l.take) > 0 && !deal(l.take, rows, gone) {
			return shorterError{i}
		}
	}
	owing(links, debts)
	return x.finishChain(ctx, links, ms, gone, rows)
}

// debtKeys are the keys of which a link tells the debt. Who takes a free row has found none.
func debtKeys(links []link) (keys []backends.Key) {
	for _, l := range links {
		if l.next != nil && len(l.take) == 0 {
			keys = append(keys, unitKeys(l.h)...)
		}
	}
	slices.SortFunc(keys, backends.Key.Compare)
	return slices.Compact(keys)
}

// owing answers each link with the debts as they are behind it, not as they are at the end of the
// chain: what comes back pays them one after the other.
func owing(links []link, debts []backends.Units) {
	left := map[backends.Key]int64{}
	for _, u := range debts {
		left[u.Key] = u.Quantity
	}
	for _, l := range links {
		for _, m := range l.ms {
			left[m.key] = max(0, left[m.key]-m.sellable)
		}
		if l.next == nil || len(l.take) > 0 {
			continue
		}
		for _, k := range unitKeys(l.h) {
			if left[k] > 0 {
				l.a.Debt = append(l.a.Debt, backends.Units{Key: k, Quantity: left[k]})
			}
		}
	}
}

// finishChain writes what the links come to, and answers them.
func (x *txn) finishChain(ctx context.Context, links []link, ms []move, gone, left map[backends.Key][]uint64) error {
	var made []newHold
	var advs []advance
	for _, l := range links {
		switch {
		case l.next == nil:
			l.a.Own = ownOf(l.was, l.h)
			continue
		case len(l.take) > 0:
			l.a.Own = &backends.OwnDecision{Outcome: backends.OutcomeGranted, Allocs: slices.Clone(l.h.Allocs)}
			made = append(made, newHold{l.next, l.a.Own})
		case l.was == nil:
			made = append(made, newHold{is: l.next})
		default:
			if l.h.State.Open() {
				l.a.Own = l.was.own
			}
			advs = append(advs, advance{l.was, l.next})
		}
		l.a.Changed = true
	}
	if len(made)+len(advs) == 0 {
		return errNothing
	}
	ch := newChanges()
	if err := x.shift(ctx, ms, ch); err != nil {
		return err
	}
	for k, ids := range gone {
		ch.gone[k] = append(ch.gone[k], ids...)
	}
	b := x.batch()
	x.writeUnits(b, ch)
	x.writeLevels(b)
	x.insertHolds(b, made)
	x.advanceHolds(b, advs)
	x.noteTaken(len(made), gone, left)
	return x.finish(ctx, b)
}
