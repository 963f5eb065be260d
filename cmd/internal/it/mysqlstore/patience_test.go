package mysqlstore_test

import (
	"context"
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

// takeAll is a neighbour's transaction that has taken every unit of a key and not ended yet.
func takeAll(t *testing.T, ctx context.Context, db *sql.DB, k backends.Key) *sql.Tx { //nolint:revive // t is first as everywhere here
	t.Helper()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	res, err := tx.ExecContext(ctx, "DELETE FROM crossfade_units WHERE pod = 'pod-1' AND shop = ? AND item = ? AND location = ?", string(k.Shop), string(k.Item), string(k.Location))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("the neighbour took %d units, %v", n, err)
	}
	return tx
}

// waiting waits until a session of the server waits for a lock.
func waiting(t *testing.T, ctx context.Context, db *sql.DB) { //nolint:revive // t is first as everywhere here
	t.Helper()
	until(t, ctx, "somebody to wait for a lock", func() bool {
		var n int
		err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'").Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	})
}

type answer struct {
	d   *backends.Decision
	err error
}

// TestLastUnitComesBack: somebody has the last unit in a transaction that is still open. Who comes
// then is not told that it is sold out; when the transaction is undone, he gets it.
func TestLastUnitComesBack(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		db := raw(t, dsn)
		r := live(t, dsn, func(c *mysqlstore.Config) { c.LockWait = patience })
		r.stock(t, "mug", 1)
		tx := takeAll(t, r.ctx, db, key("mug"))
		answered := make(chan answer, 1)
		go func() {
			d, err := r.s.Reserve(r.ctx, token, cart("cart", line("mug", 1)))
			answered <- answer{d, err}
		}()
		waiting(t, r.ctx, db)
		select {
		case a := <-answered:
			t.Fatalf("answered before the neighbour's end: %+v, %v", a.d, a.err)
		default:
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if a := <-answered; a.err != nil || a.d.Outcome != backends.OutcomeGranted {
			t.Fatalf("answered %+v, %v; want the unit that came back", a.d, a.err)
		}
		r.conserved(t)
	})
}

// TestLastUnitOfAnAbandonedCart: a proxy was stopped with the last unit in an open transaction. The server ends its session,
// and who waits gets the unit.
func TestLastUnitOfAnAbandonedCart(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := live(t, dsn, func(c *mysqlstore.Config) { c.LockWait = patience / 3 })
		stopped := live(t, dsn, func(c *mysqlstore.Config) { c.Abandoned = time.Second })
		r.stock(t, "mug", 1)
		_ = takeAll(t, r.ctx, stopped.s.DB(), key("mug"))
		if d := r.grant(t, cart("cart", line("mug", 1))); d.Outcome != backends.OutcomeGranted {
			t.Fatalf("answered %+v", d)
		}
		r.conserved(t)
	})
}

// TestLastUnitIsSold: the same, and the neighbour's transaction is committed: now it is sold out.
func TestLastUnitIsSold(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		db := raw(t, dsn)
		r := live(t, dsn, func(c *mysqlstore.Config) { c.LockWait = patience })
		r.stock(t, "mug", 1)
		tx := takeAll(t, r.ctx, db, key("mug"))
		answered := make(chan answer, 1)
		go func() {
			d, err := r.s.Reserve(r.ctx, token, cart("cart", line("mug", 1)))
			answered <- answer{d, err}
		}()
		waiting(t, r.ctx, db)
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		a := <-answered
		if a.err != nil || a.d.Outcome != backends.OutcomeSoldOut {
			t.Fatalf("answered %+v, %v; want sold out", a.d, a.err)
		}
		if s := a.d.Short; len(s) != 1 || s[0].Available != 0 || s[0].Wanted != 1 {
			t.Fatalf("the shortage is %+v", s)
		}
	})
}

// TestWaitTooLong: a wait that is too long is unknown, and changes nothing.
func TestWaitTooLong(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := live(t, dsn, func(c *mysqlstore.Config) { c.LockWait = time.Second })
		r.stock(t, "mug", 2)
		r.stock(t, "lamp", 5)
		tx := takeAll(t, r.ctx, raw(t, dsn), key("mug"))
		q := cart("cart", line("lamp", 2), line("mug", 1))
		if d, err := r.s.Reserve(r.ctx, token, q); !errors.Is(err, backends.ErrBusy) || backends.IsAmbiguous(err) {
			t.Fatalf("answered %+v, %v; want busy", d, err)
		}
		if h, err := r.s.Get(r.ctx, q.ID); h != nil || err != nil {
			t.Fatalf("the hold is %+v, %v", h, err)
		}
		if l := r.level(t, key("lamp")); l.Sellable() != 5 {
			t.Fatalf("a lamp was taken: %+v", l)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		r.grant(t, q) // under the same id
		r.conserved(t)
	})
}

// TestRefusedWithoutLocks: what is sold out for good is refused by a read, whatever is locked.
func TestRefusedWithoutLocks(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		r := live(t, dsn)
		r.stock(t, "mug", 3)
		r.grant(t, cart("first", line("mug", 2)))
		before := r.s.Stats()
		takeAll(t, r.ctx, raw(t, dsn), key("mug"))
		d, err := r.s.Reserve(r.ctx, token, cart("second", line("mug", 2)))
		if err != nil || d.Outcome != backends.OutcomeSoldOut || d.Short[0].Available != 1 {
			t.Fatalf("answered %+v, %v; want sold out with one left", d, err)
		}
		if got := r.s.Stats(); got.Confirmed != before.Confirmed || got.Busy != before.Busy {
			t.Fatalf("it locked: %+v, before %+v", got, before)
		}
	})
}

// TestLateForTheView: a buyer comes while another's look at the stock is on its way back, which saw none;
// meanwhile some came in. He is not refused by what was seen before he came.
func TestLateForTheView(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		between, through := newRelay(t, dsn)
		stopped := time.Now()
		r := live(t, through, gatherable, func(c *mysqlstore.Config) {
			c.Now = func() time.Time { return stopped } // once seen empty, it is looked at first for ever
		})
		other := rig{open(t, dsn), r.ctx}
		r.stock(t, "mug", 1)
		r.grant(t, cart("first", line("mug", 1)))
		if d, err := r.s.Reserve(r.ctx, token, cart("second", line("mug", 1))); err != nil || d.Outcome != backends.OutcomeSoldOut {
			t.Fatalf("answered %+v, %v; want sold out", d, err)
		}
		slow := newSlowReply(t, "conn_tag:early")
		between.slow.Store(slow)
		early, late := make(chan answer, 1), make(chan answer, 1)
		go func() {
			q := cart("early", line("mug", 1))
			q.Caller = "early"
			d, err := r.s.Reserve(r.ctx, token, q)
			early <- answer{d, err}
		}()
		select {
		case <-slow.ready: // the server has looked
		case <-r.ctx.Done():
			t.Fatal("nobody has looked")
		}
		if _, err := other.s.Restock(r.ctx, token, &backends.RestockRequest{OpID: "more", Key: key("mug"), Amount: 1}); err != nil {
			t.Fatal(err)
		}
		go func() {
			d, err := r.s.Reserve(r.ctx, token, cart("late", line("mug", 1)))
			late <- answer{d, err}
		}()
		until(t, r.ctx, "the late one to wait for a look of his own", func() bool { return r.s.Stats().Queued == 1 })
		slow.pass()
		if a := <-early; a.err != nil || a.d.Outcome != backends.OutcomeSoldOut {
			t.Errorf("the early one was answered %+v, %v; it was sold out when he was there", a.d, a.err)
		}
		if a := <-late; a.err != nil || a.d.Outcome != backends.OutcomeGranted {
			t.Errorf("the late one was answered %+v, %v; there has been a unit since before he came", a.d, a.err)
		}
		r.conserved(t)
	})
}

// TestEmptiedPool: 64 buyers through two proxies empty a pool while the ledger has stock. Nobody is
// refused, and the pool is refilled by one at a time: as often as the stock needs, not once for
// each who found it empty.
func TestEmptiedPool(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		const buyers, each, size = 64, 4, 40
		dsn := srv.NewDatabase(t)
		small := func(c *mysqlstore.Config) { c.PoolCap, c.LockWait = size, patience }
		r := live(t, dsn, small)
		other := rig{open(t, dsn, small), r.ctx}
		r.stock(t, "mug", buyers*each)
		before := r.s.Stats().Refills + other.s.Stats().Refills
		errs := make([]error, buyers)
		var all sync.WaitGroup
		for i := range buyers {
			all.Go(func() {
				s := []rig{r, other}[i%2].s
				for n := range each {
					d, err := s.Reserve(r.ctx, token, cart(fmt.Sprintf("cart-%d-%d", i, n), line("mug", 1)))
					if err == nil && d.Outcome != backends.OutcomeGranted {
						err = fmt.Errorf("buyer %d was answered %s", i, d.Outcome)
					}
					errs[i] = errors.Join(errs[i], err)
				}
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		refills := r.s.Stats().Refills + other.s.Stats().Refills - before
		// Each refill fills a pool that is below a quarter, and units are taken once.
		if most := int64(buyers*each/(size-size/4) + 1); refills < 1 || refills > most {
			t.Errorf("%d refills, want 1 to %d", refills, most)
		}
		if l := r.level(t, key("mug")); l.Sellable() != 0 || l.Held != buyers*each {
			t.Errorf("at the end: %+v", l)
		}
		r.conserved(t)
	})
}

// TestLargerThanThePool: a line that no pool can hold is granted from what is unmaterialised.
func TestLargerThanThePool(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := live(t, srv.NewDatabase(t))
		r.stock(t, "mug", 5000)
		r.grant(t, cart("large", line("mug", 2880)))
		r.grant(t, cart("larger", line("mug", 2100)))
		d, err := r.s.Reserve(r.ctx, token, cart("too large", line("mug", 21)))
		if err != nil || d.Outcome != backends.OutcomeSoldOut || d.Short[0].Available != 20 {
			t.Fatalf("answered %+v, %v; want sold out with 20 left", d, err)
		}
		r.grant(t, cart("the rest", line("mug", 20)))
		if l := r.level(t, key("mug")); l.Sellable() != 0 || l.Unmaterialised != 0 || l.Held != 5000 {
			t.Fatalf("at the end: %+v", l)
		}
		r.conserved(t)
	})
}

// TestPoolIsBounded: the pool of a key never has more rows than its cap, however units come back.
func TestPoolIsBounded(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		db := raw(t, dsn)
		const size = 10
		r := live(t, dsn, func(c *mysqlstore.Config) { c.PoolCap = size })
		r.stock(t, "mug", size)
		check := func(when string) {
			t.Helper()
			var n int
			err := db.QueryRowContext(r.ctx, "SELECT COUNT(*) FROM crossfade_units WHERE pod = 'pod-1'").Scan(&n)
			if err != nil || n > size {
				t.Fatalf("%s: %d rows in a pool of %d, %v", when, n, size, err)
			}
			r.conserved(t)
		}
		check("restocked")
		for i := range 5 {
			r.grant(t, cart(fmt.Sprintf("cart-%d", i), line("mug", 2)))
			check("granted")
		}
		r.stockAt(t, backends.Key{Shop: shop, Item: "mug", Location: east}, size) // the same operation: nothing
		if _, err := r.s.Restock(r.ctx, token, &backends.RestockRequest{OpID: "more", Key: key("mug"), Amount: 3 * size}); err != nil {
			t.Fatal(err)
		}
		check("restocked again")
		for i := range 5 {
			if _, err := r.s.Release(r.ctx, token, &backends.ReleaseRequest{ID: backends.HoldID(fmt.Sprintf("cart-%d", i))}); err != nil {
				t.Fatal(err)
			}
			check("released")
			if _, err := r.s.Maintain(r.ctx, token); err != nil {
				t.Fatal(err)
			}
			check("maintained")
		}
		if l := r.level(t, key("mug")); l.Sellable() != 4*size || l.Available == 0 {
			t.Fatalf("at the end: %+v, want it all, and some of it in the pool", l)
		}
	})
}
