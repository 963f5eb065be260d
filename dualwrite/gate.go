package dualwrite

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
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
	// view is the last state, for every operation to read without the lock.
	view atomic.Pointer[gateView]
	// bound are the calls that end when a higher epoch serves; see Bind.
	bound map[*boundCall]struct{}
}

type gateView struct {
	serving backends.Fence
	held    bool
	changed <-chan struct{}
}

type boundCall struct {
	epoch  uint64
	cancel context.CancelFunc
}

// NewGate gives a gate that knows nothing and is therefore held.
func NewGate() *Gate {
	g := &Gate{changed: make(chan struct{})}
	g.show()
	return g
}

// show lets everybody see the present state. The lock is held, but for a gate that is new.
func (g *Gate) show() {
	g.view.Store(&gateView{serving: g.serving, held: !g.seen.Open || g.seen.Epoch <= g.hold, changed: g.changed})
}

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
		for c := range g.bound {
			if c.epoch < f.Epoch {
				c.cancel()
			}
		}
	}
	g.wake()
	return true
}

// Bind gives a context that ends when a higher epoch than f's serves. A call of the old truth that is
// still under way then has nothing left to say: what it commits is void (P1), and waiting for a
// store that may be stopped would cost the caller the second that a kill takes. free must be called.
func (g *Gate) Bind(ctx context.Context, f backends.Fence) (_ context.Context, free func()) {
	ctx, cancel := context.WithCancel(ctx)
	c := &boundCall{epoch: f.Epoch, cancel: cancel}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.serving.Epoch > f.Epoch {
		cancel()
	}
	if g.bound == nil {
		g.bound = map[*boundCall]struct{}{}
	}
	g.bound[c] = struct{}{}
	return ctx, func() {
		g.mu.Lock()
		delete(g.bound, c)
		g.mu.Unlock()
		cancel()
	}
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
	old := g.changed
	g.changed = make(chan struct{})
	g.show() // before anybody wakes
	close(old)
}

// Serving is the last open fence seen: what background work runs under. Zero before the first.
func (g *Gate) Serving() backends.Fence { return g.view.Load().serving }

// Seen is the highest fence seen, which may be closed.
func (g *Gate) Seen() backends.Fence {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen
}

// State tells the last open fence, whether new operations are held, and a channel that is closed
// at the next change.
func (g *Gate) State() (serving backends.Fence, held bool, changed <-chan struct{}) {
	v := g.view.Load()
	return v.serving, v.held, v.changed
}

// Held tells whether new operations are held.
func (g *Gate) Held() bool { return g.view.Load().held }

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
