package mysqlstore_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// TestFenceIsShared: the fence is every transaction's first lock, and none waits for another there.
// While one reserve stands still before its COMMIT, others of the pod are granted.
func TestFenceIsShared(t *testing.T) {
	srv := lab.ForTest(t, lab.MySQL)
	dsn := srv.NewDatabase(t)
	r := live(t, dsn, func(c *mysqlstore.Config) { c.LockWait = time.Second })
	r.stock(t, "mug", 5)
	r.stock(t, "lamp", 5)
	stopAtHold(t, r, raw(t, dsn), cart("stopped", line("mug", 1)), func() {
		r.grant(t, cart("another item", line("lamp", 1)))
		r.grant(t, cart("the same item", line("mug", 1)))
	})
	r.conserved(t)
}

// TestUnitsHaveOneIndex: one record lock a unit rests on it, also where the locks are implicit ones,
// which performance_schema does not show.
func TestUnitsHaveOneIndex(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := live(t, dsn)
		var indexes, columns int
		err := raw(t, dsn).QueryRowContext(r.ctx, `SELECT COUNT(DISTINCT INDEX_NAME), COUNT(*) FROM information_schema.STATISTICS
			WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'crossfade_units'`).Scan(&indexes, &columns)
		if err != nil || indexes != 1 || columns != 5 {
			t.Fatalf("%d indexes of %d columns together, %v; want the primary key of 5 columns alone", indexes, columns, err)
		}
	})
}

// TestOneGoesForTheRefill: of all who find a pool empty in one proxy, one waits for the level row; the
// others wait for him, without a connection, and are served by what he has refilled.
func TestOneGoesForTheRefill(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		const buyers, size, lookups = 16, 20, 2 // a look at the free rows, and one at what is committed
		dsn := srv.NewDatabase(t)
		db := raw(t, dsn)
		var mu sync.Mutex
		freed := map[string]int{}
		r := live(t, dsn, func(c *mysqlstore.Config) {
			c.PoolCap, c.LockWait, c.NoAhead = size, patience, true
			c.Observe = func(tag, _ string, _ time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				freed[tag]++
			}
		})
		r.stock(t, "mug", 10*size)
		pool := r.level(t, key("mug")).Available
		r.grant(t, cart("all of the pool", line("mug", pool)))
		tx, err := db.BeginTx(r.ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback() //nolint:errcheck // rolled back below; this is for a test that fails
		if _, err := tx.ExecContext(r.ctx, "SELECT 1 FROM crossfade_levels WHERE pod = 'pod-1' FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
		before := r.s.Stats().Confirmed
		errs := make([]error, buyers)
		var all sync.WaitGroup
		for i := range buyers {
			all.Go(func() {
				q := cart(fmt.Sprintf("cart-%d", i), line("mug", 1))
				q.Caller = fmt.Sprintf("buyer-%d", i)
				d, err := r.s.Reserve(r.ctx, token, q)
				if err == nil && d.Outcome != backends.OutcomeGranted {
					err = fmt.Errorf("answered %s", d.Outcome)
				}
				errs[i] = err
			})
		}
		until(t, r.ctx, "all to have found the pool empty", func() bool {
			mu.Lock()
			defer mu.Unlock()
			for i := range buyers {
				if freed[fmt.Sprintf("buyer-%d", i)] < lookups {
					return false
				}
			}
			return true
		})
		waiting(t, r.ctx, db)
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if n := r.s.Stats().Confirmed - before; n < 1 || n > buyers/2 {
			t.Errorf("%d of %d went to the level row", n, buyers)
		}
		r.conserved(t)
	})
}
