package comparator_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/comparator"
)

// Published one-sided 95 % upper limits: for no failures the "rule of three" in its exact form, 1 - 0.05^(1/n)
// (Hanley and Lippman-Hand, JAMA 249, 1983: 0/10 → 26 %, 0/100 → 3.0 %), and for some failures the
// upper ends of two-sided 90 % Clopper-Pearson intervals (1/20 → 21.61 %, 2/20 → 28.26 %, 10/100 → 16.37 %).
func TestUpperBoundAsPublished(t *testing.T) {
	for _, c := range []struct {
		k, n int64
		want float64
	}{
		{0, 10, 0.2589}, {0, 100, 0.0295}, {0, 1000, 0.002991}, {0, 2995, 0.0009998},
		{1, 20, 0.2161}, {2, 20, 0.2826}, {10, 100, 0.1637},
		{0, 0, 1}, {5, 5, 1}, {-1, 5, 1}, {6, 5, 1},
	} {
		if got := comparator.UpperBound(c.k, c.n); math.Abs(got-c.want) > 0.00006 && math.Abs(got-c.want)/c.want > 0.0005 {
			t.Errorf("%d of %d: %.6f, want %.6f", c.k, c.n, got, c.want)
		}
	}
}

// At the bound itself, as few findings as were seen have a chance of exactly 5 %: summed up in
// arbitrary precision, with nothing of the library.
func TestUpperBoundIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 2_000_000).Draw(t, "n")
		k := rapid.Int64Range(0, min(n-1, 60)).Draw(t, "k")
		p := comparator.UpperBound(k, n)
		if chance := atMost(k, n, p); math.Abs(chance-0.05) > 1e-6 {
			t.Fatalf("%d of %d: at a rate of %g, at most %d findings have a chance of %.9f", k, n, p, k, chance)
		}
	})
}

// atMost is the chance of at most k among n at rate p.
func atMost(k, n int64, p float64) float64 {
	const precision = 256
	f := func(x float64) *big.Float { return new(big.Float).SetPrec(precision).SetFloat64(x) }
	rate := f(p)
	rest := new(big.Float).SetPrec(precision).Sub(f(1), rate)
	term := f(1) // rest^n, by squaring
	for base, e := new(big.Float).Copy(rest), n; e > 0; e >>= 1 {
		if e&1 == 1 {
			term.Mul(term, base)
		}
		base.Mul(base, base)
	}
	sum := f(0)
	for i := range k + 1 {
		sum.Add(sum, term)
		term.Mul(term, f(float64(n-i)))
		term.Quo(term, f(float64(i+1)))
		term.Mul(term, rate)
		term.Quo(term, rest)
	}
	out, _ := sum.Float64()
	return out
}

func TestNeededIsTheLeast(t *testing.T) {
	for _, c := range []struct {
		k, n int64
		goal float64
		want int64
	}{{0, 0, 0.001, 2995}, {0, 2994, 0.001, 1}, {0, 2995, 0.001, 0}, {0, 0, 0.0001, 29956}, {0, 0, 1, 0}} {
		if got := comparator.Needed(c.k, c.n, c.goal); got != c.want {
			t.Errorf("%d of %d to %g: %d more, want %d", c.k, c.n, c.goal, got, c.want)
		}
	}
	if got := comparator.Needed(0, 10, 0); got < 1e12 {
		t.Errorf("a goal of 0 was said to be reachable with %d", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 100_000).Draw(t, "n")
		k := rapid.Int64Range(0, min(n, 20)).Draw(t, "k")
		goal := rapid.Float64Range(0.0001, 0.2).Draw(t, "goal")
		more := comparator.Needed(k, n, goal)
		if comparator.UpperBound(k, n+more) > goal {
			t.Fatalf("%d of %d: %d more are not enough for %g", k, n, more, goal)
		}
		if more > 0 && comparator.UpperBound(k, n+more-1) <= goal {
			t.Fatalf("%d of %d: fewer than %d more are enough for %g", k, n, more, goal)
		}
	})
}

// Ten findings that are all of one item say less than ten of ten items: the interval is wider, though
// the binomial bound is the same.
func TestResamplingKnowsOfItems(t *testing.T) {
	var together, apart comparator.Cells
	for i := range comparator.Clusters {
		together = append(together, comparator.Cell{At: i, N: 100})
		apart = append(apart, comparator.Cell{At: i, N: 100})
		if i < 10 {
			together[0].K++
			apart[i].K++
		}
	}
	_, wide := comparator.Resampled(together)
	low, narrow := comparator.Resampled(apart)
	if rate := 10.0 / 6400; low <= 0 || low >= rate || narrow <= rate || wide < 1.5*narrow {
		t.Errorf("of one item up to %g, of ten items %g to %g, around %g", wide, low, narrow, rate)
	}
	if again, _ := comparator.Resampled(apart); again != low {
		t.Errorf("the same evidence gave %g, then %g", low, again)
	}
	if low, high := comparator.Resampled(comparator.Cells{{N: 5}}); low != 0 || high != 0 {
		t.Errorf("without findings: %g to %g", low, high)
	}
	if low, high := comparator.Resampled(nil); low != 0 || high != 0 {
		t.Errorf("of nothing: %g to %g", low, high)
	}
}

// An interval that claims 95 % has to hold the rate about so often, when whole items fail together: 200
// shops are made up, seeded. (Percentile intervals of 64 clusters hold it somewhat less often.)
func TestResampledIntervalHoldsTheRate(t *testing.T) {
	const shops, rate = 200, 0.1
	held := 0
	for shop := range shops {
		var cells comparator.Cells
		for i := range comparator.Clusters {
			c := comparator.Cell{At: i, N: 50}
			if mix(uint64(shop*comparator.Clusters+i)) < rate {
				c.K = 50 // the whole item is wrong
			}
			cells = append(cells, c)
		}
		if low, high := comparator.Resampled(cells); low <= rate && rate <= high {
			held++
		}
	}
	if held < shops*86/100 {
		t.Errorf("the interval held the rate for %d of %d", held, shops)
	}
}

// mix is a number from 0 to 1 that follows from x (splitmix64).
func mix(x uint64) float64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}
