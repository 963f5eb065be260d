package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// buyer is one checkout. Its tries go to one proxy while that answers, and to the next when not, under the same id.
type buyer struct {
	load *load
	n    int
	made int
	shy  []time.Time // by proxy: until when not to go there
	rnd  *rand.Rand
}

// Shares of what a buyer does, in percent.
const (
	pairShare    = 10
	abandonShare = 30 // of pairs: they expire
	claimShare   = 20
	keepShare    = 1
)

// calm is how many times less a buyer asks for while the shadow is behind.
const calm = 4

// shop buys until the load ends.
func (b *buyer) shop() {
	l := b.load
	every := time.Duration(float64(time.Second) * float64(l.o.Buyers) / float64(l.o.Rate))
	next := time.Now().Add(time.Duration(b.rnd.Int64N(int64(every))))
	for {
		rest(l.ending, time.Until(next))
		if l.ending.Err() != nil {
			return
		}
		pause := every
		if l.behind.Load() {
			pause *= calm
		}
		if next = next.Add(pause); time.Since(next) > time.Second { // what was missed while nobody answered is not made up for at once
			next = time.Now()
		}
		b.made++
		c := &cart{id: backends.HoldID(fmt.Sprintf("%s-%d-%d", l.name, b.n, b.made))}
		if b.rnd.IntN(100) < pairShare {
			x := b.rnd.IntN(pairItems)
			c.items, c.units = []*item{l.pairs[x], l.pairs[(x+1+b.rnd.IntN(pairItems-1))%pairItems]}, []int64{1, 1}
			c.short = b.rnd.IntN(100) < abandonShare
		} else {
			it := l.hot(b.rnd.IntN(hotItems))
			if it == nil {
				continue
			}
			c.items, c.units = []*item{it}, []int64{1 + b.rnd.Int64N(maxUnits)}
		}
		b.buy(c)
		l.keep(c)
	}
}

// buy is the life of one cart.
func (b *buyer) buy(c *cart) {
	l := b.load
	life := longLife
	if c.short {
		life = shortLife
	}
	l.reserves.Add(1)
	began := time.Now()
	c.reserve = b.until(l.base, "reserve", string(c.id), c.units[0], reserveArgs(c.id, life, c.items, c.units))
	l.wait(waited{began, time.Now()})
	b.note(c, c.reserve)
	switch c.reserve.Verdict {
	case "granted":
		l.granted.Add(1)
	case "sold_out":
		l.soldOut.Add(1)
		return
	default:
		return
	}
	if c.short {
		return
	}
	rest(l.base, time.Duration(b.rnd.Int64N(int64(thinkMost))))
	switch x := b.rnd.IntN(100); {
	case x < keepShare:
	case x < keepShare+claimShare:
		l.claims.Add(1)
		c.end = b.until(l.base, "claim", string(c.id), c.units[0], append([]any{"XF.CLAIM", string(shop), string(c.id)}, lines(c.items, c.units)...))
		b.note(c, c.end)
		for i, it := range c.items {
			it.sold.Add(c.units[i])
			if c.end.Verdict == "" {
				it.failed.Store(true)
			}
		}
		b.restock(c)
	default:
		l.releases.Add(1)
		c.end = b.until(l.base, "release", string(c.id), c.units[0], []any{"XF.RELEASE", string(shop), string(c.id)})
		b.note(c, c.end)
	}
}

// restock brings back what was sold, so that there is always a little for sale; several units at a time, as deliveries come.
func (b *buyer) restock(c *cart) {
	l := b.load
	for i, it := range c.items {
		units := it.due(c.units[i])
		if units == 0 {
			continue
		}
		id := fmt.Sprintf("r-%s-%d", c.id, i)
		o := b.until(l.base, "restock", id, units, []any{"XF.RESTOCK", string(shop), string(it.name), units, "OPID", id})
		it.add(o)
		if o.Verdict == "" {
			it.failed.Store(true)
		}
		it.back.Add(units)
		l.stocked.Add(units)
	}
}

// due adds units that were sold, and answers what there is to be delivered now.
func (i *item) due(sold int64) (units int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.missing += sold; i.missing >= delivery {
		units, i.missing = i.missing, 0
	}
	return units
}

// note puts an operation into the history of its item, where that is judged: carts of one line.
func (b *buyer) note(c *cart, o op) {
	if len(c.items) == 1 {
		c.items[0].add(o)
	}
}

func (i *item) add(o op) {
	if !i.hot {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.history = append(i.history, o)
}

func (l *load) wait(w waited) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waits = append(l.waits, w)
}

// until asks until there is a verdict.
func (b *buyer) until(ctx context.Context, what, id string, units int64, args []any) op {
	l := b.load
	began := time.Now()
	o := op{Op: what, ID: id, Units: units, Buyer: b.n, Began: l.since(began), Ended: -1}
	at := b.n
	for pause := time.Millisecond; ; pause = min(2*pause, pauseMost) {
		at = b.choose(at)
		tried := time.Now()
		a := ask(ctx, l.clients[at], args)
		end := time.Now()
		if a.status != "" {
			o.Ended, o.Verdict, o.Had = l.since(end), a.status, a.had
			return o
		}
		o.Uncertain = o.Uncertain || !a.nothing
		if a.wrong {
			l.complain(fmt.Sprintf("%s of %s: %s", what, id, a.code))
			return o
		}
		if ctx.Err() != nil || end.Sub(began) > patience {
			l.complain(fmt.Sprintf("%s of %s: no verdict in %s, the last answer is %s", what, id, end.Sub(began).Round(time.Millisecond), a.code))
			return o
		}
		l.failed(fault{at, tried, end, a.code})
		b.shy[at] = end.Add(shyFor)
		at++
		rest(ctx, pause/2+time.Duration(b.rnd.Int64N(int64(pause/2)+1)))
	}
}

// choose is the buyer's own proxy, or the next that has not failed him lately.
func (b *buyer) choose(from int) int {
	n := len(b.load.clients)
	from = ((from % n) + n) % n
	now := time.Now()
	for i := range n {
		if at := (from + i) % n; now.After(b.shy[at]) {
			return at
		}
	}
	return from
}
