package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// openWorkers bounds what is under way in an open loop.
	openWorkers = 128
	// halfOf a capacity is the rate at which latency is measured.
	halfOf = 2
	// drainWithin bounds the wait for a shadow to catch up between runs. A run that begins while the shadow
	// still works would make the other side pay for it.
	drainWithin = 60 * time.Second
	drainPoll   = 100 * time.Millisecond
)

// reserveArgs is a reserve of one unit of the hot item as a checkout sends it; hold ids are numbered, and begin with tag.
func reserveArgs(shop, tag string) []string {
	return []string{"XF.RESERVE", shop, tag + "-" + mark, "TTL", fmt.Sprint(holdTTL.Milliseconds()), "CALLER", "checkout", "LINE", string(hotItem), "1"}
}

// reserves makes workers that reserve through the door, each over a connection of its own.
func (d *door) reserves(ctx context.Context, pod string, next func(int) int64) maker {
	return overRESP(ctx, d.addr, 1, "granted", next, reserveArgs(pod, d.tag)...)
}

// drained waits until the shadow of a pod has everything.
func (d *door) drained(ctx context.Context, pod string) error {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	for {
		rep, err := d.admin.Report(ctx, pod, 0)
		if err == nil && rep.Outbox != nil && rep.Outbox.Entries == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the shadow of pod %s has not caught up within %s: %w", pod, drainWithin, ctx.Err())
		case <-time.After(drainPoll):
		}
	}
}

// atRate is a side in an open loop.
func atRate(what string, rate *float64, before func(context.Context) error, mk maker) side {
	return side{what: what, before: before, run: func(ctx context.Context, d time.Duration) (figures, error) {
		s, err := open(ctx, openWorkers, *rate, d, mk)
		if err != nil {
			return nil, err
		}
		return s.figures(), nil
	}}
}

// capacity is the rate of a side in a closed loop, as the median of some short runs.
func (e *env) capacity(ctx context.Context, before func(context.Context) error, mk maker) (float64, error) {
	const runs, least = 3, 300 * time.Millisecond
	var rates []float64
	for range runs {
		f, err := e.once(ctx, side{what: "capacity", before: before, run: func(ctx context.Context, d time.Duration) (figures, error) {
			s, err := closed(ctx, respConns, d, mk)
			if err != nil {
				return nil, err
			}
			return s.figures(), nil
		}}, max(e.o.Duration/warmShare, least))
		if err != nil && !errors.Is(err, errIdle) {
			return 0, err
		}
		rates = append(rates, f["rate"])
	}
	if median(rates) == 0 {
		return 0, fmt.Errorf("capacity: %w", errIdle)
	}
	return median(rates), nil
}

const (
	podPlain  = "plain"
	podShadow = "shadowed"
)

func metricRespShadow() *metric {
	return &metric{
		name: "resp.shadow", what: "p99 of reserve in shadow over in redis-only, the same open-loop rate at half of the shadow's capacity",
		a:    "XF.RESERVE through a proxy process, pod in shadow (each grant is mirrored to MySQL and compared); the outbox is empty before each run",
		b:    "the same through the same process, another pod, in redis-only",
		rows: []row{{figure: "p99_ms", unit: "x", goal: target{atMost, 1.25}}},
		run:  func(ctx context.Context, e *env, m *metric) error { return runRespShadow(ctx, e, m, false) },
	}
}

func metricRespDeadShadow() *metric {
	return &metric{
		name: "resp.dead_shadow", what: "p99 of reserve in shadow over in redis-only, with MySQL stopped by SIGSTOP for the whole run",
		a:    "XF.RESERVE through a proxy process, pod in shadow, MySQL stopped",
		b:    "the same through the same process, another pod, in redis-only, which needs no MySQL for it",
		rows: []row{{figure: "p99_ms", unit: "x", goal: target{atMost, 1.1}}},
		run:  func(ctx context.Context, e *env, m *metric) error { return runRespShadow(ctx, e, m, true) },
	}
}

func runRespShadow(ctx context.Context, e *env, m *metric, dead bool) error {
	d, err := e.newDoor(ctx, podPlain, podShadow)
	if err != nil {
		return err
	}
	defer func() { _ = d.close() }() // it is ended by force
	for _, pod := range []string{podPlain, podShadow} {
		if err := d.restock(ctx, pod, plenty); err != nil {
			return err
		}
	}
	if err := d.move(ctx, podShadow, backends.Shadow); err != nil {
		return err
	}
	clean := func(ctx context.Context) error { return d.drained(ctx, podShadow) }
	if dead {
		srv := e.servers["mysql"]
		if err := srv.Pause(); err != nil {
			return err
		}
		defer func() { _ = srv.Resume() }() // a server that is gone shows in the next metric
		clean = nil
	}
	next := e.numbers()
	mk := func(pod string) maker { return d.reserves(ctx, pod, next) }
	plain, err := e.capacity(ctx, clean, mk(podPlain))
	if err != nil {
		return err
	}
	shadowed, err := e.capacity(ctx, clean, mk(podShadow))
	if err != nil {
		return err
	}
	rate := min(plain, shadowed) / halfOf
	e.say("%-18s capacity %.0f/s in redis-only, %.0f/s in shadow; both at %.0f/s", m.name, plain, shadowed, rate)
	_, err = e.compare(ctx, m, atRate("shadow", &rate, clean, mk(podShadow)), atRate("redis-only", &rate, clean, mk(podPlain)))
	return err
}

func metricRespLive() *metric {
	const pod = "live"
	return &metric{
		name: "resp.live", what: "p50 and p99 of reserve in live over direct MySQL with one transaction per reserve, open loop at half of the latter's capacity",
		a: "XF.RESERVE through a proxy process, pod in live: MySQL decides, Redis has accepted before the answer",
		b: "one raw transaction per reserve (pool.hot's), called in the generator's process, with the best number of connections of a sweep; beside it, mysqlstore with combining off, called likewise",
		rows: []row{
			{suffix: ".p50", figure: "p50_ms", unit: "x", goal: target{atMost, 1}},
			{suffix: ".p99", figure: "p99_ms", unit: "x", goal: target{atMost, 1}},
		},
		run: func(ctx context.Context, e *env, m *metric) error {
			d, err := e.newDoor(ctx, pod)
			if err != nil {
				return err
			}
			defer func() { _ = d.close() }() // it is ended by force
			if err := d.restock(ctx, pod, plenty); err != nil {
				return err
			}
			if err := d.move(ctx, pod, backends.Shadow, backends.Live); err != nil {
				return err
			}
			return e.liveAgainstDirect(ctx, m, d, pod)
		},
	}
}

func (e *env) liveAgainstDirect(ctx context.Context, m *metric, d *door, pod string) error {
	srv := e.servers["mysql"]
	a := newAssortment(1, false)
	r, err := e.newRaw(ctx, srv, a, e.unitsFor(e.o.Pairs))
	if err != nil {
		return err
	}
	defer r.drop()
	if err := r.tuned(ctx, e, "one raw transaction per reserve", r.oneByOne); err != nil {
		return err
	}
	theirs, err := e.newPool(ctx, srv, single(0))
	if err != nil {
		return err
	}
	defer theirs.close()
	if err := theirs.stock(ctx, a, plenty); err != nil {
		return err
	}
	direct, err := e.capacity(ctx, r.quiet, r.oneByOne())
	if err != nil {
		return err
	}
	rate := direct / halfOf
	e.say("%-18s direct MySQL has a capacity of %.0f/s; all at %.0f/s", m.name, direct, rate)
	_, err = e.compare(ctx, m,
		atRate("live", &rate, func(ctx context.Context) error { return quiet(ctx, r.db) }, d.reserves(ctx, pod, e.numbers())),
		atRate("direct", &rate, r.quiet, r.oneByOne()),
		atRate("single store", &rate, theirs.quiet, theirs.reserving(a, 1, 1)))
	return err
}
