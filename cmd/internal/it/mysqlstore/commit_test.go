package mysqlstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// TestLostCommit loses the COMMIT of one write of each kind, before or after the server had it. The
// store finds out which, and the write is done once, with the answer that it would have had.
func TestLostCommit(t *testing.T) {
	type write struct {
		name string
		do   func(r rig) (replayed bool, err error)
	}
	decided := func(d *backends.Decision, err error) (bool, error) { return d != nil && d.Replayed, err }
	writes := []write{
		{"reserve", func(r rig) (bool, error) { return decided(r.s.Reserve(r.ctx, token, cart("new", line("mug", 2)))) }},
		{"claim", func(r rig) (bool, error) {
			return decided(r.s.Claim(r.ctx, token, &backends.ClaimRequest{ID: "claimed"}))
		}},
		{"release", func(r rig) (bool, error) {
			return decided(r.s.Release(r.ctx, token, &backends.ReleaseRequest{ID: "released"}))
		}},
		{"restock", func(r rig) (bool, error) {
			return decided(r.s.Restock(r.ctx, token, &backends.RestockRequest{OpID: "more", Key: key("mug"), Amount: 7}))
		}},
		{"count", func(r rig) (bool, error) {
			res, err := r.s.Count(r.ctx, token, &backends.CountRequest{OpID: "take", Key: key("mug"), Delta: -3})
			return res != nil && res.Replayed, err
		}},
	}
	onEach(t, func(t *testing.T, srv *lab.Server) {
		for _, f := range []fate{lostRequest, lostReply} {
			dsn := srv.NewDatabase(t)
			between, through := newRelay(t, dsn)
			r := live(t, through)
			r.stock(t, "mug", 100)
			r.grant(t, cart("claimed", line("mug", 10)))
			r.grant(t, cart("released", line("mug", 20)))
			for i, w := range writes {
				between.fate.Store(int32(f))
				replayed, err := w.do(r)
				if err != nil || between.lost.Load() != int32(i+1) {
					t.Fatalf("%s: %v (%d COMMITs lost)", w.name, err, between.lost.Load())
				}
				if replayed {
					t.Errorf("%s: answered as a replay", w.name)
				}
				if got := r.s.Stats().Settled; got != int64(i+1) {
					t.Errorf("%s: %d settlements, want %d", w.name, got, i+1)
				}
			}
			es, err := r.s.Pending(r.ctx, "", 0, 100)
			if err != nil || len(es) != 3+len(writes) {
				t.Fatalf("%d entries in the outbox, want %d, %v", len(es), 3+len(writes), err)
			}
			between.fate.Store(int32(f))
			removed, err := r.s.Done(r.ctx, []string{es[0].Seq, es[1].Seq})
			if err != nil || len(removed) != 2 {
				t.Fatalf("Done answered %v, %v", removed, err)
			}
			want := backends.Level{Key: key("mug"), OnHand: 97, Held: 2, Taken: 3, Available: 92, TakenVersion: backends.Version{Epoch: epoch, N: 1}}
			if l := r.level(t, key("mug")); l.OnHand != want.OnHand || l.Held != want.Held || l.Taken != want.Taken || l.Sellable() != 92 {
				t.Errorf("the level is %+v, want %+v", l, want)
			}
			r.conserved(t)
		}
	})
}

// TestUnsettled: where the server cannot be asked any more, the answer is ambiguous, and soon; the
// same request under the same id then finds out.
func TestUnsettled(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		between, through := newRelay(t, srv.NewDatabase(t))
		r := live(t, through, func(c *mysqlstore.Config) { c.MaxConns = 1 })
		r.stock(t, "mug", 5)
		between.fate.Store(int32(lostReply))
		between.shut.Store(true)
		between.alone.Store(true) // the connection that settles is cut as well, before there is anything to settle
		began := time.Now()
		d, err := r.s.Reserve(r.ctx, token, cart("cart", line("mug", 1)))
		if !backends.IsAmbiguous(err) {
			t.Fatalf("answered %+v, %v; want ambiguous", d, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %s to say so", took)
		}
		between.shut.Store(false)
		if d := r.grant(t, cart("cart", line("mug", 1))); !d.Replayed {
			t.Errorf("sent again it was granted anew: %+v", d)
		}
		r.conserved(t)
	})
}

// TestCallerGoesAway: a caller whose context ends while the store waits for a lock gets an answer at
// once, nothing is changed, and the connection is not given to the next with a transaction open.
func TestCallerGoesAway(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		db := raw(t, dsn)
		r := live(t, dsn, func(c *mysqlstore.Config) { c.MaxConns, c.LockWait = 1, patience })
		r.stock(t, "mug", 1)
		tx := takeAll(t, r.ctx, db, key("mug"))
		ctx, cancel := context.WithCancel(r.ctx)
		answered := make(chan answer, 1)
		go func() {
			d, err := r.s.Reserve(ctx, token, cart("cart", line("mug", 1)))
			answered <- answer{d, err}
		}()
		waiting(t, r.ctx, db)
		began := time.Now()
		cancel()
		a := <-answered
		if a.err == nil || time.Since(began) > patience/3 {
			t.Fatalf("answered %+v, %v after %s", a.d, a.err, time.Since(began))
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if h, err := r.s.Get(r.ctx, "cart"); h != nil || err != nil {
			t.Fatalf("the hold is %+v, %v", h, err)
		}
		r.grant(t, cart("other", line("mug", 1)))
		r.conserved(t)
	})
}
