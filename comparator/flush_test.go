package comparator_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// memSpool is a spool whose disk is memory.
type memSpool struct {
	mu      sync.Mutex
	batches []comparator.Batch
	full    bool
}

func (m *memSpool) Append(b comparator.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return comparator.ErrSpoolFull
	}
	m.batches = append(m.batches, comparator.Batch{Findings: slices.Clone(b.Findings), Coverage: slices.Clone(b.Coverage), Tallies: slices.Clone(b.Tallies)})
	return nil
}

func (m *memSpool) Replay(ctx context.Context, save func(context.Context, comparator.Batch) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.batches {
		if err := save(ctx, b); err != nil {
			return err
		}
	}
	m.batches = nil
	return nil
}

func (m *memSpool) Size() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(len(m.batches))
}

// The store is away, takes things and denies it, comes back: nothing is lost and nothing is double.
func TestSpoolBridgesAnAbsentStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &memSpool{}
		r := newRig(t, func(c *comparator.Config) { c.Spool = disk })
		r.look.say(1)
		r.store.set(func(f *flaky) { f.liesTo = 1 })
		r.start()
		for i := range 30 {
			r.decide(fmt.Sprint("h", i), refuseOne, wouldGrant)
			pass(time.Second)
			r.store.fail(i > 3 && i < 20)
			if i == 15 && disk.Size() == 0 {
				t.Error("nothing is in the spool while the store is away")
			}
		}
		pass(30 * time.Second)
		r.want(comparator.Counts{Confirmed: 30})
		r.Stop()
		if disk.Size() != 0 {
			t.Error("the spool was not emptied")
		}
		fs := r.findings()
		if len(fs[comparator.OversellRisk]) != 30 || len(fs[comparator.LevelDrift]) != 1 {
			t.Errorf("%d and %d findings", len(fs[comparator.OversellRisk]), len(fs[comparator.LevelDrift]))
		}
		for _, f := range fs[comparator.OversellRisk] {
			if f.Count != 1 {
				t.Errorf("%s was seen %d times", f.Hold, f.Count)
			}
		}
		r.savedCoverage(30)
	})
}

func (r *rig) savedCoverage(confirmed int64) {
	r.t.Helper()
	rows, err := r.store.Coverage(context.Background(), "one", time.Time{})
	if err != nil {
		r.t.Fatal(err)
	}
	got := comparator.FoldCoverage("one", rows, comparator.Fold{Now: time.Now(), SettleWindow: time.Minute})
	if got.Confirmed != confirmed || got.Decisions != confirmed || got.Check() != nil {
		r.t.Errorf("saved: %+v", got)
	}
}

// Neither store nor spool takes anything, for days: memory stays bounded, and what is given up is
// counted.
func TestNoStoreNoSpoolStaysBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *comparator.Config) { c.FlushEvery = 10 * time.Minute })
		r.start()
		const minutes = 24*60 + 100
		r.decide("saved", grantOne, ownOf(grantOne))
		pass(30 * time.Second)
		if err := r.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		r.store.fail(true)
		for range minutes {
			r.Begin(1)
			r.SampledOut(1, 1)
			pass(time.Minute)
		}
		r.store.fail(false)
		r.Stop()
		rows, err := r.store.Coverage(context.Background(), "one", time.Time{})
		if err != nil || len(rows) != 1 {
			t.Fatalf("%v %v", rows, err)
		}
		if err := rows[0].Check(); err != nil {
			t.Error(err)
		}
		if got := rows[0]; got.Decisions != minutes+1 || got.Lost < 90 || got.Matched+got.Lost+got.SampledOut != got.Decisions {
			t.Errorf("%+v", got)
		}
	})
}

// A finding that is on its way to the store is not saved yet.
func TestFindingsOnTheirWayAreUnsaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		hang := make(chan struct{})
		r.store.set(func(f *flaky) { f.hanging = hang })
		r.start()
		r.Record(comparator.Finding{Class: comparator.BypassWrite, Units: []backends.Units{units(2, "mug", "A")}})
		pass(1500 * time.Millisecond)
		synctest.Wait()
		if n := r.Stats().Unsaved; n != 1 {
			t.Errorf("%d are unsaved while the store hangs, want 1", n)
		}
		r.store.set(func(f *flaky) { f.hanging = nil })
		close(hang)
		pass(2 * time.Second)
		synctest.Wait()
		if n := r.Stats().Unsaved; n != 0 {
			t.Errorf("%d are unsaved when the store goes on", n)
		}
		r.Stop()
	})
}

// Without a spool, findings wait in memory until the store is back.
func TestFindingsWaitInMemoryWithoutASpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.store.fail(true)
		r.start()
		r.Record(comparator.Finding{Class: comparator.BypassWrite, Units: []backends.Units{units(2, "mug", "A")}})
		pass(5 * time.Second)
		if n := r.Stats().Unsaved; n != 1 || r.Stats().SavesFailed == 0 || r.Flush(ctx) == nil {
			t.Errorf("%d wait", n)
		}
		r.store.fail(false)
		pass(2 * time.Second)
		if fs := r.findings()[comparator.BypassWrite]; len(fs) != 1 || fs[0].Count != 1 || r.Stats().Unsaved != 0 {
			t.Errorf("%+v", fs)
		}
		r.Stop()
	})
}

// A clock that is set back must not begin a minute again that is saved and forgotten: the new row would
// replace the old one.
func TestAClockThatIsSetBackLosesNothing(t *testing.T) {
	now := noon
	r := newRig(t, func(c *comparator.Config) { c.Now = func() time.Time { return now } })
	for _, step := range []time.Duration{0, time.Minute, -time.Minute, -time.Hour, 2 * time.Hour} {
		now = now.Add(step)
		r.Begin(1)
		r.SampledOut(1, 1)
		if err := r.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := r.store.Coverage(ctx, "one", time.Time{})
	if err != nil || len(rows) != 1 || rows[0].Decisions != 5 || rows[0].SampledOut != 5 {
		t.Errorf("%+v, %v", rows, err)
	}
}

func TestAPanickingStoreIsAnAbsentOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &memSpool{}
		r := newRig(t, func(c *comparator.Config) { c.Spool = disk })
		r.store.set(func(f *flaky) { f.panics = true })
		r.start()
		r.Record(comparator.Finding{Class: comparator.BypassWrite, Units: []backends.Units{units(2, "mug", "A")}})
		pass(3 * time.Second)
		if disk.Size() == 0 || r.Stats().Panics == 0 {
			t.Errorf("spool %d, %+v", disk.Size(), r.Stats())
		}
		r.store.set(func(f *flaky) { f.panics = false })
		pass(3 * time.Second)
		r.Stop()
		if fs := r.findings()[comparator.BypassWrite]; len(fs) != 1 || fs[0].TotalUnits != 2 || fs[0].ID == "" || fs[0].Life != comparator.LifeOpen {
			t.Errorf("%+v", fs)
		}
	})
}

// A store that hangs holds up its own saves, and neither judging nor the end.
func TestAHangingStoreHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &memSpool{full: true}
		r := newRig(t, func(c *comparator.Config) { c.Spool = disk })
		r.store.set(func(f *flaky) { f.hanging = make(chan struct{}) })
		r.start()
		begin := time.Now()
		for i := range 100 {
			r.decide(fmt.Sprint("h", i), grantOne, ownOf(grantOne))
			pass(100 * time.Millisecond)
		}
		r.want(comparator.Counts{Matched: 100})
		r.Stop()
		if took := time.Since(begin); took > 25*time.Second {
			t.Errorf("it took %s to stop", took)
		}
		if r.Stats().SpoolFailed == 0 {
			t.Error("a full spool was not counted")
		}
	})
}
