package dualwrite

import (
	"context"
	"errors"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds of the writer. Each is a default that Options may change.
const (
	// DefaultGateWait is how long an operation waits at a held gate before it is told that a
	// switch is in progress. DESIGN §6: bounded waits, not errors, during a switch.
	DefaultGateWait = 2 * time.Second
	// DefaultOpTimeout bounds one operation with all of its retries.
	DefaultOpTimeout = 5 * time.Second
	// DefaultMirrorTimeout bounds one mirror step; a stopped shadow costs a lane this much
	// before its breaker opens, and checkout nothing.
	DefaultMirrorTimeout = 10 * time.Second
	// acceptTimeout bounds the same step on the request path: in live, where the answer waits.
	acceptTimeout = 2 * time.Second
	// DefaultLanes and DefaultLaneDepth bound what waits in memory for the shadow. Loading a shop's stock
	// puts an entry for each item into them at once: a refusal that finds its lane full is not
	// compared, while entries are found in the outbox again.
	DefaultLanes     = 2
	DefaultLaneDepth = 4096
	// MirrorBatch is how many entries one mirror step carries.
	MirrorBatch = 64
	// mirrorLines bounds the lines of its carts together: the largest real cart has 675, the mean 21.
	mirrorLines = 256
	// SweepPage is how many entries one sweep reads at a time.
	SweepPage = 256
	// DefaultSweepAge is how long an entry stays with the proxy that made it before any proxy
	// may mirror it.
	DefaultSweepAge = 3 * time.Second
	// backoff between attempts of an operation that met a fence in motion or a broken connection
	retryPause = 5 * time.Millisecond
	// nowTrusted is how long a reading of the shadow's clock serves as a mirror attempt's asOf. An
	// older one is only more cautious: the shadow refuses an attempt older than half of retain.
	nowTrusted = time.Second
)

// Stores are the two stores of a pod. Either may be the same kind underneath (in simulations).
type Stores struct {
	Redis backends.Store
	MySQL backends.Store
}

// Of gives the store of a side; nil for an unknown one.
func (s Stores) Of(side backends.Side) backends.Store {
	switch side {
	case backends.SideRedis:
		return s.Redis
	case backends.SideMySQL:
		return s.MySQL
	default:
		return nil
	}
}

// Guard keeps a failing shadow from being asked. Do runs f unless the guard is open, in which case it
// answers ErrUnavailable at once.
type Guard interface {
	Do(f func() error) error
	// Open tells whether calls are refused at present.
	Open() bool
}

// NoGuard lets everything through.
type NoGuard struct{}

// Do implements Guard.
func (NoGuard) Do(f func() error) error { return f() }

// Open implements Guard.
func (NoGuard) Open() bool { return false }

// Options of a pod. Zero fields have the defaults above.
type Options struct {
	GateWait      time.Duration
	OpTimeout     time.Duration
	MirrorTimeout time.Duration
	SweepAge      time.Duration
	Lanes         int
	LaneDepth     int
	// ProbeShare is the share of refusals that are probed in the shadow, 0 to 1; nil means all.
	ProbeShare *float64
	Clock      Clock
	Observer   Observer
	Comparer   Comparer
	Guard      Guard
	// Lone permits answers without Redis where a fence allows them; nil permits none.
	Lone Lone
	// Retain is how long both stores keep ended holds.
	Retain time.Duration
	// Filer lists what is lost for good.
	Filer Filer
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.GateWait, DefaultGateWait)
	def(&o.OpTimeout, DefaultOpTimeout)
	def(&o.MirrorTimeout, DefaultMirrorTimeout)
	def(&o.SweepAge, DefaultSweepAge)
	def(&o.Retain, backends.DefaultRetain)
	if o.Lanes <= 0 {
		o.Lanes = DefaultLanes
	}
	if o.LaneDepth <= 0 {
		o.LaneDepth = DefaultLaneDepth
	}
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	if o.Observer == nil {
		o.Observer = NoObserver{}
	}
	if o.Comparer == nil {
		o.Comparer = NoComparer{}
	}
	if o.Filer == nil {
		o.Filer = NoFiler{}
	}
	if o.Guard == nil {
		o.Guard = NoGuard{}
	}
	return o
}

// Pod is one pod as this proxy serves it.
type Pod struct {
	name   backends.Pod
	stores Stores
	gate   *Gate
	o      Options
	lanes  *lanes
	kept   kept
	nows   nowCache // the shadow's clock
	probes sampler
	// the truth's clock, apart, so that the two do not displace each other
	truthNows nowCache
}

// NewPod joins the stores. The pod serves nothing until its gate has adopted a fence.
func NewPod(name backends.Pod, s Stores, o Options) *Pod {
	o = o.withDefaults()
	return &Pod{
		name: name, stores: s, gate: NewGate(), o: o,
		lanes:  newLanes(o.Lanes, o.LaneDepth),
		probes: newSampler(o.ProbeShare),
	}
}

// Name of the pod.
func (p *Pod) Name() backends.Pod { return p.name }

// Gate of the pod.
func (p *Pod) Gate() *Gate { return p.gate }

// Stores of the pod.
func (p *Pod) Stores() Stores { return p.stores }

// BreakerOpen tells whether the shadow is not being asked at present.
func (p *Pod) BreakerOpen() bool { return p.o.Guard.Open() }

// enter waits until the gate is open and answers the fence to serve under.
func (p *Pod) enter(ctx context.Context) (backends.Fence, error) {
	f, held, changed := p.gate.State()
	if !held {
		return f, nil
	}
	start := p.o.Clock.Now()
	for {
		waited := p.o.Clock.Now().Sub(start)
		if waited >= p.o.GateWait {
			return backends.Fence{}, &HeldError{Pod: p.name, Waited: waited.Round(time.Millisecond), Seen: f}
		}
		if err := p.o.Clock.Wait(ctx, changed, p.o.GateWait-waited); err != nil {
			return backends.Fence{}, errors.Join(backends.ErrUnavailable, err)
		}
		if f, held, changed = p.gate.State(); !held {
			p.o.Observer.GateWait(p.name, p.o.Clock.Now().Sub(start))
			return f, nil
		}
	}
}

// met learns from a fence that refused a write. Only Redis's fence and the fence of the truth are
// adopted: Redis's is part of every change of stage, and the truth's is the one that decides. A
// MySQL fence that is ahead while MySQL is the shadow belongs to a switch that has not
// reached Redis; adopting it would wait for a switch that may never be finished.
func (p *Pod) met(fe *backends.FencedError) {
	if fe.Side == backends.SideRedis || fe.Have.Stage.Truth() == fe.Side {
		p.gate.Adopt(fe.Have)
	}
}

// Refresh reads both fences and adopts what may be adopted. It is how a proxy learns the end of a
// switch (or a kill) without a control store. It fails only when Redis's fence could not be read.
func (p *Pod) Refresh(ctx context.Context) error {
	f, err := p.stores.Redis.Fence(ctx)
	if err != nil {
		return errors.Join(err, p.refreshAlone(ctx))
	}
	p.met(&backends.FencedError{Side: backends.SideRedis, Have: f})
	if f.Stage.Truth() == backends.SideMySQL {
		if m, err := p.stores.MySQL.Fence(ctx); err == nil {
			p.met(&backends.FencedError{Side: backends.SideMySQL, Have: m})
		}
	}
	return nil
}
