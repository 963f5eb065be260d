package chaos

import (
	"math"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// searchPatience bounds the search for the order of one item's history.
	searchPatience = 20 * time.Second
	// maxGhosts bounds the operations of one history that may have been done and undone without anybody's word.
	maxGhosts = 40
)

// act is what an operation does to the counter of the model.
type act int

const (
	actTake   act = iota // granted
	actRefuse            // sold out, with what was said to be there
	actGive              // released or restocked
	actGhost             // taken (or given: units below 0) by a store whose word nobody was given …
	actVoid              // … and undone when that was found
)

type modelCall struct {
	act   act
	units int64
	had   int64
	ghost int
}

// stock is the model's state: what is for sale, and which ghosts have taken.
type stock struct {
	sellable int64
	ghosts   uint64
}

// step is the sequential model.
func step(s stock, c modelCall) (bool, stock) {
	bit := uint64(1) << c.ghost
	switch c.act {
	case actTake:
		return s.sellable >= c.units, stock{s.sellable - c.units, s.ghosts}
	case actRefuse:
		return s.sellable < c.units && c.had == max(0, s.sellable), s
	case actGive:
		return true, stock{s.sellable + c.units, s.ghosts}
	case actGhost:
		return true, stock{s.sellable - c.units, s.ghosts | bit}
	case actVoid:
		return s.ghosts&bit != 0, stock{s.sellable + c.units, s.ghosts &^ bit}
	}
	return false, s
}

func model(units int64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return stock{sellable: units} },
		Step: func(state, input, _ any) (bool, any) {
			return step(state.(stock), input.(modelCall)) //nolint:forcetypeassert // porcupine's types are what we gave it
		},
	}
}

// operations turns a history into the model's terms. final is what the stores have of a hold in the end; marks
// are the moments at which a truth may have been left, by which ghosts are allowed when that is asked for.
func operations(h []op, final func(backends.HoldID) backends.State, marks []int64, ghosts bool) (out []porcupine.Operation) {
	forever := int64(math.MaxInt64)
	n := 0
	put := func(o *op, c modelCall, ret int64) {
		out = append(out, porcupine.Operation{ClientId: len(out), Input: c, Call: o.Began, Output: nil, Return: ret})
	}
	ghost := func(o *op, units, until int64) {
		if n < maxGhosts {
			put(o, modelCall{act: actGhost, units: units, ghost: n}, until)
			put(o, modelCall{act: actVoid, units: units, ghost: n}, until)
			n++
		}
	}
	// What is sent again to another truth may have been done, and seen by others, in the one before: that is void, and was when it was answered.
	gave := func(o *op, ret int64) {
		put(o, modelCall{act: actGive, units: o.Units}, ret)
		if ghosts && (o.Uncertain || meets(o, marks)) {
			ghost(o, -o.Units, ret)
		}
	}
	for i := range h {
		o := &h[i]
		switch {
		case o.Op == "reserve" && o.Verdict == "granted":
			put(o, modelCall{act: actTake, units: o.Units}, o.Ended)
			if ghosts && (o.Uncertain || meets(o, marks)) {
				ghost(o, o.Units, forever)
			}
		case o.Op == "reserve":
			if o.Verdict == "sold_out" {
				put(o, modelCall{act: actRefuse, units: o.Units, had: o.Had}, o.Ended)
			}
			switch final(backends.HoldID(o.ID)) {
			case backends.Held, backends.Claimed: // a try whose answer never came has taken effect
				put(o, modelCall{act: actTake, units: o.Units}, forever)
			case backends.Released, backends.Expired:
				ghost(o, o.Units, forever)
			default:
				if ghosts && (o.Uncertain || meets(o, marks)) {
					ghost(o, o.Units, forever)
				}
			}
		case o.Op == "restock" && o.Verdict == "restocked",
			o.Op == "release" && (o.Verdict == "released" || o.Verdict == "ended"):
			gave(o, o.Ended)
		case o.Verdict == "" && (o.Op == "restock" || final(backends.HoldID(o.ID)) == backends.Released):
			gave(o, forever)
		}
	}
	return out
}

// meets tells whether an operation was under way at one of the moments.
func meets(o *op, marks []int64) bool {
	for _, m := range marks {
		if o.Began <= m && (o.Ended < 0 || o.Ended >= m) {
			return true
		}
	}
	return false
}

// linear looks for an order of a history.
func linear(units int64, h []op, final func(backends.HoldID) backends.State, marks []int64) porcupine.CheckResult {
	plain := operations(h, final, marks, false)
	if explains(units, plain, findOrder(units, plain)) {
		return porcupine.Ok
	}
	// A store that is no longer asked may have taken and given back without anybody's word. Only where that could be is
	// it allowed, and only when nothing simpler explains the history.
	haunted := operations(h, final, marks, true)
	if explains(units, haunted, findOrder(units, haunted)) {
		return porcupine.Ok
	}
	if res := porcupine.CheckOperationsTimeout(model(units), plain, searchPatience); res != porcupine.Illegal {
		return res
	}
	return porcupine.CheckOperationsTimeout(model(units), haunted, searchPatience)
}
