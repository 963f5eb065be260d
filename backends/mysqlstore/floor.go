package mysqlstore

import (
	"sync"
	"time"
)

const (
	// fromHead is how often a scan starts at the head of its index all the same.
	fromHead = 30 * time.Second
	// latest is how much later than its number says a row may be committed, and still be seen by the next
	// scan: a number is made before COMMIT, by the clock of a proxy. Later ones are seen by the
	// next scan from the head.
	latest = 2 * time.Minute
)

// floor is where a scan for rows that are always taken from the front of an index begins. Rows that
// were deleted there stay as delete-marked records while anybody holds an old snapshot, and a scan
// from the head reads over all of them each time.
type floor[T uint64 | int64] struct {
	now func() time.Time

	mu   sync.Mutex
	at   T
	head time.Time // the last scan from the head
}

// begin says from where to scan.
func (f *floor[T]) begin() T {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.head) >= fromHead {
		f.head, f.at = now, 0
	}
	return f.at
}

// saw notes that a scan found nothing below a row.
func (f *floor[T]) saw(row T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = row
}

// forget makes the next scan start at the head.
func (f *floor[T]) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head = time.Time{}
}
