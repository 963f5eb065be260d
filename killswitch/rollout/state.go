package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Bounds of a rollout.
const (
	// MaxPods bounds the pods of one rollout, so that its record stays well below what control stores take.
	MaxPods = 1000
	// MaxWaves bounds the waves that can be asked for.
	MaxWaves = 32
	// MaxSoak bounds the watching after each wave.
	MaxSoak = 7 * 24 * time.Hour
	// MaxEvents is how many events a record keeps.
	MaxEvents = 64
	// MaxPast is how many rollouts that have ended are kept.
	MaxPast = 32
)

// Phase is what a rollout is doing.
type Phase string

// The phases. A record without a rollout has none.
const (
	Running   Phase = "running"
	Paused    Phase = "paused"    // by a person
	Halted    Phase = "halted"    // by itself: Cause says why
	Aborted   Phase = "aborted"   // by a person, for good
	Completed Phase = "completed" // every pod was moved and has soaked
)

// Ended tells whether nothing more will happen.
func (p Phase) Ended() bool { return p == Aborted || p == Completed }

// Place is how far a pod has come.
type Place string

// The places.
const (
	Waiting Place = "waiting"
	Moving  Place = "moving" // its switch was begun, or is about to be
	Moved   Place = "moved"
	// LeftOut: it is not moved, or not any more: a person said so, or has taken it back.
	LeftOut Place = "left out"
)

// Pod is one pod of a rollout.
type Pod struct {
	Pod   backends.Pod `json:"pod"`
	Wave  int          `json:"wave"` // from 1
	Place Place        `json:"place"`
	// Traffic is its decisions in an hour, as measured when the rollout was started; what orders it.
	Traffic float64 `json:"traffic"`
	// Epoch is the one under which it was moved.
	Epoch uint64    `json:"epoch,omitempty"`
	At    time.Time `json:"at,omitzero"`
	// HeldMillis is how long its callers had to wait.
	HeldMillis float64 `json:"held_ms,omitempty"`
}

// Event is one thing that happened.
type Event struct {
	At   time.Time    `json:"at"`
	Who  string       `json:"who"`
	What string       `json:"what"`
	Pod  backends.Pod `json:"pod,omitempty"`
}

// State is a rollout.
type State struct {
	// Number tells rollouts apart, from 1.
	Number  uint64         `json:"number"`
	From    backends.Stage `json:"from"`
	To      backends.Stage `json:"to"`
	Select  string         `json:"select"`
	Who     string         `json:"who"`
	Why     string         `json:"why"`
	Started time.Time      `json:"started"`
	Ended   time.Time      `json:"ended,omitzero"`
	Phase   Phase          `json:"phase"`
	Cause   string         `json:"cause,omitempty"`
	// Pods are in the order in which they are moved; their waves never descend.
	Pods []Pod `json:"pods"`
	// Waves is how many there are, Wave the present one, from 1.
	Waves int `json:"waves"`
	Wave  int `json:"wave"`
	// SoakMillis is how long each wave is watched, SoakedMillis how long the present one has been.
	SoakMillis   int64 `json:"soak_ms"`
	SoakedMillis int64 `json:"soaked_ms"`
	killswitch.Lead
	Events []Event `json:"events,omitempty"`
}

// Summary is what is kept of a rollout that has ended.
type Summary struct {
	Number  uint64         `json:"number"`
	From    backends.Stage `json:"from"`
	To      backends.Stage `json:"to"`
	Phase   Phase          `json:"phase"`
	Cause   string         `json:"cause,omitempty"`
	Moved   int            `json:"moved"`
	Pods    int            `json:"pods"`
	Who     string         `json:"who"`
	Why     string         `json:"why"`
	Started time.Time      `json:"started"`
	Ended   time.Time      `json:"ended"`
}

// document is what the control store keeps.
type document struct {
	Format  int       `json:"format"`
	Current *State    `json:"current,omitempty"`
	Past    []Summary `json:"past,omitempty"` // oldest first
}

const format = 1

// load reads the document: what it says, as it is written, and at which revision.
func load(ctx context.Context, docs killswitch.Documents) (d document, written []byte, rev killswitch.Revision, err error) {
	if written, rev, err = docs.Document(ctx, DocumentName); err != nil {
		return document{}, nil, 0, err
	}
	d, err = parse(written)
	return d, written, rev, err
}

func parse(b []byte) (document, error) {
	var d document
	if len(b) == 0 {
		return document{Format: format}, nil
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return d, fmt.Errorf("%w: the rollout: %w", killswitch.ErrControlDamaged, err)
	}
	if d.Format != format {
		return d, fmt.Errorf("%w: the rollout has format %d, and this version of Crossfade knows %d; use a newer version", killswitch.ErrControlDamaged, d.Format, format)
	}
	return d, nil
}

// Moved counts the pods that were moved.
func (s *State) Moved() int {
	n := 0
	for i := range s.Pods {
		if s.Pods[i].Place == Moved {
			n++
		}
	}
	return n
}

// Names are the pods, in their order.
func (s *State) Names() []backends.Pod {
	out := make([]backends.Pod, len(s.Pods))
	for i := range s.Pods {
		out[i] = s.Pods[i].Pod
	}
	return out
}

func (s *State) find(pod backends.Pod) *Pod {
	if i := slices.IndexFunc(s.Pods, func(p Pod) bool { return p.Pod == pod }); i >= 0 {
		return &s.Pods[i]
	}
	return nil
}

func (s *State) clone() *State {
	c := *s
	c.Pods, c.Events = slices.Clone(s.Pods), slices.Clone(s.Events)
	return &c
}

// event notes what happened.
func (s *State) event(at time.Time, who, what string, pod backends.Pod) {
	s.Events = append(s.Events, Event{At: at, Who: killswitch.Clip(who), What: killswitch.Clip(what), Pod: pod})
	if n := len(s.Events); n > MaxEvents {
		s.Events = s.Events[n-MaxEvents:]
	}
}

// Action is what is to be done next.
type Action uint8

// The actions. The zero value is none.
const (
	Nothing  Action = iota
	Move            // Step.Pod
	Soak            // watch the pods that were moved, for what is left of the wave's time
	NextWave        // the present one has soaked
	Finish          // so has the last one
)

// Step is an action.
type Step struct {
	Action Action
	Pod    backends.Pod
}

// Next is what is to be done now. It follows from the record alone.
func (s *State) Next() Step {
	if s.Phase != Running {
		return Step{}
	}
	for i := range s.Pods {
		if p := &s.Pods[i]; p.Wave <= s.Wave && (p.Place == Waiting || p.Place == Moving) {
			return Step{Action: Move, Pod: p.Pod}
		}
	}
	switch {
	case s.SoakedMillis < s.SoakMillis:
		return Step{Action: Soak}
	case s.Wave < s.Waves:
		return Step{Action: NextWave}
	default:
		return Step{Action: Finish}
	}
}

// halt stops a rollout that goes on.
func (s *State) halt(at time.Time, who, cause string, pod backends.Pod) {
	if s.Phase != Running && s.Phase != Paused {
		return
	}
	s.Phase, s.Cause = Halted, killswitch.Clip(cause)
	s.event(at, who, "halted: "+cause, pod)
}

// end closes it.
func (s *State) end(at time.Time, who string, p Phase, cause string) {
	s.Phase, s.Cause, s.Ended = p, killswitch.Clip(cause), at
	s.event(at, who, string(p), "")
}

func (s *State) summary() Summary {
	return Summary{Number: s.Number, From: s.From, To: s.To, Phase: s.Phase, Cause: s.Cause, Moved: s.Moved(), Pods: len(s.Pods), Who: s.Who, Why: s.Why, Started: s.Started, Ended: s.Ended}
}
