package rollout

import (
	"context"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// PhaseError: a rollout is not in a phase in which what was asked for means anything.
type PhaseError struct {
	Number uint64
	Phase  Phase
	What   string
	Next   string
}

func (e *PhaseError) Error() string {
	if e.Number == 0 {
		return fmt.Sprintf("there is no rollout to %s; %s", e.What, e.Next)
	}
	return fmt.Sprintf("rollout %d is %s and cannot be %s; %s", e.Number, e.Phase, e.What, e.Next)
}

// Overview is what there is.
type Overview struct {
	Current *State    `json:"current,omitempty"`
	Past    []Summary `json:"past,omitempty"`
}

// Read answers the present rollout, or the last one, and those before it, oldest first.
func Read(ctx context.Context, docs killswitch.Documents) (Overview, error) {
	d, _, _, err := load(ctx, docs)
	return Overview{Current: d.Current, Past: d.Past}, err
}

// Start plans a rollout and begins it; with dry it answers the plan and writes nothing. It is refused while another one has not
// ended.
func Start(ctx context.Context, docs killswitch.Documents, fleet Fleet, r Request, dry bool, now time.Time) (*State, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if _, err := parseSelect(r.Select); err != nil {
		return nil, err
	}
	pods, err := fleet.Pods(ctx, r.Order == ByTraffic)
	if err != nil {
		return nil, err
	}
	var planned *State
	err = change(ctx, docs, func(d *document) error {
		number := uint64(1)
		if c := d.Current; c != nil {
			if !c.Phase.Ended() && !dry {
				return &PhaseError{Number: c.Number, Phase: c.Phase, What: "followed by another", Next: "wait for it, or end it with 'crossfade rollout abort'"}
			}
			number = c.Number + 1
		}
		if planned, err = Plan(r, pods, number, now); err != nil || dry {
			return err
		}
		if d.Current != nil {
			d.Past = append(d.Past, d.Current.summary())
			if n := len(d.Past); n > MaxPast {
				d.Past = d.Past[n-MaxPast:]
			}
		}
		d.Current = planned
		return nil
	})
	if err != nil {
		return nil, err
	}
	return planned, nil
}

// Pause stops a rollout from moving further pods, after the one that is being moved.
func Pause(ctx context.Context, docs killswitch.Documents, who, why string, now time.Time) (*State, error) {
	return command(ctx, docs, who, why, "paused", func(s *State) bool {
		if s.Phase != Running {
			return false
		}
		s.Phase, s.Cause = Paused, killswitch.Clip(why)
		s.event(now, who, "paused: "+why, "")
		return true
	}, nil)
}

// Resume lets one go on that was paused, or that has halted; then its wave soaks anew. Pods to skip are left out; they must
// not have been moved yet.
func Resume(ctx context.Context, docs killswitch.Documents, skip []backends.Pod, who, why string, now time.Time) (*State, error) {
	var bad error
	s, err := command(ctx, docs, who, why, "resumed", func(s *State) bool {
		if bad = nil; s.Phase != Paused && s.Phase != Halted {
			return false
		}
		for _, pod := range skip {
			p := s.find(pod)
			if p == nil || p.Place != Waiting && p.Place != LeftOut {
				bad = &backends.FieldError{Field: "skip", Value: fmt.Sprintf("%.80q", pod), Bound: "pods of the rollout that wait", Next: "see 'crossfade rollout status'"}
				return true
			}
			p.Place = LeftOut
			s.event(now, who, "left out", pod)
		}
		if s.Phase == Halted {
			s.SoakedMillis = 0
		}
		s.Phase, s.Cause, s.Lead = Running, "", killswitch.Lead{Beat: s.Beat}
		s.event(now, who, "resumed: "+why, "")
		return true
	}, &bad)
	return s, err
}

// Abort ends one. Pods that were moved stay where they are; the one that is being moved is finished or undone by its switch.
func Abort(ctx context.Context, docs killswitch.Documents, who, why string, now time.Time) (*State, error) {
	return command(ctx, docs, who, why, "aborted", func(s *State) bool {
		if s.Phase.Ended() {
			return false
		}
		s.end(now, who, Aborted, why)
		return true
	}, nil)
}

// command changes the present rollout. What fn finds wrong it puts into bad, and then nothing is changed.
func command(ctx context.Context, docs killswitch.Documents, who, why, what string, fn func(*State) bool, bad *error) (*State, error) {
	if err := killswitch.CheckWhoWhy(who, why); err != nil {
		return nil, err
	}
	var out *State
	err := change(ctx, docs, func(d *document) error {
		if d.Current == nil {
			return &PhaseError{What: what, Next: "begin one with 'crossfade rollout start'"}
		}
		if !fn(d.Current) {
			return &PhaseError{Number: d.Current.Number, Phase: d.Current.Phase, What: what, Next: "see 'crossfade rollout status'"}
		}
		out = d.Current
		if bad != nil {
			return *bad
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Back lists the commands that take the moved pods back, newest first: for a person to read and run.
func (s *State) Back() []string {
	var out []string
	for i := len(s.Pods) - 1; i >= 0; i-- {
		if p := &s.Pods[i]; p.Place == Moved {
			out = append(out, fmt.Sprintf("crossfade stage %s %s --why …", p.Pod, s.From))
		}
	}
	return out
}
