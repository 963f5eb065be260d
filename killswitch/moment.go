package killswitch

import (
	"context"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// drainable refuses beforehand what the drain would refuse while callers wait. It answers in a moment when there is little to
// drain, if one comes; who only asks does not wait for that.
func (d *Driver) drainable(ctx context.Context, pod backends.Pod, sw *Switch, b Bounds, asks bool) error {
	steps := Steps(*sw)
	i := slices.IndexFunc(steps, func(s Step) bool { return s.Act == ActDrain })
	if i < 0 {
		return nil
	}
	stores, err := d.o.Stores(pod)
	if err != nil {
		return err
	}
	truth := steps[i].Fence.Stage.Truth()
	most := b.WithDefaults().OutboxLag / momentShare
	for start := d.o.Clock.Now(); ; {
		stats, err := d.outbox(ctx, stores.Of(truth))
		over := asks || d.o.Clock.Now().Sub(start) >= d.o.Limits.Moment
		if err != nil && over {
			return err
		}
		little := err == nil && (stats.Entries == 0 || time.Duration(stats.OldestMillis)*time.Millisecond <= most)
		stats.Entries = 0 // those are the drain's business
		if err := drained(truth, stats); err != nil || over || little {
			return err
		}
		if err := pause(ctx, d.o.Clock, momentPause); err != nil {
			return err
		}
	}
}

// momentShare is the part of the lag that the gate lets pass from which on a moment is good: a fifth of a second by default.
// Callers wait for about that, and two fsyncs.
const momentShare = 5

// momentPause is between two looks: some forty in all.
const momentPause = 50 * time.Millisecond

func (d *Driver) outbox(ctx context.Context, s StorePort) (backends.OutboxStats, error) {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	return s.OutboxStats(ctx)
}
