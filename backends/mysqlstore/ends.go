package mysqlstore

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// ending is a change of one open hold that takes nothing: a claim, a release, an extension, an expiry.
type ending struct {
	j  job
	id backends.HoldID
	// judge says what becomes of what is there (rec is nil where nothing is): a decision that
	// changes nothing, or nil and then next.
	judge func(rec *record, now backends.Instant) (*backends.Decision, error)
	// next changes a copy of the hold.
	next    func(x *txn, h *backends.Hold)
	op      backends.Op
	outcome backends.Outcome

	rec *record
	d   *backends.Decision
	err error
}

func (e *ending) fail(err error) { e.d, e.err = nil, err }

func (s *Store) newEnders() *combiner[*ending] {
	return (&combiner[*ending]{
		lanes: s.cfg.Lanes, most: s.cfg.Combine, room: maxWeight,
		alike:  func(a, b *ending) bool { return a.j.tok == b.j.tok },
		name:   func(e *ending) backends.HoldID { return e.id },
		weight: func(*ending) int { return 1 },
		run:    func(ctx context.Context, es []*ending) { together(ctx, s, es, s.endAll) },
		left:   leftWriting,
	}).init()
}

// errLate: the claim is for a hold that takes nothing any more.
var errLate = errors.New("the claim is late")

// advance is a hold's next state over the one that is there; lines and allocations stay.
type advance struct {
	was *record
	is  *backends.Hold
}

// endAll makes the changes of es in one transaction. Claims of one item cost one update of the ledger,
// releases one of the level.
func (s *Store) endAll(ctx context.Context, es []*ending) error {
	j := jointJob(es, func(e *ending) job { return e.j })
	ids := make([]backends.HoldID, len(es))
	for i, e := range es {
		e.rec, e.d, e.err = nil, nil, nil
		ids[i] = e.id
	}
	recs := map[backends.HoldID]*record{}
	j.first = func(_ *txn, b *batch) { s.askRecords(b, ids, recs) }
	err := s.write(ctx, j, func(x *txn) error {
		var advs []advance
		var ms []move
		for _, e := range es {
			e.rec = recs[e.id]
			if e.d, e.err = e.judge(e.rec, x.now); e.d != nil || e.err != nil {
				continue
			}
			h := e.rec.hold.Clone()
			e.next(x, h)
			h.Version = h.Version.Next(j.tok.Epoch)
			more := moves(e.rec.hold, h)
			if h.State == backends.Claimed && x.fence.Stage == backends.MySQLOnly {
				h.LedgerOwed = true
				more = owe(more, h)
			}
			ms = append(ms, more...)
			advs = append(advs, advance{e.rec, h})
			e.d = decided(e.op, e.outcome, h)
			e.d.Entry, e.d.Dropped = x.emit(backends.Entry{Op: e.op, Hold: h})
		}
		if len(advs) == 0 {
			return errNothing
		}
		ms = sumMoves(ms)
		if err := x.lock(ctx, levelKeys(ms), nil); err != nil {
			return err
		}
		return x.finishEnds(ctx, advs, ms)
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// finishEnds writes next states and what they move, which takes no unit.
func (x *txn) finishEnds(ctx context.Context, advs []advance, ms []move) error {
	if err := x.haveLevels(ms); err != nil {
		return err
	}
	ch := newChanges()
	if err := x.shift(ctx, ms, ch); err != nil {
		return err
	}
	b := x.batch()
	x.moveOnHand(b, ms)
	x.writeUnits(b, ch)
	x.writeLevels(b)
	x.advanceHolds(b, advs)
	return x.finish(ctx, b)
}

// advanceHolds adds the updates of holds that are all as they were read; otherwise the batch ends
// with a wish to begin again.
func (x *txn) advanceHolds(b *batch, advs []advance) {
	slices.SortFunc(advs, func(a, c advance) int { return cmp.Compare(a.is.ID, c.is.ID) })
	for part := range slices.Chunk(advs, maxBranches) {
		args := make([]any, 0, len(part)*9+2)
		for _, a := range part {
			was, h := a.was.hold.Version, a.is
			args = append(args, h.ID, was.Epoch, was.N, h.State, h.Version.Epoch, h.Version.N, h.ExpiresAt, h.EndedAt, h.LedgerOwed, x.dueOf(h))
		}
		args = append(args, x.s.cfg.Pod, x.stamp)
		b.must(int64(len(part)), again(errMoved), statementHoldsAdvance.times(len(part)), args...)
	}
	for _, a := range advs {
		x.prove(a.is.ID)
	}
}

// change has an ending made, together with those of others.
func (s *Store) change(ctx context.Context, e *ending) error {
	if err := s.enders.do(ctx, e); err != nil {
		return err
	}
	return e.err
}

// Release gives the units back.
func (s *Store) Release(ctx context.Context, t backends.Token, r *backends.ReleaseRequest) (*backends.Decision, error) {
	e := s.newEnding(backends.OpRelease, backends.OutcomeReleased, t, r.ID, r.Caller)
	e.judge = func(rec *record, _ backends.Instant) (*backends.Decision, error) {
		switch {
		case rec == nil:
			return decided(backends.OpRelease, backends.OutcomeNotFound, nil), nil
		case rec.hold.State == backends.Released:
			return replayed(decided(backends.OpRelease, backends.OutcomeReleased, rec.hold)), nil
		case !rec.hold.State.Open():
			return decided(backends.OpRelease, backends.OutcomeEnded, rec.hold), nil
		}
		return nil, nil
	}
	e.next = endsAs(backends.Released)
	err := s.change(ctx, e)
	return e.answer(err)
}

func (s *Store) newEnding(op backends.Op, outcome backends.Outcome, t backends.Token, id backends.HoldID, caller string) *ending {
	return &ending{j: job{op: op.String(), caller: caller, tok: t, role: asTruth}, id: id, op: op, outcome: outcome}
}

// answer is the decision unless there is an error. What a caller who went away left behind is not
// looked at: it may still be written.
func (e *ending) answer(err error) (*backends.Decision, error) {
	if err != nil {
		return nil, err
	}
	return e.d, nil
}

func replayed(d *backends.Decision) *backends.Decision {
	d.Replayed = true
	return d
}

func endsAs(state backends.State) func(*txn, *backends.Hold) {
	return func(x *txn, h *backends.Hold) { h.State, h.EndedAt = state, x.now }
}

// Extend moves the expiry of an open hold.
func (s *Store) Extend(ctx context.Context, t backends.Token, r *backends.ExtendRequest) (*backends.Decision, error) {
	e := s.newEnding(backends.OpExtend, backends.OutcomeExtended, t, r.ID, r.Caller)
	ttl := r.TTL
	e.judge = func(rec *record, _ backends.Instant) (*backends.Decision, error) {
		switch {
		case rec == nil:
			return decided(backends.OpExtend, backends.OutcomeNotFound, nil), nil
		case !rec.hold.State.Open():
			return decided(backends.OpExtend, backends.OutcomeEnded, rec.hold), nil
		}
		return nil, nil
	}
	e.next = func(x *txn, h *backends.Hold) { h.ExpiresAt = x.now.Add(ttl) }
	err := s.change(ctx, e)
	return e.answer(err)
}

// claimOpen claims a hold that is open, or was claimed before. It answers errLate with the record
// for any other, and a nil decision where nothing is known and there are lines to claim.
func (s *Store) claimOpen(ctx context.Context, t backends.Token, r *backends.ClaimRequest) (*backends.Decision, *record, error) {
	e := s.newEnding(backends.OpClaim, backends.OutcomeClaimed, t, r.ID, r.Caller)
	lines := len(r.Lines) > 0
	e.judge = func(rec *record, _ backends.Instant) (*backends.Decision, error) {
		switch {
		case rec.known() && rec.hold.State == backends.Claimed:
			return replayed(decided(backends.OpClaim, backends.OutcomeClaimed, rec.hold)), nil
		case rec.known() && rec.hold.State.Open():
			return nil, nil
		case rec.known() || lines:
			return nil, errLate
		}
		return decided(backends.OpClaim, backends.OutcomeNotFound, nil), nil
	}
	e.next = endsAs(backends.Claimed)
	if err := s.change(ctx, e); err != nil {
		if errors.Is(err, errLate) {
			return nil, e.rec, err
		}
		return nil, nil, err
	}
	return e.d, nil, nil
}

// Expire ends holds whose time has passed. Where it fails half-way, what was expired before is
// answered and the rest stays due.
func (s *Store) Expire(ctx context.Context, t backends.Token, limit int) (out []*backends.Decision, err error) {
	ids, err := s.due(ctx, t, limit)
	if err != nil {
		return nil, err
	}
	for part := range slices.Chunk(ids, max(1, s.cfg.Combine)) {
		es := make([]*ending, len(part))
		for i, id := range part {
			es[i] = s.newEnding(backends.OpExpire, backends.OutcomeExpired, t, id, "")
			es[i].judge = stillDue
			es[i].next = endsAs(backends.Expired)
		}
		together(ctx, s, es, s.endAll)
		for _, e := range es {
			switch {
			case errors.Is(e.err, errNothing):
			case errors.Is(e.err, backends.ErrBusy) && len(ids) > 1:
				// its neighbours need not wait for it; it stays due
			case e.err != nil:
				err = e.err
			default:
				out = append(out, e.d)
			}
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// stillDue: it was not claimed, released or extended meanwhile.
func stillDue(rec *record, now backends.Instant) (*backends.Decision, error) {
	if rec == nil || !rec.hold.State.Open() || rec.hold.ExpiresAt > now {
		return nil, errNothing
	}
	return nil, nil
}
