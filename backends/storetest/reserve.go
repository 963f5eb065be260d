package storetest

import (
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

var reserveParts = []part{
	{"a cart is granted whole", grantWhole},
	{"a cart is refused whole", refuseWhole},
	{"allocation follows preference", allocationTable},
	{"unknown stock is an error", unknownStock},
	{"the same id is granted once", reserveAgain},
	{"another body under the id is a conflict", reserveConflict},
	{"an ended id stays ended", reserveEnded},
	{"a refusal binds nothing", refusalBindsNothing},
}

func grantWhole(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.stock(lamp, west, 5)
	before := r.now()
	d := r.grant("cart", line(mug, 3), line(lamp, 5, west))
	if d.Replayed || d.Dropped || len(d.Short) != 0 || len(d.Apologies) != 0 || d.LedgerPending {
		t.Fatalf("a plain grant says more than that: %+v", d)
	}
	h := d.Hold
	if h == nil {
		t.Fatal("a grant has no hold")
	}
	r.same("the hold", &backends.Hold{
		ID: "cart", Shop: shop, Caller: "storetest",
		Lines:   []backends.Line{line(mug, 3), line(lamp, 5, west)},
		Allocs:  []backends.Allocation{{Line: 0, Location: east, Quantity: 3}, {Line: 1, Location: west, Quantity: 5}},
		State:   backends.Held,
		Version: backends.Version{Epoch: firstEpoch, N: 1},
		// Whatever these are: they are judged below.
		CreatedAt: h.CreatedAt, ExpiresAt: h.ExpiresAt,
	}, h)
	after := r.now()
	if h.CreatedAt < before || h.CreatedAt > after {
		t.Fatalf("created at %d, not between the store's %d and %d", h.CreatedAt, before, after)
	}
	if got := h.ExpiresAt.Sub(h.CreatedAt); got != longTTL {
		t.Fatalf("the hold lives for %s, asked for %s", got, longTTL)
	}
	r.same("the hold as read", h, r.get("cart"))
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 7, Held: 3})
	r.levelIs(lamp, west, units{OnHand: 5, Sellable: 0, Held: 5})
	r.conserved()
}

func refuseWhole(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.stock(lamp, east, 2)
	r.stock(lamp, west, 3)
	r.drain()
	d := r.reserve(backends.OutcomeSoldOut, request("cart", line(mug, 3), line(lamp, 4, east, west)))
	if d.Hold != nil || d.Entry != nil || d.Dropped {
		t.Fatalf("a refusal left something behind: %+v", d)
	}
	r.same("the short lines", []backends.Shortage{{Line: 1, Item: lamp, Wanted: 4, Available: 3}}, d.Short)
	r.seen(d.Seen, map[backends.Key]int64{key(mug, east): 10, key(lamp, east): 2, key(lamp, west): 3})
	if r.get("cart") != nil {
		t.Fatal("a refused hold is there")
	}
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 10})
	r.levelIs(lamp, west, units{OnHand: 3, Sellable: 3})
	if es := r.pending(); len(es) != 0 {
		t.Fatalf("a refusal wrote to the outbox: %+v", es)
	}
	d = r.reserve(backends.OutcomeSoldOut, request("cart", line(mug, 11), splitLine(lamp, 6, east, west)))
	r.same("all short lines", []backends.Shortage{
		{Line: 0, Item: mug, Wanted: 11, Available: 10}, {Line: 1, Item: lamp, Wanted: 6, Available: 5},
	}, d.Short)
}

// seen wants what a refusal saw: it has no excuse for not having looked.
func (r *rig) seen(got []backends.Units, want map[backends.Key]int64) {
	r.t.Helper()
	found := map[backends.Key]int64{}
	for _, u := range got {
		found[u.Key] = u.Quantity
	}
	r.same("what the refusal saw", want, found)
}

func allocationTable(t *testing.T, e *env) {
	r := e.truth(t)
	for _, c := range []struct {
		name   string
		item   backends.Item
		stock  map[backends.Location]int64
		line   func(backends.Item) backends.Line
		allocs []backends.Allocation // none: sold out
		short  int64
	}{
		{
			name: "the first location that has enough", item: "i1", stock: map[backends.Location]int64{east: 2, west: 9, north: 9},
			line:   func(i backends.Item) backends.Line { return line(i, 3, east, west, north) },
			allocs: []backends.Allocation{{Line: 0, Location: west, Quantity: 3}},
		},
		{
			name: "the order is the caller's", item: "i2", stock: map[backends.Location]int64{east: 9, west: 9},
			line:   func(i backends.Item) backends.Line { return line(i, 3, west, east) },
			allocs: []backends.Allocation{{Line: 0, Location: west, Quantity: 3}},
		},
		{
			name: "not split unless asked", item: "i3", stock: map[backends.Location]int64{east: 2, west: 2},
			line: func(i backends.Item) backends.Line { return line(i, 3, east, west) }, short: 2,
		},
		{
			name: "split takes each in order", item: "i4", stock: map[backends.Location]int64{east: 2, west: 1, north: 9},
			line:   func(i backends.Item) backends.Line { return splitLine(i, 5, west, east, north) },
			allocs: []backends.Allocation{{Line: 0, Location: west, Quantity: 1}, {Line: 0, Location: east, Quantity: 2}, {Line: 0, Location: north, Quantity: 2}},
		},
		{
			name: "split passes over empty ones", item: "i5", stock: map[backends.Location]int64{east: 0, west: 4},
			line:   func(i backends.Item) backends.Line { return splitLine(i, 4, east, west) },
			allocs: []backends.Allocation{{Line: 0, Location: west, Quantity: 4}},
		},
		{
			name: "split that is short takes nothing", item: "i6", stock: map[backends.Location]int64{east: 2, west: 2},
			line: func(i backends.Item) backends.Line { return splitLine(i, 5, east, west) }, short: 4,
		},
		{
			name: "a location without a level is empty", item: "i7", stock: map[backends.Location]int64{west: 3},
			line:   func(i backends.Item) backends.Line { return line(i, 3, north, west) },
			allocs: []backends.Allocation{{Line: 0, Location: west, Quantity: 3}},
		},
		{
			name: "the last unit", item: "i8", stock: map[backends.Location]int64{east: 1},
			line:   func(i backends.Item) backends.Line { return line(i, 1) },
			allocs: []backends.Allocation{{Line: 0, Location: east, Quantity: 1}},
		},
		{
			name: "one too many", item: "i9", stock: map[backends.Location]int64{east: 1},
			line: func(i backends.Item) backends.Line { return line(i, 2) }, short: 1,
		},
	} {
		for loc, n := range c.stock {
			r.stock(c.item, loc, n)
		}
		r.allocates(c.name, request(backends.HoldID(c.item), c.line(c.item)), c.allocs, c.short)
	}
	r.conserved()
}

// allocates wants a cart of one line to be allocated so, or to be refused with that much
// available; and a probe to say so beforehand.
func (r *rig) allocates(name string, q *backends.ReserveRequest, allocs []backends.Allocation, available int64) {
	r.t.Helper()
	own, err := r.s.Probe(r.ctx, q)
	r.ok(err, "%s: Probe", name)
	if len(allocs) > 0 {
		r.same(name, allocs, r.reserve(backends.OutcomeGranted, q).Hold.Allocs)
		r.same(name+": the probe", allocs, own.Allocs)
		return
	}
	want := []backends.Shortage{{Line: 0, Item: q.Lines[0].Item, Wanted: q.Lines[0].Quantity, Available: available}}
	r.same(name, want, r.reserve(backends.OutcomeSoldOut, q).Short)
	r.same(name+": the probe", want, own.Short)
}

func unknownStock(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 1)
	for _, c := range []struct {
		name  string
		lines []backends.Line
		index int
		item  backends.Item
	}{
		{"an unknown item", []backends.Line{line("ghost", 1)}, 0, "ghost"},
		{"a known item elsewhere only", []backends.Line{line(mug, 1, west, north)}, 0, mug},
		{"beside a line that is short", []backends.Line{line(mug, 2), line("ghost", 1, east, west)}, 1, "ghost"},
	} {
		for _, call := range []string{"Reserve", "Probe"} {
			var err error
			if call == "Probe" {
				_, err = r.s.Probe(r.ctx, request("cart", c.lines...))
			} else {
				_, err = r.s.Reserve(r.ctx, r.tok, request("cart", c.lines...))
			}
			var unknown *backends.UnknownStockError
			if !errors.As(err, &unknown) {
				t.Fatalf("%s: %s answered %v, want an UnknownStockError", c.name, call, err)
			}
			if unknown.Line != c.index || unknown.Key.Item != c.item || unknown.Key.Shop != shop {
				t.Fatalf("%s: %s blames %+v, want line %d, item %s", c.name, call, unknown, c.index, c.item)
			}
		}
	}
	q := request("cart", line(mug, 1))
	q.Shop = "shop-2"
	if _, err := r.s.Reserve(r.ctx, r.tok, q); !backends.IsRejection(err) {
		t.Fatalf("an unknown shop answered %v", err)
	}
	r.noLevel(key(mug, west))
	r.levelIs(mug, east, units{OnHand: 1, Sellable: 1})
	r.stock(mug, west, 0)
	r.reserve(backends.OutcomeSoldOut, request("cart", line(mug, 1, west)))
}

func reserveAgain(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	first := r.grant("cart", line(mug, 3))
	entries := len(r.pending())
	again := request("cart", line(mug, 3))
	again.TTL, again.Caller = longTTL/2, "another"
	d := r.reserve(backends.OutcomeGranted, again)
	if !d.Replayed || d.Entry != nil {
		t.Fatalf("sent again, the reserve answered %+v, want it replayed without an entry", d)
	}
	r.same("the hold", first.Hold, d.Hold)
	if got := len(r.pending()); got != entries {
		t.Fatalf("a replay wrote %d entries", got-entries)
	}
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 7, Held: 3})
	// Also when it could not be granted now.
	r.grant("rest", line(mug, 7))
	r.reserve(backends.OutcomeGranted, again)
	r.conserved()
}

func reserveConflict(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.stock(mug, west, 10)
	r.stock(lamp, east, 10)
	r.grant("cart", line(mug, 3, east, west), line(lamp, 1))
	for name, lines := range map[string][]backends.Line{
		"another quantity":   {line(mug, 4, east, west), line(lamp, 1)},
		"another item":       {line(lamp, 3, east, west)},
		"other locations":    {line(mug, 3, east), line(lamp, 1)},
		"another order":      {line(mug, 3, west, east), line(lamp, 1)},
		"lines exchanged":    {line(lamp, 1), line(mug, 3, east, west)},
		"split":              {splitLine(mug, 3, east, west), line(lamp, 1)},
		"a line less":        {line(mug, 3, east, west)},
		"more than there is": {line(mug, 300, east, west), line(lamp, 1)},
	} {
		_, err := r.s.Reserve(r.ctx, r.tok, request("cart", lines...))
		if !errors.Is(err, backends.ErrHoldConflict) {
			t.Fatalf("%s under the same id answered %v, want ErrHoldConflict", name, err)
		}
	}
	other := request("cart", line(mug, 3, east, west), line(lamp, 1))
	other.Shop = "shop-2"
	if _, err := r.s.Reserve(r.ctx, r.tok, other); !errors.Is(err, backends.ErrHoldConflict) {
		t.Fatalf("another shop under the same id answered %v, want ErrHoldConflict", err)
	}
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 7, Held: 3})
	r.state("cart", backends.Held)
}

func reserveEnded(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	for _, c := range []struct {
		id  backends.HoldID
		end func()
		as  backends.State
	}{
		{"claimed", func() { r.claim(backends.OutcomeClaimed, "claimed") }, backends.Claimed},
		{"released", func() { r.release(backends.OutcomeReleased, "released") }, backends.Released},
	} {
		r.grant(c.id, line(mug, 1))
		c.end()
		before := r.level(key(mug, east))
		d := r.reserve(backends.OutcomeEnded, request(c.id, line(mug, 1)))
		if d.Hold == nil || d.Hold.State != c.as || d.Entry != nil {
			t.Fatalf("reserving an id that was %s answered %+v", c.as, d)
		}
		r.same("the level", before, r.level(key(mug, east)))
	}
}

func refusalBindsNothing(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 1)
	r.reserve(backends.OutcomeSoldOut, request("cart", line(mug, 2)))
	r.stock(mug, east, 1)
	r.grant("cart", line(mug, 2))
	r.reserve(backends.OutcomeSoldOut, request("other", line(mug, 1)))
	r.stock(lamp, east, 1)
	r.grant("other", line(lamp, 1)) // a refused id may come back with another body
}
