package dualwrite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// item is what a lane carries: an entry to mirror, an entry that is mirrored already and only has
// to leave the outbox, or a refusal to probe.
type item struct {
	fence    backends.Fence // under which it was decided
	entry    backends.Entry
	decision *backends.Decision // nil for an entry read from the outbox
	ask      *ask               // nil for an entry read from the outbox
	took     time.Duration      // how long the truth took; 0 when not known
	at       time.Time          // when the truth's call had ended: it began took before
	probe    bool
	applied  *backends.Applied // set: the shadow has confirmed it
	mirrored time.Duration     // how long the shadow took
	followed comparator.Span   // when it did, by its clock; From 0: an earlier attempt may have done it
	clock    reading           // of the shadow's clock, that this rests on
}

// shadowOf is the side that takes mirrors under f.
func shadowOf(f backends.Fence) backends.Side { return f.Stage.Truth().Other() }

// apply brings items' entries to the shadow under f's token.
func (p *Pod) apply(ctx context.Context, f backends.Fence, items []item) ([]backends.Applied, error) {
	side := shadowOf(f)
	asOf, err := p.shadowNow(ctx, side)
	if err != nil {
		return nil, err
	}
	entries := make([]backends.Entry, len(items))
	for i := range items {
		entries[i] = items[i].entry
	}
	start := p.o.Clock.Now()
	a := attempt{f: f, clock: asOf, from: start, ticket: p.o.Comparer.Following(asOf.span(start, start).From)}
	var told []backends.Applied // what is known of it; nil: it may have been brought there or not
	// Deferred, for a store that panics: an attempt that never ends would leave every later record incomplete.
	defer func() { p.tell(&a, items, told) }()
	res, err := p.stores.Of(side).Apply(ctx, backends.Token{Epoch: f.Epoch}, asOf.now, entries)
	took := p.o.Clock.Now().Sub(start)
	p.o.Observer.StoreCall(p.name, side, "shadow", entries[0].Op, err, took)
	if err != nil {
		return nil, err
	}
	if len(res) != len(items) {
		return nil, fmt.Errorf("%w: %s answered %d results for %d entries", backends.ErrDamaged, side, len(res), len(items))
	}
	for i := range res {
		items[i].mirrored = took
		if res[i].Err == nil {
			items[i].applied = &res[i]
		}
	}
	told = res
	return res, nil
}

// applyNow mirrors on the request path (live): Redis has to accept each item, or it is an error. Leaving
// the outbox is left to the lane.
func (p *Pod) applyNow(ctx context.Context, f backends.Fence, items []item) error {
	ctx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	res, err := p.apply(ctx, f, items)
	if err != nil {
		return err
	}
	for i := range res {
		if res[i].Err != nil {
			return res[i].Err
		}
	}
	for _, it := range items {
		if it.entry.Seq != "" {
			p.offer(&it)
		}
	}
	return nil
}

// Mirror is one mirror step: entries go to the shadow, what it confirms leaves the outbox, and what
// left is handed to the comparer. It answers how many entries the shadow has confirmed.
// A failure leaves entries in the outbox, where the next sweep finds them.
func (p *Pod) Mirror(ctx context.Context, f backends.Fence, items []item, swept bool) int {
	if len(items) == 0 {
		return 0
	}
	err := p.o.Guard.Do(func() error {
		ctx, cancel := context.WithTimeout(ctx, p.o.MirrorTimeout)
		defer cancel()
		_, err := p.apply(ctx, f, items)
		return err
	})
	if err != nil {
		var fe *backends.FencedError
		if errors.As(err, &fe) {
			p.met(fe)
		}
		return 0
	}
	return p.finish(ctx, f, items, swept)
}

// finish removes confirmed entries from the truth's outbox. Whoever removes an entry counts it.
func (p *Pod) finish(ctx context.Context, f backends.Fence, items []item, swept bool) int {
	bySeq := make(map[string]*item, len(items))
	seqs := make([]string, 0, len(items))
	confirmed := 0
	for i := range items {
		it := &items[i]
		if it.applied == nil {
			continue
		}
		confirmed++
		if it.entry.Seq != "" {
			bySeq[it.entry.Seq] = it
			seqs = append(seqs, it.entry.Seq)
		}
	}
	if len(seqs) == 0 {
		return confirmed
	}
	ctx, cancel := context.WithTimeout(ctx, p.o.MirrorTimeout)
	defer cancel()
	removed, err := p.stores.Of(f.Stage.Truth()).Done(ctx, seqs)
	if err != nil {
		return confirmed // they are applied again by a sweep, and that changes nothing
	}
	var lag time.Duration
	now := p.o.Clock.Now()
	for _, s := range removed {
		it := bySeq[s]
		if it == nil {
			continue
		}
		if !it.at.IsZero() {
			lag = max(lag, now.Sub(it.at))
		}
		if comparator.Watched(&it.entry) {
			p.o.Comparer.Observe(p.observed(ctx, f, it))
		}
	}
	p.o.Observer.Mirrored(p.name, len(removed), lag, swept)
	return confirmed
}

// Probes asks the shadow what it would have said to carts that the truth refused, and has each refusal
// compared. Refusals of equal carts share one look, which begins after all of them: in a flash sale
// that is nearly all.
func (p *Pod) Probes(ctx context.Context, f backends.Fence, its []item) {
	for len(its) > 0 {
		first, rest := its[0].ask.reserve, its[:0:0]
		l, err := p.probe(ctx, f, first)
		for i := range its {
			if it := &its[i]; i == 0 || sameCart(first, it.ask.reserve) {
				p.o.Comparer.Observe(p.probed(ctx, f, *it, &l, err))
			} else {
				rest = append(rest, *it)
			}
		}
		its = rest
	}
}

// probed is a refusal with what the shadow made of it. Where that does not know the stock yet, it can be asked
// again.
func (p *Pod) probed(ctx context.Context, f backends.Fence, it item, l *glance, err error) comparator.Observation {
	o := comparator.FromRefusal(p.name, f.Stage, it.fence.Epoch, it.ask.reserve, it.decision, l.own)
	o.TruthLatency, o.ShadowLatency = it.took, l.to.Sub(l.from)
	if err == nil {
		p.probedAt(ctx, f.Stage.Truth(), &it, l, &o)
		return o
	}
	o.Detail = err.Error()
	var unknown *backends.UnknownStockError
	if errors.As(err, &unknown) {
		o.Missing = comparator.ReasonUnknownStock
		o.Again = func(ctx context.Context) comparator.Observation {
			now := p.gate.Serving()
			if now.Stage.Truth() != f.Stage.Truth() || !now.Stage.TakesMirrors(shadowOf(now)) {
				return o
			}
			l, err := p.probe(ctx, now, it.ask.reserve)
			return p.probed(ctx, f, it, &l, err)
		}
	}
	return o
}

// glance is one look of the shadow at a cart.
type glance struct {
	own      *backends.OwnDecision
	clock    reading // of the shadow's clock
	from, to time.Time
}

func (p *Pod) probe(ctx context.Context, f backends.Fence, r *backends.ReserveRequest) (l glance, err error) {
	l.from = p.o.Clock.Now()
	err = p.o.Guard.Do(func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, p.o.MirrorTimeout)
		defer cancel()
		if l.clock, err = p.shadowNow(ctx, shadowOf(f)); err != nil {
			return err
		}
		l.from = p.o.Clock.Now()
		l.own, err = p.stores.Of(shadowOf(f)).Probe(ctx, r)
		return err
	})
	l.to = p.o.Clock.Now()
	return l, err
}

// sameCart tells whether a store decides both alike.
func sameCart(a, b *backends.ReserveRequest) bool {
	return a.Shop == b.Shop && slices.EqualFunc(a.Lines, b.Lines, func(l, m backends.Line) bool {
		return l.Item == m.Item && l.Quantity == m.Quantity && l.Split == m.Split && slices.Equal(l.Locations, m.Locations)
	})
}

// Comparer takes what was decided and what the shadow made of it. *comparator.Comparator is one. Its
// methods must not block; a panic is its own affair.
type Comparer interface {
	// Begin enters one decision that the truth has made under epoch.
	Begin(epoch uint64)
	// Observe ends it with what the shadow decided.
	Observe(o comparator.Observation)
	// SampledOut ends n refusals that are not probed, Lost n decisions that never reach the shadow.
	SampledOut(epoch uint64, n int64)
	Lost(epoch uint64, n int64)
	// Following and Followed record an attempt to bring entries to the shadow: that it begins, at from
	// by the shadow's clock, and what became of it, before any of them leaves the outbox.
	Following(from backends.Instant) (ticket uint64)
	Followed(f comparator.Followed)
}

// NoComparer ignores everything.
type NoComparer struct{}

// Begin implements Comparer.
func (NoComparer) Begin(uint64) {}

// Observe implements Comparer.
func (NoComparer) Observe(comparator.Observation) {}

// SampledOut implements Comparer.
func (NoComparer) SampledOut(uint64, int64) {}

// Lost implements Comparer.
func (NoComparer) Lost(uint64, int64) {}

// Following implements Comparer.
func (NoComparer) Following(backends.Instant) uint64 { return 0 }

// Followed implements Comparer.
func (NoComparer) Followed(comparator.Followed) {}

// observed is a mirrored grant with what the shadow had decided for itself.
func (p *Pod) observed(ctx context.Context, f backends.Fence, it *item) comparator.Observation {
	o := comparator.FromEntry(p.name, f.Stage, &it.entry, it.applied.Own)
	o.TruthLatency, o.ShadowLatency, o.Debt = it.took, it.mirrored, it.applied.Debt
	if it.decision != nil {
		o.Truth.Seen = it.decision.Seen
	}
	p.spans(ctx, f.Stage.Truth(), it, &o)
	return o
}

// TruthNow tells the time by the truth's clock, to within what it drifted since it was last read
// (at most nowTrusted ago). It serves to show how long a hold still has; nothing is decided by it.
func (p *Pod) TruthNow(ctx context.Context) (backends.Instant, error) {
	f, err := p.enter(ctx)
	if err != nil {
		return 0, err
	}
	return p.readClock(ctx, &p.truthNows, f.Stage.Truth())
}
