package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
)

// epoch of the pod that is played with.
const epoch = 1

var token = backends.Token{Epoch: epoch}

const (
	sweepEvery  = 100 * time.Millisecond
	sweepPage   = 200
	drainPage   = 500
	drainEvery  = 50 * time.Millisecond
	upkeepEvery = 500 * time.Millisecond
	// upkeepRounds bounds the rounds of upkeep in a row.
	upkeepRounds = 20
	// endPatience bounds what is done when the buyers have stopped.
	endPatience = 2 * time.Minute
	// brokenMost bounds the breaches that a report lists in words; the counts have all.
	brokenMost = 20
)

// Target is what is played with: a store that is the truth, and what is asked of it besides.
type Target struct {
	Store backends.Store
	// Stats are the store's own counters, Server those of its server; either may be nil.
	Stats  func() mysqlstore.Stats
	Server func(context.Context) (ServerFigures, error)
}

// ServerFigures are InnoDB's own counters.
type ServerFigures struct {
	Deadlocks  int64 `json:"deadlocks"`
	LockWaits  int64 `json:"lock_waits"`
	LockWaitMS int64 `json:"lock_wait_ms"`
	// PageReads are looks at pages of the buffer pool: what scans cost, whatever else the machine does.
	PageReads int64 `json:"page_reads"`
}

func (f ServerFigures) since(g ServerFigures) ServerFigures {
	return ServerFigures{f.Deadlocks - g.Deadlocks, f.LockWaits - g.LockWaits, f.LockWaitMS - g.LockWaitMS, f.PageReads - g.PageReads}
}

var opNames = []string{"reserve", "claim", "release", "extend", "restock", "expire"}

// game is a run.
type game struct {
	o      Options
	to     Target
	store  backends.Store
	report *Report
	ops    map[string]*histogram
	window atomic.Pointer[window]
	// onHand is what each plentiful item must have in the end.
	onHand [hotItems + coldItems]atomic.Int64

	refused, strange, deadlocks, busy, unknown, expired atomic.Int64

	mu     sync.Mutex
	broken []string
}

// broke counts a breach and keeps its words.
func (g *game) broke(n *atomic.Int64, what string) {
	if n != nil {
		n.Add(1)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.broken) < brokenMost {
		g.broken = append(g.broken, what)
	}
}

// Play runs the buyers and what goes on beside them, and samples. The error is for a run that could not
// be made; broken promises are in the report.
func Play(ctx context.Context, to Target, o Options) (*Report, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	g := &game{o: o, to: to, store: to.Store, report: newReport(o), ops: map[string]*histogram{}}
	for _, op := range opNames {
		g.ops[op] = &histogram{}
	}
	if g.to.Stats == nil {
		g.to.Stats = func() mysqlstore.Stats { return mysqlstore.Stats{} }
	}
	if g.to.Server == nil {
		g.to.Server = func(context.Context) (ServerFigures, error) { return ServerFigures{}, nil }
	}
	if err := g.prepare(ctx); err != nil {
		return nil, err
	}
	err = g.play(ctx)
	g.finish()
	return g.report, err
}

// prepare opens the fence and stocks the items.
func (g *game) prepare(ctx context.Context) error {
	f := backends.Fence{Epoch: epoch, Stage: backends.Live, Open: true, Filled: true}
	if _, err := g.store.Raise(ctx, f, 0); err != nil {
		return err
	}
	for i := range g.onHand {
		q := &backends.RestockRequest{OpID: backends.OpID(fmt.Sprintf("stock-%d", i)), Key: plentyKey(i), Amount: plentyUnits, Caller: "soak"}
		if _, err := g.store.Restock(ctx, token, q); err != nil {
			return err
		}
		g.onHand[i].Store(plentyUnits)
	}
	return g.open(ctx, 0)
}

// open begins the next window of scarce items.
func (g *game) open(ctx context.Context, n int) error {
	w := newWindow(n)
	for i := range scarceItems {
		q := &backends.RestockRequest{OpID: backends.OpID(fmt.Sprintf("scarce-%d-%d", n, i)), Key: w.key(i), Amount: scarceUnits, Caller: "soak"}
		if _, err := send(ctx, g, "restock", func() (*backends.Decision, error) { return g.store.Restock(ctx, token, q) }); err != nil {
			return err
		}
	}
	g.window.Store(w)
	return nil
}

// play runs until the time is up, or the run is interrupted.
func (g *game) play(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	var buyers, beside sync.WaitGroup
	for n := range g.o.Workers {
		b := &buyer{g: g, n: n, rnd: rand.New(rand.NewPCG(g.o.Seed, uint64(n)))} //nolint:gosec // reproducible, and not a secret
		buyers.Go(func() { b.run(ctx, stop) })
	}
	over, end := context.WithCancel(ctx)
	defer end()
	beside.Go(func() { g.every(over, sweepEvery, g.sweep) })
	beside.Go(func() { g.every(over, drainEvery, g.drain) })
	beside.Go(func() { g.every(over, upkeepEvery, g.upkeep) })
	err := g.samples(ctx)
	close(stop)
	left := time.AfterFunc(endPatience, cancel)
	defer left.Stop()
	buyers.Wait()
	end()
	beside.Wait()
	if err != nil {
		return err
	}
	return g.last(ctx)
}

// every does something again and again until the context ends. What fails is counted by whom it calls.
func (g *game) every(ctx context.Context, d time.Duration, do func(context.Context) error) {
	for wait(ctx, d) {
		if err := do(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, backends.ErrBusy) {
			g.broke(&g.strange, err.Error())
		}
	}
}

// sweep expires what is due.
func (g *game) sweep(ctx context.Context) error {
	for {
		began := time.Now()
		ds, err := g.store.Expire(ctx, token, sweepPage)
		g.expired.Add(int64(len(ds)))
		if err != nil || len(ds) == 0 {
			return err
		}
		g.ops["expire"].add(time.Since(began))
		if len(ds) < sweepPage {
			return nil
		}
	}
}

// drain takes entries off the outbox, as a mirror would that is always up.
func (g *game) drain(ctx context.Context) error {
	for {
		es, err := g.store.Pending(ctx, "", 0, drainPage)
		if err != nil || len(es) == 0 {
			return err
		}
		seqs := make([]string, len(es))
		for i, e := range es {
			seqs[i] = e.Seq
		}
		if _, err := g.store.Done(ctx, seqs); err != nil {
			return err
		}
		if len(es) < drainPage {
			return nil
		}
	}
}

func (g *game) upkeep(ctx context.Context) error {
	for range upkeepRounds {
		more, err := g.store.Maintain(ctx, token)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// mark is where all counters stood at a sample.
type mark struct {
	at     time.Time
	ops    map[string]counts
	stats  mysqlstore.Stats
	server ServerFigures
}

func (g *game) mark(ctx context.Context) (m mark, err error) {
	m = mark{at: time.Now(), ops: map[string]counts{}, stats: g.to.Stats()}
	for op, h := range g.ops {
		m.ops[op] = h.now()
	}
	m.server, err = g.to.Server(ctx)
	return m, err
}

// samples looks every so often until the time is up.
func (g *game) samples(ctx context.Context) error {
	first, err := g.mark(ctx)
	if err != nil {
		return err
	}
	last := first
	tick := time.NewTicker(g.o.Sample)
	defer tick.Stop()
	over := time.NewTimer(g.o.For)
	defer over.Stop()
	g.report.header(g.o.Progress)
	for n := 1; ; n++ {
		done := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			done = true
		case <-tick.C:
		}
		now, err := g.sample(ctx, n, first, last)
		if err != nil {
			return err
		}
		if last = now; done {
			g.report.total(first, now)
			return nil
		}
	}
}

// sample opens the next window, judges the last one, and checks conservation under traffic.
func (g *game) sample(ctx context.Context, n int, first, last mark) (mark, error) {
	ended := g.window.Load()
	if err := g.open(ctx, n); err != nil {
		return mark{}, err
	}
	now, err := g.mark(ctx)
	if err != nil {
		return now, err
	}
	if err := g.conserved(ctx, "while traffic goes on"); err != nil {
		return now, err
	}
	g.report.judged(g, ended.judge())
	g.report.sample(g.o.Progress, first, last, now, g)
	return now, nil
}

// conserved is P2 over all holds and levels.
func (g *game) conserved(ctx context.Context, when string) error {
	broken, checked, err := g.store.Conservation(ctx)
	if err != nil {
		return fmt.Errorf("conservation: %w", err)
	}
	c := &g.report.Conservation
	c.Samples++
	c.Levels = max(c.Levels, int64(checked))
	c.Broken += int64(len(broken))
	for _, l := range broken {
		g.broke(nil, fmt.Sprintf("P2 %s: %s is out of balance by %d: %+v", when, l.Key, l.Imbalance(), l))
	}
	return nil
}

// last checks what must be when the buyers have left: nothing held of plentiful items once the rest has
// expired, and as much on hand as the answers come to.
func (g *game) last(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	for g.strange.Load() == 0 {
		left, err := g.held(ctx)
		if err != nil {
			return err
		}
		if left == 0 {
			break
		}
		if !wait(ctx, sweepEvery) {
			g.broke(&g.strange, fmt.Sprintf("%d plentiful units are held %s after the last expiry", left, endPatience))
			break
		}
		if err := g.sweep(ctx); err != nil && !errors.Is(err, backends.ErrBusy) {
			return err
		}
	}
	if err := g.drain(ctx); err != nil {
		return err
	}
	g.report.judged(g, g.window.Load().judge())
	if err := g.conserved(ctx, "at the end"); err != nil || g.strange.Load() > 0 {
		return err // after an operation without an answer nobody can say what is held
	}
	return g.account(ctx)
}

// held is how many units of plentiful items are held.
func (g *game) held(ctx context.Context) (units int64, err error) {
	ls, err := g.levels(ctx)
	for _, l := range ls {
		units += l.Held
	}
	return units, err
}

func (g *game) levels(ctx context.Context) ([]backends.Level, error) {
	keys := make([]backends.Key, 0, len(g.onHand))
	for i := range g.onHand {
		keys = append(keys, plentyKey(i))
	}
	return g.store.Levels(ctx, keys)
}

// account compares each plentiful item with what the answers come to.
func (g *game) account(ctx context.Context) error {
	ls, err := g.levels(ctx)
	if err != nil {
		return err
	}
	for i := range g.onHand {
		k, want := plentyKey(i), g.onHand[i].Load()
		at := slices.IndexFunc(ls, func(l backends.Level) bool { return l.Key == k })
		var is backends.Level
		if at >= 0 {
			is = ls[at]
		}
		if is.OnHand != want || is.Sellable() != want {
			g.report.Conservation.Accounts++
			g.broke(nil, fmt.Sprintf("P2, P4 at the end: %s should have %d units on hand and for sale by the answers: %+v", k, want, is))
		}
	}
	return nil
}
