package dualwrite

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// lanes are bounded queues; what belongs to one hold (or one key) always takes the same lane, so
// that its states are mirrored in their order and the shadow sees each as a fresh decision.
type lanes struct {
	qs []chan item
	// waited is how long what each lane took last had waited, in nanoseconds; 0 once nothing does.
	waited []atomic.Int64

	// riding are the outbox entries that are in a lane, or being mirrored from one: a sweep leaves
	// them alone, or a shadow that has fallen behind would be given everything twice.
	mu     sync.Mutex
	riding map[string]ride
}

func newLanes(n, depth int) *lanes {
	l := &lanes{qs: make([]chan item, n), waited: make([]atomic.Int64, n), riding: map[string]ride{}}
	for i := range l.qs {
		l.qs[i] = make(chan item, depth)
	}
	return l
}

// laneHash is FNV-1a: the same in every process, so that a simulated schedule replays.
func laneHash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func laneOf(it *item) uint64 {
	switch {
	case it.entry.Hold != nil:
		return laneHash(string(it.entry.Hold.ID))
	case it.entry.Level != nil:
		return laneHash(string(it.entry.Level.Key.Item))
	case it.probe && len(it.ask.reserve.Lines) > 0: // refusals of an item share looks
		return laneHash(string(it.ask.reserve.Lines[0].Item))
	case it.ask != nil:
		return laneHash(string(it.ask.hold))
	default:
		return 0
	}
}

// offer never blocks; false means that the lane is full.
func (l *lanes) offer(h uint64, it item) bool {
	seq := it.entry.Seq
	if seq != "" {
		l.mu.Lock()
		l.riding[seq] = ride{fence: it.fence, entry: it.entry}
		l.mu.Unlock()
	}
	select {
	case l.qs[h%uint64(len(l.qs))] <- it:
		return true
	default:
		l.left(seq)
		return false
	}
}

// left forgets entries whose lane is done with them, whatever became of them.
func (l *lanes) left(seqs ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range seqs {
		delete(l.riding, s)
	}
}

// rides tells whether an entry is in a lane of this proxy.
func (l *lanes) rides(seq string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.riding[seq]
	return ok
}

// all are the entries that ride, in the order of their places in the outbox: a simulated schedule replays.
func (l *lanes) all() []ride {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]ride, 0, len(l.riding))
	for _, r := range l.riding {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b ride) int { return cmp.Compare(a.entry.Seq, b.entry.Seq) })
	return out
}

// given notes that Redis has been given what rides from before an epoch.
func (l *lanes) given(rs []ride, epoch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range rs {
		if r, ok := l.riding[rs[i].entry.Seq]; ok {
			r.given = epoch
			l.riding[rs[i].entry.Seq] = r
		}
	}
}

// depth counts what waits.
func (l *lanes) depth() int {
	n := 0
	for _, q := range l.qs {
		n += len(q)
	}
	return n
}

// take gets the first item of a lane and what else is there, up to MirrorBatch; nil when the
// context is done.
func (l *lanes) take(ctx context.Context, lane int, buf []item) []item {
	buf = buf[:0]
	select {
	case it := <-l.qs[lane]:
		buf = append(buf, it)
	case <-ctx.Done():
		return nil
	}
	return l.more(lane, buf)
}

// more adds what is there without waiting.
func (l *lanes) more(lane int, buf []item) []item {
	for len(buf) < MirrorBatch {
		select {
		case it := <-l.qs[lane]:
			buf = append(buf, it)
		default:
			return buf
		}
	}
	return buf
}

// linger waits a little for the batch to fill, but for a held gate: then callers wait for a drain. What it has it keeps when
// the context ends.
func (l *lanes) linger(ctx context.Context, c Clock, held func() bool, lane int, buf []item) []item {
	for waited := time.Duration(0); waited < laneLinger && len(buf) < MirrorBatch && !held(); waited += lanePeek {
		if c.Wait(ctx, nil, lanePeek) != nil {
			break
		}
		buf = l.more(lane, buf)
	}
	return buf
}

// took notes how long what a lane has taken had waited by now.
func (l *lanes) took(lane int, now time.Time, buf []item) {
	oldest := time.Duration(0)
	for i := range buf {
		if !buf[i].at.IsZero() {
			oldest = max(oldest, now.Sub(buf[i].at))
		}
	}
	l.waited[lane].Store(int64(oldest))
}

// done notes that a lane has handled what it took.
func (l *lanes) done(lane int) {
	if len(l.qs[lane]) == 0 {
		l.waited[lane].Store(0)
	}
}

// lag is how long what the lanes handle now had waited, at most.
func (l *lanes) lag() (most time.Duration) {
	for i := range l.waited {
		most = max(most, time.Duration(l.waited[i].Load()))
	}
	return most
}

// LaneStep handles what waits in one lane, without waiting for more; it answers how many items
// it took. It is how a simulation turns the lanes.
func (p *Pod) LaneStep(ctx context.Context, lane int) int {
	buf := p.lanes.more(lane%len(p.lanes.qs), nil)
	p.handle(ctx, buf)
	return len(buf)
}

// LaneDepth counts what waits in all lanes.
func (p *Pod) LaneDepth() int { return p.lanes.depth() }

// handle mirrors, finishes and probes what a lane gave, each kind in its order: entries are as few mirror steps as can be,
// and refusals of equal carts one look. Probes come last, and see what stood behind them in the lane as well: they say
// when they looked. Were they to keep their places, each would end a mirror step, and a flash sale has more of them than
// of anything else.
func (p *Pod) handle(ctx context.Context, its []item) {
	slices.SortStableFunc(its, func(a, b item) int { return cmp.Compare(kindOf(&a), kindOf(&b)) })
	seqs := make([]string, len(its))
	for i := range its {
		seqs[i] = its[i].entry.Seq
	}
	defer p.lanes.left(seqs...)
	for len(its) > 0 {
		kind := kindOf(&its[0])
		n := 1
		for n < len(its) && kindOf(&its[n]) == kind && its[n].fence.Stage.Truth() == its[0].fence.Stage.Truth() {
			n++
		}
		if kind != kindProbe {
			n = batchOf(its[:n])
		}
		batch := its[:n]
		its = its[n:]
		f := p.gate.Serving()
		if f.Stage.Truth() != batch[0].fence.Stage.Truth() || !f.Stage.TakesMirrors(shadowOf(f)) {
			p.keep(batch...)
			p.abandon(batch)
			continue
		}
		switch kind {
		case kindProbe:
			p.Probes(ctx, f, batch)
		case kindApplied:
			p.finish(ctx, f, batch, false)
		default:
			p.carry(ctx, f, batch)
		}
	}
}

// carry brings entries to the shadow. What it does not confirm is kept, and what an earlier epoch decided goes to the truth
// first: a Redis that was replaced since does not have it.
func (p *Pod) carry(ctx context.Context, f backends.Fence, batch []item) {
	if earlier(batch, f.Epoch) {
		if batch = p.withoutDeltas(f, batch); len(batch) == 0 {
			return
		}
		if p.returned(ctx, f, batch) != nil {
			p.keep(batch...)
			return
		}
	}
	p.Mirror(ctx, f, batch, false)
	if left := unapplied(batch); len(left) < len(batch) {
		// A lock was in the way of some. Later states of theirs may come next in this lane, and must not overtake them.
		p.Mirror(ctx, f, left, false)
	}
	p.keep(batch...)
}

// earlier tells whether some were decided before an epoch: seldom, and only just after it has begun.
func earlier(its []item, epoch uint64) bool {
	for i := range its {
		if its[i].fence.Epoch < epoch {
			return true
		}
	}
	return false
}

// withoutDeltas leaves restocks of an earlier epoch to GiveBack, which asks MySQL first.
func (p *Pod) withoutDeltas(f backends.Fence, batch []item) (rest []item) {
	for i := range batch {
		if r := (ride{fence: batch[i].fence, entry: batch[i].entry}); r.mayBeLost(f.Epoch) && r.delta() {
			p.keep(batch[i])
		} else {
			rest = append(rest, batch[i])
		}
	}
	return rest
}

// returned gives Redis what it had decided under an earlier epoch.
func (p *Pod) returned(ctx context.Context, f backends.Fence, batch []item) error {
	var rs []*ride
	for i := range batch {
		if r := (ride{fence: batch[i].fence, entry: batch[i].entry}); r.mayBeLost(f.Epoch) {
			rs = append(rs, &r)
		}
	}
	return p.give(ctx, f, rs)
}

// unapplied are the items of a step that the shadow has not confirmed.
func unapplied(its []item) (left []item) {
	for i := range its {
		if its[i].applied == nil {
			left = append(left, its[i])
		}
	}
	return left
}

// batchOf tells how many of its make one mirror step: at most MirrorBatch, and no more work than a
// shadow does well within MirrorTimeout.
func batchOf(its []item) int {
	lines := 0
	for i := range its {
		if i == MirrorBatch {
			return i
		}
		if h := its[i].entry.Hold; h != nil {
			lines += len(h.Lines)
		}
		if lines > mirrorLines && i > 0 {
			return i
		}
	}
	return len(its)
}

// abandon lets go of items whose truth is not the truth any more. Entries stay in their outbox for
// Settle; a probe has nothing left to be compared with.
func (p *Pod) abandon(its []item) {
	for i := range its {
		if its[i].probe {
			p.o.Comparer.SampledOut(its[i].fence.Epoch, 1)
		}
	}
}

type itemKind uint8

const (
	kindEntry itemKind = iota
	kindApplied
	kindProbe
)

func kindOf(it *item) itemKind {
	switch {
	case it.probe:
		return kindProbe
	case it.applied != nil:
		return kindApplied
	default:
		return kindEntry
	}
}

// sampler decides which refusals are probed.
type sampler struct{ share float64 }

func newSampler(share *float64) sampler {
	if share == nil {
		return sampler{1}
	}
	return sampler{min(1, max(0, *share))}
}

func (s sampler) take() bool {
	return s.share >= 1 || s.share > 0 && rand.Float64() < s.share //nolint:gosec // sampling, not a secret
}
