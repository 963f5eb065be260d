package soak

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// buckets of a histogram: exact below 64 µs, then 32 for each doubling, up to a day and more.
const buckets = 32 * 38

// histogram counts durations to within 1/32.
type histogram struct{ counts [buckets]atomic.Int64 }

// counts is a histogram at one moment.
type counts [buckets]int64

func bucketOf(d time.Duration) int {
	us := uint64(max(0, d.Microseconds())) //nolint:gosec // not negative
	if us < 64 {
		return int(us) //nolint:gosec // below 64
	}
	e := bits.Len64(us) - 6
	return min(buckets-1, e*32+int(us>>e)) //nolint:gosec // below 64
}

// valueOf is the least duration of a bucket.
func valueOf(b int) time.Duration {
	if b < 64 {
		return time.Duration(b) * time.Microsecond
	}
	e := b/32 - 1
	return time.Duration(b-e*32) << e * time.Microsecond
}

func (h *histogram) add(d time.Duration) { h.counts[bucketOf(d)].Add(1) }

func (h *histogram) now() (c counts) {
	for i := range h.counts {
		c[i] = h.counts[i].Load()
	}
	return c
}

// since is what came after an earlier moment.
func (c counts) since(earlier *counts) counts {
	for i := range c {
		c[i] -= earlier[i]
	}
	return c
}

func (c *counts) total() (n int64) {
	for _, k := range c {
		n += k
	}
	return n
}

// Latency is how many operations of a kind there were, and how long they took, in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func (c *counts) latency() Latency {
	l := Latency{Count: c.total()}
	ms := func(b int) float64 { return float64(valueOf(b).Microseconds()) / 1000 }
	var seen int64
	half, most := false, false
	for b, n := range c {
		if n == 0 {
			continue
		}
		seen += n
		if !half && 2*seen >= l.Count {
			half, l.P50 = true, ms(b)
		}
		if !most && 100*seen >= 99*l.Count {
			most, l.P99 = true, ms(b)
		}
		l.Max = ms(b)
	}
	return l
}
