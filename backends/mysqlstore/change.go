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

// errNothing ends a write that has nothing to do.
var errNothing = errors.New("nothing to do")

// owe adds to moves what a claim in mysql-only owes to the other store.
func owe(ms []move, h *backends.Hold) []move {
	for _, u := range h.Takes() {
		ms = append(ms, move{key: u.Key, owed: -u.Quantity})
	}
	return sumMoves(ms)
}

func unitKeys(h *backends.Hold) []backends.Key { return keysOf(h.Takes()) }

// due lists holds whose time has passed, under a fence that admits t.
func (s *Store) due(ctx context.Context, t backends.Token, limit int) (ids []backends.HoldID, err error) {
	j := job{op: backends.OpExpire.String(), tok: t, role: asTruth}
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
	return s.listDue(ctx, j.op, backends.Held, now, page(limit))
}

// listDue lists holds of a state that are due until an instant.
func (s *Store) listDue(ctx context.Context, op string, state backends.State, until backends.Instant, limit int) (ids []backends.HoldID, err error) {
	f := s.dueFloors[state]
	from := f.begin()
	first := until.Add(-latest) // none comes in below this, but see fromHead
	err = s.read(ctx, op, "", func(b *batch) {
		ids = nil
		b.ask(func(r *sql.Rows) error {
			var id backends.HoldID
			var due backends.Instant
			err := r.Scan(&id, &due)
			if ids == nil {
				first = min(first, due)
			}
			ids = append(ids, id)
			return err
		}, textHoldsDue, s.cfg.Pod, state, from, until, limit)
	})
	if err == nil {
		f.saw(int64(first))
	}
	return ids, err
}

// Claim makes the hold claimed, whatever it was, unless nothing is known of it.
func (s *Store) Claim(ctx context.Context, t backends.Token, r *backends.ClaimRequest) (d *backends.Decision, err error) {
	j := job{op: backends.OpClaim.String(), caller: r.Caller, tok: t, role: asTruth}
	create := false
	err = s.again(ctx, func() error {
		var rec *record
		d, rec, err = s.claimOpen(ctx, t, r)
		if !errors.Is(err, errLate) {
			return err
		}
		d, err = s.claimLate(ctx, j, rec, r, create)
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
		x.tell(d)
		return x.put(ctx, putting{was: rec, is: h, own: own, ms: ms, more: func(b *batch) { x.apologise(b, sorry) }})
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
