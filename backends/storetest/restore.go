package storetest

import (
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

// restoreParts are about a server that was replaced by a replica: only a store of which that can be is asked.
var restoreParts = []part{
	{"a replaced server decides nothing", replacedDecidesNothing},
	{"a replaced server is raised anew only", replacedRaise},
	{"a truth is given back what it has lost", restoreStates},
	{"a level is given back once for each id", restoreLevel},
	{"only the truth of its epoch is given back", restoreFenced},
}

// replaced puts another server in the place of the rig's, with all that it has.
func (r *rig) replaced() *rig {
	r.t.Helper()
	n := *r
	n.s = r.env.h.Replaced(r.test, r.s)
	return &n
}

func (r *rig) restorer() backends.Restorer {
	r.t.Helper()
	to, ok := r.s.(backends.Restorer)
	if !ok {
		r.t.Fatalf("%T can be replaced, and is no Restorer", r.s)
	}
	return to
}

func (r *rig) restore(es ...backends.Entry) []backends.Applied {
	r.t.Helper()
	as, err := r.restorer().Restore(r.ctx, r.tok, r.now(), es)
	r.ok(err, "Restore")
	if len(as) != len(es) {
		r.t.Fatalf("Restore answered %d results for %d entries", len(as), len(es))
	}
	for i := range as {
		r.ok(as[i].Err, "Restore of %s", es[i].Seq)
	}
	return as
}

func replacedDecidesNothing(t *testing.T, e *env) {
	if e.h.Replaced == nil {
		return
	}
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.grant("open", line(mug, 3))
	before := r.book([]backends.Key{key(mug, east)}, "open", "new")
	r = r.replaced()
	f, err := r.s.Fence(r.ctx)
	r.ok(err, "Fence")
	r.same("the fence of a replaced server", backends.Fence{Epoch: firstEpoch, Stage: e.dual(), Filled: true}, f)
	for _, w := range writes {
		for _, tok := range []backends.Token{r.tok, {Epoch: firstEpoch + 1}} {
			if err := w.do(r, tok); err == nil || backends.IsAmbiguous(err) {
				t.Fatalf("%s at a replaced server answered %v", w.name, err)
			}
		}
	}
	if err := r.s.Admitted(r.ctx, r.tok, false); !errors.Is(err, backends.ErrRestarted) || !errors.Is(err, backends.ErrUnavailable) {
		t.Fatalf("Admitted at a replaced server answered %v, want ErrRestarted and ErrUnavailable", err)
	}
	r.same("everything at a replaced server", before, r.book([]backends.Key{key(mug, east)}, "open", "new"))
}

func replacedRaise(t *testing.T, e *env) {
	if e.h.Replaced == nil {
		return
	}
	r := e.truth(t)
	r.stock(mug, east, 10)
	r = r.replaced()
	next := backends.Fence{Epoch: firstEpoch + 1, Stage: e.alone(), Open: true}
	same := backends.Fence{Epoch: firstEpoch, Stage: e.dual(), Open: true, Filled: true}
	for name, c := range map[string]struct {
		f   backends.Fence
		if0 uint64
	}{"a kill": {next, firstEpoch}, "the same epoch": {same, 0}, "the same epoch, if it is that": {same, firstEpoch}} {
		if have, err := r.s.Raise(r.ctx, c.f, c.if0); !errors.Is(err, backends.ErrRestarted) {
			t.Fatalf("%s at a replaced server: %s, %v; want ErrRestarted", name, have, err)
		}
	}
	if have, err := r.s.Fence(r.ctx); err != nil || have.Epoch != firstEpoch || have.Open {
		t.Fatalf("the fence after raises that are refused: %s, %v", have, err)
	}
	r.raise(next)
	r.grant("after", line(mug, 10))
	got, err := r.s.Raise(r.ctx, backends.Fence{Epoch: firstEpoch + 2, Stage: e.dual(), Open: true}, firstEpoch+1)
	r.ok(err, "a kill of what was raised anew, which answered %s", got)
}

func restoreStates(t *testing.T, e *env) {
	if e.h.Replaced == nil {
		return
	}
	r := e.truth(t)
	r.stock(mug, east, 20)
	for _, id := range []backends.HoldID{"open", "freed", "paid", "ahead"} {
		r.grant(id, line(mug, 2))
	}
	r.release(backends.OutcomeReleased, "ahead")
	r.drain()
	later := func(id backends.HoldID, s backends.State) backends.Entry {
		return holdEntry(backends.OpReemit, as(r.get(id), s, 5))
	}
	es := []backends.Entry{
		later("freed", backends.Released), later("paid", backends.Claimed),
		holdEntry(backends.OpReemit, r.get("open")), // nothing is new
		holdEntry(backends.OpReemit, as(r.get("ahead"), backends.Held, 1)),
		holdEntry(backends.OpReemit, heldHold("lost", line(mug, 3))),
		holdEntry(backends.OpReemit, as(heldHold("ended", line(mug, 1)), backends.Released, 2)),
	}
	r = r.replaced()
	for _, open := range []bool{false, true} {
		r.raise(backends.Fence{Epoch: firstEpoch + 1, Stage: e.alone(), Open: open})
		for i, a := range r.restore(es...) {
			if want := !open && i != 2 && i != 3; a.Changed != want {
				t.Fatalf("%s, open %t: changed %t, want %t", es[i].Seq, open, a.Changed, want)
			}
		}
		for id, want := range map[backends.HoldID]backends.State{
			"open": backends.Held, "freed": backends.Released, "paid": backends.Claimed, "ahead": backends.Released, "lost": backends.Held, "ended": backends.Released,
		} {
			r.same("state of "+string(id), want, r.get(id).State)
		}
		r.levelIs(mug, east, units{OnHand: 18, Sellable: 13, Held: 5})
		if es := r.pending(); len(es) != 0 {
			t.Fatalf("a restore wrote to the outbox: %+v", es)
		}
	}
	r.conserved()
	// What came back and was sold meanwhile is debt, and told.
	r.grant("again", line(mug, 13))
	a := r.restore(holdEntry(backends.OpReemit, heldHold("late", line(mug, 2))))
	r.same("the debt", []backends.Units{{Key: key(mug, east), Quantity: 2}}, a[0].Debt)
}

func restoreLevel(t *testing.T, e *env) {
	if e.h.Replaced == nil {
		return
	}
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.grant("open", line(mug, 3))
	r.drain()
	r = r.replaced()
	r.raise(backends.Fence{Epoch: firstEpoch + 1, Stage: e.alone()})
	c := &backends.Correction{OpID: "back", Key: key(mug, east), Sellable: 4, OnHand: 4}
	for _, want := range []bool{true, false} {
		done, err := r.restorer().RestoreLevel(r.ctx, r.tok, r.now(), c)
		r.ok(err, "RestoreLevel")
		r.same("whether it was moved", want, done)
		r.levelIs(mug, east, units{OnHand: 14, Sellable: 11, Held: 3})
	}
	as := r.restore(levelEntry(backends.LevelChange{Key: key(mug, east), Taken: 2, Version: backends.Version{Epoch: firstEpoch, N: 9}}))
	r.same("whether the takes are newer", true, as[0].Changed)
	r.levelIs(mug, east, units{OnHand: 14, Sellable: 9, Held: 3, Taken: 2})
	if es := r.pending(); len(es) != 0 {
		t.Fatalf("a restore wrote to the outbox: %+v", es)
	}
	r.conserved()
}

func restoreFenced(t *testing.T, e *env) {
	if e.h.Replaced == nil {
		return
	}
	r := e.truth(t)
	r.stock(mug, east, 10)
	entry := holdEntry(backends.OpReemit, heldHold("lost", line(mug, 1)))
	c := &backends.Correction{OpID: "back", Key: key(mug, east), Sellable: 1, OnHand: 1}
	refused := func(what string, tok backends.Token) {
		t.Helper()
		var fe *backends.FencedError
		if _, err := r.restorer().Restore(r.ctx, tok, r.now(), []backends.Entry{entry}); !errors.As(err, &fe) {
			t.Fatalf("Restore %s answered %v, want a FencedError", what, err)
		}
		if _, err := r.restorer().RestoreLevel(r.ctx, tok, r.now(), c); !errors.As(err, &fe) {
			t.Fatalf("RestoreLevel %s answered %v, want a FencedError", what, err)
		}
	}
	refused("of another epoch", backends.Token{Epoch: firstEpoch - 1})
	refused("without an epoch", backends.Token{})
	for _, open := range []bool{false, true} {
		r.raise(backends.Fence{Epoch: firstEpoch + 1, Stage: e.following(), Open: open})
		refused("in the shadow", r.tok)
	}
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 10})
}
