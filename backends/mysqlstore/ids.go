package mysqlstore

import (
	"math/rand/v2"
	"sync"
	"time"
)

// The parts of an id: 41 bits of milliseconds (69 years), 10 of a counter that spills into the
// milliseconds, 12 that tell stores apart.
const (
	counterBits = 10
	nodeBits    = 12
	timeBits    = 41
)

// idEpoch is where the milliseconds of an id start, in Unix milliseconds: 2025-01-01 UTC.
const idEpoch = 1_735_689_600_000

// idSource makes numbers that grow, so that what they number grows at the tail of its index.
// Two stores with the same node (drawn at random) may make the same number; the primary key then
// refuses the second, and its transaction is done again with others.
type idSource struct {
	now  func() time.Time
	node uint64

	mu   sync.Mutex
	last uint64 // milliseconds and counter
}

func newIDSource(now func() time.Time) *idSource {
	return &idSource{now: now, node: rand.Uint64() & (1<<nodeBits - 1)}
}

// next gives n ids, growing, above all that were given before. A clock that is behind costs
// nothing: the counter goes on from the last number.
func (s *idSource) next(n int) []uint64 {
	ms := max(0, s.now().UnixMilli()-idEpoch)
	at := uint64(ms) & (1<<timeBits - 1) << counterBits
	s.mu.Lock()
	first := max(at, s.last+1)
	s.last = first + uint64(n) - 1 //nolint:gosec // n is a number of rows
	s.mu.Unlock()
	out := make([]uint64, n)
	for i := range out {
		out[i] = (first+uint64(i))<<nodeBits | s.node
	}
	return out
}

// before is an id that a clock which is right gives only after at.
func before(at time.Time) uint64 {
	ms := max(0, at.UnixMilli()-idEpoch)
	return uint64(ms) & (1<<timeBits - 1) << counterBits << nodeBits
}

func (s *idSource) one() uint64 { return s.next(1)[0] }
