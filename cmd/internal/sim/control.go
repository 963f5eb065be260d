package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/controltest"
)

// control is a control store in memory whose calls give way and fail like those of the stores. What the simulated
// processes do not call (registrations, acknowledgements) is the test store's.
type control struct {
	*controltest.Memory
	w       *world
	state   killswitch.PodState
	rev     killswitch.Revision
	history []killswitch.Change
	away    time.Time // nobody reaches it until
}

func (c *control) step(name string) error {
	c.w.s.pause()
	if c.w.faults && c.w.s.now.Before(c.away) {
		return fmt.Errorf("%w: %s", killswitch.ErrControlUnavailable, name)
	}
	if c.w.faults && c.w.draw() != faultNone {
		return fmt.Errorf("%w: %s", killswitch.ErrControlUnavailable, name)
	}
	return nil
}

// Get implements killswitch.ControlStore, as do the methods below.
func (c *control) Get(context.Context, backends.Pod) (killswitch.PodState, killswitch.Revision, error) {
	if err := c.step("get"); err != nil {
		return killswitch.PodState{}, 0, err
	}
	st, rev := c.state.Clone(), c.rev
	if c.w.alone { // the answer is on its way for a while
		c.w.s.pause()
	}
	return st, rev, nil
}

func (c *control) CompareAndSet(_ context.Context, _ backends.Pod, rev killswitch.Revision, next killswitch.PodState) (killswitch.Revision, error) {
	if err := c.step("set"); err != nil {
		return 0, err
	}
	c.w.murder(c.w.s.cur)
	if rev != c.rev {
		return 0, killswitch.ErrConflict
	}
	c.state = next.Clone()
	c.rev++
	rev = c.rev
	c.w.tell(func() string { return "control set " + show(next) })
	c.w.murder(c.w.s.cur)
	// The answer may be lost although it was written.
	if err := c.step("set, answer"); err != nil {
		return 0, err
	}
	return rev, nil
}

func (c *control) List(context.Context) ([]killswitch.Record, error) {
	return []killswitch.Record{{State: c.state.Clone(), Revision: c.rev}}, nil
}

func (c *control) Watch(context.Context) (<-chan backends.Pod, error) {
	return make(chan backends.Pod), nil
}

func (c *control) AppendHistory(_ context.Context, _ backends.Pod, changes ...killswitch.Change) error {
	c.history = append(c.history, changes...)
	return nil
}

func (c *control) History(context.Context, backends.Pod, uint64, int) ([]killswitch.Change, error) {
	return c.history, nil
}

// drivers' time: heartbeats never come (takeover is by a clock that stands still while a driver is
// alive), pauses are waits of the schedule.
const (
	simBeat     = 7 * time.Second
	simTakeover = 60 * time.Millisecond
)

type driverClock struct{ w *world }

// Now implements killswitch.Clock.
func (c driverClock) Now() time.Time { return c.w.s.now }

// Tick implements killswitch.Clock.
func (c driverClock) Tick(d time.Duration) (<-chan time.Time, func()) {
	ch := make(chan time.Time, 1)
	if d != simBeat {
		_ = clock{c.w.s}.Wait(context.Background(), nil, d)
		ch <- c.w.s.now
	}
	return ch, func() {}
}

// carrier brings states across through the proxy that the driver lives in.
type carrier struct {
	w   *world
	pod *dualwrite.Pod
}

func (c carrier) Drain(ctx context.Context, _ backends.Pod, under backends.Fence) error {
	return c.pod.Drain(ctx, under)
}

func (c carrier) Settle(ctx context.Context, _ backends.Pod, under backends.Fence) error {
	c.pod.Gate().Adopt(under)
	_, err := c.pod.Settle(ctx)
	return err
}

func (c carrier) Backfill(ctx context.Context, _ backends.Pod, under backends.Fence, _ func(killswitch.Progress)) error {
	c.pod.Gate().Adopt(under)
	return c.pod.Backfill(ctx, nil)
}

func (c carrier) Restore(ctx context.Context, _ backends.Pod, under backends.Fence, complete bool) (killswitch.Restored, error) {
	c.pod.Gate().Adopt(under)
	r, err := c.pod.Restore(ctx, under, complete)
	c.w.listed = c.w.listed || err == nil && r.Differ > 0
	return killswitch.Restored(r), err
}

// driver makes the driver of one proxy.
func (p *proxy) driver(st dualwrite.Stores) *killswitch.Driver {
	return killswitch.NewDriver(killswitch.DriverOptions{
		ID: fmt.Sprintf("driver %d.%d", p.n, p.w.s.steps), Control: p.w.control, Clock: driverClock{p.w}, Carrier: carrier{p.w, p.pod}, Alone: func(backends.Pod) bool { return p.w.alone },
		Stores: func(backends.Pod) (killswitch.Stores, error) {
			return killswitch.Stores{Redis: port(st.Redis), MySQL: port(st.MySQL)}, nil
		},
		Limits: killswitch.Limits{Beat: simBeat, Takeover: simTakeover, Hold: time.Minute, Finish: time.Minute, Raise: time.Minute, Record: time.Minute},
	})
}

// driverPort is a store as a driver reaches it. A driver reads both fences at the same time, on
// goroutines of its own: that read does not give way.
type driverPort struct{ *link }

// Fence implements backends.Fencer.
func (p driverPort) Fence(ctx context.Context) (backends.Fence, error) {
	if p.down() {
		return backends.Fence{}, fmt.Errorf("%w: %s is cut off", backends.ErrUnavailable, p.side)
	}
	return p.Store.Fence(ctx)
}

func port(s backends.Store) killswitch.StorePort {
	l, ok := s.(*link)
	if !ok {
		return s
	}
	return driverPort{l}
}
