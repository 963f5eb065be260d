package dualwrite_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// patience bounds every wait for something that happens on another goroutine.
const patience = 20 * time.Second

const (
	shop  = backends.Shop("shop")
	where = backends.Location("east")
)

func key(item backends.Item) backends.Key {
	return backends.Key{Shop: shop, Item: item, Location: where}
}

func cart(id backends.HoldID, item backends.Item, n int64) *backends.ReserveRequest {
	return &backends.ReserveRequest{ID: id, Shop: shop, TTL: time.Minute, Lines: []backends.Line{{Item: item, Quantity: n, Locations: []backends.Location{where}}}}
}

// clock is time that moves when somebody waits for it, and by hand. What a test waits for on
// another goroutine must not depend on it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *clock) Wait(ctx context.Context, wake <-chan struct{}, d time.Duration) error {
	select {
	case <-wake:
		return nil
	default:
	}
	c.pass(d)
	return ctx.Err()
}

func (c *clock) instant() backends.Instant { return backends.Instant(c.Now().UnixMilli()) }

// link is a store as a pod reaches it: a test may do something at its calls, or have them fail.
type link struct {
	backends.Store
	before func(call string) error // called before each write, probe and check of the fence
	after  func(call string)       // called behind a reserve
	spoil  func([]backends.Applied)
	fence  func() error // called before each read of the fence
}

func (l *link) Fence(ctx context.Context) (backends.Fence, error) {
	if l.fence != nil {
		if err := l.fence(); err != nil {
			return backends.Fence{}, err
		}
	}
	return l.Store.Fence(ctx)
}

func (l *link) on(call string) error {
	if l.before == nil {
		return nil
	}
	return l.before(call)
}

func (l *link) Reserve(ctx context.Context, t backends.Token, r *backends.ReserveRequest) (*backends.Decision, error) {
	if err := l.on("reserve"); err != nil {
		return nil, err
	}
	d, err := l.Store.Reserve(ctx, t, r)
	if l.after != nil {
		l.after("reserve")
	}
	return d, err
}

func (l *link) Apply(ctx context.Context, t backends.Token, asOf backends.Instant, es []backends.Entry) ([]backends.Applied, error) {
	if err := l.on("apply"); err != nil {
		return nil, err
	}
	res, err := l.Store.Apply(ctx, t, asOf, es)
	if l.spoil != nil {
		l.spoil(res)
	}
	return res, err
}

func (l *link) Done(ctx context.Context, seqs []string) ([]string, error) {
	if err := l.on("done"); err != nil {
		return nil, err
	}
	return l.Store.Done(ctx, seqs)
}

func (l *link) Probe(ctx context.Context, r *backends.ReserveRequest) (*backends.OwnDecision, error) {
	if err := l.on("probe"); err != nil {
		return nil, err
	}
	return l.Store.Probe(ctx, r)
}

func (l *link) Admitted(ctx context.Context, t backends.Token, asMirror bool) error {
	if err := l.on("admitted"); err != nil {
		return err
	}
	return l.Store.Admitted(ctx, t, asMirror)
}

func (l *link) Now(ctx context.Context) (backends.Instant, error) {
	if err := l.on("now"); err != nil {
		return 0, err
	}
	return l.Store.Now(ctx)
}

// book is a comparer that writes down what it is told.
type book struct {
	mu                      sync.Mutex
	begun, sampledOut, lost int64
	seen                    []comparator.Observation
	tickets                 uint64
	followed                []comparator.Followed
	told                    func(comparator.Followed) // called before it is written down
}

func (b *book) Begin(uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun++
}

func (b *book) Observe(o comparator.Observation) {
	if o.Op != backends.OpReserve {
		return // no decision of both stores
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, o)
}

func (b *book) Following(backends.Instant) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tickets++
	return b.tickets
}

func (b *book) Followed(f comparator.Followed) {
	if b.told != nil {
		b.told(f)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.followed = append(b.followed, f)
}

func (b *book) SampledOut(_ uint64, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sampledOut += n
}

func (b *book) Lost(_ uint64, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost += n
}

// counts says it all in one line: decisions begun, observed, sampled out, lost.
func (b *book) counts() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprintf("begun %d, observed %d, sampled out %d, lost %d", b.begun, len(b.seen), b.sampledOut, b.lost)
}

// rig is a pod over two memory stores.
type rig struct {
	*dualwrite.Pod
	t            *testing.T
	ctx          context.Context
	clock        *clock
	redis, mysql *link
	book         *book
	epoch        uint64
}

// newRig gives a pod in a stage, with 10 mugs and 1 lamp in both stores.
func newRig(t *testing.T, stage backends.Stage, change ...func(*dualwrite.Options)) *rig {
	return newRigOn(t, stage, memstore.Options{}, change...)
}

func newRigOn(t *testing.T, stage backends.Stage, mo memstore.Options, change ...func(*dualwrite.Options)) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r := &rig{t: t, ctx: ctx, clock: &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, book: &book{}}
	mo.Clock = r.clock.instant
	side := func(s backends.Side) *link {
		mo.Side = s
		return &link{Store: memstore.New(mo)}
	}
	r.redis, r.mysql = side(backends.SideRedis), side(backends.SideMySQL)
	r.fences(backends.Shadow)
	for item, n := range map[backends.Item]int64{"mug": 10, "lamp": 1} {
		r.load(item, n)
	}
	r.fences(stage)
	r.Pod = r.proxy(change...)
	return r
}

// proxy gives another pod over the same stores, as a second proxy would have it.
func (r *rig) proxy(change ...func(*dualwrite.Options)) *dualwrite.Pod {
	r.t.Helper()
	o := dualwrite.Options{Clock: r.clock, Comparer: r.book, Lanes: 1, LaneDepth: 8}
	for _, f := range change {
		f(&o)
	}
	p := dualwrite.NewPod("pod", dualwrite.Stores{Redis: r.redis, MySQL: r.mysql}, o)
	if err := p.Refresh(r.ctx); err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r *rig) tok() backends.Token { return backends.Token{Epoch: r.epoch} }

// fences brings both stores to a stage under the next epoch.
func (r *rig) fences(stage backends.Stage) {
	r.t.Helper()
	r.epoch++
	f := backends.Fence{Epoch: r.epoch, Stage: stage, Open: true, Filled: stage == backends.Live}
	r.raise(r.mysql, f)
	r.raise(r.redis, f)
}

func (r *rig) raise(l *link, f backends.Fence) {
	r.t.Helper()
	if _, err := l.Store.Raise(r.ctx, f, 0); err != nil {
		r.t.Fatal(err)
	}
}

// kill is the compare-and-set in Redis, and nothing else.
func (r *rig) kill() {
	r.t.Helper()
	r.epoch++
	r.raise(r.redis, backends.Fence{Epoch: r.epoch, Stage: backends.Shadow, Open: true})
}

func (r *rig) load(item backends.Item, n int64) {
	r.t.Helper()
	d, err := r.redis.Store.Restock(r.ctx, r.tok(), &backends.RestockRequest{OpID: backends.OpID("load " + item), Key: key(item), Amount: n})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.mysql.Store.Apply(r.ctx, r.tok(), r.clock.instant(), []backends.Entry{*d.Entry}); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.redis.Done(r.ctx, []string{d.Entry.Seq}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) reserve(id backends.HoldID, item backends.Item, n int64) *backends.Decision {
	r.t.Helper()
	d, err := r.Reserve(r.ctx, cart(id, item, n))
	if err != nil {
		r.t.Fatalf("reserve %s: %v", id, err)
	}
	return d
}

func (r *rig) grant(id backends.HoldID, item backends.Item, n int64) *backends.Decision {
	r.t.Helper()
	d := r.reserve(id, item, n)
	if d.Outcome != backends.OutcomeGranted {
		r.t.Fatalf("reserve %s was answered %s", id, d.Outcome)
	}
	return d
}

func (r *rig) claim(id backends.HoldID) *backends.Decision {
	r.t.Helper()
	d, err := r.Claim(r.ctx, &backends.ClaimRequest{ID: id}, 0)
	if err != nil || d.Outcome != backends.OutcomeClaimed {
		r.t.Fatalf("claim %s: %+v, %v", id, d, err)
	}
	return d
}

// lane turns the one lane until it is empty.
func (r *rig) lane() {
	for r.LaneStep(r.ctx, 0) > 0 {
		continue
	}
}

func (r *rig) sweep(age time.Duration) {
	r.t.Helper()
	if _, _, err := r.SweepNow(r.ctx, age); err != nil {
		r.t.Fatal(err)
	}
}

// state of a hold in a store.
func (r *rig) state(l *link, id backends.HoldID) backends.State {
	r.t.Helper()
	h, err := l.Store.Get(r.ctx, id)
	if err != nil {
		r.t.Fatal(err)
	}
	if h == nil {
		return backends.StateUnknown
	}
	return h.State
}

func (r *rig) states(id backends.HoldID, redis, mysql backends.State) {
	r.t.Helper()
	if a, b := r.state(r.redis, id), r.state(r.mysql, id); a != redis || b != mysql {
		r.t.Errorf("hold %s is %s in redis and %s in mysql, want %s and %s", id, a, b, redis, mysql)
	}
}

func (r *rig) waiting(l *link, n int64) {
	r.t.Helper()
	st, err := l.OutboxStats(r.ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	if st.Entries != n {
		r.t.Errorf("%d entries are in the outbox, want %d", st.Entries, n)
	}
}

func (r *rig) counted(want string) {
	r.t.Helper()
	if got := r.book.counts(); got != want {
		r.t.Errorf("the comparer was told: %s; want %s", got, want)
	}
}

// agree wants the same levels in both stores, in balance.
func (r *rig) agree() {
	r.t.Helper()
	keys := []backends.Key{key("lamp"), key("mug")}
	a, err := r.redis.Levels(r.ctx, keys)
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := r.mysql.Levels(r.ctx, keys)
	if err != nil || len(a) != len(b) {
		r.t.Fatalf("%d levels in redis, %d in mysql, %v", len(a), len(b), err)
	}
	for i := range a {
		if a[i].OnHand != b[i].OnHand || a[i].Sellable() != b[i].Sellable() || a[i].Held != b[i].Held || a[i].Taken != b[i].Taken {
			r.t.Errorf("the levels differ:\n redis %+v\n mysql %+v", a[i], b[i])
		}
		if a[i].Imbalance() != 0 || b[i].Imbalance() != 0 {
			r.t.Errorf("out of balance:\n redis %+v\n mysql %+v", a[i], b[i])
		}
	}
}

// until waits for what another goroutine does.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !met() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}
