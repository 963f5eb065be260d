package mysqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// TestCallersLeaveBatch: who goes away while he waits for the lane has changed nothing. Who goes away
// under way is told that it is not known, and his neighbours are granted.
func TestCallersLeaveBatch(t *testing.T) {
	const n, waited, left = 6, 1, 3
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		db := raw(t, dsn)
		r := live(t, dsn, gatherable, func(c *mysqlstore.Config) { c.LockWait = patience })
		r.stock(t, "mug", 100)
		plug := r.takePlug(t)
		var as [n]answer
		requests := r.reserves(n, as[:])
		leave := map[int]context.CancelFunc{}
		answered := map[int]chan struct{}{}
		for _, i := range []int{waited, left} {
			ctx, cancel := context.WithCancel(r.ctx)
			leave[i], answered[i] = cancel, make(chan struct{})
			t.Cleanup(cancel)
			requests[i] = func() {
				defer close(answered[i])
				as[i].d, as[i].err = r.s.Reserve(ctx, token, cart(nth(i), line("mug", 1)))
			}
		}
		tx, err := db.BeginTx(r.ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback() //nolint:errcheck // rolled back below; this is for a test that fails
		if _, err := tx.ExecContext(r.ctx, `INSERT INTO crossfade_holds VALUES ('pod-1', ?, '', 1, 1, 1, 1, '', '', '', '', 1, 1, 1, 0, NULL, 1)`, nth(0)); err != nil {
			t.Fatal(err)
		}
		g := gather(t, r, plug, requests...)
		leave[waited]()
		<-answered[waited]
		g.open()
		waiting(t, r.ctx, db)
		leave[left]()
		<-answered[left]
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		g.went(t, n-1)
		for i, a := range as {
			switch i {
			case waited:
				if a.err == nil || backends.IsAmbiguous(a.err) {
					t.Errorf("who left the queue was answered %+v, %v", a.d, a.err)
				}
				r.stateIs(t, nth(i), backends.StateUnknown)
				continue
			case left:
				if !backends.IsAmbiguous(a.err) {
					t.Errorf("who left under way was answered %+v, %v", a.d, a.err)
				}
			default:
				if a.err != nil || a.d.Outcome != backends.OutcomeGranted {
					t.Errorf("reserve %d answered %+v, %v", i, a.d, a.err)
				}
			}
			r.stateIs(t, nth(i), backends.Held) // it went with its batch
		}
		r.conserved(t)
	})
}

// TestClosedWithWaiting: when the store is closed, everybody who waits is told, and nothing stays
// behind (goleak watches). What was told to have changed nothing has changed nothing.
func TestClosedWithWaiting(t *testing.T) {
	const n = 8
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		other := rig{open(t, dsn), testContext(t)}
		other.raise(t, backends.Live)
		r := rig{open(t, dsn, gatherable), other.ctx}
		r.stock(t, "mug", 100)
		r.stock(t, "plug", 1)
		q := cart("plug", line("plug", 1))
		r.grant(t, q)
		var as [n]answer
		g := gather(t, r, func() { _, _ = r.s.Reserve(r.ctx, token, q) }, r.reserves(n, as[:])...)
		closed := make(chan error, 1)
		go func() { closed <- r.s.Close() }()
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		g.under.Wait()
		for i, a := range as {
			if !errors.Is(a.err, backends.ErrUnavailable) || backends.IsAmbiguous(a.err) {
				t.Errorf("reserve %d answered %+v, %v", i, a.d, a.err)
			}
			other.stateIs(t, nth(i), backends.StateUnknown)
		}
		other.conserved(t)
	})
}

// TestEpochsDoNotMix: requests under two tokens that wait together do not travel together: those of the
// old epoch are fenced, those of the new one granted.
func TestEpochsDoNotMix(t *testing.T) {
	const n = 8
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := live(t, srv.NewDatabase(t), gatherable)
		r.stock(t, "mug", 100)
		next := backends.Fence{Epoch: epoch + 1, Stage: backends.Live, Open: true, Filled: true}
		late := backends.Token{Epoch: next.Epoch}
		var as [n]answer
		var requests []func()
		for i := range n {
			tok := []backends.Token{token, late}[i%2]
			requests = append(requests, func() {
				as[i].d, as[i].err = r.s.Reserve(r.ctx, tok, cart(nth(i), line("mug", 1)))
			})
		}
		g := gather(t, r, func() { _, _ = r.s.Reserve(r.ctx, token, cart("first", line("mug", 1))) }, requests...)
		if _, err := r.s.Raise(r.ctx, next, 0); err != nil {
			t.Fatal(err)
		}
		g.open()
		g.under.Wait()
		var fe *backends.FencedError
		for i, a := range as {
			if i%2 == 0 && !errors.As(a.err, &fe) || i%2 == 1 && (a.err != nil || a.d.Outcome != backends.OutcomeGranted || a.d.Hold.Version.Epoch != next.Epoch) {
				t.Errorf("reserve %d answered %+v, %v", i, a.d, a.err)
			}
		}
		if l := r.level(t, key("mug")); l.Held != n/2 {
			t.Errorf("the level is %+v", l)
		}
		r.conserved(t)
	})
}

// TestBatchIsTagged: the time for which a batch has a connection is shared out among its callers.
func TestBatchIsTagged(t *testing.T) {
	const n = 6
	srv := lab.ForTest(t, lab.MySQL)
	var mu sync.Mutex
	held := map[string]time.Duration{}
	r := live(t, srv.NewDatabase(t), gatherable, func(c *mysqlstore.Config) {
		c.Observe = func(tag, op string, d time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			if op == backends.OpReserve.String() {
				held[tag] += d
			}
		}
	})
	r.stock(t, "mug", 100)
	plug := r.takePlug(t)
	var requests []func()
	for i := range n {
		requests = append(requests, func() {
			q := cart(nth(i), line("mug", 1))
			q.Caller = fmt.Sprintf("caller-%d", i%3)
			if d, err := r.s.Reserve(r.ctx, token, q); err != nil || d.Outcome != backends.OutcomeGranted {
				t.Errorf("reserve %d answered %+v, %v", i, d, err)
			}
		})
	}
	gather(t, r, plug, requests...).went(t, n)
	mu.Lock()
	defer mu.Unlock()
	for i := range 3 {
		tag := fmt.Sprintf("caller-%d", i)
		if held[tag] == 0 || held[tag] != held["caller-0"] {
			t.Errorf("the part of %s is %s; all of them: %v", tag, held[tag], held)
		}
	}
}
