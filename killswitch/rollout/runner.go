package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// conflicts bounds the retries of a change against others' changes.
const conflicts = 16

// Options of a runner.
type Options struct {
	// ID must be unique to this start of this process: see killswitch.NewDriverID.
	ID        string
	Documents killswitch.Documents
	Fleet     Fleet
	Clock     killswitch.Clock
	Timing    Timing
	// Report gets what becomes of each round: nil, or what went wrong; may be nil.
	Report func(error)
}

// Runner carries on whatever rollout there is. Every proxy has one.
type Runner struct {
	o Options
	t Timing

	// What follows belongs to the goroutine of Run.
	lead    killswitch.Lead            // the last that was seen
	leadAt  time.Time                  // since when
	counted time.Time                  // until when soaking was counted; zero: not soaking
	watched time.Time                  // when the moved pods were last looked at
	unwell  map[backends.Pod]time.Time // since when a pod that was moved is not well
	busy    map[backends.Pod]time.Time // since when a pod could not be moved for being busy
}

// NewRunner makes one; Run runs it.
func NewRunner(o Options) *Runner {
	if o.Clock == nil {
		o.Clock = killswitch.SystemClock{}
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	return &Runner{o: o, t: o.Timing.withDefaults(), unwell: map[backends.Pod]time.Time{}, busy: map[backends.Pod]time.Time{}}
}

// Run works until the context is done.
func (r *Runner) Run(ctx context.Context) {
	tick, stop := r.o.Clock.Tick(r.t.Beat)
	defer stop()
	for {
		err := r.Round(ctx)
		if ctx.Err() == nil {
			r.o.Report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}

// Round does what is to be done now, if this process leads: at most one pod is moved.
func (r *Runner) Round(ctx context.Context) error {
	d, err := r.read(ctx)
	if err != nil {
		return err
	}
	s := d.Current
	if s == nil || s.Phase != Running || !r.o.Fleet.Serves(s.Names()) {
		r.forget()
		return nil
	}
	if !r.mine(s) {
		r.counted = time.Time{}
		return nil
	}
	if s, err = r.beat(ctx, s.Number); err != nil || s == nil {
		return err
	}
	step := s.Next()
	if step.Action == NextWave || step.Action == Finish {
		r.watched = time.Time{} // what happened at the very end of the soaking counts, too
	}
	if halted, err := r.watch(ctx, s); halted || err != nil {
		return err
	}
	switch step.Action {
	case Move:
		r.counted = time.Time{}
		if len(r.unwell) > 0 {
			return nil // in doubt it does not go on
		}
		return r.move(ctx, s, step.Pod)
	case Soak:
		return r.soak(ctx, s)
	case NextWave:
		r.counted = time.Time{}
		if len(r.unwell) > 0 {
			return nil
		}
		return r.change(ctx, s.Number, func(s *State) {
			if s.Next().Action != NextWave {
				return
			}
			s.Wave++
			s.SoakedMillis = 0
			s.event(r.now(), r.o.ID, fmt.Sprintf("wave %d of %d", s.Wave, s.Waves), "")
		})
	case Finish:
		if len(r.unwell) > 0 {
			return nil
		}
		return r.change(ctx, s.Number, func(s *State) {
			if s.Next().Action == Finish {
				s.end(r.now(), r.o.ID, Completed, "")
			}
		})
	default:
		return nil
	}
}

func (r *Runner) now() time.Time { return r.o.Clock.Now() }

func (r *Runner) forget() {
	r.counted, r.watched = time.Time{}, time.Time{}
	clear(r.unwell)
	clear(r.busy)
}

func (r *Runner) read(ctx context.Context) (document, error) {
	d, _, _, err := load(ctx, r.o.Documents)
	return d, err
}

// mine tells whether this process leads, or may take the lead.
func (r *Runner) mine(s *State) bool {
	if s.Driver == r.o.ID || s.Driver == "" {
		return true
	}
	if s.Lead != r.lead {
		r.lead, r.leadAt = s.Lead, r.now()
		return false
	}
	return r.now().Sub(r.leadAt) >= r.t.Takeover
}

// beat shows that this process leads. Nil: the rollout does not go on.
func (r *Runner) beat(ctx context.Context, number uint64) (*State, error) {
	var out *State
	err := r.change(ctx, number, func(s *State) {
		if s.Phase != Running || !r.mine(s) {
			out = nil
			return
		}
		if s.Driver != r.o.ID {
			s.event(r.now(), r.o.ID, "took the lead", "")
		}
		s.Lead = killswitch.Lead{Driver: r.o.ID, Beat: s.Beat + 1}
		out = s
	})
	if out != nil {
		out = out.clone()
	}
	return out, err
}

// change changes the rollout of that number, again when others change it meanwhile. fn may be called several times.
func (r *Runner) change(ctx context.Context, number uint64, fn func(*State)) error {
	return change(ctx, r.o.Documents, func(d *document) error {
		if d.Current == nil || d.Current.Number != number {
			return nil
		}
		fn(d.Current)
		return nil
	})
}

// change changes the document by compare-and-set. What fn leaves as it was is not written.
func change(ctx context.Context, docs killswitch.Documents, fn func(*document) error) error {
	for range conflicts {
		d, b, rev, err := load(ctx, docs)
		if err != nil {
			return err
		}
		if err := fn(&d); err != nil {
			return err
		}
		next, err := json.Marshal(d)
		if err != nil {
			return err
		}
		if string(next) == string(b) {
			return nil
		}
		if _, err = docs.SetDocument(ctx, DocumentName, rev, next); !errors.Is(err, killswitch.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("the rollout: %w", killswitch.ErrConflict)
}

// move moves one pod, or sees that it was moved.
func (r *Runner) move(ctx context.Context, s *State, pod backends.Pod) error {
	where, err := r.o.Fleet.Where(ctx, pod)
	if err != nil {
		return r.wait(ctx, s, pod, "cannot be looked at: "+err.Error())
	}
	switch {
	case where.Switching:
		return r.wait(ctx, s, pod, "is in the middle of a switch")
	case where.Stage == s.To:
		return r.moved(ctx, s, pod, where.Epoch, 0)
	case where.Stage != s.From:
		return r.halt(ctx, s, pod, fmt.Sprintf("pod %s is in %s, neither in %s nor in %s", pod, where.Stage, s.From, s.To))
	}
	if err := r.change(ctx, s.Number, func(s *State) {
		if p := s.find(pod); p != nil && s.Phase == Running && s.Driver == r.o.ID {
			p.Place = Moving
		}
	}); err != nil {
		return err
	}
	// Who asked for a pause, and whether another leads by now, is read again at the last moment before.
	if d, err := r.read(ctx); err != nil || d.Current == nil || d.Current.Number != s.Number || d.Current.Phase != Running || d.Current.Driver != r.o.ID {
		return err
	}
	res, err := r.switching(ctx, s, pod)
	switch {
	case err == nil:
		return r.moved(ctx, s, pod, res.Epoch, res.HeldMillis)
	case ctx.Err() != nil:
		return ctx.Err() // the next leader looks where the pod is
	case transient(err):
		return r.wait(ctx, s, pod, err.Error())
	default:
		return r.halt(ctx, s, pod, err.Error())
	}
}

// switching moves a pod, with signs of life meanwhile.
func (r *Runner) switching(ctx context.Context, s *State, pod backends.Pod) (killswitch.Result, error) {
	beating, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick, end := r.o.Clock.Tick(r.t.Beat)
		defer end()
		for {
			select {
			case <-beating.Done():
				return
			case <-tick:
			}
			_ = r.change(beating, s.Number, func(s *State) {
				if s.Driver == r.o.ID {
					s.Beat++
				}
			}) // a beat that fails is one beat less
		}
	}()
	defer func() { stop(); <-done }()
	return r.o.Fleet.Switch(ctx, pod, s.To, s.Who, fmt.Sprintf("rollout %d: %s", s.Number, s.Why))
}

// transient tells whether the same may work in a moment: nothing was begun.
func transient(err error) bool {
	var open *killswitch.OpenSwitchError
	var due *killswitch.WorkDueError
	return errors.Is(err, killswitch.ErrBusy) || errors.Is(err, killswitch.ErrDriverAlive) || errors.Is(err, killswitch.ErrConflict) ||
		errors.Is(err, killswitch.ErrControlUnavailable) || errors.As(err, &open) || errors.As(err, &due)
}

// wait leaves a pod for the next round, as long as patience lasts.
func (r *Runner) wait(ctx context.Context, s *State, pod backends.Pod, why string) error {
	since, was := r.busy[pod]
	if !was {
		r.busy[pod] = r.now()
		return nil
	}
	if r.now().Sub(since) < r.t.Patience {
		return nil
	}
	return r.halt(ctx, s, pod, fmt.Sprintf("pod %s could not be moved for %s: %s", pod, r.t.Patience, why))
}

func (r *Runner) halt(ctx context.Context, s *State, pod backends.Pod, cause string) error {
	delete(r.busy, pod)
	return r.change(ctx, s.Number, func(s *State) {
		if p := s.find(pod); p != nil && p.Place == Moving {
			p.Place = Waiting
		}
		s.halt(r.now(), r.o.ID, cause, pod)
	})
}

func (r *Runner) moved(ctx context.Context, s *State, pod backends.Pod, epoch uint64, held float64) error {
	delete(r.busy, pod)
	return r.change(ctx, s.Number, func(s *State) {
		p := s.find(pod)
		if p == nil || p.Place == Moved || p.Place == LeftOut {
			return
		}
		p.Place, p.Epoch, p.At, p.HeldMillis = Moved, epoch, r.now(), held
		s.event(r.now(), r.o.ID, "moved to "+s.To.String(), pod)
	})
}

// watch looks at the pods that were moved, and halts the rollout where one of them makes it.
func (r *Runner) watch(ctx context.Context, s *State) (halted bool, err error) {
	now := r.now()
	if !r.watched.IsZero() && now.Sub(r.watched) < r.t.Watch {
		return false, nil
	}
	r.watched = now
	for i := range s.Pods {
		p := &s.Pods[i]
		if p.Place != Moved {
			continue
		}
		where, err := r.o.Fleet.Where(ctx, p.Pod)
		if err == nil && !where.Switching && where.Stage != s.To {
			return true, r.takenBack(ctx, s, p.Pod, where)
		}
		what := ""
		if err != nil {
			what = "it cannot be looked at: " + err.Error()
		} else {
			what = failing(r.o.Fleet.Well(ctx, p.Pod))
		}
		if what == "" {
			delete(r.unwell, p.Pod)
			continue
		}
		since, was := r.unwell[p.Pod]
		if !was {
			since = now
			r.unwell[p.Pod] = now
		}
		if long := now.Sub(since); long >= r.t.Patience {
			delete(r.unwell, p.Pod)
			return true, r.halt(ctx, s, p.Pod, fmt.Sprintf("pod %s has not been well for %s: %s", p.Pod, long.Round(time.Second), what))
		}
	}
	return false, nil
}

// takenBack halts for a pod that somebody else has moved, which is most likely a kill. It is not moved again.
func (r *Runner) takenBack(ctx context.Context, s *State, pod backends.Pod, where Where) error {
	delete(r.unwell, pod)
	return r.change(ctx, s.Number, func(s *State) {
		if p := s.find(pod); p != nil {
			p.Place = LeftOut
		}
		s.halt(r.now(), r.o.ID, fmt.Sprintf("pod %s was taken to %s (epoch %d) by somebody else; see 'crossfade history %s'", pod, where.Stage, where.Epoch, pod), pod)
	})
}

func failing(gates []killswitch.GateResult) string {
	var parts []string
	for _, g := range gates {
		if g.Stands() {
			parts = append(parts, g.String())
		}
	}
	return strings.Join(parts, "; ")
}

// soak counts the time in which all pods that were moved were well. What passes while one is not does not count, nor
// does what passed before this process led; a round that came late counts for two beats at most.
func (r *Runner) soak(ctx context.Context, s *State) error {
	now := r.now()
	before := r.counted
	r.counted = now
	if len(r.unwell) > 0 || before.IsZero() {
		return nil
	}
	passed := min(now.Sub(before), 2*r.t.Beat).Milliseconds()
	return r.change(ctx, s.Number, func(s *State) {
		if s.Phase == Running && s.Driver == r.o.ID {
			s.SoakedMillis = min(s.SoakedMillis+passed, s.SoakMillis)
		}
	})
}
