package comparator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
)

// rig is a comparator over a store in memory and a scripted rechecker, in virtual time.
type rig struct {
	*comparator.Comparator
	t     *testing.T
	store *flaky
	look  *scripted
}

func newRig(t *testing.T, change func(*comparator.Config)) *rig {
	t.Helper()
	r := &rig{t: t, store: &flaky{Store: memfindings.New()}, look: &scripted{}}
	cfg := comparator.Config{Pod: "one", Proxy: "p1", Store: r.store, Rechecker: r.look, SettleWindow: 10 * time.Second}
	if change != nil {
		change(&cfg)
	}
	c, err := comparator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Comparator = c
	return r
}

func (r *rig) start() {
	r.t.Helper()
	if err := r.Start(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	r.overlap(5, 200)
}

// overlap records a reserve and a release of one mug that the truth may have decided before or after
// whatever is decided at 100, and that the shadow followed at the instants given.
func (r *rig) overlap(decided, followed backends.Instant) {
	f := comparator.Followed{Epoch: 1, Stage: backends.Shadow, Shadow: comparator.Span{From: followed, To: followed}}
	for op, state := range map[backends.Op]backends.State{backends.OpReserve: backends.Held, backends.OpRelease: backends.Released} {
		h := &backends.Hold{ID: backends.HoldID("other " + op.String()), Shop: "s", Lines: []backends.Line{line(1, "mug", "A")},
			Allocs: []backends.Allocation{alloc(0, "A", 1)}, State: state, Version: backends.Version{Epoch: 1, N: uint64(op)}}
		f.Items = append(f.Items, comparator.FollowedItem{Entry: backends.Entry{Seq: op.String(), Op: op, Hold: h},
			Truth: comparator.Span{From: decided, To: 1000}, Confirmed: true, Changed: true})
	}
	r.Followed(f)
}

// decide begins and observes one decision, made by the truth at 100 and by the shadow about 150.
func (r *rig) decide(hold string, t answer, s *own) {
	r.Begin(1)
	o := observed(hold, "mug", 1, t, s)
	o.TruthSpan, o.ShadowSpan, o.RecordSince, o.Decided = comparator.Span{From: 100, To: 100}, comparator.Span{From: 140, To: 160}, 90, time.Now()
	if t.Seen == nil && s != nil && s.Seen == nil && t.Outcome != s.Outcome {
		stock := map[backends.Outcome][]backends.Units{granted: {units(1, "mug", "A")}, soldOut: {units(0, "mug", "A")}}
		shadow := *s
		o.Truth.Seen, shadow.Seen = stock[t.Outcome], stock[s.Outcome]
		o.Shadow = &shadow
	}
	r.Observe(o)
}

func (r *rig) want(want comparator.Counts) {
	r.t.Helper()
	got := r.Snapshot()
	if got.Counts != want {
		r.t.Errorf("columns %+v\nwant    %+v", got.Counts, want)
	}
	if err := r.Check(); err != nil {
		r.t.Error(err)
	}
}

// findings are those in the store, by class.
func (r *rig) findings() map[comparator.Class][]comparator.Finding {
	r.t.Helper()
	fs, err := r.store.ListFindings(context.Background(), comparator.FindingQuery{Pod: "one"})
	if err != nil {
		r.t.Fatal(err)
	}
	m := map[comparator.Class][]comparator.Finding{}
	for _, f := range fs {
		m[f.Class] = append(m[f.Class], f)
	}
	return m
}

// wouldGrant is the headline case: the truth refused, the shadow would have granted.
var wouldGrant = &own{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 1)}}

func TestOversellRiskIsConfirmedWithItsDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.look.say(1)
		r.start()
		r.decide("h1", refuseOne, wouldGrant)
		pass(10 * time.Millisecond)
		r.want(comparator.Counts{Settling: 1})
		pass(5 * time.Second)
		r.want(comparator.Counts{Confirmed: 1})
		r.Stop()
		fs := r.findings()
		if len(fs[comparator.OversellRisk]) != 1 || len(fs[comparator.LevelDrift]) != 1 {
			t.Fatalf("findings: %+v", fs)
		}
		f := fs[comparator.OversellRisk][0]
		if f.Life != comparator.LifeOpen || f.TotalUnits != 1 || f.Hold != "h1" || f.Caller != "web" || f.Epoch != 1 ||
			!strings.Contains(f.Diff, "outcome: sold out → granted") || !strings.Contains(f.Proof, "sellable -1") || f.Source != "mirror" {
			t.Errorf("%+v", f)
		}
		if d := fs[comparator.LevelDrift][0]; d.TotalUnits != 1 || d.Units[0].Key != key("mug", "A") {
			t.Errorf("%+v", d)
		}
	})
}

func TestConcurrencyIsExplainedAndKeptWithProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.look.say(2) // in motion
		r.start()
		r.decide("h1", refuseOne, wouldGrant)
		pass(3 * time.Second)
		r.want(comparator.Counts{Settling: 1})
		r.look.say(0)
		pass(6 * time.Second)
		r.want(comparator.Counts{Explained: 1})
		r.Stop()
		fs := r.findings()[comparator.OversellRisk]
		if len(fs) != 1 || fs[0].Life != comparator.LifeExplained || !strings.Contains(fs[0].Proof, "a legal order of the operations gives both outcomes") || len(fs[0].Order) != 1 {
			t.Errorf("%+v", fs)
		}
	})
}

func TestWhatNeverComesToRestIsUndetermined(t *testing.T) {
	for name, what := range map[string]int{"in motion": 2, "the rechecker fails": 3, "the rechecker panics": 4} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				r.look.say(what)
				r.start()
				r.decide("h1", grantOne, ownOf(refuseOne))
				pass(16 * time.Second)
				r.want(comparator.Counts{Undetermined: 1})
				if n := r.Stats().Undetermined["window"]; n != 1 {
					t.Errorf("by cause: %v", r.Stats().Undetermined)
				}
				r.Stop()
				if fs := r.findings()[comparator.FalseSoldOut]; len(fs) != 1 || fs[0].Life != comparator.LifeUndetermined {
					t.Errorf("%+v", fs)
				}
			})
		})
	}
}

func TestTheSameStockSeenIsConfirmedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.start()
		truth, shadow := refuseOne, *wouldGrant
		truth.Seen = []backends.Units{units(0, "mug", "A")}
		shadow.Seen = truth.Seen
		r.decide("h1", truth, &shadow)
		synctest.Wait()
		r.want(comparator.Counts{Confirmed: 1})
		if r.look.count() != 0 {
			t.Error("it looked at the stores")
		}
		r.Stop()
	})
}

func TestColumnsOfDecisionsThatAgreeOrCannotBeCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.start()
		r.decide("h1", grantOne, ownOf(grantOne))
		r.decide("h2", refuseOne, ownOf(refuseOne))
		for i, why := range []comparator.Reason{comparator.ReasonPending, comparator.ReasonSampledOut, comparator.ReasonProbeFailed,
			comparator.ReasonOvertaken, comparator.ReasonLost, comparator.ReasonUndetermined, comparator.ReasonNone} {
			r.Begin(1)
			o := observed(fmt.Sprint("m", i), "mug", 1, refuseOne, nil)
			o.Missing = why
			r.Observe(o)
		}
		claim := observed("h1", "mug", 1, grantOne, nil)
		claim.Op = backends.OpClaim
		r.Observe(claim)
		synctest.Wait()
		r.want(comparator.Counts{Matched: 1, Probed: 1, Pending: 1, SampledOut: 1, Lost: 1, Undetermined: 4})
		r.Stop()
	})
}

// Nobody reads the queue, and Observe still returns: what does not fit is counted.
func TestObserveNeverBlocks(t *testing.T) {
	r := newRig(t, func(c *comparator.Config) { c.Queue = 3 })
	for i := range 10 {
		r.decide(fmt.Sprint("h", i), grantOne, ownOf(grantOne))
	}
	r.want(comparator.Counts{Pending: 3, Undetermined: 7})
	if n := r.Stats().Undetermined["queue_full"]; n != 7 {
		t.Errorf("by cause: %v", r.Stats().Undetermined)
	}
	r.Stop() // never started
}

// A judge that hangs until the end holds up nobody.
func TestObserveDoesNotWaitForAHangingJudge(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{}, 100)
	r := newRig(t, func(c *comparator.Config) {
		c.Queue = 1
		c.Judge = func(o comparator.Observation) comparator.Judgement {
			entered <- struct{}{}
			<-release
			return comparator.Judge(o)
		}
	})
	r.start()
	r.decide("h0", grantOne, ownOf(grantOne))
	<-entered
	for i := range 50 {
		r.decide(fmt.Sprint("x", i), grantOne, ownOf(grantOne))
	}
	r.want(comparator.Counts{Pending: 2, Undetermined: 49})
	close(release)
	r.Stop()
	r.want(comparator.Counts{Matched: 2, Undetermined: 49})
}

func TestAPanickingJudgeIsUndeterminedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *comparator.Config) {
			c.Judge = func(o comparator.Observation) comparator.Judgement {
				if o.Hold == "bad" {
					panic("cannot judge this")
				}
				return comparator.Judge(o)
			}
		})
		r.start()
		r.decide("bad", grantOne, ownOf(grantOne))
		r.decide("good", grantOne, ownOf(grantOne))
		synctest.Wait()
		r.want(comparator.Counts{Matched: 1, Undetermined: 1})
		s := r.Stats()
		if s.Panics != 1 || s.Undetermined["panic"] != 1 || !strings.Contains(s.LastPanic, "cannot judge this") {
			t.Errorf("%+v", s)
		}
		r.Stop()
	})
}

// However many decisions wait, the stores are looked at only so often, and all get their turn.
func TestLooksAreSpacedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.start()
		for i := range 2000 {
			r.decide(fmt.Sprint("h", i), refuseOne, wouldGrant)
		}
		pass(5 * time.Second)
		r.want(comparator.Counts{Explained: 2000})
		if n := r.look.count(); n < 2000/256 || n > 12 {
			t.Errorf("%d looks", n)
		}
		begin := r.look.count()
		r.look.say(2)
		for i := range 2000 {
			r.decide(fmt.Sprint("m", i), refuseOne, wouldGrant)
		}
		pass(2 * time.Second)
		if n := r.look.count() - begin; n > 2000/50+1 {
			t.Errorf("%d looks in two seconds", n)
		}
		r.Stop()
	})
}

func TestAFullSettleQueueIsUndeterminedAndNeverSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *comparator.Config) { c.MaxSettling = 2 })
		r.look.say(2)
		r.start()
		for i := range 5 {
			r.decide(fmt.Sprint("h", i), refuseOne, wouldGrant)
		}
		pass(time.Second)
		r.want(comparator.Counts{Settling: 2, Undetermined: 3})
		if n := r.Stats().Undetermined["settle_queue_full"]; n != 3 {
			t.Errorf("by cause: %v", r.Stats().Undetermined)
		}
		r.Stop()
		r.want(comparator.Counts{Undetermined: 5})
	})
}

func TestStopSafeNeverStartedTwiceAndConcurrently(t *testing.T) {
	r := newRig(t, nil)
	r.Stop()
	r.start()
	if err := r.Start(context.Background()); err == nil {
		t.Error("started twice")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(r.Stop)
	}
	wg.Wait()
	r.decide("late", grantOne, ownOf(grantOne))
	r.want(comparator.Counts{Undetermined: 1})
}

// Whatever arrives while it is being stopped is in a column afterwards.
func TestStopUnderFire(t *testing.T) {
	r := newRig(t, func(c *comparator.Config) { c.Queue = 16 })
	r.start()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				s := ownOf(grantOne)
				if i%10 == 0 {
					s = ownOf(refuseOne)
				}
				r.decide(fmt.Sprint(g, "-", i), grantOne, s)
			}
		})
	}
	r.Stop()
	wg.Wait()
	got := r.Snapshot()
	if got.Decisions != 4000 || got.Pending != 0 || got.Settling != 0 {
		t.Errorf("%+v", got)
	}
	if err := r.Check(); err != nil {
		t.Error(err)
	}
}

func TestAnEndedContextStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		ctx, cancel := context.WithCancel(context.Background())
		if err := r.Start(ctx); err != nil {
			t.Fatal(err)
		}
		r.decide("h1", grantOne, ownOf(grantOne))
		cancel()
		synctest.Wait()
		r.want(comparator.Counts{Matched: 1})
		if r.store.saves() == 0 {
			t.Error("the last counts were not saved")
		}
		r.Stop()
	})
}

func TestExamplesOfExplainedDecisionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.start()
		for i := range 200 {
			r.decide(fmt.Sprint("h", i), refuseOne, wouldGrant)
		}
		pass(10 * time.Second)
		r.want(comparator.Counts{Explained: 200})
		r.Stop()
		kept := len(r.findings()[comparator.OversellRisk])
		if kept == 0 || int64(kept)+r.Stats().NotKept != 200 || kept > 120 {
			t.Errorf("%d kept, %d not", kept, r.Stats().NotKept)
		}
	})
}

func TestSlowShadowIsOneFinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *comparator.Config) { c.SlowShadow = time.Second })
		r.start()
		for i := range 5 {
			o := observed(fmt.Sprint("h", i), "mug", 1, grantOne, ownOf(grantOne))
			o.ShadowLatency = time.Duration(i) * 600 * time.Millisecond
			r.Begin(1)
			r.Observe(o) // all at one instant of the clock
		}
		pass(time.Millisecond)
		r.Stop()
		fs := r.findings()[comparator.SlowShadow]
		if len(fs) != 1 || fs[0].Count != 3 || fs[0].TotalUnits != 3 {
			t.Errorf("%+v", fs)
		}
		if l := r.Stats().Shadow; l.Count != 4 || l.Max != 2_400_000 || l.P99 != 2_400_000 || l.P50 < 1_000_000 || l.P50 > 1_300_000 {
			t.Errorf("%+v", l)
		}
	})
}

// Nothing new is nothing to save.
func TestAnIdleComparatorLeavesItsStoreAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.start()
		r.decide("h1", grantOne, ownOf(grantOne))
		pass(3 * time.Second)
		saves := r.store.saves()
		pass(time.Hour)
		if n := r.store.saves(); saves == 0 || n != saves {
			t.Errorf("%d saves, then %d", saves, n)
		}
		r.Stop()
	})
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]comparator.Config{
		"no pod":   {Proxy: "p", Store: memfindings.New()},
		"no proxy": {Pod: "one", Store: memfindings.New()},
		"no store": {Pod: "one", Proxy: "p"},
	} {
		if _, err := comparator.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_, err := comparator.New(comparator.Config{Proxy: "p", Store: memfindings.New()})
	if fe := (*backends.FieldError)(nil); !errors.As(err, &fe) {
		t.Errorf("%v", err)
	}
}
