package soak

import (
	"fmt"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	scarceItems = 4 // of a window
	scarceUnits = 5 // of each
	// scarceMost bounds the operations on one item in one window: what a search for an order takes
	// seconds for at most.
	scarceMost = 300
	// searchPatience bounds the search for the order of one window.
	searchPatience = 10 * time.Second
)

// call is one operation on a scarce item.
type call struct {
	op    backends.Op
	item  int
	units int64
}

// said is the answer to it.
type said struct {
	soldOut bool
	had     int64 // units that the refusal speaks of
}

// step is the sequential model: its state is how many units are for sale.
func step(sellable int64, c call, a said) (bool, int64) {
	switch {
	case c.op == backends.OpReserve && a.soldOut:
		return sellable < c.units && a.had == max(0, sellable), sellable
	case c.op == backends.OpReserve:
		return sellable >= c.units, sellable - c.units
	case c.op == backends.OpClaim:
		return true, sellable
	default: // a release or a restock
		return true, sellable + c.units
	}
}

var model = porcupine.Model{
	Init: func() any { return int64(scarceUnits) },
	Step: func(state, input, output any) (bool, any) {
		return step(state.(int64), input.(call), output.(said)) //nolint:forcetypeassert // porcupine's types are what we gave it
	},
}

// window is scarce items for the time of one sample.
type window struct {
	n     int
	began time.Time

	mu        sync.Mutex
	ended     bool
	under     sync.WaitGroup // operations
	begun     [scarceItems]int
	histories [scarceItems][]porcupine.Operation
	lost      bool // an operation has no answer: its history says nothing
}

func newWindow(n int) *window { return &window{n: n, began: time.Now()} }

func (w *window) key(item int) backends.Key {
	return backends.Key{Shop: shop, Item: backends.Item(fmt.Sprintf("scarce-%d-%d", w.n, item)), Location: location}
}

// do has one operation made and keeps what came of it; false: the window wants no more of that item.
func (w *window) do(client int, c call, f func() (said, error)) (took bool, err error) {
	w.mu.Lock()
	if w.ended || w.begun[c.item] >= scarceMost {
		w.mu.Unlock()
		return false, nil
	}
	w.begun[c.item]++
	w.under.Add(1)
	w.mu.Unlock()
	defer w.under.Done()
	at := time.Since(w.began).Nanoseconds()
	a, err := f()
	o := porcupine.Operation{ClientId: client, Input: c, Call: at, Output: a, Return: time.Since(w.began).Nanoseconds()}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.lost = true
		return true, err
	}
	w.histories[c.item] = append(w.histories[c.item], o)
	return true, nil
}

// judged is what the histories of some windows come to.
type judged struct {
	histories, operations, refusals, undecided int64
	broken                                     []string
}

// judge ends the window, waits for what is under way, and looks for an order of each history.
func (w *window) judge() (j judged) {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.under.Wait()
	for i, h := range w.histories {
		j.histories++
		j.operations += int64(len(h))
		for _, o := range h {
			if a, ok := o.Output.(said); ok && a.soldOut {
				j.refusals++
			}
		}
		if w.lost {
			j.undecided++
			continue
		}
		switch porcupine.CheckOperationsTimeout(model, h, searchPatience) {
		case porcupine.Ok:
		case porcupine.Illegal:
			j.broken = append(j.broken, fmt.Sprintf("P3: no order of the %d operations on %s explains their answers: %s", len(h), w.key(i), describe(h)))
		default:
			j.undecided++
		}
	}
	return j
}

// describeMost bounds the operations that a report lists of a broken history.
const describeMost = 60

func describe(h []porcupine.Operation) (out string) {
	for i, o := range h {
		if i == describeMost {
			return out + "…"
		}
		out += fmt.Sprintf("[%d–%d µs buyer %d %+v → %+v] ", o.Call/1000, o.Return/1000, o.ClientId, o.Input, o.Output)
	}
	return out
}
