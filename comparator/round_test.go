package comparator_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
)

// toil is work that takes its time for each case that is settled, as a large search does.
type toil struct {
	each time.Duration
	mu   sync.Mutex
	all  time.Duration
}

func (w *toil) excuses() comparator.Excuses {
	pass(w.each)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all += w.each
	return nil
}

func (w *toil) spent() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all
}

// However many cases wait and however long each takes, half of the time is left for others.
func TestSettlingLeavesHalfOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &toil{each: 50 * time.Millisecond}
		r := newRig(t, func(c *comparator.Config) { c.Excuses = w.excuses; c.SettleWindow = time.Hour })
		r.look.say(1)
		r.start()
		for i := range 2000 {
			r.decide(fmt.Sprint("h", i), refuseOne, wouldGrant)
		}
		const whole = time.Minute
		pass(whole)
		if got := w.spent(); got > whole*6/10 || got < whole/4 {
			t.Errorf("it worked for %s of %s", got, whole)
		}
		if n := r.Snapshot().Confirmed; n < 100 {
			t.Errorf("only %d were settled", n)
		}
		r.Stop()
	})
}

// A stop waits for the case at hand, not for all that are due; and it leaves the last sheet and saves.
func TestAStopInterruptsARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &toil{each: 200 * time.Millisecond}
		sheets := memfindings.New()
		r := newRig(t, func(c *comparator.Config) { c.Excuses = w.excuses; c.Sheets = sheets; c.SettleWindow = time.Hour })
		r.look.say(1)
		r.start()
		for i := range 1000 {
			r.decide(fmt.Sprint("h", i), refuseOne, wouldGrant)
		}
		pass(5 * time.Second)
		begin := time.Now()
		r.Stop()
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %s to stop", took)
		}
		if got := r.Snapshot(); got.Settling != 0 || got.Confirmed+got.Undetermined != 1000 || r.Stats().Unsaved != 0 {
			t.Errorf("%+v, and %d findings are not saved", got, r.Stats().Unsaved)
		}
		ss, err := sheets.Sheets(ctx, "one", time.Minute, nil)
		if err != nil || len(ss) != 1 || !ss[0].Ended {
			t.Errorf("%v %+v", err, ss)
		}
	})
}

// hung is where sheets are left, and takes none.
type hung struct{ *memfindings.Store }

func (h hung) PutSheet(ctx context.Context, s comparator.Sheet) error {
	if !s.Ended {
		return h.Store.PutSheet(ctx, s)
	}
	<-ctx.Done()
	return ctx.Err()
}

// What was found is saved at the end, though the last sheet cannot be left.
func TestTheLastFlushHasTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *comparator.Config) { c.Sheets = hung{memfindings.New()}; c.FlushEvery = time.Hour })
		r.start()
		r.Record(comparator.Finding{Class: comparator.BypassWrite, Units: []backends.Units{units(2, "mug", "A")}})
		begin := time.Now()
		r.Stop()
		if took := time.Since(begin); took > 10*time.Second || r.Stats().Unsaved != 0 || len(r.findings()[comparator.BypassWrite]) != 1 {
			t.Errorf("it took %s, and %d are not saved", took, r.Stats().Unsaved)
		}
	})
}

// trap is a clock that panics once, when it is read within a function.
type trap struct {
	mu sync.Mutex
	in string
}

func (tr *trap) set(in string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.in = in
}

func (tr *trap) sprung() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.in == ""
}

func (tr *trap) now() time.Time {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.in == "" {
		return time.Now()
	}
	pcs := make([]uintptr, 16)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, tr.in) {
			tr.in = ""
			panic("the clock is broken")
		}
		if !more {
			return time.Now()
		}
	}
}

// Wherever it panics, the comparator goes on, and the decision is counted once.
func TestAPanicAnywhereEndsTheDecisionOnce(t *testing.T) {
	anew := func() *own { return &own{Outcome: soldOut, Short: refuseOne.Short} }
	differs := func(r *rig) { r.decide("h1", refuseOne, wouldGrant) }
	alike := func(r *rig) {
		r.Begin(1)
		o := observed("h1", "mug", 1, refuseOne, ownOf(refuseOne))
		o.TruthLatency, o.ShadowLatency = time.Millisecond, time.Millisecond
		r.Observe(o)
	}
	unknown := func(r *rig) {
		r.Begin(1)
		o := refusal(2, anew)
		o.TruthLatency = time.Millisecond
		r.Observe(o)
	}
	for _, c := range []struct {
		in   string // the function in which it panics
		do   func(*rig)
		look int
		want comparator.Counts
		why  string
	}{
		{".tookTruth", alike, 0, comparator.Counts{Undetermined: 1}, "panic"},
		{".tookShadow", alike, 0, comparator.Counts{Undetermined: 1}, "panic"},
		{".judged", alike, 0, comparator.Counts{Undetermined: 1}, "panic"},
		{".compared", alike, 0, comparator.Counts{Probed: 1}, ""},
		{".diverged", differs, 0, comparator.Counts{Undetermined: 1}, "panic"},
		{".tookTruth", unknown, 0, comparator.Counts{Undetermined: 1}, "panic"},
		{".await", unknown, 0, comparator.Counts{Undetermined: 1}, "panic"},
		{".askedAnew", unknown, 0, comparator.Counts{Undetermined: 1}, "panic"},
		{".compared", unknown, 0, comparator.Counts{Probed: 1}, ""},
		{".inquire", differs, 0, comparator.Counts{Explained: 1}, ""},
		{".concluded", differs, 0, comparator.Counts{Undetermined: 1}, "panic"},
		{".compared", differs, 0, comparator.Counts{Explained: 1}, ""},
		{".compared", differs, 1, comparator.Counts{Confirmed: 1}, ""},
		{".tidy", differs, 0, comparator.Counts{Explained: 1}, ""},
		{".flush", differs, 0, comparator.Counts{Explained: 1}, ""},
	} {
		t.Run(fmt.Sprint(c.in, " ", c.want), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := &trap{}
				r := newRig(t, func(cfg *comparator.Config) { cfg.Now = tr.now })
				r.look.say(c.look)
				r.start()
				tr.set(c.in)
				c.do(r)
				pass(20 * time.Second)
				if !tr.sprung() {
					t.Fatal("it did not panic")
				}
				r.want(c.want)
				s := r.Stats()
				if s.Panics != 1 || c.why != "" && s.Undetermined[c.why] != 1 || s.Settling != 0 {
					t.Errorf("%+v", s)
				}
				r.decide("h2", grantOne, ownOf(grantOne)) // it goes on
				pass(2 * time.Second)
				if n := r.Snapshot().Matched; n != 1 {
					t.Errorf("%+v", r.Snapshot())
				}
				r.Stop()
				if n := len(r.findings()[comparator.OversellRisk]); n != int(c.want.Explained+c.want.Confirmed) && c.want.Undetermined == 0 {
					t.Errorf("%d findings", n)
				}
			})
		})
	}
}

// A shadow that is slow to say that it does not know some stock holds up nobody else's settling, and those who wait for
// it take their turns behind what is due.
func TestAskingAnewHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *comparator.Config) { c.SettleWindow = time.Minute })
		r.start()
		for range 600 {
			o := refusal(1<<20, nil)
			was := o.Again
			o.Again = func(ctx context.Context) comparator.Observation {
				select {
				case <-ctx.Done():
				case <-time.After(8 * time.Second):
				}
				return was(ctx)
			}
			r.Begin(1)
			r.Observe(o)
		}
		pass(100 * time.Millisecond)
		r.decide("h1", refuseOne, wouldGrant)
		pass(15 * time.Second)
		r.want(comparator.Counts{Settling: 600, Explained: 1})
		pass(75 * time.Second)
		r.want(comparator.Counts{Undetermined: 600, Explained: 1})
		if n := r.Stats().Undetermined["unknown_stock"]; n != 600 {
			t.Errorf("by cause: %v", r.Stats().Undetermined)
		}
		r.Stop()
	})
}

// A shadow that is asked several times has decided once, and what that took is counted once.
func TestAShadowAskedAnewHasDecidedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *comparator.Config) { c.SlowShadow = time.Second })
		r.start()
		o := refusal(3, func() *own { return &own{Outcome: soldOut, Short: refuseOne.Short} })
		was := o.Again
		o.Again = func(ctx context.Context) comparator.Observation {
			next := was(ctx)
			next.ShadowLatency = 2 * time.Second
			return next
		}
		r.Begin(1)
		r.Observe(o)
		pass(10 * time.Second)
		r.want(comparator.Counts{Probed: 1})
		r.Stop()
		r.wantCounted(map[string][2]int64{"sold_out": {1, 0}, "latency_shadow": {1, 0}})
		if l := r.Stats().Shadow; l.Count != 1 {
			t.Errorf("%+v", l)
		}
		if fs := r.findings()[comparator.SlowShadow]; len(fs) != 1 || fs[0].Count != 1 {
			t.Errorf("%+v", fs)
		}
	})
}

// Rows without findings are given up before those with some.
func TestRowsWithFindingsAreGivenUpLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *comparator.Config) { c.FlushEvery = 24 * time.Hour })
		r.store.fail(true)
		r.look.say(1)
		r.start()
		r.decide("c1", refuseOne, wouldGrant) // confirmed
		pass(20 * time.Second)
		const slots = 800 // more than are kept
		for i := range slots {
			pass(10 * time.Minute)
			r.Begin(1)
			r.Observe(observed(fmt.Sprint("h", i), "mug", 1, refuseOne, &own{Outcome: soldOut, Short: refuseOne.Short}))
		}
		pass(time.Second)
		r.store.fail(false)
		r.Stop()
		if got := r.counted()["sold_out"]; got[1] != 1 || got[0] >= slots {
			t.Errorf("%v", got)
		}
	})
}

// What is settling may not have been decided by the shadow yet; what ends in a later minute was not decided in that.
func TestWhatIsSettlingIsNoLoadThatWasCarried(t *testing.T) {
	at := noon.Unix() / 60
	row := func(minute int64, c comparator.Counts) comparator.CoverageRow {
		return comparator.CoverageRow{Pod: "one", Minute: minute, Decisions: c.Sum(), Counts: c}
	}
	for _, c := range []struct {
		name string
		rows []comparator.CoverageRow
		want int64
	}{
		{"what waits", []comparator.CoverageRow{row(at, comparator.Counts{Matched: 10, Settling: 90})}, 10},
		{"what ended without an answer", []comparator.CoverageRow{row(at, comparator.Counts{Matched: 10, Settling: 90}), row(at+1, comparator.Counts{Settling: -90, Undetermined: 90})}, 10},
		{"what was explained later", []comparator.CoverageRow{row(at, comparator.Counts{Matched: 10, Settling: 90}), row(at+1, comparator.Counts{Matched: 30, Settling: -90, Explained: 90})}, 30},
		{"what was explained within its minute", []comparator.CoverageRow{row(at, comparator.Counts{Matched: 10, Explained: 90})}, 100},
	} {
		if got := comparator.MakeTrend(c.rows, nil, noon, noon.Add(time.Hour)); got.Carried != c.want {
			t.Errorf("%s: %d, want %d", c.name, got.Carried, c.want)
		}
	}
}
