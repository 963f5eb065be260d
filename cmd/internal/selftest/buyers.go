package selftest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	buyers = 3
	// breath is between two carts of a buyer: several pods share the machine.
	breath = 2 * time.Millisecond
	// before and after are the decisions of honest buyers around an injection.
	before = 60
	after  = 60
	// plentyUnits never run out here; hotUnits do, again and again.
	plentyUnits = 2000
	hotUnits    = 8
	countedUnit = 50
)

// Items: the victims' own has honest buyers as well.
const (
	victimItem = backends.Item("victim")
	plentyItem = backends.Item("plenty")
)

var (
	hotItems     = [...]backends.Item{"hot-1", "hot-2"}
	countedItems = [...]backends.Item{"counted-1", "counted-2"}
)

// book is what the buyers were told.
type book struct {
	decisions atomic.Int64 // carts granted or refused
	worst     atomic.Int64 // nanoseconds for an answer
	broken    atomic.Pointer[error]
}

func (b *book) slowest(took int64) {
	for {
		if w := b.worst.Load(); took <= w || b.worst.CompareAndSwap(w, took) {
			return
		}
	}
}

// stock fills the shelves and starts the pod's loops.
func (p *pod) stock(ctx context.Context) error {
	p.service.Start(ctx)
	load := func(item backends.Item, n int64) error {
		_, err := p.writer.Restock(ctx, &backends.RestockRequest{OpID: backends.OpID("stock-" + item), Key: key(item), Amount: n, Caller: "selftest"})
		if err != nil {
			return fmt.Errorf("stocking %s: %w", item, err)
		}
		return nil
	}
	err := errors.Join(load(victimItem, plentyUnits), load(plentyItem, plentyUnits))
	for _, i := range hotItems {
		err = errors.Join(err, load(i, hotUnits))
	}
	for _, i := range countedItems {
		err = errors.Join(err, load(i, countedUnit))
	}
	if err != nil {
		return err
	}
	return p.rest(ctx)
}

// reserve asks for one line and enters the answer into the book.
func (p *pod) reserve(ctx context.Context, id backends.HoldID, lines ...backends.Line) (backends.Outcome, error) {
	began := time.Now()
	d, err := p.writer.Reserve(ctx, &backends.ReserveRequest{ID: id, Shop: shop, Lines: lines, TTL: ttl, Caller: "selftest"})
	took := time.Since(began).Nanoseconds()
	p.book.slowest(took)
	if err != nil {
		return backends.OutcomeUnknown, err
	}
	p.book.decisions.Add(1)
	return d.Outcome, nil
}

func line(item backends.Item, n int64) backends.Line {
	return backends.Line{Item: item, Quantity: n, Locations: []backends.Location{location}}
}

// crowd is honest buyers.
type crowd struct {
	p    *pod
	stop chan struct{}
	wg   sync.WaitGroup
}

// crowd lets buyers in. name keeps their holds apart from those of an earlier one.
func (p *pod) crowd(ctx context.Context, name string, seed uint64) *crowd {
	c := &crowd{p: p, stop: make(chan struct{})}
	for n := range buyers {
		c.wg.Go(func() { c.buy(ctx, fmt.Sprintf("%s%d", name, n), rand.New(rand.NewPCG(seed, uint64(n)))) }) //nolint:gosec // a game
	}
	return c
}

// decided waits until they were told so many decisions more.
func (c *crowd) decided(ctx context.Context, n int64) error {
	from := c.p.book.decisions.Load()
	return until(ctx, fmt.Sprintf("%d decisions", n), func() (bool, error) {
		if e := c.p.book.broken.Load(); e != nil {
			return false, *e
		}
		return c.p.book.decisions.Load() >= from+n, nil
	})
}

// leave sends them away.
func (c *crowd) leave() error {
	close(c.stop)
	c.wg.Wait()
	if e := c.p.book.broken.Load(); e != nil {
		return *e
	}
	return nil
}

func (c *crowd) buy(ctx context.Context, name string, rnd *rand.Rand) {
	for i := 0; ; i++ {
		select {
		case <-c.stop:
			return
		default:
		}
		if err := c.cart(ctx, backends.HoldID(fmt.Sprintf("%s-%d", name, i)), rnd); err != nil && !errors.Is(err, backends.ErrBusy) {
			err = fmt.Errorf("an honest buyer: %w", err)
			c.p.book.broken.CompareAndSwap(nil, &err)
			return
		}
		if wait(ctx, breath) != nil {
			return
		}
	}
}

// cart is one visit: some items, most of them hot, then most carts are given back and some are paid.
func (c *crowd) cart(ctx context.Context, id backends.HoldID, rnd *rand.Rand) error {
	all := []backends.Item{hotItems[0], hotItems[1], victimItem, plentyItem}
	first := rnd.IntN(len(all))
	var lines []backends.Line
	for k := range 1 + rnd.IntN(2) {
		lines = append(lines, line(all[(first+k)%len(all)], int64(1+rnd.IntN(3))))
	}
	got, err := c.p.reserve(ctx, id, lines...)
	if err != nil || got != backends.OutcomeGranted {
		return err
	}
	switch rnd.IntN(20) {
	case 0:
		_, err = c.p.writer.Claim(ctx, &backends.ClaimRequest{ID: id, Caller: "selftest"}, 0)
	case 1:
	default:
		_, err = c.p.writer.Release(ctx, &backends.ReleaseRequest{ID: id, Caller: "selftest"})
	}
	return err
}
