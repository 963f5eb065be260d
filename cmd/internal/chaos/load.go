package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	shop     = backends.Shop("chaos")
	location = backends.DefaultLocation

	hotItems  = 8   // for sale at the same time
	hotUnits  = 6   // of each, about as many as the buyers hold and far less than they ask for
	delivery  = 4   // units that are sold before as many are stocked again
	hotMost   = 200 // reserves of one item: then another comes. It bounds what a search for an order takes
	hotStop   = 400 // reserves of one item while no other has come
	hotReady  = 4   // items that are stocked beforehand
	pairItems = 4   // are bought in carts of two lines
	pairUnits = 60
	maxUnits  = 2 // of a line

	// longLife is that of holds that must not end by themselves, shortLife of those that shall.
	longLife  = time.Hour
	shortLife = time.Second
	thinkMost = 60 * time.Millisecond
	// patience bounds how long a buyer asks for one verdict.
	patience = 30 * time.Second
	// shyFor is how long a buyer does not go to a proxy that has failed him.
	shyFor    = time.Second
	pauseMost = 100 * time.Millisecond
	maxCarts  = 500_000
	maxFaults = 20_000
)

// item is one item on sale, with its history.
type item struct {
	name  backends.Item
	units int64
	hot   bool // bought in carts of one line: its history is judged

	sold, back atomic.Int64 // units claimed, and stocked again
	failed     atomic.Bool  // a restock has no verdict: nobody can say what has to be there

	mu      sync.Mutex
	begun   int
	missing int64 // units sold since the last restock
	history []op
}

func (i *item) key() backends.Key {
	return backends.Key{Shop: shop, Item: i.name, Location: location}
}

// op is one operation on one item, from the first try to the verdict.
type op struct {
	Op    string `json:"op"`
	ID    string `json:"id"`
	Units int64  `json:"units"`
	Buyer int    `json:"buyer"`
	// Began and Ended are in microseconds from the start of the load; Ended is -1 without a verdict.
	Began int64 `json:"began_us"`
	Ended int64 `json:"ended_us"`
	// Verdict is the answer's status; empty without one.
	Verdict string `json:"verdict"`
	Had     int64  `json:"had,omitempty"`
	// Uncertain: before the verdict a try was made of which nothing is known.
	Uncertain bool `json:"uncertain,omitempty"`
}

// cart is one hold as its buyer knows it.
type cart struct {
	id      backends.HoldID
	items   []*item
	units   []int64
	reserve op
	end     op // zero when there was none
	short   bool
	probe   bool
}

// fault is one try without a verdict.
type fault struct {
	proxy      int
	began, end time.Time
	code       string
}

// waited is how long one reserve took, and when.
type waited struct {
	began, end time.Time
}

// load is the traffic of one trial.
type load struct {
	name    string
	o       *Options
	clients []*redis.Client
	began   time.Time

	slots []atomic.Pointer[item]
	pairs []*item
	ready chan *item
	probe *item

	stop   context.CancelFunc // no new carts
	quit   context.CancelFunc // and no more tries
	buyers sync.WaitGroup
	ending context.Context
	base   context.Context

	reserves, granted, soldOut, claims, releases, retries, stocked atomic.Int64
	behind                                                         atomic.Bool // the shadow is

	mu      sync.Mutex
	items   []*item
	carts   []*cart
	faults  []fault
	waits   []waited
	probes  []probe
	wrong   []string
	excuses []*excuse
	full    bool
	stopped time.Time
}

// probe is one reserve of the prober of one proxy: one try.
type probe struct {
	proxy      int
	began, end time.Time
	id         backends.HoldID
	status     string
}

// excuse allows tries through one proxy (or all: -1) to fail for some time.
type excuse struct {
	proxy    int
	from, to time.Time
	why      string
}

// startLoad stocks the first items and lets the buyers in.
func startLoad(ctx context.Context, name string, o *Options, addrs []string, lag func(context.Context) (time.Duration, error)) (*load, error) {
	l := &load{name: name, o: o, began: time.Now(), slots: make([]atomic.Pointer[item], hotItems), ready: make(chan *item, hotReady)}
	l.base, l.quit = context.WithCancel(context.WithoutCancel(ctx))
	l.ending, l.stop = context.WithCancel(ctx)
	for _, a := range addrs {
		l.clients = append(l.clients, newClient(a, o.Buyers+4))
	}
	for i := range l.slots {
		it, err := l.stock(ctx, hotUnits, true)
		if err != nil {
			return l, err
		}
		l.slots[i].Store(it)
	}
	for range pairItems {
		it, err := l.stock(ctx, pairUnits, false)
		if err != nil {
			return l, err
		}
		l.pairs = append(l.pairs, it)
	}
	const plenty = 1_000_000
	var err error
	if l.probe, err = l.stock(ctx, plenty, false); err != nil {
		return l, err
	}
	for n := range o.Buyers {
		l.buyers.Go(func() {
			b := &buyer{load: l, n: n, shy: make([]time.Time, len(l.clients)), rnd: rand.New(rand.NewPCG(o.Seed, uint64(n)))} //nolint:gosec // a play
			b.shop()
		})
	}
	for n := range l.clients {
		l.buyers.Go(func() { l.prober(n) })
	}
	l.buyers.Go(l.stocker)
	l.buyers.Go(func() { l.watch(lag) })
	return l, nil
}

// watch has the buyers take their time while the shadow is behind: more than a machine carries shows nothing but that.
func (l *load) watch(lag func(context.Context) (time.Duration, error)) {
	const look, behind = 250 * time.Millisecond, 2 * time.Second
	for rest(l.ending, look); l.ending.Err() == nil; rest(l.ending, look) {
		by, err := lag(l.ending)
		l.behind.Store(err == nil && by > behind)
	}
}

// end lets no more buyers in, waits for the verdicts of those who are there, and closes the connections.
func (l *load) end() {
	l.stop()
	l.buyers.Wait()
	l.mu.Lock()
	l.stopped = time.Now()
	l.mu.Unlock()
	l.quit()
	for _, c := range l.clients {
		_ = c.Close()
	}
}

func (l *load) since(t time.Time) int64 { return t.Sub(l.began).Microseconds() }

// excuse allows failures of a proxy (-1: of all) from now on, until the function that it answers is called.
func (l *load) excuse(proxy int, why string) (over func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &excuse{proxy: proxy, from: time.Now(), why: why}
	l.excuses = append(l.excuses, e)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if e.to.IsZero() {
			e.to = time.Now()
		}
	}
}

// closeExcuses ends all that are open, at a moment; closeExcusesOf those of one proxy.
func (l *load) closeExcuses(at time.Time) { l.closeExcusesOf(-1, at) }

func (l *load) closeExcusesOf(proxy int, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.excuses {
		if e.to.IsZero() && e.proxy == proxy {
			e.to = at
		}
	}
}

// excused tells whether a try may have failed. A try that began before its excuse and met it may.
func (l *load) excused(f *fault) bool {
	for _, e := range l.excuses {
		if (e.proxy < 0 || e.proxy == f.proxy) && f.end.After(e.from) && (e.to.IsZero() || f.began.Before(e.to)) {
			return true
		}
	}
	return false
}

// stock makes an item with units through the proxies.
func (l *load) stock(ctx context.Context, units int64, hot bool) (*item, error) {
	it := &item{units: units, hot: hot}
	l.mu.Lock()
	it.name = backends.Item(fmt.Sprintf("%s-%d", l.name, len(l.items)))
	l.items = append(l.items, it)
	l.mu.Unlock()
	b := &buyer{load: l, n: -1, shy: make([]time.Time, len(l.clients)), rnd: rand.New(rand.NewPCG(l.o.Seed, uint64(len(it.name))))} //nolint:gosec // a play
	o := b.until(ctx, "stock", string(it.name), units, []any{"XF.RESTOCK", string(shop), string(it.name), units, "OPID", "stock-" + string(it.name), "MODE", "ONHAND"})
	if o.Verdict == "" {
		return nil, fmt.Errorf("item %s could not be stocked", it.name)
	}
	l.stocked.Add(units)
	return it, nil
}

// stocker has the next items ready.
func (l *load) stocker() {
	for l.ending.Err() == nil {
		it, err := l.stock(l.ending, hotUnits, true)
		if err != nil {
			continue
		}
		select {
		case l.ready <- it:
		case <-l.ending.Done():
		}
	}
}

// hot is the item of a slot; another when it has been asked for often enough. Nil: none at present.
func (l *load) hot(slot int) *item {
	it := l.slots[slot].Load()
	it.mu.Lock()
	defer it.mu.Unlock()
	it.begun++
	switch {
	case it.begun < hotMost:
		return it
	case it.begun > hotStop:
		it = nil
	}
	select {
	case next := <-l.ready:
		l.slots[slot].Store(next)
		return next
	default:
		return it
	}
}

// prober asks one proxy for a unit of what cannot run out, again and again, one try each.
func (l *load) prober(proxy int) {
	const every = 25 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-l.ending.Done():
			return
		case <-tick.C:
		}
		p := probe{proxy: proxy, began: time.Now(), id: backends.HoldID(fmt.Sprintf("%s-p%d-%d", l.name, proxy, n))}
		a := ask(l.base, l.clients[proxy], reserveArgs(p.id, longLife, []*item{l.probe}, []int64{1}))
		p.end, p.status = time.Now(), a.status
		c := &cart{id: p.id, items: []*item{l.probe}, units: []int64{1}, probe: true}
		c.reserve = op{Op: "reserve", ID: string(p.id), Units: 1, Buyer: -1, Began: l.since(p.began), Ended: l.since(p.end), Verdict: a.status, Uncertain: a.status == "" && !a.nothing}
		l.reserves.Add(1)
		l.mu.Lock()
		l.probes = append(l.probes, p)
		l.mu.Unlock()
		if a.status == "" {
			l.failed(fault{proxy, p.began, p.end, a.code})
		}
		l.keep(c)
	}
}

func (l *load) keep(c *cart) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.carts) >= maxCarts {
		l.full = true
		l.stop()
		return
	}
	l.carts = append(l.carts, c)
}

func (l *load) failed(f fault) {
	l.retries.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) < maxFaults {
		l.faults = append(l.faults, f)
	}
}

func (l *load) complain(text string) {
	const most = 20
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) < most {
		l.wrong = append(l.wrong, text)
	}
}

func reserveArgs(id backends.HoldID, life time.Duration, items []*item, units []int64) []any {
	return append([]any{"XF.RESERVE", string(shop), string(id), "TTL", life.Milliseconds()}, lines(items, units)...)
}

func lines(items []*item, units []int64) (args []any) {
	for i, it := range items {
		args = append(args, "LINE", string(it.name), units[i])
	}
	return args
}

// warm waits until so many more reserves have been made.
func (l *load) warm(ctx context.Context, reserves int64) error {
	const within = 30 * time.Second
	want := l.reserves.Load() + reserves
	return eventually(ctx, within, "the buyers are at it", func() error {
		if n := l.reserves.Load(); n < want {
			return fmt.Errorf("%d of %d reserves", n, want)
		}
		return nil
	})
}

// eventually waits for a condition with a deadline.
func eventually(ctx context.Context, within time.Duration, what string, ok func() error) error {
	return eventuallyTold(ctx, within, what, nil, ok)
}

// eventuallyTold says what it waits for when that takes long.
func eventuallyTold(ctx context.Context, within time.Duration, what string, tell func(string, ...any), ok func() error) error {
	const every, often = 20 * time.Millisecond, 5 * time.Second
	told := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for deadline := time.Now().Add(within); ; {
		err := ok()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %s: %w", what, within, err)
		}
		if tell != nil && time.Since(told) > often {
			told = time.Now()
			tell("waiting until %s: %v", what, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}

// rest waits for d, or less when the context ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
