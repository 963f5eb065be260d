package mysqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

var (
	textHoldsDue           = named("holds_due").one()
	statementApologyInsert = named("apology_insert")
)

// transition writes a new state over an open hold.
type transition struct {
	op      backends.Op
	outcome backends.Outcome
	// next changes a copy of the hold; false: there is nothing to do any more.
	next func(x *txn, h *backends.Hold) bool
}

// change makes a transition of a hold that was read before, as one write. It answers nil where
// there was nothing to do.
func (s *Store) change(ctx context.Context, j job, rec *record, tr transition) (d *backends.Decision, err error) {
	err = s.write(ctx, j, func(x *txn) error {
		h := rec.hold.Clone()
		if !tr.next(x, h) {
			d = nil
			return errNothing
		}
		h.Version = h.Version.Next(j.tok.Epoch)
		ms := moves(rec.hold, h)
		if h.State == backends.Claimed && x.fence.Stage == backends.MySQLOnly {
			h.LedgerOwed = true
			ms = owe(ms, h)
		}
		if len(x.levels) == 0 {
			if err := x.lock(ctx, levelKeys(ms), nil); err != nil {
				return err
			}
		}
		d = decided(tr.op, tr.outcome, h)
		return x.put(ctx, putting{was: rec, is: h, own: rec.own, ms: ms, more: func(b *batch) { x.tell(b, d) }})
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	return d, err
}

// errNothing ends a write that has nothing to do.
var errNothing = errors.New("nothing to do")

// owe adds to moves what a claim in mysql-only owes to the other store.
func owe(ms []move, h *backends.Hold) []move {
	for _, u := range h.Takes() {
		ms = append(ms, move{key: u.Key, owed: -u.Quantity})
	}
	return sumMoves(ms)
}

// Release gives the units back.
func (s *Store) Release(ctx context.Context, t backends.Token, r *backends.ReleaseRequest) (d *backends.Decision, err error) {
	j := job{op: backends.OpRelease.String(), caller: r.Caller, tok: t, role: asTruth}
	err = s.again(ctx, func() error {
		rec, _, err := s.look(ctx, j, r.ID)
		switch {
		case err != nil:
			return err
		case rec == nil:
			d = decided(backends.OpRelease, backends.OutcomeNotFound, nil)
			return nil
		case rec.hold.State == backends.Released:
			d = decided(backends.OpRelease, backends.OutcomeReleased, rec.hold)
			d.Replayed = true
			return nil
		case !rec.hold.State.Open():
			d = decided(backends.OpRelease, backends.OutcomeEnded, rec.hold)
			return nil
		}
		d, err = s.change(ctx, withLevels(j, rec), rec, ending(backends.OpRelease, backends.OutcomeReleased, backends.Released))
		return err
	})
	return d, err
}

// withLevels lets the locks of a hold's levels travel with the fence.
func withLevels(j job, rec *record) job {
	keys := unitKeys(rec.hold)
	j.first = func(x *txn, b *batch) { x.askLevels(b, keys) }
	return j
}

func unitKeys(h *backends.Hold) []backends.Key { return keysOf(h.Takes()) }

func ending(op backends.Op, outcome backends.Outcome, state backends.State) transition {
	return transition{op: op, outcome: outcome, next: func(x *txn, h *backends.Hold) bool {
		h.State, h.EndedAt = state, x.now
		return true
	}}
}

// Extend moves the expiry of an open hold.
func (s *Store) Extend(ctx context.Context, t backends.Token, r *backends.ExtendRequest) (d *backends.Decision, err error) {
	j := job{op: backends.OpExtend.String(), caller: r.Caller, tok: t, role: asTruth}
	err = s.again(ctx, func() error {
		rec, _, err := s.look(ctx, j, r.ID)
		switch {
		case err != nil:
			return err
		case rec == nil:
			d = decided(backends.OpExtend, backends.OutcomeNotFound, nil)
			return nil
		case !rec.hold.State.Open():
			d = decided(backends.OpExtend, backends.OutcomeEnded, rec.hold)
			return nil
		}
		d, err = s.change(ctx, j, rec, transition{op: backends.OpExtend, outcome: backends.OutcomeExtended, next: func(x *txn, h *backends.Hold) bool {
			h.ExpiresAt = x.now.Add(r.TTL)
			return true
		}})
		return err
	})
	return d, err
}

// Expire ends holds whose time has passed, one transaction each. Where it fails half-way, what was
// expired before is answered and the rest stays due.
func (s *Store) Expire(ctx context.Context, t backends.Token, limit int) (out []*backends.Decision, err error) {
	j := job{op: backends.OpExpire.String(), tok: t, role: asTruth}
	var ids []backends.HoldID
	var fence backends.Fence
	var now backends.Instant
	err = s.read(ctx, j.op, "", func(b *batch) {
		s.askFence(b, &fence, &now)
	})
	switch {
	case err != nil:
		return nil, err
	case !j.role.admitted(fence, t):
		return nil, s.fenced(fence, t)
	case limit <= 0:
		return nil, nil
	}
	err = s.read(ctx, j.op, "", func(b *batch) {
		ids = nil
		b.ask(func(r *sql.Rows) error {
			var id backends.HoldID
			err := r.Scan(&id)
			ids = append(ids, id)
			return err
		}, textHoldsDue, s.cfg.Pod, backends.Held, now, page(limit))
	})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		d, err := s.expire(ctx, j, id)
		switch {
		case errors.Is(err, backends.ErrBusy) && len(ids) > 1:
			continue // its neighbours need not wait for it; it stays due
		case err != nil:
			return out, err
		case d != nil:
			out = append(out, d)
		}
	}
	return out, nil
}

func (s *Store) expire(ctx context.Context, j job, id backends.HoldID) (d *backends.Decision, err error) {
	err = s.again(ctx, func() error {
		rec, now, err := s.look(ctx, j, id)
		if d = nil; err != nil || rec == nil || !rec.hold.State.Open() || rec.hold.ExpiresAt > now {
			return err // claimed, released or extended meanwhile
		}
		d, err = s.change(ctx, withLevels(j, rec), rec, ending(backends.OpExpire, backends.OutcomeExpired, backends.Expired))
		return err
	})
	return d, err
}

// Claim makes the hold claimed, whatever it was, unless nothing is known of it.
func (s *Store) Claim(ctx context.Context, t backends.Token, r *backends.ClaimRequest) (d *backends.Decision, err error) {
	j := job{op: backends.OpClaim.String(), caller: r.Caller, tok: t, role: asTruth}
	create := false
	err = s.again(ctx, func() error {
		rec, _, err := s.look(ctx, j, r.ID)
		switch {
		case err != nil:
			return err
		case rec.known() && rec.hold.State == backends.Claimed:
			d = decided(backends.OpClaim, backends.OutcomeClaimed, rec.hold)
			d.Replayed = true
			return nil
		case rec.known() && rec.hold.State.Open():
			d, err = s.change(ctx, j, rec, ending(backends.OpClaim, backends.OutcomeClaimed, backends.Claimed))
		case rec.known() || len(r.Lines) > 0:
			d, err = s.claimLate(ctx, j, rec, r, create)
		default:
			d = decided(backends.OpClaim, backends.OutcomeNotFound, nil)
		}
		create = create || errors.Is(err, errNoLevel)
		return err
	})
	return d, err
}

// claimLate claims a hold that takes nothing any more, or that is not known: its units are taken
// (again), below zero if need be.
func (s *Store) claimLate(ctx context.Context, j job, rec *record, r *backends.ClaimRequest, create bool) (d *backends.Decision, err error) {
	err = s.write(ctx, j, func(x *txn) error {
		h, err := x.lateHold(ctx, rec, r, create)
		if err != nil {
			return err
		}
		sorry, err := x.missing(ctx, h)
		if err != nil {
			return err
		}
		h.State, h.EndedAt = backends.Claimed, x.now
		h.Version = h.Version.Next(j.tok.Epoch)
		ms := moves(nil, h)
		if x.fence.Stage == backends.MySQLOnly {
			h.LedgerOwed = true
			ms = owe(ms, h)
		}
		d = decided(backends.OpClaim, backends.OutcomeClaimed, h)
		d.Apologies = sorry
		var own *backends.OwnDecision
		if rec != nil {
			own = rec.own
		}
		return x.put(ctx, putting{was: rec, is: h, own: own, ms: ms, more: func(b *batch) {
			x.apologise(b, sorry)
			x.tell(b, d)
		}})
	})
	return d, err
}

// lateHold is the hold of a late claim as it was, with its levels locked: the one that is known, or
// one made from the lines of the claim by Allocate, or else each line whole from its first location.
func (x *txn) lateHold(ctx context.Context, rec *record, r *backends.ClaimRequest, create bool) (*backends.Hold, error) {
	if rec.known() {
		h := rec.hold.Clone()
		return h, x.lock(ctx, unitKeys(h), madeIf(create))
	}
	h := (&backends.Hold{ID: r.ID, Shop: r.Shop, Caller: r.Caller, Lines: r.Lines, CreatedAt: x.now, ExpiresAt: x.now}).Clone()
	if rec != nil {
		h.Version = rec.hold.Version
	}
	var first []backends.Allocation
	firstKeys := map[backends.Key]bool{}
	for i, l := range h.Lines {
		first = append(first, backends.Allocation{Line: i, Location: l.Locations[0], Quantity: l.Quantity})
		firstKeys[backends.Key{Shop: h.Shop, Item: l.Item, Location: l.Locations[0]}] = true
	}
	makes := func(k backends.Key) bool { return create && firstKeys[k] }
	if err := x.lock(ctx, backends.Keys(h.Shop, h.Lines), makes); err != nil {
		return nil, err
	}
	allocs, short, err := x.allocate(ctx, h.Shop, h.Lines)
	if h.Allocs = allocs; len(short) > 0 {
		h.Allocs = first
	}
	return h, err
}

// missing lists what a late claim of h finds gone, by key.
func (x *txn) missing(ctx context.Context, h *backends.Hold) ([]backends.Apology, error) {
	takes := h.Takes()
	if err := x.reach(ctx, takes); err != nil {
		return nil, err
	}
	reason := "claimed after the hold had " + h.State.String()
	if h.State == backends.Released {
		reason = "claimed after the hold was released"
	} else if h.State == backends.StateUnknown {
		reason = "claimed without a hold"
	}
	var out []backends.Apology
	for _, u := range takes {
		if gone := u.Quantity - max(0, x.within(u.Key)); gone > 0 {
			out = append(out, backends.Apology{Hold: h.ID, Key: u.Key, Quantity: gone, Reason: reason, At: x.now})
		}
	}
	return out, nil
}

func (x *txn) apologise(b *batch, as []backends.Apology) {
	for part := range slices.Chunk(as, maxBranches) {
		var args []any
		for i, id := range x.s.ids.next(len(part)) {
			a := part[i]
			args = append(args, x.s.cfg.Pod, id, a.Hold, a.Key.Shop, a.Key.Item, a.Key.Location, a.Quantity, a.Reason, a.At)
		}
		b.do(statementApologyInsert.times(len(part)), args...)
	}
}
