package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

// fullForCounts: where answers wait for Redis, a count whose entry finds no room is refused before it
// changes anything. Elsewhere its entry is dropped, and the outbox says so.
func fullForCounts(t *testing.T, e *env) {
	const bound = 2
	k := key(mug, east)
	for _, filled := range []bool{true, false} {
		r := e.bare(t, Options{OutboxMax: bound})
		f := backends.Fence{Epoch: firstEpoch, Stage: e.dual(), Open: true, Filled: filled}
		r.raise(f)
		r.stock(mug, east, 10)
		first := r.countAs("first", mug, east, -3)
		if first.Entry == nil {
			t.Fatal("a take was not written below the bound")
		}
		if !f.Arbitrates() {
			if res := r.countAs("over", mug, east, -2); res.Entry != nil || res.Value != 5 {
				t.Fatalf("a take beyond the bound answered %+v, want 5 and no entry", res)
			}
			r.dropped(1, nil)
			continue
		}
		refused := func(op backends.OpID, k backends.Key, delta int64) {
			t.Helper()
			res, err := r.s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: op, Key: k, Delta: delta, Caller: "storetest"})
			if !errors.Is(err, backends.ErrOutboxFull) || !errors.Is(err, backends.ErrUnavailable) || backends.IsAmbiguous(err) {
				t.Fatalf("a count of %+d beyond the bound answered %+v, %v; want it refused", delta, res, err)
			}
		}
		refused("over", k, -2)
		refused("over", k, -2)
		refused("back", k, +1)
		refused("none", k, 0)
		refused("new key", key(lamp, east), -1)
		r.noLevel(key(lamp, east))
		r.levelIs(mug, east, units{OnHand: 10, Sellable: 7, Taken: 3})
		if st := r.stats(); st.Lost || st.Dropped != 0 || st.Entries != bound {
			t.Fatalf("the stats are %+v, want %d entries, nothing lost", st, bound)
		}
		// What was answered once is answered again, and the ledger is never refused.
		if res := r.countAs("first", mug, east, -3); !res.Replayed || res.Value != first.Value {
			t.Fatalf("sent again it answered %+v, want %d again", res, first.Value)
		}
		if res := r.countAs("more", mug, east, +5); res.Entry == nil || res.Entry.Level.OnHandDelta != 2 {
			t.Fatalf("a give-back with a restock answered %+v, want its entry", res)
		}
		r.levelIs(mug, east, units{OnHand: 12, Sellable: 12})
		// With room again it is decided, and its version follows without a gap.
		r.drain()
		var res *backends.CountResult
		r.until("room in the outbox to be noticed", func() bool {
			var err error
			res, err = r.s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: "over", Key: k, Delta: -2, Caller: "storetest"})
			return err == nil
		})
		if res.Replayed || res.Value != 10 || res.Entry == nil || res.Entry.Level.Version != (backends.Version{Epoch: firstEpoch, N: 3}) {
			t.Fatalf("with room again it answered %+v, want 10 as the third change", res)
		}
		r.conserved()
	}
}

// fullForCrowd: the bound is reached while many count, each at a key of its own, so that nothing else keeps them
// apart. Where answers wait for Redis, each that is answered has its entry.
func fullForCrowd(t *testing.T, e *env) {
	const callers, each = 8, 12
	waits := e.dual() == backends.Live
	r := e.open(t, e.dual(), Options{OutboxMax: callers * each / 2})
	var done, refused atomic.Int64
	keys := make([]backends.Key, callers)
	for i := range keys {
		keys[i] = key(backends.Item(fmt.Sprintf("item-%d", i)), east)
	}
	crowd(t, callers, func(i int) error {
		for j := range each {
			res, err := r.s.Count(r.ctx, r.tok, &backends.CountRequest{
				OpID: backends.OpID(fmt.Sprintf("c%d-%d", i, j)), Key: keys[i], Delta: -1, Caller: "storetest",
			})
			switch {
			case waits && errors.Is(err, backends.ErrOutboxFull):
				refused.Add(1)
			case err != nil:
				return err
			case res.Entry != nil:
				done.Add(1)
			case waits:
				return fmt.Errorf("%s: a count was answered %d without an entry", e.side, res.Value)
			}
		}
		return nil
	})
	st, taken := r.stats(), int64(0)
	ls, err := r.s.Levels(r.ctx, keys)
	r.ok(err, "Levels")
	for _, l := range ls {
		taken += l.Taken
	}
	const all = callers * each
	switch {
	case waits && (st.Lost || st.Dropped != 0 || refused.Load() == 0 || taken != all-refused.Load() || st.Entries != taken):
		t.Fatalf("%d counts were refused, %d units taken, and the stats are %+v", refused.Load(), taken, st)
	case !waits && (!st.Lost || st.Dropped != all-done.Load() || taken != all):
		t.Fatalf("%d counts left an entry, %d units taken, and the stats are %+v", done.Load(), taken, st)
	}
}
