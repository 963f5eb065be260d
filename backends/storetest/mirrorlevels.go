package storetest

import (
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

func followLevels(t *testing.T, e *env) {
	r := e.mirror(t)
	k := key(mug, east)
	at := func(epoch, n uint64) backends.Version { return backends.Version{Epoch: epoch, N: n} }
	for i, c := range []struct {
		ch      backends.LevelChange
		changed bool
		want    units
	}{
		{backends.LevelChange{Key: k, OpID: "x1", OnHandDelta: 10}, true, units{OnHand: 10, Sellable: 10}},
		{backends.LevelChange{Key: k, OpID: "x1", OnHandDelta: 10}, false, units{OnHand: 10, Sellable: 10}},
		{backends.LevelChange{Key: k, Taken: 3, Version: at(5, 2)}, true, units{OnHand: 10, Sellable: 7, Taken: 3}},
		{backends.LevelChange{Key: k, Taken: 1, Version: at(5, 1)}, false, units{OnHand: 10, Sellable: 7, Taken: 3}},
		{backends.LevelChange{Key: k, Taken: 3, Version: at(5, 2)}, false, units{OnHand: 10, Sellable: 7, Taken: 3}},
		// Late in its sum, new in its delta.
		{backends.LevelChange{Key: k, Taken: 0, Version: at(5, 1), OpID: "x2", OnHandDelta: 4}, true, units{OnHand: 14, Sellable: 11, Taken: 3}},
		// New in its sum, seen in its delta.
		{backends.LevelChange{Key: k, Taken: 20, Version: at(5, 9), OpID: "x2", OnHandDelta: 4}, true, units{OnHand: 14, Sellable: -6, Taken: 20}},
		{backends.LevelChange{Key: k, Taken: 2, Version: at(6, 1)}, true, units{OnHand: 14, Sellable: 12, Taken: 2}},
		{backends.LevelChange{Key: k, Taken: 5, Version: at(5, 99)}, false, units{OnHand: 14, Sellable: 12, Taken: 2}},
		{backends.LevelChange{Key: k, Version: at(6, 1), Taken: 2, OpID: "x3", OnHandDelta: -20}, true, units{OnHand: -6, Sellable: -8, Taken: 2}},
	} {
		a := r.apply(levelEntry(c.ch))[0]
		if a.Changed != c.changed {
			t.Fatalf("step %d: changed is %v, want %v", i, a.Changed, c.changed)
		}
		r.levelIs(mug, east, c.want)
		if a.Changed && c.want.Sellable < 0 {
			r.same("the debt", []backends.Units{{Key: k, Quantity: -c.want.Sellable}}, a.Debt)
		}
	}
	// A level with nothing to say makes the key.
	r.apply(levelEntry(backends.LevelChange{Key: key(lamp, west), Version: at(6, 0)}))
	r.levelIs(lamp, west, units{})
	r.conserved()
}

func followDelta(t *testing.T, e *env) {
	// This store, as truth, decided a give-back by itself: three of five were taken.
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.count(mug, east, -3)
	r.countAs("back", mug, east, 5)
	r.levelIs(mug, east, units{OnHand: 12, Sellable: 12})
	// The other store decides it again, and is the truth now.
	r.turn(e.following())
	for _, c := range []struct{ delta, onHand int64 }{{5, 15}, {5, 15}, {1, 11}, {0, 10}, {-2, 8}, {2, 12}} {
		entry := levelEntry(backends.LevelChange{Key: key(mug, east), OpID: "back", OnHandDelta: c.delta})
		before := r.level(key(mug, east)).OnHand
		if a := r.apply(entry)[0]; a.Changed != (before != c.onHand) {
			t.Fatalf("a delta of %d over %d on hand is changed=%v", c.delta, before, a.Changed)
		}
		r.levelIs(mug, east, units{OnHand: c.onHand, Sellable: c.onHand})
	}
	r.conserved()
}

func followTakes(t *testing.T, e *env) {
	k := key(mug, east)
	for _, c := range []struct {
		filled bool
		strict bool
	}{{true, e.following() == backends.Live}, {false, false}} {
		r := e.bare(t, Options{})
		r.raise(backends.Fence{Epoch: firstEpoch, Stage: e.following(), Open: true, Filled: c.filled})
		r.stock(mug, east, 10)
		first, second, third := takeEntry(k, "t1", 1, 1), takeEntry(k, "t2", 3, 2), takeEntry(k, "t3", 6, 3)
		hold := holdEntry(backends.OpReserve, heldHold("cart", line(mug, 2)))
		out, err := r.s.Apply(r.ctx, r.tok, r.now(), []backends.Entry{third, hold, second})
		r.ok(err, "Apply")
		if out[1].Err != nil {
			t.Fatalf("a hold among takes answered %v", out[1].Err)
		}
		if !c.strict {
			r.ok(errors.Join(out[0].Err, out[2].Err), "takes in any order")
			r.apply(first)
			r.levelIs(mug, east, units{OnHand: 10, Sellable: 2, Held: 2, Taken: 6})
			continue
		}
		for _, i := range []int{0, 2} {
			if !errors.Is(out[i].Err, backends.ErrOutOfOrder) || out[i].Changed {
				t.Fatalf("take %d without those before it answered %+v, want ErrOutOfOrder", i, out[i])
			}
		}
		r.levelIs(mug, east, units{OnHand: 10, Sellable: 8, Held: 2})
		r.apply(first, second, third) // in one batch, in order
		r.levelIs(mug, east, units{OnHand: 10, Sellable: 2, Held: 2, Taken: 6})
		r.apply(second, first) // late is nothing, and no error
		r.levelIs(mug, east, units{OnHand: 10, Sellable: 2, Held: 2, Taken: 6})
		// What a backfill writes may leave a gap.
		r.apply(levelEntry(backends.LevelChange{Key: k, Taken: 4, Version: backends.Version{Epoch: firstEpoch, N: 9}}), takeEntry(k, "t10", 5, 10))
		r.levelIs(mug, east, units{OnHand: 10, Sellable: 3, Held: 2, Taken: 5})
		// A give-back that was all restock has no sum, and no place in the order.
		rest := levelEntry(backends.LevelChange{Key: k, OpID: "rest", OnHandDelta: 4})
		rest.Op = backends.OpCount
		r.apply(rest)
		r.levelIs(mug, east, units{OnHand: 14, Sellable: 7, Held: 2, Taken: 5})
		r.conserved()
	}
}
