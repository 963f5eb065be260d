package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

// group is entries that travel in one Apply; those that fail are sent again later.
type group []backends.Entry

// togetherApply lets a truth decide at random, and delivers its entries in random groups that arrive at
// once, through two proxies, many of them twice and none in order. What fails for an earlier entry's or
// a neighbour's sake is sent again. In the end the mirror is where the truth is.
func togetherApply(t *testing.T, e *env) {
	fewerChecks(t, e)
	truth, clock := e.reference(t, e.side.Other())
	first := e.open(t, e.following(), Options{PoolCap: togetherPool})
	second := first.second()
	truth.raise(backends.Fence{Epoch: firstEpoch, Stage: e.following(), Open: true, Filled: true})
	worlds := 0
	rapid.Check(t, func(rt *rapid.T) {
		worlds++
		// The suite's properties number their worlds from 1 as well, in stores of their own.
		m := &trio{w: newWorld(worlds), truth: truth.within(rt, t), got: first.within(rt, t)}
		for range rapid.IntRange(minSteps, maxSteps).Draw(rt, "steps") {
			if rapid.IntRange(0, 9).Draw(rt, "step") == 9 {
				*clock = clock.Add(2 * brief)
				m.truth.expire()
				continue
			}
			m.w.draw(rt).run(m.truth)
		}
		entries := slices.DeleteFunc(m.truth.drain(), func(e backends.Entry) bool { return !m.w.about(&e) })
		left, err := deliverAtOnce([]*rig{m.got, second.within(rt, t)}, drawGroups(rt, entries))
		if err != nil {
			rt.Fatal(err)
		}
		m.unsent = left
		for rounds := 0; len(m.unsent) > 0; rounds++ {
			if rounds > len(entries) {
				rt.Fatalf("%d entries are refused for ever: %+v", len(m.unsent), m.unsent)
			}
			if m.unsent, err = m.got.applyGroup(m.unsent); err != nil {
				rt.Fatal(err)
			}
		}
		m.agree()
		m.got.conserved()
	})
}

// drawGroups deals entries in any order, and some of them once more.
func drawGroups(rt *rapid.T, entries []backends.Entry) (groups []group) {
	if len(entries) == 0 {
		return nil
	}
	order := rapid.Permutation(entries).Draw(rt, "order")
	order = append(order, rapid.Permutation(entries).Draw(rt, "once more")[:rapid.IntRange(0, len(entries)).Draw(rt, "twice")]...)
	for len(order) > 0 {
		n := rapid.IntRange(1, len(order)).Draw(rt, "group")
		groups = append(groups, order[:n])
		order = order[n:]
	}
	return groups
}

// deliverAtOnce sends all groups at once, and answers the entries that failed.
func deliverAtOnce(handles []*rig, groups []group) (left []backends.Entry, err error) {
	errs := make([]error, len(groups))
	failed := make([]group, len(groups))
	var wg sync.WaitGroup
	for i, g := range groups {
		wg.Go(func() { failed[i], errs[i] = handles[i%len(handles)].applyGroup(g) })
	}
	wg.Wait()
	for _, g := range failed {
		left = append(left, g...)
	}
	return left, errors.Join(errs...)
}

// applyGroup sends entries, again while it is not known what became of them, and answers those that have
// to come again: what they wait for was not there yet, or a lock was not had.
func (r *rig) applyGroup(g group) (failed group, err error) {
	out, err := again(func() ([]backends.Applied, error) {
		now, err := r.s.Now(r.ctx)
		if err != nil {
			return nil, err
		}
		return r.s.Apply(r.ctx, r.tok, now, g)
	})
	if err != nil {
		return nil, err
	}
	for i, a := range out {
		switch {
		case a.Seq != g[i].Seq:
			return nil, errors.New("the answers are not in the order of the entries")
		case errors.Is(a.Err, backends.ErrOutOfOrder), errors.Is(a.Err, backends.ErrBusy):
			failed = append(failed, g[i])
		case a.Err != nil:
			return nil, a.Err
		}
	}
	return failed, nil
}
