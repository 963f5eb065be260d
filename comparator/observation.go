package comparator

import (
	"context"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Reason says why the shadow's own decision is not known.
type Reason uint8

// The reasons. ReasonNone stands beside a decision; without one it counts as undetermined.
const (
	ReasonNone Reason = iota
	// ReasonPending: the entry is still in the outbox. The decision stays pending.
	ReasonPending
	// ReasonSampledOut: a refusal that was not probed, by sampling or for want of room.
	ReasonSampledOut
	// ReasonProbeFailed: the probe got no answer.
	ReasonProbeFailed
	// ReasonOvertaken: the shadow learnt of the hold by a later state, so it never decided.
	ReasonOvertaken
	// ReasonLost: the entry will never reach the shadow (outbox full, or voided by a kill).
	ReasonLost
	// ReasonUndetermined: anything else.
	ReasonUndetermined
	// ReasonUnknownStock: a refusal about an item of which the shadow has no level yet.
	ReasonUnknownStock
)

var reasonNames = [...]string{"none", "pending", "sampled out", "probe failed", "overtaken by a later state", "lost", "undetermined", "stock that the shadow does not know yet"}

// String gives the words used in reports.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "undetermined"
}

// How says how the shadow's decision was obtained.
type How uint8

// The ways.
const (
	HowUnknown How = iota
	HowMirror      // the shadow decided when the mirrored grant reached it
	HowProbe       // a read of the shadow after the truth had refused
)

var howNames = [...]string{"unknown", "mirror", "probe"}

// String gives the word used in reports.
func (h How) String() string {
	if int(h) < len(howNames) {
		return howNames[h]
	}
	return "unknown"
}

// Answer is what a store decided about a reserve.
type Answer struct {
	Outcome backends.Outcome      `json:"outcome"`
	Allocs  []backends.Allocation `json:"allocs,omitempty"`
	Short   []backends.Shortage   `json:"short,omitempty"`
	// Seen is Sellable at the cart's keys as the decision saw it; may be missing.
	Seen []backends.Units `json:"seen,omitempty"`
}

// Observation is one decision of the truth, with what the shadow would have decided. The
// comparator keeps the slices; whoever hands it over must not write to them any more.
type Observation struct {
	Pod    backends.Pod
	Epoch  uint64 // under which the truth decided
	Stage  backends.Stage
	Op     backends.Op
	Hold   backends.HoldID
	Shop   backends.Shop
	Caller string
	Lines  []backends.Line // as requested
	// ExpiresAt is the hold's expiry by the truth's clock; 0 when not known.
	ExpiresAt backends.Instant

	// Truth is the verdict that checkout got.
	Truth        Answer
	TruthAt      backends.Instant // by the truth's clock; 0 when not known
	TruthLatency time.Duration    // 0 when not known (a swept entry)

	// Shadow is nil when it is not known; then Missing says why.
	Shadow        *backends.OwnDecision
	Missing       Reason
	Detail        string // more about Missing, such as the probe's error
	ShadowLatency time.Duration
	How           How
	// Debt lists the keys that following the truth left below zero in the shadow.
	Debt []backends.Units

	// TruthSpan and ShadowSpan are when the stores decided, each by its own clock; zero when not
	// known. RecordSince is not later than the truth's decision, by the shadow's clock: what the
	// shadow followed before it stood before both decisions.
	TruthSpan, ShadowSpan Span
	RecordSince           backends.Instant
	// Decided is not later than the truth's decision, by the local clock; zero when not known.
	Decided time.Time

	// Again asks the shadow once more; set for ReasonUnknownStock. The answer is this decision of the truth,
	// with what the shadow says now.
	Again func(context.Context) Observation

	TraceID string    // optional
	At      time.Time // when it was observed; the comparator fills it in when zero
}

// TruthSide is the side whose verdict counted.
func (o *Observation) TruthSide() backends.Side { return o.Stage.Truth() }

// ShadowAnswer is the shadow's decision in the same shape as the truth's; zero when not known.
func (o *Observation) ShadowAnswer() Answer {
	if o.Shadow == nil {
		return Answer{}
	}
	return Answer{Outcome: o.Shadow.Outcome, Allocs: o.Shadow.Allocs, Short: o.Shadow.Short, Seen: o.Shadow.Seen}
}

// FromEntry makes the observation of a mirrored grant: an outbox entry of a reserve, and what the
// shadow had decided when it first saw that hold (nil when it never did).
func FromEntry(pod backends.Pod, stage backends.Stage, e *backends.Entry, own *backends.OwnDecision) Observation {
	o := Observation{Pod: pod, Stage: stage, Op: e.Op, TruthAt: e.At, Shadow: own, How: HowMirror}
	if own == nil {
		o.Missing = ReasonOvertaken
	}
	if h := e.Hold; h != nil {
		o.Epoch, o.Hold, o.Shop, o.Caller, o.Lines = h.Version.Epoch, h.ID, h.Shop, h.Caller, h.Lines
		o.ExpiresAt = h.ExpiresAt
		o.Truth = Answer{Outcome: backends.OutcomeGranted, Allocs: h.Allocs}
	}
	return o
}

// FromRefusal makes the observation of a refusal that was probed; own is nil when the probe failed.
func FromRefusal(pod backends.Pod, stage backends.Stage, epoch uint64, r *backends.ReserveRequest, d *backends.Decision, own *backends.OwnDecision) Observation {
	o := Observation{
		Pod: pod, Stage: stage, Epoch: epoch, Op: backends.OpReserve, Hold: r.ID, Shop: r.Shop, Caller: r.Caller, Lines: r.Lines,
		Truth:  Answer{Outcome: d.Outcome, Short: d.Short, Seen: d.Seen},
		Shadow: own, How: HowProbe,
	}
	if own == nil {
		o.Missing = ReasonProbeFailed
	}
	return o
}
