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
	lag := b.WithDefaults().OutboxLag
	for start := d.o.Clock.Now(); ; {
		stats, err := d.outbox(ctx, stores.Of(truth))
		waited := d.o.Clock.Now().Sub(start)
		over := asks || waited >= d.o.Limits.Moment
		if err != nil && over {
			return err
		}
		little := err == nil && (stats.Entries == 0 || time.Duration(stats.OldestMillis)*time.Millisecond <= d.o.Limits.good(lag, waited))
		stats.Entries = 0 // those are the drain's business
		if err := drained(truth, stats); err != nil || over || little {
			return err
		}
		if err := pause(ctx, d.o.Clock, momentPause); err != nil {
			return err
		}
	}
}

// good is the age of the oldest entry from which on a moment is good, of the lag that the gate lets pass: callers wait for
// about that, and two fsyncs. It begins strict, since a better moment may come, and ends at what is good enough: well within
// the time that a drain has, whatever the gate lets pass.
func (l Limits) good(lag, waited time.Duration) time.Duration {
	enough := min(lag/momentEnough, l.Hold/momentEnough)
	strict := min(lag/momentStrict, enough)
	return strict + time.Duration(float64(enough-strict)*min(1, float64(waited)/float64(l.Moment)))
}

// By default 50 and 200 ms. Of twenty switches under 555 reserves/s, MySQL flushing on a disk that it shared with etcd and Redis, the
// drain took 88 ms (p50) and 180 at most when the first look took what was good enough.
const momentStrict, momentEnough = 20, 5

// momentPause is between two looks: some forty in all.
const momentPause = 50 * time.Millisecond

func (d *Driver) outbox(ctx context.Context, s StorePort) (backends.OutboxStats, error) {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	return s.OutboxStats(ctx)
}
