package dualwrite

import (
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
)

// TestBackfillLeavesLanesAlone: while the shadow is behind, a backfill that brought it what is in lanes as well would have it do
// everything twice, and fall further behind: under full load no backfill ended, and the outbox grew without bound.
func TestBackfillLeavesLanesAlone(t *testing.T) {
	ctx := t.Context()
	redis, mysql := memstore.New(memstore.Options{Side: backends.SideRedis}), memstore.New(memstore.Options{Side: backends.SideMySQL})
	f := backends.Fence{Epoch: 1, Stage: backends.Shadow, Open: true}
	for _, s := range []backends.Store{redis, mysql} {
		if _, err := s.Raise(ctx, f, 0); err != nil {
			t.Fatal(err)
		}
	}
	p := NewPod("p", Stores{Redis: redis, MySQL: mysql}, Options{Lanes: 1})
	if err := p.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	key := backends.Key{Shop: "s", Item: "a", Location: backends.DefaultLocation}
	if _, err := p.Restock(ctx, &backends.RestockRequest{OpID: "o", Key: key, Amount: 5}); err != nil {
		t.Fatal(err)
	}
	b := backfill{p: p, f: f, t: backends.Token{Epoch: 1}, truth: redis, shadow: mysql, tell: func(BackfillProgress) {}}
	if err := b.sweep(ctx); err != nil { // the shadow keeps up: all goes
		t.Fatal(err)
	}
	p.LaneStep(ctx, 0)
	line := backends.Line{Item: "a", Quantity: 1, Locations: []backends.Location{backends.DefaultLocation}}
	d, err := p.Reserve(ctx, &backends.ReserveRequest{ID: "h", Shop: "s", Lines: []backends.Line{line}, TTL: time.Minute})
	if err != nil || d.Outcome != backends.OutcomeGranted {
		t.Fatal(d, err)
	}
	shadow := func(want bool) {
		t.Helper()
		if err := b.sweep(ctx); err != nil {
			t.Fatal(err)
		}
		h, err := mysql.Get(ctx, "h")
		if err != nil || (h != nil) != want {
			t.Fatalf("the shadow has %+v, %v", h, err)
		}
	}
	p.lanes.waited[0].Store(int64(time.Second))
	shadow(false)
	if _, err := redis.Reemit(ctx, b.t, []backends.HoldID{"h"}); err != nil {
		t.Fatal(err)
	}
	shadow(true) // what it has sent itself it does not leave to anybody
	if st, err := redis.OutboxStats(ctx); err != nil || st.Entries != 1 {
		t.Fatalf("%d entries are left, %v; want the one in the lane", st.Entries, err)
	}
	p.lanes.waited[0].Store(0)
	shadow(true)
	if st, err := redis.OutboxStats(ctx); err != nil || st.Entries != 0 {
		t.Fatalf("%d entries are left, %v", st.Entries, err)
	}
}
