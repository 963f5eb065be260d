package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

const (
	// maxFiled bounds what a proxy remembers of apologies that it has filed: as many as Redis keeps.
	maxFiled = 100_000
	// collectWithin bounds the reading of one store. A list has reportWithin, and still has to be read when
	// a store has not answered.
	collectWithin = 2 * time.Second
)

// filed is an apology that a store has, and the book too.
type filed struct {
	side backends.Side
	backends.Apology
}

// apologies brings what the stores file into the book. What a proxy has filed it does not file again, until the
// epoch is another one: a store that was replaced or restored serves under a new epoch.
type apologies struct {
	turn  chan struct{} // has room for the one who collects
	epoch uint64
	// redis is how far Redis's stream was read. MySQL's are read from the first: transactions of several
	// proxies commit in another order than that of their numbers.
	redis string
	known map[filed]bool
}

func newApologies() *apologies { return &apologies{turn: make(chan struct{}, 1)} }

// collect files the apologies of the sides given. The error of each is its own.
func (a *apologies) collect(ctx context.Context, p *podRuntime, sides ...backends.Side) map[backends.Side]error {
	errs := map[backends.Side]error{}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-time.After(collectWithin):
		for _, side := range sides {
			errs[side] = fmt.Errorf("%w: another reading of it takes long", backends.ErrBusy)
		}
		return errs
	case <-ctx.Done():
		for _, side := range sides {
			errs[side] = ctx.Err()
		}
		return errs
	}
	if e := p.pod.Gate().Serving().Epoch; e != a.epoch || len(a.known) > maxFiled {
		a.epoch, a.redis, a.known = e, "", nil
	}
	if a.known == nil {
		a.known = map[filed]bool{}
	}
	for _, side := range sides {
		from := ""
		if side == backends.SideRedis {
			from = a.redis
		}
		cctx, cancel := context.WithTimeout(ctx, collectWithin)
		to, err := comparator.ReadApologies(cctx, p.stores.Of(side), from, func(as []backends.Apology) error { return a.file(cctx, p, side, as) })
		cancel()
		if side == backends.SideRedis {
			a.redis = to
		}
		if err != nil {
			errs[side] = err
		}
	}
	return errs
}

func (a *apologies) file(ctx context.Context, p *podRuntime, side backends.Side, as []backends.Apology) error {
	var more []backends.Apology
	for _, x := range as {
		if !a.known[filed{side, x}] {
			more = append(more, x)
		}
	}
	if len(more) == 0 {
		return nil
	}
	if err := p.book.FileApologies(ctx, p.name, side, more); err != nil {
		return findingsAway(err, false)
	}
	for _, x := range more {
		a.known[filed{side, x}] = true
	}
	return nil
}

// keepApologies copies what Redis has filed, so that it outlives Redis.
func (p *podRuntime) keepApologies(ctx context.Context) {
	cctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	p.report("copy apologies", p.sorry.collect(cctx, p, backends.SideRedis)[backends.SideRedis])
}

// apologyReport fills a report's apologies: the oldest open ones, and how many there are.
func (p *podRuntime) apologyReport(ctx context.Context, in *comparator.ReportInput, problem func(string, error)) {
	for side, err := range p.sorry.collect(ctx, p, backends.SideRedis, backends.SideMySQL) {
		problem("apologies of "+side.String(), err)
	}
	rs, err := p.book.ListApologies(ctx, comparator.ApologyQuery{Pod: p.name, Open: true, Limit: reportFindings})
	if err == nil {
		var sum comparator.ApologySum
		if sum, err = p.book.SumApologies(ctx, p.name); err == nil {
			in.ApologySum = &sum
		}
	}
	problem("apologies", err)
	for i := range rs {
		in.Apologies = append(in.Apologies, rs[i].Apology)
	}
	if err == nil {
		return
	}
	as, _, err := p.stores.Redis.Apologies(ctx, "", reportFindings) // what can be had without MySQL
	problem("apologies of redis", err)
	in.Apologies = as
}

// ListApologies gives a pod's apologies, those of this moment included. When Redis does not answer the list is
// what had been copied, and says so.
func (p *Proxy) ListApologies(ctx context.Context, q comparator.ApologyQuery) (as []comparator.ApologyRecord, sum comparator.ApologySum, problems []string, err error) {
	r, err := p.find(q.Pod)
	if err != nil {
		return nil, sum, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	errs := r.sorry.collect(ctx, r, backends.SideRedis, backends.SideMySQL)
	if as, err = r.book.ListApologies(ctx, q); err != nil {
		return nil, sum, nil, findingsAway(err, false)
	}
	if sum, err = r.book.SumApologies(ctx, q.Pod); err != nil {
		return nil, sum, nil, findingsAway(err, false)
	}
	for side, err := range errs {
		problems = append(problems, fmt.Sprintf("what %s has filed could not be read, so the newest may be missing: %v", side, err))
	}
	return as, sum, problems, nil
}

// AckApology acknowledges one.
func (p *Proxy) AckApology(ctx context.Context, pod backends.Pod, id string, a comparator.ApologyAck) (*comparator.ApologyRecord, bool, error) {
	r, err := p.find(pod)
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	rec, changed, err := r.book.AckApology(ctx, pod, id, a)
	if err != nil {
		if errors.Is(err, comparator.ErrNoApology) {
			return nil, false, err
		}
		return nil, false, findingsAway(err, true)
	}
	if changed {
		r.log.Info("an apology was acknowledged", "by", a.By, "hold", string(rec.Hold), "key", rec.Key.String(), "units", rec.Quantity, "why", a.Why)
	}
	return rec, changed, nil
}
