package dualwrite

import (
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Observer is told what happened, for metrics. Its methods must not block and must not panic.
type Observer interface {
	// Operation: one operation of a caller, answered (or failed with err) after d.
	Operation(pod backends.Pod, stage backends.Stage, op backends.Op, o backends.Outcome, err error, d time.Duration)
	// StoreCall: one call of a store by the writer or the mirror; role is "truth" or "shadow".
	StoreCall(pod backends.Pod, side backends.Side, role string, op backends.Op, err error, d time.Duration)
	// GateWait: an operation waited d at the gate.
	GateWait(pod backends.Pod, d time.Duration)
	// Mirrored: entries that the shadow confirmed, and the age of the oldest of them.
	Mirrored(pod backends.Pod, n int, lag time.Duration, swept bool)
	// LaneFull: an entry or probe found its lane full; what is "entry" or "probe".
	LaneFull(pod backends.Pod, what string)
	// Apology: units were promised that are not there.
	Apology(pod backends.Pod, a backends.Apology)
	// Resubmitted: an operation was decided again by a new truth, under its id.
	Resubmitted(pod backends.Pod, op backends.Op)
}

// NoObserver ignores everything.
type NoObserver struct{}

// Operation implements Observer.
func (NoObserver) Operation(backends.Pod, backends.Stage, backends.Op, backends.Outcome, error, time.Duration) {
}

// StoreCall implements Observer.
func (NoObserver) StoreCall(backends.Pod, backends.Side, string, backends.Op, error, time.Duration) {
}

// GateWait implements Observer.
func (NoObserver) GateWait(backends.Pod, time.Duration) {}

// Mirrored implements Observer.
func (NoObserver) Mirrored(backends.Pod, int, time.Duration, bool) {}

// LaneFull implements Observer.
func (NoObserver) LaneFull(backends.Pod, string) {}

// Apology implements Observer.
func (NoObserver) Apology(backends.Pod, backends.Apology) {}

// Resubmitted implements Observer.
func (NoObserver) Resubmitted(backends.Pod, backends.Op) {}
