package mysqlstore

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// fillLead is for how long a pool should last, at the rate at which it is being emptied, when its
	// refill begins: some times as long as a refill takes on a slow disk.
	fillLead = 100 * time.Millisecond
	// rateWindow is what a rate is measured over.
	rateWindow = 100 * time.Millisecond
	// barrenFor is how long a pool whose level had nothing to fill it with is left alone. What comes
	// back meanwhile goes into the pool by itself.
	barrenFor = 250 * time.Millisecond
	// maxPools bounds the pools that are watched, about 200 bytes each; when it is reached all are
	// forgotten, which costs each one look.
	maxPools = 100_000
)

// fillRows is about how many rows one refill in the background writes: their levels are locked
// meanwhile.
const fillRows = 2000

// filler refills pools ahead of need: when a pool has, by what this store has seen, less than lasts
// for fillLead, and at the latest at its low-water mark. It works in the background, one
// transaction at a time; a reserve that finds too little all the same refills inline.
type filler struct {
	s    *Store
	ctx  context.Context
	stop context.CancelFunc

	mu    sync.Mutex
	pools map[backends.Key]*watched
	queue []toFill
	busy  bool
	under sync.WaitGroup
}

// watched is what is believed of a pool.
type watched struct {
	known   bool
	left    int64 // rows, by the last count less what was taken since
	queued  bool
	barren  time.Time // nothing to fill it with, until
	taken   int64     // in the window
	since   time.Time
	perLead int64 // taken in one lead, by the last window
}

type toFill struct {
	tok backends.Token
	key backends.Key
}

func newFiller(s *Store) *filler {
	f := &filler{s: s, pools: map[backends.Key]*watched{}}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// close ends the work; none begins afterwards.
func (f *filler) close() {
	f.mu.Lock()
	f.stop()
	f.mu.Unlock()
	f.under.Wait()
}

// took notes that n rows of a pool were taken.
func (f *filler) took(tok backends.Token, k backends.Key, n int64) {
	if f.s.cfg.NoAhead {
		return
	}
	now := f.s.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.watch(k)
	w.taken += n
	if took := now.Sub(w.since); took >= rateWindow {
		w.perLead = int64(float64(w.taken) * float64(fillLead) / float64(took))
		w.taken, w.since = 0, now
	}
	w.left = max(0, w.left-n)
	f.want(tok, k, w, now)
}

// short notes that somebody found too little in a pool and took what was missing from its level: whatever was
// believed of it is wrong, or its last refill failed.
func (f *filler) short(tok backends.Token, k backends.Key) {
	if f.s.cfg.NoAhead {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.watch(k)
	w.known = false
	f.want(tok, k, w, f.s.cfg.Now())
}

// want has a pool refilled, unless it has enough, or will have. The filler's lock is held.
func (f *filler) want(tok backends.Token, k backends.Key, w *watched, now time.Time) {
	if w.queued || w.known && w.left >= f.mark(k, w) || now.Before(w.barren) || f.ctx.Err() != nil {
		return
	}
	w.queued = true
	f.queue = append(f.queue, toFill{tok, k})
	if !f.busy {
		f.busy = true
		f.under.Go(f.work)
	}
}

func (f *filler) watch(k backends.Key) *watched {
	w := f.pools[k]
	if w == nil {
		if len(f.pools) >= maxPools {
			clear(f.pools)
		}
		w = &watched{since: f.s.cfg.Now()}
		f.pools[k] = w
	}
	return w
}

// mark is below how many rows a pool is refilled. More than half of the cap would make many small
// refills of few large ones.
func (f *filler) mark(k backends.Key, w *watched) int64 {
	return min(max(f.s.cfg.lowWaterFor(k), w.perLead), max(1, f.s.cfg.capFor(k)/2))
}

// markFor is mark for a key by what is known of it now.
func (f *filler) markFor(k backends.Key) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mark(k, f.watch(k))
}

// goalFor is up to where a pool is refilled: to its cap where it is emptied fast.
func (f *filler) goalFor(k backends.Key) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	start, most := f.s.cfg.startFor(k), f.s.cfg.capFor(k)
	if 4*f.watch(k).perLead > start {
		return most
	}
	return start
}

// counted notes what a transaction that had the level locked left in a pool, and for it.
func (f *filler) counted(k backends.Key, rows, unmaterialised int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.watch(k)
	w.known, w.left, w.barren = true, rows, time.Time{}
	if unmaterialised <= 0 {
		w.barren = f.s.cfg.Now().Add(barrenFor)
	}
}

// stocked notes that there is something to fill a pool with again.
func (f *filler) stocked(k backends.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.pools[k]; w != nil {
		w.barren = time.Time{}
	}
}

func (f *filler) work() {
	for {
		tok, keys := f.next()
		if len(keys) == 0 {
			return
		}
		j := job{op: "maintain", tok: tok, role: asEither}
		// What fails is looked at again at the next take, be it from the pool or from its level, and by Maintain.
		_ = f.s.replenish(f.ctx, j, keys, f.markFor, f.goalFor)
		f.mu.Lock()
		for _, k := range keys {
			if w := f.pools[k]; w != nil {
				w.queued = false
			}
		}
		f.mu.Unlock()
	}
}

// next hands out keys of one token, in key order, as many as one transaction should fill.
func (f *filler) next() (tok backends.Token, keys []backends.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 || f.ctx.Err() != nil {
		f.busy, f.queue = false, nil
		return tok, nil
	}
	tok = f.queue[0].tok
	var rows int64
	for len(f.queue) > 0 && f.queue[0].tok == tok && (len(keys) == 0 || rows < fillRows) {
		k := f.queue[0].key
		rows += f.s.cfg.startFor(k)
		keys = append(keys, k)
		f.queue = f.queue[1:]
	}
	slices.SortFunc(keys, backends.Key.Compare)
	return tok, keys
}
