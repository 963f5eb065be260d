package comparator

import (
	"container/heap"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// openCase is a diverged decision that waits for its next look.
type openCase struct {
	Case
	due   time.Time
	pause time.Duration
	// awaits: the shadow does not know the stock yet, and is asked anew.
	awaits bool
	// asked is the sheet with which the other proxies were asked about the keys; 0: not yet.
	asked uint64
	told  bool // that question has ended
	// mark is of the operations among which the last search looked.
	mark uint64
}

// settleQueue is bounded and ordered by when each case is due.
type settleQueue struct {
	mu    sync.Mutex
	max   int
	cases caseHeap
	out   int           // taken and not yet put back or ended; they keep their room
	wake  chan struct{} // has room for one: a case is due earlier than before
}

func newSettleQueue(most int) *settleQueue {
	return &settleQueue{max: most, wake: make(chan struct{}, 1)}
}

// add answers false when the queue is full.
func (q *settleQueue) add(c *openCase) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.cases)+q.out >= q.max {
		return false
	}
	heap.Push(&q.cases, c)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// take removes the cases that are due, for one look: bounded in cases and in keys.
func (q *settleQueue) take(now time.Time) []*openCase {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*openCase
	keys := 0
	for len(q.cases) > 0 && len(out) < maxCasesPerLook && !q.cases[0].due.After(now) {
		if keys += len(q.cases[0].Judgement.Keys); keys > maxKeysPerLook && len(out) > 0 {
			break
		}
		out = append(out, q.cases[0])
		heap.Pop(&q.cases)
	}
	q.out += len(out)
	return out
}

// back returns a case that was taken.
func (q *settleQueue) back(c *openCase) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out--
	heap.Push(&q.cases, c)
}

// end forgets a case that was taken.
func (q *settleQueue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out--
}

// empty takes all that is left.
func (q *settleQueue) empty() []*openCase {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := []*openCase(q.cases)
	q.cases = nil
	return out
}

// next is how long to wait for the next case; ok is false when there is none.
func (q *settleQueue) next(now time.Time) (time.Duration, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.cases) == 0 {
		return 0, false
	}
	return max(0, q.cases[0].due.Sub(now)), true
}

func (q *settleQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.cases) + q.out
}

type caseHeap []*openCase

func (h caseHeap) Len() int           { return len(h) }
func (h caseHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h caseHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *caseHeap) Push(x any) {
	if c, ok := x.(*openCase); ok { // heap.Push takes anything; only cases are handed to it
		*h = append(*h, c)
	}
}
func (h *caseHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return c
}

// keysOf lists the distinct keys of cases.
func keysOf(cs []*openCase) []backends.Key {
	seen := map[backends.Key]bool{}
	var ks []backends.Key
	for _, c := range cs {
		for _, k := range c.Judgement.Keys {
			if !seen[k] {
				seen[k] = true
				ks = append(ks, k)
			}
		}
	}
	return ks
}
