package comparator_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

func TestStrataOf(t *testing.T) {
	type strata = []comparator.Stratum
	const last = comparator.LastUnitsBound
	grant := func(seen ...backends.Units) answer { return answer{Outcome: granted, Seen: seen} }
	for _, c := range []struct {
		name string
		o    comparator.Observation
		want strata
	}{
		{"the last unit", comparator.Observation{Lines: []backends.Line{line(1, "mug", "A")}, Truth: grant(units(1, "mug", "A"))}, strata{comparator.LastUnits}},
		{"the most that are last units", comparator.Observation{Lines: []backends.Line{line(3, "mug", "A")}, Truth: grant(units(last+3, "mug", "A"))}, strata{comparator.LastUnits}},
		{"one more is plenty", comparator.Observation{Lines: []backends.Line{line(3, "mug", "A")}, Truth: grant(units(last+4, "mug", "A"))}, strata{comparator.Plentiful}},
		{"refused, whatever was seen", comparator.Observation{Lines: []backends.Line{line(3, "mug", "A")}, Truth: answer{Outcome: soldOut, Seen: []backends.Units{units(99, "mug", "A")}}}, strata{comparator.SoldOut}},
		{"the shadow's stock where the truth did not count", comparator.Observation{Lines: []backends.Line{line(1, "mug", "A")}, Truth: grant(), Shadow: &own{Outcome: granted, Seen: []backends.Units{units(5, "mug", "A")}}}, strata{comparator.LastUnits}},
		{"the truth's stock before the shadow's", comparator.Observation{Lines: []backends.Line{line(1, "mug", "A")}, Truth: grant(units(50, "mug", "A")), Shadow: &own{Outcome: granted, Seen: []backends.Units{units(5, "mug", "A")}}}, strata{comparator.Plentiful}},
		{"stock that nobody counted", comparator.Observation{Lines: []backends.Line{line(1, "mug", "A")}, Truth: grant(), Shadow: &own{Outcome: granted}}, nil},
		{"stock seen at one of two locations only", comparator.Observation{Lines: []backends.Line{line(1, "mug", "A", "B")}, Truth: grant(units(5, "mug", "A"))}, strata{comparator.SeveralLocations}},
		{"locations together are plenty; debt is nothing", comparator.Observation{Lines: []backends.Line{line(1, "mug", "A", "B", "C")}, Truth: grant(units(6, "mug", "A"), units(6, "mug", "B"), units(-9, "mug", "C"))}, strata{comparator.Plentiful, comparator.SeveralLocations}},
		{"the scarcest line counts", comparator.Observation{Lines: []backends.Line{line(1, "cup", "A"), line(1, "mug", "A")}, Truth: grant(units(99, "cup", "A"), units(2, "mug", "A"))}, strata{comparator.LastUnits, comparator.SeveralLines}},
		{"two lines of one item want their sum", comparator.Observation{Lines: []backends.Line{line(6, "mug", "A"), line(6, "mug", "A")}, Truth: grant(units(last+12, "mug", "A"))}, strata{comparator.LastUnits, comparator.SeveralLines}},
		{"a refused cart of lines and locations", comparator.Observation{Lines: []backends.Line{line(1, "cup", "A", "B"), line(1, "mug", "A")}, Truth: answer{Outcome: soldOut}}, strata{comparator.SoldOut, comparator.SeveralLocations, comparator.SeveralLines}},
		{"an outcome that is not known", comparator.Observation{Lines: []backends.Line{line(1, "cup", "A", "B")}}, nil},
		{"a claim in time", comparator.Observation{Op: backends.OpClaim, TruthAt: 999, ExpiresAt: 1000}, nil},
		{"a claim at its expiry", comparator.Observation{Op: backends.OpClaim, TruthAt: 1000, ExpiresAt: 1000}, strata{comparator.LateClaim}},
		{"a claim of an expiry that is not known", comparator.Observation{Op: backends.OpClaim, TruthAt: 1000}, nil},
		{"an expiry", comparator.Observation{Op: backends.OpExpire}, strata{comparator.Expiry}},
		{"a release", comparator.Observation{Op: backends.OpRelease}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.o.Shop = "s"; c.o.Op == backends.OpUnknown {
				c.o.Op = backends.OpReserve
			}
			if got := comparator.StrataOf(&c.o); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestStrataHaveNames(t *testing.T) {
	for _, s := range comparator.Strata() {
		if got, err := comparator.ParseStratum(s.String()); got != s || err != nil || s.Meaning() == comparator.StratumUnknown.Meaning() {
			t.Errorf("%s: %v, %v, %q", s, got, err, s.Meaning())
		}
	}
	if _, err := comparator.ParseStratum("unknown"); err == nil || !backends.IsRejection(err) {
		t.Errorf("%v", err)
	}
}

func TestWatched(t *testing.T) {
	for _, c := range []struct {
		e    backends.Entry
		want bool
	}{
		{backends.Entry{Op: backends.OpReserve, Hold: &backends.Hold{}}, true},
		{backends.Entry{Op: backends.OpReserve}, false},
		{backends.Entry{Op: backends.OpExpire, Hold: &backends.Hold{}}, true},
		{backends.Entry{Op: backends.OpClaim, At: 5, Hold: &backends.Hold{ExpiresAt: 5}}, true},
		{backends.Entry{Op: backends.OpClaim, At: 4, Hold: &backends.Hold{ExpiresAt: 5}}, false},
		{backends.Entry{Op: backends.OpRelease, Hold: &backends.Hold{}}, false},
	} {
		if got := comparator.Watched(&c.e); got != c.want {
			t.Errorf("%s at %d: %v", c.e.Op, c.e.At, got)
		}
	}
}

func TestCellsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var cells comparator.Cells
		at := rapid.IntRange(0, 40).Draw(t, "first")
		for range rapid.IntRange(0, 20).Draw(t, "cells") {
			cells = append(cells, comparator.Cell{At: at, N: rapid.Int64().Draw(t, "n"), K: rapid.Int64().Draw(t, "k")})
			at += rapid.IntRange(1, 49).Draw(t, "step")
		}
		b, err := cells.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var back comparator.Cells
		if err := back.UnmarshalBinary(b); err != nil || !slices.Equal(cells, back) {
			t.Fatalf("%v → %v, %v", cells, back, err)
		}
		if len(b) > 0 {
			if err := back.UnmarshalBinary(b[:len(b)-1]); err == nil {
				t.Fatal("a row that was cut off was read")
			}
		}
	})
}

// No bytes make reading cells fail in another way than by an error, or answer a cell that is out of bounds.
func FuzzCells(f *testing.F) {
	f.Add([]byte{0, 2, 0, 63, 4, 2})
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 2, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var cells comparator.Cells
		if err := cells.UnmarshalBinary(b); err != nil {
			return
		}
		for _, c := range cells {
			if c.At < 0 || c.At >= 1024 {
				t.Fatalf("cell %d", c.At)
			}
		}
	})
}

// counted sums up the tallies in the store by name.
func (r *rig) counted() map[string][2]int64 {
	r.t.Helper()
	out := map[string][2]int64{}
	err := r.store.Tallies(context.Background(), "one", time.Time{}, func(row *comparator.TallyRow) error {
		var n, k int64
		for _, c := range row.Cells {
			n, k = n+c.N, k+c.K
		}
		if n != row.N || k != row.K {
			r.t.Errorf("%s: cells of %d and %d for %d and %d", row.Name, n, k, row.N, row.K)
		}
		sum := out[row.Name]
		out[row.Name] = [2]int64{sum[0] + row.N, sum[1] + row.K}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) wantCounted(want map[string][2]int64) {
	r.t.Helper()
	got := r.counted()
	for name, w := range want {
		if got[name] != w {
			r.t.Errorf("%s: %v, want %v", name, got[name], w)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			r.t.Errorf("%s was counted too: %v", name, got[name])
		}
	}
}

// Matches, confirmed and explained decisions count in their strata; excused and undetermined ones do not.
func TestDecisionsAreCountedInTheirStrata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var excuses comparator.Excuses
		r := newRig(t, func(c *comparator.Config) { c.Excuses = func() comparator.Excuses { return excuses } })
		r.start()
		grant := answer{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 1)}, Seen: []backends.Units{units(50, "mug", "A")}}
		same := &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 1)}, Seen: []backends.Units{units(49, "mug", "A")}}
		for i := range 5 {
			o := observed(fmt.Sprint("m", i), "mug", 1, grant, same)
			o.TruthLatency, o.ShadowLatency = 200*time.Microsecond, 0
			r.Begin(1)
			r.Observe(o)
		}
		r.decide("n1", answer{Outcome: granted, Allocs: grant.Allocs}, &own{Outcome: granted, Allocs: grant.Allocs}) // nobody counted
		pass(time.Second)
		r.decide("e1", refuseOne, wouldGrant) // explained
		pass(20 * time.Second)
		r.look.say(1)
		r.decide("c1", refuseOne, wouldGrant) // confirmed
		pass(20 * time.Second)
		excuses = comparator.Excuses{{Name: "n", Owner: "o", Why: "w", From: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour), Classes: []comparator.Class{comparator.OversellRisk}}}
		r.decide("x1", refuseOne, wouldGrant) // excused
		pass(20 * time.Second)
		r.look.say(2)
		r.decide("u1", refuseOne, wouldGrant) // undetermined
		pass(20 * time.Second)
		r.want(comparator.Counts{Matched: 6, Explained: 1, Confirmed: 1, Excused: 1, Undetermined: 1})
		r.Stop()
		r.wantCounted(map[string][2]int64{"plentiful": {5, 0}, "stock_not_seen": {1, 0}, "sold_out": {2, 1}, "latency_truth": {5, 0}})
	})
}

// Expiries and late claims are looked into afterwards: those that agree count, those that differ at two
// quiescent moments are findings, and those that never rest count nowhere.
func TestTransitionsAreFollowedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.start()
		ended := func(hold string, op backends.Op) comparator.Observation {
			return comparator.Observation{Op: op, Hold: backends.HoldID(hold), Shop: "s", Stage: backends.Shadow, Epoch: 1, Lines: []backends.Line{line(2, "mug", "A")}, TruthAt: 20, ExpiresAt: 10}
		}
		r.Observe(ended("h1", backends.OpExpire))
		r.Observe(ended("h2", backends.OpClaim))
		r.Observe(ended("h3", backends.OpRelease))
		pass(6 * time.Second)
		r.look.say(1)
		r.Observe(ended("h4", backends.OpExpire))
		pass(6 * time.Second)
		r.look.say(2)
		pass(20 * time.Second)
		if fs := r.findings(); len(fs) != 0 {
			t.Errorf("one look has confirmed %+v", fs)
		}
		r.look.say(1)
		pass(6 * time.Second)
		r.look.say(2)
		r.Observe(ended("h5", backends.OpExpire))
		pass(2 * time.Minute)
		r.want(comparator.Counts{})
		r.Stop()
		r.wantCounted(map[string][2]int64{"expiry": {2, 1}, "late_claim": {1, 0}})
		fs := r.findings()[comparator.LostRelease]
		if len(fs) != 1 || fs[0].Hold != "h4" || fs[0].TotalUnits != 2 || fs[0].Source != "follow" || fs[0].Life != comparator.LifeOpen {
			t.Errorf("%+v", fs)
		}
		if s := r.Stats(); s.NotFollowed != 1 || s.Ignored != 1 {
			t.Errorf("%d were not followed, %d ignored", s.NotFollowed, s.Ignored)
		}
	})
}

// Two thousand wait at most, and looks are spaced out, however many holds expire.
func TestABurstOfExpiriesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.start()
		const burst = 5000
		for i := range burst {
			r.Observe(comparator.Observation{Op: backends.OpExpire, Hold: backends.HoldID(fmt.Sprint("h", i)), Shop: "s", Stage: backends.Shadow, Epoch: 1})
		}
		pass(61 * time.Second)
		if n := r.look.count(); n > 12 {
			t.Errorf("%d looks in a minute", n)
		}
		r.Stop()
		if s := r.Stats(); s.NotFollowed != 3000 {
			t.Errorf("%d of %d were not followed", s.NotFollowed, burst)
		}
		r.wantCounted(map[string][2]int64{"expiry": {2000, 0}})
	})
}

// While the store is away tallies wait, through the spool for slots that are over; nothing is double.
func TestTalliesOutliveAnAbsentStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &memSpool{}
		r := newRig(t, func(c *comparator.Config) { c.Spool = disk })
		r.start()
		const hours = 2
		for i := range hours * 60 {
			r.store.fail(i > 10 && i < 90)
			r.store.set(func(f *flaky) { f.liesTo = i % 2 })
			r.Begin(1)
			r.Observe(observed(fmt.Sprint("h", i), "mug", 1, refuseOne, &own{Outcome: soldOut, Short: refuseOne.Short}))
			pass(time.Minute)
		}
		r.store.set(func(f *flaky) { f.away, f.liesTo = false, 0 })
		r.Stop()
		r.wantCounted(map[string][2]int64{"sold_out": {hours * 60, 0}})
	})
}
