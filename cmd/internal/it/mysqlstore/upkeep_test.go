package mysqlstore_test

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// maintain runs rounds until there is no more to do.
func (r rig) maintain(t *testing.T) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = r.s.Maintain(r.ctx, token); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMaintainRefills: a pool that reserves have brought low gets what suffices for a while, by a proxy that
// never heard of the key.
func TestMaintainRefills(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		const size = 20
		small := func(c *mysqlstore.Config) { c.PoolCap, c.NoAhead = size, true }
		r := live(t, dsn, small)
		for _, item := range []backends.Item{"mug", "lamp"} {
			r.stock(t, item, 100)
			r.grant(t, cart("cart "+string(item), line(item, 4)))
		}
		if l := r.level(t, key("mug")); l.Available != 1 {
			t.Fatalf("before: %+v", l)
		}
		other := rig{open(t, dsn, small), r.ctx}
		other.maintain(t)
		for _, item := range []backends.Item{"mug", "lamp"} {
			if l := r.level(t, key(item)); l.Available != size/4 || l.Sellable() != 96 {
				t.Errorf("after the other's round: %+v", l)
			}
		}
		r.conserved(t)
	})
}

// TestMaintainPaysDebt: rows beside a debt, which no write of ours leaves, are paid into it.
func TestMaintainPaysDebt(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := live(t, dsn)
		r.stock(t, "mug", 10)
		if _, err := raw(t, dsn).ExecContext(r.ctx, "UPDATE crossfade_levels SET unmaterialised = unmaterialised - 4"); err != nil {
			t.Fatal(err)
		}
		r.maintain(t)
		if l := r.level(t, key("mug")); l.Unmaterialised != 0 || l.Available != 6 {
			t.Fatalf("afterwards: %+v", l)
		}
	})
}

// TestMaintainPages: a round is bounded; with many keys the scan comes to all of them in the end.
func TestMaintainPages(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := live(t, dsn, func(c *mysqlstore.Config) { c.PoolCap, c.NoAhead = 8, true })
		const items = 300
		db := raw(t, dsn)
		for i := range items {
			item := fmt.Sprintf("item-%03d", i)
			for _, q := range []string{
				"INSERT INTO crossfade_levels (pod, shop, item, location, unmaterialised, adopted) VALUES ('pod-1', 'shop-1', ?, 'east', 2, 1)",
				"INSERT INTO crossfade_ledger (pod, shop, item, location, on_hand) VALUES ('pod-1', 'shop-1', ?, 'east', 2)",
			} {
				if _, err := db.ExecContext(r.ctx, q, item); err != nil {
					t.Fatal(err)
				}
			}
		}
		filled := func() (n int) {
			for cursor := ""; ; {
				ls, next, err := r.s.ScanLevels(r.ctx, cursor, 70)
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range ls {
					if l.Available == 2 && l.Unmaterialised == 0 {
						n++
					}
				}
				if cursor = next; next == "" {
					return n
				}
			}
		}
		for round := 1; ; round++ {
			r.maintain(t)
			if n := filled(); n == items {
				break
			} else if round == 10 {
				t.Fatalf("%d of %d pools filled after %d rounds", n, items, round)
			}
		}
		r.conserved(t)
	})
}

// TestBehindTheCursor: rows that a neighbour had and gave back lie behind where the next scan
// begins. They are found.
func TestBehindTheCursor(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := live(t, dsn)
		r.stock(t, "mug", 10)
		tx, err := raw(t, dsn).BeginTx(r.ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback() //nolint:errcheck // rolled back below
		if _, err := tx.ExecContext(r.ctx, "SELECT id FROM crossfade_units WHERE pod = 'pod-1' AND shop = 'shop-1' AND item = 'mug' AND location = 'east' ORDER BY id LIMIT 5 FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
		r.grant(t, cart("first", line("mug", 5)))
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		r.grant(t, cart("second", line("mug", 5)))
		d, err := r.s.Reserve(r.ctx, token, cart("third", line("mug", 1)))
		if err != nil || d.Outcome != backends.OutcomeSoldOut {
			t.Fatalf("the third was answered %+v, %v", d, err)
		}
		// And what a release returns, with an id of its own.
		if _, err := r.s.Release(r.ctx, token, &backends.ReleaseRequest{ID: "first"}); err != nil {
			t.Fatal(err)
		}
		r.grant(t, cart("fourth", line("mug", 5)))
		r.conserved(t)
	})
}

// TestTwoClocks: proxies whose clocks differ by an hour serve one pool.
func TestTwoClocks(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		behind := func(c *mysqlstore.Config) {
			c.PoolCap = 8
			c.Now = func() time.Time { return time.Now().Add(-time.Hour) }
		}
		r := live(t, dsn, func(c *mysqlstore.Config) { c.PoolCap = 8 })
		other := rig{open(t, dsn, behind), r.ctx}
		r.stock(t, "mug", 60)
		for i := range 60 {
			s := []rig{r, other}[i%2]
			s.grant(t, cart(fmt.Sprintf("cart-%d", i), line("mug", 1)))
		}
		d, err := other.s.Reserve(r.ctx, token, cart("late", line("mug", 1)))
		if err != nil || d.Outcome != backends.OutcomeSoldOut {
			t.Fatalf("answered %+v, %v", d, err)
		}
		r.conserved(t)
	})
}
