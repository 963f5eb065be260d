package killswitch

import (
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds of a record. It is read at every poll and sent to every watcher: it stays at a few kB.
const (
	// MaxHistory is how many changes a record carries; the full history is apart from it. It is
	// also how many changes may go by before one that could not be appended there is missed.
	MaxHistory = 20
	// MaxText bounds who, why and every cause, in bytes.
	MaxText = 500
	// MaxSteps bounds the step reports of one change; the longest plan with its undo has ten.
	MaxSteps = 32
)

// Phase is what a pod is doing.
type Phase uint8

// The phases. The zero value is unknown.
const (
	PhaseUnknown Phase = iota
	Serving            // nothing is going on
	Switching          // a switch is open
	Filling            // live, while Redis is being filled after mysql-only
)

var phaseNames = [...]string{"unknown", "serving", "switching", "filling"}

func (p Phase) String() string { return name(phaseNames[:], int(p)) }

// MarshalText carries a phase by its name.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (p *Phase) UnmarshalText(b []byte) error { return parse(phaseNames[:], b, "phase", p) }

// Kind is what kind of change a switch or a [Change] is.
type Kind uint8

// The kinds.
const (
	KindUnknown Kind = iota
	KindInit         // the pod's first record
	KindMove         // one stage onwards or back, as asked for
	KindFill         // filling is complete: Redis becomes the arbiter of live
	KindRealign      // the same stage under a new epoch, so that both fences agree again
	KindKill         // by compare-and-set in Redis
	KindAdopt        // the fences were ahead of the record
)

var kindNames = [...]string{"unknown", "init", "move", "fill", "realign", "kill", "adopt"}

func (k Kind) String() string { return name(kindNames[:], int(k)) }

// MarshalText carries a kind by its name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (k *Kind) UnmarshalText(b []byte) error { return parse(kindNames[:], b, "kind of change", k) }

// Outcome is how a change ended.
type Outcome uint8

// The outcomes. The zero value is unknown and never a success.
const (
	OutcomeUnknown Outcome = iota
	Done                   // as asked for
	Undone                 // taken back to the stage that it came from, under a new epoch
	Cancelled              // given up before any fence was touched
)

var outcomeNames = [...]string{"unknown", "done", "undone", "cancelled"}

func (o Outcome) String() string { return name(outcomeNames[:], int(o)) }

// MarshalText carries an outcome by its name.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (o *Outcome) UnmarshalText(b []byte) error { return parse(outcomeNames[:], b, "outcome", o) }

// PodState is what the control store knows of one pod.
type PodState struct {
	Pod backends.Pod `json:"pod"`
	// Stage, Epoch and Filled are those that the pod serves, or served before the open switch.
	Stage  backends.Stage `json:"stage"`
	Epoch  uint64         `json:"epoch"`
	Filled bool           `json:"filled"` // matters in live: Redis is complete and arbitrates
	// Alone is the fence's flag of that name.
	Alone bool  `json:"alone,omitempty"`
	Phase Phase `json:"phase"`
	// MaxEpoch is the highest epoch ever planned for the pod, whatever became of it.
	MaxEpoch uint64 `json:"max_epoch"`
	// Switch is the open one; nil when there is none.
	Switch *Switch `json:"switch,omitempty"`
	// Due is work that the record alone remembers; [WorkFor] adds what the fences tell.
	Due []Work `json:"due,omitempty"`
	// Worker does the due work at present.
	Worker *Lead `json:"worker,omitempty"`
	// RedisBehind says whether answers may be given without Redis; nil when they may not.
	RedisBehind *RedisBehind `json:"redis_behind,omitempty"`
	Who         string       `json:"who"`
	Why         string       `json:"why"`
	Since       time.Time    `json:"since"`
	// History is the newest changes, oldest first, at most MaxHistory.
	History []Change `json:"history,omitempty"`
}

// Lead says who carries something on, and that it is alive: Beat grows while it is.
type Lead struct {
	Driver string `json:"driver"`
	Beat   uint64 `json:"beat"`
}

// Switch is the record of an open switch. Its steps follow from Kind, From, To and the epochs.
type Switch struct {
	ID   uint64         `json:"id"` // unique within the pod
	Kind Kind           `json:"kind"`
	From backends.Stage `json:"from"`
	To   backends.Stage `json:"to"`
	// FromEpoch, FromFilled and FromAlone are what was served before; Epoch is the target.
	FromEpoch  uint64 `json:"from_epoch"`
	FromFilled bool   `json:"from_filled"`
	FromAlone  bool   `json:"from_alone,omitempty"`
	Epoch      uint64 `json:"epoch"`
	// Alone: where Redis arbitrates at the target, MySQL may answer without it once the pod is marked.
	Alone bool `json:"alone,omitempty"`
	// RedisWas is Redis's fence as it was when the switch began: what its first move expects.
	RedisWas backends.Fence `json:"redis_was"`
	// Complete: before, each store was known to have what the other one has.
	Complete bool `json:"complete,omitempty"`
	// Step is the step that is being taken, by its place in Steps, or in UndoSteps once Undo.
	Step int    `json:"step"`
	Name string `json:"name"` // the step's name, for people
	// Undo: the switch is being taken back, to From under UndoEpoch, from the step UndoneAt.
	Undo      bool   `json:"undo,omitempty"`
	UndoEpoch uint64 `json:"undo_epoch,omitempty"`
	UndoneAt  int    `json:"undone_at,omitempty"`
	Cause     string `json:"cause,omitempty"`
	Lead
	Started time.Time    `json:"started"`
	Who     string       `json:"who"`
	Why     string       `json:"why"`
	Gates   []GateResult `json:"gates,omitempty"`
	Steps   []StepDone   `json:"steps,omitempty"` // steps done, oldest first
}

// StepDone reports one step that was taken.
type StepDone struct {
	Name string `json:"name"`
	// TookMillis is how long it took its driver, in milliseconds with fractions.
	TookMillis float64 `json:"took_ms"`
	// Note tells what a best-effort step could not do, or what it found.
	Note string `json:"note,omitempty"`
}

// Change is one line of a pod's history.
type Change struct {
	// Seq numbers the changes of a pod from 1.
	Seq       uint64         `json:"seq"`
	At        time.Time      `json:"at"`
	Kind      Kind           `json:"kind"`
	Outcome   Outcome        `json:"outcome"`
	From      backends.Stage `json:"from"`
	To        backends.Stage `json:"to"`
	FromEpoch uint64         `json:"from_epoch"`
	Epoch     uint64         `json:"epoch"` // served since then
	Who       string         `json:"who"`
	Why       string         `json:"why"`
	Cause     string         `json:"cause,omitempty"` // why it did not end as asked for
	Gates     []GateResult   `json:"gates,omitempty"`
	Steps     []StepDone     `json:"steps,omitempty"`
}

// Fence is the open fence that a pod in this state serves under.
func (s PodState) Fence() backends.Fence {
	return backends.Fence{Epoch: s.Epoch, Stage: s.Stage, Open: true, Filled: s.Stage == backends.Live && s.Filled, Alone: s.Alone}
}

// Hold tells whether new operations of epochs up to the one answered should wait at the gate, since
// a switch that needs it is open. It is a courtesy to callers: the fences refuse them anyway.
func (s PodState) Hold() (epoch uint64, ok bool) {
	if s.Switch == nil || !s.Switch.holds() {
		return 0, false
	}
	return s.Switch.FromEpoch, true
}

// Clone copies the state so that neither copy's slices are shared.
func (s PodState) Clone() PodState {
	if s.Switch != nil {
		sw := *s.Switch
		sw.Gates = slices.Clone(sw.Gates)
		sw.Steps = slices.Clone(sw.Steps)
		s.Switch = &sw
	}
	if s.Worker != nil {
		w := *s.Worker
		s.Worker = &w
	}
	if s.RedisBehind != nil {
		b := *s.RedisBehind
		b.Holders = slices.Clone(b.Holders)
		s.RedisBehind = &b
	}
	s.Due = slices.Clone(s.Due)
	s.History = slices.Clone(s.History)
	return s
}

// record appends a change to the bounded history.
func (s *PodState) record(c Change) {
	c.Seq = 1
	if n := len(s.History); n > 0 {
		c.Seq = s.History[n-1].Seq + 1
	}
	c.Who, c.Why, c.Cause = Clip(c.Who), Clip(c.Why), Clip(c.Cause)
	s.History = append(slices.Clone(s.History), c)
	if n := len(s.History); n > MaxHistory {
		s.History = s.History[n-MaxHistory:]
	}
}

// seeEpoch remembers that an epoch exists.
func (s *PodState) seeEpoch(epochs ...uint64) {
	for _, e := range epochs {
		s.MaxEpoch = max(s.MaxEpoch, e)
	}
}

func (s *PodState) owe(works ...Work) {
	for _, w := range works {
		if !slices.Contains(s.Due, w) {
			s.Due = append(slices.Clone(s.Due), w)
		}
	}
	slices.Sort(s.Due)
}

func (s *PodState) paid(w Work) {
	s.Due = slices.DeleteFunc(slices.Clone(s.Due), func(x Work) bool { return x == w })
	if len(s.Due) == 0 {
		s.Due = nil
	}
}

// CheckWhoWhy: both are asked for, since a change is read about long after it was made.
func CheckWhoWhy(who, why string) error {
	for _, f := range []struct{ field, v string }{{"who", who}, {"why", why}} {
		if f.v == "" || len(f.v) > MaxText {
			return &backends.FieldError{Field: f.field, Value: fmt.Sprintf("%d bytes long", len(f.v)), Bound: fmt.Sprintf("1 to %d bytes", MaxText), Next: "say who changes the pod, and why, for those who read it later"}
		}
	}
	return nil
}

// Clip bounds a text of a record.
func Clip(s string) string {
	if len(s) <= MaxText {
		return s
	}
	return s[:MaxText-len("…")] + "…"
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return names[0]
}

func parse[T ~uint8](names []string, b []byte, what string, to *T) error {
	for i, n := range names {
		if n == string(b) {
			*to = T(i) //nolint:gosec // fewer names than 256
			return nil
		}
	}
	return fmt.Errorf("killswitch: no %s is called %q", what, Clip(string(b)))
}
