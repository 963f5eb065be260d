package comparator

import (
	"slices"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// recorder keeps the operations that this proxy has brought to the shadow of late, by the keys that
// they touch. Taking one in is a short lock and an append: it is called where entries are mirrored.
type recorder struct {
	now func() time.Time

	mu      sync.Mutex
	waiting []Followed
	entries int                         // in waiting
	open    map[uint64]backends.Instant // attempts under way, by ticket: when they began
	tickets uint64
	last    time.Time

	// What follows is worked out of waiting by whoever asks, under work.
	work  sync.Mutex
	kept  []*recorded // oldest first
	units int         // keys that they touch, each counted for each
	fails int         // steps of attempts that failed, which may have been followed at any time since
	// newest is until when any was followed, but for those that failed.
	newest backends.Instant
	byKey  map[backends.Key][]*recorded
	epoch  uint64
	truth  backends.Side    // whose decisions these are: in another role of the stores the clocks are others
	since  backends.Instant // what the shadow had followed by then may be missing
	// upTo is until when each store had followed anything, as the shadow.
	upTo map[backends.Side]backends.Instant

	dropped int64            // under mu: items for which there was no room,
	lossTo  backends.Instant // the last of which was followed by then
}

type recorded struct {
	Step
	at time.Time
	// upTo is until when it or any step recorded before it was followed, but for those that failed.
	upTo backends.Instant
}

func newRecorder(now func() time.Time) *recorder {
	return &recorder{now: now, open: map[uint64]backends.Instant{}, upTo: map[backends.Side]backends.Instant{}, byKey: map[backends.Key][]*recorded{}}
}

// begin notes that an attempt is under way, and answers its ticket.
func (r *recorder) begin(from backends.Instant) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tickets++
	r.open[r.tickets] = from
	return r.tickets
}

// under is when the earliest attempt that is under way began; Never when there is none.
func (r *recorder) under() backends.Instant {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := Never
	for _, from := range r.open {
		out = min(out, from)
	}
	return out
}

// take takes an attempt in. What does not fit is counted, and makes the record incomplete.
func (r *recorder) take(f Followed) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = now
	delete(r.open, f.Ticket)
	if r.entries+len(f.Items) > maxFollowed {
		r.dropped += int64(len(f.Items))
		r.lossTo = max(r.lossTo, f.Shadow.To+1)
		return
	}
	r.entries += len(f.Items)
	r.waiting = append(r.waiting, f)
}

// ingest works out what waits, and forgets what is old or too much. work is held.
func (r *recorder) ingest() {
	r.mu.Lock()
	waiting := r.waiting
	r.waiting, r.entries = nil, 0
	r.mu.Unlock()
	now := r.now()
	for i := range waiting {
		f := &waiting[i]
		r.turn(f)
		for j := range f.Items {
			for _, s := range f.Items[j].steps(f.Shadow) {
				r.add(s, now)
			}
		}
	}
	n := 0
	for n < len(r.kept) && (r.units > maxRecorded || now.Sub(r.kept[n].at) > recordFor) {
		r.forget(r.kept[n])
		n++
	}
	r.kept = slices.Delete(r.kept, 0, n)
}

// turn begins a new record when the stores have changed their roles.
func (r *recorder) turn(f *Followed) {
	r.epoch = max(r.epoch, f.Epoch)
	side := f.Stage.Truth()
	if side != r.truth {
		if r.truth != backends.SideUnknown {
			r.since = max(f.Shadow.From, r.upTo[side]+1) // what it had before in this role is gone as well
		}
		r.truth, r.kept, r.units, r.fails, r.newest = side, nil, 0, 0, 0
		clear(r.byKey)
	}
	r.upTo[side] = max(r.upTo[side], f.Shadow.To)
}

func (r *recorder) add(s Step, now time.Time) {
	if len(s.Takes) == 0 || s.Op == backends.OpReemit {
		// It may move keys that it does not name (a hold that is voided); or the shadow was being filled
		// until then, and lacked states of which nobody had told it.
		r.since = max(r.since, 1+min(s.Shadow.To, s.Shadow.From+backends.Instant(recordFor.Milliseconds())))
		if len(s.Takes) == 0 {
			return
		}
	}
	if s.Shadow.To == Never {
		r.fails++
	} else {
		r.newest = max(r.newest, s.Shadow.To)
	}
	e := &recorded{Step: s, at: now, upTo: r.newest}
	r.kept, r.units = append(r.kept, e), r.units+len(s.Takes)
	for _, u := range s.Takes {
		r.byKey[u.Key] = append(r.byKey[u.Key], e)
	}
}

// forget lets go of the oldest step; it is the oldest at each of its keys.
func (r *recorder) forget(e *recorded) {
	r.since = max(r.since, e.gone())
	if e.Shadow.To == Never {
		r.fails--
	}
	r.units -= len(e.Takes)
	for _, u := range e.Takes {
		if rest := r.byKey[u.Key][1:]; len(rest) > 0 {
			r.byKey[u.Key] = rest
		} else {
			delete(r.byKey, u.Key)
		}
	}
}

// tidy works out what waits, so that there is room for more.
func (r *recorder) tidy() {
	r.work.Lock()
	defer r.work.Unlock()
	r.ingest()
}

// told is what a record says of some keys.
type told struct {
	Steps  []Step
	Intact backends.Instant // of what was followed later, nothing is missing
	Lacks  []Want           // keys at which it is only since a later instant, for want of room
	Open   backends.Instant // an attempt that began then is under way; Never: none is
	Epoch  uint64
	Truth  backends.Side // SideUnknown: nothing was followed yet
}

// at lists the steps at any of keys that may have been followed at since or later, with what is recorded of the
// states before them, at most maxOwnSteps; and from which instant on the list lacks nothing.
func (r *recorder) at(keys []backends.Key, since backends.Instant) told {
	r.work.Lock()
	defer r.work.Unlock()
	open := r.under() // first: what ends from here on counts as under way
	r.ingest()
	r.mu.Lock()
	out := told{Open: open, Intact: max(r.since, r.lossTo), Epoch: r.epoch, Truth: r.truth}
	r.mu.Unlock()
	late := map[threadID]bool{}
	before := make([]int, len(keys)) // where in each list nothing comes that may have been followed since
	for n, k := range keys {
		for i, e := range slices.Backward(r.byKey[k]) {
			if e.upTo < since && r.fails == 0 {
				before[n] = i
				break
			}
			if e.Shadow.To >= since {
				late[e.thread()] = true
			}
		}
	}
	seen := map[*recorded]struct{}{}
	for n, k := range keys {
		for i, e := range slices.Backward(r.byKey[k]) {
			if i < before[n]-maxLookBack {
				break // an earlier state that is farther back counts as not recorded
			}
			if _, there := seen[e]; there || !late[e.thread()] {
				continue
			}
			if len(out.Steps) == maxOwnSteps {
				out.Intact = max(out.Intact, Never-1)
				return out
			}
			seen[e] = struct{}{}
			out.Steps = append(out.Steps, e.Step)
		}
	}
	return out
}

// all lists the newest steps at whatever keys, as many as a sheet holds.
func (r *recorder) all() told {
	r.work.Lock()
	defer r.work.Unlock()
	open := r.under()
	r.ingest()
	r.mu.Lock()
	out := told{Open: open, Intact: max(r.since, r.lossTo), Epoch: r.epoch, Truth: r.truth}
	r.mu.Unlock()
	units := 0
	for i, e := range slices.Backward(r.kept) {
		if units += len(e.Takes); units > maxSheetUnits || len(out.Steps) == maxSheetSteps {
			for _, e := range r.kept[:i+1] {
				out.Intact = max(out.Intact, e.gone())
			}
			break
		}
		out.Steps = append(out.Steps, e.Step)
	}
	return out
}

// gone is the instant since which nothing lacks without the step, as far as can be said.
func (e *recorded) gone() backends.Instant {
	if e.Shadow.To == Never {
		return e.Shadow.From
	}
	return e.Shadow.To + 1
}

// busy tells whether anything was followed within d.
func (r *recorder) busy(d time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.last.IsZero() && r.now().Sub(r.last) < d
}

// losses counts the operations that were not recorded for want of room.
func (r *recorder) losses() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}
