package killswitch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Defaults of Limits.
const (
	// DefaultHold is how long a switch may keep callers waiting before it is undone. They wait for two seconds at their gates
	// (DESIGN §6): what is left of these is for taking the switch back, so that they are answered and not turned away.
	DefaultHold = 1500 * time.Millisecond
	// DefaultMoment is how long a switch waits before it begins, while nobody has to wait for it, for a moment in which little
	// is left to be drained. It is longer than what a flush of a disk or a collection of garbage puts a shadow behind.
	DefaultMoment = 2 * time.Second
	// DefaultFinish bounds what goes on after that, or after the caller has left: an undo, or the
	// steps behind the last point at which one was possible.
	DefaultFinish = 5 * time.Second
	// DefaultRaise bounds one try to move or read one fence. Whoever closes MySQL's fence kills the
	// sessions that block it after 200 ms, so a fence that works moves well within it.
	DefaultRaise = time.Second
	// DefaultRecord bounds one write to the control store.
	DefaultRecord = 2 * time.Second
	// DefaultBeat is how often a driver shows that it is alive, DefaultTakeover how long another sees
	// its heartbeat stand still before it takes over: six beats, so that a slow disk is not a death.
	DefaultBeat     = 500 * time.Millisecond
	DefaultTakeover = 3 * time.Second
	// raiseAttempts is how often an unknown outcome of a raise is tried again.
	raiseAttempts = 3
	// raisePause is between attempts.
	raisePause = 25 * time.Millisecond
	// updateAttempts bounds the retries of one change of a record against others' changes.
	updateAttempts = 16
)

// Limits of a driver. Zero fields have the defaults.
type Limits struct {
	Hold, Moment, Finish, Raise, Record, Beat, Takeover time.Duration
}

func (l Limits) withDefaults() Limits {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&l.Hold, DefaultHold)
	def(&l.Moment, DefaultMoment)
	def(&l.Finish, DefaultFinish)
	def(&l.Raise, DefaultRaise)
	def(&l.Record, DefaultRecord)
	def(&l.Beat, DefaultBeat)
	def(&l.Takeover, DefaultTakeover)
	return l
}

// DriverOptions are what a driver is made of.
type DriverOptions struct {
	// ID must be unique to this start of this process: see NewDriverID.
	ID      string
	Control ControlStore
	// Stores answers a pod's stores, or an error for a pod that this process does not know.
	Stores  func(backends.Pod) (Stores, error)
	Carrier FullCarrier
	// Alone tells whether MySQL may answer for a pod without Redis in live, once the pod is marked; nil for no pod.
	Alone  func(backends.Pod) bool
	Clock  Clock
	Limits Limits
}

// NewDriverID makes an id that no other start of any process has.
func NewDriverID(proxy string) string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it never fails
	if len(proxy) > backends.MaxIDLen {
		proxy = proxy[:backends.MaxIDLen]
	}
	return proxy + "#" + hex.EncodeToString(b[:])
}

// Driver carries out switches and the work that they leave. It may be used by many goroutines; for
// one pod it does one thing at a time.
type Driver struct {
	o DriverOptions

	mu     sync.Mutex
	active map[backends.Pod]bool
	beats  map[backends.Pod]sighting
	kept   map[backends.Pod]uint64 // the newest change known to be in the full history
}

// sighting is a heartbeat, and when this process first saw it.
type sighting struct {
	lead Lead
	at   time.Time
}

// NewDriver makes a driver.
func NewDriver(o DriverOptions) *Driver {
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	if o.ID == "" {
		o.ID = NewDriverID("driver")
	}
	o.Limits = o.Limits.withDefaults()
	return &Driver{o: o, active: map[backends.Pod]bool{}, beats: map[backends.Pod]sighting{}, kept: map[backends.Pod]uint64{}}
}

// ErrDriverAlive: a switch or a work is in the hands of a driver that seems to be alive.
var ErrDriverAlive = errors.New("another driver is at it, and its heartbeat has not stood still for long enough")

// ErrBusy: this driver does something else for the pod already.
var ErrBusy = errors.New("this process is switching the pod already, or doing work that a switch has left")

// SupersededError: a kill, or another driver, came first; the switch was not carried on.
type SupersededError struct {
	Pod   backends.Pod
	Now   PodState
	Cause string
}

func (e *SupersededError) Error() string {
	return fmt.Sprintf("pod %s: the switch was superseded (%s); the pod is in %s, epoch %d", e.Pod, e.Cause, e.Now.Stage, e.Now.Epoch)
}

// StuckError: a switch can be neither finished nor undone at present. Its record stays open, and the
// next driver that can carries it on.
type StuckError struct {
	Pod    backends.Pod
	Switch Switch
	Err    error
}

func (e *StuckError) Error() string {
	dir := "finished"
	if e.Switch.Undo {
		dir = "undone"
	}
	return fmt.Sprintf("pod %s: the switch from %s to %s stopped at step %q and will be %s when that can be done ('crossfade status %s --watch'): %v", e.Pod, e.Switch.From, e.Switch.To, e.Switch.Name, dir, e.Pod, e.Err)
}

func (e *StuckError) Unwrap() error { return e.Err }

func (d *Driver) alone(pod backends.Pod) bool { return d.o.Alone != nil && d.o.Alone(pod) }

// acquire marks a pod as busy in this process.
func (d *Driver) acquire(pod backends.Pod) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.active[pod] {
		return fmt.Errorf("pod %s: %w", pod, ErrBusy)
	}
	d.active[pod] = true
	return nil
}

func (d *Driver) release(pod backends.Pod) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.active, pod)
}

// firstBeat begins a heartbeat above every earlier one of the pod's: each beat is a revision at least, so the record's
// revision is never behind them. Begun at one each time, a driver's second switch would look like its first, whose
// heartbeat has stood still since it was over, and be taken over at once.
func firstBeat(rev Revision) uint64 {
	return uint64(max(rev, 0)) + 1 //nolint:gosec // not negative
}

// stale tells whether whoever leads has shown no sign of life for long enough, as this process saw
// it. The caller has acquired the pod, so a lead in this driver's own name is left over.
func (d *Driver) stale(pod backends.Pod, l Lead) bool {
	if l.Driver == d.o.ID {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.o.Clock.Now()
	if s, ok := d.beats[pod]; ok && s.lead == l {
		return now.Sub(s.at) >= d.o.Limits.Takeover
	}
	d.beats[pod] = sighting{lead: l, at: now}
	return false
}

// Look reads a pod's record and both fences. Only the record's own failure is an error.
func (d *Driver) Look(ctx context.Context, pod backends.Pod) (Seen, Revision, error) {
	stores, err := d.o.Stores(pod)
	if err != nil {
		return Seen{}, 0, err
	}
	// The record is read first: if a switch goes on meanwhile, the fences are ahead of it, and what
	// is concluded from that fails at its compare-and-set.
	st, rev, err := d.o.Control.Get(ctx, pod)
	if err != nil {
		return Seen{}, 0, err
	}
	st.Pod = pod
	seen := Seen{State: st}
	d.fences(ctx, stores, &seen)
	return seen, rev, nil
}

// fences reads both at once, so that one that does not answer costs its bound once. A kill moves Redis's, and MySQL's follows it: when
// it came between the two readings, MySQL's seems to be ahead, as after a disagreement.
func (d *Driver) fences(ctx context.Context, stores Stores, seen *Seen) {
	var wg sync.WaitGroup
	for _, v := range []struct {
		to *View
		of StorePort
	}{{&seen.Redis, stores.Redis}, {&seen.MySQL, stores.MySQL}} {
		wg.Go(func() {
			try, cancel := context.WithTimeout(ctx, d.o.Limits.Raise)
			defer cancel()
			*v.to = Saw(v.of.Fence(try))
		})
	}
	wg.Wait()
	if seen.Redis.Known && seen.MySQL.Known && seen.MySQL.Fence.Epoch > seen.Redis.Fence.Epoch {
		try, cancel := d.bounded(ctx)
		defer cancel()
		if f, err := stores.Redis.Fence(try); err == nil {
			seen.Redis.Fence = f
		}
	}
}

// Adopt reads a pod and, where its fences are ahead of its record, writes the record anew. It
// answers what it saw, with the record as it is now.
func (d *Driver) Adopt(ctx context.Context, pod backends.Pod) (Seen, Revision, error) {
	for range updateAttempts {
		seen, rev, err := d.Look(ctx, pod)
		if err != nil {
			return seen, rev, err
		}
		a := Reconcile(seen, d.o.Clock.Now())
		if !a.Stale {
			d.keepHistory(ctx, seen.State)
			return seen, rev, nil
		}
		next, err := d.o.Control.CompareAndSet(ctx, pod, rev, a.Next)
		if errors.Is(err, ErrConflict) {
			continue
		}
		if err != nil {
			return seen, rev, err
		}
		seen.State = a.Next
		d.keepHistory(ctx, a.Next)
		return seen, next, nil
	}
	return Seen{}, 0, ErrConflict
}

// keepHistory appends to the full history what this process has not seen there. The record has
// the newest changes as well, so one that cannot be appended now, or whose maker died before it
// could, is appended by the next process that looks at the pod.
func (d *Driver) keepHistory(ctx context.Context, st PodState) {
	if len(st.History) == 0 {
		return
	}
	newest := st.History[len(st.History)-1].Seq
	d.mu.Lock()
	kept := d.kept[st.Pod] >= newest
	d.mu.Unlock()
	if kept || d.o.Control.AppendHistory(ctx, st.Pod, st.History...) != nil {
		return
	}
	d.mu.Lock()
	d.kept[st.Pod] = newest
	d.mu.Unlock()
}

// update changes a record by fn, again when others change it meanwhile. What fn leaves as it was is
// not written.
func update(ctx context.Context, c ControlStore, pod backends.Pod, fn func(PodState) (PodState, error)) (PodState, error) {
	return revise(ctx, c, pod, func(s *PodState, _ Revision) (bool, error) {
		next, err := fn(s.Clone())
		if err != nil || reflect.DeepEqual(*s, next) {
			return false, err
		}
		*s = next
		return true, nil
	})
}
