package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

func metricPoolSoldOut() *metric {
	const pod = "soldout"
	return &metric{
		name: "pool.soldout", what: "refusals of a sold-out item over plain DECR straight to Redis, both over sockets, 128 in flight; SQL statements for 1,000 refusals",
		a: "XF.RESERVE of an item that is sold out, through a proxy process, pod in live, 128 connections, pipeline 1",
		b: "DECR on a plain key straight to Redis, 128 connections, pipeline 1",
		rows: []row{
			{figure: "rate", unit: "x", goal: target{atLeast, 0.5}},
			{suffix: ".sql", figure: "statements", unit: "per 1,000", goal: target{atMost, 10}},
		},
		run: func(ctx context.Context, e *env, m *metric) error {
			d, err := e.newDoor(ctx, pod)
			if err != nil {
				return err
			}
			defer func() { _ = d.close() }() // it is ended by force
			if err := d.sellOut(ctx, pod); err != nil {
				return err
			}
			return e.refusals(ctx, m, d, pod)
		},
	}
}

// sellOut moves a pod to live with one unit, and takes it.
func (d *door) sellOut(ctx context.Context, pod string) error {
	if err := d.restock(ctx, pod, 1); err != nil {
		return err
	}
	if err := d.move(ctx, pod, backends.Shadow, backends.Live); err != nil {
		return err
	}
	c, err := dialRESP(ctx, d.addr)
	if err != nil {
		return err
	}
	defer c.close()
	return c.exchange(command(reserveArgs(pod, "first")...), 1, "granted")
}

func (e *env) refusals(ctx context.Context, m *metric, d *door, pod string) error {
	db, err := openSQL(d.dsn, 1)
	if err != nil {
		return err
	}
	defer db.Close()
	kv := e.servers["redis"].Addr()
	plain := d.tag + "x:" + pod
	// What the proxy and we ask without a buyer is not the refusals'.
	idle, err := e.statements(ctx, db, func() error { return pause(ctx, max(e.o.Duration, time.Second)) })
	if err != nil {
		return err
	}
	refuse := overRESP(ctx, d.addr, 1, "sold_out", e.numbers(), reserveArgs(pod, d.tag)...)
	var perThousand []float64
	counted := side{what: "refusals", run: func(ctx context.Context, dur time.Duration) (figures, error) {
		var s *sample
		asked, err := e.statements(ctx, db, func() (err error) {
			s, err = closed(ctx, inFlight, dur, refuse)
			return err
		})
		if err != nil {
			return nil, err
		}
		f := s.figures()
		const thousand = 1000
		f["statements"] = max(0, asked.n-idle.n/idle.took.Seconds()*asked.took.Seconds()) / float64(s.done) * thousand
		f["selects"] = max(0, asked.selects-idle.selects/idle.took.Seconds()*asked.took.Seconds()) / float64(s.done) * thousand
		perThousand = append(perThousand, f["statements"])
		return f, nil
	}}
	sides := []side{counted, overSockets("DECR", inFlight, overRESP(ctx, kv, 1, "", nil, "DECR", plain))}
	pairs, err := e.alternate(ctx, m, sides...)
	if err != nil {
		return err
	}
	e.sound(baseDirect, medians(pairs, 1)["rate"])
	perThousand = perThousand[len(perThousand)-len(pairs):] // without the warm-up
	e.rep.add(m.compared(m.rows[0], pairs, sides), m.plain(m.rows[1], perThousand, Side{What: "refusals", Figures: medians(pairs, 0)}))
	return nil
}

// asked is what a server was asked in a while.
type asked struct {
	n, selects float64
	took       time.Duration
}

// statements counts those that the server was sent while f ran.
func (*env) statements(ctx context.Context, db *sql.DB, f func() error) (asked, error) {
	read := func() (q, sel float64, err error) {
		if q, err = status(ctx, db, "Questions"); err == nil {
			sel, err = status(ctx, db, "Com_select")
		}
		return q, sel, err
	}
	q0, s0, err := read()
	if err != nil {
		return asked{}, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return asked{}, err
	}
	took := time.Since(began)
	q1, s1, err := read()
	const own = 2 // our reads between the two of a counter
	return asked{n: max(0, q1-q0-own), selects: max(0, s1-s0), took: took}, err
}

// status reads a counter of the server.
func status(ctx context.Context, db *sql.DB, name string) (float64, error) {
	var n, value string
	if err := db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(&n, &value); err != nil {
		return 0, fmt.Errorf("reading %s: %w", name, err)
	}
	return strconv.ParseFloat(value, 64)
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	flashUnits  = 100
	flashBuyers = 100_000
	// flashQuick is how many come in the short form.
	flashQuick = 10_000
	flashCrowd = 512
	// flashRuns are tried, as long as the time of flashFor is not over.
	flashRuns = 5
	flashFor  = 30 * time.Second
)

func metricPoolFlash() *metric {
	return &metric{
		name: "pool.flash", what: "100 units, 100,000 buyers: how many are granted, and InnoDB row lock waits",
		a: oursIs + "; 512 buyers at a time, each comes once; a plain figure of up to five sales",
		rows: []row{
			{figure: "granted", unit: "granted", goal: target{exactly, flashUnits}},
			{suffix: ".lock_waits", figure: "lock_waits", unit: "waits", goal: target{atMost, 1000}},
		},
		run: runPoolFlash,
	}
}

func runPoolFlash(ctx context.Context, e *env, m *metric) error {
	srv, err := e.mysql(ctx, "mysql")
	if err != nil {
		return err
	}
	p, err := e.newPool(ctx, srv, nil)
	if err != nil {
		return err
	}
	defer p.close()
	buyers := flashBuyers
	if e.o.Quick {
		buyers = flashQuick
	}
	var grantedOf, waits, rates []float64
	for began := time.Now(); len(waits) == 0 || len(waits) < min(flashRuns, e.o.Pairs) && time.Since(began) < flashFor; {
		if err := p.quiet(ctx); err != nil {
			return err
		}
		f, err := p.flash(ctx, backends.Item(fmt.Sprintf("flash-%d", e.next())), buyers)
		if err != nil {
			return err
		}
		e.say("%-18s %d buyers: %s", m.name, buyers, f.long())
		grantedOf, waits, rates = append(grantedOf, f["granted"]), append(waits, f["lock_waits"]), append(rates, f["rate"])
	}
	s := Side{What: fmt.Sprintf("%d buyers", buyers), Figures: figures{"rate": median(rates), "sales": float64(len(rates))}}
	v := m.plain(m.rows[0], grantedOf, s)
	for _, g := range grantedOf { // one sale that is not exact is a miss, whatever the median
		if g != flashUnits {
			v.decide(Missed)
		}
	}
	e.rep.add(v, m.plain(m.rows[1], waits, s))
	return nil
}

// flash sells an item to a crowd.
func (p *pool) flash(ctx context.Context, item backends.Item, buyers int) (figures, error) {
	if err := p.stock(ctx, &assortment{items: []backends.Item{item}}, flashUnits); err != nil {
		return nil, err
	}
	before, err := status(ctx, p.db, "Innodb_row_lock_waits")
	if err != nil {
		return nil, err
	}
	var sold, busy atomic.Int64
	locations := []backends.Location{benchPlace}
	began := time.Now()
	err = togetherBy(ctx, flashCrowd, buyers, func(ctx context.Context, _ int) error {
		for {
			d, err := p.s.Reserve(ctx, benchToken, &backends.ReserveRequest{
				ID: p.holdID(), Shop: benchShop, TTL: holdTTL, Caller: "checkout", Lines: []backends.Line{{Item: item, Quantity: 1, Locations: locations}},
			})
			switch {
			case errors.Is(err, backends.ErrBusy): // no verdict: the buyer asks again, as a checkout does
				busy.Add(1)
				continue
			case err != nil:
				return err
			case d.Outcome == backends.OutcomeGranted:
				sold.Add(1)
			case d.Outcome != backends.OutcomeSoldOut:
				return fmt.Errorf("a reserve was answered %s", d.Outcome)
			}
			return nil
		}
	})
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := status(ctx, p.db, "Innodb_row_lock_waits")
	return figures{
		"granted": float64(sold.Load()), "lock_waits": after - before, "busy": float64(busy.Load()), "rate": float64(buyers) / took.Seconds(),
	}, err
}
