package bench

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// TestOpenLoopCountsFromWhenItWasDue: one stall of 200 ms, with one worker, makes everything that was due
// meanwhile late. A loop that counted from when it came to send would see one slow operation of a hundred.
func TestOpenLoopCountsFromWhenItWasDue(t *testing.T) {
	var n atomic.Int64
	stall := func(ctx context.Context) (int, error) {
		if n.Add(1) == 1 {
			return 1, pause(ctx, 200*time.Millisecond)
		}
		return 1, nil
	}
	s, err := open(t.Context(), 1, 500, 200*time.Millisecond, each(func(int) op { return stall }))
	if err != nil {
		t.Fatal(err)
	}
	if s.done != 100 {
		t.Errorf("%d arrivals, want 100: 500 a second for 200 ms", s.done)
	}
	if p50 := s.at(50); p50 < 60 {
		t.Errorf("the median is %.1f ms: the wait behind the stall was left out", p50)
	}
}

func TestClosedLoop(t *testing.T) {
	const d = 150 * time.Millisecond
	s, err := closed(t.Context(), 4, d, each(func(int) op {
		return func(ctx context.Context) (int, error) { return 3, pause(ctx, time.Millisecond) }
	}))
	if err != nil || s.elapsed != d || s.done == 0 || s.done%3 != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	if p50 := s.at(50); p50 < 0.9 {
		t.Errorf("the median of a millisecond's pause is %.3f ms", p50)
	}
}

// TestSupplyThatEnds: the time counts until the supply was used up, not the whole time of the run.
func TestSupplyThatEnds(t *testing.T) {
	var n atomic.Int64
	s, err := closed(t.Context(), 2, time.Minute, each(func(int) op {
		return func(context.Context) (int, error) {
			if n.Add(1) > 10 {
				return 0, errSpent
			}
			return 1, nil
		}
	}))
	if err != nil || s.done != 10 || s.elapsed > 10*time.Second {
		t.Fatalf("%+v, %v", s, err)
	}
}

func TestARunThatFailsIsNoMeasurement(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		failEvery int64
		wrong     bool
	}{"every tenth": {10, true}, "one in five hundred": {500, false}} {
		var n atomic.Int64
		_, err := closed(t.Context(), 1, time.Minute, each(func(int) op {
			return func(context.Context) (int, error) {
				switch i := n.Add(1); {
				case i > 1000:
					return 0, errSpent
				case i%c.failEvery == 0:
					return 1, broken
				}
				return 1, nil
			}
		}))
		if errors.Is(err, broken) != c.wrong {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := closed(t.Context(), 1, MinDuration, each(func(int) op {
		return func(context.Context) (int, error) { return 0, errSpent }
	})); !errors.Is(err, errIdle) {
		t.Errorf("a run in which nothing happened: %v", err)
	}
	if _, err := closed(t.Context(), 2, MinDuration, func(int) (op, func(), error) { return nil, nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a worker that cannot be made: %v", err)
	}
}

func TestARunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wait := each(func(int) op { return func(ctx context.Context) (int, error) { return 1, pause(ctx, time.Minute) } })
	if _, err := closed(ctx, 2, time.Minute, wait); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := open(ctx, 2, 10, time.Minute, wait); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := open(t.Context(), 2, 0, time.Minute, wait); err == nil {
		t.Error("an open loop without a rate")
	}
}
