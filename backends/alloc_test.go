package backends_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

func at(item backends.Item, loc backends.Location) backends.Key {
	return backends.Key{Shop: "s", Item: item, Location: loc}
}

func TestAllocate(t *testing.T) {
	stock := map[backends.Key]int64{
		at("mug", "east"): 2, at("mug", "west"): 5, at("mug", "debt"): -3, at("mug", "none"): 0, at("lamp", "east"): 1,
	}
	want := func(item backends.Item, n int64, split bool, locs ...backends.Location) backends.Line {
		return backends.Line{Item: item, Quantity: n, Locations: locs, Split: split}
	}
	for _, c := range []struct {
		name   string
		lines  []backends.Line
		allocs []backends.Allocation
		short  []backends.Shortage
	}{
		{"the first location that has enough", []backends.Line{want("mug", 3, false, "east", "west")},
			[]backends.Allocation{{Line: 0, Location: "west", Quantity: 3}}, nil},
		{"exactly enough", []backends.Line{want("mug", 2, false, "east", "west")},
			[]backends.Allocation{{Line: 0, Location: "east", Quantity: 2}}, nil},
		{"one too many anywhere", []backends.Line{want("mug", 6, false, "east", "west")},
			nil, []backends.Shortage{{Line: 0, Item: "mug", Wanted: 6, Available: 5}}},
		{"split in order", []backends.Line{want("mug", 6, true, "east", "west")},
			[]backends.Allocation{{Line: 0, Location: "east", Quantity: 2}, {Line: 0, Location: "west", Quantity: 4}}, nil},
		{"split needs one only", []backends.Line{want("mug", 2, true, "east", "west")},
			[]backends.Allocation{{Line: 0, Location: "east", Quantity: 2}}, nil},
		{"split, everything", []backends.Line{want("mug", 7, true, "west", "east")},
			[]backends.Allocation{{Line: 0, Location: "west", Quantity: 5}, {Line: 0, Location: "east", Quantity: 2}}, nil},
		{"split, one too many", []backends.Line{want("mug", 8, true, "west", "east")},
			nil, []backends.Shortage{{Line: 0, Item: "mug", Wanted: 8, Available: 7}}},
		{"debt counts as nothing", []backends.Line{want("mug", 6, true, "debt", "none", "west")},
			nil, []backends.Shortage{{Line: 0, Item: "mug", Wanted: 6, Available: 5}}},
		{"only debt", []backends.Line{want("mug", 1, false, "debt")},
			nil, []backends.Shortage{{Line: 0, Item: "mug", Wanted: 1, Available: 0}}},
		{"all lines or none", []backends.Line{want("mug", 1, false, "east"), want("lamp", 2, false, "east"), want("ghost", 1, true, "east")},
			nil, []backends.Shortage{{Line: 1, Item: "lamp", Wanted: 2, Available: 1}, {Line: 2, Item: "ghost", Wanted: 1, Available: 0}}},
		{"several lines", []backends.Line{want("lamp", 1, false, "east"), want("mug", 3, true, "east", "west")},
			[]backends.Allocation{{Line: 0, Location: "east", Quantity: 1}, {Line: 1, Location: "east", Quantity: 2}, {Line: 1, Location: "west", Quantity: 1}}, nil},
		{"no lines", nil, nil, nil},
	} {
		allocs, short := backends.Allocate("s", c.lines, func(k backends.Key) int64 { return stock[k] })
		if d := cmp.Diff(c.allocs, allocs, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: allocations (-want +got):\n%s", c.name, d)
		}
		if d := cmp.Diff(c.short, short, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: shortages (-want +got):\n%s", c.name, d)
		}
	}
}

// TestAllocateIsSound: nothing is taken that is not there, every line is served whole or the cart is
// not, and a line is called short only when it is.
func TestAllocateIsSound(t *testing.T) {
	places := []backends.Location{"a", "b", "c"}
	items := []backends.Item{"x", "y", "z"}
	rapid.Check(t, func(rt *rapid.T) {
		stock := map[backends.Key]int64{}
		var lines []backends.Line
		for _, item := range items {
			for _, loc := range places {
				stock[at(item, loc)] = rapid.Int64Range(-2, 5).Draw(rt, "stock")
			}
			locs := rapid.Permutation(places).Draw(rt, "locations")[:rapid.IntRange(1, 3).Draw(rt, "n")]
			lines = append(lines, backends.Line{Item: item, Quantity: rapid.Int64Range(1, 8).Draw(rt, "quantity"), Locations: locs, Split: rapid.Bool().Draw(rt, "split")})
		}
		asked := map[backends.Key]int{}
		allocs, short := backends.Allocate("s", lines, func(k backends.Key) int64 { asked[k]++; return stock[k] })
		for k, n := range asked {
			if n > 1 {
				rt.Fatalf("it asked %d times about %s", n, k)
			}
		}
		isShort := map[int]bool{}
		for _, sh := range short {
			isShort[sh.Line] = true
		}
		for i, l := range lines {
			most, sum := int64(0), int64(0)
			for _, loc := range l.Locations {
				n := max(0, stock[at(l.Item, loc)])
				most, sum = max(most, n), sum+n
			}
			if l.Split {
				most = sum
			}
			if (most < l.Quantity) != isShort[i] {
				rt.Fatalf("line %d wants %d of at most %d; it is called short: %v", i, l.Quantity, most, isShort[i])
			}
		}
		if len(short) > 0 {
			if len(allocs) != 0 {
				rt.Fatalf("a cart with short lines got %+v", allocs)
			}
			return
		}
		checkAllocs(rt, stock, lines, allocs)
	})
}

func checkAllocs(rt *rapid.T, stock map[backends.Key]int64, lines []backends.Line, allocs []backends.Allocation) {
	got := make([]int64, len(lines))
	for _, a := range allocs {
		l := lines[a.Line]
		k := at(l.Item, a.Location)
		stock[k] -= a.Quantity
		got[a.Line] += a.Quantity
		if a.Quantity <= 0 || stock[k] < 0 || !slices.Contains(l.Locations, a.Location) {
			rt.Fatalf("allocation %+v takes what is not there or not asked for", a)
		}
		if !l.Split && a.Quantity != l.Quantity {
			rt.Fatalf("line %d is split though it must not be", a.Line)
		}
	}
	for i, l := range lines {
		if got[i] != l.Quantity {
			rt.Fatalf("line %d got %d of %d", i, got[i], l.Quantity)
		}
	}
}

func TestSumUnitsAndKeys(t *testing.T) {
	got := backends.SumUnits([]backends.Units{{Key: at("b", "l"), Quantity: 1}, {Key: at("a", "l"), Quantity: 2}, {Key: at("b", "l"), Quantity: 3}})
	if d := cmp.Diff([]backends.Units{{Key: at("a", "l"), Quantity: 2}, {Key: at("b", "l"), Quantity: 4}}, got); d != "" {
		t.Errorf("sums (-want +got):\n%s", d)
	}
	if got := backends.SumUnits(nil); len(got) != 0 {
		t.Errorf("the sum of nothing is %v", got)
	}
	keys := backends.Keys("s", []backends.Line{
		{Item: "b", Locations: []backends.Location{"y", "x"}}, {Item: "a", Locations: []backends.Location{"y"}}, {Item: "b", Locations: []backends.Location{"x"}},
	})
	if d := cmp.Diff([]backends.Key{at("a", "y"), at("b", "x"), at("b", "y")}, keys); d != "" {
		t.Errorf("keys (-want +got):\n%s", d)
	}
}
