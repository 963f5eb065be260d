package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/rollout"
)

// docs keeps one document in memory. fail, when set, makes calls fail, half of them after they took effect.
type docs struct {
	mu   sync.Mutex
	body []byte
	rev  killswitch.Revision
	fail func() bool
}

func (d *docs) Document(context.Context, string) ([]byte, killswitch.Revision, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil && d.fail() {
		return nil, 0, killswitch.ErrControlUnavailable
	}
	return slices.Clone(d.body), d.rev, nil
}

func (d *docs) SetDocument(_ context.Context, _ string, rev killswitch.Revision, body []byte) (killswitch.Revision, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil && d.fail() {
		return 0, killswitch.ErrControlUnavailable
	}
	if rev != d.rev {
		return 0, killswitch.ErrConflict
	}
	d.body, d.rev = slices.Clone(body), rev+1
	if d.fail != nil && d.fail() {
		return 0, killswitch.ErrControlUnavailable
	}
	return d.rev, nil
}

// fleet is the pods as they are. It is one for all runners of a test.
type fleet struct {
	mu     sync.Mutex
	stage  map[backends.Pod]backends.Stage
	epoch  uint64
	gates  map[backends.Pod]error                      // what a switch of the pod ends with
	unwell map[backends.Pod]bool                       // what Well says
	away   map[backends.Pod]bool                       // Where fails
	moves  []backends.Pod                              // in their order
	during func(pod backends.Pod)                      // called in the middle of a switch
	labels map[backends.Pod]map[string]string          // for selecting
	rate   map[backends.Pod]killswitch.Figure[float64] // traffic
}

func newFleet(n int) *fleet {
	f := &fleet{
		stage: map[backends.Pod]backends.Stage{}, gates: map[backends.Pod]error{}, unwell: map[backends.Pod]bool{}, away: map[backends.Pod]bool{},
		labels: map[backends.Pod]map[string]string{}, rate: map[backends.Pod]killswitch.Figure[float64]{},
	}
	for i := range n {
		f.stage[pod(i)] = backends.Shadow
		f.rate[pod(i)] = killswitch.Is(float64((i*7 + 3) % 10))
	}
	return f
}

func pod(i int) backends.Pod { return backends.Pod(fmt.Sprintf("pod-%02d", i)) }

func (f *fleet) Pods(context.Context, bool) ([]rollout.Candidate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []rollout.Candidate
	for p, s := range f.stage {
		out = append(out, rollout.Candidate{Pod: p, Stage: s, Labels: f.labels[p], Traffic: f.rate[p]})
	}
	return out, nil
}

func (f *fleet) Serves(pods []backends.Pod) bool {
	return !slices.ContainsFunc(pods, func(p backends.Pod) bool { _, ok := f.stage[p]; return !ok })
}

func (f *fleet) Where(_ context.Context, p backends.Pod) (rollout.Where, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away[p] {
		return rollout.Where{}, backends.ErrUnavailable
	}
	return rollout.Where{Stage: f.stage[p], Epoch: f.epoch}, nil
}

func (f *fleet) Switch(_ context.Context, p backends.Pod, to backends.Stage, _, _ string) (killswitch.Result, error) {
	if f.during != nil {
		f.during(p)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.gates[p]; err != nil {
		return killswitch.Result{}, err
	}
	f.epoch++
	f.stage[p] = to
	f.moves = append(f.moves, p)
	return killswitch.Result{Pod: p, Stage: to, Epoch: f.epoch, HeldMillis: 12}, nil
}

func (f *fleet) Well(_ context.Context, p backends.Pod) []killswitch.GateResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []killswitch.GateResult{{Name: "breaker", Pass: !f.unwell[p], Figure: "open", Bound: "closed"}}
}

func (f *fleet) set(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// clock stands still until it is moved; its ticks never come, since tests call Round.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func (c *clock) Tick(time.Duration) (<-chan time.Time, func()) {
	return make(chan time.Time), func() {}
}

var epoch0 = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// rig is a rollout with runners.
type rig struct {
	t     *testing.T
	docs  *docs
	fleet *fleet
	clock *clock
	runs  []*rollout.Runner
}

func newRig(t *testing.T, pods, runners int) *rig {
	t.Helper()
	r := &rig{t: t, docs: &docs{}, fleet: newFleet(pods), clock: &clock{now: epoch0}}
	for i := range runners {
		r.runs = append(r.runs, r.runner(fmt.Sprintf("proxy-%d", i)))
	}
	return r
}

func (r *rig) runner(id string) *rollout.Runner {
	return rollout.NewRunner(rollout.Options{ID: id, Documents: r.docs, Fleet: r.fleet, Clock: r.clock})
}

func (r *rig) start(q rollout.Request) *rollout.State {
	r.t.Helper()
	if q.Select == "" {
		q.Select = "all"
	}
	if q.Order == "" {
		q.Order = rollout.ByName
	}
	q.Who, q.Why = "ann", "because"
	s, err := rollout.Start(r.t.Context(), r.docs, r.fleet, q, false, r.clock.now)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// rounds lets each runner do n rounds, a beat apart.
func (r *rig) rounds(n int) {
	r.t.Helper()
	for range n {
		for _, run := range r.runs {
			if err := run.Round(r.t.Context()); err != nil && !errors.Is(err, killswitch.ErrControlUnavailable) {
				r.t.Fatal(err)
			}
		}
		r.clock.now = r.clock.now.Add(rollout.DefaultBeat)
	}
}

func (r *rig) state() *rollout.State {
	r.t.Helper()
	o, err := rollout.Read(r.t.Context(), r.docs)
	if err != nil || o.Current == nil {
		r.t.Fatalf("%+v, %v", o, err)
	}
	return o.Current
}

func (r *rig) moves() []backends.Pod {
	r.fleet.mu.Lock()
	defer r.fleet.mu.Unlock()
	return slices.Clone(r.fleet.moves)
}
