package storetest

import (
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

var largeParts = []part{
	{"a cart of a thousand lines", cartOfManyLines},
	{"a line of many locations", lineOfManyLocations},
	{"a line larger than the pool", lineBeyondPool},
	{"mirroring a cart of a thousand lines", mirrorManyLines},
}

// manyLines wants q units of each of the first n items.
func manyLines(n int, q int64) []backends.Line {
	lines := make([]backends.Line, n)
	for i := range lines {
		lines[i] = line(manyItem(i), q)
	}
	return lines
}

func cartOfManyLines(t *testing.T, e *env) {
	r := e.truth(t)
	keys := r.stockMany(backends.MaxLines, 3)
	q := request("cart", manyLines(backends.MaxLines, 2)...)
	r.ok(q.Check(), "the request")
	d := r.reserve(backends.OutcomeGranted, q)
	if len(d.Hold.Allocs) != backends.MaxLines {
		t.Fatalf("the hold has %d allocations", len(d.Hold.Allocs))
	}
	r.same("the hold as read", d.Hold, r.get("cart"))
	if again := r.reserve(backends.OutcomeGranted, q); !again.Replayed {
		t.Fatal("the cart sent again was not recognised")
	}
	other := request("cart", manyLines(backends.MaxLines, 2)...)
	other.Lines[backends.MaxLines-1].Quantity = 1
	if _, err := r.s.Reserve(r.ctx, r.tok, other); !errors.Is(err, backends.ErrHoldConflict) {
		t.Fatalf("a cart that differs in its last line answered %v", err)
	}
	// The next one is refused whole, for one line.
	r.restock(&backends.RestockRequest{OpID: r.op(), Key: keys[500], Amount: -1})
	next := request("next", manyLines(backends.MaxLines, 1)...)
	d = r.reserve(backends.OutcomeSoldOut, next)
	r.same("the short line", []backends.Shortage{{Line: 500, Item: manyItem(500), Wanted: 1, Available: 0}}, d.Short)
	r.levelIs(manyItem(0), east, units{OnHand: 3, Sellable: 1, Held: 2})
	r.claim(backends.OutcomeClaimed, "cart")
	r.levelIs(manyItem(999), east, units{OnHand: 1, Sellable: 1})
	var found *backends.Hold
	for _, en := range r.pending() {
		if en.Op == backends.OpClaim {
			found = en.Hold
		}
	}
	r.same("the entry of the claim", r.get("cart"), found)
	r.conserved()
}

func lineOfManyLocations(t *testing.T, e *env) {
	r := e.truth(t)
	var locs []backends.Location
	for i := range backends.MaxLocations {
		locs = append(locs, backends.Location(rune('a'+i)))
		r.stock(mug, locs[i], int64(i%3))
	}
	want := []backends.Allocation{}
	total := int64(0)
	for i, loc := range locs {
		if i%3 > 0 {
			want = append(want, backends.Allocation{Line: 0, Location: loc, Quantity: int64(i % 3)})
			total += int64(i % 3)
		}
	}
	r.reserve(backends.OutcomeSoldOut, request("more", splitLine(mug, total+1, locs...)))
	d := r.grant("cart", splitLine(mug, total, locs...))
	r.same("the allocation", want, d.Hold.Allocs)
	r.claim(backends.OutcomeClaimed, "cart")
	for _, loc := range locs {
		r.levelIs(mug, loc, units{})
	}
	r.conserved()
}

func lineBeyondPool(t *testing.T, e *env) {
	r := e.open(t, e.dual(), Options{PoolCap: 10})
	r.stock(mug, east, 1000)
	r.stock(mug, west, 25)
	r.settle()
	r.grant("a", line(mug, 700))
	r.levelIs(mug, east, units{OnHand: 1000, Sellable: 300, Held: 700})
	d := r.reserve(backends.OutcomeSoldOut, request("b", line(mug, 301)))
	r.same("the shortage", []backends.Shortage{{Line: 0, Item: mug, Wanted: 301, Available: 300}}, d.Short)
	r.grant("b", splitLine(mug, 320, west, east))
	r.levelIs(mug, west, units{OnHand: 25, Held: 25})
	r.levelIs(mug, east, units{OnHand: 1000, Sellable: 5, Held: 995})
	r.claim(backends.OutcomeClaimed, "a")
	r.release(backends.OutcomeReleased, "b")
	r.levelIs(mug, east, units{OnHand: 300, Sellable: 300})
	r.count(mug, east, -299)
	r.levelIs(mug, east, units{OnHand: 300, Sellable: 1, Taken: 299})
	r.grant("c", line(mug, 1))
	r.reserve(backends.OutcomeSoldOut, request("d", line(mug, 1)))
	r.conserved()
	big := e.truth(t)
	big.stock(mug, east, backends.MaxQuantity+1)
	big.grant("big", line(mug, backends.MaxQuantity))
	big.levelIs(mug, east, units{OnHand: backends.MaxQuantity + 1, Sellable: 1, Held: backends.MaxQuantity})
	big.conserved()
}

func mirrorManyLines(t *testing.T, e *env) {
	r := e.mirror(t)
	var stock []backends.Entry
	for i := range backends.MaxLines {
		stock = append(stock, levelEntry(backends.LevelChange{Key: key(manyItem(i), east), OpID: r.op(), OnHandDelta: 3}))
	}
	r.apply(stock...)
	h := heldHold("cart", manyLines(backends.MaxLines, 2)...)
	a := r.apply(holdEntry(backends.OpReserve, h))[0]
	if a.Own == nil || a.Own.Outcome != backends.OutcomeGranted || len(a.Own.Allocs) != backends.MaxLines {
		t.Fatalf("its own decision is %+v", a.Own)
	}
	r.same("the hold", h, r.get("cart"))
	over := heldHold("over", manyLines(backends.MaxLines, 2)...)
	a = r.apply(holdEntry(backends.OpReserve, over))[0]
	if a.Own == nil || len(a.Own.Short) != backends.MaxLines || len(a.Debt) != backends.MaxLines {
		t.Fatalf("its own decision has %d short lines, want all", len(a.Own.Short))
	}
	r.apply(holdEntry(backends.OpClaim, as(h, backends.Claimed, 2)), holdEntry(backends.OpRelease, as(over, backends.Released, 2)))
	r.levelIs(manyItem(0), east, units{OnHand: 1, Sellable: 1})
	r.levelIs(manyItem(999), east, units{OnHand: 1, Sellable: 1})
	r.conserved()
}
