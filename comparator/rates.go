package comparator

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"

	"gonum.org/v1/gonum/mathext"
)

const (
	// confidence of every bound on a rate.
	confidence = 0.95
	// maxNeeded bounds the search for how many decisions would be enough: beyond it nobody waits.
	maxNeeded = 1_000_000_000_000
	// resamples is how often an interval is resampled: with Clusters groups some 130,000 additions a
	// stratum, less than a millisecond.
	resamples = 2000
	// resampleSeed makes one evidence give one interval, whoever asks.
	resampleSeed = 0x5eed
)

// UpperBound is the largest true rate of findings that is not refuted, at 95 %, by k findings among n
// independent decisions: the one-sided bound of Clopper and Pearson (Biometrika 26, 1934), exact for the
// binomial. It is 1 when n is 0, and 1 for arguments that make no sense.
func UpperBound(k, n int64) float64 {
	switch {
	case k < 0 || n <= 0 || k >= n:
		return 1
	case k == 0: // the same in closed form, exact for any n
		return -math.Expm1(math.Log(1-confidence) / float64(n))
	default:
		return mathext.InvRegIncBeta(float64(k+1), float64(n-k), confidence)
	}
}

// Needed is how many more decisions without a finding bring the upper bound to the goal; 0 when it is there.
func Needed(k, n int64, goal float64) int64 {
	if UpperBound(k, n) <= goal {
		return 0
	}
	if goal <= 0 {
		return maxNeeded
	}
	more, over := int64(1), int64(maxNeeded)
	for more < over && UpperBound(k, n+more) > goal {
		more *= 2
	}
	if more >= over {
		return maxNeeded
	}
	low := more / 2 // not enough
	return low + 1 + int64(sort.Search(int(more-low-1), func(i int) bool { return UpperBound(k, n+low+1+int64(i)) <= goal }))
}

// Resampled is the interval, at 95 %, of the rate of findings when whole clusters are drawn again with
// replacement: decisions on one item are not independent. Without findings it is 0 to 0, and says
// nothing: then [UpperBound] is what counts. It is pure: the seed is fixed.
func Resampled(cells Cells) (low, high float64) {
	var k int64
	for _, c := range cells {
		k += c.K
	}
	if k == 0 || len(cells) == 0 {
		return 0, 0
	}
	r := rand.New(rand.NewPCG(resampleSeed, uint64(len(cells)))) //nolint:gosec // a statistic, no secret
	rates := make([]float64, 0, resamples)
	for range resamples {
		var n, k int64
		for range cells {
			c := cells[r.IntN(len(cells))]
			n, k = n+c.N, k+c.K
		}
		if n > 0 {
			rates = append(rates, float64(k)/float64(n))
		}
	}
	slices.Sort(rates)
	if len(rates) == 0 {
		return 0, 0
	}
	const tail = (1 - confidence) / 2
	at := func(share float64) float64 { return rates[min(len(rates)-1, int(share*float64(len(rates))))] }
	return at(tail), at(1 - tail)
}
