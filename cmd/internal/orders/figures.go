package orders

import "slices"

// Figures describe the shape of a book. Shares are 0 to 1; quantiles are of the lowest value that
// at least that share of the sample does not exceed.
type Figures struct {
	Carts, Restocks int
	// RestockShare is the share of cancellations among all orders.
	RestockShare float64
	// Lines are the distinct items of a cart, Quantity the units of its lines.
	Lines, Quantity Spread
	// BackLines and BackQuantity are the same of cancellations.
	BackLines, BackQuantity Spread
	// Items is how many different items carts ask for.
	Items int
	// TopPercent, TopTenth and TopFifth are the shares that the most wanted 1, 10 and 20 percent of
	// the items have in all lines of carts; UnitsTopTenth is the same in units.
	TopPercent, TopTenth, TopFifth, UnitsTopTenth float64
}

// Spread describes a sample of whole numbers.
type Spread struct {
	N                            int
	Mean                         float64
	P25, P50, P75, P90, P95, P99 int64
	Max                          int64
}

// Measure takes the figures of a book.
func Measure(b *Book) Figures {
	var f Figures
	var lines, qty, backLines, backQty []int64
	wanted, units := map[string]int64{}, map[string]int64{}
	for i := range b.Orders {
		o := &b.Orders[i]
		if o.Kind == Restock {
			f.Restocks++
			backLines = append(backLines, int64(len(o.Lines)))
			for _, l := range o.Lines {
				backQty = append(backQty, l.Quantity)
			}
			continue
		}
		f.Carts++
		lines = append(lines, int64(len(o.Lines)))
		for _, l := range o.Lines {
			qty = append(qty, l.Quantity)
			wanted[string(l.Item)]++
			units[string(l.Item)] += l.Quantity
		}
	}
	if n := f.Carts + f.Restocks; n > 0 {
		f.RestockShare = float64(f.Restocks) / float64(n)
	}
	f.Lines, f.Quantity, f.BackLines, f.BackQuantity = spread(lines), spread(qty), spread(backLines), spread(backQty)
	f.Items = len(wanted)
	const percent, tenth, fifth = 100, 10, 5
	f.TopPercent, f.TopTenth, f.TopFifth = top(wanted, percent), top(wanted, tenth), top(wanted, fifth)
	f.UnitsTopTenth = top(units, tenth)
	return f
}

// top is the share of the largest 1/part of the values in the sum of all.
func top(m map[string]int64, part int) float64 {
	all := make([]int64, 0, len(m))
	var sum int64
	for _, v := range m {
		all = append(all, v)
		sum += v
	}
	if sum == 0 {
		return 0
	}
	slices.Sort(all)
	var best int64
	for _, v := range all[len(all)-len(all)/part:] {
		best += v
	}
	return float64(best) / float64(sum)
}

func spread(vs []int64) Spread {
	if len(vs) == 0 {
		return Spread{}
	}
	slices.Sort(vs)
	var sum int64
	for _, v := range vs {
		sum += v
	}
	at := func(percent int) int64 { return vs[max(0, (len(vs)*percent+99)/100-1)] }
	return Spread{
		N: len(vs), Mean: float64(sum) / float64(len(vs)),
		P25: at(25), P50: at(50), P75: at(75), P90: at(90), P95: at(95), P99: at(99), Max: vs[len(vs)-1],
	}
}

// Extract has the figures of the extract on which the generator is calibrated.
func Extract() Figures {
	return Figures{
		Carts: 1873, Restocks: 384, RestockShare: 0.1701,
		Lines:        Spread{N: 1873, Mean: 25.637, P25: 4, P50: 13, P75: 26, P90: 48, P95: 66, P99: 439, Max: 674},
		Quantity:     Spread{N: 48019, Mean: 9.136, P25: 1, P50: 3, P75: 8, P90: 20, P95: 25, P99: 100, Max: 2880},
		BackLines:    Spread{N: 384, Mean: 2.346, P25: 1, P50: 1, P75: 2, P90: 4, P95: 6, P99: 21, Max: 26},
		BackQuantity: Spread{N: 901, Mean: 19.660, P25: 1, P50: 2, P75: 6, P90: 24, P95: 36, P99: 144, Max: 9360},
		Items:        2858,
		TopPercent:   0.0837, TopTenth: 0.4126, TopFifth: 0.6054, UnitsTopTenth: 0.6036,
	}
}
