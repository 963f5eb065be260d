package mysqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// unitLock is a record lock on the units table, as performance_schema.data_locks has it.
type unitLock struct{ index, mode, status, data string }

func unitLocks(t *testing.T, ctx context.Context, db *sql.DB) (out []unitLock) { //nolint:revive // t is first as everywhere here
	t.Helper()
	rows, err := db.QueryContext(ctx, `SELECT INDEX_NAME, LOCK_MODE, LOCK_STATUS, COALESCE(LOCK_DATA, '') FROM performance_schema.data_locks
		WHERE OBJECT_SCHEMA = DATABASE() AND OBJECT_NAME = 'crossfade_units' AND LOCK_TYPE = 'RECORD'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var l unitLock
		if err := rows.Scan(&l.index, &l.mode, &l.status, &l.data); err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// stopAtHold lets a reserve run until it has everything but its hold row, whose id another
// transaction has inserted and not committed, and calls look then.
func stopAtHold(t *testing.T, r rig, db *sql.DB, q *backends.ReserveRequest, look func()) *backends.Decision {
	t.Helper()
	tx, err := db.BeginTx(r.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // rolled back below; this is for a test that fails
	if _, err := tx.ExecContext(r.ctx, `INSERT INTO crossfade_holds VALUES ('pod-1', ?, '', 1, 1, 1, 1, '', '', '', '', 1, 1, 1, 0, NULL, 1)`, string(q.ID)); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		d   *backends.Decision
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		d, err := r.s.Reserve(r.ctx, token, q)
		answered <- answer{d, err}
	}()
	until(t, r.ctx, "the reserve to reach its hold row", func() bool {
		var waiting int
		err := db.QueryRowContext(r.ctx, `SELECT COUNT(*) FROM performance_schema.data_locks
			WHERE OBJECT_SCHEMA = DATABASE() AND OBJECT_NAME = 'crossfade_holds' AND LOCK_STATUS = 'WAITING'`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
		return waiting == 1
	})
	look()
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	a := <-answered
	if a.err != nil || a.d.Outcome != backends.OutcomeGranted {
		t.Fatalf("the reserve answered %+v, %v", a.d, a.err)
	}
	return a.d
}

// TestOneLockAUnit is the promise of the composite key: reserving n units holds n record locks on the
// units table, and no lock on a gap or on the supremum. The keys are neighbours in the index, and
// the second is taken to its last row, so that a scan that reads too far would be seen.
func TestOneLockAUnit(t *testing.T) {
	srv := lab.ForTest(t, lab.MySQL)
	for _, c := range []struct {
		name      string
		cap       int
		stock     map[backends.Item]int64
		before    []backends.Line // reserved first
		lines     []backends.Line
		locks     int
		confirmed int64
		refills   int64
	}{
		{
			name: "a cart of two items beside a third", stock: map[backends.Item]int64{"m1": 50, "m2": 2, "m3": 50},
			lines: []backends.Line{line("m1", 3), line("m2", 2)}, locks: 5,
		},
		{
			name: "from behind a cursor", stock: map[backends.Item]int64{"m1": 50, "m2": 50},
			before: []backends.Line{line("m1", 10)}, lines: []backends.Line{line("m1", 7)}, locks: 7,
		},
		{
			name: "an empty pool that is being refilled", cap: 8, stock: map[backends.Item]int64{"m1": 100, "m2": 100},
			before: []backends.Line{line("m1", 2)}, lines: []backends.Line{line("m1", 3)}, locks: 0, confirmed: 1, refills: 1,
		},
		{
			name: "the pool and all that is unmaterialised", cap: 8, stock: map[backends.Item]int64{"m1": 10, "m2": 100},
			lines: []backends.Line{line("m1", 10)}, locks: 2, confirmed: 1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dsn := srv.NewDatabase(t)
			db := raw(t, dsn)
			r := live(t, dsn, func(cfg *mysqlstore.Config) { cfg.PoolCap, cfg.NoAhead = c.cap, true })
			for item, n := range c.stock {
				r.stock(t, item, n)
			}
			if c.before != nil {
				r.grant(t, cart("before", c.before...))
			}
			was := r.s.Stats()
			stopAtHold(t, r, db, cart("cart", c.lines...), func() {
				locks := unitLocks(t, r.ctx, db)
				for _, l := range locks {
					if l.index != "PRIMARY" || l.mode != "X,REC_NOT_GAP" || l.status != "GRANTED" || strings.Contains(l.data, "supremum") {
						t.Errorf("a lock that is none of a unit's own: %+v", l)
					}
				}
				if len(locks) != c.locks {
					t.Errorf("%d locks on units, want %d: %+v", len(locks), c.locks, locks)
				}
			})
			is := r.s.Stats()
			if got := is.Confirmed - was.Confirmed; got != c.confirmed {
				t.Errorf("%d confirmed reserves, want %d", got, c.confirmed)
			}
			if got := is.Refills - was.Refills; got != c.refills {
				t.Errorf("%d refills, want %d", got, c.refills)
			}
			if left := unitLocks(t, r.ctx, db); len(left) != 0 {
				t.Errorf("locks after the end: %+v", left)
			}
			r.conserved(t)
		})
	}
}

// TestWaitsForItsOwnOnly: a reserve that waits for the rows of its key does not wait for the first
// row of the next one, which a careless scan would read before it sees the end.
func TestWaitsForItsOwnOnly(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := live(t, dsn)
		for i := range 3 {
			r.stock(t, backends.Item(fmt.Sprintf("m%d", i)), 3)
		}
		tx, err := raw(t, dsn).BeginTx(r.ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback() //nolint:errcheck // nothing was changed
		if _, err := tx.ExecContext(r.ctx, "SELECT id FROM crossfade_units WHERE pod = 'pod-1' AND shop = ? AND item IN ('m0', 'm2') FOR UPDATE", string(shop)); err != nil {
			t.Fatal(err)
		}
		res, err := r.s.Count(r.ctx, token, &backends.CountRequest{OpID: "take", Key: key("m1"), Delta: -4})
		if err != nil || res.Value != -1 {
			t.Fatalf("the count answered %+v, %v, want -1 without a wait for its neighbours", res, err)
		}
	})
}
