package backends

import "slices"

// SumUnits sorts by key and adds up what belongs to the same key. It reuses us.
func SumUnits(us []Units) []Units {
	slices.SortFunc(us, func(a, b Units) int { return a.Key.Compare(b.Key) })
	out := us[:0]
	for _, u := range us {
		if n := len(out); n > 0 && out[n-1].Key == u.Key {
			out[n-1].Quantity += u.Quantity
			continue
		}
		out = append(out, u)
	}
	return out
}

// Keys lists all keys that lines may draw on, sorted and distinct.
func Keys(shop Shop, lines []Line) []Key {
	var ks []Key
	for _, l := range lines {
		for _, loc := range l.Locations {
			ks = append(ks, Key{shop, l.Item, loc})
		}
	}
	slices.SortFunc(ks, Key.Compare)
	return slices.Compact(ks)
}

// Allocate is the one rule by which every store decides a cart. A line without Split is served
// whole from the first of its locations that has enough; a line with Split takes what each
// location has, in order, until it is full. All lines or none: when any line is short there is
// no allocation, and every short line is named. sellable tells the units for sale at a key,
// negative or zero when there are none; it is asked at most once for each line and location.
func Allocate(shop Shop, lines []Line, sellable func(Key) int64) ([]Allocation, []Shortage) {
	var allocs []Allocation
	var short []Shortage
	for i, l := range lines {
		got, best := allocateLine(i, shop, l, sellable)
		if got == nil {
			short = append(short, Shortage{Line: i, Item: l.Item, Wanted: l.Quantity, Available: best})
			continue
		}
		allocs = append(allocs, got...)
	}
	if len(short) > 0 {
		return nil, short
	}
	return allocs, nil
}

// allocateLine returns nil and the most that could be had when the line is short.
func allocateLine(i int, shop Shop, l Line, sellable func(Key) int64) ([]Allocation, int64) {
	var best, sum int64
	var parts []Allocation
	for _, loc := range l.Locations {
		n := max(0, sellable(Key{shop, l.Item, loc}))
		if !l.Split {
			if n >= l.Quantity {
				return []Allocation{{Line: i, Location: loc, Quantity: l.Quantity}}, n
			}
			best = max(best, n)
			continue
		}
		take := min(n, l.Quantity-sum)
		if take > 0 {
			parts = append(parts, Allocation{Line: i, Location: loc, Quantity: take})
			sum += take
		}
		if sum == l.Quantity {
			return parts, sum
		}
		best = sum
	}
	return nil, best
}
