package storetest

import (
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

// settleOp settles a count of the mug, and gives the one entry that it wrote.
func (r *rig) settleOp(id backends.OpID, void bool) backends.Entry {
	r.t.Helper()
	r.drain()
	was, err := r.s.SettleOp(r.ctx, r.tok, key(mug, east), id)
	r.ok(err, "SettleOp(%s)", id)
	es := r.drain()
	if was != void || len(es) != 1 || es[0].Op != backends.OpReemit {
		r.t.Fatalf("SettleOp(%s) answered void=%v and wrote %+v, want void=%v and one entry", id, was, es, void)
	}
	return es[0]
}

// voided wants an operation id to be void.
func (r *rig) voided(id backends.OpID) {
	r.t.Helper()
	before := r.level(key(mug, east))
	_, err := r.s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: id, Key: key(mug, east), Delta: -1})
	if !errors.Is(err, backends.ErrVoid) {
		r.t.Fatalf("a count under a voided id answered %v", err)
	}
	_, err = r.s.Restock(r.ctx, r.tok, &backends.RestockRequest{OpID: id, Key: key(mug, east), Amount: 3})
	if !errors.Is(err, backends.ErrVoid) {
		r.t.Fatalf("a restock under a voided id answered %v", err)
	}
	r.same("the level", before, r.level(key(mug, east)))
}

func settleUnknown(t *testing.T, e *env) {
	r := e.bare(t, Options{OutboxMax: 1})
	fence := backends.Fence{Epoch: firstEpoch, Stage: e.dual(), Open: true} // so that a full outbox drops counts
	r.raise(fence)
	r.stock(mug, east, 10)
	r.count(mug, east, -3)
	old := r.level(key(mug, east))
	fence.Epoch++
	r.raise(fence)
	want := &backends.LevelChange{
		Key: key(mug, east), Taken: 3, Version: backends.Version{Epoch: firstEpoch + 1, N: old.TakenVersion.N}, OpID: "lost", Void: true,
	}
	for range 2 { // whoever settles may die before he has noted it
		r.same("the change of a voided count", want, r.settleOp("lost", true).Level)
		r.voided("lost")
	}
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 7, Taken: 3})
	// No backfill would bring it, so that it is not dropped from a full outbox.
	r.count(mug, east, -1)
	before := len(r.pending())
	if _, err := r.s.SettleOp(r.ctx, r.tok, key(mug, east), "another"); err != nil {
		t.Fatal(err)
	}
	if es := r.pending(); before != 1 || len(es) != 2 || !es[1].Level.Void {
		t.Fatalf("with %d in an outbox of one, a void left %+v", before, es)
	}
	// Nor is what became of a known one, although it moves nothing here: in the other store it may have.
	r.countAs("moves nothing here", mug, east, -1)
	for _, settle := range []func() error{
		func() error {
			_, err := r.s.SettleOp(r.ctx, r.tok, key(mug, east), "moves nothing here")
			return err
		},
		func() error {
			q := &backends.RestockRequest{OpID: "moves nothing here", Key: key(mug, east), Amount: 1}
			_, err := r.s.Restock(r.ctx, r.tok, q)
			return err
		},
	} {
		before := len(r.pending())
		r.ok(settle(), "what became of an operation")
		es := r.pending()
		if len(es) != before+1 || es[before].Op != backends.OpReemit || es[before].Level.OpID != "moves nothing here" || es[before].Level.OnHandDelta != 0 {
			t.Fatalf("in a full outbox of %d what became of an operation left %+v", before, es)
		}
	}
	// A key that nobody has used.
	if void, err := r.s.SettleOp(r.ctx, r.tok, key(lamp, west), "elsewhere"); !void || err != nil {
		t.Fatalf("SettleOp at a key without a level answered %v, %v", void, err)
	}
	r.levelIs(lamp, west, units{})
	r.conserved()
}

func settleKnown(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.count(mug, east, -3)
	if res := r.countAs("back", mug, east, 5); res.Value != 12 {
		t.Fatalf("the give-back answered %+v", res)
	}
	r.count(mug, east, -4)
	l := r.level(key(mug, east))
	r.turn(e.dual())
	want := &backends.LevelChange{
		Key: key(mug, east), Taken: 4, Version: backends.Version{Epoch: firstEpoch + 1, N: l.TakenVersion.N}, OpID: "back", OnHandDelta: 2, Answer: 12,
	}
	r.same("the change of a known count", want, r.settleOp("back", false).Level)
	if res := r.countAs("back", mug, east, 5); !res.Replayed || res.Value != 12 {
		t.Fatalf("sent again after it was settled it answered %+v, want 12, replayed", res)
	}
	r.levelIs(mug, east, units{OnHand: 12, Sellable: 8, Taken: 4})
	r.conserved()
}

func followVoid(t *testing.T, e *env) {
	// This store, as truth, decided a give-back and a take that nobody was told of.
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.count(mug, east, -3)
	r.countAs("back", mug, east, 5)
	r.countAs("take", mug, east, -4)
	r.levelIs(mug, east, units{OnHand: 12, Sellable: 8, Taken: 4})
	r.turn(e.following())
	void := func(id backends.OpID) backends.Entry {
		return levelEntry(backends.LevelChange{Key: key(mug, east), OpID: id, Taken: 3, Version: backends.Version{Epoch: firstEpoch + 1, N: 1}, Void: true})
	}
	for i, c := range []struct {
		entry   backends.Entry
		changed bool
		want    units
	}{
		{void("take"), true, units{OnHand: 12, Sellable: 9, Taken: 3}},
		{void("back"), true, units{OnHand: 10, Sellable: 7, Taken: 3}},
		{void("back"), false, units{OnHand: 10, Sellable: 7, Taken: 3}},
		{void("never came"), true, units{OnHand: 10, Sellable: 7, Taken: 3}},
		// What was on its way comes too late.
		{levelEntry(backends.LevelChange{Key: key(mug, east), OpID: "back", OnHandDelta: 2, Answer: 12}), false, units{OnHand: 10, Sellable: 7, Taken: 3}},
		{takeEntry(key(mug, east), "never came", 9, 1), false, units{OnHand: 10, Sellable: 7, Taken: 3}},
	} {
		if a := r.apply(c.entry)[0]; a.Changed != c.changed {
			t.Fatalf("step %d: changed is %v, want %v", i, a.Changed, c.changed)
		}
		r.levelIs(mug, east, c.want)
	}
	// The pod is back before whoever asked has given up.
	r.turn(e.dual())
	for _, id := range []backends.OpID{"take", "back", "never came"} {
		r.voided(id)
	}
	if res := r.countAs("take anew", mug, east, -4); res.Replayed || res.Value != 3 {
		t.Fatalf("under a new id it answered %+v, want 3", res)
	}
	r.conserved()
}
