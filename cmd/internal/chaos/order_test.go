package chaos

import (
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"pgregory.net/rapid"
)

// TestFindOrder: it finds an order where porcupine says that there is one, and where there is none it finds none.
func TestFindOrder(t *testing.T) {
	var legal, illegal int
	rapid.Check(t, func(t *rapid.T) {
		const mostOps, mostGhosts, span, length = 7, 2, 30, 15
		units := rapid.Int64Range(0, 4).Draw(t, "units")
		var ops []porcupine.Operation
		put := func(c modelCall, from, to int64) {
			ops = append(ops, porcupine.Operation{ClientId: len(ops), Input: c, Call: from, Return: to})
		}
		for range rapid.IntRange(1, mostOps).Draw(t, "operations") {
			from := rapid.Int64Range(0, span).Draw(t, "call")
			c := modelCall{act: rapid.SampledFrom([]act{actTake, actTake, actGive, actRefuse}).Draw(t, "act"), units: rapid.Int64Range(1, 2).Draw(t, "of units")}
			if c.act == actRefuse {
				c.had = rapid.Int64Range(0, c.units-1).Draw(t, "had")
			}
			put(c, from, from+rapid.Int64Range(1, length).Draw(t, "took"))
		}
		for g := range rapid.IntRange(0, mostGhosts).Draw(t, "ghosts") {
			from, to := rapid.Int64Range(0, span).Draw(t, "ghost from"), int64(math.MaxInt64)
			if rapid.Bool().Draw(t, "ends") {
				to = from + rapid.Int64Range(1, length).Draw(t, "ghost took")
			}
			n := rapid.SampledFrom([]int64{1, 2, -1, -2}).Draw(t, "ghost of units")
			put(modelCall{act: actGhost, units: n, ghost: g}, from, to)
			put(modelCall{act: actVoid, units: n, ghost: g}, from, to)
		}
		want := porcupine.CheckOperationsTimeout(model(units), ops, time.Minute)
		order := findOrder(units, ops)
		switch {
		case want == porcupine.Ok && !explains(units, ops, order):
			t.Fatalf("there is an order; found: %v", order)
		case want == porcupine.Illegal && order != nil:
			t.Fatalf("there is no order; found: %v", order)
		case want == porcupine.Ok:
			legal++
		default:
			illegal++
		}
	})
	if legal == 0 || illegal == 0 {
		t.Errorf("%d histories had an order and %d had none: that shows nothing", legal, illegal)
	}
}

// A switch that keeps many buyers of one item waiting: a search among all orders of those who overlap does not end.
func TestFindOrderOfACrowd(t *testing.T) {
	const crowd, long = 48, 1000
	var ops []porcupine.Operation
	put := func(c modelCall, from, to int64) {
		ops = append(ops, porcupine.Operation{ClientId: len(ops), Input: c, Call: from, Return: to})
	}
	for i := range int64(crowd) {
		put(modelCall{act: actTake, units: 1 + i%2}, i, long+i)
		put(modelCall{act: actGive, units: 1 + i%2}, i, long+crowd-i)
		put(modelCall{act: actRefuse, units: 2, had: i % 2}, i, long+i)
	}
	if order := findOrder(2, ops); !explains(2, ops, order) {
		t.Errorf("no order was found: %v", order)
	}
	ops = append(ops, porcupine.Operation{ClientId: len(ops), Input: modelCall{act: actTake, units: 1000}, Call: 0, Return: long})
	if order := findOrder(2, ops); order != nil {
		t.Errorf("an order was found where there is none: %v", order)
	}
}

// TestExplains: an order is not taken at its word.
func TestExplains(t *testing.T) {
	ops := []porcupine.Operation{
		{Input: modelCall{act: actTake, units: 2}, Call: 0, Return: 10},
		{Input: modelCall{act: actGive, units: 2}, Call: 20, Return: 30},
		{Input: modelCall{act: actTake, units: 1}, Call: 25, Return: 40},
	}
	for name, c := range map[string]struct {
		order []int
		want  bool
	}{
		"in order": {[]int{0, 1, 2}, true}, "not there": {[]int{0, 2, 1}, false}, "before it began": {[]int{1, 0, 2}, false},
		"one is missing": {[]int{0, 1}, false}, "one twice": {[]int{0, 1, 1}, false}, "none": {nil, false}, "unknown": {[]int{0, 1, 3}, false},
	} {
		if got := explains(2, ops, c.order); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
