package orders

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// catalogue is how many items are for sale: as many as the extract's carts ask for.
	catalogue = 2858
	// backShare is the share of cancellations among the orders that can be played.
	backShare = 384.0 / (384 + 1873)
	// taste is how much of a quantity lies in the item (candles go by the dozen, clocks one by one)
	// and not in the cart: the correlation that gives a tenth of the items their share of the units.
	taste = 0.5
	// interpolateFrom is where the tail of a sample begins. Below it values are taken as they are, so
	// that quantities keep to dozens and packs; above, where there are few, they are spread.
	interpolateFrom = 0.95
	// sharpen favours the most wanted items a little, to make up for those that a long cart draws
	// again and has to replace by others.
	sharpen = 1.12
	// MaxGenerated bounds what Generate makes: it is all held in memory.
	MaxGenerated = 200_000
	// retries bounds the draws for an item that the order does not have yet.
	retries = 32
)

// quantiles describe a sample: {share below, value}, both ascending, the first share 0, the last 1.
type quantiles []struct {
	share float64
	value int64
}

// segment is the last knot at or below u (0 ≤ u < 1).
func (q quantiles) segment(u float64) int {
	return sort.Search(len(q), func(i int) bool { return q[i].share > u }) - 1
}

// at gives the value at u.
func (q quantiles) at(u float64) int64 {
	i := q.segment(u)
	a, b := q[i], q[i+1]
	if a.share < interpolateFrom || a.value == b.value {
		return a.value
	}
	f := (u - a.share) / (b.share - a.share)
	return int64(math.Round(math.Exp((1-f)*math.Log(float64(a.value)) + f*math.Log(float64(b.value)))))
}

// linear gives the value at u without keeping to knots.
func (q quantiles) linear(u float64) float64 {
	i := q.segment(u)
	a, b := q[i], q[i+1]
	return float64(a.value) + (u-a.share)/(b.share-a.share)*float64(b.value-a.value)
}

// Generate makes n orders (0 to MaxGenerated) with the shape of the extract; see the package
// documentation for its figures. The same seed gives the same orders, and more of them begin
// with the same ones. The error is a *backends.FieldError.
func Generate(seed uint64, n int) (*Book, error) {
	if n < 0 || n > MaxGenerated {
		return nil, &backends.FieldError{Field: "number of orders", Value: fmt.Sprint(n), Bound: fmt.Sprintf("0 to %d", MaxGenerated), Next: "make several books"}
	}
	const stream = 0x6f7264657273 // any constant: the second word of PCG's seed
	g := &generator{rng: rand.New(rand.NewPCG(seed, stream))}
	b := &Book{Orders: make([]Order, 0, n)}
	const firstInvoice = 536365 // the extract's own
	for i := range n {
		number := firstInvoice + i
		if g.rng.Float64() < backShare {
			b.Orders = append(b.Orders, Order{Invoice: fmt.Sprintf("C%d", number), Kind: Restock, Lines: g.lines(backLines.at(g.rng.Float64()), backQty)})
		} else {
			k := cartLines.at(g.rng.Float64())
			b.Orders = append(b.Orders, Order{Invoice: fmt.Sprint(number), Kind: Cart, Lines: g.lines(k, quantitiesOf(k))})
		}
		b.Rows += len(b.Orders[i].Lines)
	}
	return b, nil
}

// quantitiesOf: the longer a cart, the fewer pieces it wants of each item.
func quantitiesOf(lines int64) quantiles {
	switch {
	case lines <= 1:
		return qtyOne
	case lines <= 5:
		return qtyFew
	case lines <= 20:
		return qtySome
	case lines <= 100:
		return qtyMany
	default:
		return qtyMost
	}
}

type generator struct{ rng *rand.Rand }

func (g *generator) lines(n int64, qty quantiles) []Line {
	lines := make([]Line, 0, n)
	have := make(map[int]bool, n)
	for range n {
		r := g.item(have)
		have[r] = true
		lines = append(lines, Line{Item: itemName(r), Quantity: qty.at(g.draw(r))})
	}
	return lines
}

// item draws an item that the order does not have.
func (g *generator) item(have map[int]bool) int {
	r := 0
	for range retries {
		r = min(int(itemRanks.linear(math.Pow(g.rng.Float64(), sharpen))), catalogue-1)
		if !have[r] {
			return r
		}
	}
	for have[r] { // no order wants more items than there are
		r = (r + 1) % catalogue
	}
	return r
}

// draw is a number in [0, 1), evenly spread over all lines, and alike for lines of one item.
func (g *generator) draw(item int) float64 {
	z := math.Sqrt(taste)*leaning(item) + math.Sqrt(1-taste)*g.rng.NormFloat64()
	return min(0.5*math.Erfc(-z/math.Sqrt2), math.Nextafter(1, 0))
}

// leaning is an item's own, spread as a standard normal distribution over the items.
func leaning(item int) float64 {
	const golden = 0.6180339887498949 // its multiples are spread evenly, whichever items are popular
	_, u := math.Modf((float64(item) + 0.5) * golden)
	return math.Sqrt2 * math.Erfinv(2*u-1)
}

// itemName looks like a code of the extract: five digits, often with a letter; some codes differ
// only in the case of it, as they do there, and a few are words.
func itemName(rank int) backends.Item {
	switch rank {
	case 40:
		return "POST"
	case 400:
		return "BANK CHARGES"
	}
	const (
		spread = 7919 // a prime, so that neighbours in rank are far apart in name
		codes  = 80_000
		twin   = 46 // one in so many is the lower-case twin of the one before
		letter = 3
	)
	if rank%twin == 1 {
		return backends.Item(fmt.Sprintf("%05da", 10_000+(rank-1)*spread%codes))
	}
	name := fmt.Sprintf("%05d", 10_000+rank*spread%codes)
	if rank%twin == 0 || rank%letter == 0 {
		name += "A"
	}
	return backends.Item(name)
}
