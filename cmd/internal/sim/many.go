package sim

import (
	"context"
	"sync"
	"sync/atomic"
)

// Summary of many schedules.
type Summary struct {
	Schedules  int   `json:"schedules"`
	Steps      int64 `json:"steps"`
	Operations int64 `json:"operations"`
	Crashes    int64 `json:"crashes"`
	Kills      int64 `json:"kills"`
	Switches   int64 `json:"switches"`
	// Alone are answers that were given without Redis, Behind kills of pods that were marked, Listed those of them that had
	// something to list.
	Alone  int64   `json:"alone"`
	Behind int64   `json:"behind"`
	Listed int64   `json:"listed"`
	Failed *Result `json:"failed,omitempty"` // the failing schedule with the lowest seed seen
}

// RunMany plays the schedules from seed first on, n of them, on workers goroutines, and stops at
// the first failure. progress is called now and then with the number played.
func RunMany(ctx context.Context, first uint64, n, workers int, progress func(int)) Summary {
	var s Summary
	var mu sync.Mutex
	var next, played atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range max(1, workers) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var pool coroutines
			defer pool.close()
			for !stop.Load() && ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(n) {
					return
				}
				r := play(first+uint64(i), nil, &pool) //nolint:gosec // i is not negative
				mu.Lock()
				s.Schedules++
				s.Steps += int64(r.Steps)
				s.Operations += int64(r.Ops)
				s.Crashes += int64(r.Crashes)
				s.Kills += int64(r.Kills)
				s.Switches += int64(r.Switches)
				s.Alone += int64(r.Alone)
				s.Behind += int64(r.Behind)
				s.Listed += int64(r.Listed)
				if r.Failure != "" && (s.Failed == nil || r.Seed < s.Failed.Seed) {
					s.Failed = &r
					stop.Store(true)
				}
				mu.Unlock()
				if p := played.Add(1); progress != nil && p%1000 == 0 {
					progress(int(p))
				}
			}
		}()
	}
	wg.Wait()
	return s
}
