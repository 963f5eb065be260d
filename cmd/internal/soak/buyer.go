package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	shop     backends.Shop     = "soak"
	location backends.Location = "main"

	hotItems  = 3
	coldItems = 500
	// plentyUnits of an item cannot be sold in a run: at ten thousand carts a second, each with the
	// most units of one item, it takes a day to sell half of them.
	plentyUnits = 10_000_000_000
	lineUnits   = 5 // the most of one line

	openMost  = 8 // holds that a buyer has at once
	longTTL   = 10 * time.Minute
	shortTTL  = 2 * time.Second // of holds that are left to expire
	retries   = 50              // of a request whose outcome is unknown
	retryStep = 5 * time.Millisecond
)

func plentyKey(i int) backends.Key {
	name := fmt.Sprintf("hot-%d", i)
	if i >= hotItems {
		name = fmt.Sprintf("cold-%d", i-hotItems)
	}
	return backends.Key{Shop: shop, Item: backends.Item(name), Location: location}
}

// buyer is one caller.
type buyer struct {
	g    *game
	n    int
	rnd  *rand.Rand
	ids  int
	open []openHold

	window *window
	scarce []openScarce
}

type openHold struct {
	id    backends.HoldID
	lines []int // items
	units []int64
}

type openScarce struct {
	id backends.HoldID
	c  call
}

func (b *buyer) id() string {
	b.ids++
	return fmt.Sprintf("b%d-%d", b.n, b.ids)
}

// run buys until it is told to stop, and leaves no plentiful hold open.
func (b *buyer) run(ctx context.Context, stop <-chan struct{}) {
	for ctx.Err() == nil {
		select {
		case <-stop:
			for len(b.open) > 0 && ctx.Err() == nil {
				b.end(ctx, backends.OpRelease)
			}
			return
		default:
		}
		switch n := b.rnd.IntN(100); {
		case n < 12:
			b.scarcely(ctx)
		case n < 14:
			b.restock(ctx)
		case n < 18 && len(b.open) > 0:
			b.end(ctx, backends.OpExtend)
		case len(b.open) == openMost || n < 55 && len(b.open) > 0:
			b.end(ctx, []backends.Op{backends.OpClaim, backends.OpClaim, backends.OpRelease}[b.rnd.IntN(3)])
		default:
			b.reserve(ctx)
		}
	}
}

// item draws a plentiful item: as often one of the hot ones as one of the many others.
func (b *buyer) item() int {
	if b.rnd.IntN(2) == 0 {
		return b.rnd.IntN(hotItems)
	}
	return hotItems + b.rnd.IntN(coldItems)
}

func (b *buyer) reserve(ctx context.Context) {
	h := openHold{id: backends.HoldID(b.id())}
	q := &backends.ReserveRequest{ID: h.id, Shop: shop, TTL: longTTL, Caller: "soak"}
	seen := map[int]bool{}
	for range 1 + b.rnd.IntN(3) {
		i := b.item()
		if seen[i] {
			continue
		}
		seen[i] = true
		n := 1 + b.rnd.Int64N(lineUnits)
		h.lines, h.units = append(h.lines, i), append(h.units, n)
		q.Lines = append(q.Lines, backends.Line{Item: plentyKey(i).Item, Quantity: n, Locations: []backends.Location{location}})
	}
	forget := b.rnd.IntN(10) == 0
	if forget {
		q.TTL = shortTTL
	}
	d, err := send(ctx, b.g, "reserve", func() (*backends.Decision, error) { return b.g.store.Reserve(ctx, token, q) })
	switch {
	case err != nil:
	case d.Outcome == backends.OutcomeSoldOut:
		b.g.broke(&b.g.refused, fmt.Sprintf("P3: cart %s was refused for %+v; each of its items has %d units", q.ID, d.Short, int64(plentyUnits)))
	case d.Outcome != backends.OutcomeGranted:
		b.g.broke(&b.g.strange, fmt.Sprintf("reserve %s was answered %s", q.ID, d.Outcome))
	case !forget:
		b.open = append(b.open, h)
	}
}

// end ends (or extends) the oldest hold.
func (b *buyer) end(ctx context.Context, op backends.Op) {
	h := b.open[0]
	want := backends.OutcomeExtended
	if op != backends.OpExtend {
		b.open = b.open[1:]
	}
	d, err := send(ctx, b.g, op.String(), func() (*backends.Decision, error) {
		switch op {
		case backends.OpClaim:
			want = backends.OutcomeClaimed
			return b.g.store.Claim(ctx, token, &backends.ClaimRequest{ID: h.id, Shop: shop, Caller: "soak"})
		case backends.OpRelease:
			want = backends.OutcomeReleased
			return b.g.store.Release(ctx, token, &backends.ReleaseRequest{ID: h.id, Caller: "soak"})
		default:
			return b.g.store.Extend(ctx, token, &backends.ExtendRequest{ID: h.id, TTL: longTTL, Caller: "soak"})
		}
	})
	switch {
	case err != nil:
	case d.Outcome != want:
		b.g.broke(&b.g.strange, fmt.Sprintf("%s of %s was answered %s", op, h.id, d.Outcome))
	case op == backends.OpClaim:
		for k, i := range h.lines {
			b.g.onHand[i].Add(-h.units[k])
		}
	}
}

func (b *buyer) restock(ctx context.Context) {
	i, n := b.item(), 1+b.rnd.Int64N(20)
	q := &backends.RestockRequest{OpID: backends.OpID(b.id()), Key: plentyKey(i), Amount: n, Caller: "soak"}
	if _, err := send(ctx, b.g, "restock", func() (*backends.Decision, error) { return b.g.store.Restock(ctx, token, q) }); err == nil {
		b.g.onHand[i].Add(n)
	}
}

// scarcely does one operation on an item of the window. Holds of a window that has ended are left.
func (b *buyer) scarcely(ctx context.Context) {
	if w := b.g.window.Load(); w != b.window {
		b.window, b.scarce = w, nil
	}
	w := b.window
	var c call
	var do func() (said, error)
	switch n := b.rnd.IntN(10); {
	case n < 4 && len(b.scarce) > 0:
		o := b.scarce[0]
		b.scarce = b.scarce[1:]
		c = o.c
		c.op = backends.OpRelease
		do = func() (said, error) {
			_, err := send(ctx, b.g, "release", func() (*backends.Decision, error) {
				return b.g.store.Release(ctx, token, &backends.ReleaseRequest{ID: o.id, Caller: "soak"})
			})
			return said{}, err
		}
	case n == 9:
		c = call{op: backends.OpRestock, item: b.rnd.IntN(scarceItems), units: 1}
		q := &backends.RestockRequest{OpID: backends.OpID(b.id()), Key: w.key(c.item), Amount: c.units, Caller: "soak"}
		do = func() (said, error) {
			_, err := send(ctx, b.g, "restock", func() (*backends.Decision, error) { return b.g.store.Restock(ctx, token, q) })
			return said{}, err
		}
	default:
		c = call{op: backends.OpReserve, item: b.rnd.IntN(scarceItems), units: 1 + b.rnd.Int64N(3)}
		do = func() (said, error) { return b.compete(ctx, w, c) }
	}
	_, _ = w.do(b.n, c, do) // send has counted the error
}

func (b *buyer) compete(ctx context.Context, w *window, c call) (a said, err error) {
	q := &backends.ReserveRequest{
		ID: backends.HoldID(b.id()), Shop: shop, TTL: longTTL, Caller: "soak",
		Lines: []backends.Line{{Item: w.key(c.item).Item, Quantity: c.units, Locations: []backends.Location{location}}},
	}
	d, err := send(ctx, b.g, "reserve", func() (*backends.Decision, error) { return b.g.store.Reserve(ctx, token, q) })
	switch {
	case err != nil:
	case d.Outcome == backends.OutcomeGranted:
		b.scarce = append(b.scarce, openScarce{q.ID, c})
	case d.Outcome == backends.OutcomeSoldOut && len(d.Short) == 1:
		a = said{soldOut: true, had: d.Short[0].Available}
	default:
		err = fmt.Errorf("reserve %s was answered %s", q.ID, d.Outcome)
		b.g.broke(&b.g.strange, err.Error())
	}
	return a, err
}

const erLockDeadlock = 1213

// send sends a request until its outcome is known, and keeps its time and its errors.
func send[R any](ctx context.Context, g *game, op string, do func() (R, error)) (R, error) {
	began := time.Now()
	for try := 1; ; try++ {
		res, err := do()
		if err == nil {
			g.ops[op].add(time.Since(began))
			return res, nil
		}
		if ctx.Err() != nil {
			return res, err // the run was interrupted
		}
		var me *mysql.MySQLError
		switch {
		case errors.As(err, &me) && me.Number == erLockDeadlock:
			g.broke(&g.deadlocks, fmt.Sprintf("P8: a deadlock was answered to a %s: %v", op, err))
		case errors.Is(err, backends.ErrBusy):
			g.busy.Add(1)
		case backends.IsAmbiguous(err), errors.Is(err, backends.ErrUnavailable):
			g.unknown.Add(1)
		default:
			g.broke(&g.strange, fmt.Sprintf("%s: %v", op, err))
			return res, err
		}
		if try == retries {
			g.broke(&g.strange, fmt.Sprintf("%s is unknown after %d attempts: %v", op, try, err))
			return res, err
		}
		wait(ctx, retryStep)
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
