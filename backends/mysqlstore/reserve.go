package mysqlstore

import (
	"context"
	"errors"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// maxTurns bounds how often a reserve tries the fast way again after waiting for another's refill.
const maxTurns = 3

// errTooFew ends a fast reserve that did not find enough free rows. It proves nothing.
var errTooFew = errors.New("too few free rows")

// Reserve grants the whole cart or refuses it: fast from free rows; else it looks at what is
// committed, which may be a refusal; else it goes and waits in the order of locks.
func (s *Store) Reserve(ctx context.Context, t backends.Token, r *backends.ReserveRequest) (d *backends.Decision, err error) {
	err = s.again(ctx, func() (err error) {
		d, err = s.reserve(ctx, t, r)
		return err
	})
	return d, err
}

func (s *Store) reserve(ctx context.Context, t backends.Token, r *backends.ReserveRequest) (*backends.Decision, error) {
	j := job{op: backends.OpReserve.String(), caller: r.Caller, tok: t, role: asTruth}
	g := newGrant(r)
	for turn := 1; ; turn++ {
		tried := s.fits(g.wants) && !(turn == 1 && s.hints.dry(g.wants))
		if tried {
			d, err := s.fast(ctx, j, g)
			if !errors.Is(err, errTooFew) {
				return d, err
			}
		}
		before := g.allocs
		d, err := s.refuse(ctx, j, g)
		if d != nil || err != nil {
			return d, err
		}
		if turn < maxTurns && s.fits(g.wants) && (!tried || !slices.Equal(before, g.allocs)) {
			continue // what is committed shows another way, or one that was not tried
		}
		release, wait := s.hints.claim(g.wants)
		if wait == nil || turn >= maxTurns {
			return s.confirmAlone(ctx, j, r, release)
		}
		select {
		case <-wait: // another of us refills or takes the last: then the fast way is open
		case <-ctx.Done():
			return nil, undone(ctx.Err())
		}
	}
}

// confirmAlone confirms and lets those who wait for it go on; release is nil for one who has waited
// long enough, and goes to the level rows' locks beside another.
func (s *Store) confirmAlone(ctx context.Context, j job, r *backends.ReserveRequest, release func()) (*backends.Decision, error) {
	if release != nil {
		defer release()
	}
	return s.confirm(ctx, j, r)
}

// grant is a reserve with the units that it means to take, by key: at first each line whole from
// its first location.
type grant struct {
	r      *backends.ReserveRequest
	allocs []backends.Allocation
	wants  []want
}

// newGrant copies the request: a batch may go on with it when its caller has gone away.
func newGrant(r *backends.ReserveRequest) *grant {
	c := *r
	c.Lines = slices.Clone(r.Lines)
	for i := range c.Lines {
		c.Lines[i].Locations = slices.Clone(c.Lines[i].Locations)
	}
	r = &c
	allocs := make([]backends.Allocation, len(r.Lines))
	for i, l := range r.Lines {
		allocs[i] = backends.Allocation{Line: i, Location: l.Locations[0], Quantity: l.Quantity}
	}
	g := &grant{r: r}
	g.plan(allocs)
	return g
}

func (g *grant) plan(allocs []backends.Allocation) {
	g.allocs = allocs
	g.wants = (&backends.Hold{Shop: g.r.Shop, Lines: g.r.Lines, Allocs: allocs}).Takes()
}

// fits tells whether pools can have as many rows as are wanted.
func (s *Store) fits(ws []want) bool {
	return !slices.ContainsFunc(ws, func(w want) bool { return w.Quantity > s.cfg.capFor(w.Key) })
}

// newHold is the hold that a granted request becomes. It shares nothing with the request.
func (g *grant) newHold(x *txn) *backends.Hold {
	h := backends.Hold{
		ID: g.r.ID, Shop: g.r.Shop, Caller: g.r.Caller, Lines: g.r.Lines, Allocs: g.allocs,
		State: backends.Held, Version: backends.Version{}.Next(x.tok.Epoch),
		CreatedAt: x.now, ExpiresAt: x.now.Add(g.r.TTL),
	}
	return h.Clone()
}

// errKnown ends a fast reserve whose id is in use.
var errKnown = errors.New("the hold is known")

// reserveAgain answers a reserve whose id is known.
func reserveAgain(rec *record, r *backends.ReserveRequest) (*backends.Decision, error) {
	switch {
	case rec.bare():
		return decided(backends.OpReserve, backends.OutcomeEnded, rec.hold), nil
	case rec.digest != backends.Digest(r.Shop, r.Lines):
		return nil, backends.ErrHoldConflict
	case rec.hold.State.Open():
		d := decided(backends.OpReserve, backends.OutcomeGranted, rec.hold)
		d.Replayed = true
		return d, nil
	default:
		return decided(backends.OpReserve, backends.OutcomeEnded, rec.hold), nil
	}
}

func soldOut(short []backends.Shortage, seen []backends.Units) *backends.Decision {
	return &backends.Decision{Op: backends.OpReserve, Outcome: backends.OutcomeSoldOut, Short: short, Seen: seen}
}

func seenIn(r *backends.ReserveRequest, sellable func(backends.Key) int64) []backends.Units {
	ks := backends.Keys(r.Shop, r.Lines)
	out := make([]backends.Units, len(ks))
	for i, k := range ks {
		out[i] = backends.Units{Key: k, Quantity: sellable(k)}
	}
	return out
}

// checkKnown gives an *UnknownStockError for the first line none of whose locations has a level.
func checkKnown(shop backends.Shop, lines []backends.Line, known func(backends.Key) bool) error {
	for i, l := range lines {
		if !slices.ContainsFunc(l.Locations, func(loc backends.Location) bool { return known(backends.Key{Shop: shop, Item: l.Item, Location: loc}) }) {
			return &backends.UnknownStockError{Key: backends.Key{Shop: shop, Item: l.Item, Location: l.Locations[0]}, Line: i}
		}
	}
	return nil
}

// confirm decides with the level rows of the cart locked, waiting for neighbours, and refills.
func (s *Store) confirm(ctx context.Context, j job, r *backends.ReserveRequest) (*backends.Decision, error) {
	var rec *record
	keys := backends.Keys(r.Shop, r.Lines)
	j.first = func(x *txn, b *batch) {
		x.askLevels(b, keys)
		s.askRecord(b, r.ID, &rec)
	}
	var d *backends.Decision
	err := s.write(ctx, j, func(x *txn) error {
		if rec != nil {
			return errKnown
		}
		if err := checkKnown(r.Shop, r.Lines, func(k backends.Key) bool { return x.levels[k] != nil }); err != nil {
			return err
		}
		allocs, short, err := x.allocate(ctx, r.Shop, r.Lines)
		if err != nil {
			return err
		}
		if len(short) > 0 {
			seen, err := x.seen(ctx, r)
			if err != nil {
				return err
			}
			d = soldOut(short, seen)
			b := x.batch()
			s.askRecord(b, r.ID, &rec) // a twin of this request may have taken what was waited for
			if err := x.send(ctx, b); err != nil {
				return err
			}
			return errIf(rec != nil, errKnown)
		}
		g := &grant{r: r}
		g.plan(allocs)
		d, err = x.grantConfirmed(ctx, g)
		return err
	})
	switch {
	case errors.Is(err, errKnown):
		return reserveAgain(rec, r)
	case err != nil:
		return nil, err
	}
	s.count.confirmed.Add(1)
	for _, k := range keys {
		s.hints.rewind(k)
	}
	return d, nil
}

// grantConfirmed takes the units of a plan that is within reach, refills, and writes the hold.
func (x *txn) grantConfirmed(ctx context.Context, g *grant) (*backends.Decision, error) {
	h := g.newHold(x)
	d := decided(backends.OpReserve, backends.OutcomeGranted, h)
	ch := newChanges()
	if err := x.shift(ctx, moves(nil, h), ch); err != nil {
		return nil, err
	}
	if err := x.refill(ctx, keysOf(g.wants), x.s.cfg.lowWaterFor, x.s.cfg.capFor, ch); err != nil {
		return nil, err
	}
	b := x.batch()
	x.writeUnits(b, ch)
	x.writeLevels(b)
	x.store(b, nil, h, nil)
	x.tell(d)
	return d, x.finish(ctx, b)
}

func keysOf(ws []want) []backends.Key {
	out := make([]backends.Key, len(ws))
	for i, w := range ws {
		out[i] = w.Key
	}
	return out
}

// allocate is backends.Allocate over locked levels. It reads (and locks) pools only as far as the
// decision needs them: a key that was not read yet is taken to have enough; what a plan made so
// wants of it is then brought within reach, and the plan made again, until it rests on
// nothing but what was read.
func (x *txn) allocate(ctx context.Context, shop backends.Shop, lines []backends.Line) ([]backends.Allocation, []backends.Shortage, error) {
	read := map[backends.Key]bool{}
	for {
		allocs, short := backends.Allocate(shop, lines, func(k backends.Key) int64 {
			if !read[k] && x.levels[k] != nil {
				return everything
			}
			return x.within(k)
		})
		if len(short) > 0 {
			// Its keys have all been read. The other lines are judged as they are committed, so
			// that each short one is named; a refused cart need not wait for their neighbours.
			short, err := x.shortages(ctx, shop, lines, read)
			return nil, short, err
		}
		var wants []want
		for _, w := range (&backends.Hold{Shop: shop, Lines: lines, Allocs: allocs}).Takes() {
			if !read[w.Key] && x.levels[w.Key] != nil {
				wants = append(wants, w)
				read[w.Key] = true
			}
		}
		if len(wants) == 0 {
			return allocs, nil, nil
		}
		if err := x.reach(ctx, wants); err != nil {
			return nil, nil, err
		}
	}
}

// shortages names each short line of a cart of which one is short by what was read.
func (x *txn) shortages(ctx context.Context, shop backends.Shop, lines []backends.Line, read map[backends.Key]bool) ([]backends.Shortage, error) {
	var rest []backends.Key
	for _, k := range backends.Keys(shop, lines) {
		if !read[k] && x.levels[k] != nil {
			rest = append(rest, k)
		}
	}
	counts := map[backends.Key]int64{}
	b := x.batch()
	x.askCount(b, rest, counts)
	if err := x.send(ctx, b); err != nil {
		return nil, err
	}
	_, short := backends.Allocate(shop, lines, func(k backends.Key) int64 {
		if n, counted := counts[k]; counted {
			return n + x.levels[k].unmaterialised
		}
		return x.within(k)
	})
	return short, nil
}

// seen is Sellable at the keys of a cart: exact where the pool was read whole, else as committed.
func (x *txn) seen(ctx context.Context, r *backends.ReserveRequest) ([]backends.Units, error) {
	var rest []backends.Key
	for _, k := range backends.Keys(r.Shop, r.Lines) {
		if x.levels[k] != nil && !x.pool(k).all {
			rest = append(rest, k)
		}
	}
	counts := map[backends.Key]int64{}
	b := x.batch()
	x.askCount(b, rest, counts)
	if err := x.send(ctx, b); err != nil {
		return nil, err
	}
	return seenIn(r, func(k backends.Key) int64 {
		if n, counted := counts[k]; counted {
			return n + x.levels[k].unmaterialised
		}
		return x.within(k)
	}), nil
}

// decided is a decision about a hold.
func decided(op backends.Op, outcome backends.Outcome, h *backends.Hold) *backends.Decision {
	return &backends.Decision{Op: op, Outcome: outcome, Hold: h}
}
