package dualwrite

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// sweptTruth is how long after MySQL's reading of its clock a decision may have been committed that
// another proxy made: longer than DefaultOpTimeout. Redis reads its clock and decides in one step.
const sweptTruth = 2 * DefaultOpTimeout

// nowCache keeps the last reading of a store's clock for nowTrusted.
type nowCache struct {
	mu   sync.Mutex
	side backends.Side
	last reading
	// failed is when the clock could not be read, why, and whose it was; see truthReading.
	failed   time.Time
	failure  error
	failedOf backends.Side
}

// reading is what a store's clock said at some local instant between before and after.
type reading struct {
	now           backends.Instant
	before, after time.Time
}

// drift is how far two clocks may part, as a share of the time that passes: time services slew each by 500
// parts in a million at most.
const drift = 1000

// span is the store's time at some local instant between from and to. A store's instant is a whole
// millisecond, rounded down.
func (r reading) span(from, to time.Time) comparator.Span {
	before, after := from.Sub(r.after), to.Sub(r.before)
	return comparator.Span{
		From: r.now.Add(before - before.Abs()/drift - 2*time.Millisecond),
		To:   r.now.Add(after + after.Abs()/drift + 2*time.Millisecond),
	}
}

// shadowNow is the asOf of a mirror attempt: the reading itself, which is in the past.
func (p *Pod) shadowNow(ctx context.Context, side backends.Side) (reading, error) {
	return p.nows.read(ctx, p, side)
}

// readClock is a store's time now: the cached reading and what has passed here since.
func (p *Pod) readClock(ctx context.Context, c *nowCache, side backends.Side) (backends.Instant, error) {
	r, err := c.read(ctx, p, side)
	if err != nil {
		return 0, err
	}
	return r.now.Add(p.o.Clock.Now().Sub(r.before)), nil
}

func (c *nowCache) read(ctx context.Context, p *Pod, side backends.Side) (reading, error) {
	local := p.o.Clock.Now()
	c.mu.Lock()
	if c.side == side && local.Sub(c.last.before) < nowTrusted && !c.last.before.IsZero() {
		r := c.last
		c.mu.Unlock()
		return r, nil
	}
	c.mu.Unlock()
	n, err := p.stores.Of(side).Now(ctx)
	if err != nil {
		return reading{}, err
	}
	r := reading{now: n, before: local, after: p.o.Clock.Now()}
	c.mu.Lock()
	c.side, c.last, c.failure = side, r, nil
	c.mu.Unlock()
	return r, nil
}

// failing is why a side's clock could not be read a moment ago; nil when it could, or nobody has tried since.
func (c *nowCache) failing(side backends.Side, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failedOf != side || now.Sub(c.failed) >= nowTrusted {
		return nil
	}
	return c.failure
}

func (c *nowCache) fail(side backends.Side, now time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failedOf, c.failed, c.failure = side, now, err
}

// truthSpan is when a state was reached in the truth: it reads its clock within the call, and has decided by
// the end of it.
func truthSpan(it *item, truth backends.Side) comparator.Span {
	s := comparator.Span{From: it.entry.At, To: it.entry.At + 1}
	switch {
	case it.entry.At == 0: // a state that was there already
		s.To = comparator.Never
	case truth == backends.SideRedis:
	case it.took > 0:
		s.To = s.To.Add(it.took)
	default:
		s.To = s.To.Add(sweptTruth)
	}
	return s
}

// decisionSpan is when the truth decided what to grant. MySQL may have made its plan earlier in the call than it
// took the units.
func decisionSpan(it *item, truth backends.Side) comparator.Span {
	s := truthSpan(it, truth)
	if truth != backends.SideRedis && s.From > 0 {
		s.From = s.From.Add(it.entry.At.Sub(s.To))
	}
	return s
}

// truthReading reads the truth's clock for a comparison. It does not wait for a truth that hangs: lanes have more to do.
// One that did not answer is not asked again for nowTrusted, or a lane would wait for it once for each item.
func (p *Pod) truthReading(ctx context.Context, truth backends.Side) (reading, error) {
	if err := p.truthNows.failing(truth, p.o.Clock.Now()); err != nil {
		return reading{}, err
	}
	rctx, cancel := context.WithTimeout(ctx, nowTrusted)
	defer cancel()
	r, err := p.truthNows.read(rctx, p, truth)
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) { // who is stopped says nothing of the truth
		p.truthNows.fail(truth, p.o.Clock.Now(), err)
	}
	return r, err
}

// attempt is one call that brings entries to the shadow.
type attempt struct {
	f      backends.Fence
	clock  reading // of the shadow's clock
	from   time.Time
	ticket uint64
}

// tell hands the comparer what an attempt has brought to the shadow, or may have.
func (p *Pod) tell(a *attempt, items []item, res []backends.Applied) {
	fo := comparator.Followed{Ticket: a.ticket, Epoch: a.f.Epoch, Stage: a.f.Stage, Shadow: a.clock.span(a.from, p.o.Clock.Now()), Items: make([]comparator.FollowedItem, len(items))}
	for i := range items {
		it := &items[i]
		fi := comparator.FollowedItem{Entry: it.entry, Truth: truthSpan(it, a.f.Stage.Truth())}
		it.followed = comparator.Span{To: fo.Shadow.To}
		if res != nil && res[i].Err == nil {
			fi.Confirmed, fi.Changed = true, res[i].Changed
			if fi.Changed {
				it.followed.From = fo.Shadow.From
			}
		}
		it.clock = a.clock
		fo.Items[i] = fi
	}
	p.o.Comparer.Followed(fo)
}

// spans notes on an observation when the two stores decided what it compares.
func (p *Pod) spans(ctx context.Context, truth backends.Side, it *item, o *comparator.Observation) {
	decided, span := it.at.Add(-it.took), decisionSpan(it, truth)
	if it.at.IsZero() { // a swept entry: only the truth's clock tells when it was decided
		r, err := p.truthReading(ctx, truth)
		if err != nil {
			return
		}
		passed := span.From.Sub(r.now)
		decided = r.before.Add(passed - passed.Abs()/drift - 2*time.Millisecond)
	}
	o.Decided, o.TruthSpan, o.ShadowSpan, o.RecordSince = decided, span, it.followed, it.clock.span(decided, decided).From
	if o.ShadowSpan.From == 0 {
		o.ShadowSpan.From = o.RecordSince // an earlier attempt brought it there, after the truth had decided
	}
}

// probedAt notes on a refusal's observation when the truth refused, within its call, and when the shadow was
// asked.
func (p *Pod) probedAt(ctx context.Context, truth backends.Side, it *item, l *glance, o *comparator.Observation) {
	r, err := p.truthReading(ctx, truth)
	if err != nil {
		return
	}
	begun := it.at.Add(-it.took)
	o.Decided, o.TruthSpan, o.ShadowSpan, o.RecordSince = begun, r.span(begun, it.at), l.clock.span(l.from, l.to), l.clock.span(begun, begun).From
}
