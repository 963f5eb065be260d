package dualwrite

import (
	"context"
	"errors"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Reserve asks the pod's truth for a hold. Errors: a *backends.FieldError for bad input,
// ErrHoldConflict, *UnknownStockError; ErrUnavailable, ErrBusy or ErrAmbiguous when the verdict is
// unknown: the caller may send the same request again under the same id.
func (p *Pod) Reserve(ctx context.Context, r *backends.ReserveRequest) (*backends.Decision, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	d, err := p.decide(ctx, backends.OpReserve, func(ctx context.Context, s backends.Store, t backends.Token) (*backends.Decision, error) {
		return s.Reserve(ctx, t, r)
	}, &ask{hold: r.ID, shop: r.Shop, lines: r.Lines, caller: r.Caller, reserve: r})
	return d, err
}

// Claim tells the truth that payment succeeded. With Redis as truth the ledger is deducted
// through the outbox (Decision.LedgerPending); with wait > 0 Claim then mirrors the entry itself
// and waits up to that long, so that LedgerPending is false when it managed.
func (p *Pod) Claim(ctx context.Context, r *backends.ClaimRequest, wait time.Duration) (*backends.Decision, error) {
	if err := backends.CheckID("hold id", string(r.ID)); err != nil {
		return nil, err
	}
	if err := backends.CheckCaller(r.Caller); err != nil {
		return nil, err
	}
	if len(r.Lines) > 0 {
		if err := backends.CheckLines(r.Shop, r.Lines); err != nil {
			return nil, err
		}
	}
	return p.decide(ctx, backends.OpClaim, func(ctx context.Context, s backends.Store, t backends.Token) (*backends.Decision, error) {
		return s.Claim(ctx, t, r)
	}, &ask{hold: r.ID, shop: r.Shop, lines: r.Lines, caller: r.Caller, wait: wait})
}

// Release gives a hold's units back.
func (p *Pod) Release(ctx context.Context, r *backends.ReleaseRequest) (*backends.Decision, error) {
	if err := backends.CheckID("hold id", string(r.ID)); err != nil {
		return nil, err
	}
	if err := backends.CheckCaller(r.Caller); err != nil {
		return nil, err
	}
	return p.decide(ctx, backends.OpRelease, func(ctx context.Context, s backends.Store, t backends.Token) (*backends.Decision, error) {
		return s.Release(ctx, t, r)
	}, &ask{hold: r.ID, caller: r.Caller})
}

// Extend moves a hold's expiry to its TTL from now, by the truth's clock.
func (p *Pod) Extend(ctx context.Context, r *backends.ExtendRequest) (*backends.Decision, error) {
	if err := backends.CheckID("hold id", string(r.ID)); err != nil {
		return nil, err
	}
	if err := backends.CheckTTL(r.TTL); err != nil {
		return nil, err
	}
	if err := backends.CheckCaller(r.Caller); err != nil {
		return nil, err
	}
	return p.decide(ctx, backends.OpExtend, func(ctx context.Context, s backends.Store, t backends.Token) (*backends.Decision, error) {
		return s.Extend(ctx, t, r)
	}, &ask{hold: r.ID, caller: r.Caller})
}

// Restock changes the units on hand of one key, once per operation id.
func (p *Pod) Restock(ctx context.Context, r *backends.RestockRequest) (*backends.Decision, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	return p.decide(ctx, backends.OpRestock, func(ctx context.Context, s backends.Store, t backends.Token) (*backends.Decision, error) {
		return s.Restock(ctx, t, r)
	}, &ask{key: r.Key, caller: r.Caller})
}

// Get reads a hold from the truth; nil when it is not known.
func (p *Pod) Get(ctx context.Context, id backends.HoldID) (*backends.Hold, error) {
	var h *backends.Hold
	err := p.read(ctx, func(ctx context.Context, s backends.Store) (err error) {
		h, err = s.Get(ctx, id)
		return err
	})
	return h, err
}

// Levels reads levels from the truth.
func (p *Pod) Levels(ctx context.Context, keys []backends.Key) ([]backends.Level, error) {
	var ls []backends.Level
	err := p.read(ctx, func(ctx context.Context, s backends.Store) (err error) {
		ls, err = s.Levels(ctx, keys)
		return err
	})
	return ls, err
}

// ask is what decide has to know of a request besides how to send it.
type ask struct {
	hold    backends.HoldID
	shop    backends.Shop
	lines   []backends.Line
	key     backends.Key
	caller  string
	wait    time.Duration
	reserve *backends.ReserveRequest
	// begun is the epoch of the grant that the comparer was told of: an attempt that finds it again,
	// since Redis could not accept it the first time, is not another decision.
	begun uint64
	// maybe: an earlier attempt may have taken effect, and its answer was lost.
	maybe bool
	// left: an earlier attempt has decided in a truth that could not confirm it; what is there may come to count.
	left bool
}

type call func(context.Context, backends.Store, backends.Token) (*backends.Decision, error)

// decide has the truth decide, under whatever epoch is current, and sees to the mirror. It tries
// again, under the same id, for as long as the operation's time allows: a fence in motion, a
// truth that has changed, an outcome that is unknown.
func (p *Pod) decide(ctx context.Context, op backends.Op, c call, a *ask) (d *backends.Decision, err error) {
	start := p.o.Clock.Now()
	var f backends.Fence
	defer func() {
		o := backends.OutcomeUnknown
		if d != nil {
			o = d.Outcome
		}
		p.o.Observer.Operation(p.name, f.Stage, op, o, err, p.o.Clock.Now().Sub(start))
	}()
	for attempt := 0; ; attempt++ {
		if f, err = p.enter(ctx); err != nil {
			return nil, a.unknown(err, false)
		}
		d, err = p.attempt(ctx, f, op, c, a)
		if err == nil || backends.IsRejection(err) {
			return d, err
		}
		fenced := p.refused(err, f, op)
		moved := p.gate.Serving().Epoch > f.Epoch
		if p.o.Clock.Now().Sub(start) >= p.o.OpTimeout || ctx.Err() != nil || !fenced && !moved && attempt >= 3 {
			return nil, a.unknown(err, fenced)
		}
		if moved {
			if !fenced {
				p.o.Observer.Resubmitted(p.name, op)
			}
			continue
		}
		if !p.gate.Held() {
			// The gate says open and the store says no: it is behind, or out of reach.
			if werr := p.o.Clock.Wait(ctx, nil, retryPause<<min(attempt, 5)); werr != nil {
				return nil, a.unknown(err, fenced)
			}
			if fenced {
				_ = p.Refresh(ctx) // a failure shows at the next attempt
			}
		}
	}
}

// unknown turns the last error of an operation into what the caller is told: that nothing was changed only where no attempt
// may have taken effect. A fence that refused means that nothing was done under the present epoch.
func (a *ask) unknown(err error, fenced bool) error {
	if fenced {
		err = errors.Join(backends.ErrUnavailable, err)
	}
	if (a.maybe || a.left) && !backends.IsAmbiguous(err) {
		err = errors.Join(backends.ErrAmbiguous, err)
	}
	return err
}

// attempt is one try under one fence.
func (p *Pod) attempt(ctx context.Context, f backends.Fence, op backends.Op, c call, a *ask) (*backends.Decision, error) {
	side := f.Stage.Truth()
	t := backends.Token{Epoch: f.Epoch}
	if side == backends.SideMySQL { // Redis's answer is too quick to be overtaken by a switch
		bound, free := p.gate.Bind(ctx, f)
		defer free()
		ctx = bound
	}
	start := p.o.Clock.Now()
	d, err := c(ctx, p.stores.Of(side), t)
	took := p.o.Clock.Now().Sub(start)
	p.o.Observer.StoreCall(p.name, side, "truth", op, err, took)
	if err != nil {
		a.maybe = a.maybe || backends.IsAmbiguous(err)
		return nil, err
	}
	for _, ap := range d.Apologies {
		p.o.Observer.Apology(p.name, ap)
	}
	refused := d.Outcome == backends.OutcomeSoldOut
	if granted := decidedNow(d, f, a.maybe) && a.begun != f.Epoch; a.reserve != nil && f.Stage.Dual() && (refused || granted) {
		p.o.Comparer.Begin(f.Epoch)
		if granted {
			a.begun = f.Epoch
			if d.Dropped { // no entry, so nobody compares it
				p.o.Comparer.Lost(f.Epoch, 1)
			}
		}
	}
	if f.Arbitrates() {
		if err := p.accept(ctx, f, d, a, start, took); err != nil {
			if refused {
				p.o.Comparer.Lost(f.Epoch, 1) // nobody was told
			}
			a.left = a.left || d.Entry != nil || d.Dropped
			return nil, err
		}
		return d, nil
	}
	p.follow(ctx, f, d, a, start, took)
	return d, nil
}

// decidedNow tells whether a grant was decided by this call: by this attempt, or by an earlier one
// of the same call whose answer was lost (then its entry is in the outbox and will be compared).
func decidedNow(d *backends.Decision, f backends.Fence, maybe bool) bool {
	if d.Outcome != backends.OutcomeGranted {
		return false
	}
	return !d.Replayed || maybe && d.Hold != nil && d.Hold.Version == (backends.Version{Epoch: f.Epoch, N: 1})
}

// follow hands what was decided to the mirror lanes: never blocking, never failing.
func (p *Pod) follow(ctx context.Context, f backends.Fence, d *backends.Decision, a *ask, start time.Time, took time.Duration) {
	it := item{fence: f, decision: d, ask: a, took: took, at: start.Add(took)}
	switch {
	case d.Entry != nil:
		it.entry = *d.Entry
		if a.wait > 0 && d.LedgerPending {
			wctx, cancel := context.WithTimeout(ctx, a.wait)
			defer cancel()
			if p.Mirror(wctx, f, []item{it}, false) == 1 {
				d.LedgerPending = false
				return
			}
		}
		p.offer(&it)
	case d.Hold != nil && (d.Dropped || d.Replayed) && (f.Stage.Dual() || d.Hold.State == backends.Claimed):
		// Its entry was dropped, or is that of a try whose answer was lost: should Redis lose it, this proxy knows it.
		it.entry = backends.Entry{Op: d.Op, Hold: d.Hold}
		p.keep(it)
	case d.Op == backends.OpReserve && d.Outcome == backends.OutcomeSoldOut && f.Stage.Dual():
		p.offerProbe(it)
	}
}

// offerProbe has a refusal compared, unless it is sampled out.
func (p *Pod) offerProbe(it item) {
	if !p.probes.take() {
		p.o.Comparer.SampledOut(it.fence.Epoch, 1)
		return
	}
	it.probe = true
	if !p.lanes.offer(laneOf(&it), it) {
		p.o.Observer.LaneFull(p.name, "probe")
		p.o.Comparer.SampledOut(it.fence.Epoch, 1)
	}
}

// arbitrate is the rule of live: nothing is acknowledged that Redis has not accepted at this epoch.
// What changed something is mirrored before the answer. An answer that rests on a hold's
// present state carries that state to Redis as well, since whoever made it may have died before
// he could. An answer that rests on nothing but levels is tied to the epoch by asking Redis.
func (p *Pod) arbitrate(ctx context.Context, f backends.Fence, d *backends.Decision, a *ask, start time.Time, took time.Duration) error {
	it := item{fence: f, decision: d, ask: a, took: took, at: start.Add(took)}
	switch {
	case d.Entry != nil:
		it.entry = *d.Entry
	case d.Hold != nil:
		it.entry = backends.Entry{Op: d.Op, Hold: d.Hold}
	case d.Replayed: // a restock or count done before: its entry may still be in the outbox
		return p.confirmKey(ctx, f, a.key)
	default:
		if err := p.admitted(ctx, f); err != nil {
			return err
		}
		if d.Op == backends.OpReserve && d.Outcome == backends.OutcomeSoldOut {
			p.offerProbe(it)
		}
		return nil
	}
	err := p.applyNow(ctx, f, []item{it})
	if errors.Is(err, backends.ErrOutOfOrder) {
		return p.confirmKey(ctx, f, a.key)
	}
	return err
}

func (p *Pod) admitted(ctx context.Context, f backends.Fence) error {
	start := p.o.Clock.Now()
	err := p.stores.Redis.Admitted(ctx, backends.Token{Epoch: f.Epoch}, true)
	p.o.Observer.StoreCall(p.name, backends.SideRedis, "shadow", backends.OpUnknown, err, p.o.Clock.Now().Sub(start))
	return err
}

// confirmKey mirrors what is pending for a key and ties the answer to the epoch.
func (p *Pod) confirmKey(ctx context.Context, f backends.Fence, key backends.Key) error {
	truth := p.stores.Of(f.Stage.Truth())
	for after := ""; ; {
		es, err := truth.Pending(ctx, after, 0, SweepPage)
		if err != nil {
			return err
		}
		var its []item
		for _, e := range es {
			if e.Level != nil && e.Level.Key == key {
				its = append(its, item{fence: f, entry: e, at: p.o.Clock.Now()})
			}
			after = e.Seq
		}
		if len(its) > 0 {
			if err := p.applyNow(ctx, f, its); err != nil {
				return err
			}
		}
		if len(es) < SweepPage {
			return p.admitted(ctx, f)
		}
	}
}

// read does one read of the truth, tied to its epoch: the store that answered was the truth at
// some instant within the call.
func (p *Pod) read(ctx context.Context, do func(context.Context, backends.Store) error) error {
	start := p.o.Clock.Now()
	for {
		f, err := p.enter(ctx)
		if err != nil {
			return err
		}
		truth := p.stores.Of(f.Stage.Truth())
		if err = do(ctx, truth); err == nil {
			if f.Arbitrates() {
				err = p.confirmed(ctx, f)
			} else {
				err = truth.Admitted(ctx, backends.Token{Epoch: f.Epoch}, false)
			}
		}
		var fe *backends.FencedError
		if !errors.As(err, &fe) {
			return err
		}
		p.met(fe)
		if p.o.Clock.Now().Sub(start) >= p.o.OpTimeout || ctx.Err() != nil {
			return errors.Join(backends.ErrUnavailable, err)
		}
		if !p.gate.Held() {
			if werr := p.o.Clock.Wait(ctx, nil, retryPause); werr != nil {
				return errors.Join(backends.ErrUnavailable, err)
			}
			_ = p.Refresh(ctx)
		}
	}
}
