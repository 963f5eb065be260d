package storetest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Histories of hot items: each request is about one unit or a few of one item, so that a legal order is
// looked for item by item, and many callers can be at it at once.

const (
	hotItems   = 4
	hotClients = 16
	hotOps     = 12 // of each client
	hotRounds  = 3
	hotStart   = 5 // units of each item
)

// hotCall is one operation on an item; a hold belongs to one client, who ends it.
type hotCall struct {
	op    backends.Op
	item  int
	units int64
}

// hotAnswer is what was said to it.
type hotAnswer struct {
	soldOut bool
	had     int64 // as a refusal has it
}

// hotStep is the model: its state is what is for sale.
func hotStep(sellable int64, c hotCall, a hotAnswer) (bool, int64) {
	switch {
	case c.op == backends.OpReserve && a.soldOut:
		return sellable < c.units && a.had == max(0, sellable), sellable
	case c.op == backends.OpReserve:
		return sellable >= c.units, sellable - c.units
	case c.op == backends.OpRelease || c.op == backends.OpRestock:
		return true, sellable + c.units
	default: // a claim
		return true, sellable
	}
}

var hotModel = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		out := make([][]porcupine.Operation, hotItems)
		for _, o := range all {
			i := o.Input.(hotCall).item //nolint:forcetypeassert // porcupine's types are what we gave it
			out[i] = append(out[i], o)
		}
		return out
	},
	Init: func() any { return int64(hotStart) },
	Step: func(state, input, output any) (bool, any) {
		return hotStep(state.(int64), input.(hotCall), output.(hotAnswer)) //nolint:forcetypeassert // see above
	},
}

// hotClient is one caller of a history, with the holds that it has open.
type hotClient struct {
	r     *rig
	rnd   *rand.Rand
	round int
	n     int
	ops   int
	open  []hotHold
}

type hotHold struct {
	id backends.HoldID
	c  hotCall
}

func hotItem(round, i int) backends.Item {
	return backends.Item(fmt.Sprintf("hot-%d-%d", round, i))
}

// act does one operation: more reserves than there is stock for.
func (h *hotClient) act() (c hotCall, a hotAnswer, err error) {
	h.ops++
	name := fmt.Sprintf("hot-%d-%d-%d", h.round, h.n, h.ops)
	if n := h.rnd.IntN(10); n < 4 && len(h.open) > 0 {
		o := h.open[0]
		h.open = h.open[1:]
		if c = o.c; n == 0 {
			c.op = backends.OpClaim
			_, err = again(func() (*backends.Decision, error) {
				return h.r.s.Claim(h.r.ctx, h.r.tok, &backends.ClaimRequest{ID: o.id, Shop: shop})
			})
			return c, a, err
		}
		c.op = backends.OpRelease
		_, err = again(func() (*backends.Decision, error) {
			return h.r.s.Release(h.r.ctx, h.r.tok, &backends.ReleaseRequest{ID: o.id})
		})
		return c, a, err
	} else if n == 9 {
		c = hotCall{op: backends.OpRestock, item: h.rnd.IntN(hotItems), units: 1}
		_, err = again(func() (*backends.Decision, error) {
			return h.r.s.Restock(h.r.ctx, h.r.tok, &backends.RestockRequest{OpID: backends.OpID(name), Key: key(hotItem(h.round, c.item), east), Amount: c.units})
		})
		return c, a, err
	}
	c = hotCall{op: backends.OpReserve, item: h.rnd.IntN(hotItems), units: 1 + h.rnd.Int64N(3)}
	d, err := again(func() (*backends.Decision, error) {
		return h.r.s.Reserve(h.r.ctx, h.r.tok, request(backends.HoldID(name), line(hotItem(h.round, c.item), c.units)))
	})
	switch {
	case err != nil:
	case d.Outcome == backends.OutcomeSoldOut && len(d.Short) == 1:
		a = hotAnswer{soldOut: true, had: d.Short[0].Available}
	case d.Outcome == backends.OutcomeGranted:
		h.open = append(h.open, hotHold{backends.HoldID(name), c})
	default:
		err = fmt.Errorf("reserve answered %+v", d)
	}
	return c, a, err
}

// togetherLinear records histories of many callers of few items, with a pool that is refilled all the
// time, and looks for a legal order of each.
func togetherLinear(t *testing.T, e *env) {
	r := e.open(t, e.dual(), Options{PoolCap: 2})
	handles := []*rig{r, r.second()}
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // a seed, and it is printed
	for round := range hotRounds {
		for i := range hotItems {
			r.stock(hotItem(round, i), east, hotStart)
		}
		var mu sync.Mutex
		var history []porcupine.Operation
		began := time.Now()
		crowd(t, hotClients, func(i int) error {
			h := &hotClient{r: handles[i%2], round: round, n: i, rnd: rand.New(rand.NewPCG(seed, uint64(round*hotClients+i)))} //nolint:gosec // reproducible
			for range hotOps {
				at := time.Since(began).Nanoseconds()
				c, a, err := h.act()
				if err != nil {
					return fmt.Errorf("%s: %w", c.op, err)
				}
				mu.Lock()
				history = append(history, porcupine.Operation{ClientId: i, Input: c, Call: at, Output: a, Return: time.Since(began).Nanoseconds()})
				mu.Unlock()
			}
			return nil
		})
		if got := porcupine.CheckOperationsTimeout(hotModel, history, linPatience); got != porcupine.Ok {
			t.Fatalf("round %d (seed %d): the search for an order of these operations that explains their answers ended %s:\n%s", round, seed, got, describe(history))
		}
	}
	r.conserved()
}
