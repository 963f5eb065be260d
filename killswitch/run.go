package killswitch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Run is one driver's hand on one open switch. Next takes its steps one at a time; Driver.Switch and
// Driver.Resume do so by themselves. Abandoned between any two calls, it is a driver that has died.
type Run struct {
	d      *Driver
	pod    backends.Pod
	id     uint64
	stores Stores

	// touched: some fence may have been moved by this switch. Used by Next alone.
	touched bool

	mu  sync.Mutex // over the record, which the heartbeat writes too
	st  PodState
	rev Revision
}

// State is the record as this run last wrote or read it.
func (r *Run) State() PodState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.st.Clone()
}

// Close gives the pod free for another run in this process. The record stays as it is.
func (r *Run) Close() { r.d.release(r.pod) }

// Next takes the recorded step and records the next one. Done tells that the switch is over, by being
// finished, undone or cancelled: State says which. An error that is not a *SupersededError
// leaves the switch open; Next may be called again. Trouble before the point of no return makes
// the next calls undo the switch.
func (r *Run) Next(ctx context.Context) (done bool, err error) {
	st := r.State()
	sw := *st.Switch
	s := sw.steps()[sw.Step]
	start := r.d.o.Clock.Now()
	if s.Act == ActServe {
		return r.finish(ctx, sw, s)
	}
	note, err := r.act(ctx, s)
	if err != nil {
		ctx, cancel := r.d.detached(ctx, r.d.o.Limits.Record)
		defer cancel()
		return r.failed(ctx, sw, err)
	}
	took := StepDone{Name: s.Name, TookMillis: millis(r.d.o.Clock.Now().Sub(start)), Note: note}
	return false, r.commit(ctx, func(st *PodState) { st.Switch.advance(sw, took) })
}

// advance records that the step at which the switch was is done. Applied again it does nothing.
func (sw *Switch) advance(at Switch, took StepDone) {
	if sw.Step != at.Step || sw.Undo != at.Undo {
		return
	}
	sw.Step++
	sw.Name = sw.steps()[sw.Step].Name
	sw.Beat++
	if len(sw.Steps) < MaxSteps {
		sw.Steps = append(sw.Steps, took)
	}
}

// mismatchError: Redis's fence is not where the switch expects it.
type mismatchError struct{ have backends.Fence }

func (e *mismatchError) Error() string {
	return fmt.Sprintf("Redis's fence is at %s: a kill, or lost data", e.have)
}

// act takes one step.
func (r *Run) act(ctx context.Context, s Step) (note string, err error) {
	if s.Act == ActDrain {
		return "", r.drain(ctx, s)
	}
	if s.Act == ActRestore {
		return r.restore(ctx, s)
	}
	if !s.BestEffort {
		return "", r.raise(ctx, s, raiseAttempts)
	}
	if missed := r.raise(ctx, s, 1); missed != nil {
		note = Clip("left for later: " + missed.Error())
	}
	return note, nil
}

func (r *Run) raise(ctx context.Context, s Step, attempts int) (err error) {
	for i := range attempts {
		if i > 0 && pause(ctx, r.d.o.Clock, raisePause) != nil {
			return err
		}
		if err = r.raiseOnce(ctx, s); err == nil {
			return nil
		}
		var fe *backends.FencedError
		var me *mismatchError
		if errors.As(err, &fe) || errors.As(err, &me) || errors.Is(err, backends.ErrRestarted) {
			return err
		}
	}
	return err
}

func (r *Run) raiseOnce(ctx context.Context, s Step) error {
	ctx, cancel := context.WithTimeout(ctx, r.d.o.Limits.Raise)
	defer cancel()
	store := r.stores.Of(s.Side)
	var ifEpoch uint64
	if s.Side == backends.SideRedis && !s.BestEffort {
		have, err := store.Fence(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("reading Redis's fence: %w", err)
		case have == s.Fence:
			r.touched = true
			return nil
		case !slices.Contains(s.Expect, have):
			return &mismatchError{have}
		}
		ifEpoch = have.Epoch
	}
	_, err := store.Raise(ctx, s.Fence, ifEpoch)
	if s.Anew && errors.Is(err, backends.ErrRestarted) {
		// No kill can have come between: it is refused by such a server as well.
		_, err = store.Raise(ctx, s.Fence, 0)
	}
	var fe *backends.FencedError
	switch fenced := errors.As(err, &fe); {
	case fenced && fe.Have == s.Fence:
		err = nil
	case fenced && s.Side == backends.SideRedis && !s.BestEffort:
		return &mismatchError{fe.Have} // it was moved between the reading and the raising
	case fenced:
		return err
	}
	r.touched = r.touched || !errors.Is(err, backends.ErrUnavailable)
	return err
}

// drain empties the outbox, and makes sure of it: an outbox that has dropped entries is not empty.
func (r *Run) drain(ctx context.Context, s Step) error {
	if err := r.d.o.Carrier.Drain(ctx, r.pod, s.Fence); err != nil {
		return err
	}
	stats, err := r.stores.Of(s.Fence.Stage.Truth()).OutboxStats(ctx)
	if err != nil {
		return err
	}
	return drained(s.Fence.Stage.Truth(), stats)
}

func drained(side backends.Side, stats backends.OutboxStats) error {
	switch {
	case stats.Lost:
		return fmt.Errorf("the outbox of %s has dropped %d entries, so the other store is not complete: a backfill has to come first", side, stats.Dropped)
	case stats.Entries > 0:
		return fmt.Errorf("%d entries are still in the outbox of %s", stats.Entries, side)
	default:
		return nil
	}
}

// failed decides what becomes of a switch one of whose steps has failed.
func (r *Run) failed(ctx context.Context, sw Switch, cause error) (done bool, err error) {
	var me *mismatchError
	var fe *backends.FencedError
	fenced := errors.As(cause, &fe)
	switch {
	case errors.As(cause, &me), errors.Is(cause, backends.ErrRestarted):
		return false, r.yield(ctx, cause) // what Redis has lost comes first: see Plan
	case !sw.Undo && sw.Step == 0 && !r.touched:
		return true, r.cancel(ctx, sw, cause)
	case !sw.Undo && sw.Step < NoReturn(sw):
		return false, r.undo(ctx, sw, cause)
	case fenced:
		// MySQL is ahead of a switch that cannot be undone: someone else has taken the pod over.
		return false, r.yield(ctx, cause)
	default:
		return false, &StuckError{Pod: r.pod, Switch: sw, Err: cause}
	}
}

// cancel closes the record of a switch that has touched nothing.
func (r *Run) cancel(ctx context.Context, sw Switch, cause error) error {
	return r.close(ctx, sw, func(st *PodState) {
		st.seeEpoch(fencedEpoch(cause))
		st.Phase = phaseOf(st.Fence())
		r.ended(st, Cancelled, cause.Error())
	})
}

// undo turns the switch round at the step that has failed. The next steps are those of UndoSteps. Where the record is further, since an
// answer of the control store was lost, the switch is not turned: it may be past the point of no return.
func (r *Run) undo(ctx context.Context, at Switch, cause error) error {
	return r.commit(ctx, func(st *PodState) {
		if st.Switch.Undo || st.Switch.Step != at.Step {
			return
		}
		st.seeEpoch(fencedEpoch(cause))
		st.Switch.turn(st.MaxEpoch+1, cause.Error())
		st.seeEpoch(st.Switch.UndoEpoch)
	})
}

func (sw *Switch) turn(epoch uint64, cause string) {
	sw.Undo, sw.UndoEpoch, sw.UndoneAt, sw.Step, sw.Cause = true, epoch, sw.Step, 0, Clip(cause)
	sw.Name = sw.steps()[0].Name
	sw.Beat++
}

func fencedEpoch(err error) uint64 {
	var fe *backends.FencedError
	if errors.As(err, &fe) {
		return fe.Have.Epoch
	}
	return 0
}

// finish closes the record of a switch all of whose steps are done.
func (r *Run) finish(ctx context.Context, sw Switch, s Step) (done bool, err error) {
	look, cancel := context.WithTimeout(ctx, r.d.o.Limits.Raise)
	have, err := r.stores.Redis.Fence(look)
	cancel()
	if err == nil && !slices.Contains(sw.redisMayBe(), have) {
		ctx, cancel := r.d.detached(ctx, r.d.o.Limits.Record)
		defer cancel()
		return false, r.yield(ctx, &mismatchError{have})
	}
	note := r.leftover(ctx, sw)
	err = r.close(ctx, sw, func(st *PodState) {
		if note != "" && len(st.Switch.Steps) < MaxSteps {
			st.Switch.Steps = append(st.Switch.Steps, StepDone{Name: s.Name, Note: note})
		}
		outcome := Done
		if sw.Undo {
			outcome = Undone
		} else {
			st.Who, st.Why, st.Since = sw.Who, sw.Why, r.d.o.Clock.Now()
		}
		st.Stage, st.Epoch, st.Filled, st.Phase = s.Fence.Stage, s.Fence.Epoch, s.Fence.Arbitrates(), phaseOf(s.Fence)
		st.Alone = s.Fence.Alone
		st.forget()
		st.owe(sw.leaves()...)
		r.ended(st, outcome, sw.Cause)
		st.Due = fitting(*st)
	})
	return err == nil, err
}

// leaves is the work that the end of the switch leaves to be done.
func (sw *Switch) leaves() []Work {
	fill := []Work{WorkBackfill, WorkFill}
	switch {
	case sw.Undo && sw.mayHaveOpenedMySQL():
		return []Work{WorkSettle, WorkBackfill}
	case sw.Undo && sw.Kind == KindFill:
		return fill // what has kept it from draining may have made Redis incomplete
	case sw.Undo || sw.Kind == KindFill:
		return nil
	case sw.restores():
		return []Work{WorkRestore, WorkBackfill} // what came late to MySQL, and what it has missed
	case sw.is(backends.Live, backends.Shadow):
		return nil // from filled live, and drained: MySQL was the truth, and Redis has followed it to the end
	case sw.To == backends.Shadow:
		return []Work{WorkBackfill}
	case sw.To == backends.Live && !sw.target().Filled:
		return fill
	default:
		return nil
	}
}

// leftover notes entries that stay behind in MySQL's outbox when nobody mirrors it any more.
func (r *Run) leftover(ctx context.Context, sw Switch) string {
	if sw.Undo || sw.To != backends.MySQLOnly {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, r.d.o.Limits.Raise)
	defer cancel()
	stats, err := r.stores.MySQL.OutboxStats(ctx)
	switch {
	case err != nil:
		return Clip("the outbox of MySQL could not be counted: " + err.Error())
	case stats.Entries > 0:
		return fmt.Sprintf("%d entries stay in the outbox of MySQL until the pod goes back to live", stats.Entries)
	default:
		return ""
	}
}

// ended moves the open switch into the history.
func (r *Run) ended(st *PodState, o Outcome, cause string) {
	sw := st.Switch
	epoch := st.Epoch
	st.record(Change{
		At: r.d.o.Clock.Now(), Kind: sw.Kind, Outcome: o, From: sw.From, To: sw.To, FromEpoch: sw.FromEpoch, Epoch: epoch,
		Who: sw.Who, Why: sw.Why, Cause: cause, Gates: sw.Gates, Steps: sw.Steps,
	})
	st.Switch = nil
}

// owns tells whether a record is still of this run.
func (r *Run) owns(st PodState) bool {
	return st.Switch != nil && st.Switch.ID == r.id && st.Switch.Driver == r.d.o.ID
}

// commit changes the record while it is this run's. fn may be applied to a record that has it already.
func (r *Run) commit(ctx context.Context, fn func(*PodState)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.st.Switch == nil {
		return nil // a heartbeat that comes after the end
	}
	ctx, cancel := context.WithTimeout(ctx, r.d.o.Limits.Record)
	defer cancel()
	for range updateAttempts {
		next := r.st.Clone()
		fn(&next)
		rev, err := r.d.o.Control.CompareAndSet(ctx, r.pod, r.rev, next)
		if err == nil {
			r.st, r.rev = next, rev
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return fmt.Errorf("recording the switch of pod %s: %w", r.pod, err)
		}
		st, rev, err := r.d.o.Control.Get(ctx, r.pod)
		if err != nil {
			return fmt.Errorf("recording the switch of pod %s: %w", r.pod, err)
		}
		if !r.owns(st) {
			return &SupersededError{Pod: r.pod, Now: st, Cause: "its record is in other hands"}
		}
		r.st, r.rev = st, rev
	}
	return ErrConflict
}

// close is commit for the last change of a switch, which takes it out of the record.
func (r *Run) close(ctx context.Context, sw Switch, fn func(*PodState)) error {
	err := r.commit(ctx, fn)
	var se *SupersededError
	if errors.As(err, &se) && closedBy(se.Now, sw) {
		// An earlier try, whose answer was lost, has done it.
		r.mu.Lock()
		r.st = se.Now
		r.mu.Unlock()
		err = nil
	}
	if err == nil {
		ctx, cancel := r.d.detached(ctx, r.d.o.Limits.Record)
		defer cancel()
		r.d.keepHistory(ctx, r.State())
	}
	return err
}

// closedBy tells whether the newest change of a record is the end of sw as its driver wrote it.
func closedBy(st PodState, sw Switch) bool {
	if st.Switch != nil || len(st.History) == 0 {
		return false
	}
	c := st.History[len(st.History)-1]
	return c.Kind == sw.Kind && c.From == sw.From && c.To == sw.To && c.FromEpoch == sw.FromEpoch &&
		(c.Epoch == sw.Epoch || c.Epoch == sw.UndoEpoch || c.Outcome == Cancelled)
}

// yield gives the switch up to what the fences say, and answers a *SupersededError once that is
// written down.
func (r *Run) yield(ctx context.Context, cause error) error {
	for range updateAttempts {
		seen, rev, err := r.d.Look(ctx, r.pod)
		if err != nil {
			return &StuckError{Pod: r.pod, Switch: *r.State().Switch, Err: errors.Join(cause, err)}
		}
		if !r.owns(seen.State) {
			return &SupersededError{Pod: r.pod, Now: seen.State, Cause: cause.Error()}
		}
		if !seen.Redis.Known {
			return &StuckError{Pod: r.pod, Switch: *seen.State.Switch, Err: errors.Join(cause, errors.New(seen.Redis.Why))}
		}
		a := abandon(seen, r.d.o.Clock.Now())
		rev, err = r.d.o.Control.CompareAndSet(ctx, r.pod, rev, a.Next)
		if errors.Is(err, ErrConflict) {
			continue
		}
		if err != nil {
			return &StuckError{Pod: r.pod, Switch: *seen.State.Switch, Err: errors.Join(cause, err)}
		}
		r.mu.Lock()
		r.st, r.rev = a.Next, rev
		r.mu.Unlock()
		r.d.keepHistory(ctx, a.Next)
		return &SupersededError{Pod: r.pod, Now: a.Next, Cause: cause.Error()}
	}
	return ErrConflict
}

// detached is a context that outlives its parent, by no more than d.
func (d *Driver) detached(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), most)
}
