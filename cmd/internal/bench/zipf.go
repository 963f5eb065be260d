package bench

import (
	"fmt"
	"math/rand/v2"
	"sort"

	"github.com/crossfade-proxy/crossfade/backends"
)

// assortment is items with the probability of each: uniform, or by Zipf's law with exponent 1.0 (which
// math/rand's generator cannot do: it wants more than 1).
type assortment struct {
	items []backends.Item
	upTo  []float64 // the probability of the items up to this one
}

func newAssortment(n int, zipf bool) *assortment {
	a := &assortment{}
	var sum float64
	for i := range n {
		w := 1.0
		if zipf {
			w = 1 / float64(i+1)
		}
		sum += w
		a.items = append(a.items, backends.Item(fmt.Sprintf("item-%04d", i+1)))
		a.upTo = append(a.upTo, sum)
	}
	for i := range a.upTo {
		a.upTo[i] /= sum
	}
	return a
}

// share is the probability of item i.
func (a *assortment) share(i int) float64 {
	if i == 0 {
		return a.upTo[0]
	}
	return a.upTo[i] - a.upTo[i-1]
}

// draw gives the number of an item.
func (a *assortment) draw(r *rand.Rand) int {
	if len(a.items) == 1 {
		return 0
	}
	return min(sort.SearchFloat64s(a.upTo, r.Float64()), len(a.items)-1)
}

// some gives n different items, or all of them, each drawn by its probability.
func (a *assortment) some(r *rand.Rand, n int) []backends.Item {
	n = min(n, len(a.items))
	taken := make(map[int]bool, n)
	out := make([]backends.Item, 0, n)
	for len(out) < n {
		i := a.draw(r)
		for taken[i] { // the next one that is free: it always ends
			i = (i + 1) % len(a.items)
		}
		taken[i] = true
		out = append(out, a.items[i])
	}
	return out
}

// seeded is a random source of a worker's own.
func seeded(seed uint64, worker int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(worker))) //nolint:gosec // a number from 0 on
}
