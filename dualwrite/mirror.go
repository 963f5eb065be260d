package dualwrite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
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

// nowCache keeps the last reading of each shadow's clock for nowTrusted.
type nowCache struct {
	mu   sync.Mutex
	side backends.Side
	at   time.Time
	now  backends.Instant
}

func (p *Pod) shadowNow(ctx context.Context, side backends.Side) (backends.Instant, error) {
	local := p.o.Clock.Now()
	p.nows.mu.Lock()
	if p.nows.side == side && local.Sub(p.nows.at) < nowTrusted && !p.nows.at.IsZero() {
		n := p.nows.now
		p.nows.mu.Unlock()
		return n, nil
	}
	p.nows.mu.Unlock()
	n, err := p.stores.Of(side).Now(ctx)
	if err != nil {
		return 0, err
	}
	p.nows.mu.Lock()
	p.nows.side, p.nows.at, p.nows.now = side, local, n
	p.nows.mu.Unlock()
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
func (p *Pod) applyNow(ctx context.Context, f backends.Fence, items []item) ([]backends.Applied, error) {
	ctx, cancel := context.WithTimeout(ctx, p.o.MirrorTimeout)
	defer cancel()
	res, err := p.apply(ctx, f, items)
	if err != nil {
		return nil, err
	}
	for i := range res {
		if res[i].Err != nil {
			return nil, res[i].Err
		}
	}
	for _, it := range items {
		if it.entry.Seq != "" && !p.lanes.offer(laneOf(&it), it) {
			p.o.Observer.LaneFull(p.name, "entry")
		}
	}
	return res, nil
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
		if it.entry.Op == backends.OpReserve && it.entry.Hold != nil && f.Stage.Dual() {
			p.o.Comparer.Compare(p.pair(f, it))
		}
	}
	p.o.Observer.Mirrored(p.name, len(removed), lag, swept)
	return confirmed
}

// Probe compares one refusal of the truth with what the shadow would have said.
func (p *Pod) Probe(ctx context.Context, f backends.Fence, it item) {
	start := p.o.Clock.Now()
	var own *backends.OwnDecision
	err := p.o.Guard.Do(func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, p.o.MirrorTimeout)
		defer cancel()
		own, err = p.stores.Of(shadowOf(f)).Probe(ctx, it.ask.reserve)
		return err
	})
	it.mirrored = p.o.Clock.Now().Sub(start)
	pr := p.pair(f, &it)
	pr.Own, pr.Probed, pr.ProbeErr = own, true, err
	p.o.Comparer.Compare(pr)
}

// Pair is one decision of the truth with what the shadow made of it.
type Pair struct {
	Pod    backends.Pod
	Fence  backends.Fence
	Hold   backends.HoldID
	Shop   backends.Shop
	Lines  []backends.Line
	Caller string
	// Truth's side: a grant has Allocs, a refusal Short.
	Outcome backends.Outcome
	Allocs  []backends.Allocation
	Short   []backends.Shortage
	Seen    []backends.Units // may be missing (a swept entry, a grant that did not count)
	At      time.Time        // when this proxy had it; zero for a swept entry of another
	Took    time.Duration    // the truth's time; 0 when not known
	// The shadow's side. Own is nil when it never decided for itself.
	Own      *backends.OwnDecision
	Probed   bool
	ProbeErr error
	Mirrored time.Duration // the shadow's time
	Debt     []backends.Units
}

// Comparer takes pairs. Its methods must not block; a panic is its own affair.
type Comparer interface {
	Compare(Pair)
	// SampledOut: n refusals were not probed.
	SampledOut(pod backends.Pod, f backends.Fence, n int)
	// Lost: n decisions will never be compared, since the outbox dropped them.
	Lost(pod backends.Pod, f backends.Fence, n int)
}

// NoComparer ignores everything.
type NoComparer struct{}

// Compare implements Comparer.
func (NoComparer) Compare(Pair) {}

// SampledOut implements Comparer.
func (NoComparer) SampledOut(backends.Pod, backends.Fence, int) {}

// Lost implements Comparer.
func (NoComparer) Lost(backends.Pod, backends.Fence, int) {}

func (p *Pod) pair(f backends.Fence, it *item) Pair {
	pr := Pair{Pod: p.name, Fence: f, At: it.at, Took: it.took, Mirrored: it.mirrored}
	if h := it.entry.Hold; h != nil {
		pr.Hold, pr.Shop, pr.Lines, pr.Caller, pr.Allocs = h.ID, h.Shop, h.Lines, h.Caller, h.Allocs
		pr.Outcome = backends.OutcomeGranted
	} else if it.ask != nil {
		pr.Hold, pr.Shop, pr.Lines, pr.Caller = it.ask.hold, it.ask.shop, it.ask.lines, it.ask.caller
	}
	if d := it.decision; d != nil {
		pr.Outcome, pr.Short, pr.Seen = d.Outcome, d.Short, d.Seen
	}
	if it.applied != nil {
		pr.Own, pr.Debt = it.applied.Own, it.applied.Debt
	}
	return pr
}
