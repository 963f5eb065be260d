package storetest

import (
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

var levelParts = []part{
	{"restock, kind by kind", restockKinds},
	{"restock sent again", restockAgain},
	{"restock makes keys", restockMakes},
	{"restock stays within bounds", restockBounds},
	{"restock pays debt first", restockPays},
	{"count answers as Redis does", countTable},
	{"count makes keys", countMakes},
	{"count sent again", countAgain},
	{"count and holds share the stock", countAndHolds},
}

func restockKinds(t *testing.T, e *env) {
	r := e.truth(t)
	step := func(kind backends.RestockKind, amount int64, want units) {
		t.Helper()
		r.restock(&backends.RestockRequest{OpID: r.op(), Key: key(mug, east), Kind: kind, Amount: amount})
		r.levelIs(mug, east, want)
	}
	step(backends.RestockAdd, 5, units{OnHand: 5, Sellable: 5})
	step(backends.RestockAdd, -2, units{OnHand: 3, Sellable: 3})
	r.grant("cart", line(mug, 2))
	step(backends.RestockSetOnHand, 10, units{OnHand: 10, Sellable: 8, Held: 2})
	step(backends.RestockSetSellable, 1, units{OnHand: 3, Sellable: 1, Held: 2})
	step(backends.RestockSetOnHand, 1, units{OnHand: 1, Sellable: -1, Held: 2})
	step(backends.RestockSetSellable, 0, units{OnHand: 2, Sellable: 0, Held: 2})
	step(backends.RestockAdd, -5, units{OnHand: -3, Sellable: -5, Held: 2})
	step(backends.RestockSetSellable, -1, units{OnHand: 1, Sellable: -1, Held: 2})
	r.count(mug, east, -3)
	step(backends.RestockSetOnHand, 10, units{OnHand: 10, Sellable: 5, Held: 2, Taken: 3})
	step(backends.RestockSetSellable, 7, units{OnHand: 12, Sellable: 7, Held: 2, Taken: 3})
	step(backends.RestockSetOnHand, 0, units{OnHand: 0, Sellable: -5, Held: 2, Taken: 3})
	r.conserved()
}

func restockAgain(t *testing.T, e *env) {
	for _, stage := range []backends.Stage{e.dual(), e.alone()} {
		r := e.open(t, stage, Options{})
		for _, c := range []struct {
			q     backends.RestockRequest
			delta int64
		}{
			{backends.RestockRequest{OpID: "add", Key: key(mug, east), Amount: 5}, 5},
			{backends.RestockRequest{OpID: "set", Key: key(mug, east), Kind: backends.RestockSetOnHand, Amount: 9}, 4},
			{backends.RestockRequest{OpID: "sell", Key: key(mug, east), Kind: backends.RestockSetSellable, Amount: 4}, -3},
		} {
			if r.restock(&c.q).Replayed {
				t.Fatalf("restock %q is called a replay", c.q.OpID)
			}
			r.grant(backends.HoldID(c.q.OpID), line(mug, 1)) // so that doing it twice would show
			before := r.level(c.q.Key)
			r.drain()
			for range 2 {
				r.restockedAgain(r.restock(&c.q), c.q.OpID, c.delta, stage)
			}
			r.same("the level", before, r.level(c.q.Key))
		}
	}
}

// restockedAgain wants a restock sent again to change nothing, and to tell the other store its
// delta once more, where there is an outbox.
func (r *rig) restockedAgain(d *backends.Decision, op backends.OpID, delta int64, stage backends.Stage) {
	r.t.Helper()
	es := r.drain()
	switch {
	case !d.Replayed:
		r.t.Fatalf("restock %q sent again answered %+v, want it replayed", op, d)
	case stage == backends.MySQLOnly && (d.Entry != nil || len(es) != 0):
		r.t.Fatalf("restock %q sent again answered entry %+v, and the outbox has %d, in %s", op, d.Entry, len(es), stage)
	case stage == backends.MySQLOnly:
	case d.Entry == nil || len(es) != 1:
		r.t.Fatalf("restock %q sent again answered entry %+v, and the outbox has %d, in %s", op, d.Entry, len(es), stage)
	default:
		want := backends.Entry{
			Seq: d.Entry.Seq, At: d.Entry.At, Op: backends.OpReemit,
			Level: &backends.LevelChange{Key: key(mug, east), OpID: op, OnHandDelta: delta},
		}
		r.same("the entry of a restock sent again", []backends.Entry{want, want}, []backends.Entry{*d.Entry, es[0]})
	}
}

func restockMakes(t *testing.T, e *env) {
	r := e.truth(t)
	for item, c := range map[backends.Item]struct {
		q    backends.RestockRequest
		want units
	}{
		"nothing":  {backends.RestockRequest{Amount: 0}, units{}},
		"added":    {backends.RestockRequest{Amount: 3}, units{OnHand: 3, Sellable: 3}},
		"negative": {backends.RestockRequest{Amount: -3}, units{OnHand: -3, Sellable: -3}},
		"set":      {backends.RestockRequest{Kind: backends.RestockSetOnHand, Amount: 4}, units{OnHand: 4, Sellable: 4}},
		"sellable": {backends.RestockRequest{Kind: backends.RestockSetSellable, Amount: 5}, units{OnHand: 5, Sellable: 5}},
	} {
		r.noLevel(key(item, west))
		c.q.OpID, c.q.Key = r.op(), key(item, west)
		r.restock(&c.q)
		r.levelIs(item, west, c.want)
		r.noLevel(key(item, east))
	}
	r.reserve(backends.OutcomeSoldOut, request("cart", line("nothing", 1, west)))
	r.conserved()
}

func restockBounds(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, backends.MaxOnHand)
	r.levelIs(mug, east, units{OnHand: backends.MaxOnHand, Sellable: backends.MaxOnHand})
	r.drain()
	op := r.op()
	_, err := r.s.Restock(r.ctx, r.tok, &backends.RestockRequest{OpID: op, Key: key(mug, east), Amount: 1})
	if !backends.IsRejection(err) {
		t.Fatalf("a restock beyond MaxOnHand answered %v, want a FieldError", err)
	}
	r.unmoved(r.level(key(mug, east)))
	r.levelIs(mug, east, units{OnHand: backends.MaxOnHand, Sellable: backends.MaxOnHand})
	// What was refused has not used its operation id.
	r.grant("cart", line(mug, backends.MaxQuantity))
	r.claim(backends.OutcomeClaimed, "cart")
	if d := r.restock(&backends.RestockRequest{OpID: op, Key: key(mug, east), Amount: 1}); d.Replayed {
		t.Fatal("a refused restock is called a replay")
	}
	r.levelIs(mug, east, units{OnHand: backends.MaxOnHand - backends.MaxQuantity + 1, Sellable: backends.MaxOnHand - backends.MaxQuantity + 1})
}

func restockPays(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, -4)
	r.stock(mug, east, 3)
	r.levelIs(mug, east, units{OnHand: -1, Sellable: -1})
	r.reserve(backends.OutcomeSoldOut, request("cart", line(mug, 1)))
	r.stock(mug, east, 3)
	r.levelIs(mug, east, units{OnHand: 2, Sellable: 2})
	d := r.reserve(backends.OutcomeSoldOut, request("cart", line(mug, 3)))
	r.same("the shortage", []backends.Shortage{{Line: 0, Item: mug, Wanted: 3, Available: 2}}, d.Short)
	r.grant("cart", line(mug, 2))
	r.conserved()
}

func countTable(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 2)
	for i, c := range []struct {
		delta, value int64
		want         units
	}{
		{-1, 1, units{OnHand: 2, Sellable: 1, Taken: 1}},
		{-3, -2, units{OnHand: 2, Sellable: -2, Taken: 4}}, // below zero, as DECRBY
		{+1, -1, units{OnHand: 2, Sellable: -1, Taken: 3}}, // repaid first
		{+3, 2, units{OnHand: 2, Sellable: 2}},
		{-1, 1, units{OnHand: 2, Sellable: 1, Taken: 1}},
		{+5, 6, units{OnHand: 6, Sellable: 6}}, // one given back, four restocked
		{+2, 8, units{OnHand: 8, Sellable: 8}},
		{-8, 0, units{OnHand: 8, Taken: 8}},
		{-100_000, -100_000, units{OnHand: 8, Sellable: -100_000, Taken: 100_008}},
		{+100_008, 8, units{OnHand: 8, Sellable: 8}},
	} {
		res := r.count(mug, east, c.delta)
		if res.Value != c.value || res.Replayed {
			t.Fatalf("step %d: a count of %+d answered %+v, want %d", i, c.delta, res, c.value)
		}
		r.levelIs(mug, east, c.want)
	}
	r.conserved()
}

func countMakes(t *testing.T, e *env) {
	r := e.truth(t)
	if res := r.count(mug, east, -2); res.Value != -2 {
		t.Fatalf("a take from a missing key answered %d, want -2", res.Value)
	}
	r.levelIs(mug, east, units{Sellable: -2, Taken: 2})
	if res := r.count(lamp, east, 3); res.Value != 3 {
		t.Fatalf("a give-back to a missing key answered %d, want 3", res.Value)
	}
	r.levelIs(lamp, east, units{OnHand: 3, Sellable: 3})
	r.conserved()
}

func countAgain(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 5)
	for _, delta := range []int64{-2, +1, +7} {
		op := r.op()
		first := r.countAs(op, mug, east, delta)
		before := r.level(key(mug, east))
		entries := len(r.pending())
		again := r.countAs(op, mug, east, delta)
		if !again.Replayed || again.Value != first.Value || again.Entry != nil {
			t.Fatalf("a count sent again answered %+v, want %d, replayed, no entry", again, first.Value)
		}
		r.same("the level", before, r.level(key(mug, east)))
		if got := len(r.pending()); got != entries {
			t.Fatalf("a replay wrote %d entries", got-entries)
		}
	}
}

func countAndHolds(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.grant("cart", line(mug, 4))
	r.count(mug, east, -5)
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 1, Held: 4, Taken: 5})
	r.reserve(backends.OutcomeSoldOut, request("next", line(mug, 2)))
	r.count(mug, east, -3)
	r.levelIs(mug, east, units{OnHand: 10, Sellable: -2, Held: 4, Taken: 8})
	// What is released pays the overdraft first.
	r.release(backends.OutcomeReleased, "cart")
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 2, Taken: 8})
	r.reserve(backends.OutcomeSoldOut, request("next", line(mug, 3)))
	r.grant("next", line(mug, 2))
	r.claim(backends.OutcomeClaimed, "next")
	r.levelIs(mug, east, units{OnHand: 8, Taken: 8})
	r.conserved()
}
