package dualwrite_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// TestSettle: MySQL has committed what Redis never accepted, and then comes a kill. Each kind of entry
// that is left in MySQL's outbox ends as the rule says.
func TestSettle(t *testing.T) {
	r := newRig(t, backends.Live)
	direct := func(d *backends.Decision, err error) {
		t.Helper()
		if err != nil || d.Entry == nil {
			t.Fatalf("%+v, %v", d, err)
		}
	}
	r.grant("known", "mug", 1)
	r.grant("released", "mug", 1)
	direct(r.mysql.Store.Reserve(r.ctx, r.tok(), cart("unknown", "mug", 2)))
	direct(r.mysql.Store.Reserve(r.ctx, r.tok(), cart("sold", "mug", 3)))
	direct(r.mysql.Store.Claim(r.ctx, r.tok(), &backends.ClaimRequest{ID: "sold"}))
	direct(r.mysql.Store.Release(r.ctx, r.tok(), &backends.ReleaseRequest{ID: "released"}))
	direct(r.mysql.Store.Restock(r.ctx, r.tok(), &backends.RestockRequest{OpID: "more", Key: key("mug"), Amount: 5}))
	r.kill()
	if err := r.Refresh(r.ctx); err != nil {
		t.Fatal(err)
	}
	n, err := r.Settle(r.ctx)
	if err != nil || n != 7 {
		t.Fatalf("%d entries were settled, %v; want 7", n, err)
	}
	if n, err := r.Settle(r.ctx); n != 0 || err != nil {
		t.Fatalf("settled again: %d, %v", n, err)
	}
	r.sweep(0)
	r.waiting(r.redis, 0)
	r.waiting(r.mysql, 0)
	r.states("known", backends.Held, backends.Held)
	r.states("released", backends.Held, backends.Held) // nobody was told of the release: it is void
	r.states("unknown", backends.StateUnknown, backends.Released)
	r.states("sold", backends.Claimed, backends.Claimed)
	r.agree()
	ls, err := r.Levels(r.ctx, []backends.Key{key("mug")})
	if err != nil || ls[0].OnHand != 10-3+5 || ls[0].Sellable() != 10-2-3+5 {
		t.Errorf("at the end %+v, %v", ls, err)
	}
	// known and released were accepted and never left the outbox; unknown and sold were never compared.
	r.counted("begun 2, observed 0, sampled out 0, lost 4")
}

// told is a Lone that only hears of what is void.
type told struct{ ids []backends.HoldID }

func (*told) Away() bool { return false }
func (*told) Answer(context.Context, backends.Fence, []backends.Entry) error {
	return backends.ErrUnavailable
}

func (l *told) Voided(_ context.Context, _ backends.Fence, e *backends.Entry) error {
	l.ids = append(l.ids, e.Hold.ID)
	return nil
}

// TestVoidedIsSaid: after a kill of a pod that had answered without Redis a void hold may have been acknowledged.
func TestVoidedIsSaid(t *testing.T) {
	for _, alone := range []bool{true, false} {
		l := &told{}
		r := newRig(t, backends.Live, func(o *dualwrite.Options) { o.Lone = l })
		r.grant("known", "mug", 1)
		if _, err := r.mysql.Store.Reserve(r.ctx, r.tok(), cart("unknown", "mug", 2)); err != nil {
			t.Fatal(err)
		}
		r.epoch++
		r.raise(r.redis, backends.Fence{Epoch: r.epoch, Stage: backends.Shadow, Open: true, Alone: alone})
		if err := r.Refresh(r.ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Settle(r.ctx); err != nil {
			t.Fatal(err)
		}
		var want []backends.HoldID
		if alone {
			want = append(want, "unknown")
		}
		if !slices.Equal(l.ids, want) {
			t.Errorf("answered without Redis %v: said of %v, want %v", alone, l.ids, want)
		}
	}
}

// TestSettleAfterAReissue: in the kill's own epoch what Redis does not know is void. Later it may have known it, and lost it in a
// failover: it comes back, and ends by its time.
func TestSettleAfterAReissue(t *testing.T) {
	r := newRig(t, backends.Live)
	if _, err := r.mysql.Store.Reserve(r.ctx, r.tok(), cart("h", "mug", 2)); err != nil {
		t.Fatal(err)
	}
	r.kill()
	r.kill() // or rather: its fence is re-issued
	p := dualwrite.NewPod("pod", dualwrite.Stores{Redis: r.redis.Store, MySQL: r.mysql}, dualwrite.Options{Clock: r.clock, Lanes: 1, LaneDepth: 8})
	if err := errors.Join(p.Refresh(r.ctx), r.Refresh(r.ctx)); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Settle(r.ctx); err != nil || n != 1 {
		t.Fatalf("%d entries were settled, %v", n, err)
	}
	r.sweep(0)
	r.states("h", backends.Held, backends.Held)
	r.agree()
}

// TestSettleNeedsTheFence: as long as MySQL's fence cannot be raised, nothing is settled.
func TestSettleNeedsTheFence(t *testing.T) {
	r := newRig(t, backends.Live)
	r.grant("h", "mug", 1)
	r.kill()
	if err := r.Refresh(r.ctx); err != nil {
		t.Fatal(err)
	}
	// Somebody has taken MySQL further.
	r.raise(r.mysql, backends.Fence{Epoch: r.epoch + 5, Stage: backends.Shadow})
	if n, err := r.Settle(r.ctx); n != 0 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	r.waiting(r.mysql, 1)
}

// TestBackfill: a shadow that knows nothing, or too much, is complete afterwards.
func TestBackfill(t *testing.T) {
	r := newRig(t, backends.Shadow)
	r.grant("ended here", "mug", 1)
	r.grant("claimed here", "mug", 1)
	r.lane()
	// Redis alone: MySQL hears of claims and restocks only.
	r.fences(backends.RedisOnly)
	if err := r.Refresh(r.ctx); err != nil {
		t.Fatal(err)
	}
	r.grant("new", "mug", 2)
	r.claim("claimed here")
	r.lane()
	if _, err := r.Release(r.ctx, &backends.ReleaseRequest{ID: "ended here"}); err != nil {
		t.Fatal(err)
	}
	r.fences(backends.Shadow)
	// A hold of an earlier epoch that the truth has never had.
	stray := cart("never there", "mug", 1)
	e := backends.Entry{Op: backends.OpReserve, Hold: &backends.Hold{ID: stray.ID, Shop: shop, Lines: stray.Lines, State: backends.Held,
		Allocs: []backends.Allocation{{Line: 0, Location: where, Quantity: 1}}, Version: backends.Version{Epoch: r.epoch - 1, N: 1}}}
	if _, err := r.mysql.Store.Apply(r.ctx, r.tok(), r.clock.instant(), []backends.Entry{e}); err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(r.ctx); err != nil {
		t.Fatal(err)
	}
	r.states("ended here", backends.Released, backends.Held)
	r.states("new", backends.Held, backends.StateUnknown)
	var last dualwrite.BackfillProgress
	if err := r.Backfill(r.ctx, func(b dualwrite.BackfillProgress) { last = b }); err != nil {
		t.Fatal(err)
	}
	if last.Levels != 2 || last.Holds != 1 || last.Waiting != 0 || last.Voided == 0 {
		t.Errorf("the last that was told is %+v", last)
	}
	r.states("ended here", backends.Released, backends.Released)
	r.states("claimed here", backends.Claimed, backends.Claimed)
	r.states("new", backends.Held, backends.Held)
	if s := r.state(r.mysql, "never there"); s.Open() {
		t.Errorf("a hold that the truth does not have is %s in the shadow", s)
	}
	r.waiting(r.redis, 0)
	r.agree()
}

// TestBackfillOfALateClaim: a hold that both stores knew as released was claimed in mysql-only. Redis
// must know of it before it may become the truth: else the claim, sent again, would take units twice.
func TestBackfillOfALateClaim(t *testing.T) {
	r := newRig(t, backends.Live)
	r.grant("h", "mug", 2)
	if _, err := r.Release(r.ctx, &backends.ReleaseRequest{ID: "h"}); err != nil {
		t.Fatal(err)
	}
	r.lane()
	r.fences(backends.MySQLOnly)
	r.claim("h")
	r.fences(backends.Live)
	if err := r.Refresh(r.ctx); err != nil {
		t.Fatal(err)
	}
	r.states("h", backends.Released, backends.Claimed)
	if err := r.Backfill(r.ctx, nil); err != nil {
		t.Fatal(err)
	}
	r.states("h", backends.Claimed, backends.Claimed)
	r.agree()
	r.kill()
	if d := r.claim("h"); !d.Replayed {
		t.Error("it was claimed twice")
	}
}

// TestBackfillOfALostOutbox: entries were dropped; the backfill brings their holds across.
func TestBackfillOfALostOutbox(t *testing.T) {
	r := newRigOn(t, backends.Shadow, smallOutbox)
	r.mysql.before = func(string) error { return backends.ErrUnavailable }
	for _, id := range []backends.HoldID{"a", "b", "c"} {
		r.grant(id, "mug", 1)
	}
	r.lane()
	if st, err := r.redis.OutboxStats(r.ctx); err != nil || !st.Lost {
		t.Fatalf("%+v, %v; want it lost", st, err)
	}
	r.mysql.before = nil
	r.sweep(0)
	// Broken off half-way it has brought nothing, and the shadow is known to be incomplete still.
	ctx, cancel := context.WithCancel(r.ctx)
	if err := r.Pod.Backfill(ctx, func(p dualwrite.BackfillProgress) {
		if p.Phase == "waiting for what was there" {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatalf("broken off, it answered %v", err)
	}
	r.sweep(0)
	if st, err := r.redis.OutboxStats(r.ctx); err != nil || !st.Lost {
		t.Fatalf("after a backfill that was broken off: %+v, %v; want it lost", st, err)
	}
	// With room for one entry a backfill drops as well, and says so by the flag: again, until it has not.
	for range 10 {
		if err := r.Backfill(r.ctx, nil); err != nil {
			t.Fatal(err)
		}
		if st, err := r.redis.OutboxStats(r.ctx); err != nil || !st.Lost {
			break
		}
	}
	r.waiting(r.redis, 0)
	r.states("a", backends.Held, backends.Held)
}

// TestBackfillStopsWhenTheEpochMoves.
func TestBackfillStopsWhenTheEpochMoves(t *testing.T) {
	r := newRig(t, backends.Shadow)
	r.grant("h", "mug", 1)
	r.fences(backends.Shadow) // unseen by the pod
	if err := r.Backfill(r.ctx, nil); !errors.Is(err, dualwrite.ErrEpochMoved) {
		t.Fatalf("answered %v", err)
	}
	if got := r.Gate().Serving().Epoch; got != r.epoch {
		t.Errorf("the pod serves epoch %d, and the fence said %d", got, r.epoch)
	}
	if err := r.Backfill(r.ctx, nil); err != nil {
		t.Fatal(err)
	}
	r.agree()
}

// TestSettleOfCounts: MySQL has decided counts that Redis never accepted, and then come a kill and a
// way back to live, all while whoever asked is still waiting. What was voided is not answered as done.
func TestSettleOfCounts(t *testing.T) {
	r := newRig(t, backends.Live)
	count := func(id backends.OpID, delta int64) *backends.CountRequest {
		return &backends.CountRequest{OpID: id, Key: key("mug"), Delta: delta}
	}
	sent := func(id backends.OpID, delta, want int64) {
		t.Helper()
		res, err := r.Count(r.ctx, count(id, delta))
		if err != nil || res.Value != want {
			t.Fatalf("a count of %+d answered %+v, %v; want %d", delta, res, err, want)
		}
	}
	sent("accepted", -3, 7)
	for _, c := range []*backends.CountRequest{count("take", -2), count("give back and more", 7)} {
		if _, err := r.mysql.Store.Count(r.ctx, r.tok(), c); err != nil {
			t.Fatal(err)
		}
	}
	r.kill()
	if err := r.Refresh(r.ctx); err != nil {
		t.Fatal(err)
	}
	// One of them is sent again before MySQL's outbox is settled: Redis decides it, and that holds.
	if _, err := r.mysql.Store.Count(r.ctx, backends.Token{Epoch: r.epoch - 1}, count("meanwhile", -1)); err != nil {
		t.Fatal(err)
	}
	sent("other", -1, 6)
	sent("meanwhile", -1, 5)
	if n, err := r.Settle(r.ctx); n != 4 || err != nil {
		t.Fatalf("%d entries were settled, %v; want 4", n, err)
	}
	if n, err := r.Settle(r.ctx); n != 0 || err != nil {
		t.Fatalf("settled again: %d, %v", n, err)
	}
	r.sweep(0)
	r.waiting(r.redis, 0)
	r.agree()
	r.fences(backends.Live)
	if err := r.Refresh(r.ctx); err != nil {
		t.Fatal(err)
	}
	sent("accepted", -3, 7)
	sent("meanwhile", -1, 5)
	for _, c := range []*backends.CountRequest{count("take", -2), count("give back and more", 7)} {
		if res, err := r.Count(r.ctx, c); !errors.Is(err, backends.ErrVoid) {
			t.Errorf("%s, voided by the kill, answered %+v, %v", c.OpID, res, err)
		}
	}
	sent("take anew", -2, 3)
	r.sweep(0)
	r.waiting(r.mysql, 0)
	r.agree()
}
