package killswitch_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/controltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pod = backends.Pod("pod")

var errDead = fmt.Errorf("this process is dead: %w", backends.ErrUnavailable)

// world is one pod: two memory stores and a control store, which any number of processes share. P1 is
// checked after every change of a fence, under the lock that all changes take.
type world struct {
	tb      failer
	mu      sync.Mutex
	redis   *memstore.Store
	mysql   *memstore.Store
	control *controltest.Memory
	// late are raises whose answer was lost and whose effect has yet to come.
	late []func()
	n    int // processes so far
	ops  int // operations so far
	// acked are the holds whose reserve was acknowledged.
	acked []backends.HoldID
}

type failer interface {
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Helper()
}

func newWorld(tb failer) *world {
	return &world{
		tb:      tb,
		redis:   memstore.New(memstore.Options{Side: backends.SideRedis}),
		mysql:   memstore.New(memstore.Options{Side: backends.SideMySQL}),
		control: controltest.NewMemory(),
	}
}

func (w *world) fences() (r, m backends.Fence) {
	ctx := context.Background()
	r, _ = w.redis.Fence(ctx)
	m, _ = w.mysql.Fence(ctx)
	return r, m
}

func (w *world) checkOneTruth() {
	r, m := w.fences()
	if byRedis, byMySQL := killswitch.Acknowledgeable(r, m); byRedis && byMySQL {
		w.tb.Errorf("P1 is broken: both stores can acknowledge, Redis at %s, MySQL at %s", r, m)
	}
}

// life is one process: it can be made to die, or to lose one answer, at a call of its stores.
type life struct {
	mu sync.Mutex
	// dieAt counts down at each call; at 0 the process dies: after that call's effect if after.
	dieAt int
	after bool
	dead  bool
	calls int
	// loseNext: the next raise is answered by an unknown outcome; its effect comes late.
	loseNext bool
	// loseAt counts raises down; the one at which it is 0 is lost so, and its store does not answer
	// from then on.
	loseAt int
	// noFence is how many readings of MySQL's fence fail.
	noFence int
	// cutOffAt counts raises down; the one at which it is 0 is lost so, and the process dies.
	cutOffAt int
	// atRaise runs before each raise, afterRaise and afterLoss once after one.
	atRaise, afterRaise, afterLoss func()
	// ages are how old the oldest entry of an outbox seems to be, at its next readings.
	ages []time.Duration
	// down are the sides that do not answer; noControl the same for the control store.
	down      map[backends.Side]bool
	noControl bool
}

// enter is called before, leave after each call.
func (l *life) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if l.dieAt > 0 {
		if l.dieAt--; l.dieAt == 0 && !l.after {
			l.dead = true
		} else if l.dieAt == 0 {
			l.dieAt = -1
		}
	}
	if l.dead {
		return errDead
	}
	return nil
}

func (l *life) leave() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dieAt == -1 {
		l.dead = true
	}
	if l.dead {
		return errors.Join(errDead, backends.ErrAmbiguous)
	}
	return nil
}

// port is a store as one process reaches it.
type port struct {
	w     *world
	l     *life
	side  backends.Side
	store *memstore.Store
}

func (p *port) reach() error {
	if err := p.l.enter(); err != nil {
		return err
	}
	if p.l.down[p.side] {
		return fmt.Errorf("%s is down: %w", p.side, backends.ErrUnavailable)
	}
	return nil
}

func (p *port) Fence(ctx context.Context) (backends.Fence, error) {
	if err := p.reach(); err != nil {
		return backends.Fence{}, err
	}
	if p.side == backends.SideMySQL && p.l.noFence > 0 {
		p.l.noFence--
		return backends.Fence{}, backends.ErrUnavailable
	}
	f, err := p.store.Fence(ctx)
	return f, errors.Join(err, p.l.leave())
}

func (p *port) Raise(ctx context.Context, f backends.Fence, ifEpoch uint64) (backends.Fence, error) {
	if f := p.l.atRaise; f != nil {
		f()
	}
	if err := p.reach(); err != nil {
		return backends.Fence{}, err
	}
	do := func() (backends.Fence, error) {
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		defer p.w.checkOneTruth()
		return p.store.Raise(context.WithoutCancel(ctx), f, ifEpoch)
	}
	if p.l.cutOffAt > 0 {
		p.l.cutOffAt--
		p.l.loseNext = p.l.cutOffAt == 0
		p.l.dead = p.l.loseNext
	}
	if p.l.loseAt > 0 {
		p.l.loseAt--
		p.l.loseNext = p.l.loseAt == 0
		p.l.down[p.side] = p.l.loseNext
	}
	if p.l.loseNext {
		p.l.loseNext = false
		p.w.late = append(p.w.late, func() { _, _ = do() })
		if f := p.l.afterLoss; f != nil {
			p.l.afterLoss = nil
			f()
		}
		return backends.Fence{}, backends.ErrAmbiguous
	}
	if err := ctx.Err(); err != nil {
		return backends.Fence{}, errors.Join(backends.ErrUnavailable, err)
	}
	got, err := do()
	if f := p.l.afterRaise; f != nil {
		p.l.afterRaise = nil
		f()
	}
	if dead := p.l.leave(); dead != nil {
		return backends.Fence{}, dead
	}
	return got, err
}

func (p *port) OutboxStats(ctx context.Context) (backends.OutboxStats, error) {
	if err := p.reach(); err != nil {
		return backends.OutboxStats{}, err
	}
	st, err := p.store.OutboxStats(ctx)
	if n := len(p.l.ages); n > 0 {
		st.Entries, st.OldestMillis, p.l.ages = 1, p.l.ages[0].Milliseconds(), p.l.ages[1:]
	}
	return st, errors.Join(err, p.l.leave())
}

// controlOf is the control store as one process reaches it.
type controlOf struct {
	killswitch.ControlStore
	l *life
}

func (c controlOf) Get(ctx context.Context, pod backends.Pod) (killswitch.PodState, killswitch.Revision, error) {
	if err := c.reach(); err != nil {
		return killswitch.PodState{}, 0, err
	}
	return c.ControlStore.Get(ctx, pod)
}

func (c controlOf) reach() error {
	if err := c.l.enter(); err != nil {
		return err
	}
	if c.l.noControl {
		return killswitch.ErrControlUnavailable
	}
	return nil
}

func (c controlOf) CompareAndSet(ctx context.Context, pod backends.Pod, rev killswitch.Revision, next killswitch.PodState) (killswitch.Revision, error) {
	if err := c.reach(); err != nil {
		return 0, err
	}
	at, err := c.ControlStore.CompareAndSet(ctx, pod, rev, next)
	if dead := c.l.leave(); dead != nil {
		return 0, dead
	}
	return at, err
}

func (c controlOf) AppendHistory(ctx context.Context, pod backends.Pod, changes ...killswitch.Change) error {
	if err := c.reach(); err != nil {
		return err
	}
	return c.ControlStore.AppendHistory(ctx, pod, changes...)
}

// virtually runs a test in a bubble of testing/synctest: its time goes by at once.
func virtually(f func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}

// elapse lets virtual time go by.
func elapse(d time.Duration) { <-time.After(d) }

// process is one running proxy, as far as switching goes.
type process struct {
	*life
	*killswitch.Driver
	id      string
	w       *world
	carrier *carrier
	stores  killswitch.Stores
}

func (w *world) process() *process {
	w.n++
	l := &life{down: map[backends.Side]bool{}}
	p := &process{life: l, w: w, id: fmt.Sprintf("process-%d", w.n)}
	p.stores = killswitch.Stores{
		Redis: &port{w, l, backends.SideRedis, w.redis},
		MySQL: &port{w, l, backends.SideMySQL, w.mysql},
	}
	p.carrier = &carrier{p: p}
	p.Driver = killswitch.NewDriver(killswitch.DriverOptions{
		ID: p.id, Control: controlOf{w.control, l}, Carrier: p.carrier,
		Stores: func(backends.Pod) (killswitch.Stores, error) { return p.stores, nil },
	})
	return p
}

var key = backends.Key{Shop: "s", Item: "i", Location: "l"}

// stock loads plenty in both stores, as a restock and its mirror would have.
func (w *world) stock() {
	ctx := context.Background()
	// Each at a stage in which it takes mirrors, for this one time.
	e := []backends.Entry{{Op: backends.OpRestock, Level: &backends.LevelChange{Key: key, OpID: "load", OnHandDelta: 1_000_000}}}
	_, _ = w.redis.Raise(ctx, backends.Fence{Epoch: 1, Stage: backends.Live, Open: true}, 0)
	_, _ = w.mysql.Raise(ctx, backends.Fence{Epoch: 1, Stage: backends.Shadow, Open: true}, 0)
	for _, s := range []*memstore.Store{w.redis, w.mysql} {
		now, _ := s.Now(ctx)
		if _, err := s.Apply(ctx, backends.Token{Epoch: 1}, now, e); err != nil {
			w.tb.Fatalf("loading stock: %v", err)
		}
	}
}

// reserve is a proxy that believes in f: it decides by f's truth, and acknowledges by f's rules. It
// keeps what was acknowledged. between runs after the decision and before its mirror.
func (w *world) reserve(f backends.Fence, between func()) {
	ctx := context.Background()
	w.ops++
	id := backends.HoldID(fmt.Sprintf("hold-%d", w.ops))
	truth, other := w.redis, w.mysql
	if f.Stage.Truth() == backends.SideMySQL {
		truth, other = w.mysql, w.redis
	}
	t := backends.Token{Epoch: f.Epoch}
	d, err := truth.Reserve(ctx, t, &backends.ReserveRequest{
		ID: id, Shop: key.Shop, TTL: time.Hour,
		Lines: []backends.Line{{Item: key.Item, Quantity: 1, Locations: []backends.Location{key.Location}}},
	})
	if err != nil || d.Outcome != backends.OutcomeGranted {
		return
	}
	if between != nil {
		between()
	}
	if f.Arbitrates() {
		now, _ := other.Now(ctx)
		as, err := other.Apply(ctx, t, now, []backends.Entry{*d.Entry})
		if err != nil || as[0].Err != nil {
			return // not acknowledged: it will be void, or carried
		}
	}
	w.acked = append(w.acked, id)
}

// newLossy is a store whose outbox holds one entry.
func newLossy(side backends.Side) *memstore.Store {
	return memstore.New(memstore.Options{Side: side, OutboxMax: 1})
}

// newEmpty is a server that was replaced.
func newEmpty(side backends.Side) *memstore.Store {
	return memstore.New(memstore.Options{Side: side})
}

// forget loses the control store.
func (w *world) forget() { w.control = controltest.NewMemory() }

// begin puts the pod into a stage, with both fences, the record, and stock.
func (w *world) begin(t testing.TB, stage backends.Stage) {
	t.Helper()
	w.stock()
	f := backends.Fence{Epoch: 2, Stage: stage, Open: true, Filled: stage == backends.Live}
	for _, s := range []*memstore.Store{w.redis, w.mysql} {
		if _, err := s.Raise(context.Background(), f, 0); err != nil {
			t.Fatal(err)
		}
	}
	st := killswitch.PodState{Pod: pod, Stage: stage, Epoch: 2, Filled: f.Filled, Phase: killswitch.Serving, MaxEpoch: 2, Who: "test", Why: "begin"}
	if _, err := w.control.CompareAndSet(context.Background(), pod, 0, st); err != nil {
		t.Fatal(err)
	}
}

func (w *world) state() killswitch.PodState {
	st, _, err := w.control.Get(context.Background(), pod)
	if err != nil {
		w.tb.Fatalf("reading the record: %v", err)
	}
	return st
}

// settleDown lets every late effect happen, and then lets one healthy process finish everything.
func (w *world) settleDown() *process {
	w.tb.Helper()
	for _, f := range w.late {
		f()
	}
	w.late = nil
	p := w.process()
	ctx := context.Background()
	for range 40 {
		_, err := p.Resume(ctx, pod)
		if errors.Is(err, killswitch.ErrDriverAlive) {
			elapse(killswitch.DefaultTakeover)
			continue
		}
		if done, err := p.Work(ctx, pod, nil); err == nil && len(done) == 0 && w.state().Switch == nil {
			w.checkAtRest()
			return p
		}
	}
	r, m := w.fences()
	w.tb.Fatalf("the pod does not come to rest: Redis at %s, MySQL at %s, record %+v", r, m, w.state())
	return p
}

// checkAtRest: one truth serves, record and fences agree, and nothing acknowledged is lost.
func (w *world) checkAtRest() {
	w.tb.Helper()
	r, m := w.fences()
	st := w.state()
	if r != st.Fence() || m != st.Fence() {
		w.tb.Errorf("at rest the record says %s, Redis's fence %s, MySQL's %s", st.Fence(), r, m)
	}
	if byRedis, byMySQL := killswitch.Acknowledgeable(r, m); byRedis == byMySQL {
		w.tb.Errorf("at rest Redis can acknowledge: %t, MySQL: %t; want one of them", byRedis, byMySQL)
	}
	if st.Phase != killswitch.Serving || st.Worker != nil || len(st.Due) > 0 {
		w.tb.Errorf("at rest: phase %s, worker %v, due %v", st.Phase, st.Worker, st.Due)
	}
	if st.MaxEpoch < max(r.Epoch, m.Epoch) {
		w.tb.Errorf("the record knows epochs up to %d, the fences have %d and %d", st.MaxEpoch, r.Epoch, m.Epoch)
	}
	truth := w.redis
	if st.Stage.Truth() == backends.SideMySQL {
		truth = w.mysql
	}
	have, err := truth.GetMany(context.Background(), w.acked)
	if err != nil {
		w.tb.Fatalf("reading holds: %v", err)
	}
	for _, id := range w.acked {
		if h := have[id]; h == nil || h.State != backends.Held {
			w.tb.Errorf("P4 is broken: hold %s was acknowledged, and in the truth (%s) it is %+v", id, st.Fence(), h)
		}
	}
	hist, err := w.control.History(context.Background(), pod, 0, killswitch.MaxHistoryPage)
	if n := len(st.History); err != nil || n > 0 && (len(hist) == 0 || hist[len(hist)-1].Seq != st.History[n-1].Seq) {
		w.tb.Errorf("the full history ends at %d of %d changes (%v)", len(hist), n, err)
	}
}
