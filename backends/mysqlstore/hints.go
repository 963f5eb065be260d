package mysqlstore

import (
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
	// maxTouched bounds the keys that wait for upkeep because reserves took from them; beyond it
	// the paged scan finds them.
	maxTouched = 10_000
)

// hints is what a store remembers of keys between transactions. All of it may be wrong: whoever
// finds too little with its help looks again without.
type hints struct {
	now func() time.Time

	mu      sync.Mutex
	keys    map[backends.Key]hint
	touched map[backends.Key]struct{}
	busy    map[backends.Key]chan struct{} // keys with a confirmed reserve under way
}

type hint struct {
	cursor uint64    // where free rows began
	dry    time.Time // sold out until
}

func newHints(now func() time.Time) *hints {
	return &hints{now: now, keys: map[backends.Key]hint{}, touched: map[backends.Key]struct{}{}, busy: map[backends.Key]chan struct{}{}}
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
	}
	v := h.keys[k]
	f(&v)
	h.keys[k] = v
}

// took notes that rows up to id were taken, so that the next scan begins behind them.
func (h *hints) took(k backends.Key, id uint64) {
	h.change(k, func(v *hint) { v.cursor = max(v.cursor, id+1) })
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.touched) < maxTouched {
		h.touched[k] = struct{}{}
	}
}

// made notes that rows from id on have come in: a cursor that is past them would hide them.
func (h *hints) made(k backends.Key, id uint64) {
	h.change(k, func(v *hint) { v.cursor = min(v.cursor, id) })
}

// rewind makes the next scan begin at the head.
func (h *hints) rewind(k backends.Key) {
	h.change(k, func(v *hint) { v.cursor = 0 })
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

// toMaintain hands out at most n of the touched keys.
func (h *hints) toMaintain(n int) (out []backends.Key, more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.touched {
		if len(out) == n {
			return out, true
		}
		out = append(out, k)
		delete(h.touched, k)
	}
	return out, false
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
