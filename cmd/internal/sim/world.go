package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/behind"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/controltest"
)

// Bounds of one schedule. Small worlds find what large ones hide: a promise that breaks, breaks with
// two proxies, two items and a handful of operations.
const (
	maxSteps = 4000
	holdTTL  = 200 * time.Millisecond
	// tightOutbox is the bound of the outboxes in one of tightEvery schedules.
	tightEvery, tightOutbox = 8, 2
	// failoverEvery: in one of so many schedules Redis is replaced by a replica without the last writes.
	failoverEvery = 5
	// fleetEvery: of so many schedules three have three proxies, the others two.
	fleetEvery = 7
	// murderEvery: in one of so many a driver dies at one of its calls, and in one the control store is away.
	murderEvery, awayEvery = 4, 9
)

const podName backends.Pod = "pod"

var keys = [...]backends.Key{
	{Shop: "s", Item: "a", Location: "l"},
	{Shop: "s", Item: "b", Location: "l"},
}

// world is one schedule.
type world struct {
	s        *scheduler
	seed     uint64
	redis    *memstore.Store
	mysql    *memstore.Store
	proxies  []*proxy
	faults   bool
	faultPct int
	initial  [len(keys)]int64
	hist     []instant // of the truth, for P3
	// roundTrip: the pod goes from live to mysql-only and back, and is killed: what only one store was
	// told of has to be known in the other by then. Left to chance that comes too seldom.
	roundTrip bool
	// tight: the outboxes hold next to nothing, and Redis is away for a while: what is dropped for want
	// of room must not have been acknowledged, or has to be made up for.
	tight bool
	// replica is what the replica of Redis has, while it lags; failover tells that it will be promoted.
	failover  bool
	replica   *memstore.Snapshot
	failovers int
	// lostHolds and lostOps are those of which a failover has lost something that MySQL did not have, and tellers the proxies
	// that had told somebody of them. setAside are keys at which an operator has decided.
	lostHolds map[backends.HoldID][]backends.Units
	lostOps   map[backends.OpID]backends.Key
	tellers   map[string][]*group
	setAside  map[backends.Key]bool
	unwritten map[string]bool // had no outbox entry: nobody but Redis knew of it
	// bareClaims were claimed in redis-only: of them only the claim was for MySQL.
	bareClaims map[backends.HoldID]bool
	// hastened: the re-issue came when the loops of the proxies had ended; sums of takes came too late then (docs/limits.md).
	hastened    bool
	listedHolds map[backends.HoldID]bool // filed as apologies by proxies
	sorry       promises                 // and their units
	repairs     int
	listed      bool // a restore has told of units on hand that it could not set right
	murders     int  // calls of drivers until one of them dies; 0: none does
	ops         []*op
	holds       []backends.HoldID
	nextID      int
	crashes     int
	kills       int
	switches    int
	control     *control
	counted     map[string]int // grants compared, by hold
	// the account of decisions, for P6
	begun, observed, sampledOut, lost int64
	// orderly: every process came to its end, and nothing was lost on the way
	orderly bool
	failure string
	// alone: MySQL may answer without Redis once the pod is marked, and Redis is away for a while.
	alone  bool
	behind behindSeen
	// keepers are those of every start of every proxy.
	keepers []*behind.Keeper
}

// fleet is how many proxies serve the pod.
func (w *world) fleet() int {
	switch w.seed % fleetEvery {
	case 0, 2, 5:
		return 3
	default:
		return 2
	}
}

// proxy is a group with one Pod. It is rebuilt after a crash.
type proxy struct {
	w   *world
	n   int
	g   *group
	pod *dualwrite.Pod
	drv *killswitch.Driver
	// stores as this proxy reaches them
	stores dualwrite.Stores
	cut    [3]time.Time // by side: unreachable until
	keeper *behind.Keeper
	disk   *disk // survives a crash
}

// instant is what the truth looked like after a step.
type instant struct {
	step     int
	truth    backends.Side
	sellable [len(keys)]int64
	// stores is what each store had for sale: what counts while the truth is on its way from one to
	// the other.
	stores [2][len(keys)]int64
}

// answers tells whether a count may have been answered n at that instant.
func (in *instant) answers(key int, n int64) bool {
	if in.truth != backends.SideUnknown {
		return in.sellable[key] == n
	}
	return in.stores[0][key] == n || in.stores[1][key] == n
}

// op is one operation of a client.
type op struct {
	kind       backends.Op
	hold       backends.HoldID
	want       []int64 // units per key, of a reserve or a claim with lines
	key        int
	delta      int64
	opID       backends.OpID
	value      int64 // what a count was answered
	replayed   bool  // by Redis's record of it: the first answer was lost
	start, end int
	ended      bool
	outcome    backends.Outcome
	err        error
	// listed: a kill has said that Redis may not have it.
	listed bool
}

func newWorld(seed uint64, pool *coroutines) *world {
	w := &world{s: newScheduler(seed, pool), seed: seed, counted: map[string]int{}, tight: seed%tightEvery == tightEvery-1,
		alone: seed%failoverEvery != 2 && (seed%aloneEvery == 0 || seed%tightAloneEvery == tightAloneEvery-1), behind: newBehindSeen(),
		failover: seed%failoverEvery == 2, lostHolds: map[backends.HoldID][]backends.Units{}, lostOps: map[backends.OpID]backends.Key{}, setAside: map[backends.Key]bool{}, unwritten: map[string]bool{}, bareClaims: map[backends.HoldID]bool{}, tellers: map[string][]*group{}, listedHolds: map[backends.HoldID]bool{}, sorry: promises{}}
	now := func() backends.Instant { return backends.Instant(w.s.now.UnixMilli()) }
	outbox := 0
	if w.tight {
		outbox = tightOutbox
	}
	w.redis = memstore.New(memstore.Options{Side: backends.SideRedis, Clock: now, OutboxMax: outbox})
	w.mysql = memstore.New(memstore.Options{Side: backends.SideMySQL, Clock: now, OutboxMax: outbox})
	w.control = &control{Memory: controltest.NewMemory(), w: w}
	return w
}

func (w *world) fail(format string, a ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf("step %d: ", w.s.steps) + fmt.Sprintf(format, a...)
	}
}

// tell writes a line of the trace, when there is one.
func (w *world) tell(line func() string) {
	if w.s.trace == nil {
		return
	}
	name := "outside"
	if w.s.cur != nil {
		name = w.s.cur.name
	}
	w.s.trace(fmt.Sprintf("%5d %s [%s] %s", w.s.steps, w.s.now.Sub(epoch0), name, line()))
}

func (w *world) draw() fault {
	if w.s.rng.IntN(100) >= w.faultPct {
		return faultNone
	}
	return fault(1 + w.s.rng.IntN(int(faultTwice)))
}

func (w *world) ghostSleep() {
	w.s.cur.until = w.s.now.Add(time.Duration(w.s.rng.IntN(300)) * time.Millisecond)
	w.s.pause()
}

// touched checks P5: a caller's operation calls the shadow in live only.
func (w *world) touched(l *link, name string) {
	p := w.s.cur
	if p == nil || !p.caller || l.side != backends.SideMySQL {
		return
	}
	if f, _ := w.redis.Fence(context.Background()); f.Open && f.Stage.Truth() == backends.SideRedis && !strings.HasPrefix(name, "fence") {
		// The operation may have begun under MySQL as truth and be refused there: that is how it
		// learns. What it must not do is mirror or probe.
		if name == "apply" || name == "probe" {
			w.fail("P5: a caller's operation waits for the shadow (%s)", name)
		}
	}
}

// truth is the store whose decisions could be acknowledged at this instant.
func (w *world) truth() backends.Side {
	ctx := context.Background()
	r, _ := w.redis.Fence(ctx)
	m, _ := w.mysql.Fence(ctx)
	rt := r.Admits(backends.Token{Epoch: r.Epoch}, backends.SideRedis)
	mt := m.Admits(backends.Token{Epoch: m.Epoch}, backends.SideMySQL)
	if mt && m.Arbitrates() {
		mt = r.AdmitsMirror(backends.Token{Epoch: m.Epoch}, backends.SideRedis) || m.MayAnswerAlone() && w.permitted(m.Epoch)
	}
	switch {
	case rt && mt:
		w.fail("P1: both stores could acknowledge: redis %s, mysql %s", r, m)
		return backends.SideUnknown
	case rt:
		return backends.SideRedis
	case mt:
		return backends.SideMySQL
	default:
		return backends.SideUnknown
	}
}

func (w *world) store(side backends.Side) *memstore.Store {
	if side == backends.SideMySQL {
		return w.mysql
	}
	return w.redis
}

// mutated is called after every call that may change a store: it keeps the history of the truth and checks P2.
func (w *world) mutated() {
	t := w.truth()
	in := instant{step: w.s.steps, truth: t}
	for n, side := range []backends.Side{backends.SideRedis, backends.SideMySQL} {
		ls, _ := w.store(side).Levels(context.Background(), keys[:])
		for _, l := range ls {
			if l.Imbalance() != 0 {
				w.fail("P2: %s %s is out of balance by %d: %+v", side, l.Key, l.Imbalance(), l)
			}
			if i := slices.Index(keys[:], l.Key); i >= 0 {
				in.stores[n][i] = l.Sellable()
			}
		}
	}
	switch t {
	case backends.SideRedis:
		in.sellable = in.stores[0]
	case backends.SideMySQL:
		in.sellable = in.stores[1]
	default:
	}
	w.hist = append(w.hist, in)
}

// start gives a proxy a fresh Pod: its memory is empty.
func (p *proxy) start() {
	w := p.w
	p.g = &group{name: fmt.Sprintf("proxy %d", p.n)}
	down := func(side backends.Side) func() bool {
		return func() bool { return w.s.now.Before(p.cut[side]) }
	}
	st := dualwrite.Stores{
		Redis: &link{Store: w.redis, w: w, g: p.g, side: backends.SideRedis, down: down(backends.SideRedis)},
		MySQL: &link{Store: w.mysql, w: w, g: p.g, side: backends.SideMySQL, down: down(backends.SideMySQL)},
	}
	p.stores = st
	p.keeper = p.newKeeper()
	p.pod = dualwrite.NewPod(podName, st, dualwrite.Options{
		Lone:     witness{p.keeper, w},
		GateWait: 100 * time.Millisecond, OpTimeout: 200 * time.Millisecond, SweepAge: 20 * time.Millisecond,
		Lanes: 2, LaneDepth: 4, Clock: clock{w.s}, Comparer: counter{w}, Filer: lister{w},
	})
	p.keeper.Bind(p.pod)
	p.drv = p.driver(st)
	for i, task := range p.tasks() {
		w.s.spawn(p.g, fmt.Sprintf("proxy %d task %d", p.n, i), task)
	}
}

// tasks are the loops of dualwrite.Service, with a bounded number of rounds.
func (p *proxy) tasks() []func() {
	ctx := context.Background()
	loop := func(rounds int, gap time.Duration, do func()) func() {
		return func() {
			for range rounds {
				do()
				p.w.s.cur.until = p.w.s.now.Add(gap)
				p.w.s.pause()
			}
		}
	}
	tasks := []func(){
		func() { _ = p.pod.Refresh(ctx); loop(8, 30*time.Millisecond, func() { _ = p.pod.Refresh(ctx) })() },
		loop(12, 5*time.Millisecond, func() { p.pod.LaneStep(ctx, 0) }),
		loop(12, 5*time.Millisecond, func() { p.pod.LaneStep(ctx, 1) }),
		loop(5, 40*time.Millisecond, func() { _, _, _ = p.pod.SweepNow(ctx, 20*time.Millisecond) }),
		loop(4, 60*time.Millisecond, func() { _, _ = p.pod.Expire(ctx) }),
		loop(3, 80*time.Millisecond, func() { _, _ = p.pod.Settle(ctx) }),
		loop(5, 40*time.Millisecond, func() {
			_, _ = p.drv.Resume(ctx, podName)
			_, _ = p.drv.Work(ctx, podName, nil)
		}),
		loop(6, 15*time.Millisecond, p.follow),
		loop(40, 40*time.Millisecond, func() { _ = p.pod.Refresh(ctx); _ = p.pod.GiveBack(ctx) }),
	}
	if p.w.alone {
		tasks = append(tasks, loop(aloneRounds, simLease/killswitch.RenewShare, func() { _ = p.keeper.Step(ctx) }))
	}
	return tasks
}

// follow is what a proxy's keeper does with the control store.
func (p *proxy) follow() {
	st, _, err := p.w.control.Get(context.Background(), podName)
	if err != nil {
		p.pod.Gate().Withdraw()
		return
	}
	p.keeper.Saw(st)
	if epoch, holds := st.Hold(); holds {
		p.pod.Gate().Announce(epoch)
		return
	}
	p.pod.Gate().Withdraw()
}

// counter is the comparer: it only counts, for P6.
type counter struct{ w *world }

func (c counter) Begin(uint64)                      { c.w.begun++ }
func (c counter) SampledOut(_ uint64, n int64)      { c.w.sampledOut += n }
func (c counter) Lost(_ uint64, n int64)            { c.w.lost += n }
func (c counter) Following(backends.Instant) uint64 { return 0 }
func (c counter) Followed(comparator.Followed)      {}

func (c counter) Observe(o comparator.Observation) {
	if o.Op != backends.OpReserve {
		return // not a decision of both stores
	}
	c.w.observed++
	if o.How == comparator.HowMirror {
		c.w.counted[string(o.Hold)]++
	}
}
