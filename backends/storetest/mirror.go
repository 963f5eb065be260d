package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

var mirrorParts = []part{
	{"a grant is followed", followGrant},
	{"twice is once", followTwice},
	{"late is nothing", followLate},
	{"each state after each other", followTable},
	{"its own decision is kept", followOwn},
	{"own decisions, table", followOwnTable},
	{"debt, and who pays it", followDebt},
	{"an unknown key is made", followGhost},
	{"levels: sum by version, delta by operation", followLevels},
	{"the delta of an operation is its state", followDelta},
	{"takes keep their order where Redis arbitrates", followTakes},
	{"a stale attempt is refused", followStale},
	{"a claim that owes the ledger", followOwed},
	{"a tombstone ends what is open", followTombstone},
	{"a tombstone of what was never known", followBareTombstone},
	{"claimed beats released and expired", followClaimedStays},
	{"a damaged entry hurts nobody else", followDamaged},
	{"probe takes nothing", probeTakesNothing},
}

func followGrant(t *testing.T, e *env) {
	r := e.mirror(t)
	r.stock(mug, east, 10)
	r.stock(lamp, west, 5)
	h := heldHold("cart", line(mug, 3), line(lamp, 5, west))
	a := r.apply(holdEntry(backends.OpReserve, h))[0]
	if !a.Changed || len(a.Debt) != 0 || a.Own == nil {
		t.Fatalf("following a grant answered %+v", a)
	}
	if a.Own.Outcome != backends.OutcomeGranted || len(a.Own.Short) != 0 {
		t.Fatalf("its own decision was %+v", a.Own)
	}
	r.same("its own allocation", h.Allocs, a.Own.Allocs)
	r.same("the hold, word for word", h, r.get("cart"))
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 7, Held: 3})
	r.levelIs(lamp, west, units{OnHand: 5, Held: 5})
	if es := r.pending(); len(es) != 0 {
		t.Fatalf("a mirror wrote to its own outbox: %+v", es)
	}
	r.apply() // nothing is nothing
	r.conserved()
}

func followTwice(t *testing.T, e *env) {
	r := e.mirror(t)
	r.stock(mug, east, 10)
	held := holdEntry(backends.OpReserve, heldHold("cart", line(mug, 3)))
	claimed := holdEntry(backends.OpClaim, as(held.Hold, backends.Claimed, 2))
	out := r.apply(held, held, claimed, claimed, held)
	for i, want := range []bool{true, false, true, false, false} {
		if out[i].Changed != want {
			t.Fatalf("entry %d in a batch is changed=%v, want %v", i, out[i].Changed, want)
		}
	}
	r.levelIs(mug, east, units{OnHand: 7, Sellable: 7})
	for _, e := range []backends.Entry{held, claimed} {
		if a := r.apply(e)[0]; a.Changed || len(a.Debt) != 0 {
			t.Fatalf("a repeated %s answered %+v", e.Op, a)
		}
	}
	r.same("the hold", claimed.Hold, r.get("cart"))
	r.levelIs(mug, east, units{OnHand: 7, Sellable: 7})
	r.conserved()
}

func followLate(t *testing.T, e *env) {
	for _, end := range []struct {
		op    backends.Op
		state backends.State
		want  units
	}{
		{backends.OpRelease, backends.Released, units{OnHand: 10, Sellable: 10}},
		{backends.OpExpire, backends.Expired, units{OnHand: 10, Sellable: 10}},
		{backends.OpClaim, backends.Claimed, units{OnHand: 7, Sellable: 7}},
	} {
		r := e.mirror(t)
		r.stock(mug, east, 10)
		held := heldHold("cart", line(mug, 3))
		ended := as(held, end.state, 2)
		if a := r.apply(holdEntry(end.op, ended))[0]; !a.Changed || a.Own != nil {
			t.Fatalf("%s of an unknown hold answered %+v", end.op, a)
		}
		r.levelIs(mug, east, end.want)
		if a := r.apply(holdEntry(backends.OpReserve, held))[0]; a.Changed || a.Own != nil {
			t.Fatalf("a reserve that comes after its %s answered %+v", end.op, a)
		}
		r.same("the hold", ended, r.get("cart"))
		r.levelIs(mug, east, end.want)
		r.conserved()
	}
}

// followTable puts each state over each other by version, and wants stock to stand as the last
// state alone would have it.
func followTable(t *testing.T, e *env) {
	stands := map[backends.State]units{
		backends.Held:     {OnHand: 10, Sellable: 7, Held: 3},
		backends.Claimed:  {OnHand: 7, Sellable: 7},
		backends.Released: {OnHand: 10, Sellable: 10},
		backends.Expired:  {OnHand: 10, Sellable: 10},
	}
	states := []backends.State{backends.Held, backends.Claimed, backends.Released, backends.Expired}
	r := e.mirror(t)
	for _, from := range states {
		for _, to := range states {
			if from == backends.Claimed && to != backends.Claimed {
				continue // no truth says so; see "claimed beats released and expired"
			}
			item := backends.Item(from.String() + "-" + to.String())
			r.stock(item, east, 10)
			first := as(heldHold(backends.HoldID(item), line(item, 3)), from, 3)
			r.apply(holdEntry(backends.OpReemit, first))
			r.levelIs(item, east, stands[from])
			if a := r.apply(holdEntry(backends.OpReemit, as(first, to, 3)))[0]; a.Changed {
				t.Fatalf("%s over %s under the same version changed something", to, from)
			}
			r.levelIs(item, east, stands[from])
			next := as(first, to, 1)
			next.Version.Epoch++ // a higher epoch wins whatever n is
			if a := r.apply(holdEntry(backends.OpReemit, next))[0]; !a.Changed {
				t.Fatalf("%s over %s under a newer version changed nothing", to, from)
			}
			r.levelIs(item, east, stands[to])
			r.same("the hold", next, r.get(next.ID))
		}
	}
	// Where the truth has taken the units elsewhere, they move.
	r.stock(mug, east, 10)
	r.stock(mug, west, 10)
	first := heldHold("moved", splitLine(mug, 4, east, west))
	r.apply(holdEntry(backends.OpReserve, first))
	next := as(first, backends.Held, 2)
	next.Allocs = []backends.Allocation{{Line: 0, Location: east, Quantity: 1}, {Line: 0, Location: west, Quantity: 3}}
	r.apply(holdEntry(backends.OpReemit, next))
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 9, Held: 1})
	r.levelIs(mug, west, units{OnHand: 10, Sellable: 7, Held: 3})
	r.conserved()
}

func followOwn(t *testing.T, e *env) {
	r := e.mirror(t)
	r.stock(mug, east, 2)
	r.stock(mug, west, 9)
	// The truth took from west; by itself this store would have taken from east.
	held := heldHold("cart", line(mug, 2, east, west))
	held.Allocs[0].Location = west
	own := r.apply(holdEntry(backends.OpReserve, held))[0].Own
	if own == nil || own.Outcome != backends.OutcomeGranted {
		t.Fatalf("its own decision was %+v", own)
	}
	r.same("its own allocation", []backends.Allocation{{Line: 0, Location: east, Quantity: 2}}, own.Allocs)
	r.levelIs(mug, east, units{OnHand: 2, Sellable: 2})
	r.levelIs(mug, west, units{OnHand: 9, Sellable: 7, Held: 2})
	r.stock(mug, east, -2)
	for _, e := range []backends.Entry{
		holdEntry(backends.OpReserve, held),
		holdEntry(backends.OpExtend, as(held, backends.Held, 2)),
		holdEntry(backends.OpReserve, held),
	} {
		r.same("its own decision, answered again", own, r.apply(e)[0].Own)
	}
	if a := r.apply(holdEntry(backends.OpRelease, as(held, backends.Released, 3)))[0]; a.Own != nil {
		t.Fatalf("the entry of a release answered its own decision %+v", a.Own)
	}
	// An entry that comes again after the hold has ended is compared all the same.
	r.same("its own decision, after the end", own, r.apply(holdEntry(backends.OpReserve, held))[0].Own)
}

func followOwnTable(t *testing.T, e *env) {
	r := e.mirror(t)
	for _, c := range []struct {
		name  string
		item  backends.Item
		east  int64
		west  int64
		line  func(backends.Item) backends.Line
		short int64 // -1: granted
		alloc []backends.Allocation
	}{
		{"enough", "o1", 3, 0, func(i backends.Item) backends.Line { return line(i, 3) }, -1,
			[]backends.Allocation{{Line: 0, Location: east, Quantity: 3}}},
		{"one too few", "o2", 2, 0, func(i backends.Item) backends.Line { return line(i, 3) }, 2, nil},
		{"none", "o3", 0, 0, func(i backends.Item) backends.Line { return line(i, 3) }, 0, nil},
		{"in debt already", "o4", -2, 0, func(i backends.Item) backends.Line { return line(i, 3) }, 0, nil},
		{"second choice", "o5", 2, 3, func(i backends.Item) backends.Line { return line(i, 3, east, west) }, -1,
			[]backends.Allocation{{Line: 0, Location: west, Quantity: 3}}},
		{"split", "o6", 2, 3, func(i backends.Item) backends.Line { return splitLine(i, 3, east, west) }, -1,
			[]backends.Allocation{{Line: 0, Location: east, Quantity: 2}, {Line: 0, Location: west, Quantity: 1}}},
		{"split, too few", "o7", 1, 1, func(i backends.Item) backends.Line { return splitLine(i, 3, east, west) }, 2, nil},
	} {
		r.stock(c.item, east, c.east)
		r.stock(c.item, west, c.west)
		a := r.apply(holdEntry(backends.OpReserve, heldHold(backends.HoldID(c.item), c.line(c.item))))[0]
		if a.Own == nil {
			t.Fatalf("%s: it decided nothing", c.name)
		}
		r.same(c.name+": allocation", c.alloc, a.Own.Allocs)
		if c.short < 0 {
			r.same(c.name, backends.OutcomeGranted, a.Own.Outcome)
			continue
		}
		r.same(c.name, backends.OutcomeSoldOut, a.Own.Outcome)
		r.same(c.name+": shortage", []backends.Shortage{{Line: 0, Item: c.item, Wanted: 3, Available: c.short}}, a.Own.Short)
		// It followed nevertheless.
		r.state(backends.HoldID(c.item), backends.Held)
		want := []backends.Units{{Key: key(c.item, east), Quantity: 3 - c.east}}
		r.same(c.name+": debt", want, a.Debt)
	}
	r.conserved()
}

func followDebt(t *testing.T, e *env) {
	r := e.mirror(t)
	r.stock(mug, east, 3)
	a, b := heldHold("a", line(mug, 2)), heldHold("b", line(mug, 3))
	r.apply(holdEntry(backends.OpReserve, a))
	got := r.apply(holdEntry(backends.OpReserve, b))[0]
	r.same("the debt", []backends.Units{{Key: key(mug, east), Quantity: 2}}, got.Debt)
	r.levelIs(mug, east, units{OnHand: 3, Sellable: -2, Held: 5})
	// The first units that come free pay it, wherever they come from.
	r.apply(holdEntry(backends.OpRelease, as(a, backends.Released, 2)))
	r.levelIs(mug, east, units{OnHand: 3, Held: 3})
	c := heldHold("c", line(mug, 4))
	r.apply(holdEntry(backends.OpReserve, c))
	r.levelIs(mug, east, units{OnHand: 3, Sellable: -4, Held: 7})
	r.stock(mug, east, 1)
	r.levelIs(mug, east, units{OnHand: 4, Sellable: -3, Held: 7})
	r.stock(mug, east, 5)
	r.levelIs(mug, east, units{OnHand: 9, Sellable: 2, Held: 7})
	// A claim neither pays nor owes.
	r.apply(holdEntry(backends.OpClaim, as(b, backends.Claimed, 2)))
	r.levelIs(mug, east, units{OnHand: 6, Sellable: 2, Held: 4})
	r.apply(holdEntry(backends.OpExpire, as(c, backends.Expired, 2)))
	r.levelIs(mug, east, units{OnHand: 6, Sellable: 6})
	r.settle()
	r.levelIs(mug, east, units{OnHand: 6, Sellable: 6})
	r.conserved()
}

// settle does all upkeep.
func (r *rig) settle() {
	r.t.Helper()
	r.until("upkeep to be done", func() bool {
		more, err := r.s.Maintain(r.ctx, r.tok)
		r.ok(err, "Maintain")
		return !more
	})
}

func followGhost(t *testing.T, e *env) {
	r := e.mirror(t)
	h := heldHold("cart", line("ghost", 3, west))
	a := r.apply(holdEntry(backends.OpReserve, h))[0]
	if a.Own == nil || a.Own.Outcome != backends.OutcomeSoldOut {
		t.Fatalf("without a level its own decision was %+v, want sold out", a.Own)
	}
	r.same("the debt", []backends.Units{{Key: key("ghost", west), Quantity: 3}}, a.Debt)
	r.levelIs("ghost", west, units{Sellable: -3, Held: 3})
	r.apply(holdEntry(backends.OpClaim, as(heldHold("sold", line("late", 2)), backends.Claimed, 1)))
	r.levelIs("late", east, units{OnHand: -2, Sellable: -2})
	// The stock that came first at the truth comes last here.
	r.stock("ghost", west, 10)
	r.levelIs("ghost", west, units{OnHand: 10, Sellable: 7, Held: 3})
	r.conserved()
}

func followStale(t *testing.T, e *env) {
	const retain = time.Minute
	r := e.open(t, e.following(), Options{Retain: retain})
	h := holdEntry(backends.OpReserve, heldHold("cart", line(mug, 3)))
	_, err := r.s.Apply(r.ctx, r.tok, r.now().Add(-retain/2-time.Second), []backends.Entry{h})
	if !errors.Is(err, backends.ErrStaleAttempt) {
		t.Fatalf("an attempt older than half of retain answered %v, want ErrStaleAttempt", err)
	}
	if r.get("cart") != nil {
		t.Fatal("a stale attempt was applied")
	}
	r.noLevel(key(mug, east))
	_, err = r.s.Apply(r.ctx, r.tok, r.now().Add(-retain/2+10*time.Second), []backends.Entry{h})
	r.ok(err, "an attempt younger than half of retain")
	r.state("cart", backends.Held)
}

func followOwed(t *testing.T, e *env) {
	owed := func(h *backends.Hold, n uint64) backends.Entry {
		c := as(h, backends.Claimed, n)
		c.LedgerOwed = true
		return holdEntry(backends.OpReemit, c)
	}
	delta := func(item backends.Item) backends.Entry {
		return levelEntry(backends.LevelChange{Key: key(item, east), OpID: backends.OpID("owed-" + item), OnHandDelta: -3})
	}
	// However they come, and whatever came before: the deduction is made once, by the delta.
	for item, es := range map[backends.Item]func(h *backends.Hold) []backends.Entry{
		"known, claim first": func(h *backends.Hold) []backends.Entry {
			return []backends.Entry{holdEntry(backends.OpReserve, h), owed(h, 2), delta(h.Lines[0].Item)}
		},
		"known, delta first": func(h *backends.Hold) []backends.Entry {
			return []backends.Entry{holdEntry(backends.OpReserve, h), delta(h.Lines[0].Item), owed(h, 2)}
		},
		"unknown, claim first": func(h *backends.Hold) []backends.Entry {
			return []backends.Entry{owed(h, 2), delta(h.Lines[0].Item), owed(h, 2)}
		},
		"unknown, delta first": func(h *backends.Hold) []backends.Entry {
			return []backends.Entry{delta(h.Lines[0].Item), owed(h, 2), holdEntry(backends.OpReserve, h)}
		},
		"expired before": func(h *backends.Hold) []backends.Entry {
			return []backends.Entry{holdEntry(backends.OpExpire, as(h, backends.Expired, 2)), owed(h, 3), delta(h.Lines[0].Item)}
		},
	} {
		r := e.mirror(t)
		r.stock(item, east, 10)
		h := heldHold("cart", line(item, 3))
		for _, entry := range es(h) {
			r.apply(entry)
			r.level(key(item, east)) // P2 at every step
		}
		r.levelIs(item, east, units{OnHand: 7, Sellable: 7})
		if !r.state("cart", backends.Claimed).LedgerOwed {
			t.Fatalf("%s: the hold no longer owes", item)
		}
		r.conserved()
	}
}

func followTombstone(t *testing.T, e *env) {
	tomb := func(id backends.HoldID, epoch uint64) backends.Entry {
		return holdEntry(backends.OpReemit, &backends.Hold{ID: id, State: backends.Released, Version: backends.Version{Epoch: epoch}})
	}
	r := e.mirror(t)
	r.stock(mug, east, 10)
	h := heldHold("cart", line(mug, 3))
	r.apply(holdEntry(backends.OpReserve, h), tomb("cart", firstEpoch))
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 7, Held: 3}) // older than the hold
	r.apply(tomb("cart", firstEpoch+1))
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 10})
	r.same("the version", backends.Version{Epoch: firstEpoch + 1}, r.state("cart", backends.Released).Version)
	// One that comes for an unknown hold stops what is older than itself, and nothing else.
	r.apply(tomb("lost", firstEpoch+1), holdEntry(backends.OpReserve, heldHold("lost", line(mug, 2))))
	r.state("lost", backends.Released)
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 10})
	again := heldHold("lost", line(mug, 2))
	again.Version.Epoch = firstEpoch + 1
	r.apply(holdEntry(backends.OpReserve, again))
	r.state("lost", backends.Held)
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 8, Held: 2})
	// As truth, the store still knows what was sold under the id that was ended.
	r.turn(e.dual())
	d := r.claim(backends.OutcomeClaimed, "cart")
	r.same("what was claimed", h.Takes(), d.Hold.Takes())
	r.levelIs(mug, east, units{OnHand: 7, Sellable: 5, Held: 2})
	r.conserved()
}

// followBareTombstone: a store that never knew the hold cannot know what was sold under it.
func followBareTombstone(t *testing.T, e *env) {
	r := e.mirror(t)
	r.stock(mug, east, 10)
	tomb := backends.Hold{State: backends.Released, Version: backends.Version{Epoch: firstEpoch + 1}}
	for _, id := range []backends.HoldID{"a", "b"} {
		h := tomb
		h.ID = id
		if a := r.apply(holdEntry(backends.OpReemit, &h))[0]; a.Own != nil || len(a.Debt) != 0 {
			t.Fatalf("a tombstone answered %+v", a)
		}
		r.state(id, backends.Released)
	}
	r.turn(e.dual())
	if d := r.reserve(backends.OutcomeEnded, request("a", line(mug, 1))); d.Hold == nil || d.Hold.State != backends.Released {
		t.Fatalf("a reserve under a tombstone answered %+v", d)
	}
	r.claim(backends.OutcomeNotFound, "b")
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 10})
	// A claim is never a no-op: with its own lines it takes them.
	d := r.claim(backends.OutcomeClaimed, "b", line(mug, 3))
	if d.Replayed || !d.Hold.Version.After(tomb.Version) {
		t.Fatalf("a claim over a tombstone answered %+v", d)
	}
	r.same("the hold as read", d.Hold, r.state("b", backends.Claimed))
	r.levelIs(mug, east, units{OnHand: 7, Sellable: 7})
	r.conserved()
}

func followClaimedStays(t *testing.T, e *env) {
	r := e.mirror(t)
	r.stock(mug, east, 10)
	claimed := as(heldHold("cart", line(mug, 3)), backends.Claimed, 2)
	r.apply(holdEntry(backends.OpClaim, claimed))
	for _, state := range []backends.State{backends.Released, backends.Expired, backends.Held} {
		next := as(claimed, state, 9)
		next.Version.Epoch++
		if state == backends.Held {
			next.EndedAt = 0
		}
		r.apply(holdEntry(backends.OpReemit, next))
		r.state("cart", backends.Claimed)
		r.levelIs(mug, east, units{OnHand: 7, Sellable: 7})
	}
	r.apply(holdEntry(backends.OpReemit, &backends.Hold{ID: "cart", State: backends.Released, Version: backends.Version{Epoch: 99}}))
	r.state("cart", backends.Claimed)
	r.levelIs(mug, east, units{OnHand: 7, Sellable: 7})
	r.conserved()
}

func followDamaged(t *testing.T, e *env) {
	r := e.mirror(t)
	r.stock(mug, east, 10)
	out, err := r.s.Apply(r.ctx, r.tok, r.now(), []backends.Entry{
		holdEntry(backends.OpReserve, heldHold("a", line(mug, 1))),
		{Seq: "broken", Op: backends.OpReserve},
		holdEntry(backends.OpReserve, heldHold("b", line(mug, 2))),
	})
	r.ok(err, "Apply with a damaged entry inside")
	if len(out) != 3 || out[0].Err != nil || out[1].Err == nil || out[2].Err != nil || out[1].Changed {
		t.Fatalf("Apply with a damaged entry inside answered %+v", out)
	}
	if !errors.Is(out[1].Err, backends.ErrDamaged) {
		t.Fatalf("the damaged entry answered %v, want ErrDamaged", out[1].Err)
	}
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 7, Held: 3})
}

func probeTakesNothing(t *testing.T, e *env) {
	for _, r := range []*rig{e.truth(t), e.mirror(t), e.bare(t, Options{})} {
		if r.tok != (backends.Token{}) {
			r.stock(mug, east, 3)
			own, err := r.s.Probe(r.ctx, request("cart", line(mug, 3)))
			r.ok(err, "Probe")
			r.same("a probe of what is there", backends.OutcomeGranted, own.Outcome)
			own, err = r.s.Probe(r.ctx, request("cart", line(mug, 4)))
			r.ok(err, "Probe")
			r.same("a probe of more", backends.OutcomeSoldOut, own.Outcome)
			r.seen(own.Seen, map[backends.Key]int64{key(mug, east): 3})
			r.levelIs(mug, east, units{OnHand: 3, Sellable: 3})
		}
		_, err := r.s.Probe(r.ctx, request("cart", line("ghost", 1)))
		var unknown *backends.UnknownStockError
		if !errors.As(err, &unknown) {
			t.Fatalf("a probe of unknown stock answered %v", err)
		}
		if r.get("cart") != nil {
			t.Fatal("a probe made a hold")
		}
	}
}
