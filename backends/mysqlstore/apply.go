package mysqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Damage that no store writes.
var (
	errEmptyEntry = errors.New("the entry has neither a hold nor a level")
	errAnonymous  = errors.New("the entry's hold has no id or no state")
)

// Apply follows entries of the other store in the order given: as many in one transaction as can be,
// and each of the others in one of its own. An entry that meets a lock for too long, or is
// damaged, fails alone.
func (s *Store) Apply(ctx context.Context, t backends.Token, asOf backends.Instant, entries []backends.Entry) ([]backends.Applied, error) {
	j := job{op: "apply", tok: t, role: asMirror}
	if len(entries) == 0 {
		return nil, s.fresh(ctx, j, asOf)
	}
	out := make([]backends.Applied, len(entries))
	most := len(entries) // of one transaction
	apart := 0           // entries before this one go alone: one of them has met a lock
	for done := 0; done < len(entries); {
		rest, to := entries[done:], out[done:]
		n, err := s.applyMany(ctx, j, asOf, rest[:min(most, len(rest))], to)
		switch {
		case wholeBatch(err):
			return nil, err
		case err != nil && n > 1:
			// One of them cannot be had: fewer at a time, so that none fails for its neighbour's sake.
			s.count.splits.Add(1)
			if most = n / 2; errors.Is(err, backends.ErrBusy) {
				most, apart = 1, done+n // halves would wait for it again and again
			}
			continue
		case n == 1 && err != nil && (rest[0].Level != nil || errors.Is(err, backends.ErrBusy)):
			to[0] = backends.Applied{Seq: rest[0].Seq, Err: err}
		case n == 0 || err != nil: // the first wants a transaction of its own
			n = 1
			if err = s.applyOne(ctx, j, asOf, &rest[0], &to[0]); wholeBatch(err) {
				return nil, err
			}
			to[0].Err = err
		default:
			most = min(2*most, len(entries))
		}
		if done += n; done < apart {
			most = 1
		}
	}
	return out, nil
}

// applyMany follows entries from the front in one transaction, and tells how many. 0 says that the
// first wants one of its own.
func (s *Store) applyMany(ctx context.Context, j job, asOf backends.Instant, es []backends.Entry, as []backends.Applied) (n int, err error) {
	if n := levelRun(es); n > 0 {
		return n, s.applyLevels(ctx, j, asOf, es[:n], as[:n])
	}
	if n, different := s.holdRun(es); n > 0 {
		return s.applyHolds(ctx, j, asOf, es[:n], different, as[:n])
	}
	return 0, nil
}

func (s *Store) applyOne(ctx context.Context, j job, asOf backends.Instant, e *backends.Entry, a *backends.Applied) error {
	a.Seq = e.Seq
	switch {
	case e.Hold == nil:
		return damaged(errEmptyEntry)
	case nameless(e.Hold):
		return damaged(errAnonymous)
	default:
		j.caller = e.Hold.Caller
		return s.applyHold(ctx, j, asOf, e.Hold, a)
	}
}

func nameless(h *backends.Hold) bool { return h.ID == "" || h.State == backends.StateUnknown }

func damaged(err error) error { return fmt.Errorf("%w: %w", backends.ErrDamaged, err) }

// wholeBatch tells whether an error is about the attempt and not about one entry.
func wholeBatch(err error) bool {
	var fe *backends.FencedError
	return errors.As(err, &fe) || errors.Is(err, backends.ErrStaleAttempt) || errors.Is(err, backends.ErrUnavailable) ||
		errors.Is(err, backends.ErrAmbiguous) || errors.Is(err, backends.ErrSetup)
}

// fresh checks fence and age of an attempt that has nothing to write.
func (s *Store) fresh(ctx context.Context, j job, asOf backends.Instant) error {
	var fence backends.Fence
	var now backends.Instant
	err := s.read(ctx, j.op, j.caller, func(b *batch) { s.askFence(b, &fence, &now) })
	switch {
	case err != nil:
		return err
	case !j.role.admitted(fence, j.tok):
		return s.fenced(fence, j.tok)
	default:
		return s.ageOf(asOf, now)
	}
}

// ageOf refuses an attempt so old that what it is about may have been purged meanwhile.
func (s *Store) ageOf(asOf, now backends.Instant) error {
	if now.Sub(asOf) > s.cfg.Retain/2 {
		return backends.ErrStaleAttempt
	}
	return nil
}

// levelBatch bounds the level changes of one transaction: a load of stock is thousands of them, each
// of which would wait for its own COMMIT to reach the disk.
const levelBatch = 64

// levelRun tells how many entries at the front are level changes of different keys, which one
// transaction can take.
func levelRun(es []backends.Entry) int {
	keys := map[backends.Key]bool{}
	for i := range es {
		ch := es[i].Level
		if i == levelBatch || ch == nil || keys[ch.Key] {
			return i
		}
		keys[ch.Key] = true
	}
	return len(es)
}

// applyLevels follows level changes of different keys in one transaction, with their levels locked
// in the order of keys: each taken sum by its version, each delta as the state of its operation id.
func (s *Store) applyLevels(ctx context.Context, j job, asOf backends.Instant, es []backends.Entry, as []backends.Applied) error {
	sorted := make([]*followed, len(es))
	for i := range es {
		sorted[i] = &followed{ch: es[i].Level, a: &as[i], seq: es[i].Seq}
	}
	slices.SortFunc(sorted, func(f, g *followed) int { return f.ch.Key.Compare(g.ch.Key) })
	keys := make([]backends.Key, len(es))
	for i, f := range sorted {
		keys[i] = f.ch.Key
	}
	j.first = func(x *txn, b *batch) { x.askLevels(b, keys) }
	return s.again(ctx, func() error {
		err := s.write(ctx, j, func(x *txn) error {
			if err := s.ageOf(asOf, x.now); err != nil {
				return err
			}
			return x.followLevels(ctx, keys, sorted)
		})
		if errors.Is(err, errNoLevel) {
			j.first = nil // a lock that is held already could come behind a missing one
		}
		if errors.Is(err, errNothing) {
			return nil
		}
		return err
	})
}

// followed is a level change and what becomes of it.
type followed struct {
	ch  *backends.LevelChange
	a   *backends.Applied
	seq string
	op  operation
}

// followLevels follows changes in the order of their keys. Where none of the levels is locked, those that are
// missing are made.
func (x *txn) followLevels(ctx context.Context, keys []backends.Key, fs []*followed) error {
	if len(x.levels) == 0 {
		if err := x.lock(ctx, keys, inAll); err != nil {
			return err
		}
	}
	b := x.batch()
	for _, f := range fs {
		if l := x.levels[f.ch.Key]; l == nil || !l.adopted {
			return again(errNoLevel)
		}
		*f.a = backends.Applied{Seq: f.seq}
		f.op = operation{id: f.ch.OpID, key: f.ch.Key}
		x.askOp(b, &f.op)
	}
	if err := x.send(ctx, b); err != nil {
		return err
	}
	var cs []levelMove
	for _, f := range fs {
		made := x.levels[f.ch.Key].dirty
		if c, changed := x.moveOf(f); changed || made {
			cs = append(cs, c)
			f.a.Changed = true
		}
	}
	if len(cs) == 0 {
		return errNothing
	}
	if err := x.moveLevels(ctx, cs, x.s.cfg.firstFor); err != nil {
		return err
	}
	for _, f := range fs {
		if f.a.Changed {
			f.a.Debt = x.debts([]backends.Key{f.ch.Key})
		}
	}
	return nil
}

// moveOf is what a mirrored change makes of a locked level; false: nothing.
func (x *txn) moveOf(f *followed) (c levelMove, changed bool) {
	c.op = &f.op
	l := x.levels[f.ch.Key]
	if f.ch.Version.After(l.version) {
		c.takes = f.ch.Taken - l.taken
		l.version = f.ch.Version
		changed = true
	}
	next := result{value: f.ch.Answer, delta: f.ch.OnHandDelta, void: f.ch.Void}
	if o := &f.op; o.id != "" && !o.void && (!o.known || o.result != next) {
		c.onHand, c.note = next.delta-o.delta, &next
		changed = true
	}
	return c, changed
}

// debts lists the debts at levels that are locked.
func (x *txn) debts(keys []backends.Key) (out []backends.Units) {
	for _, k := range keys {
		if l := x.levels[k]; l != nil && l.unmaterialised < 0 {
			out = append(out, backends.Units{Key: k, Quantity: -l.unmaterialised})
		}
	}
	return out
}

// applyHold follows a newer state of a hold, and answers what this store decided for itself.
func (s *Store) applyHold(ctx context.Context, j job, asOf backends.Instant, h *backends.Hold, a *backends.Applied) error {
	create := false
	return s.again(ctx, func() error {
		a.Changed, a.Own, a.Debt = false, nil, nil
		err := s.follow(ctx, j, asOf, h, a, create)
		create = create || errors.Is(err, errNoLevel)
		return err
	})
}

// ownWay tells whether the truth's allocation is the one that a fast reserve here would make.
func (s *Store) ownWay(h *backends.Hold) bool {
	g := newGrant(requestOf(h))
	return slices.Equal(g.allocs, h.Allocs) && len(g.wants) > 0 && s.fits(g.wants) && !s.hints.dry(g.wants)
}

func requestOf(h *backends.Hold) *backends.ReserveRequest {
	return &backends.ReserveRequest{ID: h.ID, Shop: h.Shop, Lines: h.Lines, Caller: h.Caller}
}

// follow applies a state in the order of locks.
func (s *Store) follow(ctx context.Context, j job, asOf backends.Instant, h *backends.Hold, a *backends.Applied, create bool) error {
	rec, now, err := s.look(ctx, j, h.ID)
	if err != nil {
		return err
	}
	if err := s.ageOf(asOf, now); err != nil {
		return err
	}
	next, decides := nextOf(rec, h)
	if next == nil {
		a.Own = ownOf(rec, h)
		return nil
	}
	var was *backends.Hold
	if rec != nil {
		was = rec.hold
	}
	ms := moves(was, next)
	j.first = nil
	return s.write(ctx, j, func(x *txn) error {
		if err := s.ageOf(asOf, x.now); err != nil {
			return err
		}
		keys := levelKeys(ms)
		moved := map[backends.Key]bool{}
		for _, k := range keys {
			moved[k] = true
		}
		if decides {
			keys = append(keys, backends.Keys(h.Shop, h.Lines)...)
			slices.SortFunc(keys, backends.Key.Compare)
			keys = slices.Compact(keys)
		}
		if err := x.lock(ctx, keys, func(k backends.Key) bool { return create && moved[k] }); err != nil {
			return err
		}
		own, err := x.ownDecision(ctx, rec, h, decides)
		if err != nil {
			return err
		}
		a.Changed = true
		if h.State.Open() {
			a.Own = own
		}
		for _, m := range ms {
			if m.sellable < 0 {
				x.after = append(x.after, func() { s.fill.short(x.tok, m.key) })
			}
		}
		return x.put(ctx, putting{was: rec, is: next, own: own, ms: ms, more: func(b *batch) {
			s.askDebts(b, unitKeys(h), &a.Debt) // as they will be
		}})
	})
}

// nextOf is the state that a mirrored one makes of what is there; nil when it changes nothing. New
// open holds are decided first.
func nextOf(rec *record, h *backends.Hold) (next *backends.Hold, decides bool) {
	switch {
	case rec == nil, rec.bare() && h.Version.After(rec.hold.Version):
		return h, h.State.Open()
	case !h.Version.After(rec.hold.Version):
		return nil, false
	case rec.hold.State == backends.Claimed && h.State != backends.Claimed:
		return nil, false // money was taken: no state of another epoch undoes that
	case (&record{hold: h}).bare():
		n := rec.hold.Clone()
		n.State, n.EndedAt, n.Version = h.State, h.EndedAt, h.Version
		return n, false
	default:
		return h, false
	}
}

func ownOf(rec *record, h *backends.Hold) *backends.OwnDecision {
	if rec == nil || !h.State.Open() {
		return nil
	}
	return rec.own
}

// ownDecision is the kept one, or one taken now at locked levels, by the rule of a confirmed
// reserve.
func (x *txn) ownDecision(ctx context.Context, rec *record, h *backends.Hold, decides bool) (*backends.OwnDecision, error) {
	if !decides {
		if rec == nil {
			return nil, nil
		}
		return rec.own, nil
	}
	allocs, short, err := x.allocate(ctx, h.Shop, h.Lines)
	if err != nil {
		return nil, err
	}
	if len(short) == 0 {
		return &backends.OwnDecision{Outcome: backends.OutcomeGranted, Allocs: allocs}, nil
	}
	seen, err := x.seen(ctx, requestOf(h))
	return &backends.OwnDecision{Outcome: backends.OutcomeSoldOut, Short: short, Seen: seen}, err
}

// Probe decides a reserve by a view, and takes nothing.
func (s *Store) Probe(ctx context.Context, r *backends.ReserveRequest) (*backends.OwnDecision, error) {
	stocks := map[backends.Key]stock{}
	err := s.read(ctx, "probe", r.Caller, func(b *batch) {
		clear(stocks)
		s.askStock(b, chunkLines(r.Shop, r.Lines), stocks)
	})
	if err != nil {
		return nil, err
	}
	if err := checkKnown(r.Shop, r.Lines, func(k backends.Key) bool { _, ok := stocks[k]; return ok }); err != nil {
		return nil, err
	}
	sellable := func(k backends.Key) int64 { return stocks[k].sellable() }
	own := &backends.OwnDecision{Outcome: backends.OutcomeGranted, Seen: seenIn(r, sellable)}
	if own.Allocs, own.Short = backends.Allocate(r.Shop, r.Lines, sellable); len(own.Short) > 0 {
		own.Outcome = backends.OutcomeSoldOut
	}
	return own, nil
}
