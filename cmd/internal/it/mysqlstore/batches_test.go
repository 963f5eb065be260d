package mysqlstore_test

import (
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// gathering is requests that came while every connection was in use. The lane has one request of its
// own, which waits for a connection; the others wait for the lane, and so travel in one batch.
type gathering struct {
	r      rig
	conns  []*sql.Conn
	under  sync.WaitGroup
	before mysqlstore.Stats
}

const gatherConns = 4

// gatherable is a store whose requests gather: one lane of each kind, few connections, and nothing that
// runs by itself.
func gatherable(c *mysqlstore.Config) {
	c.Lanes, c.MaxConns, c.NoAhead, c.LockWait = 1, gatherConns, true, time.Second
}

// gather sends plug, which takes the lane, and then the requests, in their order.
func gather(t *testing.T, r rig, plug func(), requests ...func()) *gathering {
	t.Helper()
	g := &gathering{r: r}
	for range gatherConns {
		c, err := r.s.DB().Conn(r.ctx)
		if err != nil {
			t.Fatal(err)
		}
		g.conns = append(g.conns, c)
	}
	t.Cleanup(g.open)
	g.before = r.s.Stats()
	g.under.Go(plug)
	g.soon(t, "the first to take the lane", func(st mysqlstore.Stats) bool { return st.Batches == g.before.Batches+1 })
	for i, request := range requests {
		g.under.Go(request)
		g.soon(t, "the next to wait for the lane", func(st mysqlstore.Stats) bool { return st.Queued == int64(i+1) })
	}
	return g
}

func (g *gathering) soon(t *testing.T, what string, met func(mysqlstore.Stats) bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !met(g.r.s.Stats()) {
		select {
		case <-g.r.ctx.Done():
			t.Fatalf("gave up waiting for %s: %+v", what, g.r.s.Stats())
		case <-tick.C:
		}
	}
}

// open gives the connections back, which lets the batch go.
func (g *gathering) open() {
	for _, c := range g.conns {
		_ = c.Close()
	}
	g.conns = nil
}

// went lets the batch go, waits for all answers, and wants it to have been one.
func (g *gathering) went(t *testing.T, members int) {
	t.Helper()
	g.open()
	g.under.Wait()
	st := g.r.s.Stats()
	if b, m := st.Batches-g.before.Batches, st.Members-g.before.Members; b != 2 || m != int64(members+1) {
		t.Fatalf("%d requests travelled in %d batches; want one alone and %d together", m, b, members)
	}
}

// takePlug and endPlug occupy a lane and change nothing: a hold that is there already, and one that is
// not.
func (r rig) takePlug(t *testing.T) func() {
	t.Helper()
	r.stock(t, "plug", 1)
	q := cart("plug", line("plug", 1))
	r.grant(t, q)
	return func() {
		if d, err := r.s.Reserve(r.ctx, token, q); err != nil || !d.Replayed {
			t.Errorf("the first answered %+v, %v", d, err)
		}
	}
}

func (r rig) endPlug(t *testing.T) func() {
	t.Helper()
	return func() {
		d, err := r.s.Release(r.ctx, token, &backends.ReleaseRequest{ID: "nobody"})
		if err != nil || d.Outcome != backends.OutcomeNotFound {
			t.Errorf("the first answered %+v, %v", d, err)
		}
	}
}

func nth(i int) string { return fmt.Sprintf("cart-%02d", i) }

// reserves are requests for one unit each, with places for their answers.
func (r rig) reserves(n int, as []answer) (out []func()) {
	for i := range n {
		out = append(out, func() {
			as[i].d, as[i].err = r.s.Reserve(r.ctx, token, cart(nth(i), line("mug", 1)))
		})
	}
	return out
}

// ends claim, release and extend the holds of reserves in turn.
func (r rig) ends(n int, as []answer) (out []func()) {
	for i := range n {
		id := backends.HoldID(nth(i))
		out = append(out, func() {
			switch i % 3 {
			case 0:
				as[i].d, as[i].err = r.s.Claim(r.ctx, token, &backends.ClaimRequest{ID: id})
			case 1:
				as[i].d, as[i].err = r.s.Release(r.ctx, token, &backends.ReleaseRequest{ID: id})
			default:
				as[i].d, as[i].err = r.s.Extend(r.ctx, token, &backends.ExtendRequest{ID: id, TTL: time.Hour})
			}
		})
	}
	return out
}

var (
	endOutcomes = [3]backends.Outcome{backends.OutcomeClaimed, backends.OutcomeReleased, backends.OutcomeExtended}
	endStates   = [3]backends.State{backends.Claimed, backends.Released, backends.Held}
)

// stateIs wants a hold to be there in a state; unknown: not to be there.
func (r rig) stateIs(t *testing.T, id string, want backends.State) {
	t.Helper()
	h, err := r.s.Get(r.ctx, backends.HoldID(id))
	if err != nil || stateOf(h) != want {
		t.Errorf("%s is %s, %v; want %s", id, stateOf(h), err, want)
	}
}

// TestLostBatch loses the COMMIT of a batch, before or after the server had it. The store finds out
// which, and each member is done once, with the answer that it would have had.
func TestLostBatch(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		for _, f := range []fate{lostRequest, lostReply} {
			const n = 9
			between, through := newRelay(t, srv.NewDatabase(t))
			r := live(t, through, gatherable)
			r.stock(t, "mug", 100)
			plug := r.takePlug(t)
			var as [n]answer
			g := gather(t, r, plug, r.reserves(n, as[:])...)
			between.fate.Store(int32(f))
			g.went(t, n)
			for i, a := range as {
				if a.err != nil || a.d.Outcome != backends.OutcomeGranted || a.d.Replayed {
					t.Errorf("reserve %d answered %+v, %v", i, a.d, a.err)
				}
				r.stateIs(t, nth(i), backends.Held)
			}
			g = gather(t, r, r.endPlug(t), r.ends(n, as[:])...)
			between.fate.Store(int32(f))
			g.went(t, n)
			for i, a := range as {
				if a.err != nil || a.d.Outcome != endOutcomes[i%3] || a.d.Replayed {
					t.Errorf("end %d answered %+v, %v; want %s", i, a.d, a.err, endOutcomes[i%3])
				}
				r.stateIs(t, nth(i), endStates[i%3])
			}
			if lost, settled := between.lost.Load(), r.s.Stats().Settled; lost != 2 || settled != 2 {
				t.Errorf("%d COMMITs were lost, %d settled; want 2 each", lost, settled)
			}
			if l := r.level(t, key("mug")); l.OnHand != 97 || l.Held != 3 || l.Sellable() != 94 {
				t.Errorf("the level is %+v", l)
			}
			r.conserved(t)
		}
	})
}

// TestBatchAtLockedHold: a foreign transaction has the row of one member's hold. His neighbours are
// answered while it lasts; he is told busy, for a lock that was waited for once with them and once
// alone.
func TestBatchAtLockedHold(t *testing.T) {
	const n, odd = 12, 4
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		db := raw(t, dsn)
		r := live(t, dsn, gatherable)
		r.stock(t, "mug", 100)
		plug := r.takePlug(t)
		locked := func(name, q string, g func(as []answer) *gathering) {
			tx, err := db.BeginTx(r.ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback() //nolint:errcheck // rolled back below; this is for a test that fails
			if _, err := tx.ExecContext(r.ctx, q, nth(odd)); err != nil {
				t.Fatal(err)
			}
			before := r.s.Stats()
			as := make([]answer, n)
			g(as).went(t, n)
			for i, a := range as {
				if (i == odd) != errors.Is(a.err, backends.ErrBusy) || (i == odd) == (a.d != nil) {
					t.Errorf("%s %d answered %+v, %v", name, i, a.d, a.err)
				}
			}
			after := r.s.Stats()
			if waits, splits := after.Busy-before.Busy, after.Splits-before.Splits; waits != 2 || splits != 1 {
				t.Errorf("%s: %d waits for a lock and %d splits, want 2 and 1", name, waits, splits)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
		}
		locked("reserve", `INSERT INTO crossfade_holds VALUES ('pod-1', ?, '', 1, 1, 1, 1, '', '', '', '', 1, 1, 1, 0, NULL, 1)`, func(as []answer) *gathering {
			return gather(t, r, plug, r.reserves(n, as)...)
		})
		r.stateIs(t, nth(odd), backends.StateUnknown)
		r.grant(t, cart(nth(odd), line("mug", 1)))
		locked("end", `SELECT id FROM crossfade_holds WHERE pod = 'pod-1' AND id = ? FOR UPDATE`, func(as []answer) *gathering {
			return gather(t, r, r.endPlug(t), r.ends(n, as)...)
		})
		for i := range n {
			if i == odd {
				r.stateIs(t, nth(i), backends.Held)
			} else {
				r.stateIs(t, nth(i), endStates[i%3])
			}
		}
		r.conserved(t)
	})
}

// TestEntriesAtLockedHold: of mirrored entries that travel together one meets a lock. It fails alone, for
// a lock that was waited for twice; the others are followed.
func TestEntriesAtLockedHold(t *testing.T) {
	const n, odd = 16, 5
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		db := raw(t, dsn)
		r := rig{open(t, dsn, gatherable), testContext(t)}
		r.raise(t, backends.Shadow)
		entries := []backends.Entry{{Seq: "stock", Op: backends.OpRestock, Level: &backends.LevelChange{Key: key("mug"), OpID: "stock", OnHandDelta: 100}}}
		now, err := r.s.Now(r.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.s.Apply(r.ctx, token, now, entries); err != nil {
			t.Fatal(err)
		}
		entries = nil
		for i := range n {
			h := &backends.Hold{
				ID: backends.HoldID(nth(i)), Shop: shop, Lines: []backends.Line{line("mug", 1)}, Allocs: []backends.Allocation{{Location: east, Quantity: 1}},
				State: backends.Held, Version: backends.Version{Epoch: epoch, N: 1}, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
			}
			entries = append(entries, backends.Entry{Seq: nth(i), Op: backends.OpReserve, At: now, Hold: h})
		}
		tx, err := db.BeginTx(r.ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback() //nolint:errcheck // rolled back below; this is for a test that fails
		if _, err := tx.ExecContext(r.ctx, `INSERT INTO crossfade_holds VALUES ('pod-1', ?, '', 1, 1, 1, 1, '', '', '', '', 1, 1, 1, 0, NULL, 1)`, nth(odd)); err != nil {
			t.Fatal(err)
		}
		before := r.s.Stats()
		as, err := r.s.Apply(r.ctx, token, now, entries)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range as {
			if a.Seq != nth(i) || a.Changed != (i != odd) || errors.Is(a.Err, backends.ErrBusy) != (i == odd) {
				t.Errorf("entry %d: %+v", i, a)
			}
		}
		if waits := r.s.Stats().Busy - before.Busy; waits != 2 {
			t.Errorf("%d waits for the lock, want 2", waits)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if as, err := r.s.Apply(r.ctx, token, now, entries); err != nil || as[odd].Err != nil || !as[odd].Changed || as[0].Changed {
			t.Errorf("sent again: %+v, %v", as, err)
		}
		if l := r.level(t, key("mug")); l.Held != n || l.Sellable() != 100-n {
			t.Errorf("the level is %+v", l)
		}
		r.conserved(t)
	})
}

// TestBatchWithTakenIDs: between the batch's look at its holds and its insert, others have committed
// holds under the ids of some members: one with another body, one that has ended, one that nobody can
// read. Each of these is told so; the others are granted.
func TestBatchWithTakenIDs(t *testing.T) {
	const n = 9
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		db := raw(t, dsn)
		r := live(t, dsn, gatherable)
		r.stock(t, "mug", 100)
		plug := r.takePlug(t)
		for i, q := range []*backends.ReserveRequest{cart("model-0", line("mug", 1)), cart("model-1", line("mug", 2))} {
			r.grant(t, q)
			if _, err := r.s.Release(r.ctx, token, &backends.ReleaseRequest{ID: q.ID}); err != nil {
				t.Fatal(i, err)
			}
		}
		tx, err := db.BeginTx(r.ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback() //nolint:errcheck // committed below; this is for a test that fails
		const like = `INSERT INTO crossfade_holds SELECT pod, ?, shop, state, epoch, n, stamp, digest, body, allocs, caller, created, expires, ended, ledger_owed, own, due
			FROM crossfade_holds WHERE pod = 'pod-1' AND id = ?`
		for id, model := range map[string]string{nth(2): "model-0", nth(5): "model-1"} {
			if _, err := tx.ExecContext(r.ctx, like, id, model); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tx.ExecContext(r.ctx, `INSERT INTO crossfade_holds VALUES ('pod-1', ?, '', 2, 1, 1, 1, 'x', '{', '{', '', 1, 1, 1, 0, NULL, 1)`, nth(7)); err != nil {
			t.Fatal(err)
		}
		var as [n]answer
		g := gather(t, r, plug, r.reserves(n, as[:])...)
		g.open()
		waiting(t, r.ctx, db) // at the first of the ids that are taken
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		g.went(t, n)
		for i, a := range as {
			ok := a.err == nil && a.d.Outcome == backends.OutcomeGranted
			switch i {
			case 2:
				ok = a.err == nil && a.d.Outcome == backends.OutcomeEnded
			case 5:
				ok = errors.Is(a.err, backends.ErrHoldConflict)
			case 7:
				ok = errors.Is(a.err, backends.ErrDamaged)
			}
			if !ok {
				t.Errorf("reserve %d answered %+v, %v", i, a.d, a.err)
			}
		}
		if l := r.level(t, key("mug")); l.Held != n-3 || l.Sellable() != 100-(n-3) {
			t.Errorf("the level is %+v", l)
		}
		if _, err := db.ExecContext(r.ctx, "DELETE FROM crossfade_holds WHERE pod = 'pod-1' AND id = ?", nth(7)); err != nil {
			t.Fatal(err)
		}
		r.conserved(t)
	})
}
