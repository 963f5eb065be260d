package storetest

import (
	"fmt"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
)

var backfillParts = []part{
	{"reemit writes the present state", reemitHolds},
	{"reemit of the unknown is a tombstone", reemitUnknown},
	{"reemit of levels", reemitLevels},
	{"what is owed is sent once", reemitOwed},
	{"a backfill makes a shadow complete", backfillCompletes},
	{"a backfill makes this store complete", backfillReceives},
	{"operation ids come with the entries", mirroredOps},
	{"a count that is not known is settled as void", settleUnknown},
	{"a count that is known is settled as it is", settleKnown},
	{"a voided count is taken back for good", followVoid},
	{"a mirrored hold goes on under the new truth", mirroredLife},
}

func reemitHolds(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.grant("open", line(mug, 3))
	r.grant("ended", line(mug, 1))
	r.claim(backends.OutcomeClaimed, "ended")
	before := map[backends.HoldID]*backends.Hold{"open": r.get("open"), "ended": r.get("ended")}
	level := r.level(key(mug, east))
	r.turn(e.dual())
	r.drain()
	n, err := r.s.Reemit(r.ctx, r.tok, []backends.HoldID{"open", "ended"})
	r.ok(err, "Reemit")
	es := r.drain()
	if n != 2 || len(es) != 2 {
		t.Fatalf("Reemit of two holds says %d and wrote %d", n, len(es))
	}
	for _, e := range es {
		want := before[e.Hold.ID]
		want.Version.Epoch = firstEpoch + 1 // under (epoch, n)
		r.same("the reemitted hold", &backends.Entry{Seq: e.Seq, Op: backends.OpReemit, At: e.At, Hold: want}, &e)
		r.same("the hold in the store", want, r.get(e.Hold.ID))
	}
	r.same("the level", level, r.level(level.Key))
	// Again is the same, and the next state is newer.
	n, err = r.s.Reemit(r.ctx, r.tok, []backends.HoldID{"open"})
	r.ok(err, "Reemit again")
	if es := r.drain(); n != 1 || len(es) != 1 || es[0].Hold.Version != (backends.Version{Epoch: firstEpoch + 1, N: 1}) {
		t.Fatalf("Reemit again says %d and wrote %+v", n, es)
	}
	r.same("the next version", backends.Version{Epoch: firstEpoch + 1, N: 2}, r.claim(backends.OutcomeClaimed, "open").Hold.Version)
	n, err = r.s.Reemit(r.ctx, r.tok, nil)
	r.ok(err, "Reemit of none")
	if n != 0 {
		t.Fatalf("Reemit of none says %d", n)
	}
}

func reemitUnknown(t *testing.T, e *env) {
	r := e.truth(t)
	n, err := r.s.Reemit(r.ctx, r.tok, []backends.HoldID{"lost"})
	r.ok(err, "Reemit")
	es := r.drain()
	if n != 1 || len(es) != 1 {
		t.Fatalf("Reemit of an unknown hold says %d and wrote %d", n, len(es))
	}
	h := es[0].Hold
	if h == nil || h.ID != "lost" || h.State != backends.Released || len(h.Lines) != 0 || len(h.Allocs) != 0 ||
		h.Version != (backends.Version{Epoch: firstEpoch}) || es[0].Op != backends.OpReemit {
		t.Fatalf("the tombstone is %+v", es[0])
	}
	if r.get("lost") != nil {
		t.Fatal("the truth itself knows a hold that it never had")
	}
	// The id is free, and what is granted under it is newer than the tombstone.
	r.stock(mug, east, 1)
	if d := r.grant("lost", line(mug, 1)); !d.Hold.Version.After(h.Version) {
		t.Fatalf("a grant of version %s after a tombstone of %s", d.Hold.Version, h.Version)
	}
}

func reemitLevels(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.stock(lamp, west, 0)
	r.count(mug, east, -3)
	old := r.level(key(mug, east)).TakenVersion
	r.turn(e.dual())
	r.drain()
	n, err := r.s.ReemitLevels(r.ctx, r.tok, []backends.Key{key(mug, east), key(lamp, west)})
	r.ok(err, "ReemitLevels")
	es := r.drain()
	if n != 2 || len(es) != 2 {
		t.Fatalf("ReemitLevels of two keys says %d and wrote %d", n, len(es))
	}
	for _, e := range es {
		want := &backends.LevelChange{Key: key(lamp, west), Version: backends.Version{Epoch: firstEpoch + 1}}
		if e.Level != nil && e.Level.Key == key(mug, east) {
			want = &backends.LevelChange{Key: key(mug, east), Taken: 3, Version: backends.Version{Epoch: firstEpoch + 1, N: old.N}}
		}
		r.same("the reemitted level", &backends.Entry{Seq: e.Seq, Op: backends.OpReemit, At: e.At, Level: want}, &e)
		r.same("the version in the store", want.Version, r.level(want.Key).TakenVersion)
	}
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 7, Taken: 3})
}

func reemitOwed(t *testing.T, e *env) {
	r := e.open(t, e.alone(), Options{})
	r.stock(mug, east, 10)
	restock := backends.RestockRequest{OpID: "lamps", Key: key(lamp, east), Amount: 4}
	r.restock(&restock)
	r.grant("cart", line(mug, 3))
	r.claim(backends.OutcomeClaimed, "cart")
	r.turn(e.dual())
	r.drain()
	want := map[backends.Key]int64{}
	if e.alone() == backends.MySQLOnly {
		want = map[backends.Key]int64{key(mug, east): 7, key(lamp, east): 4}
	}
	got := map[backends.Key]int64{}
	ids := map[backends.OpID]bool{}
	for range 2 { // the second time nothing is owed any more
		_, err := r.s.ReemitLevels(r.ctx, r.tok, []backends.Key{key(mug, east), key(lamp, east)})
		r.ok(err, "ReemitLevels")
		for _, e := range r.drain() {
			switch {
			case e.Level == nil:
				t.Fatalf("ReemitLevels wrote %+v", e)
			case e.Level.OnHandDelta == 0:
			case e.Level.OpID == "" || ids[e.Level.OpID]:
				t.Fatalf("the owed delta has operation id %q, want a fresh one", e.Level.OpID)
			default:
				ids[e.Level.OpID] = true
				got[e.Level.Key] += e.Level.OnHandDelta
			}
		}
	}
	r.same("what was owed", want, got)
	// A restock of that time, sent again, must not travel a second time.
	d := r.restock(&restock)
	if !d.Replayed || d.Entry == nil {
		t.Fatalf("the restock sent again answered %+v", d)
	}
	r.same("its delta", int64(4)-want[key(lamp, east)], d.Entry.Level.OnHandDelta)
	r.levelIs(mug, east, units{OnHand: 7, Sellable: 7})
	r.levelIs(lamp, east, units{OnHand: 4, Sellable: 4})
}

// otherRig is a memory model of the other side, as shadow or truth of the same stage.
func (e *env) otherRig(t *testing.T, stage backends.Stage) *rig {
	t.Helper()
	r := &rig{t: t, test: t, ctx: testContext(t), s: memstore.New(memstore.Options{Side: e.side.Other()}), env: &env{h: e.h, side: e.side.Other()}}
	r.raise(backends.Fence{Epoch: firstEpoch, Stage: stage, Open: true, Filled: true})
	return r
}

// deliver mirrors the whole outbox of one store to another.
func deliver(from, to *rig) {
	from.t.Helper()
	if es := from.drain(); len(es) != 0 {
		to.apply(es...)
	}
}

// backfill does what a backfill does: levels, the truth's holds, and what only the shadow has.
func backfill(from, to *rig) {
	from.t.Helper()
	dropped := from.stats().Dropped
	var keys []backends.Key
	for _, l := range from.allLevels(100) {
		keys = append(keys, l.Key)
	}
	_, err := from.s.ReemitLevels(from.ctx, from.tok, keys)
	from.ok(err, "ReemitLevels")
	var ids []backends.HoldID
	seen := map[backends.HoldID]bool{}
	for _, h := range append(from.allHolds(100, false), to.allHolds(100, true)...) {
		if !seen[h.ID] {
			seen[h.ID] = true
			ids = append(ids, h.ID)
		}
	}
	_, err = from.s.Reemit(from.ctx, from.tok, ids)
	from.ok(err, "Reemit")
	deliver(from, to)
	from.ok(from.s.EndBackfill(from.ctx, from.tok, dropped), "EndBackfill")
}

// history lives through a stage without a shadow, a drop of everything that may be dropped, and
// leaves holds of each state behind.
func (r *rig) history() {
	r.t.Helper()
	for _, item := range []backends.Item{mug, lamp} {
		r.stock(item, east, 50)
		r.stock(item, west, 20)
	}
	for i := range 12 {
		id := backends.HoldID(fmt.Sprintf("h%d", i))
		r.grant(id, splitLine(mug, int64(i+1), west, east), line(lamp, 1))
		switch i % 4 {
		case 1:
			r.claim(backends.OutcomeClaimed, id)
		case 2:
			r.release(backends.OutcomeReleased, id)
		case 3:
			r.extend(backends.OutcomeExtended, id, longTTL)
		}
	}
	r.release(backends.OutcomeReleased, "h0")
	r.claim(backends.OutcomeClaimed, "h0") // late
	r.claim(backends.OutcomeClaimed, "lost", line(lamp, 2))
	r.count(lamp, east, -7)
	r.count(lamp, east, +9)
	r.count(mug, west, -3)
}

// agree wants two stores at rest to be equal in levels and open holds.
func agree(truth, shadow *rig) {
	truth.t.Helper()
	levels := func(r *rig) []backends.Level {
		ls := sortedLevels(r.allLevels(100))
		for i := range ls {
			ls[i].Owed = 0 // the truth's own book-keeping
		}
		return ls
	}
	truth.same("levels of truth (-) and shadow (+)", levels(truth), levels(shadow))
	open := func(r *rig) map[backends.HoldID]*backends.Hold {
		m := map[backends.HoldID]*backends.Hold{}
		for _, h := range r.allHolds(100, true) {
			m[h.ID] = h
		}
		return m
	}
	truth.same("open holds of truth (-) and shadow (+)", open(truth), open(shadow))
	truth.conserved()
	shadow.conserved()
}

func backfillCompletes(t *testing.T, e *env) {
	truth := e.open(t, e.alone(), Options{})
	shadow := e.otherRig(t, e.alone())
	truth.history()
	if e.alone() == backends.RedisOnly {
		deliver(truth, shadow) // the ledger is there in this stage too
	}
	for range 2 { // the second backfill finds nothing to do
		truth.turn(e.dual())
		shadow.turn(e.dual())
		backfill(truth, shadow)
		agree(truth, shadow)
	}
}

func backfillReceives(t *testing.T, e *env) {
	other := &env{h: e.h, side: e.side.Other()}
	truth := e.otherRig(t, other.alone())
	shadow := e.open(t, other.alone(), Options{})
	truth.history()
	if other.alone() == backends.RedisOnly {
		deliver(truth, shadow)
	}
	truth.turn(other.dual())
	shadow.turn(other.dual())
	// What the shadow has open and the truth does not know is ended.
	stray := heldHold("stray", line(mug, 1))
	stray.Version.Epoch = 1
	shadow.apply(holdEntry(backends.OpReserve, stray))
	backfill(truth, shadow)
	shadow.state("stray", backends.Released)
	agree(truth, shadow)
}

func mirroredOps(t *testing.T, e *env) {
	r := e.mirror(t)
	r.apply(
		levelEntry(backends.LevelChange{Key: key(mug, east), OpID: "restock-1", OnHandDelta: 10}),
		answered(takeEntry(key(mug, east), "take-1", 2, 1), 7),
	)
	r.turn(e.dual())
	// The caller whose answer was lost in the switch sends the same again to the new truth.
	d := r.restock(&backends.RestockRequest{OpID: "restock-1", Key: key(mug, east), Amount: 7})
	if !d.Replayed || d.Entry == nil {
		t.Fatalf("a restock that came by mirror, sent again, answered %+v", d)
	}
	// Its delta is the one that came: what this store would have made of it does not count.
	r.same("the delta", int64(10), d.Entry.Level.OnHandDelta)
	// And a take is answered what the old truth had for sale, which may not be what this store had.
	if res := r.countAs("take-1", mug, east, -2); !res.Replayed || res.Value != 7 {
		t.Fatalf("a take that came by mirror answered %+v, want 7, replayed", res)
	}
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 8, Taken: 2})
}

func mirroredLife(t *testing.T, e *env) {
	r := e.mirror(t)
	r.stock(mug, east, 10)
	h := heldHold("a", line(mug, 3))
	h.ExpiresAt = r.now().Add(longTTL)
	b, c := h.Clone(), h.Clone()
	b.ID, c.ID = "b", "c"
	r.apply(holdEntry(backends.OpReserve, h), holdEntry(backends.OpReserve, b), holdEntry(backends.OpReserve, c))
	r.turn(e.dual())
	d := r.grant("a", line(mug, 3))
	if !d.Replayed {
		t.Fatalf("a mirrored grant sent again answered %+v, want it replayed", d)
	}
	d = r.claim(backends.OutcomeClaimed, "a")
	r.same("the version", backends.Version{Epoch: firstEpoch + 1, N: 2}, d.Hold.Version)
	r.release(backends.OutcomeReleased, "b")
	r.pass(r.extend(backends.OutcomeExtended, "c", shortTTL).Hold.ExpiresAt)
	if ds := r.expire(); len(ds) != 1 || ds[0].Hold.ID != "c" {
		t.Fatalf("the sweeper ended %d holds, want the mirrored one", len(ds))
	}
	r.levelIs(mug, east, units{OnHand: 7, Sellable: 7})
	r.conserved()
}
