package comparator

import (
	"math/bits"
	"sync"
	"time"
)

// latencies is a histogram with sixteen steps per power of two: quantiles are right to 6 %.
type latencies struct {
	mu   sync.Mutex
	n    int64
	max  time.Duration
	hist [64 * 16]int64
}

func (l *latencies) add(d time.Duration) {
	if d <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	l.max = max(l.max, d)
	l.hist[slot(int64(d))]++
}

func slot(v int64) int {
	if v < 16 {
		return int(v)
	}
	exp := bits.Len64(uint64(v)) - 5 //nolint:gosec // v is above zero
	return (exp+1)*16 + int(v>>exp)&15
}

// upper is the largest value of a slot.
func upper(i int) time.Duration {
	if i < 16 {
		return time.Duration(i)
	}
	exp := i/16 - 1
	return time.Duration((int64(i%16)+17)<<exp - 1)
}

// Latency sums up the latencies of one store, in microseconds.
type Latency struct {
	Count int64 `json:"count"`
	P50   int64 `json:"p50_us"`
	P95   int64 `json:"p95_us"`
	P99   int64 `json:"p99_us"`
	Max   int64 `json:"max_us"`
}

func (l *latencies) sum() Latency {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := func(share float64) int64 {
		want := int64(share*float64(l.n) + 0.5)
		var seen int64
		for i, c := range l.hist {
			if seen += c; seen >= max(want, 1) {
				return min(upper(i), l.max).Microseconds()
			}
		}
		return 0
	}
	if l.n == 0 {
		return Latency{}
	}
	return Latency{Count: l.n, P50: q(.5), P95: q(.95), P99: q(.99), Max: l.max.Microseconds()}
}

// merge adds the steps of a tally. Its largest is known to a step only.
func (l *latencies) merge(cs Cells) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range cs {
		if c.At < 0 || c.At >= len(l.hist) || c.N <= 0 {
			continue
		}
		l.n += c.N
		l.hist[c.At] += c.N
		l.max = max(l.max, upper(c.At))
	}
}
