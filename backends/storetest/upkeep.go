package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

var upkeepParts = []part{
	{"setup changes nothing", setupAgain},
	{"ended holds are removed after retain", maintainPurges},
	{"pools are refilled", maintainRefills},
	{"a mirror is kept up too", maintainMirror},
	{"a cancelled caller", cancelledCaller},
	{"close", closeTwice},
}

func setupAgain(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.grant("cart", line(mug, 3))
	before := r.book([]backends.Key{key(mug, east)}, "cart")
	fence, err := r.s.Fence(r.ctx)
	r.ok(err, "Fence")
	r.ok(r.s.Setup(r.ctx), "Setup again")
	r.ok(r.s.Ping(r.ctx), "Ping")
	r.same("everything", before, r.book([]backends.Key{key(mug, east)}, "cart"))
	now, err := r.s.Fence(r.ctx)
	r.ok(err, "Fence")
	r.same("the fence", fence, now)
}

func maintainPurges(t *testing.T, e *env) {
	const retain = 100 * time.Millisecond
	r := e.open(t, e.dual(), Options{Retain: retain})
	r.stock(mug, east, 10)
	r.grant("open", line(mug, 1))
	r.endEach()
	ended := []backends.HoldID{"claimed", "released", "expired"}
	level := r.level(key(mug, east))
	r.pass(r.now().Add(retain + time.Millisecond))
	r.until("ended holds to be removed", func() bool {
		r.settle()
		hs, err := r.s.GetMany(r.ctx, ended)
		r.ok(err, "GetMany")
		return len(hs) == 0
	})
	r.state("open", backends.Held)
	r.same("the level", level, r.level(level.Key))
	if hs := r.allHolds(10, false); len(hs) != 1 {
		t.Fatalf("%d holds are left, want the open one", len(hs))
	}
	r.release(backends.OutcomeNotFound, "claimed")
	r.conserved()
	// Holds that are younger than retain stay.
	y := e.truth(t)
	y.stock(mug, east, 10)
	y.endEach()
	y.settle()
	for _, id := range ended {
		if y.get(id) == nil {
			t.Fatalf("hold %q was removed at once", id)
		}
	}
}

func maintainRefills(t *testing.T, e *env) {
	r := e.open(t, e.dual(), Options{PoolCap: 10})
	r.stock(mug, east, 35)
	r.settle()
	r.levelIs(mug, east, units{OnHand: 35, Sellable: 35})
	for _, id := range []backends.HoldID{"a", "b", "c", "d"} {
		r.grant(id, line(mug, 8))
		r.settle()
	}
	r.reserve(backends.OutcomeSoldOut, request("e", line(mug, 4)))
	r.grant("e", line(mug, 3))
	r.levelIs(mug, east, units{OnHand: 35, Held: 35})
	for _, id := range []backends.HoldID{"a", "b", "c", "d", "e"} {
		r.release(backends.OutcomeReleased, id)
	}
	r.settle()
	r.levelIs(mug, east, units{OnHand: 35, Sellable: 35})
	r.grant("all", line(mug, 35))
	r.conserved()
	for _, tok := range []backends.Token{{}, {Epoch: r.tok.Epoch - 1}, {Epoch: r.tok.Epoch + 1}} {
		if _, err := r.s.Maintain(r.ctx, tok); err == nil {
			t.Fatalf("Maintain worked under epoch %d", tok.Epoch)
		}
	}
}

func maintainMirror(t *testing.T, e *env) {
	r := e.open(t, e.following(), Options{PoolCap: 10})
	r.stock(mug, east, 25)
	r.settle()
	a, b := heldHold("a", line(mug, 20)), heldHold("b", line(mug, 15))
	r.apply(holdEntry(backends.OpReserve, a), holdEntry(backends.OpReserve, b))
	r.settle()
	r.levelIs(mug, east, units{OnHand: 25, Sellable: -10, Held: 35})
	r.apply(holdEntry(backends.OpRelease, as(a, backends.Released, 2)))
	r.settle()
	r.levelIs(mug, east, units{OnHand: 25, Sellable: 10, Held: 15})
	r.apply(holdEntry(backends.OpClaim, as(b, backends.Claimed, 2)))
	r.settle()
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 10})
	r.conserved()
	r.turn(e.dual())
	r.settle()
	r.grant("rest", line(mug, 10))
}

func cancelledCaller(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	ctx, cancel := context.WithCancel(r.ctx)
	cancel()
	for _, w := range writes {
		if w.mirror {
			continue
		}
		c := *r
		c.ctx = ctx
		if err := w.do(&c, r.tok); err == nil {
			t.Fatalf("%s worked under a cancelled context", w.name)
		}
	}
	if _, err := r.s.Get(ctx, "cart"); err == nil {
		t.Fatal("Get worked under a cancelled context")
	}
	// Nothing was sent, so nothing has happened.
	r.grant("new", line(mug, 1))
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 9, Held: 1})
	r.conserved()
}

func closeTwice(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	o := r.second()
	r.ok(o.s.Close(), "Close")
	r.ok(o.s.Close(), "Close again")
	if _, err := o.s.Reserve(o.ctx, o.tok, request("cart", line(mug, 1))); err == nil {
		t.Fatal("a closed store granted a hold")
	}
	if err := o.s.Ping(o.ctx); err == nil {
		t.Fatal("a closed store answered a ping")
	}
	// The other handle does not notice.
	r.grant("cart", line(mug, 1))
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 9, Held: 1})
}
