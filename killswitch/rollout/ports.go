package rollout

import (
	"context"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// DocumentName is the name of the document that has the rollouts.
const DocumentName = "rollout"

// Fleet is what a process can do for the pods that it serves.
type Fleet interface {
	// Pods lists those that this process serves; their traffic is measured where it is asked for.
	Pods(ctx context.Context, traffic bool) ([]Candidate, error)
	// Serves tells whether this process serves all of them.
	Serves(pods []backends.Pod) bool
	// Where tells what a pod serves, by its record and its fences: the zero fence while nothing can be acknowledged.
	Where(ctx context.Context, pod backends.Pod) (Where, error)
	// Switch moves a pod by one stage, as killswitch.Driver.Switch does.
	Switch(ctx context.Context, pod backends.Pod, to backends.Stage, who, why string) (killswitch.Result, error)
	// Well judges a pod that was moved, by the gates that say whether a pod in its stage goes as it should.
	Well(ctx context.Context, pod backends.Pod) []killswitch.GateResult
}

// Where is where a pod is.
type Where struct {
	Stage     backends.Stage
	Epoch     uint64
	Switching bool
}

// Timing of a runner. Zero fields have the defaults.
type Timing struct {
	// Beat is how often the leader works and shows that it is alive.
	Beat time.Duration
	// Takeover is how long another leader's sign of life has to stand still.
	Takeover time.Duration
	// Watch is how often the pods that were moved are looked at.
	Watch time.Duration
	// Patience is how long a pod may be unwell, or out of sight, before that halts the rollout; and how long a pod that is
	// busy (work of an earlier switch, another driver) is waited for.
	Patience time.Duration
}

// Defaults of Timing. A second's beat is what a person who watches sees as at once; six of them are a death, as for
// switches. A pod that is unwell for half a minute is more than a hiccup of the machine.
const (
	DefaultBeat     = time.Second
	DefaultTakeover = 6 * time.Second
	DefaultWatch    = 5 * time.Second
	DefaultPatience = 30 * time.Second
)

func (t Timing) withDefaults() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&t.Beat, DefaultBeat)
	def(&t.Takeover, DefaultTakeover)
	def(&t.Watch, DefaultWatch)
	def(&t.Patience, DefaultPatience)
	return t
}
