package mysqlstore_test

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// commits is how many transactions the server has committed.
func commits(t *testing.T, r rig, db *sql.DB) (n int64) {
	t.Helper()
	var name string
	if err := db.QueryRowContext(r.ctx, "SHOW GLOBAL STATUS LIKE 'Com_commit'").Scan(&name, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestMirroredLoad: a load of stock that the mirror brings shares transactions and writes few
// unit rows, and twice is once.
func TestMirroredLoad(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := shadowed(t, dsn)
		const items, units = 640, 500
		var names []backends.Item
		for i := range items {
			names = append(names, backends.Item(fmt.Sprintf("item-%03d", i*7%items)))
		}
		es := loaded(units, names...)
		db := raw(t, dsn)
		before, start := commits(t, r, db), time.Now()
		r.mirrored(t, es)
		for i, a := range r.apply(t, es) {
			if a.Err != nil || a.Changed {
				t.Fatalf("entry %s again: %+v", es[i].Seq, a)
			}
		}
		t.Logf("%d levels, twice: %v", items, time.Since(start))
		if n := commits(t, r, db) - before; n != items/64 { // the second time there is nothing to commit
			t.Errorf("the load took %d transactions, want 64 levels in each", n)
		}
		var rows int64
		if err := db.QueryRowContext(r.ctx, "SELECT COUNT(*) FROM crossfade_units WHERE pod = 'pod-1'").Scan(&rows); err != nil || rows != 32*items {
			t.Errorf("%d unit rows for %d items, %v", rows, items, err)
		}
		if l := r.level(t, es[5].Level.Key); l.OnHand != units || l.Sellable() != units {
			t.Errorf("%+v", l)
		}
		r.conserved(t)
	})
}

// heldUnits are mirrored grants of one unit each, of item after item.
func heldUnits(name string, n int, items ...backends.Item) (out []backends.Entry) {
	now := backends.Instant(time.Now().UnixMilli())
	for i := range n {
		h := &backends.Hold{
			ID: backends.HoldID(fmt.Sprintf("%s-%03d", name, i)), Shop: shop, Lines: []backends.Line{line(items[i%len(items)], 1)},
			Allocs: []backends.Allocation{{Location: east, Quantity: 1}}, State: backends.Held, Version: backends.Version{Epoch: epoch, N: 1},
			CreatedAt: now, ExpiresAt: now.Add(time.Hour),
		}
		out = append(out, backends.Entry{Seq: string(h.ID), Op: backends.OpReserve, At: now, Hold: h})
	}
	return out
}

// shadowed gives a store that follows, on a database.
func shadowed(t *testing.T, dsn string, change ...func(*mysqlstore.Config)) rig {
	t.Helper()
	r := rig{open(t, dsn, change...), testContext(t)}
	r.raise(t, backends.Shadow)
	return r
}

// apply answers what became of each entry, in their order.
func (r rig) apply(t *testing.T, es []backends.Entry) []backends.Applied {
	t.Helper()
	now, err := r.s.Now(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	as, err := r.s.Apply(r.ctx, token, now, es)
	if err != nil {
		t.Fatal(err)
	}
	for i := range as {
		if as[i].Seq != es[i].Seq {
			t.Fatalf("the answer to entry %s is about %s", es[i].Seq, as[i].Seq)
		}
	}
	return as
}

// mirrored applies entries, all of which change something.
func (r rig) mirrored(t *testing.T, es []backends.Entry) {
	t.Helper()
	for i, a := range r.apply(t, es) {
		if a.Err != nil || !a.Changed {
			t.Fatalf("entry %s: %+v", es[i].Seq, a)
		}
	}
}

// loaded are mirrored restocks.
func loaded(units int64, items ...backends.Item) (out []backends.Entry) {
	for _, item := range items {
		out = append(out, backends.Entry{Seq: "load-" + string(item), Op: backends.OpRestock, Level: &backends.LevelChange{
			Key: key(item), OpID: backends.OpID("load-" + string(item)), OnHandDelta: units,
		}})
	}
	return out
}

// TestFirstBuyersOfALoad: what a mirrored load leaves in the pools serves the first buyers from free
// rows.
func TestFirstBuyersOfALoad(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := shadowed(t, srv.NewDatabase(t))
		items := []backends.Item{"mug", "lamp", "chair"}
		r.mirrored(t, loaded(500, items...))
		before := r.s.Stats().Fast
		r.mirrored(t, heldUnits("first", 60, items...))
		if fast := r.s.Stats().Fast - before; fast != 60 {
			t.Errorf("%d of 60 found a free row", fast)
		}
		r.conserved(t)
	})
}

// TestPoolWhoseRefillFailed: a mirrored pool runs empty while its refill cannot have the level's lock.
// Whoever then takes from the level has it filled.
func TestPoolWhoseRefillFailed(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := shadowed(t, dsn, func(c *mysqlstore.Config) { c.LockWait = time.Second })
		r.mirrored(t, loaded(500, "mug"))
		tx, err := raw(t, dsn).BeginTx(r.ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback() //nolint:errcheck // rolled back below; this is for a test that fails
		if _, err := tx.ExecContext(r.ctx, "SELECT 1 FROM crossfade_levels WHERE pod = 'pod-1' AND item = 'mug' FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
		busy := r.s.Stats().Busy
		r.mirrored(t, heldUnits("first", 32, "mug"))
		until(t, r.ctx, "the refill to give up", func() bool { return r.s.Stats().Busy > busy })
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if l := r.level(t, key("mug")); l.Available != 0 {
			t.Fatalf("the pool was to be empty: %+v", l)
		}
		r.mirrored(t, heldUnits("next", 1, "mug"))
		until(t, r.ctx, "the pool to be filled", func() bool { return r.level(t, key("mug")).Available > 0 })
		r.conserved(t)
	})
}

// TestDamagedLevelInALoad: of levels that travel together one has lost its ledger row. It fails alone,
// and the others are followed: known ones and new ones, sums and operations.
func TestDamagedLevelInALoad(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := shadowed(t, dsn)
		r.mirrored(t, loaded(50, "mug", "lamp", "chair"))
		if _, err := raw(t, dsn).ExecContext(r.ctx, "DELETE FROM crossfade_ledger WHERE item = 'lamp'"); err != nil {
			t.Fatal(err)
		}
		taken := backends.Entry{Seq: "taken", Op: backends.OpCount, Level: &backends.LevelChange{
			Key: key("chair"), OpID: "take", Taken: 3, Version: backends.Version{Epoch: epoch, N: 1},
		}}
		es := append([]backends.Entry{taken}, loaded(70, "vase", "lamp", "mug", "bowl")...)
		for i := range es[1:] {
			es[i+1].Level.OpID += "-again"
		}
		for i, a := range r.apply(t, es) {
			lost := es[i].Level.Key.Item == "lamp"
			if errors.Is(a.Err, backends.ErrDamaged) != lost || a.Changed == lost {
				t.Errorf("entry %s: %+v", es[i].Seq, a)
			}
		}
		for item, want := range map[backends.Item]int64{"mug": 120, "chair": 47, "vase": 70, "bowl": 70} {
			if l := r.level(t, key(item)); l.Sellable() != want {
				t.Errorf("%s: %+v, want %d for sale", item, l, want)
			}
		}
	})
}
