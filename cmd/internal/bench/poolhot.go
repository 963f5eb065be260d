package bench

import (
	"context"
)

// What the sides of the pool's metrics are, in the words of the report.
const (
	asDefault  = "combined"
	combineOff = "single"
	rawPool    = "raw"
	oursIs     = "mysqlstore as configured by default, in live (fence, hold, outbox entry in each transaction), called in this process"
	singleIs   = "mysqlstore with combining off, which keeps the same promises, with the best number of connections of a sweep"
	rawIs      = "; beside it, a raw transaction (begin, select … for update skip locked, delete, insert, commit; no fence, no outbox) with the best of a sweep"
)

func metricPoolHot() *metric {
	return &metric{
		name: "pool.hot", what: "combined over one transaction per reserve, one item, 128 in flight",
		a: oursIs, b: singleIs + rawIs,
		rows: []row{
			{figure: "rate", unit: "x", goal: target{atLeast, 6}},
			{suffix: ".p99", figure: "p99_ms", unit: "x", goal: target{atMost, 0.5}},
		},
		run: func(ctx context.Context, e *env, m *metric) error {
			return e.reserves(ctx, m, newAssortment(1, false), true)
		},
	}
}

func metricPoolSpread() *metric {
	return &metric{
		name: "pool.spread", what: "combined over one transaction per reserve, 1,000 items by Zipf 1.0, 128 in flight",
		a: oursIs, b: singleIs + rawIs,
		rows: []row{{figure: "rate", unit: "x", goal: target{atLeast, 3}}},
		run: func(ctx context.Context, e *env, m *metric) error {
			return e.reserves(ctx, m, newAssortment(manyItems, true), false)
		},
	}
}

// reserves compares combined, single and raw reserves of one unit.
func (e *env) reserves(ctx context.Context, m *metric, a *assortment, reference bool) error {
	ours, theirs, err := e.rivals(ctx, a, 1)
	if err != nil {
		return err
	}
	defer closeAll(ours, theirs)
	r, err := e.newRaw(ctx, e.servers["mysql"], a, e.unitsFor(e.o.Pairs))
	if err != nil {
		return err
	}
	defer r.drop()
	if err := r.tuned(ctx, e, "one raw transaction per reserve", r.oneByOne); err != nil {
		return err
	}
	pairs, err := e.compare(ctx, m,
		ours.side(asDefault, inFlight, ours.reserving(a, 1, 1)),
		theirs.side(combineOff, inFlight, theirs.reserving(a, 1, 2)),
		r.side(rawPool, r.oneByOne()))
	if err == nil && reference {
		e.sound(baseTransaction, medians(pairs, 2)["rate"])
	}
	return err
}

func metricPoolAlone() *metric {
	return &metric{
		name: "pool.alone", what: "a lone caller with combining on over off: the median latency",
		a: oursIs + ", one caller", b: "mysqlstore with combining off, else the same, one caller",
		rows: []row{{figure: "p50_ms", unit: "x", goal: target{atMost, 1.1}}},
		run: func(ctx context.Context, e *env, m *metric) error {
			srv, err := e.mysql(ctx, "mysql")
			if err != nil {
				return err
			}
			a := newAssortment(1, false)
			ours, err := e.newPool(ctx, srv, nil)
			if err != nil {
				return err
			}
			defer ours.close()
			theirs, err := e.newPool(ctx, srv, single(0))
			if err != nil {
				return err
			}
			defer theirs.close()
			for _, p := range []*pool{ours, theirs} {
				if err := p.stock(ctx, a, plenty); err != nil {
					return err
				}
			}
			_, err = e.compare(ctx, m,
				ours.side(asDefault, 1, ours.reserving(a, 1, 1)), theirs.side(combineOff, 1, theirs.reserving(a, 1, 1)))
			return err
		},
	}
}

func metricPoolHotVsSpread() *metric {
	const some = 100
	return &metric{
		name: "pool.hot_vs_spread", what: "throughput on one item over throughput on 100 items, both combined, 128 in flight",
		a: oursIs + ", one item", b: "the same over 100 items, each as likely",
		rows: []row{{figure: "rate", unit: "x", goal: target{atLeast, 0.9}}},
		run: func(ctx context.Context, e *env, m *metric) error {
			srv, err := e.mysql(ctx, "mysql")
			if err != nil {
				return err
			}
			hot, spread := newAssortment(1, false), newAssortment(some, false)
			p, err := e.newPool(ctx, srv, nil)
			if err != nil {
				return err
			}
			defer p.close()
			if err := p.stock(ctx, spread, plenty); err != nil { // the one item is one of the hundred
				return err
			}
			_, err = e.compare(ctx, m,
				p.side("one item", inFlight, p.reserving(hot, 1, 1)), p.side("100 items", inFlight, p.reserving(spread, 1, 2)))
			return err
		},
	}
}

func metricPoolCart() *metric {
	const lines = 20
	return &metric{
		name: "pool.cart", what: "carts of 20 lines a second, combined over single, 1,000 items by Zipf 1.0, 128 in flight",
		a: oursIs, b: singleIs,
		rows: []row{{figure: "rate", unit: "x", goal: target{atLeast, 3}}},
		run: func(ctx context.Context, e *env, m *metric) error {
			a := newAssortment(manyItems, true)
			ours, theirs, err := e.rivals(ctx, a, lines)
			if err != nil {
				return err
			}
			defer closeAll(ours, theirs)
			_, err = e.compare(ctx, m,
				ours.side(asDefault, inFlight, ours.reserving(a, lines, 1)), theirs.side(combineOff, inFlight, theirs.reserving(a, lines, 2)))
			return err
		},
	}
}
