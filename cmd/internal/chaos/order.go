package chaos

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/anishathalye/porcupine"
)

// A general search for the order of a history tries all operations that overlap against each other. When a switch has kept
// some dozens of them waiting at one item, it does not end. But what an operation does to a counter is the same whoever
// asked for it, so few orders have to be tried. What is found so is checked by the model; where nothing is found,
// porcupine judges.

// maxTried bounds the states that a search looks at: some seconds.
const maxTried = 1_000_000

// search goes from one end of an operation to the next, and has each take effect as late as it can (Lowe, "Testing for
// linearizability", 2017). Of operations that do the same, the one that ends first is taken first: wherever another was,
// they could be exchanged. A refusal changes nothing, and is taken as soon as it is true.
type search struct {
	ops     []porcupine.Operation
	calls   []modelCall
	events  []event
	ghostOf map[int]int // by ghost: its operation
	state   stock
	waiting []int // called, and without effect yet; in the order of their ends
	done    []uint64
	order   []int
	tried   map[string]bool
}

type event struct {
	at  int64
	end bool
	op  int
}

// findOrder looks for an order in which the model gives each operation its answer; nil when there is none, or none was found.
func findOrder(units int64, ops []porcupine.Operation) []int {
	s := &search{ops: ops, state: stock{sellable: units}, ghostOf: map[int]int{}, done: make([]uint64, (len(ops)+63)/64), tried: map[string]bool{}}
	for i := range ops {
		c := ops[i].Input.(modelCall) //nolint:forcetypeassert // made by operations
		s.calls = append(s.calls, c)
		if c.act == actGhost {
			s.ghostOf[c.ghost] = i
		}
		s.events = append(s.events, event{ops[i].Call, false, i}, event{ops[i].Return, true, i})
	}
	slices.SortStableFunc(s.events, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(bit(a.end), bit(b.end)))
	})
	if !s.from(0) {
		return nil
	}
	return s.order
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *search) isDone(op int) bool { return s.done[op/64]&(1<<(op%64)) != 0 }

// from goes on with an event.
func (s *search) from(e int) bool {
	for ; e < len(s.events); e++ {
		ev := s.events[e]
		switch {
		case !ev.end:
			at, _ := slices.BinarySearchFunc(s.waiting, ev.op, s.byEnd)
			s.waiting = slices.Insert(s.waiting, at, ev.op)
			mark := len(s.order)
			s.refusals()
			if s.from(e + 1) {
				return true
			}
			s.undo(mark)
			s.waiting = slices.DeleteFunc(s.waiting, func(op int) bool { return op == ev.op })
			return false
		case !s.isDone(ev.op):
			return s.until(e)
		}
	}
	return true
}

func (s *search) byEnd(a, b int) int {
	return cmp.Or(cmp.Compare(s.ops[a].Return, s.ops[b].Return), cmp.Compare(a, b))
}

// until has waiting operations take effect, one after the other, until the one that ends at e has.
func (s *search) until(e int) bool {
	key := string(binary.AppendUvarint(s.bytes(), uint64(e))) //nolint:gosec // not negative
	if s.tried[key] || len(s.tried) >= maxTried {
		return false
	}
	s.tried[key] = true
	for _, op := range s.candidates(s.events[e].op) {
		mark := len(s.order)
		s.take(op)
		s.refusals()
		if s.isDone(s.events[e].op) && s.from(e+1) || !s.isDone(s.events[e].op) && s.until(e) {
			return true
		}
		s.undo(mark)
	}
	return false
}

func (s *search) bytes() []byte {
	b := make([]byte, 0, 8*len(s.done)+binary.MaxVarintLen64)
	for _, w := range s.done {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// candidates are the operations that may take effect now, one of each kind; the one that is wanted first.
func (s *search) candidates(wanted int) (out []int) {
	type kind struct {
		act   act
		units int64
	}
	seen := map[kind]bool{}
	for _, op := range s.waiting {
		c := s.calls[op]
		if c.act == actRefuse || s.isDone(op) || c.act == actVoid && !s.isDone(s.ghostOf[c.ghost]) {
			continue
		}
		if k := (kind{c.act, c.units}); !seen[k] {
			seen[k] = true
			if ok, _ := step(s.state, c); ok {
				out = append(out, op)
			}
		}
	}
	if i := slices.Index(out, wanted); i > 0 {
		out = slices.Insert(slices.Delete(out, i, i+1), 0, wanted)
	}
	return out
}

func (s *search) take(op int) {
	_, s.state = step(s.state, s.calls[op])
	s.done[op/64] |= 1 << (op % 64)
	s.order = append(s.order, op)
}

// refusals takes those that are true now.
func (s *search) refusals() {
	for _, op := range s.waiting {
		if c := s.calls[op]; c.act == actRefuse && !s.isDone(op) {
			if ok, _ := step(s.state, c); ok {
				s.take(op)
			}
		}
	}
}

func (s *search) undo(to int) {
	for len(s.order) > to {
		op := s.order[len(s.order)-1]
		s.order = s.order[:len(s.order)-1]
		s.done[op/64] &^= 1 << (op % 64)
		switch c := s.calls[op]; c.act {
		case actTake:
			s.state.sellable += c.units
		case actGive:
			s.state.sellable -= c.units
		case actGhost:
			s.state = stock{s.state.sellable + c.units, s.state.ghosts &^ (1 << c.ghost)}
		case actVoid:
			s.state = stock{s.state.sellable - c.units, s.state.ghosts | 1<<c.ghost}
		case actRefuse:
		}
	}
}

// explains checks an order by the model: each operation once, with its answer, and none after one that began when it had ended.
func explains(units int64, ops []porcupine.Operation, order []int) bool {
	if len(order) != len(ops) {
		return false
	}
	state, seen, latest := stock{sellable: units}, make([]bool, len(ops)), int64(math.MinInt64)
	for _, op := range order {
		if op < 0 || op >= len(ops) || seen[op] || ops[op].Return < latest {
			return false
		}
		seen[op], latest = true, max(latest, ops[op].Call)
		ok, next := step(state, ops[op].Input.(modelCall)) //nolint:forcetypeassert // made by operations
		if !ok {
			return false
		}
		state = next
	}
	return true
}
