package bench

import (
	"math"
	"slices"
)

// figures of one run of one side, by name: "rate" in operations a second, "p50_ms", "p99_ms".
type figures map[string]float64

// pair is one run of each side, in the order of the sides, whatever came first.
type pair []figures

// coverage that an interval shall have at least. Five pairs give it: from the least to the largest of
// five the median is found with probability 1 − 2·½⁵ = 93.75 %.
const coverage = 0.9375

// interval of a median.
type interval struct {
	value, low, high float64
	covers           float64 // the probability that low..high has the median of what was drawn from
}

// median of values; it does not change them. NaN without any.
func median(vs []float64) float64 {
	if len(vs) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(vs))
	m := len(s) / 2
	if len(s)%2 == 1 {
		return s[m]
	}
	return (s[m-1] + s[m]) / 2
}

// medianInterval is the median of values with the distribution-free interval from their order (the
// inversion of the sign test): the k-th least to the k-th largest cover the median with probability
// 1 − 2·P(Binomial(n, ½) < k). k is the largest that still covers by coverage; with fewer than
// five values it is 1, and the interval says how little it covers.
func medianInterval(vs []float64) interval {
	n := len(vs)
	s := slices.Sorted(slices.Values(vs))
	if n == 0 {
		return interval{value: math.NaN(), low: math.NaN(), high: math.NaN()}
	}
	k, covers := 1, 1-2*binomialBelow(n, 1)
	for next := 2; next <= (n+1)/2; next++ {
		c := 1 - 2*binomialBelow(n, next)
		if c < coverage {
			break
		}
		k, covers = next, c
	}
	return interval{value: median(s), low: s[k-1], high: s[n-k], covers: max(0, covers)}
}

// binomialBelow is P(Binomial(n, ½) < k).
func binomialBelow(n, k int) float64 {
	p, sum := math.Pow(0.5, float64(n)), 0.0
	for i := range k {
		sum += p
		p = p * float64(n-i) / float64(i+1)
	}
	return sum
}

// ratios of a figure, pair by pair, side a over side b. Pairs in which b's is zero are left out.
func ratios(pairs []pair, figure string, a, b int) (out []float64) {
	for _, p := range pairs {
		if d := p[b][figure]; d != 0 {
			out = append(out, p[a][figure]/d)
		}
	}
	return out
}

// medians of each figure of one side over all pairs.
func medians(pairs []pair, side int) figures {
	all := map[string][]float64{}
	for _, p := range pairs {
		for name, v := range p[side] {
			all[name] = append(all[name], v)
		}
	}
	out := figures{}
	for name, vs := range all {
		out[name] = median(vs)
	}
	return out
}
