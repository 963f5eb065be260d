package mysqlstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// TestSharedTags: a batch works in the name of all of its callers, each for his part.
func TestSharedTags(t *testing.T) {
	of := func(callers ...string) job {
		ts := make([]*taking, len(callers))
		for i, c := range callers {
			ts[i] = &taking{j: job{op: "reserve", caller: c}}
		}
		return jointJob(ts, func(t *taking) job { return t.j })
	}
	for _, c := range []struct {
		callers []string
		comment string
		shares  map[string]int
	}{
		{[]string{"web"}, "web", map[string]int{"web": 1}},
		{[]string{"web", "app", "web"}, "web+app", map[string]int{"web": 2, "app": 1}},
		{[]string{"web", ""}, "web+reserve", map[string]int{"web": 1, "reserve": 1}},
		{[]string{"*/ DROP", "web"}, "reserve+web", map[string]int{"reserve": 1, "web": 1}},
		{[]string{"a", "b", "c", "d", "e", "f"}, "a+b+c+d+2-more", map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}},
	} {
		tags := tagsOf(of(c.callers...))
		got := map[string]int{}
		for _, s := range tags {
			got[s.tag] = s.members
			if n := max(1, len(c.callers)); s.of != n {
				t.Errorf("%v: the part of %s is of %d, want %d", c.callers, s.tag, s.of, n)
			}
		}
		if joined(tags) != c.comment || fmt.Sprint(got) != fmt.Sprint(c.shares) {
			t.Errorf("%v: commented %q with parts %v, want %q with %v", c.callers, joined(tags), got, c.comment, c.shares)
		}
	}
}

// TestDeal: each free row goes to one member, and a member who cannot have all of his gets none.
func TestDeal(t *testing.T) {
	k, l := backends.Key{Item: "a"}, backends.Key{Item: "b"}
	free := map[backends.Key][]uint64{k: {1, 2, 3, 4}, l: {7, 8}}
	gone := map[backends.Key][]uint64{}
	for i, c := range []struct {
		wants []want
		dealt bool
		left  string
	}{
		{[]want{{Key: k, Quantity: 2}, {Key: l, Quantity: 1}}, true, "[3 4] [8]"},
		{[]want{{Key: k, Quantity: 1}, {Key: l, Quantity: 2}}, false, "[3 4] [8]"},
		{[]want{{Key: k, Quantity: 1}}, true, "[4] [8]"},
		{[]want{{Key: k, Quantity: 1}, {Key: l, Quantity: 1}}, true, "[] []"},
		{[]want{{Key: l, Quantity: 1}}, false, "[] []"},
	} {
		if dealt, left := deal(c.wants, free, gone), fmt.Sprint(free[k], free[l]); dealt != c.dealt || left != c.left {
			t.Errorf("member %d: dealt %t, left %s; want %t, %s", i, dealt, left, c.dealt, c.left)
		}
	}
	if got := fmt.Sprint(gone[k], gone[l]); got != "[1 2 3 4] [7 8]" {
		t.Errorf("gone are %s: each row once, in order", got)
	}
}

// TestFillerEnds: no refill begins in a store that is closed.
func TestFillerEnds(t *testing.T) {
	s := &Store{cfg: Config{PoolCap: 10, Now: time.Now}}
	s.fill = newFiller(s)
	s.fill.close()
	s.fill.took(backends.Token{}, backends.Key{Item: "a"}, 10)
	if s.fill.busy || len(s.fill.queue) != 0 {
		t.Error("a closed filler takes work")
	}
}

// TestAheadOfNeed: a pool is refilled when it has less than lasts for a while, never above half of its
// cap, and is left alone while there is nothing to fill it with.
func TestAheadOfNeed(t *testing.T) {
	now := time.Unix(1000, 0)
	s := &Store{cfg: Config{PoolCap: 100, Now: func() time.Time { return now }}}
	f := newFiller(s)
	defer f.close()
	f.busy = true // what is queued stays for the test to see
	k := backends.Key{Item: "a"}
	queued := func() bool {
		had := len(f.queue) > 0
		f.queue = nil
		if w := f.pools[k]; w != nil {
			w.queued = false
		}
		return had
	}
	took := func(n int64) bool {
		f.took(backends.Token{}, k, n)
		return queued()
	}
	if !took(1) {
		t.Error("a pool of which nothing is known is not looked at")
	}
	f.counted(k, 100, 50)
	low := s.cfg.lowWaterFor(k)
	if took(100 - low) {
		t.Errorf("refilled at %d of 100, slowly emptied", low)
	}
	if !took(1) {
		t.Error("not refilled below the low-water mark")
	}
	f.counted(k, 60, 50)
	now = now.Add(rateWindow)
	if !took(20) || f.markFor(k) != 50 {
		t.Errorf("emptied at %d a lead, the mark is %d of 100; want half of the cap", f.pools[k].perLead, f.markFor(k))
	}
	f.counted(k, 1, 0)
	if took(1) {
		t.Error("refilled although there is nothing to fill it with")
	}
	f.stocked(k)
	if !took(1) {
		t.Error("not refilled when stock had come")
	}
}
