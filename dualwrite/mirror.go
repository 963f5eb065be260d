package dualwrite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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
	at       time.Time          // when this proxy had the decision
	probe    bool
	applied  *backends.Applied // set: the shadow has confirmed it
	mirrored time.Duration     // how long the shadow took
}

// nowCache keeps the last reading of a store's clock for nowTrusted.
type nowCache struct {
	mu   sync.Mutex
	side backends.Side
	at   time.Time
	now  backends.Instant
}

// shadowNow is the asOf of a mirror attempt: the reading itself, which is in the past.
func (p *Pod) shadowNow(ctx context.Context, side backends.Side) (backends.Instant, error) {
	return p.nows.read(ctx, p, side)
}

// readClock is a store's time now: the cached reading and what has passed here since.
func (p *Pod) readClock(ctx context.Context, c *nowCache, side backends.Side) (backends.Instant, error) {
	n, err := c.read(ctx, p, side)
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return n.Add(p.o.Clock.Now().Sub(c.at)), nil
}

func (c *nowCache) read(ctx context.Context, p *Pod, side backends.Side) (backends.Instant, error) {
	local := p.o.Clock.Now()
	c.mu.Lock()
	if c.side == side && local.Sub(c.at) < nowTrusted && !c.at.IsZero() {
		n := c.now
		c.mu.Unlock()
		return n, nil
	}
	c.mu.Unlock()
	n, err := p.stores.Of(side).Now(ctx)
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	c.side, c.at, c.now = side, local, n
	c.mu.Unlock()
	return n, nil
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
	res, err := p.stores.Of(side).Apply(ctx, backends.Token{Epoch: f.Epoch}, asOf, entries)
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
		if it.entry.Seq != "" && !p.lanes.offer(laneOf(&it), it) {
			p.o.Observer.LaneFull(p.name, "entry")
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
			p.o.Comparer.Observe(p.observed(f, it))
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
		start := p.o.Clock.Now()
		own, err := p.probe(ctx, f, first)
		took := p.o.Clock.Now().Sub(start)
		for i := range its {
			if it := &its[i]; i == 0 || sameCart(first, it.ask.reserve) {
				o := comparator.FromRefusal(p.name, f.Stage, it.fence.Epoch, it.ask.reserve, it.decision, own)
				o.TruthLatency, o.ShadowLatency = it.took, took
				if err != nil {
					o.Detail = err.Error()
				}
				p.o.Comparer.Observe(o)
			} else {
				rest = append(rest, *it)
			}
		}
		its = rest
	}
}

func (p *Pod) probe(ctx context.Context, f backends.Fence, r *backends.ReserveRequest) (own *backends.OwnDecision, err error) {
	err = p.o.Guard.Do(func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, p.o.MirrorTimeout)
		defer cancel()
		own, err = p.stores.Of(shadowOf(f)).Probe(ctx, r)
		return err
	})
	return own, err
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

// observed is a mirrored grant with what the shadow had decided for itself.
func (p *Pod) observed(f backends.Fence, it *item) comparator.Observation {
	o := comparator.FromEntry(p.name, f.Stage, &it.entry, it.applied.Own)
	o.TruthLatency, o.ShadowLatency, o.Debt = it.took, it.mirrored, it.applied.Debt
	if it.decision != nil {
		o.Truth.Seen = it.decision.Seen
	}
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
