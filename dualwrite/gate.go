package dualwrite

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Clock is time as the steps see it.
type Clock interface {
	Now() time.Time
	// Wait returns nil when wake is closed or d has passed, else the context's error.
	Wait(ctx context.Context, wake <-chan struct{}, d time.Duration) error
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now reads it.
func (SystemClock) Now() time.Time { return time.Now() }

// Wait implements Clock.
func (SystemClock) Wait(ctx context.Context, wake <-chan struct{}, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-wake:
		return nil
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Gate is what this proxy knows of a pod's fence. The highest epoch seen anywhere wins; it is
// held while that epoch's fence is still closed, or while a switch has been announced.
type Gate struct {
	mu      sync.Mutex
	seen    backends.Fence // highest rank seen; may be closed
	serving backends.Fence // the last open one; zero before the first
	hold    uint64         // hold new operations of epochs up to this one (an announced switch)
	changed chan struct{}  // closed and replaced at every change
}

// NewGate gives a gate that knows nothing and is therefore held.
func NewGate() *Gate { return &Gate{changed: make(chan struct{})} }

// Adopt takes over a fence that was seen. It reports whether that was news.
func (g *Gate) Adopt(f backends.Fence) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !f.Outranks(g.seen) {
		return false
	}
	g.seen = f
	if f.Open {
		g.serving = f
	}
	g.wake()
	return true
}

// Announce holds new operations as long as the pod serves epoch (or a lower one).
func (g *Gate) Announce(epoch uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if epoch > g.hold {
		g.hold = epoch
		g.wake()
	}
}

// Withdraw takes an announcement back: the switch is over, whatever became of it.
func (g *Gate) Withdraw() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hold != 0 {
		g.hold = 0
		g.wake()
	}
}

func (g *Gate) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// Serving is the last open fence seen: what background work runs under. Zero before the first.
func (g *Gate) Serving() backends.Fence {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.serving
}

// State tells the last open fence, whether new operations are held, and a channel that is closed
// at the next change.
func (g *Gate) State() (serving backends.Fence, held bool, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held = !g.seen.Open || g.seen.Epoch <= g.hold
	return g.serving, held, g.changed
}

// HeldError: the gate did not open in time. The operation was not sent anywhere.
type HeldError struct {
	Pod    backends.Pod
	Waited time.Duration
	Seen   backends.Fence
}

func (e *HeldError) Error() string {
	if e.Seen.Epoch == 0 {
		return fmt.Sprintf("pod %s: no store has a fence yet (waited %s); see 'crossfade status %s'", e.Pod, e.Waited, e.Pod)
	}
	return fmt.Sprintf("pod %s: a switch is in progress (%s; waited %s); retry under the same id", e.Pod, e.Seen, e.Waited)
}

// Unwrap makes it an unavailability: nothing was sent.
func (e *HeldError) Unwrap() error { return backends.ErrUnavailable }
