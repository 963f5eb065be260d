package memstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/backends/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Sides: []backends.Side{backends.SideRedis, backends.SideMySQL},
		Open: func(_ *testing.T, side backends.Side, o storetest.Options) backends.Store {
			if o.Same != nil {
				return o.Same.(*memstore.Store).Handle()
			}
			return memstore.New(memstore.Options{Side: side, OutboxMax: o.OutboxMax, Retain: o.Retain})
		},
		Corrupt: func(_ *testing.T, s backends.Store, k backends.Key, delta int64) {
			s.(*memstore.Store).Bypass(k, delta)
		},
		Replaced: func(_ *testing.T, s backends.Store) backends.Store {
			m := s.(*memstore.Store)
			m.Promote(m.Snapshot())
			return m
		},
		Checks: 150,
	})
}

// world is a truth and its shadow on clocks that stand still.
type world struct {
	truth, shadow *memstore.Store
	now           *backends.Instant
}

const epoch = 1

func newWorld(tb testing.TB) world {
	w := world{now: new(backends.Instant)}
	*w.now = 1_700_000_000_000
	clock := func() backends.Instant { return *w.now }
	w.truth = memstore.New(memstore.Options{Side: backends.SideRedis, Clock: clock})
	w.shadow = memstore.New(memstore.Options{Side: backends.SideMySQL, Clock: clock})
	for _, s := range []*memstore.Store{w.truth, w.shadow} {
		if _, err := s.Raise(context.Background(), backends.Fence{Epoch: epoch, Stage: backends.Shadow, Open: true}, 0); err != nil {
			tb.Fatal(err)
		}
	}
	return w
}

// schedule is about what one schedule of the simulation does: some hundred steps.
func (w world) schedule(tb testing.TB) {
	ctx, tok := context.Background(), backends.Token{Epoch: epoch}
	must := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	key := backends.Key{Shop: "s", Item: "mug", Location: "east"}
	lines := []backends.Line{{Item: "mug", Quantity: 2, Locations: []backends.Location{"east"}}}
	_, err := w.truth.Restock(ctx, tok, &backends.RestockRequest{OpID: "op", Key: key, Amount: 40})
	must(err)
	for i := range 25 {
		id := holdIDs[i]
		_, err := w.truth.Reserve(ctx, tok, &backends.ReserveRequest{ID: id, Shop: "s", Lines: lines, TTL: time.Minute})
		must(err)
		if i%2 == 0 {
			_, err = w.truth.Claim(ctx, tok, &backends.ClaimRequest{ID: id, Shop: "s"})
		} else {
			_, err = w.truth.Release(ctx, tok, &backends.ReleaseRequest{ID: id})
		}
		must(err)
		es, err := w.truth.Pending(ctx, "", 0, 10)
		must(err)
		_, err = w.shadow.Apply(ctx, tok, *w.now, es)
		must(err)
		for _, e := range es {
			_, err = w.truth.Done(ctx, []string{e.Seq})
			must(err)
		}
		_, err = w.truth.Expire(ctx, tok, 10)
		must(err)
	}
}

var holdIDs = func() (ids []backends.HoldID) {
	for i := range 100 {
		ids = append(ids, backends.HoldID(fmt.Sprintf("hold-%d", i)))
	}
	return ids
}()

// BenchmarkSchedule is what the simulation pays the stores for one schedule of some 200 steps: two
// stores made, and 25 holds reserved, ended, mirrored and taken out of the outbox.
func BenchmarkSchedule(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		newWorld(b).schedule(b)
	}
}

// TestScheduleIsCheap keeps the simulation at 100,000 schedules a minute, which is 0.6 ms for each,
// of which the stores may take half. Allocations are counted, since they do not depend on the
// machine: at some 50 ns each they are the larger part of the time.
func TestScheduleIsCheap(t *testing.T) {
	const most = 1500
	if got := testing.AllocsPerRun(20, func() { newWorld(t).schedule(t) }); got > most {
		t.Fatalf("a schedule makes %.0f allocations, want at most %d", got, most)
	}
}

// TestCopies: what goes in or comes out may be changed by the caller without an effect.
func TestCopies(t *testing.T) {
	w := newWorld(t)
	ctx, tok := t.Context(), backends.Token{Epoch: epoch}
	key := backends.Key{Shop: "s", Item: "mug", Location: "east"}
	if _, err := w.truth.Restock(ctx, tok, &backends.RestockRequest{OpID: "op", Key: key, Amount: 10}); err != nil {
		t.Fatal(err)
	}
	q := &backends.ReserveRequest{ID: "h", Shop: "s", TTL: time.Minute, Lines: []backends.Line{{Item: "mug", Quantity: 2, Locations: []backends.Location{"east"}}}}
	d, err := w.truth.Reserve(ctx, tok, q)
	if err != nil {
		t.Fatal(err)
	}
	spoil := func(h *backends.Hold) {
		h.Lines[0].Item, h.Lines[0].Locations[0], h.Allocs[0].Quantity, h.State = "other", "other", 99, backends.Expired
	}
	entries := func() []backends.Entry {
		es, err := w.truth.Pending(ctx, "", 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		return es
	}
	get := func(s *memstore.Store) *backends.Hold {
		h, err := s.Get(ctx, "h")
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	q.Lines[0].Item, q.Lines[0].Locations[0] = "other", "other"
	spoil(d.Hold)
	spoil(get(w.truth))
	es := entries()
	if _, err := w.shadow.Apply(ctx, tok, *w.now, es); err != nil {
		t.Fatal(err)
	}
	spoil(es[1].Hold)
	es[0].Level.OnHandDelta = 99
	for _, h := range []*backends.Hold{get(w.truth), get(w.shadow), entries()[1].Hold} {
		if h.State != backends.Held || h.Lines[0].Item != "mug" || h.Lines[0].Locations[0] != "east" || h.Allocs[0].Quantity != 2 {
			t.Fatalf("the store's hold was changed from outside: %+v", h)
		}
	}
	if got := entries()[0].Level.OnHandDelta; got != 10 {
		t.Fatalf("the store's entry was changed from outside: %d", got)
	}
}

// TestBadCursors: a position that no page gave is the caller's fault.
func TestBadCursors(t *testing.T) {
	w := newWorld(t)
	_, _, holds := w.truth.ScanHolds(t.Context(), "x", 10, false)
	_, _, levels := w.truth.ScanLevels(t.Context(), "9", 10)
	_, pending := w.truth.Pending(t.Context(), "x", 0, 10)
	for _, err := range []error{holds, levels, pending} {
		if !backends.IsRejection(err) {
			t.Errorf("a bad position answered %v", err)
		}
	}
}
