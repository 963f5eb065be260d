package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// The judge over whole proxies, in virtual time: several of them serve a pod whose stores have clocks of their
// own, with calls that take their time, shadows that are away, proxies that are killed, leave and come, and sheets
// that are late. All of it is honest, so nothing may be confirmed; what is explained has its order.

const shop = backends.Shop("shop")

var (
	errCut = errors.Join(backends.ErrAmbiguous, errors.New("the line is cut"))
	spots  = []backends.Location{"east", "west"}
	goods  = []backends.Item{"mug", "lamp", "cup"}
)

// wire is a store as one proxy reaches it: calls take their time, before they take effect and after, and may fail at
// either end.
type wire struct {
	backends.Store
	w      *market
	side   backends.Side
	silent bool // its grants do not say what stock they saw, as MySQL's
	cut    *atomic.Bool
}

func (l *wire) nap() error {
	pause(time.Duration(l.w.draw(l.w.slow)) * 100 * time.Microsecond)
	if l.cut.Load() || l.w.shadowAway.Load() && l.side != l.w.stage().Truth() {
		return errCut
	}
	return nil
}

func (l *wire) call(do func()) error {
	if err := l.nap(); err != nil {
		return err
	}
	do()
	return l.nap()
}

func (l *wire) Reserve(ctx context.Context, t backends.Token, r *backends.ReserveRequest) (d *backends.Decision, err error) {
	if cut := l.call(func() { d, err = l.Store.Reserve(ctx, t, r) }); cut != nil {
		return nil, cut
	}
	if l.silent && d != nil && d.Outcome == backends.OutcomeGranted {
		c := *d
		c.Seen, d = nil, &c
	}
	return d, err
}

func (l *wire) Claim(ctx context.Context, t backends.Token, r *backends.ClaimRequest) (d *backends.Decision, err error) {
	if cut := l.call(func() { d, err = l.Store.Claim(ctx, t, r) }); cut != nil {
		return nil, cut
	}
	return d, err
}

func (l *wire) Release(ctx context.Context, t backends.Token, r *backends.ReleaseRequest) (d *backends.Decision, err error) {
	if cut := l.call(func() { d, err = l.Store.Release(ctx, t, r) }); cut != nil {
		return nil, cut
	}
	return d, err
}

func (l *wire) Restock(ctx context.Context, t backends.Token, r *backends.RestockRequest) (d *backends.Decision, err error) {
	if cut := l.call(func() { d, err = l.Store.Restock(ctx, t, r) }); cut != nil {
		return nil, cut
	}
	return d, err
}

func (l *wire) Count(ctx context.Context, t backends.Token, r *backends.CountRequest) (c *backends.CountResult, err error) {
	if cut := l.call(func() { c, err = l.Store.Count(ctx, t, r) }); cut != nil {
		return nil, cut
	}
	return c, err
}

func (l *wire) Apply(ctx context.Context, t backends.Token, asOf backends.Instant, es []backends.Entry) (as []backends.Applied, err error) {
	if cut := l.call(func() { as, err = l.Store.Apply(ctx, t, asOf, es) }); cut != nil {
		return nil, cut
	}
	return as, err
}

func (l *wire) Probe(ctx context.Context, r *backends.ReserveRequest) (o *backends.OwnDecision, err error) {
	if cut := l.call(func() { o, err = l.Store.Probe(ctx, r) }); cut != nil {
		return nil, cut
	}
	return o, err
}

func (l *wire) Done(ctx context.Context, seqs []string) (out []string, err error) {
	if cut := l.call(func() { out, err = l.Store.Done(ctx, seqs) }); cut != nil {
		return nil, cut
	}
	return out, err
}

func (l *wire) Now(ctx context.Context) (n backends.Instant, err error) {
	if cut := l.call(func() { n, err = l.Store.Now(ctx) }); cut != nil {
		return 0, cut
	}
	return n, err
}

// papers are the findings and sheets as one proxy reaches them.
type papers struct {
	*memfindings.Store
	cut, late *atomic.Bool
}

func (p *papers) PutSheet(ctx context.Context, s comparator.Sheet) error {
	if p.cut.Load() || p.late.Load() {
		return errCut
	}
	return p.Store.PutSheet(ctx, s)
}

// till is one proxy of the pod.
type till struct {
	pod     *dualwrite.Pod
	service *dualwrite.Service
	c       *comparator.Comparator
	cut     *atomic.Bool // it was killed: it reaches nobody
	late    *atomic.Bool // its sheets do not get through
	left    bool
}

// market is the pod.
type market struct {
	*testing.T
	ctx          context.Context
	redis, mysql *memstore.Store
	kept         *memfindings.Store
	shadowAway   atomic.Bool // nobody reaches it
	slow         int         // tenths of a millisecond that a call takes at most, at either end
	counts       bool        // counters are used as well

	mu     sync.Mutex
	rnd    *rand.Rand
	tills  []*till
	n      int
	fence  backends.Fence
	since  time.Time
	unsure string // why the stores need not agree, as the control store would tell
}

func (w *market) draw(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

func pause(d time.Duration) { <-time.After(d) }

func newMarket(t *testing.T, tr trade) *market {
	w := &market{T: t, ctx: context.Background(), fence: backends.Fence{Epoch: 1, Stage: tr.stage, Open: true, Filled: tr.stage == backends.Live}, kept: memfindings.New(), slow: tr.slow, counts: tr.counts, rnd: rand.New(rand.NewPCG(tr.seed, 1))}
	store := func(side backends.Side, skew time.Duration) *memstore.Store {
		s := memstore.New(memstore.Options{Side: side, OutboxMax: tr.outbox, Clock: func() backends.Instant { return backends.Instant(time.Now().Add(skew).UnixMilli()) }})
		if _, err := s.Raise(w.ctx, w.fence, 0); err != nil {
			t.Fatal(err)
		}
		return s
	}
	w.redis, w.mysql = store(backends.SideRedis, 30*time.Second), store(backends.SideMySQL, -30*time.Second)
	return w
}

func (w *market) stage() backends.Stage {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fence.Stage
}

func (w *market) pair() (comparator.Pair, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, truth := dualwrite.Stores{Redis: w.redis, MySQL: w.mysql}, w.fence.Stage.Truth()
	return comparator.Pair{Stage: w.fence.Stage, Truth: s.Of(truth), Shadow: s.Of(truth.Other()), Unsure: w.unsure, SureSince: w.since}, nil
}

// change does what a change of stage has to do, while nothing is sure.
func (w *market) change(why string, do func() error) {
	w.mu.Lock()
	if w.unsure != "" {
		w.mu.Unlock()
		return
	}
	w.unsure = why
	w.mu.Unlock()
	if err := do(); err != nil {
		return // it stays unsure, as it does where the work stays due
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsure, w.since = "", time.Now()
}

// enter goes from redis-only, where some have bought, to shadow: the backfill is not done at once.
func (w *market) enter() {
	w.raise(backends.Fence{Epoch: w.fence.Epoch + 1, Stage: backends.RedisOnly, Open: true})
	w.shopper(100, 30)
	go w.change("a change of stage", func() error {
		w.raise(backends.Fence{Epoch: w.fence.Epoch + 1, Stage: backends.Shadow, Open: true})
		pause(time.Second)
		return w.backfill(w.some())
	})
}

// raise brings the stores, and the proxies that serve, to a fence.
func (w *market) raise(f backends.Fence) {
	w.mu.Lock()
	w.fence = f
	tills := slices.Clone(w.tills)
	w.mu.Unlock()
	for _, s := range []*memstore.Store{w.mysql, w.redis} {
		if _, err := s.Raise(w.ctx, f, 0); err != nil {
			w.Error(err)
		}
	}
	for _, l := range tills {
		if err := l.pod.Refresh(w.ctx); err != nil {
			w.Error(err)
		}
	}
}

// backfill makes the shadow complete; nobody is left to do it where l is nil.
func (w *market) backfill(l *till) error {
	if l == nil {
		return errCut
	}
	ctx, cancel := context.WithTimeout(w.ctx, 2*time.Minute)
	defer cancel()
	return l.pod.Backfill(ctx, nil)
}

// kill makes Redis the truth, out of live: one compare-and-set, and then MySQL is brought over.
func (w *market) kill() {
	w.change("a kill", func() error {
		w.mu.Lock()
		w.fence = backends.Fence{Epoch: w.fence.Epoch + 1, Stage: backends.Shadow, Open: true}
		f := w.fence
		w.mu.Unlock()
		if _, err := w.redis.Raise(w.ctx, f, 0); err != nil {
			return err
		}
		l := w.some()
		if l == nil {
			return w.backfill(nil)
		}
		if err := l.pod.Refresh(w.ctx); err != nil {
			return err
		}
		if _, err := l.pod.Settle(w.ctx); err != nil {
			return err
		}
		return w.backfill(l)
	})
}

// open adds a proxy.
func (w *market) open() {
	l := &till{cut: &atomic.Bool{}, late: &atomic.Bool{}}
	var err error
	kept := &papers{Store: w.kept, cut: l.cut, late: l.late}
	w.mu.Lock()
	w.n++
	name := fmt.Sprint("p", w.n)
	w.mu.Unlock()
	l.c, err = comparator.New(comparator.Config{Pod: "pod", Proxy: name, Store: kept, Sheets: kept, Rechecker: comparator.NewStoreRechecker(w.pair, time.Now)})
	if err != nil {
		w.Error(err)
		return
	}
	if err := l.c.Start(w.ctx); err != nil {
		w.Error(err)
		return
	}
	stores := dualwrite.Stores{
		Redis: &wire{Store: w.redis, w: w, side: backends.SideRedis, cut: l.cut},
		MySQL: &wire{Store: w.mysql, w: w, side: backends.SideMySQL, silent: true, cut: l.cut},
	}
	l.pod = dualwrite.NewPod("pod", stores, dualwrite.Options{Comparer: l.c, Lanes: 2, LaneDepth: 16})
	if err := l.pod.Refresh(w.ctx); err != nil {
		w.Error(err)
		return
	}
	l.service = dualwrite.NewService(l.pod, nil)
	l.service.Start(w.ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tills = append(w.tills, l)
}

// some gives one of the proxies that serve; nil when there is none.
func (w *market) some() *till {
	w.mu.Lock()
	defer w.mu.Unlock()
	var open []*till
	for _, l := range w.tills {
		if !l.left {
			open = append(open, l)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return open[w.rnd.IntN(len(open))]
}

// shopper does ops things at whatever proxy.
func (w *market) shopper(who, ops int) {
	var mine []backends.HoldID
	for i := range ops {
		pause(time.Duration(w.draw(400)) * 100 * time.Microsecond)
		l := w.some()
		if l == nil {
			continue
		}
		id := fmt.Sprintf("%d-%d", who, i)
		switch what := w.draw(20); {
		case what == 0:
			_, _ = l.pod.Restock(w.ctx, &backends.RestockRequest{OpID: backends.OpID("r" + id), Key: w.place(), Amount: int64(1 + w.draw(3))})
		case what == 1 && w.counts:
			_, _ = l.pod.Count(w.ctx, &backends.CountRequest{OpID: backends.OpID("c" + id), Key: w.place(), Delta: int64(w.draw(2)*2 - 1)})
		case what < 9 && len(mine) > 0:
			k := w.draw(len(mine))
			hold := mine[k]
			mine = append(mine[:k], mine[k+1:]...)
			if what < 4 {
				_, _ = l.pod.Claim(w.ctx, &backends.ClaimRequest{ID: hold}, 0)
			} else {
				_, _ = l.pod.Release(w.ctx, &backends.ReleaseRequest{ID: hold})
			}
		default:
			if d, err := l.pod.Reserve(w.ctx, w.cart(backends.HoldID(id))); err == nil && d.Outcome == backends.OutcomeGranted {
				mine = append(mine, backends.HoldID(id))
			}
		}
	}
}

func (w *market) place() backends.Key {
	return backends.Key{Shop: shop, Item: goods[w.draw(len(goods))], Location: spots[w.draw(len(spots))]}
}

func (w *market) cart(id backends.HoldID) *backends.ReserveRequest {
	r := &backends.ReserveRequest{ID: id, Shop: shop, TTL: time.Duration(1+w.draw(4)) * time.Second}
	first := w.draw(len(goods))
	for k := range 1 + w.draw(2) {
		at := w.draw(2)
		l := backends.Line{Item: goods[(first+k)%len(goods)], Quantity: int64(1 + w.draw(3)), Locations: []backends.Location{spots[at], spots[1-at]}, Split: w.draw(3) == 0}
		if w.draw(2) == 0 {
			l.Locations = l.Locations[:1]
		}
		r.Lines = append(r.Lines, l)
	}
	return r
}

// trouble does something to a proxy, or to the way to the shadow.
func (w *market) trouble(kind int) {
	l := w.some()
	if l == nil {
		return
	}
	leave := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		l.left = true
	}
	switch kind {
	case 0: // killed: its lanes and calls are gone, and its record with it
		leave()
		l.cut.Store(true)
		w.open()
	case 1: // stopped in good order
		leave()
		l.service.Stop()
		l.c.Stop()
		w.open()
	case 2:
		w.shadowAway.Store(true)
		pause(time.Duration(1+w.draw(4)) * time.Second)
		w.shadowAway.Store(false)
	case 3:
		l.late.Store(true)
		pause(time.Duration(1+w.draw(40)) * time.Second)
		l.late.Store(false)
	case 4:
		w.open()
	case 5:
		w.change("a backfill", func() error { return w.backfill(l) })
	case 6:
		if w.stage() == backends.Live {
			w.kill()
		}
	}
}

// trade is what a run of the market does.
type trade struct {
	stage    backends.Stage
	seed     uint64
	slow     int
	counts   bool
	enters   bool // it begins in redis-only, with holds of which the shadow is not told before the backfill
	outbox   int  // entries that an outbox holds; 0: enough
	troubles []int
}

// play trades, lets everything come to rest, and answers what became of the decisions that differed, and what is
// open.
func (tr trade) play(t *testing.T) (got comparator.Counts, open []comparator.Finding) {
	w := newMarket(t, tr)
	for range 3 {
		w.open()
	}
	for _, item := range goods {
		for _, at := range spots {
			k := backends.Key{Shop: shop, Item: item, Location: at}
			if _, err := w.some().pod.Restock(w.ctx, &backends.RestockRequest{OpID: backends.OpID("load " + k.String()), Key: k, Amount: int64(2 + w.draw(4))}); err != nil {
				t.Error(err)
			}
		}
	}
	var wg sync.WaitGroup
	if tr.enters {
		w.enter()
	}
	for who := range 6 {
		wg.Go(func() { w.shopper(who, 50) })
	}
	for _, kind := range tr.troubles {
		pause(time.Duration(w.draw(900)) * time.Millisecond)
		w.trouble(kind)
	}
	wg.Wait()
	if tr.outbox > 0 { // what was dropped is brought over
		w.change("a backfill", func() error { return w.backfill(w.some()) })
	}
	pause(5 * time.Minute)
	for _, l := range w.tills {
		l.service.Stop()
		l.c.Stop()
		if err := l.c.Check(); err != nil {
			t.Error(err)
		}
		c := l.c.Snapshot().Counts
		got.Explained, got.Confirmed, got.Settling = got.Explained+c.Explained, got.Confirmed+c.Confirmed, got.Settling+c.Settling
		got.Undetermined += c.Undetermined - l.c.Stats().Undetermined["overtaken"] // that the shadow never decided
	}
	open, err := w.kept.ListFindings(w.ctx, comparator.FindingQuery{Pod: "pod", Lives: []comparator.Life{comparator.LifeOpen}})
	if err != nil {
		t.Error(err)
	}
	return got, open
}

func drawTrade(t *rapid.T) trade {
	tr := trade{
		stage: rapid.SampledFrom([]backends.Stage{backends.Shadow, backends.Live}).Draw(t, "stage"), seed: rapid.Uint64().Draw(t, "seed"),
		slow: rapid.SampledFrom([]int{1, 30, 300}).Draw(t, "slow"), counts: rapid.Bool().Draw(t, "counts"),
		troubles: rapid.SliceOfN(rapid.IntRange(0, 6), 0, 5).Draw(t, "troubles"),
	}
	if tr.stage == backends.Shadow {
		tr.enters = rapid.Bool().Draw(t, "enters")
		tr.outbox = rapid.SampledFrom([]int{0, 0, 8}).Draw(t, "outbox")
	}
	return tr
}

func TestHonestProxiesHaveNoFindings(t *testing.T) {
	var calm comparator.Counts // where nothing went wrong, and the record lacks nothing
	rapid.Check(t, func(rt *rapid.T) {
		tr := drawTrade(rt)
		var got comparator.Counts
		var open []comparator.Finding
		synctest.Test(t, func(t *testing.T) { got, open = tr.play(t) })
		if len(open) > 0 || got.Confirmed > 0 || got.Settling > 0 {
			rt.Fatalf("%+v\n%+v", got, open)
		}
		if len(tr.troubles) == 0 && !tr.counts && !tr.enters && tr.outbox == 0 {
			calm.Explained, calm.Undetermined = calm.Explained+got.Explained, calm.Undetermined+got.Undetermined
		}
	})
	if calm.Explained == 0 || calm.Explained < 50*calm.Undetermined {
		t.Errorf("%d decisions were explained, %d stayed undetermined: the test shows little", calm.Explained, calm.Undetermined)
	}
}
