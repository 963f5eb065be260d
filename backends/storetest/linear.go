package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/crossfade-proxy/crossfade/backends"
)

// The history of a crowd is legal when its answers can be put in one order, each between the
// request and its answer, in which the sequential model gives the same ones. That is P2 and P3 at
// once: nothing is sold twice, and sold out is said only where it was so.

const (
	linClients = 6
	linOps     = 8 // of each client
	linRounds  = 8
	// linPatience bounds the search for the order; such histories take milliseconds.
	linPatience = 20 * time.Second
)

// linItem is one of the two items of a history, at east.
type linItem int

// linCarts are the carts that a history may reserve, each under one id for ever: units by item.
var linCarts = [...][2]int64{{2, 0}, {0, 1}, {1, 2}, {3, 0}, {1, 2}, {0, 2}}

// linState is the sequential model: small, and compared by ==.
type linState struct {
	sellable, onHand, taken [2]int64
	holds                   [len(linCarts)]backends.State
}

// linCall is one operation of a history.
type linCall struct {
	op    backends.Op // unknown: read the level of item
	cart  int
	item  linItem
	delta int64
}

// linAnswer is what a store said to it.
type linAnswer struct {
	outcome  backends.Outcome
	replayed bool
	retried  bool // the first answer was unknown: whether it is a replay says nothing
	short    [2]int64
	isShort  [2]bool
	value    int64
	level    [3]int64 // on hand, for sale, taken
}

func (s linState) short(cart int) (isShort [2]bool, any bool) {
	for i, n := range linCarts[cart] {
		if n > 0 && s.sellable[i] < n {
			isShort[i], any = true, true
		}
	}
	return isShort, any
}

// move adds a cart to what is for sale and on hand, times the signs given.
func (s linState) move(cart int, sellable, onHand int64) linState {
	for i, n := range linCarts[cart] {
		s.sellable[i] += sellable * n
		s.onHand[i] += onHand * n
	}
	return s
}

// step tells whether the model could give this answer, and where it stands then.
func (s linState) step(c linCall, a linAnswer) (bool, linState) {
	replay := func(is bool) bool { return a.retried || a.replayed == is }
	state := s.holds[c.cart]
	next := s
	switch c.op {
	case backends.OpReserve:
		return s.stepReserve(c, a)
	case backends.OpRelease:
		switch state {
		case backends.Held:
			next = s.move(c.cart, +1, 0)
			next.holds[c.cart] = backends.Released
			return a.outcome == backends.OutcomeReleased && replay(false), next
		case backends.Released:
			return a.outcome == backends.OutcomeReleased && replay(true), s
		case backends.Claimed:
			return a.outcome == backends.OutcomeEnded, s
		default:
			return a.outcome == backends.OutcomeNotFound, s
		}
	case backends.OpClaim:
		switch state {
		case backends.StateUnknown:
			return a.outcome == backends.OutcomeNotFound, s
		case backends.Claimed:
			return a.outcome == backends.OutcomeClaimed && replay(true), s
		case backends.Released:
			next = s.move(c.cart, -1, -1)
		default:
			next = s.move(c.cart, 0, -1)
		}
		next.holds[c.cart] = backends.Claimed
		return a.outcome == backends.OutcomeClaimed && replay(false), next
	case backends.OpCount:
		takes := -c.delta
		if c.delta > 0 {
			takes = -min(c.delta, max(0, s.taken[c.item]))
		}
		next.taken[c.item] += takes
		next.sellable[c.item] += c.delta
		next.onHand[c.item] += c.delta + takes
		return a.value == next.sellable[c.item], next
	case backends.OpRestock:
		next.sellable[c.item] += c.delta
		next.onHand[c.item] += c.delta
		return a.outcome == backends.OutcomeRestocked, next
	default:
		return a.level == [3]int64{s.onHand[c.item], s.sellable[c.item], s.taken[c.item]}, s
	}
}

func (s linState) stepReserve(c linCall, a linAnswer) (bool, linState) {
	switch s.holds[c.cart] {
	case backends.Held:
		return a.outcome == backends.OutcomeGranted && (a.replayed || a.retried), s
	case backends.Claimed, backends.Released:
		return a.outcome == backends.OutcomeEnded, s
	}
	isShort, short := s.short(c.cart)
	if short {
		ok := a.outcome == backends.OutcomeSoldOut && a.isShort == isShort
		for i := range isShort {
			ok = ok && (!isShort[i] || a.short[i] == max(0, s.sellable[i]))
		}
		return ok, s
	}
	next := s.move(c.cart, -1, 0)
	next.holds[c.cart] = backends.Held
	return a.outcome == backends.OutcomeGranted && (!a.replayed || a.retried), next
}

// linWorld is one history: items and holds of its own.
type linWorld struct {
	round int
	start [2]int64
}

func (w linWorld) key(item linItem) backends.Key {
	return key(backends.Item(fmt.Sprintf("lin-%d-%d", w.round, item)), east)
}

func (w linWorld) id(cart int) backends.HoldID {
	return backends.HoldID(fmt.Sprintf("lin-%d-%d", w.round, cart))
}

func (w linWorld) lines(cart int) []backends.Line {
	var ls []backends.Line
	for i, n := range linCarts[cart] {
		if n > 0 {
			ls = append(ls, line(w.key(linItem(i)).Item, n))
		}
	}
	return ls
}

// call sends one operation, again while its outcome is unknown.
func (w linWorld) call(r *rig, c linCall, op backends.OpID) (a linAnswer, err error) {
	tries := 0
	d, err := again(func() (*backends.Decision, error) {
		tries++
		switch c.op {
		case backends.OpReserve:
			return r.s.Reserve(r.ctx, r.tok, request(w.id(c.cart), w.lines(c.cart)...))
		case backends.OpRelease:
			return r.s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: w.id(c.cart)})
		case backends.OpClaim:
			return r.s.Claim(r.ctx, r.tok, &backends.ClaimRequest{ID: w.id(c.cart), Shop: shop})
		case backends.OpRestock:
			return r.s.Restock(r.ctx, r.tok, &backends.RestockRequest{OpID: op, Key: w.key(c.item), Amount: c.delta})
		case backends.OpCount:
			res, err := r.s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: op, Key: w.key(c.item), Delta: c.delta})
			if err == nil {
				a.value = res.Value
			}
			return &backends.Decision{}, err
		default:
			ls, err := r.s.Levels(r.ctx, []backends.Key{w.key(c.item)})
			if err == nil && len(ls) == 1 {
				a.level = [3]int64{ls[0].OnHand, ls[0].Sellable(), ls[0].Taken}
			}
			return &backends.Decision{}, err
		}
	})
	if err != nil {
		return a, err
	}
	a.outcome, a.replayed, a.retried = d.Outcome, d.Replayed, tries > 1
	for _, sh := range d.Short {
		i := slices.IndexFunc([]linItem{0, 1}, func(i linItem) bool { return w.key(i).Item == sh.Item })
		a.isShort[i], a.short[i] = true, sh.Available
	}
	return a, nil
}

// drawCall draws an operation; stock is scarce, so that refusals and grants meet.
func drawCall(rnd *rand.Rand) linCall {
	c := linCall{cart: rnd.IntN(len(linCarts)), item: linItem(rnd.IntN(2))}
	switch n := rnd.IntN(20); {
	case n < 8:
		c.op = backends.OpReserve
	case n < 12:
		c.op = backends.OpRelease
	case n < 14:
		c.op = backends.OpClaim
	case n < 16:
		c.op, c.delta = backends.OpRestock, int64(1+rnd.IntN(2))
	case n < 18:
		c.op = backends.OpCount
		c.delta = int64(1 + rnd.IntN(2))
		if rnd.IntN(2) == 0 {
			c.delta = -c.delta
		}
	}
	return c
}

// crowdLinear records histories of a crowd through two handles, and looks for a legal order.
func crowdLinear(t *testing.T, e *env) {
	r := e.open(t, e.dual(), Options{PoolCap: 2})
	handles := []*rig{r, r.second()}
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // a seed, and it is printed
	for round := range linRounds {
		w := linWorld{round: round, start: [2]int64{3, 4}}
		for i, n := range w.start {
			r.stock(w.key(linItem(i)).Item, east, n)
		}
		var mu sync.Mutex
		var history []porcupine.Operation
		began := time.Now()
		crowd(t, linClients, func(i int) error {
			rnd := rand.New(rand.NewPCG(seed, uint64(round*linClients+i))) //nolint:gosec // reproducible
			for k := range linOps {
				c := drawCall(rnd)
				at := time.Since(began).Nanoseconds()
				a, err := w.call(handles[i%2], c, backends.OpID(fmt.Sprintf("lin-%d-%d-%d", round, i, k)))
				if err != nil {
					return fmt.Errorf("%s: %w", c.op, err)
				}
				mu.Lock()
				history = append(history, porcupine.Operation{ClientId: i, Input: c, Call: at, Output: a, Return: time.Since(began).Nanoseconds()})
				mu.Unlock()
			}
			return nil
		})
		switch porcupine.CheckOperationsTimeout(w.model(), history, linPatience) {
		case porcupine.Ok:
		case porcupine.Illegal:
			t.Fatalf("round %d (seed %d): no order of these operations explains their answers:\n%s", round, seed, describe(history))
		default:
			t.Fatalf("round %d (seed %d): no order was found within %s, and none excluded", round, seed, linPatience)
		}
	}
	r.conserved()
}

func (w linWorld) model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return linState{sellable: w.start, onHand: w.start} },
		Step: func(state, input, output any) (bool, any) {
			return state.(linState).step(input.(linCall), output.(linAnswer)) //nolint:forcetypeassert // porcupine's types are what we gave it
		},
	}
}

func describe(history []porcupine.Operation) string {
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var out string
	for _, o := range history {
		out += fmt.Sprintf("%9d–%9d ns, client %d: %+v → %+v\n", o.Call, o.Return, o.ClientId, o.Input, o.Output)
	}
	return out
}
