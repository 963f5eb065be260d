package mysqlstore_test

import (
	"context"
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
	const grace, attempts = 200 * time.Millisecond, 20
	onEach(t, func(t *testing.T, srv *lab.Server) {
		for range attempts {
			if took := raiseBeside(t, srv.NewDatabase(t), grace); took < grace {
				return
			}
		}
		t.Fatalf("in %d attempts this machine was too busy to end a transaction within %s", attempts, grace)
	})
}

// raiseBeside raises the fence while a transaction that has read it is ended, and answers how long that took. An
// attempt that took longer than the grace says nothing: its transaction may have been killed, by right.
func raiseBeside(t *testing.T, dsn string, grace time.Duration) (took time.Duration) {
	t.Helper()
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
	began := time.Now()
	go func() {
		_, err := r.s.Raise(r.ctx, backends.Fence{Epoch: epoch + 1, Stage: backends.Live}, 0)
		raised <- err
	}()
	early := false
	select {
	case err = <-raised:
		early = true
	case <-time.After(grace / 4): // an instant within the grace
	}
	commitErr := tx.Commit()
	took = time.Since(began)
	if !early {
		err = <-raised
	}
	switch {
	case err != nil:
		t.Fatal(err)
	case took >= grace:
	case early:
		t.Fatal("the fence was raised over a transaction under way")
	case commitErr != nil:
		t.Fatal(commitErr)
	case r.s.Stats().Killed != 0:
		t.Errorf("%d sessions were killed", r.s.Stats().Killed)
	}
	return took
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

// A kill reads the outbox although every other connection waits for a lock.
func TestUrgentReadsGoFirst(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := live(t, srv.NewDatabase(t), func(c *mysqlstore.Config) { c.MaxConns = 1 })
		c, err := r.s.DB().Conn(r.ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		const short = 100 * time.Millisecond
		ctx, cancel := context.WithTimeout(r.ctx, short)
		defer cancel()
		if _, err := r.s.Pending(ctx, "", 0, 1); !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("without a connection: %v", err)
		}
		if _, err := r.s.Pending(backends.Urgent(r.ctx), "", 0, 1); err != nil {
			t.Error(err)
		}
		if _, err := r.s.OutboxStats(backends.Urgent(r.ctx)); err != nil {
			t.Error(err)
		}
	})
}
