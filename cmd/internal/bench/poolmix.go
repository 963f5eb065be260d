package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// claimSupply bounds the holds that are made for one run of claims; claimRate is what they are made
	// for before the first run has told.
	claimSupply = 40_000
	claimRate   = 2_000
	claimSpare  = 2 // times what the last run used
)

func metricPoolClaim() *metric {
	return &metric{
		name: "pool.claim", what: "claims of one hot item, combined over single, 128 in flight",
		a: oursIs + "; the holds are made before each run", b: singleIs + "; likewise",
		rows: []row{{figure: "rate", unit: "x", goal: target{atLeast, 6}}},
		run: func(ctx context.Context, e *env, m *metric) error {
			a := newAssortment(1, false)
			ours, theirs, err := e.rivals(ctx, a, 1)
			if err != nil {
				return err
			}
			defer closeAll(ours, theirs)
			_, err = e.compare(ctx, m, ours.claiming(e, asDefault, a), theirs.claiming(e, combineOff, a))
			return err
		},
	}
}

// claiming is a side that claims holds made beforehand, as long as they last.
func (p *pool) claiming(e *env, what string, a *assortment) side {
	var ids []backends.HoldID
	rate := float64(claimRate)
	supply := func(ctx context.Context) error {
		n := min(claimSupply, int(rate*claimSpare*e.o.Duration.Seconds())+inFlight)
		ids = make([]backends.HoldID, n)
		locations := []backends.Location{benchPlace}
		err := togetherBy(ctx, inFlight, n, func(ctx context.Context, i int) error {
			ids[i] = p.holdID()
			return granted(p.s.Reserve(ctx, benchToken, &backends.ReserveRequest{
				ID: ids[i], Shop: benchShop, TTL: holdTTL, Caller: "checkout", Lines: []backends.Line{{Item: a.items[0], Quantity: 1, Locations: locations}},
			}))
		})
		if err != nil {
			return err
		}
		return p.quiet(ctx)
	}
	return side{what: what, before: supply, run: func(ctx context.Context, d time.Duration) (figures, error) {
		var next atomic.Int64
		s, err := closed(ctx, inFlight, d, each(func(int) op {
			return func(ctx context.Context) (int, error) {
				i := next.Add(1) - 1
				if i >= int64(len(ids)) {
					return 0, errSpent
				}
				d, err := p.s.Claim(ctx, benchToken, &backends.ClaimRequest{ID: ids[i], Shop: benchShop, Caller: "payments"})
				if err == nil && d.Outcome != backends.OutcomeClaimed {
					err = fmt.Errorf("a claim was answered %s", d.Outcome)
				}
				return 1, err
			}
		}))
		if err != nil {
			return nil, err
		}
		rate = s.rate()
		return s.figures(), nil
	}}
}

// mixing makes workers that reserve, and then release or claim, in turn: what InnoDB deletes at the head
// of the pool comes back at its tail.
func (p *pool) mixing(a *assortment) maker {
	return each(func(w int) op {
		locations := []backends.Location{benchPlace}
		step := w
		var held backends.HoldID
		return func(ctx context.Context) (int, error) {
			if held == "" {
				id := p.holdID()
				err := granted(p.s.Reserve(ctx, benchToken, &backends.ReserveRequest{
					ID: id, Shop: benchShop, TTL: holdTTL, Caller: "checkout", Lines: []backends.Line{{Item: a.items[0], Quantity: 1, Locations: locations}},
				}))
				if err == nil {
					held = id
				}
				return 1, err
			}
			id := held
			held = ""
			if step++; step%2 == 0 {
				_, err := p.s.Release(ctx, benchToken, &backends.ReleaseRequest{ID: id, Caller: "checkout"})
				return 1, err
			}
			_, err := p.s.Claim(ctx, benchToken, &backends.ClaimRequest{ID: id, Shop: benchShop, Caller: "payments"})
			return 1, err
		}
	})
}

const (
	// rotWorkers is a busy shop, not a flash sale: rot is about time, not about crowds.
	rotWorkers = 32
	// rotSides: the time under a snapshot is so many durations of a run: 60 s of load at full length.
	rotDurations = 20
)

func metricPoolRot() *metric {
	return &metric{
		name: "pool.rot", what: "throughput with a neighbour's snapshot open for 60 s over without, reserve–release–claim mix, 32 callers",
		a:    "mysqlstore as configured by default; on its server a neighbour opened a REPEATABLE READ snapshot before the first run and keeps it for 60 s of load",
		b:    "the same on a second server without a neighbour; the runs alternate, and the last half of the pairs counts, when the snapshot is oldest",
		rows: []row{{figure: "rate", unit: "x", goal: target{atLeast, 0.9}}},
		run:  runPoolRot,
	}
}

func runPoolRot(ctx context.Context, e *env, m *metric) error {
	a := newAssortment(1, false)
	var pools [2]*pool
	for i, name := range []string{"mysql", "mysql without a neighbour"} {
		srv, err := e.mysql(ctx, name)
		if err != nil {
			return err
		}
		if pools[i], err = e.newPool(ctx, srv, nil); err != nil {
			return err
		}
		defer pools[i].close()
		if err := pools[i].stock(ctx, a, plenty); err != nil {
			return err
		}
	}
	if err := e.fair("mysql", "mysql without a neighbour", false); err != nil {
		return err
	}
	snapshot, err := openSnapshot(ctx, pools[0].db)
	if err != nil {
		return err
	}
	defer snapshot.end()
	sides := make([]side, 2)
	for i, what := range []string{"with a snapshot", "without"} {
		// No rest before a run: under the snapshot purge never comes to its end.
		sides[i] = side{what: what, run: func(ctx context.Context, d time.Duration) (figures, error) {
			s, err := closed(ctx, rotWorkers, d, pools[i].mixing(a))
			if err != nil {
				return nil, err
			}
			return s.figures(), nil
		}}
	}
	keep := e.o
	defer func() { e.o = keep }()
	e.o.Pairs = keep.Pairs * 2
	e.o.Duration = keep.Duration * rotDurations / time.Duration(e.o.Pairs)
	pairs, err := e.paired(ctx, m, sides...)
	if err != nil {
		return err
	}
	if err := snapshot.still(ctx); err != nil {
		return err
	}
	v := m.compared(m.rows[0], pairs[keep.Pairs:], sides)
	early := ratios(pairs[:keep.Pairs], "rate", 0, 1)
	v.Beside = append(v.Beside, Side{What: "the first half of the pairs", Figures: figures{"ratio": median(early)}})
	e.rep.add(v)
	return nil
}

// snapshot is a neighbour's open read view.
type snapshot struct{ c *sql.Conn }

func openSnapshot(ctx context.Context, db *sql.DB) (*snapshot, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	s := &snapshot{c}
	if _, err := c.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
		s.end()
		return nil, err
	}
	return s, s.still(ctx)
}

// still reads in the snapshot: without it the metric would have measured nothing.
func (s *snapshot) still(ctx context.Context) error {
	var n, open int
	err := s.c.QueryRowContext(ctx, "SELECT COUNT(*) FROM crossfade_holds").Scan(&n)
	if err == nil {
		err = s.c.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = CONNECTION_ID() AND trx_isolation_level = 'REPEATABLE READ'").Scan(&open)
	}
	switch {
	case err != nil:
		return fmt.Errorf("the neighbour's snapshot: %w", err)
	case n != 0 || open != 1:
		return errors.New("the neighbour's snapshot is gone: it sees what was reserved since")
	}
	return nil
}

func (s *snapshot) end() {
	_, _ = s.c.ExecContext(context.Background(), "ROLLBACK") // the connection is closed next
	_ = s.c.Close()
}
