package contend

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
	shop = backends.Shop("s")
	// lookBehind is how often the length of the outbox is read.
	lookBehind = 100 * time.Millisecond
	// maxTries bounds how often a request is sent again whose outcome is not known.
	maxTries = 100
)

// market is what the buyers share.
type market struct {
	pod *pod
	o   *Options

	next     atomic.Int64    // the number of the next decision
	opened   []chan struct{} // by sale: closed when its stock is there
	granted  atomic.Int64
	soldOut  atomic.Int64
	unknown  atomic.Int64 // answers that did not say what was decided
	due      atomic.Int64 // losses that have fallen due
	taken    atomic.Int64 // of which are being played
	waited   atomic.Int64 // nanoseconds for shadow and judge
	behind   atomic.Int64
	mu       sync.Mutex
	caughtUp *sync.Cond
}

func newMarket(p *pod, o *Options) *market {
	m := &market{pod: p, o: o}
	m.caughtUp = sync.NewCond(&m.mu)
	m.opened = make([]chan struct{}, (o.Decisions+o.Sale-1)/o.Sale)
	for i := range m.opened {
		m.opened[i] = make(chan struct{})
	}
	return m
}

func itemOf(sale int64, n int) backends.Item {
	return backends.Item(fmt.Sprintf("sale-%04d-%d", sale, n))
}

func keyOf(i backends.Item) backends.Key { return backends.Key{Shop: shop, Item: i, Location: "l"} }

// play runs until all decisions are taken.
func (m *market) play(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var buyers, others sync.WaitGroup
	for n := range m.o.Buyers {
		buyers.Go(func() {
			b := buyer{market: m, n: n, rnd: rand.New(rand.NewPCG(m.o.Seed, uint64(n)))} //nolint:gosec // a play, which has to be the same again
			if err := b.shop(ctx); err != nil {
				cancel(fmt.Errorf("buyer %d: %w", n, err))
			}
		})
	}
	done, stop := context.WithCancel(ctx)
	others.Go(func() {
		if err := m.stock(done); err != nil && done.Err() == nil {
			cancel(fmt.Errorf("stocking a sale: %w", err))
		}
	})
	others.Go(func() {
		if err := m.watch(done); err != nil && done.Err() == nil {
			cancel(fmt.Errorf("the outbox: %w", err))
		}
	})
	buyers.Wait()
	stop()
	others.Wait()
	return context.Cause(ctx)
}

// stock opens one sale after the other, two ahead of the buyers.
func (m *market) stock(ctx context.Context) error {
	tick := time.NewTicker(lookBehind)
	defer tick.Stop()
	for sale := range int64(len(m.opened)) {
		for m.next.Load() < (sale-2)*m.o.Sale {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
		for n := range itemsInSale {
			i := itemOf(sale, n)
			if err := m.restock(ctx, 0, backends.OpID("open-"+i), keyOf(i), unitsOfItem); err != nil {
				return err
			}
		}
		close(m.opened[sale])
	}
	return nil
}

// watch lets the buyers wait while the shadow, or the judge, is far behind.
func (m *market) watch(ctx context.Context) error {
	tick := time.NewTicker(lookBehind)
	defer tick.Stop()
	defer func() { // nobody is left waiting
		m.behind.Store(0)
		m.caughtUp.Broadcast()
	}()
	for {
		n, err := m.pod.behind(ctx)
		if err != nil {
			return err
		}
		n = max(n, m.pod.coverage().Settling)
		m.mu.Lock()
		m.behind.Store(n)
		m.mu.Unlock()
		m.caughtUp.Broadcast()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// pace waits while the shadow, or the judge, is far behind.
func (m *market) pace(ctx context.Context) error {
	if m.behind.Load() > maxBehind {
		began := time.Now()
		m.mu.Lock()
		for m.behind.Load() > maxBehind && ctx.Err() == nil {
			m.caughtUp.Wait()
		}
		m.mu.Unlock()
		m.waited.Add(int64(time.Since(began)))
	}
	return ctx.Err()
}

func (m *market) restock(ctx context.Context, proxy int, op backends.OpID, k backends.Key, units int64) error {
	return m.again(ctx, func() error {
		_, err := m.pod.proxies[proxy].Restock(ctx, &backends.RestockRequest{OpID: op, Key: k, Amount: units, Caller: "stock"})
		return err
	})
}

// again sends a request until its outcome is known.
func (m *market) again(ctx context.Context, do func() error) (err error) {
	for range maxTries {
		if err = do(); err == nil || ctx.Err() != nil || !errors.Is(err, backends.ErrBusy) && !errors.Is(err, backends.ErrUnavailable) && !backends.IsAmbiguous(err) {
			return err
		}
		m.unknown.Add(1)
	}
	return fmt.Errorf("still not known after %d tries: %w", maxTries, err)
}

// buyer is one of them, at one proxy.
type buyer struct {
	*market
	n    int
	i    int64
	rnd  *rand.Rand
	lose *int64 // the loss to be played with the next grant
	has  *granted
}

// granted is what a buyer holds until he has asked for the next cart: so all stock is held all the time.
type granted struct {
	q    *backends.ReserveRequest
	lose *int64
}

func (b *buyer) proxy() int { return b.n % len(b.pod.proxies) }

func (b *buyer) shop(ctx context.Context) error {
	for {
		n := b.next.Add(1) - 1
		if n >= b.o.Decisions {
			return b.end(ctx)
		}
		sale := n / b.o.Sale
		select {
		case <-b.opened[sale]:
		case <-ctx.Done():
			return ctx.Err()
		}
		if b.o.Lose && n%b.o.Sale == int64(lossAt*float64(b.o.Sale)) {
			b.due.Add(1)
		}
		if err := b.pace(ctx); err != nil {
			return err
		}
		if err := b.one(ctx, sale); err != nil {
			return err
		}
	}
}

// loss takes one that is due.
func (b *buyer) loss() (n int64, ok bool) {
	for {
		n := b.taken.Load()
		if n >= b.due.Load() {
			return 0, false
		}
		if b.taken.CompareAndSwap(n, n+1) {
			return n, true
		}
	}
}

// one asks for a cart, and ends what it gets.
func (b *buyer) one(ctx context.Context, sale int64) error {
	b.i++
	if b.lose == nil {
		if n, ok := b.loss(); ok {
			if lossKind(n%int64(lossKinds)) == loseRestock {
				if err := b.loseRestock(ctx, sale, n); err != nil {
					return err
				}
			} else {
				b.lose = &n
			}
		}
	}
	q := &backends.ReserveRequest{ID: backends.HoldID(fmt.Sprintf("h-%d-%d", b.n, b.i)), Shop: shop, TTL: time.Hour, Caller: "web"}
	if b.lose != nil {
		q.ID = backends.HoldID(lostID(lossKind(*b.lose%int64(lossKinds)), *b.lose) + fmt.Sprintf("-%d", b.i))
	}
	first := b.rnd.IntN(itemsInSale)
	for k := range 1 + b.rnd.IntN(2) {
		q.Lines = append(q.Lines, backends.Line{Item: itemOf(sale, (first+k)%itemsInSale), Quantity: int64(1 + b.rnd.IntN(maxQuantity)), Locations: []backends.Location{"l"}})
	}
	var d *backends.Decision
	err := b.again(ctx, func() (err error) {
		d, err = b.pod.proxies[b.proxy()].Reserve(ctx, q)
		return err
	})
	if err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	if err := b.end(ctx); err != nil {
		return err
	}
	switch d.Outcome {
	case backends.OutcomeSoldOut:
		b.soldOut.Add(1)
	case backends.OutcomeGranted:
		b.market.granted.Add(1)
		b.has, b.lose = &granted{q, b.lose}, nil
	default:
		return fmt.Errorf("reserve of %s: %s", q.ID, d.Outcome)
	}
	return nil
}

// end gives back what the buyer has, or pays for it, or keeps it; what is not given back is stocked again.
func (b *buyer) end(ctx context.Context) error {
	if b.has == nil {
		return nil
	}
	q, lose := b.has.q, b.has.lose
	b.has = nil
	const payIn, extendIn = 20, 20
	pay, keep := b.rnd.IntN(payIn) == 0, false
	if lose != nil {
		k := lossKind(*lose % int64(lossKinds))
		pay, keep = k == loseClaim, k == loseGrant
		l := lost{kind: k, hold: q.ID}
		for _, line := range q.Lines {
			l.units = append(l.units, backends.Units{Key: keyOf(line.Item), Quantity: line.Quantity})
		}
		b.pod.losses.add(l)
	} else if b.rnd.IntN(extendIn) == 0 {
		if err := b.again(ctx, func() error {
			_, err := b.pod.proxies[b.proxy()].Extend(ctx, &backends.ExtendRequest{ID: q.ID, TTL: 2 * time.Hour})
			return err
		}); err != nil {
			return fmt.Errorf("extend: %w", err)
		}
	}
	if !pay && !keep {
		return b.again(ctx, func() error {
			_, err := b.pod.proxies[b.proxy()].Release(ctx, &backends.ReleaseRequest{ID: q.ID})
			return err
		})
	}
	if pay {
		if err := b.again(ctx, func() error {
			_, err := b.pod.proxies[b.proxy()].Claim(ctx, &backends.ClaimRequest{ID: q.ID}, 0)
			return err
		}); err != nil {
			return fmt.Errorf("claim: %w", err)
		}
	}
	for _, line := range q.Lines {
		if err := b.restock(ctx, b.proxy(), backends.OpID(fmt.Sprintf("again-%s-%s", q.ID, line.Item)), keyOf(line.Item), line.Quantity); err != nil {
			return fmt.Errorf("restock: %w", err)
		}
	}
	return nil
}

// loseRestock stocks an item, of which the shadow keeps nothing.
func (b *buyer) loseRestock(ctx context.Context, sale, n int64) error {
	l := lost{kind: loseRestock, op: backends.OpID(lostID(loseRestock, n))}
	u := backends.Units{Key: keyOf(itemOf(sale, b.rnd.IntN(itemsInSale))), Quantity: int64(1 + b.rnd.IntN(maxQuantity))}
	l.units = []backends.Units{u}
	b.pod.losses.add(l)
	return b.restock(ctx, b.proxy(), l.op, u.Key, u.Quantity)
}
