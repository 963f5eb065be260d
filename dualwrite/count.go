package dualwrite

import (
	"context"
	"errors"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Count is an anonymous take or give-back, answered as Redis would. Errors: a *backends.FieldError for bad input;
// ErrUnavailable or ErrBusy when nothing was done, and nothing will be; in live, ErrOutboxFull among them;
// ErrAmbiguous when it may have been done, or may yet be.
func (p *Pod) Count(ctx context.Context, r *backends.CountRequest) (*backends.CountResult, error) {
	return p.count(ctx, r, false)
}

// count is Count; maybe tells that an earlier attempt may have been done.
func (p *Pod) count(ctx context.Context, r *backends.CountRequest, maybe bool) (*backends.CountResult, error) {
	// What nearly every count is comes first, without the machinery for the rest: it is what legacy
	// checkouts send most.
	if f, held, _ := p.gate.State(); !held && f.Stage.Truth() == backends.SideRedis {
		start := p.o.Clock.Now()
		res, err := p.stores.Redis.Count(ctx, backends.Token{Epoch: f.Epoch}, r)
		took := p.o.Clock.Now().Sub(start)
		p.o.Observer.StoreCall(p.name, backends.SideRedis, "truth", backends.OpCount, err, took)
		if err == nil || backends.IsRejection(err) {
			p.counted(ctx, f, r, res, err, start, took)
			return res, err
		}
		p.refused(err, f, backends.OpCount)
		r, maybe = resent(r), maybe || backends.IsAmbiguous(err)
	}
	return p.countAgain(ctx, r, maybe)
}

// refused learns from a fence that has refused an operation.
func (p *Pod) refused(err error, f backends.Fence, op backends.Op) (fenced bool) {
	var fe *backends.FencedError
	if fenced = errors.As(err, &fe); fenced {
		p.met(fe)
		if fe.Have.Epoch > f.Epoch && fe.Have.Open {
			p.o.Observer.Resubmitted(p.name, op)
		}
	}
	return fenced
}

// counted sees to the mirror of a count with Redis as truth, and tells of it.
func (p *Pod) counted(ctx context.Context, f backends.Fence, r *backends.CountRequest, res *backends.CountResult, err error, start time.Time, took time.Duration) {
	o := backends.OutcomeUnknown
	if err == nil {
		o = backends.OutcomeRestocked
		if res.Entry != nil {
			d := &backends.Decision{Op: backends.OpCount, Outcome: o, Replayed: res.Replayed, Entry: res.Entry}
			p.follow(ctx, f, d, &ask{key: r.Key, caller: r.Caller}, start, took)
		}
	}
	p.o.Observer.Operation(p.name, f.Stage, backends.OpCount, o, err, took)
}

// countAgain does a count in any stage, for as long as its time allows. Who sent it has no id under which he could
// send it again, so that the last error alone must not decide what he is told: in live a count that Redis did not
// accept is in MySQL, and reaches Redis later.
func (p *Pod) countAgain(ctx context.Context, r *backends.CountRequest, maybe bool) (res *backends.CountResult, err error) {
	sent := false
	_, err = p.decide(ctx, backends.OpCount, func(ctx context.Context, s backends.Store, t backends.Token) (*backends.Decision, error) {
		if sent {
			r = resent(r)
		}
		sent = true
		c, err := s.Count(ctx, t, r)
		if err != nil {
			return nil, err
		}
		res = c
		return &backends.Decision{Op: backends.OpCount, Outcome: backends.OutcomeRestocked, Replayed: c.Replayed, Entry: c.Entry}, nil
	}, &ask{key: r.Key, caller: r.Caller, maybe: maybe})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// Counts does the counts of one caller as Count would one after the other, in their order, and answers each.
// With Redis as truth they are one step there. What that leaves undecided is done one by one, under
// the same operation ids.
func (p *Pod) Counts(ctx context.Context, rs []*backends.CountRequest) []backends.CountAnswer {
	out := p.together(ctx, rs)
	for i, r := range rs {
		if out[i].Result == nil && (out[i].Err == nil || !backends.IsRejection(out[i].Err)) {
			if out[i].Err != nil {
				r = resent(r)
			}
			out[i].Result, out[i].Err = p.count(ctx, r, backends.IsAmbiguous(out[i].Err))
		}
	}
	return out
}

// resent is a request that has been sent before.
func resent(r *backends.CountRequest) *backends.CountRequest {
	q := *r
	q.Fresh = false
	return &q
}

// together is the one step. An answer with neither result nor rejection decides nothing.
func (p *Pod) together(ctx context.Context, rs []*backends.CountRequest) []backends.CountAnswer {
	f, held, _ := p.gate.State()
	truth, ok := p.stores.Of(f.Stage.Truth()).(backends.BatchCounter)
	if held || !ok || f.Arbitrates() {
		return make([]backends.CountAnswer, len(rs))
	}
	start := p.o.Clock.Now()
	out := truth.Counts(ctx, backends.Token{Epoch: f.Epoch}, rs)
	took := p.o.Clock.Now().Sub(start)
	var failed error
	for i := range out {
		switch a := &out[i]; {
		case a.Result != nil || a.Err != nil && backends.IsRejection(a.Err):
			p.counted(ctx, f, rs[i], a.Result, a.Err, start, took)
		case a.Err != nil:
			failed = a.Err
		}
	}
	p.o.Observer.StoreCall(p.name, f.Stage.Truth(), "truth", backends.OpCount, failed, took)
	p.refused(failed, f, backends.OpCount)
	return out
}
