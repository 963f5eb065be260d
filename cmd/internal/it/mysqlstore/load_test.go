package mysqlstore_test

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
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
// unit rows, twice is once, and its first buyers find what they need.
func TestMirroredLoad(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := rig{open(t, dsn), testContext(t)}
		r.raise(t, backends.Shadow)
		now, err := r.s.Now(r.ctx)
		if err != nil {
			t.Fatal(err)
		}
		const items, units = 640, 500
		es := make([]backends.Entry, items)
		for i := range es {
			k := key(backends.Item(fmt.Sprintf("item-%03d", i*7%items)))
			es[i] = backends.Entry{Seq: fmt.Sprint(i), Op: backends.OpRestock, Level: &backends.LevelChange{
				Key: k, OpID: backends.OpID("load-" + string(k.Item)), OnHandDelta: units,
			}}
		}
		db := raw(t, dsn)
		before, start := commits(t, r, db), time.Now()
		for twice := range 2 {
			as, err := r.s.Apply(r.ctx, token, now, es)
			if err != nil {
				t.Fatal(err)
			}
			for i, a := range as {
				if a.Err != nil || a.Seq != es[i].Seq || a.Changed != (twice == 0) {
					t.Fatalf("entry %d: %+v", i, a)
				}
			}
		}
		t.Logf("%d levels, twice: %v", items, time.Since(start))
		// 64 a transaction, and at most one more in which a batch finds that its levels have to be made.
		if n := commits(t, r, db) - before; n > 2*items/64+2 {
			t.Errorf("the load took %d transactions", n)
		}
		var rows int64
		if err := db.QueryRowContext(r.ctx, "SELECT COUNT(*) FROM crossfade_units WHERE pod = 'pod-1'").Scan(&rows); err != nil || rows > 32*items || rows == 0 {
			t.Errorf("%d unit rows for %d items, %v", rows, items, err)
		}
		if l := r.level(t, es[5].Level.Key); l.OnHand != units || l.Sellable() != units {
			t.Errorf("%+v", l)
		}
		r.conserved(t)
	})
}
