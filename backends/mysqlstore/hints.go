package mysqlstore

import (
	"slices"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// maxHints bounds the keys that hints are kept of, about 200 bytes each; when it is reached all
	// are forgotten, which costs each key one scan from the head.
	maxHints = 100_000
	// dryFor is how long a refusal makes further reserves of its key look before they lock. It is
	// a matter of cost alone: looking first is right at any time.
	dryFor = time.Second
)

// hints is what a store remembers of keys between transactions. All of it may be wrong: whoever
// finds too little with its help looks again without.
type hints struct {
	now func() time.Time

	mu   sync.Mutex
	keys map[backends.Key]hint
	busy map[backends.Key]chan struct{} // keys with a confirmed reserve under way
	rows int                            // in all of keys' free
}

type hint struct {
	cursor uint64    // where free rows began
	dry    time.Time // sold out until
	free   []uint64  // rows that this store made and has not seen taken, growing
}

// maxFree bounds the rows that are remembered in all, at eight bytes each.
const maxFree = 500_000

func newHints(now func() time.Time) *hints {
	return &hints{now: now, keys: map[backends.Key]hint{}, busy: map[backends.Key]chan struct{}{}}
}

// cursor is where to begin looking for free rows.
func (h *hints) cursor(k backends.Key) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.keys[k].cursor
}

func (h *hints) change(k backends.Key, f func(*hint)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.keys) >= maxHints {
		clear(h.keys)
		h.rows = 0
	}
	v := h.keys[k]
	h.rows -= len(v.free)
	f(&v)
	h.rows += len(v.free)
	h.keys[k] = v
}

// took notes that rows up to id were taken, so that the next scan begins behind them.
func (h *hints) took(k backends.Key, id uint64) {
	h.change(k, func(v *hint) {
		v.cursor = max(v.cursor, id+1)
		i, _ := slices.BinarySearch(v.free, id+1)
		v.free = v.free[i:]
	})
}

// tookBorrowed notes that borrowed rows up to id were taken. Others may have been given back since.
func (h *hints) tookBorrowed(k backends.Key, id uint64) {
	h.change(k, func(v *hint) {
		v.cursor = max(v.cursor, id+1)
		if len(v.free) > 0 {
			v.cursor = min(v.cursor, v.free[0])
		}
	})
}

// made notes rows that have come in: a cursor that is past them would hide them.
func (h *hints) made(k backends.Key, ids []uint64) {
	h.change(k, func(v *hint) {
		v.cursor = min(v.cursor, ids[0])
		if h.rows+len(v.free)+len(ids) <= maxFree && (len(v.free) == 0 || v.free[len(v.free)-1] < ids[0]) {
			v.free = append(slices.Clip(v.free), ids...)
		}
	})
}

// borrow hands out n rows that are likely to be free, to nobody else; nil where fewer are known.
func (h *hints) borrow(k backends.Key, n int64) (ids []uint64) {
	h.change(k, func(v *hint) {
		if int64(len(v.free)) >= n {
			ids, v.free = v.free[:n:n], v.free[n:]
		}
	})
	return ids
}

// giveBack takes rows back that were borrowed and not taken.
func (h *hints) giveBack(k backends.Key, ids []uint64) {
	h.change(k, func(v *hint) {
		v.free = append(slices.Clone(ids), v.free...)
		slices.Sort(v.free)
		v.cursor = min(v.cursor, v.free[0])
	})
}

// rewind makes the next scan begin at the head, with nothing taken for granted.
func (h *hints) rewind(k backends.Key) {
	h.change(k, func(v *hint) { v.cursor, v.free = 0, nil })
}

// soldOut notes that a key was seen empty, or (false) that it was not.
func (h *hints) soldOut(k backends.Key, is bool) {
	h.change(k, func(v *hint) {
		v.dry = time.Time{}
		if is {
			v.dry = h.now().Add(dryFor)
		}
	})
}

// dry tells whether any of the keys was seen empty a moment ago.
func (h *hints) dry(ws []want) bool {
	now := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range ws {
		if now.Before(h.keys[w.Key].dry) {
			return true
		}
	}
	return false
}

// claim makes the caller the one confirmed reserve of this store at the keys; otherwise it answers
// what to wait for.
func (h *hints) claim(ws []want) (release func(), wait <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range ws {
		if c := h.busy[w.Key]; c != nil {
			return nil, c
		}
	}
	done := make(chan struct{})
	for _, w := range ws {
		h.busy[w.Key] = done
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, w := range ws {
			delete(h.busy, w.Key)
		}
		close(done)
	}, nil
}
