package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

var repairParts = []part{
	{"a restated hold is newer than both", restateHold},
	{"a restated hold sets a shadow right", restateHeals},
	{"a claim that is restated deducts once", restateClaim},
	{"restating the unknown", restateUnknown},
	{"restating the unknown of this epoch ends the id", restateUnknownHere},
	{"a restated sum is newer than both", restateTaken},
	{"a full outbox drops what is restated", restateDropped},
	{"a version that nothing can be above", restateBounds},
	{"a correction, once for each id", correctOnce},
	{"a correction moves each amount by itself", correctApart},
	{"a correction of an unknown key", correctUnknown},
	{"a correction below zero is debt", correctDebt},
	{"a correction commutes with what is on its way", correctCommutes},
	{"a stale correction is refused", correctStale},
}

// restate writes one hold once more, and gives the entry.
func (r *rig) restate(id backends.HoldID, above backends.Version) *backends.Hold {
	r.t.Helper()
	r.drain()
	n, err := r.s.RestateHolds(r.ctx, r.tok, []backends.HoldAbove{{ID: id, Above: above}})
	r.ok(err, "RestateHolds(%s)", id)
	es := r.pending()
	if n != 1 || len(es) != 1 || es[0].Op != backends.OpReemit || es[0].Hold == nil || es[0].Hold.ID != id {
		r.t.Fatalf("RestateHolds(%s) says %d and wrote %+v", id, n, es)
	}
	return es[0].Hold
}

func version(epoch, n uint64) backends.Version { return backends.Version{Epoch: epoch, N: n} }

func restateHold(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.grant("open", line(mug, 3))
	r.grant("ended", line(mug, 1))
	r.release(backends.OutcomeReleased, "ended")
	level := r.level(key(mug, east))
	for _, c := range []struct {
		id          backends.HoldID
		above, want backends.Version
	}{
		{"open", version(firstEpoch, 1), version(firstEpoch, 2)},       // the same version, with other contents
		{"open", version(firstEpoch-2, 40), version(firstEpoch, 41)},   // and once more: above its own as well
		{"open", backends.Version{}, version(firstEpoch, 42)},          // the shadow does not have it
		{"ended", version(firstEpoch, 9), version(firstEpoch, 10)},     // the shadow is ahead
		{"ended", version(firstEpoch+3, 2), version(firstEpoch+3, 11)}, // even in its epoch
	} {
		want := r.get(c.id)
		got := r.restate(c.id, c.above)
		want.Version = c.want
		r.same("the restated hold", want, got)
		r.same("the hold in the store", want, r.get(c.id))
	}
	r.same("the level", level, r.level(level.Key))
	// The next state is newer still, and expiry finds it.
	r.same("the next version", version(firstEpoch, 43), r.extend(backends.OutcomeExtended, "open", shortTTL).Hold.Version)
	r.restate("open", version(firstEpoch, 43))
	r.pass(r.get("open").ExpiresAt)
	if ds := r.expire(); len(ds) != 1 || ds[0].Hold.Version != version(firstEpoch, 45) {
		t.Fatalf("the sweeper ended %+v, want the restated hold", ds)
	}
	r.conserved()
	n, err := r.s.RestateHolds(r.ctx, r.tok, nil)
	r.ok(err, "RestateHolds of none")
	if n != 0 {
		t.Fatalf("RestateHolds of none says %d", n)
	}
}

// wrongs are what a shadow may have of a hold for 3 mugs that the truth has held at version 1.
func wrongs() map[string]*backends.Hold {
	h := heldHold("cart", line(mug, 3))
	h.ExpiresAt += backends.Instant(time.Hour.Milliseconds())
	skewed := h
	more := heldHold("cart", line(mug, 5))
	elsewhere := heldHold("cart", line(mug, 3, east, west))
	elsewhere.Allocs[0].Location = west
	return map[string]*backends.Hold{
		"missing": nil, "skewed": skewed, "more": more, "elsewhere": elsewhere,
		"released": as(more, backends.Released, 1), "expired, ahead": as(more, backends.Expired, 7),
	}
}

// restateHeals plays each wrong of a shadow, with this store as the truth and as the shadow.
func restateHeals(t *testing.T, e *env) {
	for name, wrong := range wrongs() {
		for _, state := range []backends.State{backends.Held, backends.Released, backends.Claimed} {
			for _, first := range []bool{true, false} {
				truth, shadow := e.truth(t), e.otherRig(t, e.dual())
				if !first {
					other := &env{h: e.h, side: e.side.Other()}
					truth, shadow = e.otherRig(t, other.dual()), e.open(t, other.dual(), Options{})
				}
				truth.stock(mug, east, 10)
				truth.stock(mug, west, 10)
				deliver(truth, shadow)
				if wrong != nil {
					shadow.apply(holdEntry(backends.OpReserve, wrong))
				}
				truth.grant("cart", line(mug, 3))
				switch state {
				case backends.Released:
					truth.release(backends.OutcomeReleased, "cart")
				case backends.Claimed:
					truth.claim(backends.OutcomeClaimed, "cart")
				default:
				}
				truth.drain() // lost on its way
				var above backends.Version
				if h := shadow.get("cart"); h != nil {
					above = h.Version
				}
				for range 2 { // once more is the same
					h := truth.restate("cart", above)
					shadow.apply(holdEntry(backends.OpReemit, h))
					truth.drain()
					shadow.same(name+", "+state.String(), truth.get("cart"), shadow.get("cart"))
					agree(truth, shadow)
					above = h.Version
				}
			}
		}
	}
}

func restateClaim(t *testing.T, e *env) {
	r := e.mirror(t)
	r.stock(mug, east, 10)
	h := heldHold("cart", line(mug, 3))
	r.apply(holdEntry(backends.OpReserve, h))
	for n := range uint64(3) {
		r.apply(holdEntry(backends.OpReemit, as(h, backends.Claimed, 2+n)))
		r.levelIs(mug, east, units{OnHand: 7, Sellable: 7})
	}
	// The units of a claim come from where the truth says, also when that is corrected later.
	less := as(heldHold("cart", line(mug, 2)), backends.Claimed, 9)
	r.apply(holdEntry(backends.OpReemit, less), holdEntry(backends.OpReemit, less))
	r.levelIs(mug, east, units{OnHand: 8, Sellable: 8})
	r.conserved()
}

func restateUnknown(t *testing.T, e *env) {
	r := e.truth(t)
	h := r.restate("lost", version(firstEpoch-1, 8))
	if h.State != backends.Released || len(h.Lines) != 0 || len(h.Allocs) != 0 || h.Version != version(firstEpoch, 0) {
		t.Fatalf("the tombstone is %+v", h)
	}
	if r.get("lost") != nil {
		t.Fatal("the truth itself knows a hold that it never had")
	}
	r.stock(mug, east, 1)
	if d := r.grant("lost", line(mug, 1)); !d.Hold.Version.After(h.Version) {
		t.Fatalf("a grant of version %s after a tombstone of %s", d.Hold.Version, h.Version)
	}
}

// A shadow that has an orphan of this very epoch would take no grant under that id for newer. Where answers
// wait for its word that would be an acknowledged hold that it does not have.
func restateUnknownHere(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 5)
	for n, above := range []backends.Version{version(firstEpoch, 1), version(firstEpoch, 2)} {
		h := r.restate("orphan", above)
		if h.State != backends.Released || len(h.Lines) != 0 || h.Version != version(firstEpoch, above.N+1) {
			t.Fatalf("tombstone %d above %s is %+v", n, above, h)
		}
		r.same("the tombstone in the store", h.Version, r.get("orphan").Version)
	}
	if d := r.reserve(backends.OutcomeEnded, request("orphan", line(mug, 1))); d.Entry != nil {
		t.Fatalf("a reserve under an ended id wrote %+v", d.Entry)
	}
	d := r.claim(backends.OutcomeClaimed, "orphan", line(mug, 2)) // money was taken
	r.same("the version of the claim", version(firstEpoch, 4), d.Hold.Version)
	r.levelIs(mug, east, units{OnHand: 3, Sellable: 3})
	r.conserved()
}

func restateTaken(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.count(mug, east, -3)
	for _, c := range []struct{ above, want backends.Version }{
		{version(firstEpoch, 1), version(firstEpoch, 2)},
		{version(firstEpoch-1, 30), version(firstEpoch, 31)},
		{backends.Version{}, version(firstEpoch, 32)},
	} {
		r.drain()
		n, err := r.s.RestateTaken(r.ctx, r.tok, []backends.LevelAbove{{Key: key(mug, east), Above: c.above}, {Key: key(lamp, west)}})
		r.ok(err, "RestateTaken")
		es := r.drain()
		if n != 1 || len(es) != 1 {
			t.Fatalf("RestateTaken of a key that is there and one that is not says %d and wrote %+v", n, es)
		}
		want := backends.LevelChange{Key: key(mug, east), Taken: 3, Version: c.want}
		r.same("the restated sum", &backends.Entry{Seq: es[0].Seq, Op: backends.OpReemit, At: es[0].At, Level: &want}, &es[0])
		r.same("the version in the store", c.want, r.level(key(mug, east)).TakenVersion)
	}
	r.noLevel(key(lamp, west))
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 7, Taken: 3})
	r.count(mug, east, -1)
	r.same("the next version", version(firstEpoch, 33), r.level(key(mug, east)).TakenVersion)
}

func restateDropped(t *testing.T, e *env) {
	r := e.open(t, e.dual(), Options{OutboxMax: 1})
	r.restock(&backends.RestockRequest{OpID: "stock", Key: key(mug, east), Amount: 10})
	n, err := r.s.RestateHolds(r.ctx, r.tok, []backends.HoldAbove{{ID: "lost", Above: version(firstEpoch, 1)}})
	r.ok(err, "RestateHolds")
	if st := r.stats(); n != 0 || !st.Lost {
		t.Fatalf("with its outbox full a restated hold says %d, and the outbox %+v", n, st)
	}
}

func restateBounds(t *testing.T, e *env) {
	r := e.truth(t)
	var fe *backends.FieldError
	for _, v := range []backends.Version{version(backends.MaxVersion+1, 1), version(1, backends.MaxVersion+1)} {
		if _, err := r.s.RestateHolds(r.ctx, r.tok, []backends.HoldAbove{{ID: "a", Above: v}}); !errors.As(err, &fe) {
			t.Fatalf("RestateHolds above %s answered %v, want a FieldError", v, err)
		}
		if _, err := r.s.RestateTaken(r.ctx, r.tok, []backends.LevelAbove{{Key: key(mug, east), Above: v}}); !errors.As(err, &fe) {
			t.Fatalf("RestateTaken above %s answered %v, want a FieldError", v, err)
		}
	}
	if es := r.pending(); len(es) != 0 {
		t.Fatalf("what is refused wrote %+v", es)
	}
}

// correct corrects a level, and tells whether it did.
func (r *rig) correct(id backends.OpID, item backends.Item, loc backends.Location, sellable, onHand int64) bool {
	r.t.Helper()
	done, err := r.s.Correct(r.ctx, r.tok, r.now(), &backends.Correction{OpID: id, Key: key(item, loc), Sellable: sellable, OnHand: onHand})
	r.ok(err, "Correct(%s)", id)
	return done
}

func correctOnce(t *testing.T, e *env) {
	r := e.mirror(t)
	r.stock(mug, east, 10)
	for n, want := range []bool{true, false, false} {
		if got := r.correct("repair:1", mug, east, -4, -4); got != want {
			t.Fatalf("correction %d under one id says %v", n, got)
		}
		r.levelIs(mug, east, units{OnHand: 6, Sellable: 6})
	}
	// Not even another amount: it is the id that counts. Another id is another correction.
	if r.correct("repair:1", mug, east, 7, 7) || !r.correct("repair:2", mug, east, 1, 1) {
		t.Fatal("a correction is known by its id alone")
	}
	r.levelIs(mug, east, units{OnHand: 7, Sellable: 7})
	if es := r.pending(); len(es) != 0 {
		t.Fatalf("a correction wrote to the outbox: %+v", es)
	}
	r.conserved()
	var fe *backends.FieldError
	for _, c := range []*backends.Correction{{Key: key(mug, east)}, {OpID: "a"}, {OpID: "a", Key: key(mug, east), OnHand: backends.MaxOnHand + 1}} {
		if _, err := r.s.Correct(r.ctx, r.tok, r.now(), c); !errors.As(err, &fe) {
			t.Fatalf("Correct(%+v) answered %v, want a FieldError", c, err)
		}
	}
}

func correctApart(t *testing.T, e *env) {
	r := e.mirror(t)
	r.stock(mug, east, 10)
	for n, c := range []struct{ sellable, onHand, wantSellable, wantOnHand int64 }{
		{-3, 0, 7, 10},
		{5, 2, 12, 12},
		{0, 8, 12, 20},
		{0, -8, 12, 12},
		{-2, 3, 10, 15},
		{4, -1, 14, 14},
		{0, 0, 14, 14},
	} {
		if !r.correct(r.op(), mug, east, c.sellable, c.onHand) {
			t.Fatalf("correction %d was not made", n)
		}
		ls, err := r.s.Levels(r.ctx, []backends.Key{key(mug, east)})
		r.ok(err, "Levels")
		if len(ls) != 1 || ls[0].Sellable() != c.wantSellable || ls[0].OnHand != c.wantOnHand || ls[0].Available < 0 || ls[0].Taken != 0 {
			t.Fatalf("after correction %d the level is %+v, want %d for sale of %d", n, ls, c.wantSellable, c.wantOnHand)
		}
	}
	r.conserved()
	// A running sum of what is held that is wrong is set right the same way.
	done, err := r.s.Correct(r.ctx, r.tok, r.now(), &backends.Correction{OpID: "held", Key: key(mug, east), Sellable: -2, Held: 2})
	r.ok(err, "Correct")
	if !done {
		t.Fatal("a correction of what is held was not made")
	}
	r.levelIs(mug, east, units{OnHand: 14, Sellable: 12, Held: 2})
}

func correctUnknown(t *testing.T, e *env) {
	r := e.mirror(t)
	if !r.correct("repair:1", lamp, west, 4, 4) {
		t.Fatal("a correction of an unknown key was not made")
	}
	r.levelIs(lamp, west, units{OnHand: 4, Sellable: 4})
	r.conserved()
}

func correctDebt(t *testing.T, e *env) {
	r := e.mirror(t)
	r.stock(mug, east, 3)
	r.correct("repair:1", mug, east, -5, -5)
	r.levelIs(mug, east, units{OnHand: -2, Sellable: -2})
	r.correct("repair:2", mug, east, 6, 6)
	r.levelIs(mug, east, units{OnHand: 4, Sellable: 4})
	r.conserved()
}

func correctCommutes(t *testing.T, e *env) {
	h := heldHold("cart", line(mug, 3))
	steps := []func(*rig){
		func(r *rig) { r.correct("repair:1", mug, east, 2, 2) },
		func(r *rig) { r.apply(holdEntry(backends.OpReserve, h)) },
		func(r *rig) { r.apply(holdEntry(backends.OpClaim, as(h, backends.Claimed, 2))) },
		func(r *rig) {
			r.apply(levelEntry(backends.LevelChange{Key: key(mug, east), OpID: "more", OnHandDelta: 4}))
		},
		func(r *rig) { r.apply(takeEntry(key(mug, east), "take", 5, 1)) },
		func(r *rig) { r.correct("repair:1", mug, east, 2, 2) },
	}
	for from := range steps {
		r := e.mirror(t)
		r.stock(mug, east, 10)
		for i := range steps {
			steps[(from+i)%len(steps)](r)
		}
		r.levelIs(mug, east, units{OnHand: 13, Sellable: 8, Taken: 5})
		r.conserved()
	}
}

func correctStale(t *testing.T, e *env) {
	const retain = time.Minute
	r := e.open(t, e.following(), Options{Retain: retain})
	c := &backends.Correction{OpID: "repair:1", Key: key(mug, east), Sellable: 1, OnHand: 1}
	if _, err := r.s.Correct(r.ctx, r.tok, r.now().Add(-retain/2-time.Second), c); !errors.Is(err, backends.ErrStaleAttempt) {
		t.Fatalf("a correction older than half of retain answered %v, want ErrStaleAttempt", err)
	}
	r.noLevel(key(mug, east))
	done, err := r.s.Correct(r.ctx, r.tok, r.now().Add(-retain/2+10*time.Second), c)
	r.ok(err, "a correction younger than half of retain")
	if !done {
		t.Fatal("a refused correction is known")
	}
}
