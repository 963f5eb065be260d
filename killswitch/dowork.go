package killswitch

import (
	"context"
	"errors"
	"fmt"

	"github.com/crossfade-proxy/crossfade/backends"
)

// ReissueError: Redis's fence is missing or rolled back, where Redis matters. Its data may be gone as
// well, so nobody but an operator says that it may go on.
type ReissueError struct {
	Pod  backends.Pod
	Have backends.Fence
	Want backends.Fence
}

func (e *ReissueError) Error() string {
	return fmt.Sprintf("pod %s: Redis's fence is at %s and should be at %s: Redis was replaced, flushed or rolled back; look at its data, then have the fence re-issued", e.Pod, e.Have, e.Want)
}

// FillWaitingError: Redis cannot become the arbiter yet.
type FillWaitingError struct {
	Pod   backends.Pod
	Cause string
}

func (e *FillWaitingError) Error() string {
	return fmt.Sprintf("pod %s: Redis is not filled yet: %s", e.Pod, e.Cause)
}

// Work does what a kill or a switch has left to be done for a pod, in order, and answers what it has
// done. It is called again and again by every process that serves the pod; one at a time does
// it. ErrDriverAlive says that another does; an *OpenSwitchError, that a switch is to be finished
// first. progress may be nil.
func (d *Driver) Work(ctx context.Context, pod backends.Pod, progress func(Progress)) ([]Work, error) {
	if progress == nil {
		progress = func(Progress) {}
	}
	seen, rev, err := d.Adopt(ctx, pod)
	if err != nil {
		return nil, err
	}
	if seen.State.Switch != nil {
		return nil, &OpenSwitchError{Pod: pod, Switch: *seen.State.Switch}
	}
	works := WorkFor(seen)
	if len(works) == 0 {
		return nil, nil
	}
	switch works[0] {
	case WorkReissue:
		return nil, &ReissueError{Pod: pod, Have: seen.Redis.Fence, Want: seen.State.Fence()}
	case WorkRealign:
		_, err := d.realign(ctx, seen, rev, d.o.ID, fmt.Sprintf("the fences of the two stores disagreed: Redis's at %s, MySQL's at %s, the record at %s", seen.Redis.Fence, seen.MySQL.Fence, seen.State.Fence()))
		return done(WorkRealign, err)
	case WorkFill:
		return d.fill(ctx, seen, rev)
	default:
		return d.workOff(ctx, seen, rev, works, progress)
	}
}

func done(w Work, err error) ([]Work, error) {
	if err != nil {
		return nil, err
	}
	return []Work{w}, nil
}

// fill makes Redis the arbiter of live: a switch of its own, for which callers wait, so it begins only
// when little is left to drain.
func (d *Driver) fill(ctx context.Context, seen Seen, rev Revision) ([]Work, error) {
	st := seen.State
	if l := st.Worker; l != nil && !d.stale(st.Pod, *l) {
		return nil, fmt.Errorf("pod %s, driver %s: %w", st.Pod, l.Driver, ErrDriverAlive)
	}
	sw := seen.begin(KindFill, backends.Live)
	sw.Alone = d.alone(st.Pod)
	sw.Who, sw.Why = st.Who, st.Why
	if err := sw.needs(seen); err != nil {
		return nil, err
	}
	stores, err := d.o.Stores(st.Pod)
	if err != nil {
		return nil, err
	}
	look, cancel := d.bounded(ctx)
	stats, err := stores.MySQL.OutboxStats(look)
	cancel()
	if err != nil {
		return nil, err
	}
	if stats.Lost {
		// The backfill was outrun. It has to be made again; no switch is needed to know that.
		_, err := update(ctx, d.o.Control, st.Pod, func(now PodState) (PodState, error) {
			if now.Epoch == st.Epoch && now.Switch == nil {
				now.owe(WorkBackfill)
			}
			return now, nil
		})
		return nil, errors.Join(&FillWaitingError{Pod: st.Pod, Cause: "MySQL's outbox has dropped entries since the backfill began; it is made again"}, err)
	}
	if stats.Entries > DefaultOutboxEntries {
		return nil, &FillWaitingError{Pod: st.Pod, Cause: fmt.Sprintf("%d entries are in MySQL's outbox (at most %d)", stats.Entries, DefaultOutboxEntries)}
	}
	st.Worker = nil
	run, err := d.open(ctx, st, rev, sw)
	if err != nil {
		return nil, err
	}
	_, err = d.drive(ctx, run)
	return done(WorkFill, err)
}

// worker is this driver's hand on the due work of a pod.
type worker struct {
	d      *Driver
	pod    backends.Pod
	want   backends.Fence
	stores Stores
}

func (d *Driver) workOff(ctx context.Context, seen Seen, rev Revision, works []Work, progress func(Progress)) (finished []Work, err error) {
	st := seen.State.Clone()
	stores, err := d.o.Stores(st.Pod)
	if err != nil {
		return nil, err
	}
	if err := d.acquire(st.Pod); err != nil {
		return nil, err
	}
	defer d.release(st.Pod)
	if l := st.Worker; l != nil && !d.stale(st.Pod, *l) {
		return nil, fmt.Errorf("pod %s, driver %s: %w", st.Pod, l.Driver, ErrDriverAlive)
	}
	// Due work is in the record before a fence is touched: a fence that is raised no longer tells
	// that there was anything to settle.
	st.Worker = &Lead{Driver: d.o.ID, Beat: firstBeat(rev)}
	if _, err := d.o.Control.CompareAndSet(ctx, st.Pod, rev, st); err != nil {
		return nil, err
	}
	w := worker{d: d, pod: st.Pod, want: st.Fence(), stores: stores}
	work, stop := context.WithCancelCause(ctx)
	beating := d.heartbeat(work, stop, w.beat)
	for _, x := range works {
		if x == WorkFill {
			break // the next call's, when the rest is in the record as done
		}
		if err = w.do(work, x, progress); err != nil {
			if cause := context.Cause(work); cause != nil {
				err = cause
			}
			break
		}
		finished = append(finished, x)
	}
	stop(nil)
	beating.Wait()
	return finished, errors.Join(err, w.leave(ctx))
}

func (w *worker) do(ctx context.Context, x Work, progress func(Progress)) (err error) {
	switch x {
	case WorkRaiseMySQL:
		return w.raise(ctx, w.stores.MySQL)
	case WorkRaiseRedis:
		return w.raise(ctx, w.stores.Redis)
	case WorkSettle, WorkRestore, WorkBackfill:
		// Both fences have to be at want; one that could not be read before is made sure of here.
		if err = w.raise(ctx, w.stores.MySQL); err != nil {
			break
		}
		switch x {
		case WorkSettle:
			err = w.d.o.Carrier.Settle(ctx, w.pod, w.want)
		case WorkRestore:
			_, err = w.d.o.Carrier.Restore(ctx, w.pod, w.want, false)
		default:
			err = w.d.o.Carrier.Backfill(ctx, w.pod, w.want, progress)
		}
	default:
		return fmt.Errorf("killswitch: %q is not done so", x)
	}
	if err != nil {
		return fmt.Errorf("pod %s, %s: %w", w.pod, x, err)
	}
	return w.change(ctx, func(st *PodState) { st.paid(x) })
}

func (w *worker) raise(ctx context.Context, s StorePort) error {
	ctx, cancel := w.d.bounded(ctx)
	defer cancel()
	_, err := s.Raise(ctx, w.want, 0)
	var fe *backends.FencedError
	if errors.As(err, &fe) && fe.Have == w.want {
		return nil
	}
	return err
}

// change changes the record while the work is this driver's and the epoch is the one that it began in.
func (w *worker) change(ctx context.Context, fn func(*PodState)) error {
	ctx, cancel := context.WithTimeout(ctx, w.d.o.Limits.Record)
	defer cancel()
	_, err := update(ctx, w.d.o.Control, w.pod, func(st PodState) (PodState, error) {
		if st.Epoch != w.want.Epoch || st.Worker == nil || st.Worker.Driver != w.d.o.ID {
			return st, &SupersededError{Pod: w.pod, Now: st, Cause: "the pod has moved on, or the work is in other hands"}
		}
		fn(&st)
		return st, nil
	})
	return err
}

func (w *worker) beat(ctx context.Context) error {
	return w.change(ctx, func(st *PodState) { st.Worker.Beat++ })
}

// leave takes this driver out of the record, whatever has become of the epoch.
func (w *worker) leave(ctx context.Context) error {
	ctx, cancel := w.d.detached(ctx, w.d.o.Limits.Record)
	defer cancel()
	_, err := update(ctx, w.d.o.Control, w.pod, func(st PodState) (PodState, error) {
		if st.Worker != nil && st.Worker.Driver == w.d.o.ID {
			st.Worker = nil
		}
		return st, nil
	})
	return err
}
