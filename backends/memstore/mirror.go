package memstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// errEmptyEntry and errAnonymous are damage that no store writes.
var (
	errEmptyEntry = errors.New("the entry has neither a hold nor a level")
	errAnonymous  = errors.New("the entry's hold has no id or no state")
)

// Apply follows entries of the other store.
func (s *Store) Apply(ctx context.Context, t backends.Token, asOf backends.Instant, entries []backends.Entry) ([]backends.Applied, error) {
	return s.follow(ctx, t, asOf, entries, backends.Fence.AdmitsMirror)
}

// rule is a rule of a fence.
type rule func(backends.Fence, backends.Token, backends.Side) bool

func (s *Store) follow(ctx context.Context, t backends.Token, asOf backends.Instant, entries []backends.Entry, admits rule) ([]backends.Applied, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	if err := d.admitBy(t, admits); err != nil {
		return nil, err
	}
	if d.opt.Clock().Sub(asOf) > d.opt.Retain/2 {
		return nil, backends.ErrStaleAttempt
	}
	out := make([]backends.Applied, len(entries))
	for i := range entries {
		out[i] = d.apply(&entries[i])
	}
	return out, nil
}

func (d *data) apply(e *backends.Entry) backends.Applied {
	a := backends.Applied{Seq: e.Seq}
	switch {
	case e.Level != nil:
		if a.Err = d.inOrder(e); a.Err != nil {
			return a
		}
		a.Changed = d.applyLevel(e.Level)
	case e.Hold == nil:
		a.Err = fmt.Errorf("%w: %w", backends.ErrDamaged, errEmptyEntry)
		return a
	case e.Hold.ID == "" || e.Hold.State == backends.StateUnknown:
		a.Err = fmt.Errorf("%w: %w", backends.ErrDamaged, errAnonymous)
		return a
	default:
		a.Changed, a.Own = d.applyHold(e.Hold)
	}
	if a.Changed {
		a.Debt = d.debts(e)
	}
	return a
}

// inOrder answers ErrOutOfOrder for a take that leaves out an earlier one, where that matters.
func (d *data) inOrder(e *backends.Entry) error {
	l := d.levels[e.Level.Key]
	if e.Op != backends.OpCount || !d.fence.Arbitrates() || e.Level.Version == (backends.Version{}) {
		return nil
	}
	var have backends.Version
	if l != nil {
		have = l.version
	}
	if e.Level.Version.After(have) && e.Level.Version.N != have.N+1 {
		return backends.ErrOutOfOrder
	}
	return nil
}

// applyLevel takes the sum by its version, and the delta as the state of its operation id.
func (d *data) applyLevel(ch *backends.LevelChange) (changed bool) {
	l := d.levels[ch.Key]
	if l == nil {
		l, changed = d.level(ch.Key), true
	}
	if ch.Version.After(l.version) {
		l.take(ch.Taken - l.taken)
		l.version = ch.Version
		changed = true
	}
	next := opRecord{value: ch.Answer, delta: ch.OnHandDelta, void: ch.Void}
	if had, known := d.ops[ch.OpID]; ch.OpID != "" && !had.void && (!known || !had.same(next)) {
		l.restock(next.delta - had.delta)
		d.remember(ch.OpID, next)
		changed = true
	}
	return changed
}

// applyHold follows a newer state of a hold, and answers what this store decided for itself.
func (d *data) applyHold(h *backends.Hold) (changed bool, own *backends.OwnDecision) {
	rec := d.holds[h.ID]
	switch {
	case rec == nil || bare(rec.hold) && h.Version.After(rec.hold.Version):
		if h.State.Open() {
			own = d.decide(h.Shop, h.Lines)
		}
		rec = d.put(rec, copyHold(h))
		rec.own = own
		changed = true
	case !h.Version.After(rec.hold.Version):
	case rec.hold.State == backends.Claimed && h.State != backends.Claimed:
		// Money was taken: no state of another epoch undoes that.
	case bare(h):
		n := *rec.hold
		n.State, n.EndedAt, n.Version = h.State, h.EndedAt, h.Version
		d.put(rec, &n)
		changed = true
	default:
		d.put(rec, copyHold(h))
		changed = true
	}
	if !h.State.Open() {
		return changed, nil
	}
	return changed, copyOwn(rec.own)
}

// debts lists the keys of e that are below zero.
func (d *data) debts(e *backends.Entry) []backends.Units {
	var out []backends.Units
	owe := func(k backends.Key) {
		if n := d.sellable(k); n < 0 {
			out = append(out, backends.Units{Key: k, Quantity: -n})
		}
	}
	if e.Level != nil {
		owe(e.Level.Key)
		return out
	}
	for _, a := range e.Hold.Allocs {
		if a.Line >= 0 && a.Line < len(e.Hold.Lines) {
			owe(backends.Key{Shop: e.Hold.Shop, Item: e.Hold.Lines[a.Line].Item, Location: a.Location})
		}
	}
	slices.SortFunc(out, func(a, b backends.Units) int { return a.Key.Compare(b.Key) })
	return slices.Compact(out) // units of one key are equal: the debt of that key
}

// decide is what this store would answer to a reserve of the cart. A key without a level counts
// as empty.
func (d *data) decide(shop backends.Shop, lines []backends.Line) *backends.OwnDecision {
	own := &backends.OwnDecision{Outcome: backends.OutcomeGranted, Seen: d.seen(shop, lines)}
	if own.Allocs, own.Short = backends.Allocate(shop, lines, d.sellable); len(own.Short) > 0 {
		own.Outcome = backends.OutcomeSoldOut
	}
	return own
}

func copyOwn(o *backends.OwnDecision) *backends.OwnDecision {
	if o == nil {
		return nil
	}
	return &backends.OwnDecision{
		Outcome: o.Outcome, Allocs: slices.Clone(o.Allocs), Short: slices.Clone(o.Short), Seen: slices.Clone(o.Seen),
	}
}

// Probe decides a reserve and takes nothing.
func (s *Store) Probe(ctx context.Context, r *backends.ReserveRequest) (*backends.OwnDecision, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	if err := d.checkKnown(r.Shop, r.Lines); err != nil {
		return nil, err
	}
	return d.decide(r.Shop, r.Lines), nil
}
