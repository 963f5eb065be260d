package mysqlstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// TestRaiseKillsWhoBlocks: a proxy has read the fence, has written, and then stopped, with its
// transaction open. Raising the fence does not wait for it: its session is killed, and what it
// wrote is gone.
func TestRaiseKillsWhoBlocks(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		db := raw(t, dsn)
		r := live(t, dsn)
		r.stock(t, "mug", 5)
		tx, err := db.BeginTx(r.ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback() //nolint:errcheck // its session is dead by then
		for _, q := range []string{
			"SELECT epoch FROM crossfade_fence WHERE pod = 'pod-1' LOCK IN SHARE MODE",
			"DELETE FROM crossfade_units WHERE pod = 'pod-1' LIMIT 1",
		} {
			if _, err := tx.ExecContext(r.ctx, q); err != nil {
				t.Fatal(err)
			}
		}
		next := backends.Fence{Epoch: epoch + 1, Stage: backends.Shadow, Open: true}
		began := time.Now()
		got, err := r.s.Raise(r.ctx, next, 0)
		took := time.Since(began)
		if err != nil || got != next {
			t.Fatalf("Raise answered %s, %v", got, err)
		}
		if took < 150*time.Millisecond || took > 3*time.Second {
			t.Errorf("it took %s; the transaction has 200 ms to end by itself, and a kill takes about a second", took)
		}
		if err := tx.Commit(); err == nil {
			t.Error("the transaction of the old epoch was committed after the fence was raised")
		}
		if r.s.Stats().Killed == 0 {
			t.Error("nobody was killed")
		}
		_, err = r.s.Reserve(r.ctx, token, cart("late", line("mug", 1)))
		var fe *backends.FencedError
		if !errors.As(err, &fe) || fe.Have != next {
			t.Errorf("a reserve of the old epoch answered %v", err)
		}
		if l := r.level(t, key("mug")); l.Sellable() != 5 || l.Held != 0 {
			t.Errorf("the level is %+v", l)
		}
		r.conserved(t)
	})
}

// TestRaiseWaitsAWhile: a transaction that ends by itself within the grace is not killed, and what
// it wrote stays.
func TestRaiseWaitsAWhile(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := live(t, dsn)
		tx, err := raw(t, dsn).BeginTx(r.ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback() //nolint:errcheck // it is committed below
		if _, err := tx.ExecContext(r.ctx, "SELECT epoch FROM crossfade_fence WHERE pod = 'pod-1' LOCK IN SHARE MODE"); err != nil {
			t.Fatal(err)
		}
		raised := make(chan error, 1)
		go func() {
			_, err := r.s.Raise(r.ctx, backends.Fence{Epoch: epoch + 1, Stage: backends.Live}, 0)
			raised <- err
		}()
		select {
		case err := <-raised:
			t.Fatalf("the fence was raised over a transaction under way: %v", err)
		case <-time.After(50 * time.Millisecond): // an instant within the grace
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := <-raised; err != nil {
			t.Fatal(err)
		}
		if n := r.s.Stats().Killed; n != 0 {
			t.Errorf("%d sessions were killed", n)
		}
	})
}

// TestRaiseBesideFullPool: raising does not wait for a free connection of the writers.
func TestRaiseBesideFullPool(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		db := raw(t, dsn)
		r := live(t, dsn, func(c *mysqlstore.Config) { c.MaxConns, c.LockWait = 1, patience })
		r.stock(t, "mug", 1)
		tx := takeAll(t, r.ctx, db, key("mug"))
		answered := make(chan answer, 1)
		go func() {
			d, err := r.s.Reserve(r.ctx, token, cart("cart", line("mug", 1)))
			answered <- answer{d, err}
		}()
		waiting(t, r.ctx, db) // with the fence locked, on the only connection
		next := backends.Fence{Epoch: epoch + 1, Stage: backends.Shadow, Open: true}
		if _, err := r.s.Raise(r.ctx, next, epoch); err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		a := <-answered
		var fe *backends.FencedError
		if !errors.As(a.err, &fe) || fe.Have != next {
			t.Fatalf("the reserve that was under way answered %+v, %v; want the new fence", a.d, a.err)
		}
	})
}
