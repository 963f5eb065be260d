package comparator_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// hold has two lines: q mugs at A and one cup at B.
func hold(state backends.State, q int64) *backends.Hold {
	return &backends.Hold{
		ID: "h", Shop: "s", State: state, ExpiresAt: 5000, EndedAt: 4000,
		Lines:  []backends.Line{line(q, "mug", "A", "B"), line(1, "cup", "B")},
		Allocs: []backends.Allocation{alloc(0, "A", q), alloc(1, "B", 1)},
	}
}

func with(h *backends.Hold, change func(*backends.Hold)) *backends.Hold {
	c := h.Clone()
	change(c)
	return c
}

func TestCompareHold(t *testing.T) {
	const (
		held, claimed, released, expired = backends.Held, backends.Claimed, backends.Released, backends.Expired
	)
	all := []backends.Units{units(1, "cup", "B"), units(2, "mug", "A")}
	claims := comparator.HoldRules{ClaimsOnly: true}
	cases := []struct {
		name          string
		truth, shadow *backends.Hold
		rules         comparator.HoldRules
		class         comparator.Class // unknown: no difference
		units         []backends.Units
	}{
		{"open in the truth, unknown to the shadow", hold(held, 2), nil, comparator.HoldRules{}, comparator.MissingHold, all},
		{"open in the shadow, unknown to the truth", nil, hold(held, 2), comparator.HoldRules{}, comparator.OrphanHold, all},
		{"released in the truth, held in the shadow", hold(released, 2), hold(held, 2), comparator.HoldRules{}, comparator.LostRelease, all},
		{"expired in the truth, held in the shadow", hold(expired, 2), hold(held, 2), comparator.HoldRules{}, comparator.LostRelease, all},
		{"claimed in the truth, held in the shadow", hold(claimed, 2), hold(held, 2), comparator.HoldRules{}, comparator.LedgerShort, all},
		{"claimed in the truth, expired in the shadow", hold(claimed, 2), hold(expired, 2), comparator.HoldRules{}, comparator.LedgerShort, all},
		{"claimed in the truth, unknown to the shadow", hold(claimed, 2), nil, comparator.HoldRules{}, comparator.MissingHold, all},
		{"released in the truth, claimed in the shadow", hold(released, 2), hold(claimed, 2), comparator.HoldRules{}, comparator.Quantity, all},
		{"open in the truth, claimed in the shadow", hold(held, 2), hold(claimed, 2), comparator.HoldRules{}, comparator.Quantity, all},
		{"open in the truth, expired in the shadow", hold(held, 2), hold(expired, 2), comparator.HoldRules{}, comparator.MissingHold, all},
		{"more units in the truth", hold(held, 5), hold(held, 2), comparator.HoldRules{}, comparator.Quantity, []backends.Units{units(3, "mug", "A")}},
		{"more units in the shadow", hold(held, 2), hold(held, 5), comparator.HoldRules{}, comparator.Quantity, []backends.Units{units(3, "mug", "A")}},
		{"more units of a claim", hold(claimed, 5), hold(claimed, 2), comparator.HoldRules{}, comparator.Quantity, []backends.Units{units(3, "mug", "A")}},
		{"another location", hold(held, 2), with(hold(held, 2), func(h *backends.Hold) { h.Allocs[0].Location = "B" }), comparator.HoldRules{},
			comparator.Location, []backends.Units{units(2, "mug", "A")}},
		{"another expiry", hold(held, 2), with(hold(held, 2), func(h *backends.Hold) { h.ExpiresAt++ }), comparator.HoldRules{}, comparator.ExpirySkew, all},
		{"an expiry within the tolerance", hold(held, 2), with(hold(held, 2), func(h *backends.Hold) { h.ExpiresAt -= 10 }),
			comparator.HoldRules{ExpiryTolerance: 1e7}, comparator.ClassUnknown, nil},
		{"the expiry of ended holds does not matter", hold(claimed, 2), with(hold(claimed, 2), func(h *backends.Hold) { h.ExpiresAt++ }), comparator.HoldRules{}, comparator.ClassUnknown, nil},
		{"alike", hold(held, 2), hold(held, 2), comparator.HoldRules{}, comparator.ClassUnknown, nil},
		{"a newer version of the same state", hold(held, 2), with(hold(held, 2), func(h *backends.Hold) { h.Version.Epoch = 9 }), comparator.HoldRules{}, comparator.ClassUnknown, nil},
		{"released and expired take nothing, either way", hold(released, 2), hold(expired, 2), comparator.HoldRules{}, comparator.ClassUnknown, nil},
		{"released in the truth, unknown to the shadow", hold(released, 2), nil, comparator.HoldRules{}, comparator.ClassUnknown, nil},
		{"ended in the shadow, unknown to the truth", nil, hold(claimed, 2), comparator.HoldRules{}, comparator.ClassUnknown, nil},
		{"an old claim may be gone from the shadow", hold(claimed, 2), nil, comparator.HoldRules{EndedBefore: 4001}, comparator.ClassUnknown, nil},
		{"an old claim that is still held is not gone", hold(claimed, 2), hold(held, 2), comparator.HoldRules{EndedBefore: 4001}, comparator.LedgerShort, all},
		{"a claim whose deduction travels with the level", with(hold(claimed, 2), func(h *backends.Hold) { h.LedgerOwed = true }), nil, comparator.HoldRules{}, comparator.ClassUnknown, nil},
		{"unknown to both", nil, nil, comparator.HoldRules{}, comparator.ClassUnknown, nil},
		{"redis-only: a claim that the ledger does not know", hold(claimed, 2), nil, claims, comparator.LedgerShort, all},
		{"redis-only: a claim that the ledger holds open", hold(claimed, 2), hold(held, 2), claims, comparator.LedgerShort, all},
		{"redis-only: reservations are not followed", hold(held, 2), nil, claims, comparator.ClassUnknown, nil},
		{"redis-only: left-over holds of MySQL are not compared", nil, hold(held, 2), claims, comparator.ClassUnknown, nil},
		{"redis-only: both claimed", hold(claimed, 2), hold(claimed, 2), claims, comparator.ClassUnknown, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d, ok := comparator.CompareHold(c.truth, c.shadow, c.rules)
			if ok != (c.class != comparator.ClassUnknown) || d.Class != c.class {
				t.Fatalf("%v %s (%s), want %s", ok, d.Class, d.Why, c.class)
			}
			if diff := cmp.Diff(c.units, d.Units); diff != "" {
				t.Error(diff)
			}
			if ok && d.Why == "" {
				t.Error("no reason given")
			}
		})
	}
}

// Whatever two holds take, the units of a quantity difference are exactly the differences of the
// items' sums, and those of a location difference exactly what was taken elsewhere.
func TestCompareHoldUnitsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := []backends.Line{line(1, "mug", "A", "B", "C"), line(1, "cup", "A", "B")}
		draw := func(name string) *backends.Hold {
			h := &backends.Hold{Shop: "s", State: backends.Held, Lines: lines}
			for i, l := range lines {
				for _, loc := range l.Locations {
					if q := rapid.Int64Range(0, 3).Draw(t, name); q > 0 {
						h.Allocs = append(h.Allocs, backends.Allocation{Line: i, Location: loc, Quantity: q})
					}
				}
			}
			return h
		}
		truth, shadow := draw("truth"), draw("shadow")
		sum, moved := map[backends.Item]int64{}, int64(0)
		at := map[backends.Key]int64{}
		for _, u := range truth.Takes() {
			sum[u.Key.Item] += u.Quantity
			at[u.Key] += u.Quantity
		}
		for _, u := range shadow.Takes() {
			sum[u.Key.Item] -= u.Quantity
			at[u.Key] -= u.Quantity
		}
		var quantity int64
		for _, n := range sum {
			quantity += max(n, -n)
		}
		for _, n := range at {
			moved += max(n, 0)
		}
		d, ok := comparator.CompareHold(truth, shadow, comparator.HoldRules{})
		var got int64
		for _, u := range d.Units {
			got += u.Quantity
		}
		switch {
		case quantity > 0:
			if d.Class != comparator.Quantity || got != quantity {
				t.Fatalf("%s of %d units, want quantity of %d", d.Class, got, quantity)
			}
		case moved > 0:
			if d.Class != comparator.Location || got != moved {
				t.Fatalf("%s of %d units, want location of %d", d.Class, got, moved)
			}
		case ok:
			t.Fatalf("%s without a difference", d.Class)
		}
	})
}

func TestCompareLevel(t *testing.T) {
	at := func(sellable, held, taken int64) *backends.Level { return level("mug", "A", sellable, held, taken) }
	none := comparator.Gap{}
	cases := []struct {
		name          string
		stage         backends.Stage
		truth, shadow *backends.Level
		expected      comparator.Gap
		class         comparator.Class
		units         int64
	}{
		{"less for sale in the shadow", backends.Shadow, at(5, 2, 0), at(3, 2, 0), none, comparator.LevelDrift, 2},
		{"a take twice", backends.Shadow, at(5, 0, 2), at(3, 0, 4), none, comparator.LevelDrift, 2},
		{"other takes and units on hand", backends.Shadow, at(5, 0, 2), at(5, 0, 0), none, comparator.LevelDrift, 2},
		{"units that went from one store's shelf, and to nobody", backends.Shadow, at(5, 2, 0), at(3, 4, 0), none, comparator.BypassWrite, 2},
		{"units on hand that nobody can buy", backends.Live, at(5, 2, 0), at(5, 9, 0), none, comparator.BypassWrite, 7},
		{"besides a hold found", backends.Live, at(5, 2, 0), at(5, 0, 0), comparator.Gap{Sellable: 2}, comparator.LevelDrift, 2},
		{"besides a hold found, past Crossfade", backends.Live, at(5, 2, 0), at(4, 3, 0), comparator.Gap{Sellable: 2}, comparator.BypassWrite, 3},
		{"in redis-only nobody follows what is held", backends.RedisOnly, at(5, 2, 0), at(5, 9, 0), none, comparator.LevelDrift, 7},
		{"alike", backends.Shadow, at(5, 2, 1), at(5, 2, 1), none, comparator.ClassUnknown, 0},
		{"missing and empty are alike", backends.Shadow, nil, at(0, 0, 0), none, comparator.ClassUnknown, 0},
		{"missing and not empty", backends.Shadow, at(5, 0, 0), nil, none, comparator.LevelDrift, 5},
		{"debt of MySQL alone, as shadow", backends.Shadow, at(1, 2, 0), at(-2, 5, 0), none, comparator.LedgerShort, 3},
		{"debt of MySQL alone, as truth", backends.Live, at(-2, 5, 0), at(0, 3, 0), none, comparator.LedgerShort, 2},
		{"debt of Redis alone is no matter of the ledger", backends.Live, at(0, 3, 0), at(-2, 3, 0), none, comparator.LevelDrift, 2},
		{"what a hold found explains is no second finding", backends.Shadow, at(5, 2, 0), at(7, 0, 0), comparator.Gap{Sellable: 2}, comparator.ClassUnknown, 0},
		{"what it does not explain is", backends.Shadow, at(5, 2, 0), at(8, 0, 0), comparator.Gap{Sellable: 2}, comparator.LevelDrift, 1},
		{"equal levels are no drift, whatever the holds say", backends.Shadow, at(5, 2, 0), at(5, 2, 0), comparator.Gap{Sellable: 2}, comparator.ClassUnknown, 0},
		{"redis-only compares units on hand alone", backends.RedisOnly, at(5, 2, 0), at(7, 0, 0), none, comparator.ClassUnknown, 0},
		{"redis-only: units on hand", backends.RedisOnly, at(5, 2, 0), at(9, 0, 0), none, comparator.LevelDrift, 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d, ok := comparator.CompareLevel(c.stage, c.truth, c.shadow, c.expected)
			if ok != (c.class != comparator.ClassUnknown) || d.Class != c.class {
				t.Fatalf("%v %s (%s), want %s", ok, d.Class, d.Why, c.class)
			}
			if ok && (len(d.Units) != 1 || d.Units[0] != units(c.units, "mug", "A")) {
				t.Errorf("units %v, want %d", d.Units, c.units)
			}
		})
	}
}
