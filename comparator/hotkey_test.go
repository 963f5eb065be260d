package comparator_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
)

// restless is a rechecker of keys at which entries always wait, none of them an old one.
type restless struct{ scripted }

func (r *restless) Recheck(ctx context.Context, keys []backends.Key, holds []backends.HoldID) (comparator.Evidence, error) {
	ev, err := r.scripted.Recheck(ctx, keys, holds)
	for k, e := range ev.Keys {
		e.PendingBefore, e.PendingAfter, e.Oldest = 1, 1, comparator.Never-1
		ev.Keys[k] = e
	}
	return ev, err
}

// wall is a store of findings that notes the sheets, and may refuse to take or to give any of one proxy.
type wall struct {
	*memfindings.Store
	mu      sync.Mutex
	who     string // of whom it refuses
	most    int    // sheets of more steps than that; less than 0: none
	unread  bool   // to read for it
	largest int
	refused int
	pruned  []time.Duration
}

func (w *wall) set(change func(*wall)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func (w *wall) PutSheet(ctx context.Context, s comparator.Sheet) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !s.Ended {
		w.largest = max(w.largest, len(s.Steps))
	}
	if s.Proxy == w.who && w.most >= 0 && len(s.Steps) > w.most {
		w.refused++
		return errAway
	}
	return w.Store.PutSheet(ctx, s)
}

// of is the store as one proxy reaches it.
func (w *wall) of(proxy string) comparator.Sheets { return &door{wall: w, proxy: proxy} }

type door struct {
	*wall
	proxy string
}

func (d *door) Sheets(ctx context.Context, pod backends.Pod, age time.Duration, known map[string]uint64) ([]comparator.Sheet, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unread && d.proxy == d.who {
		return nil, errAway
	}
	return d.Store.Sheets(ctx, pod, age, known)
}

func (d *door) PruneSheets(ctx context.Context, pod backends.Pod, age time.Duration, limit int) (int, error) {
	d.set(func(w *wall) { w.pruned = append(w.pruned, age) })
	return d.Store.PruneSheets(ctx, pod, age, limit)
}

// apart is two proxies that share a wall, and know of each other.
func apart(t *testing.T, change func(*comparator.Config)) (one, two *rig, w *wall) {
	w = &wall{Store: memfindings.New(), most: -1}
	var rigs []*rig
	for _, proxy := range []string{"p1", "p2"} {
		r := newRig(t, func(c *comparator.Config) {
			c.Proxy, c.Store, c.Sheets, c.SettleWindow = proxy, w.Store, w.of(proxy), 30*time.Second
			if change != nil {
				change(c)
			}
		})
		if err := r.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		rigs = append(rigs, r)
	}
	pass(8 * time.Second)
	return rigs[0], rigs[1], w
}

// sell records n reserves of one mug that the truth decided at an instant, and that the shadow followed at another;
// with back, their releases at the same instants as well.
func (r *rig) sell(name string, n int, back bool, decided, followed backends.Instant) {
	f := comparator.Followed{Epoch: 1, Stage: backends.Shadow, Shadow: comparator.Span{From: followed, To: followed}}
	for i := range n {
		h := backends.Hold{ID: backends.HoldID(fmt.Sprint(name, " ", i)), Shop: "s", Lines: []backends.Line{line(1, "mug", "A")},
			Allocs: []backends.Allocation{alloc(0, "A", 1)}, State: backends.Held, Version: backends.Version{Epoch: 1, N: 1}}
		it := comparator.FollowedItem{Entry: backends.Entry{Op: backends.OpReserve, Hold: &h}, Truth: comparator.Span{From: decided, To: decided}, Confirmed: true, Changed: true}
		f.Items = append(f.Items, it)
		if back {
			given := h
			given.State, given.Version.N = backends.Released, 2
			it.Entry = backends.Entry{Op: backends.OpRelease, Hold: &given}
			f.Items = append(f.Items, it)
		}
	}
	r.Followed(f)
}

// differ observes a refusal of the truth at an instant, which the shadow granted 30 ms later.
func (r *rig) differ(hold string, when backends.Instant) {
	r.Begin(1)
	o := observed(hold, "mug", 1, refuseOne, wouldGrant)
	o.TruthSpan, o.ShadowSpan, o.RecordSince, o.Decided = comparator.Span{From: when, To: when}, comparator.Span{From: when + 30, To: when + 30}, when-10, time.Now()
	o.Truth.Seen, o.Shadow = []backends.Units{units(0, "mug", "A")}, &own{Outcome: granted, Allocs: wouldGrant.Allocs, Seen: []backends.Units{units(1, "mug", "A")}}
	r.Observe(o)
}

// At an item that never rests the decisions that differ overlap, so that some proxy asks about it at any time. What
// the others tell of it stays a few seconds long all the same, and each decision is proven.
func TestAHotItemIsAskedAboutForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		look := &restless{}
		one, two, w := apart(t, func(c *comparator.Config) { c.Rechecker = look })
		const seconds = 60
		start := time.Now()
		for tick := range seconds * 50 {
			now := backends.Instant(10_000 + time.Since(start).Milliseconds())
			for i, r := range []*rig{one, two} {
				r.sell(fmt.Sprint(i, " ", tick), 5, true, now, now) // 500 operations a second
			}
			if tick%25 == 10 {
				// Decided before the refusal, and followed after the grant: only the other proxy knows.
				two.sell(fmt.Sprint("that explains ", tick), 1, false, now-5, now+35)
				one.differ(fmt.Sprint("d", tick), now+1)
			}
			if tick == 500 { // until the first question is read, sheets are read every five seconds only
				w.set(func(w *wall) { w.largest = 0 })
			}
			pass(20 * time.Millisecond)
		}
		pass(15 * time.Second)
		one.want(comparator.Counts{Explained: 2 * seconds})
		one.Stop()
		two.Stop()
		if w.largest > 1500 { // three seconds of one proxy
			t.Errorf("a sheet had %d operations", w.largest)
		}
	})
}

// A proxy whose sheets are refused for their size tells at least that it is there: nobody does without what it knows.
func TestAProxyWhoseSheetIsTooLargeIsNotTakenForGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, w := apart(t, nil)
		w.set(func(w *wall) { w.who, w.most = "p2", 3 })
		ask := func(hold string, from backends.Instant, n int) {
			two.sell(hold, n, false, from+5, from+200)
			one.differ(hold, from)
		}
		for i := range 8 { // for longer than it takes to count as gone
			ask(fmt.Sprint("h", i), backends.Instant(1000+10_000*i), 10)
			pass(10 * time.Second)
		}
		pass(40 * time.Second)
		if n := one.Stats().Undetermined["record_incomplete"]; n != 8 {
			t.Errorf("undetermined: %v of %+v", one.Stats().Undetermined, one.Snapshot().Counts)
		}
		if w.set(func(w *wall) { w.most = -1 }); w.refused == 0 {
			t.Error("no sheet was refused")
		}
		pass(10 * time.Second)
		ask("whole again", 200_000, 10)
		pass(16 * time.Second)
		one.want(comparator.Counts{Undetermined: 8, Confirmed: 1})
		one.Stop()
		two.Stop()
	})
}

// A proxy that cannot read the others' sheets writes its own, so that it is waited for.
func TestAProxyThatCannotReadSheetsIsNotTakenForGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, w := apart(t, nil)
		w.set(func(w *wall) { w.who, w.unread = "p2", true })
		pass(2 * time.Minute)
		two.sell("that explains", 1, false, 995, 1040)
		one.differ("h1", 1000)
		pass(12 * time.Second)
		one.want(comparator.Counts{Settling: 1})
		w.set(func(w *wall) { w.unread = false })
		pass(12 * time.Second)
		one.want(comparator.Counts{Explained: 1})
		one.Stop()
		two.Stop()
	})
}

// Sheets of runs that are long gone are removed, about once a minute, and none that anybody still reads.
func TestOldSheetsAreRemoved(t *testing.T) {
	for window, age := range map[time.Duration]time.Duration{30 * time.Second: time.Hour, 2 * time.Hour: 2 * (2*time.Hour + 2*time.Minute + 45*time.Second)} {
		synctest.Test(t, func(t *testing.T) {
			one, two, w := apart(t, func(c *comparator.Config) { c.SettleWindow = window })
			if err := w.Store.PutSheet(context.Background(), comparator.Sheet{Pod: "one", Proxy: "p0", Run: "long ago", N: 1}); err != nil {
				t.Fatal(err)
			}
			left := func(want int) {
				t.Helper()
				if s, err := w.Store.Sheets(context.Background(), "one", 24*time.Hour, nil); err != nil || len(s) != want {
					t.Errorf("%v: %d sheets, want %d", err, len(s), want)
				}
			}
			pass(age - time.Minute)
			left(3)
			pass(3 * time.Minute)
			left(2)
			one.Stop()
			two.Stop()
			if n, most := len(w.pruned), 2*int(age.Minutes()+4); n < most-8 || n > most || w.pruned[0] != age {
				t.Errorf("pruned %d times, of at most %d, what is older than %s", n, most, w.pruned[0])
			}
		})
	}
}
