package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

var crowdParts = []part{
	{"the last units are sold once, and all of them", crowdSells},
	{"nobody is refused while stock is there", crowdServed},
	{"nobody is refused while units go round", crowdChurns},
	{"carts in opposite orders", crowdCrosses},
	{"one hold id is granted once", crowdOneHold},
	{"one hold id takes the last units", crowdLastHold},
	{"one operation id is done once", crowdOneOp},
	{"claim and release race", crowdClaimRelease},
	{"sweepers race", crowdExpires},
	{"entries are applied once", crowdApplies},
	{"no write survives a raised fence", crowdRaise},
	{"some order explains every answer", crowdLinear},
}

// buyers is the crowd of DESIGN's flash sale.
const buyers = 64

// crowd runs n goroutines at once and fails the test with their errors.
func crowd(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = do(i)
		})
	}
	close(start)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// workers bounds how many requests of a set-up are on their way at once.
const workers = 16

// parallel does n things by a few workers, for set-ups that are many round trips.
func parallel(t fataler, n int, do func(i int) error) {
	t.Helper()
	var next atomic.Int64
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[w] = do(i)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("in parallel: %v", err)
	}
}

// retries bounds how often a crowd sends a request again that was answered "unknown".
const retries = 20

// again sends a write until its outcome is known: busy and ambiguous answers may be sent again
// under the same id.
func again[R any](do func() (R, error)) (R, error) {
	var res R
	var err error
	for range retries {
		res, err = do()
		if !errors.Is(err, backends.ErrBusy) && !backends.IsAmbiguous(err) {
			return res, err
		}
	}
	return res, fmt.Errorf("still unknown after %d attempts: %w", retries, err)
}

// tally counts outcomes.
type tally struct{ granted, replayed, soldOut atomic.Int64 }

func (n *tally) reserve(r *rig, q *backends.ReserveRequest) (*backends.Decision, error) {
	d, err := again(func() (*backends.Decision, error) { return r.s.Reserve(r.ctx, r.tok, q) })
	switch {
	case err != nil:
		return nil, fmt.Errorf("reserve %s: %w", q.ID, err)
	case d.Outcome == backends.OutcomeSoldOut:
		n.soldOut.Add(1)
	case d.Outcome != backends.OutcomeGranted:
		return nil, fmt.Errorf("reserve %s answered %s", q.ID, d.Outcome)
	case d.Replayed:
		n.replayed.Add(1)
	default:
		n.granted.Add(1)
	}
	return d, nil
}

func buyer(i, n int) backends.HoldID { return backends.HoldID(fmt.Sprintf("b%d-%d", i, n)) }

// sells lets the crowd buy lines of quantity q from units, each buyer tries times, through two
// handles.
func sells(t *testing.T, r *rig, stock, q int64, tries int) {
	t.Helper()
	r.stock(mug, east, stock)
	handles := []*rig{r, r.second()}
	var n tally
	crowd(t, buyers, func(i int) error {
		for k := range tries {
			if _, err := n.reserve(handles[i%2], request(buyer(i, k), line(mug, q))); err != nil {
				return err
			}
		}
		return nil
	})
	want := min(stock/q, int64(buyers*tries))
	// A grant whose first answer was lost is counted as replayed.
	if got := n.granted.Load() + n.replayed.Load(); got != want || got+n.soldOut.Load() != int64(buyers*tries) {
		t.Fatalf("%d units in lots of %d: %d granted and %d refused, want %d granted", stock, q, got, n.soldOut.Load(), want)
	}
	r.levelIs(mug, east, units{OnHand: stock, Sellable: stock - want*q, Held: want * q})
	r.conserved()
}

func crowdSells(t *testing.T, e *env) {
	sells(t, e.truth(t), 100, 1, 2)
	sells(t, e.truth(t), 100, 3, 1)
}

func crowdServed(t *testing.T, e *env) {
	sells(t, e.truth(t), buyers*3, 1, 3)
	// With a pool far smaller than the demand, which has to be refilled all the time.
	sells(t, e.open(t, e.dual(), Options{PoolCap: 5}), buyers*4, 2, 2)
}

func crowdChurns(t *testing.T, e *env) {
	for _, opts := range []Options{{}, {PoolCap: 3}} {
		r := e.open(t, e.dual(), opts)
		const crowdSize = 24
		r.stock(mug, east, crowdSize) // one for each, at any instant
		var n tally
		crowd(t, crowdSize, func(i int) error {
			for k := range 4 {
				if _, err := n.reserve(r, request(buyer(i, k), line(mug, 1))); err != nil {
					return err
				}
				_, err := again(func() (*backends.Decision, error) {
					return r.s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: buyer(i, k)})
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if n.soldOut.Load() != 0 {
			t.Fatalf("%d of %d were refused although a unit was there for each", n.soldOut.Load(), crowdSize*4)
		}
		r.levelIs(mug, east, units{OnHand: crowdSize, Sellable: crowdSize})
		r.conserved()
	}
}

func crowdCrosses(t *testing.T, e *env) {
	r := e.truth(t)
	items := []backends.Item{"i0", "i1", "i2", "i3"}
	for _, item := range items {
		r.stock(item, east, 60)
	}
	var n tally
	crowd(t, 32, func(i int) error {
		lines := []backends.Line{line(items[i%4], 1), line(items[(i+1+i/4%3)%4], 2)}
		for k := range 3 {
			if _, err := n.reserve(r, request(buyer(i, k), lines...)); err != nil {
				return err
			}
		}
		return nil
	})
	var held int64
	for _, item := range items {
		l := r.level(key(item, east))
		if l.Sellable() < 0 {
			t.Fatalf("%s is oversold: %+v", item, l)
		}
		held += l.Held
	}
	if want := 3 * (n.granted.Load() + n.replayed.Load()); held != want {
		t.Fatalf("%d units are held, granted were %d", held, want)
	}
	r.conserved()
}

func crowdOneHold(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 100)
	r.sentByMany(r.second(), "cart", 32, mug)
	r.levelIs(mug, east, units{OnHand: 100, Sellable: 98, Held: 2})
	if got := len(r.pending()); got != 2 {
		t.Fatalf("the outbox has %d entries, want the restock and one grant", got)
	}
	r.conserved()
}

// crowdLastHold: whoever comes second finds the units gone, and must find them in its own hold. A
// call that looks for the hold first and for the units later must not answer sold out.
func crowdLastHold(t *testing.T, e *env) {
	const rounds = 30
	r := e.truth(t)
	other := r.second()
	items := r.stockMany(rounds, 2)
	for i, k := range items {
		r.sentByMany(other, buyer(i, 0), 2+i%5, k.Item)
		r.levelIs(k.Item, east, units{OnHand: 2, Held: 2})
	}
	r.conserved()
}

// sentByMany lets n callers reserve two units under one id, through two handles; all are granted,
// one of them first.
func (r *rig) sentByMany(other *rig, id backends.HoldID, n int, item backends.Item) {
	r.t.Helper()
	handles := []*rig{r, other}
	var seen tally
	crowd(r.test, n, func(i int) error {
		_, err := seen.reserve(handles[i%2], request(id, line(item, 2)))
		return err
	})
	if seen.granted.Load() > 1 || seen.soldOut.Load() != 0 {
		r.t.Fatalf("one id was granted %d times and refused %d times", seen.granted.Load(), seen.soldOut.Load())
	}
}

func crowdOneOp(t *testing.T, e *env) {
	r := e.truth(t)
	handles := []*rig{r, r.second()}
	var restocked, counted atomic.Int64
	crowd(t, 16, func(i int) error {
		h := handles[i%2]
		d, err := again(func() (*backends.Decision, error) {
			return h.s.Restock(h.ctx, h.tok, &backends.RestockRequest{OpID: "restock", Key: key(mug, east), Amount: 10})
		})
		if err != nil {
			return err
		}
		if !d.Replayed {
			restocked.Add(1)
		}
		res, err := again(func() (*backends.CountResult, error) {
			return h.s.Count(h.ctx, h.tok, &backends.CountRequest{OpID: "take", Key: key(mug, east), Delta: -3})
		})
		if err != nil {
			return err
		}
		if res.Value != 7 {
			return fmt.Errorf("the count answered %d, want 7", res.Value)
		}
		if !res.Replayed {
			counted.Add(1)
		}
		return nil
	})
	if restocked.Load() > 1 || counted.Load() > 1 {
		t.Fatalf("one restock was done %d times, one count %d times", restocked.Load(), counted.Load())
	}
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 7, Taken: 3})
	r.conserved()
}

func crowdClaimRelease(t *testing.T, e *env) {
	r := e.truth(t)
	const holds = 16
	r.stock(mug, east, holds)
	for i := range holds {
		r.grant(buyer(i, 0), line(mug, 1))
	}
	var sorry atomic.Int64
	crowd(t, 2*holds, func(i int) error {
		id := buyer(i/2, 0)
		if i%2 == 0 {
			d, err := again(func() (*backends.Decision, error) {
				return r.s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: id})
			})
			if err == nil && d.Outcome != backends.OutcomeReleased && d.Outcome != backends.OutcomeEnded {
				err = fmt.Errorf("release answered %s", d.Outcome)
			}
			return err
		}
		d, err := again(func() (*backends.Decision, error) {
			return r.s.Claim(r.ctx, r.tok, &backends.ClaimRequest{ID: id, Shop: shop})
		})
		if err == nil && d.Outcome != backends.OutcomeClaimed {
			err = fmt.Errorf("claim answered %s", d.Outcome)
		}
		if err == nil {
			sorry.Add(int64(len(d.Apologies)))
		}
		return err
	})
	if sorry.Load() != 0 {
		t.Fatalf("%d apologies, although nobody else bought", sorry.Load())
	}
	for i := range holds {
		r.state(buyer(i, 0), backends.Claimed)
	}
	r.levelIs(mug, east, units{})
	r.conserved()
}

func crowdExpires(t *testing.T, e *env) {
	r := e.truth(t)
	const holds = 30
	r.stock(mug, east, holds)
	var last backends.Instant
	for i := range holds {
		last = max(last, r.grantFor(buyer(i, 0), shortTTL, line(mug, 1)).Hold.ExpiresAt)
	}
	r.pass(last)
	handles := []*rig{r, r.second()}
	var ended atomic.Int64
	crowd(t, 8, func(i int) error {
		for {
			ds, err := again(func() ([]*backends.Decision, error) { return handles[i%2].s.Expire(r.ctx, r.tok, 7) })
			if err != nil || len(ds) == 0 {
				return err
			}
			ended.Add(int64(len(ds)))
		}
	})
	r.expire() // a sweeper may have left to another what that one then lost to a lock
	if ended.Load() > holds {
		t.Fatalf("%d holds were said to be expired, there are %d", ended.Load(), holds)
	}
	r.levelIs(mug, east, units{OnHand: holds, Sellable: holds})
	if got := len(r.pending()); got != 1+2*holds {
		t.Fatalf("the outbox has %d entries, want a restock, %d grants and as many expiries", got, holds)
	}
	r.conserved()
}

func crowdApplies(t *testing.T, e *env) {
	r := e.mirror(t)
	var entries []backends.Entry
	for i := range 10 {
		h := heldHold(buyer(i, 0), line(mug, 2), line(lamp, 1))
		entries = append(entries, holdEntry(backends.OpReserve, h),
			levelEntry(backends.LevelChange{Key: key(mug, east), OpID: backends.OpID(h.ID), OnHandDelta: 3}),
			levelEntry(backends.LevelChange{Key: key(lamp, east), OpID: "lamp" + backends.OpID(h.ID), OnHandDelta: 2}))
		if i%2 == 0 {
			entries = append(entries, holdEntry(backends.OpClaim, as(h, backends.Claimed, 2)))
		}
	}
	handles := []*rig{r, r.second()}
	var changed atomic.Int64
	crowd(t, 8, func(i int) error {
		h := handles[i%2]
		for k := range entries {
			e := entries[(k+i*5)%len(entries)]
			out, err := again(func() ([]backends.Applied, error) {
				now, err := h.s.Now(h.ctx)
				if err != nil {
					return nil, err
				}
				return h.s.Apply(h.ctx, h.tok, now, []backends.Entry{e})
			})
			if err != nil {
				return err
			}
			if out[0].Err != nil {
				return out[0].Err
			}
			if out[0].Changed {
				changed.Add(1)
			}
		}
		return nil
	})
	// A claim that overtakes its reserve makes one change of two; a change whose answer was
	// lost is not seen. More changes than entries there cannot be.
	if changed.Load() > int64(len(entries)) {
		t.Fatalf("%d entries made %d changes", len(entries), changed.Load())
	}
	r.levelIs(mug, east, units{OnHand: 20, Sellable: 10, Held: 10})
	r.levelIs(lamp, east, units{OnHand: 15, Sellable: 10, Held: 5})
	r.conserved()
}

func crowdRaise(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 100_000)
	var granted atomic.Int64
	var after atomic.Bool // the fence was raised
	done := make(chan error, 1)
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			for k := 0; ; k++ {
				raised := after.Load()
				_, err := r.s.Reserve(r.ctx, r.tok, request(buyer(i, k), line(mug, 1)))
				var fenced *backends.FencedError
				switch {
				case errors.As(err, &fenced):
					return
				case errors.Is(err, backends.ErrBusy) || backends.IsAmbiguous(err):
				case err != nil:
					errs[i] = err
					return
				case raised:
					errs[i] = fmt.Errorf("reserve %s began after Raise had returned and was granted", buyer(i, k))
					return
				default:
					granted.Add(1)
				}
			}
		})
	}
	go func() { wg.Wait(); done <- errors.Join(errs...) }()
	r.until("some grants", func() bool { return granted.Load() >= 50 || len(done) == 1 })
	f := backends.Fence{Epoch: r.tok.Epoch + 1, Stage: e.dual()}
	_, err := r.s.Raise(r.ctx, f, 0)
	r.ok(err, "Raise")
	after.Store(true)
	held := r.level(key(mug, east)).Held
	r.ok(<-done, "the crowd")
	if now := r.level(key(mug, east)).Held; now != held {
		t.Fatalf("%d units were held when Raise returned, and %d later: a write of the old epoch committed", held, now)
	}
	// Whatever was answered is there; what was not answered may be.
	if granted.Load() > held {
		t.Fatalf("%d grants were answered and %d units are held", granted.Load(), held)
	}
	r.conserved()
}
