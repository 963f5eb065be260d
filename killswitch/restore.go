package killswitch

import (
	"context"
	"fmt"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Restorer is what a [Carrier] does besides for a pod whose Redis may have lost acknowledged writes.
type Restorer interface {
	// Restore gives Redis, which is the truth under under.Stage or in live the shadow, what it has lost and MySQL still has.
	// Both fences are at under's epoch; the truth's is closed or open as under says. Where complete, the shadow was known to have all of Redis's
	// before, and units on hand may be set to the ledger's while Redis is closed. Again is safe.
	Restore(ctx context.Context, pod backends.Pod, under backends.Fence, complete bool) (Restored, error)
}

// Restored counts what Redis was given back.
type Restored struct {
	Holds, Taken, OnHand int
	// Differ are keys whose units on hand differ from the ledger's and were left, and Left why.
	Differ int
	Left   string
}

func (r Restored) String() string {
	s := fmt.Sprintf("given back from MySQL: %d states of holds, %d sums of takes, the units on hand of %d keys", r.Holds, r.Taken, r.OnHand)
	if r.Differ > 0 {
		s += fmt.Sprintf("; the units on hand of %d keys differ from the ledger's and were left, for %s: see 'crossfade audit'", r.Differ, r.Left)
	} else if r.Left != "" {
		s += "; units on hand were not set, for " + r.Left
	}
	return s
}

// FullCarrier is all that a driver needs done between the stores.
type FullCarrier interface {
	Carrier
	Restorer
}

func restore(under backends.Fence, complete bool) Step {
	return Step{Name: "restore Redis from MySQL", Act: ActRestore, Fence: under, Complete: complete}
}

// restore is bounded to half of what a switch has to finish: the pod answers nobody meanwhile, and what is not
// restored by then is restored under traffic, as work.
func (r *Run) restore(ctx context.Context, s Step) (note string, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.d.o.Limits.Finish/2)
	defer cancel()
	for i := range raiseAttempts {
		if i > 0 && pause(ctx, r.d.o.Clock, raisePause) != nil {
			break
		}
		var res Restored
		if res, err = r.d.o.Carrier.Restore(ctx, r.pod, s.Fence, s.Complete); err == nil {
			return Clip(res.String()), nil
		}
	}
	return Clip("left for later: " + err.Error()), nil
}
