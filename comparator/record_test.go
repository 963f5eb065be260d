package comparator_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
)

// A proxy that stops in good order tells all that it has followed: those who ask later find it.
func TestWhatAProxyThatLeftHadFollowedExplains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, _ := together(t, nil)
		two.overlap(5, 200)
		two.Stop()
		one.decide("h1", refuseOne, wouldGrant)
		pass(16 * time.Second)
		one.want(comparator.Counts{Explained: 1})
		one.Stop()
	})
}

// A proxy that has only just started, and of which nobody had heard, is heard before anything is confirmed.
func TestAProxyThatHasOnlyJustStartedIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, store := together(t, nil)
		two.Stop()
		one.decide("h1", refuseOne, wouldGrant)
		pass(4 * time.Second) // all whom it knows have told
		one.want(comparator.Counts{Settling: 1})
		three := newRig(t, func(c *comparator.Config) { c.Proxy, c.Store, c.Sheets = "p3", store, store })
		three.overlap(5, 200) // before it could tell of itself
		if err := three.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		pass(20 * time.Second)
		one.want(comparator.Counts{Explained: 1})
		one.Stop()
		three.Stop()
	})
}

// However long the settle window is, a proxy that was killed is not forgotten while a decision is open that it
// may have followed something for.
func TestAKilledProxyIsNotForgottenWithinALongWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := &mute{Store: memfindings.New()}
		one, two, _ := together(t, func(c *comparator.Config) { c.Store, c.Sheets, c.SettleWindow = hang, hang, 20*time.Minute })
		hang.silence("p2")
		one.decide("h1", refuseOne, wouldGrant)
		pass(19 * time.Minute)
		one.want(comparator.Counts{Settling: 1})
		pass(2 * time.Minute)
		one.want(comparator.Counts{Undetermined: 1})
		one.Stop()
		two.Stop()
	})
}

// unproven decides once and wants it undetermined, for want of a record.
func unproven(t *testing.T, prepare func(*rig), change func(*comparator.Observation)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.start()
		if prepare != nil {
			prepare(r)
		}
		r.Begin(1)
		o := observed("h1", "mug", 1, refuseOne, wouldGrant)
		o.TruthSpan, o.ShadowSpan, o.RecordSince, o.Decided = comparator.Span{From: 100, To: 100}, comparator.Span{From: 140, To: 160}, 90, time.Now()
		o.Truth.Seen, o.Shadow = []backends.Units{units(0, "mug", "A")}, &own{Outcome: granted, Allocs: wouldGrant.Allocs, Seen: []backends.Units{units(1, "mug", "A")}}
		if change != nil {
			change(&o)
		}
		r.Observe(o)
		pass(16 * time.Second)
		r.want(comparator.Counts{Undetermined: 1})
		r.Stop()
	})
}

// While a backfill goes on the shadow lacks states of which nobody has told it.
func TestADecisionDuringABackfillIsUnproven(t *testing.T) {
	unproven(t, func(r *rig) {
		h := &backends.Hold{ID: "old", Shop: "s", Lines: []backends.Line{line(1, "mug", "A")}, Allocs: []backends.Allocation{alloc(0, "A", 1)},
			State: backends.Held, Version: backends.Version{Epoch: 1, N: 1}}
		r.Followed(comparator.Followed{Epoch: 1, Stage: backends.Shadow, Shadow: comparator.Span{From: 300, To: 310},
			Items: []comparator.FollowedItem{{Entry: backends.Entry{Op: backends.OpReemit, At: 290, Hold: h}, Truth: comparator.Span{From: 290, To: 291}, Confirmed: true, Changed: true}}})
	}, nil)
}

func TestADecisionOlderThanTheRecordIsUnproven(t *testing.T) {
	unproven(t, nil, func(o *comparator.Observation) { o.Decided = time.Now().Add(-time.Minute) })
	unproven(t, nil, func(o *comparator.Observation) { o.Decided = time.Time{} })
}

// After a change of truth the outbox that is looked at is the other store's.
func TestADecisionFromBeforeAChangeOfTruthIsUnproven(t *testing.T) {
	unproven(t, func(r *rig) { r.look.stage = backends.Live }, nil)
}

// What was decided before the shadow was complete is not proven, though it has been filled since.
func TestADecisionFromBeforeTheShadowWasCompleteIsUnproven(t *testing.T) {
	unproven(t, func(r *rig) { r.look.since = time.Now().Add(time.Millisecond) }, nil)
}

// refusal is one of the truth about stock that the shadow does not know, until it has been asked so often.
func refusal(asks int, then func() *own) comparator.Observation {
	o := observed("h1", "mug", 1, refuseOne, nil)
	o.Truth.Seen, o.Missing, o.How = []backends.Units{units(0, "mug", "A")}, comparator.ReasonUnknownStock, comparator.HowProbe
	o.Again = func(context.Context) comparator.Observation {
		next := o
		if asks--; asks < 0 {
			next.Shadow, next.Missing = then(), comparator.ReasonNone
			next.TruthSpan, next.ShadowSpan, next.RecordSince, next.Decided = comparator.Span{From: 100, To: 100}, comparator.Span{From: 140, To: 160}, 90, time.Now()
		}
		return next
	}
	return o
}

// A refusal about stock that the shadow does not know yet waits, and the shadow is asked anew.
func TestStockThatTheShadowDoesNotKnowYetIsAskedAnew(t *testing.T) {
	soon := func(o *own) func() *own { return func() *own { return o } }
	none := &own{Outcome: soldOut, Short: refuseOne.Short, Seen: []backends.Units{units(0, "mug", "A")}}
	one := &own{Outcome: granted, Allocs: wouldGrant.Allocs, Seen: []backends.Units{units(1, "mug", "A")}}
	for _, c := range []struct {
		name  string
		asks  int
		then  func() *own
		pass  time.Duration
		want  comparator.Counts
		cause string
		in    int64 // how often it counts in its stratum, once the proxy has stopped
	}{
		{"it waits", 3, soon(none), 200 * time.Millisecond, comparator.Counts{Settling: 1}, "", 0},
		{"it is sold out there as well", 3, soon(none), 5 * time.Second, comparator.Counts{Probed: 1}, "", 1},
		{"it differs, and an order explains it", 3, soon(one), 9 * time.Second, comparator.Counts{Explained: 1}, "", 1},
		{"it is never known", 1 << 20, nil, 16 * time.Second, comparator.Counts{Undetermined: 1}, "unknown_stock", 0},
		{"asking panics", 3, func() *own { panic("the probe is broken") }, 16 * time.Second, comparator.Counts{Undetermined: 1}, "unknown_stock", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				r.start()
				r.Begin(1)
				r.Observe(refusal(c.asks, c.then))
				pass(c.pass)
				r.want(c.want)
				if n := r.Stats().Undetermined[c.cause]; c.cause != "" && n != 1 {
					t.Errorf("by cause: %v", r.Stats().Undetermined)
				}
				r.Stop()
				if n := r.counted()["sold_out"]; n != [2]int64{c.in, 0} {
					t.Errorf("in its stratum: %v", n)
				}
			})
		})
	}
	t.Run("the proxy stops", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, nil)
			r.start()
			r.Begin(1)
			r.Observe(refusal(1<<20, nil))
			pass(time.Second)
			r.Stop()
			r.want(comparator.Counts{Undetermined: 1})
			r.wantCounted(nil)
		})
	})
	t.Run("there are more than the queue holds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, func(c *comparator.Config) { c.MaxSettling = 40 })
			r.start()
			for range 50 {
				r.Begin(1)
				r.Observe(refusal(3, soon(none)))
			}
			pass(5 * time.Second)
			r.want(comparator.Counts{Probed: 40, Undetermined: 10})
			r.Stop()
		})
	})
}

// A record that was left for another role of the stores does not come back with it.
func TestARecordDoesNotOutliveAChangeOfTruth(t *testing.T) {
	unproven(t, func(r *rig) {
		in := func(stage backends.Stage, from, to backends.Instant) {
			r.Followed(comparator.Followed{Epoch: 2, Stage: stage, Shadow: comparator.Span{From: from, To: to}})
		}
		in(backends.Shadow, 80, 95)
		in(backends.Live, 5, 5)
		in(backends.Shadow, 85, 85) // began before what was lost had ended
	}, nil)
}
