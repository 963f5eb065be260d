package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/orders"
)

// maxBrokenShown bounds the broken rows that are written to Progress one by one.
const maxBrokenShown = 20

// player is one run under way.
type player struct {
	o   Options
	log *playLog
	t   tally
	// fail ends the run at once: its log cannot be written any more.
	fail context.CancelCauseFunc
}

// Run plays a book to its end, or until Options.Until is closed. Whatever the carts' fate, it is in the
// Summary; the error is about the run itself: bad options (a *backends.FieldError), stock that could
// not be set, a log that could not be written, a context that ended. The summary counts in that
// case too.
func Run(ctx context.Context, o Options) (Summary, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Summary{}, err
	}
	p := &player{o: o}
	p.t.s = Summary{
		Run: o.Run, Shop: o.Shop, Orders: len(o.Orders.Orders), BrokenRows: o.Orders.BrokenTotal,
		RetryReasons: map[string]int64{}, RefusedBy: map[string]int64{}, Problems: []string{},
	}
	if p.log, err = openLog(o.LogPath); err != nil {
		return p.t.end(0), err
	}
	ctx, p.fail = context.WithCancelCause(ctx)
	defer p.fail(nil)
	s, err := p.run(ctx)
	if cause := context.Cause(ctx); err == nil && cause != nil {
		err = cause
	}
	return s, errors.Join(err, p.log.close(), s.Check())
}

func (p *player) run(ctx context.Context) (Summary, error) {
	p.tellBroken()
	if err := p.log.write(event{Event: eventRun, Run: p.o.Run, Shop: p.o.Shop}); err != nil {
		return p.t.end(0), err
	}
	if p.o.Stock >= 0 {
		if err := p.seed(ctx); err != nil {
			return p.t.end(0), fmt.Errorf("setting the stock: %w", err)
		}
	}
	stop := p.progress()
	defer stop()
	start := time.Now()
	p.play(ctx)
	return p.t.end(time.Since(start)), nil
}

func (p *player) say(format string, args ...any) {
	fmt.Fprintf(p.o.Progress, "replay: "+format+"\n", args...)
}

func (p *player) tellBroken() {
	b := p.o.Orders
	for _, e := range b.Broken[:min(len(b.Broken), maxBrokenShown)] {
		p.say("not played: %v", e)
	}
	if more := b.BrokenTotal - maxBrokenShown; more > 0 {
		p.say("not played: %d more broken rows", more)
	}
}

// progress writes a line now and then until it is stopped.
func (p *player) progress() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	p.say("%d orders for shop %s against %v, %d clients", len(p.o.Orders.Orders), p.o.Shop, p.o.targets, p.o.Clients)
	go func() {
		defer close(done)
		t := time.NewTicker(progressEvery)
		defer t.Stop()
		for {
			select {
			case <-quit:
				return
			case <-t.C:
				p.say("%s", p.t.line())
			}
		}
	}()
	return func() {
		close(quit)
		<-done
		p.say("%s", p.t.line())
	}
}

// play deals the orders out to the clients and waits for them.
func (p *player) play(ctx context.Context) {
	jobs := make(chan int)
	p.withClients(func(c *client) {
		for i := range jobs {
			p.order(ctx, c, i)
		}
	}, func() {
		defer close(jobs)
		start := time.Now()
		for i := range p.o.Orders.Orders {
			if p.o.Rate > 0 && !p.until(ctx, start.Add(time.Duration(float64(i)/p.o.Rate*float64(time.Second)))) {
				break
			}
			select { // ended is ended, even when a client is free as well
			case <-p.o.Until:
				p.stopped()
				return
			default:
			}
			select {
			case jobs <- i:
				continue
			case <-p.o.Until:
			case <-ctx.Done():
			}
			p.stopped()
			return
		}
	})
}

func (p *player) stopped() { p.t.do(func(s *Summary) { s.Stopped = true }) }

// until waits for a point in time; false when the run is to end before.
func (p *player) until(ctx context.Context, at time.Time) bool {
	d := time.Until(at)
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.o.Until:
	case <-ctx.Done():
	}
	p.stopped()
	return false
}

// withClients runs work in every client and deal beside them, and waits for all.
func (p *player) withClients(work func(*client), deal func()) {
	var wg sync.WaitGroup
	for range p.o.Clients {
		wg.Go(func() {
			c := p.o.newClient(p.t.retried)
			defer c.close()
			work(c)
		})
	}
	deal()
	wg.Wait()
}

func (p *player) write(e event) {
	if err := p.log.write(e); err != nil {
		p.fail(err)
	}
}

// answered logs a verdict, or that there is none.
func (p *player) answered(e event, out *outcome, err error) {
	e.Event, e.Tries, e.Uncertain, e.TookMS = eventAnswer, out.tries, out.uncertain, millis(out.took)
	e.Verdict, e.State, e.Replayed, e.Short, e.Apologies = out.verdict.String(), out.state, out.replayed, out.short, out.apologies
	if out.verdict == refused {
		e.Error = out.text
	}
	if err != nil {
		e.Event, e.Verdict, e.Error = eventGaveUp, "", err.Error()
	}
	p.write(e)
	if out.replayed {
		p.t.do(func(s *Summary) { s.Replayed++ })
	}
}

// order plays one order.
func (p *player) order(ctx context.Context, c *client, i int) {
	o := &p.o.Orders.Orders[i]
	if o.Kind == orders.Restock {
		p.restock(ctx, c, i, o)
		return
	}
	if o.Kind != orders.Cart {
		return
	}
	hold, units := p.o.holdID(o.Invoice), o.Units()
	out, err := c.call(ctx, i, p.o.reserveArgs(hold, o.Lines))
	p.answered(event{Op: "reserve", Hold: hold, Units: units}, &out, err)
	p.t.mu.Lock()
	s := &p.t.s
	s.Carts++
	s.Lines += int64(len(o.Lines))
	s.Units += units
	switch {
	case err != nil:
		s.Unresolved++
	case out.verdict == granted:
		s.Granted++
		s.Open++ // until it is ended
	case out.verdict == soldOut:
		s.SoldOut++
		s.ShortLines += out.short
		s.ShortUnits += out.shortUnits
	case out.verdict == ended:
		s.Ended++
	default:
		s.Refused++
		s.RefusedBy[out.code]++
	}
	if err == nil {
		p.t.reserve = append(p.t.reserve, out.took)
	}
	p.t.mu.Unlock()
	switch {
	case err != nil:
		p.t.problem("reserve of hold %s: %v", hold, err)
	case out.verdict == refused:
		p.t.problem("reserve of hold %s: %s", hold, out.text)
	case out.verdict == granted:
		p.finish(ctx, c, i, hold, units)
	}
}

// finish waits for the buyer, and ends the hold.
func (p *player) finish(ctx context.Context, c *client, i int, hold backends.HoldID, units int64) {
	pause, release := p.fate(i)
	if wait(ctx, pause) != nil {
		return // left open
	}
	op, command := "claim", "XF.CLAIM"
	if release {
		op, command = "release", "XF.RELEASE"
	}
	p.write(event{Event: eventSent, Op: op, Hold: hold})
	out, err := c.call(ctx, i, p.o.endArgs(command, hold))
	p.answered(event{Op: op, Hold: hold}, &out, err)
	p.t.mu.Lock()
	s := &p.t.s
	done := true
	switch {
	case err != nil:
		done = false
	case out.verdict == claimed:
		s.Claimed++
		s.UnitsClaimed += units
		s.ApologyUnits += out.apologies
	case out.verdict == released:
		s.Released++
	case out.verdict == ended:
		s.Lapsed++
	case out.verdict == notFound:
		s.Missing++
	default:
		done = false
		s.RefusedBy[out.code]++
	}
	if done {
		s.Open--
	}
	if err == nil && !release {
		p.t.claim = append(p.t.claim, out.took)
	}
	p.t.mu.Unlock()
	switch {
	case err != nil:
		p.t.problem("%s of hold %s: %v", op, hold, err)
	case out.verdict == notFound:
		p.t.problem("%s of hold %s, which was granted: the truth does not know it", op, hold)
	case out.verdict == refused:
		p.t.problem("%s of hold %s: %s", op, hold, out.text)
	}
}

// fate is how long an order is held, and whether it is then released.
func (p *player) fate(i int) (pause time.Duration, release bool) {
	rng := rand.New(rand.NewPCG(p.o.Random, uint64(i))) //nolint:gosec // an index of a slice
	pause = time.Duration(min(rng.ExpFloat64(), HoldAtMost) * float64(p.o.Hold))
	return pause, rng.Float64() < p.o.ReleaseShare
}

// restock brings the lines of a cancellation back, one by one.
func (p *player) restock(ctx context.Context, c *client, i int, o *orders.Order) {
	p.t.do(func(s *Summary) { s.Restocks++ })
	for n, l := range o.Lines {
		id := p.o.opID(o.Invoice, n)
		p.write(event{Event: eventSent, Op: "restock", OpID: id, Units: l.Quantity})
		out, err := c.call(ctx, i, p.o.restockArgs(l.Item, l.Quantity, id, "ADD"))
		p.answered(event{Op: "restock", OpID: id, Units: l.Quantity}, &out, err)
		p.t.do(func(s *Summary) {
			s.RestockLines++
			switch {
			case err != nil:
				s.RestocksUnresolved++
			case out.verdict == restocked:
				s.RestockUnits += l.Quantity
			default:
				s.RestocksRefused++
				s.RefusedBy[out.code]++
			}
		})
		switch {
		case err != nil:
			p.t.problem("restock %s: %v", id, err)
		case out.verdict != restocked:
			p.t.problem("restock %s: %s", id, out.text)
		}
	}
}

// seed makes the fraction Stock of the demand sellable, before the first order.
func (p *player) seed(ctx context.Context) error {
	start := time.Now()
	levels := p.o.levels()
	p.say("setting the stock of %d items", len(levels))
	var err error
	if p.o.Seed != nil {
		err = p.o.Seed(ctx, levels)
	} else {
		err = p.seedByDoor(ctx, levels)
	}
	p.t.do(func(s *Summary) {
		for _, l := range levels {
			s.SeededUnits += l.Quantity
		}
		s.SeededItems, s.SeedMS = len(levels), millis(time.Since(start))
	})
	return err
}

// levels are the items of the book in their order, with what is to be sellable of each.
func (o *Options) levels() []Level {
	demand := o.Orders.Demand()
	items := o.Orders.Items()
	ls := make([]Level, len(items))
	for i, it := range items {
		const rounding = 1e-9 // a tenth of ten is one, although 0.1 is a little off
		q := math.Floor(float64(demand[it])*o.Stock + rounding)
		ls[i] = Level{Item: it, Quantity: int64(min(q, backends.MaxOnHand)), OpID: backends.OpID(fmt.Sprintf("%s-stock-%d", o.Run, i+1))}
	}
	return ls
}

func (p *player) seedByDoor(ctx context.Context, levels []Level) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan int)
	p.withClients(func(c *client) {
		for i := range jobs {
			l := levels[i]
			out, err := c.call(ctx, i, p.o.restockArgs(l.Item, l.Quantity, l.OpID, "SELLABLE"))
			if err == nil && out.verdict != restocked {
				err = errors.New(out.text)
			}
			if err != nil {
				cancel(fmt.Errorf("item %q: %w", l.Item, err)) // the first cause counts
			}
		}
	}, func() {
		defer close(jobs)
		for i := range levels {
			select {
			case jobs <- i:
			case <-ctx.Done():
				return
			}
		}
	})
	return context.Cause(ctx)
}
