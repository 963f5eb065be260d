package comparator

import (
	"cmp"
	"maps"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// answer is what a sheet is to tell of some keys, each since an instant of its own.
type answer struct {
	keys  []backends.Key
	since map[backends.Key]backends.Instant
	// before is where in each key's list nothing comes that may have been followed since.
	before  []int
	threads map[threadID]*telling
	order   []*telling
	// at are the threads that have to be told at each key, with until when they were followed there.
	at           [][]tellingAt
	steps, units int // in all
}

// telling is the recorded states of one thread at the keys wanted: all of them are told, or none.
type telling struct {
	steps []*recorded
	units int
	told  bool
}

type tellingAt struct {
	*telling
	last backends.Instant
}

// wanted lists the steps at keys since the instant of each, of their units only those at them. What there is
// no room for is left out key by key, see [Sheet].
func (r *recorder) wanted(since map[backends.Key]backends.Instant) told {
	r.work.Lock()
	defer r.work.Unlock()
	open := r.under() // first: what ends from here on counts as under way
	r.ingest()
	r.mu.Lock()
	out := told{Open: open, Intact: max(r.since, r.lossTo), Epoch: r.epoch, Truth: r.truth}
	r.mu.Unlock()
	a := answer{keys: slices.SortedFunc(maps.Keys(since), backends.Key.Compare), since: since, threads: map[threadID]*telling{}}
	a.gather(r)
	out.Lacks = a.choose()
	for _, th := range a.order {
		if !th.told {
			continue
		}
		for _, e := range th.steps {
			s := e.Step
			s.Takes = slices.DeleteFunc(slices.Clone(s.Takes), func(u backends.Units) bool { _, ok := since[u.Key]; return !ok })
			out.Steps = append(out.Steps, s)
		}
	}
	return out
}

// gather finds the threads of which something may have been followed since it was asked for, and all that is
// recorded of them at any of the keys.
func (a *answer) gather(r *recorder) {
	a.before, a.at = make([]int, len(a.keys)), make([][]tellingAt, len(a.keys))
	for n, k := range a.keys {
		for i, e := range slices.Backward(r.byKey[k]) {
			if e.upTo < a.since[k] && r.fails == 0 {
				a.before[n] = i
				break
			}
			if id := e.thread(); e.Shadow.To >= a.since[k] && a.threads[id] == nil {
				th := &telling{}
				a.threads[id], a.order = th, append(a.order, th)
			}
		}
	}
	seen := map[*recorded]struct{}{}
	for n, k := range a.keys {
		place := map[*telling]int{}
		for i, e := range slices.Backward(r.byKey[k]) {
			if i < a.before[n]-maxLookBack {
				break // an earlier state that is farther back counts as not recorded
			}
			th := a.threads[e.thread()]
			if th == nil {
				continue
			}
			if _, there := seen[e]; !there {
				seen[e] = struct{}{}
				a.add(th, e)
			}
			if e.Shadow.To < a.since[k] {
				continue
			}
			if p, there := place[th]; there {
				a.at[n][p].last = max(a.at[n][p].last, e.Shadow.To)
			} else {
				place[th] = len(a.at[n])
				a.at[n] = append(a.at[n], tellingAt{th, e.Shadow.To})
			}
		}
	}
}

func (a *answer) add(th *telling, e *recorded) {
	th.steps = append(th.steps, e)
	a.steps++
	for _, u := range e.Takes {
		if _, wanted := a.since[u.Key]; wanted {
			th.units++
			a.units++
		}
	}
}

// choose picks the threads that are told, and answers the keys at which there was no room for all. Every key may
// use as much of the room as any other, and what those with few threads leave is for those with many.
func (a *answer) choose() (lacks []Want) {
	if a.steps <= maxSheetSteps && a.units <= maxSheetUnits {
		for _, th := range a.order {
			th.told = true
		}
		return nil
	}
	few := make([]int, len(a.keys))
	for n := range few {
		few[n] = n
	}
	slices.SortStableFunc(few, func(x, y int) int { return cmp.Compare(len(a.at[x]), len(a.at[y])) })
	steps, units := 0, 0
	for i, n := range few {
		left := len(few) - i
		mostSteps, mostUnits := steps+(maxSheetSteps-steps)/left, units+(maxSheetUnits-units)/left
		slices.SortStableFunc(a.at[n], func(x, y tellingAt) int { return cmp.Compare(y.last, x.last) }) // the newest first
		for _, th := range a.at[n] {
			if th.told {
				continue
			}
			if steps+len(th.steps) > mostSteps || units+th.units > mostUnits {
				lacks = append(lacks, Want{a.keys[n], min(th.last, Never-1) + 1})
				break
			}
			th.told = true
			steps, units = steps+len(th.steps), units+th.units
		}
	}
	slices.SortFunc(lacks, func(x, y Want) int { return x.Key.Compare(y.Key) })
	return lacks
}
