package killswitch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/crossfade-proxy/crossfade/backends"
)

// SwitchRequest asks for a move by one stage.
type SwitchRequest struct {
	Pod backends.Pod
	To  backends.Stage
	Who string
	Why string
	// Evidence is asked for what the gates of the move judge, once the pod is known to be able to make the
	// move; nil knows nothing.
	Evidence func(context.Context, Need) Evidence
	// Bounds are what the gates judge by; zero ones have their defaults.
	Bounds Bounds
	// Force names gates that need not pass.
	Force  []string
	DryRun bool
}

// Result is what became of a switch.
type Result struct {
	Pod    backends.Pod `json:"pod"`
	Change Change       `json:"change"` // with its outcome, cause, gates and steps
	// Stage, Epoch and Phase are those of the pod afterwards.
	Stage backends.Stage `json:"stage"`
	Epoch uint64         `json:"epoch"`
	Phase Phase          `json:"phase"`
	// TookMillis is from the announcement to the end; HeldMillis the same where callers had to wait.
	TookMillis float64 `json:"took_ms"`
	HeldMillis float64 `json:"held_ms"`
	// Left is what has to follow: Driver.Work does it.
	Left []Work `json:"left,omitempty"`
	// DryRun: nothing was done; Plan names the steps that would be taken.
	DryRun bool      `json:"dry_run,omitempty"`
	Plan   []Planned `json:"plan,omitempty"`
	// Refused says that gates stand in the way, and which; nothing was done.
	Refused string `json:"refused,omitempty"`
}

// NotDoneError: a switch ended otherwise than as asked for. The pod serves the stage that it came from.
type NotDoneError struct {
	Pod    backends.Pod
	Change Change
}

func (e *NotDoneError) Error() string {
	return fmt.Sprintf("pod %s stays in %s: the switch to %s was %s, since %s", e.Pod, e.Change.From, e.Change.To, e.Change.Outcome, e.Change.Cause)
}

// plan looks at the pod and judges whether it may make the move.
func (d *Driver) plan(ctx context.Context, r SwitchRequest) (Seen, Revision, Switch, error) {
	if err := CheckWhoWhy(r.Who, r.Why); err != nil {
		return Seen{}, 0, Switch{}, err
	}
	seen, rev, err := d.Adopt(ctx, r.Pod)
	if err != nil {
		return seen, rev, Switch{}, err
	}
	sw, barred := Plan(seen, r.To)
	sw.Alone = d.alone(r.Pod)
	if barred != nil && (!r.DryRun || sw.Kind == KindUnknown) {
		return seen, rev, sw, barred
	}
	var e Evidence
	if need := NeedsFor(sw.From, sw.To); r.Evidence != nil && need != 0 {
		e = r.Evidence(ctx, need)
	}
	sw.Gates, err = JudgeGates(r.Pod, sw.From, sw.To, e, r.Bounds, r.Force)
	sw.Who, sw.Why = r.Who, r.Why
	if err = cmp.Or(err, barred); err != nil { // who only asks is told of all gates
		return seen, rev, sw, err
	}
	if err := d.drainable(ctx, r.Pod, &sw, r.Bounds, r.DryRun); err != nil {
		return seen, rev, sw, fmt.Errorf("pod %s cannot go to %s now: %w", r.Pod, r.To, err)
	}
	return seen, rev, sw, nil
}

// Begin announces a switch and answers the run that takes its steps. DryRun is not for it. When the record
// changes before the announcement, as at the end of a backfill, it plans anew: whoever asked for
// the switch cannot know of that, and has nothing to decide about it. Where the pod itself has moved
// meanwhile it does not: the same words might mean another move.
func (d *Driver) Begin(ctx context.Context, r SwitchRequest) (*Run, error) {
	var first Switch
	for attempt := 1; ; attempt++ {
		seen, rev, sw, err := d.plan(ctx, r)
		if err != nil {
			return nil, err
		}
		if attempt == 1 {
			first = sw
		} else if sw.From != first.From || sw.FromEpoch != first.FromEpoch {
			return nil, fmt.Errorf("pod %s has moved meanwhile, from %s at epoch %d to %s at epoch %d: %w; look at 'crossfade status %s', and say again what you want",
				r.Pod, first.From, first.FromEpoch, sw.From, sw.FromEpoch, ErrConflict, r.Pod)
		}
		run, err := d.open(ctx, seen.State, rev, sw)
		if attempt == updateAttempts || !errors.Is(err, ErrConflict) {
			return run, err
		}
	}
}

// open writes a switch into the record: from then on it is finished or undone by someone. That a worker
// gave a sign of life meanwhile is no conflict: the gates may have taken longer than its beat.
func (d *Driver) open(ctx context.Context, st PodState, rev Revision, sw Switch) (*Run, error) {
	for range updateAttempts {
		run, err := d.announce(ctx, st, rev, sw)
		if !errors.Is(err, ErrConflict) {
			return run, err
		}
		now, at, lost := d.o.Control.Get(ctx, st.Pod)
		if lost != nil || !sameButWorker(st, now) {
			return nil, err
		}
		st, rev = now, at
	}
	return nil, fmt.Errorf("announcing the switch of pod %s: %w", st.Pod, ErrConflict)
}

// sameButWorker tells whether two records differ in nothing but their workers' lives.
func sameButWorker(a, b PodState) bool {
	if a.Worker == nil || b.Worker == nil || a.Worker.Driver != b.Worker.Driver {
		return false
	}
	b.Worker = a.Worker
	return reflect.DeepEqual(a, b)
}

func (d *Driver) announce(ctx context.Context, st PodState, rev Revision, sw Switch) (*Run, error) {
	stores, err := d.o.Stores(st.Pod)
	if err != nil {
		return nil, err
	}
	if err := d.acquire(st.Pod); err != nil {
		return nil, err
	}
	st = st.Clone()
	sw.Lead = Lead{Driver: d.o.ID, Beat: firstBeat(rev)}
	sw.Started = d.o.Clock.Now()
	st.Switch, st.Phase = &sw, Switching
	st.seeEpoch(sw.Epoch)
	ctx, cancel := context.WithTimeout(ctx, d.o.Limits.Record)
	defer cancel()
	rev, err = d.o.Control.CompareAndSet(ctx, st.Pod, rev, st)
	if err != nil {
		// If it was written all the same, its heartbeat stands still, and it is taken over.
		d.release(st.Pod)
		return nil, fmt.Errorf("announcing the switch of pod %s: %w", st.Pod, err)
	}
	return &Run{d: d, pod: st.Pod, id: sw.ID, stores: stores, st: st, rev: rev}, nil
}

// Switch moves a pod by one stage and answers when it serves the new one, or the old one again. The
// error is a *GateError when gates stand in the way (the result names them all), a *NotDoneError when it was undone, a *StuckError when that has to wait, a
// *SupersededError after a kill. The work that it leaves is not waited for: see Work.
func (d *Driver) Switch(ctx context.Context, r SwitchRequest) (Result, error) {
	if r.DryRun {
		seen, _, sw, err := d.plan(ctx, r)
		res := Result{Pod: r.Pod, DryRun: true, Stage: seen.State.Stage, Epoch: seen.State.Epoch, Phase: seen.State.Phase}
		res.Change = Change{Kind: sw.Kind, From: sw.From, To: sw.To, FromEpoch: sw.FromEpoch, Epoch: sw.Epoch, Who: r.Who, Why: r.Why, Gates: sw.Gates}
		if sw.Kind != KindUnknown {
			res.Plan = sw.planned()
		}
		var ge *GateError
		if errors.As(err, &ge) {
			res.Refused = ge.Error()
		}
		return res, err
	}
	run, err := d.Begin(ctx, r)
	if err != nil {
		return refused(r, err), err
	}
	return d.drive(ctx, run)
}

// refused is what is known of a switch that was not announced.
func refused(r SwitchRequest, err error) Result {
	res := Result{Pod: r.Pod}
	var ge *GateError
	if errors.As(err, &ge) {
		res.Refused, res.Stage = ge.Error(), ge.From
		res.Change = Change{Kind: KindMove, From: ge.From, To: ge.To, Who: r.Who, Why: r.Why, Gates: ge.Results}
	}
	return res
}

// drive takes a run's steps until its switch is over, or cannot go on.
func (d *Driver) drive(ctx context.Context, r *Run) (Result, error) {
	defer r.Close()
	start := d.o.Clock.Now()
	holds := r.State().Switch.holds()
	err := d.steps(ctx, r)
	res := r.result()
	res.TookMillis = millis(d.o.Clock.Now().Sub(start))
	if holds {
		res.HeldMillis = res.TookMillis
	}
	if err == nil && res.Change.Outcome != Done {
		err = &NotDoneError{Pod: r.pod, Change: res.Change}
	}
	return res, err
}

func (r *Run) result() Result {
	st := r.State()
	res := Result{Pod: r.pod, Stage: st.Stage, Epoch: st.Epoch, Phase: st.Phase, Left: WorkFor(Seen{State: st})}
	if n := len(st.History); n > 0 && st.Switch == nil {
		res.Change = st.History[n-1]
	}
	if sw := st.Switch; sw != nil {
		res.Change = Change{Kind: sw.Kind, From: sw.From, To: sw.To, FromEpoch: sw.FromEpoch, Epoch: sw.Epoch, Who: sw.Who, Why: sw.Why, Cause: sw.Cause, Gates: sw.Gates, Steps: sw.Steps}
	}
	return res
}

func (d *Driver) steps(ctx context.Context, r *Run) error {
	forward, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	beating := d.heartbeat(forward, stop, r.beat)
	defer beating.Wait()
	defer stop(nil)
	bound := d.o.Limits.Finish
	if r.State().Switch.holds() {
		bound = d.o.Limits.Hold
	}
	patient, enough := context.WithTimeout(forward, bound)
	defer enough()
	// What has to be finished or undone goes on after the caller has left, for a while.
	var last context.Context
	for {
		use := patient
		if sw := r.State().Switch; sw.Undo || sw.Step >= NoReturn(*sw) && r.touched {
			if last == nil {
				var cancel context.CancelFunc
				last, cancel = d.detached(ctx, d.o.Limits.Finish)
				defer cancel()
			}
			use = last
		}
		done, err := r.Next(use)
		if done {
			return err
		}
		if err == nil {
			continue
		}
		var se *SupersededError
		if errors.As(err, &se) {
			return err
		}
		if use.Err() != nil || pause(use, d.o.Clock, raisePause) != nil {
			d.rescue(ctx, r)
			return err
		}
	}
}

func (r *Run) beat(ctx context.Context) error {
	return r.commit(ctx, func(st *PodState) { st.Switch.Beat++ })
}

// rescue is for a switch to live that has closed Redis and then lost the control store: nobody serves,
// and nothing can be recorded. It does what a kill does to such a fence, for the same reason:
// whoever reads the record later meets Redis's fence ahead of it. No other closed state is
// opened so, since none could be without a record.
func (d *Driver) rescue(ctx context.Context, r *Run) {
	sw := r.State().Switch
	if sw == nil || !sw.is(backends.Shadow, backends.Live) {
		return
	}
	ctx, cancel := d.detached(ctx, d.o.Limits.Finish)
	defer cancel()
	have, err := readFence(ctx, r.stores.Redis)
	if err != nil || have != closed(fence(sw.Epoch, backends.Shadow, false)) {
		return
	}
	if to, v, _ := DecideKill(r.pod, have); v == KillGo {
		_ = killFence(ctx, r.stores.Redis, have, to) // what is left otherwise is the stuck switch that the caller is told of
	}
}

// heartbeat calls beat at its interval until the context is done. When the record is in other hands
// it stops what is being done.
func (d *Driver) heartbeat(ctx context.Context, stop context.CancelCauseFunc, beat func(context.Context) error) *waiter {
	w := &waiter{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick, end := d.o.Clock.Tick(d.o.Limits.Beat)
		defer end()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick:
			}
			var se *SupersededError
			if err := beat(ctx); errors.As(err, &se) {
				stop(err)
				return
			}
		}
	}()
	return w
}

type waiter struct{ done chan struct{} }

func (w *waiter) Wait() { <-w.done }

// Resume looks for an open switch of the pod whose driver has died, and finishes or undoes it. It
// answers ErrDriverAlive while that cannot be told, and the zero Result when no switch is
// open. A switch from shadow to live that had not reached its last step is undone, since its gates
// were judged in another time; every other is finished if it can be.
func (d *Driver) Resume(ctx context.Context, pod backends.Pod) (Result, error) {
	run, err := d.TakeOver(ctx, pod)
	if run == nil {
		return Result{Pod: pod}, err
	}
	return d.drive(ctx, run)
}

// TakeOver is the first half of Resume: it puts this driver into the record. Nil without an error
// means that no switch is open.
func (d *Driver) TakeOver(ctx context.Context, pod backends.Pod) (*Run, error) {
	seen, rev, err := d.Adopt(ctx, pod)
	if err != nil || seen.State.Switch == nil {
		return nil, err
	}
	stores, err := d.o.Stores(pod)
	if err != nil {
		return nil, err
	}
	if err := d.acquire(pod); err != nil {
		return nil, err
	}
	st := seen.State.Clone()
	sw := st.Switch
	if !d.stale(pod, sw.Lead) {
		d.release(pod)
		return nil, fmt.Errorf("pod %s, driver %s: %w", pod, sw.Driver, ErrDriverAlive)
	}
	if sw.is(backends.Shadow, backends.Live) && !sw.Undo && sw.Step < len(Steps(*sw))-1 {
		sw.turn(st.MaxEpoch+1, "its driver stopped before the switch was through")
		st.seeEpoch(sw.UndoEpoch)
	}
	sw.Lead = Lead{Driver: d.o.ID, Beat: sw.Beat + 1}
	ctx, cancel := context.WithTimeout(ctx, d.o.Limits.Record)
	defer cancel()
	rev, err = d.o.Control.CompareAndSet(ctx, pod, rev, st)
	if err != nil {
		d.release(pod)
		return nil, fmt.Errorf("taking over the switch of pod %s: %w", pod, err)
	}
	return &Run{d: d, pod: pod, id: sw.ID, stores: stores, touched: true, st: st, rev: rev}, nil
}

// Init writes the first record of a pod. Where the stores have fences already (the record was lost, or
// is kept elsewhere since), it adopts what they say and stage is not used; else it sets the fences
// to stage. Both stores must answer: one that does not may be the truth.
func (d *Driver) Init(ctx context.Context, pod backends.Pod, stage backends.Stage, who, why string) (Result, error) {
	if err := CheckWhoWhy(who, why); err != nil {
		return Result{Pod: pod}, err
	}
	if err := backends.CheckID("pod", string(pod)); err != nil {
		return Result{Pod: pod}, err
	}
	seen, rev, err := d.Adopt(ctx, pod)
	if err != nil {
		return Result{Pod: pod}, err
	}
	if st := seen.State; st.Epoch > 0 || st.Switch != nil {
		return Result{Pod: pod, Stage: st.Stage, Epoch: st.Epoch, Phase: st.Phase, Left: WorkFor(seen)}, nil
	}
	for _, side := range []backends.Side{backends.SideRedis, backends.SideMySQL} {
		if v := seen.of(side); !v.Known {
			return Result{Pod: pod}, fmt.Errorf("pod %s cannot be set up while %s does not answer: %s: %w", pod, side, v.Why, backends.ErrUnavailable)
		}
	}
	if stage < backends.RedisOnly || stage > backends.MySQLOnly {
		return Result{Pod: pod}, &backends.FieldError{Field: "stage", Value: stage.String(), Bound: "redis-only, shadow, live or mysql-only", Next: "name the stage in which the pod begins"}
	}
	st, err := d.numbered(ctx, seen.State)
	if err != nil {
		return Result{Pod: pod}, err
	}
	seen.State = st
	sw := seen.begin(KindInit, stage)
	sw.Who, sw.Why = who, why
	run, err := d.open(ctx, st, rev, sw)
	if err != nil {
		return Result{Pod: pod}, err
	}
	return d.drive(ctx, run)
}

// numbered gives a fresh record the last line of a history that outlived the one before it, so that
// its changes are numbered onwards.
func (d *Driver) numbered(ctx context.Context, st PodState) (PodState, error) {
	last, err := d.o.Control.History(ctx, st.Pod, 0, 1)
	if err != nil {
		return st, err
	}
	if len(st.History) == 0 {
		st.History = last
	}
	return st, nil
}

// Reissue gives a pod whose Redis has lost its fence (and perhaps its data) a new one, on an operator's
// word. In live and mysql-only Redis is then filled from MySQL; in redis-only and shadow it decides
// on what it has.
func (d *Driver) Reissue(ctx context.Context, pod backends.Pod, who, why string) (Result, error) {
	if err := CheckWhoWhy(who, why); err != nil {
		return Result{Pod: pod}, err
	}
	seen, rev, err := d.Adopt(ctx, pod)
	if err != nil {
		return Result{Pod: pod}, err
	}
	return d.realign(ctx, seen, rev, who, why)
}

// realign acts on what was seen, and on nothing else: what has changed since then fails at the record or at Redis's fence.
func (d *Driver) realign(ctx context.Context, seen Seen, rev Revision, who, why string) (Result, error) {
	st := seen.State
	pod := st.Pod
	if st.Switch != nil {
		return Result{Pod: pod}, &OpenSwitchError{Pod: pod, Switch: *st.Switch}
	}
	if st.Epoch == 0 {
		return Result{Pod: pod}, &backends.FieldError{Field: "pod", Value: fmt.Sprintf("%.80q", pod), Bound: "a pod that has been set up", Next: "see 'crossfade pods'"}
	}
	sw := seen.begin(KindRealign, st.Stage)
	sw.Who, sw.Why = who, why
	if err := sw.needs(seen); err != nil {
		return Result{Pod: pod}, err
	}
	run, err := d.open(ctx, st, rev, sw)
	if err != nil {
		return Result{Pod: pod}, err
	}
	return d.drive(ctx, run)
}

// bounded is a context for one call of a store.
func (d *Driver) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d.o.Limits.Raise)
}
