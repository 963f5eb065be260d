package comparator_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

var errAway = errors.New("the store is away")

// flaky is a store that can be away, that can panic, and that can take what it then denies.
type flaky struct {
	comparator.Store
	mu      sync.Mutex
	away    bool
	panics  bool
	liesTo  int // saves that take effect and still answer an error
	saved   int // calls that took effect
	hanging chan struct{}
}

func (f *flaky) fail(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

func (f *flaky) set(change func(*flaky)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *flaky) saves() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.saved
}

func (f *flaky) guard(ctx context.Context, do func() error) error {
	f.mu.Lock()
	hang := f.hanging
	f.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.panics {
		panic("the store is broken")
	}
	if f.away {
		return errAway
	}
	if err := do(); err != nil {
		return err
	}
	f.saved++
	if f.liesTo > 0 {
		f.liesTo--
		return errAway
	}
	return nil
}

func (f *flaky) SaveFindings(ctx context.Context, fs []comparator.Finding) error {
	return f.guard(ctx, func() error { return f.Store.SaveFindings(ctx, fs) })
}

func (f *flaky) SaveCoverage(ctx context.Context, rows []comparator.CoverageRow) error {
	return f.guard(ctx, func() error { return f.Store.SaveCoverage(ctx, rows) })
}

func (f *flaky) SaveTallies(ctx context.Context, rows []comparator.TallyRow) error {
	return f.guard(ctx, func() error { return f.Store.SaveTallies(ctx, rows) })
}

// scripted is a rechecker that says the same of every key.
type scripted struct {
	mu    sync.Mutex
	stage backends.Stage
	since time.Time
	what  int // 0 levels agree, 1 they differ, 2 in motion, 3 it fails, 4 it panics
	looks int
}

func (s *scripted) say(what int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.what = what
}

func (s *scripted) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

func (s *scripted) Recheck(_ context.Context, keys []backends.Key, holds []backends.HoldID) (comparator.Evidence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	ev := comparator.Evidence{At: time.Now(), Stage: max(s.stage, backends.Shadow), SureSince: s.since, Keys: map[backends.Key]comparator.KeyEvidence{}, Holds: map[backends.HoldID]comparator.HoldEvidence{}}
	for _, id := range holds {
		ev.Holds[id] = s.hold(id)
	}
	for _, k := range keys {
		truth := &backends.Level{Key: k, OnHand: 5, Available: 5}
		shadow := &backends.Level{Key: k, OnHand: 5, Available: 5}
		e := rest(truth, shadow)
		switch s.what {
		case 1:
			shadow.OnHand, shadow.Available = 4, 4
		case 2:
			e.PendingBefore = 1
		case 3:
			return comparator.Evidence{}, errAway
		case 4:
			panic("the rechecker is broken")
		}
		ev.Keys[k] = e
	}
	return ev, nil
}

// hold is what a look sees of a hold that the truth has ended.
func (s *scripted) hold(id backends.HoldID) comparator.HoldEvidence {
	truth := &backends.Hold{ID: id, Shop: "s", State: backends.Expired, Version: backends.Version{Epoch: 1, N: 2}}
	shadow := *truth
	e := comparator.HoldEvidence{TruthBefore: truth, TruthAfter: truth, Shadow: &shadow}
	switch s.what {
	case 1:
		shadow.State, shadow.Lines = backends.Held, []backends.Line{{Item: "mug", Quantity: 2, Locations: []backends.Location{"A"}}}
		shadow.Allocs = []backends.Allocation{{Location: "A", Quantity: 2}}
	case 2:
		e.PendingAfter = 1
	}
	return e
}
