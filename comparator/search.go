package comparator

import (
	"cmp"
	"slices"
	"sync"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Span is when something happened, by one store's clock: at some instant within it, both ends
// included. The zero Span is not known.
type Span struct {
	From backends.Instant `json:"from"`
	To   backends.Instant `json:"to"`
}

// Known tells whether anything is known of it.
func (s Span) Known() bool { return s != Span{} }

// Never stands for the end of a step that may not have happened yet.
const Never = backends.Instant(1) << 62

// Found is what a search says. The zero value says nothing.
type Found uint8

// The answers of a search.
const (
	FoundNothing  Found = iota // not searched, or the record does not say enough
	FoundOrder                 // there is a legal order with both outcomes
	FoundNone                  // there is none among the operations that are recorded
	FoundTooLarge              // given up at a bound
)

var foundNames = [...]string{"nothing", "order", "no order", "too large"}

// String gives the words used in reports.
func (f Found) String() string {
	if int(f) < len(foundNames) {
		return foundNames[f]
	}
	return "nothing"
}

// vec is a number of units at each of a history's keys, in their order.
type vec [maxSearchKeys]int64

func (v vec) plus(o vec) vec {
	for i := range v {
		v[i] += o[i]
	}
	return v
}

func (v vec) times(n int64) vec {
	for i := range v {
		v[i] *= n
	}
	return v
}

func (v vec) less(o vec) bool { return slices.Compare(v[:], o[:]) < 0 }

func (v vec) minus(o vec) vec {
	for i := range v {
		v[i] -= o[i]
	}
	return v
}

// history is what a search is about: one decision of each store, and the operations around them.
//
// The truth decided at one instant within truth, the shadow at one within shadow. Each thread (the
// states of one hold; an operation on a level) stood at one of its states then, in each store.
// Sellable in the shadow is Sellable in the truth, plus what a thread takes in the truth, less
// what it takes in the shadow, summed over the threads.
type history struct {
	truth, shadow Span
	threads       []thread
	// meets tells whether both outcomes follow when the shadow has so much more for sale than the
	// truth.
	meets func(vec) bool
}

// thread is a sequence of states of one thing, each of which the truth decided, and the shadow
// followed, within its spans.
type thread struct {
	// base is what it takes before its first state: each alternative. Empty: that is not known.
	base   []vec
	states []state
}

type state struct {
	takes         vec
	truth, shadow Span
	// hole: the state after it is not recorded, so that whoever has reached this one may stand at that.
	hole bool
	ref  EntryRef
}

// trim leaves out the states at which the thread cannot have stood in either store, for a decision of the
// truth within t and one of the shadow within s.
func (th *thread) trim(t, s Span) {
	first := min(firstAt(th.states, t.From, truthOf), firstAt(th.states, s.From, shadowOf))
	last := len(th.states)
	for last > first && th.states[last-1].truth.From > t.To && th.states[last-1].shadow.From > s.To {
		last--
	}
	th.states = th.states[max(0, first-1):last]
}

func truthOf(s *state) Span  { return s.truth }
func shadowOf(s *state) Span { return s.shadow }

// firstAt is the first place at which a thread may have stood at tau: all states before it had been left.
func firstAt(states []state, tau backends.Instant, of func(*state) Span) int {
	for i := len(states); i > 0; i-- {
		if of(&states[i-1]).To < tau {
			return i
		}
	}
	return 0
}

// place is where a thread stood: at state truth-1 in the truth and shadow-1 in the shadow; 0 is before
// its first.
type place struct{ truth, shadow int }

// searched is a search's answer; places has one for each thread when an order was found.
type searched struct {
	found  Found
	places []place
	work   int
}

// search looks for instants of the two decisions, and for a state of each thread at each of them, such
// that both outcomes follow. A state was reached by instant tau if it ended before tau, not if it began
// after tau, and perhaps otherwise; so at each tau a thread has a few states to choose from, the threads
// choose on their own, and the sums that can be reached are counted up, threads with the same
// choices together.
//
// It is pure but for trimming the threads, and bounded by room, for work, and maxSearchInstants.
func (h *history) search(room int) searched {
	for i := range h.threads {
		h.threads[i].trim(h.truth, h.shadow)
	}
	free, fixed, places := h.split()
	ts := instants(h.truth, free, truthOf)
	ss := instants(h.shadow, free, shadowOf)
	if len(ts)*len(ss) > maxSearchInstants {
		return searched{found: FoundTooLarge}
	}
	out := searched{found: FoundNone}
	sums, ok := scratch.Get().(*sums)
	if !ok {
		sums = newSums()
	}
	defer scratch.Put(sums)
	for _, t := range ts {
		for _, s := range ss {
			sums.clear(room-out.work, fixed)
			found := sums.at(free, t, s, h.meets)
			out.work += sums.work
			switch found {
			case FoundOrder:
				out.found, out.places = found, places
				sums.trace(free, places)
				return out
			case FoundTooLarge:
				out.found = found
				return out
			case FoundNothing:
				out.found = found // another instant may still show an order
			case FoundNone:
			}
		}
	}
	return out
}

// free is a thread that has a choice at some instants.
type free struct {
	*thread
	i int // its index
}

// split finds the threads that stand at one state in each store whatever the instants of the decisions
// within their spans: what they add together is fixed. The others are free.
func (h *history) split() (out []free, fixed vec, places []place) {
	places = make([]place, len(h.threads))
	for i := range h.threads {
		th := &h.threads[i]
		stands := func(span Span, of func(*state) Span) bool {
			return !slices.ContainsFunc(th.states, func(s state) bool { x := of(&s); return x.To >= span.From && x.From <= span.To })
		}
		if stands(h.truth, truthOf) && stands(h.shadow, shadowOf) {
			if cs, known, whole := th.choices(nil, h.truth.To, h.shadow.To, new(int), maxSearchWork); known && whole && len(cs) == 1 {
				fixed, places[i] = fixed.plus(cs[0].adds), cs[0].at
				continue
			}
		}
		out = append(out, free{th, i})
	}
	return out, fixed, places
}

// instants are those at which a decision within span has to be tried: a later instant allows more
// until it passes the end of a state, which then was surely reached.
func instants(span Span, ths []free, of func(*state) Span) []backends.Instant {
	out := []backends.Instant{span.To}
	for _, th := range ths {
		for j := range th.states {
			if to := of(&th.states[j]).To; to >= span.From && to < span.To {
				out = append(out, to)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// choice is one way in which a thread may have stood, with what it adds to the shadow's stock.
type choice struct {
	adds vec
	at   place
}

// node is a sum that can be reached, and how.
type node struct {
	sum    vec
	before int // index of the node that it comes from; -1: none
	group  int
	others int // how many of the group do not take its first choice
}

// alike is threads that have the same choices. Of one of two choices any number may take the second;
// one of more is a group of its own, whose others is the choice.
type alike struct {
	members []int // indexes of free threads
	choices [][]choice
	moves   []vec // what the group adds, by way; made once all members are known
}

// scratch is the memory of searches that have ended: without it most of a search is growing new memory. What one leaves there is
// bounded by maxSearchNodes and maxReached, and the collector takes what is not used.
var scratch = sync.Pool{New: func() any { return newSums() }}

func newSums() *sums { return new(sums) }

// sums counts up what can be reached at two given instants.
type sums struct {
	room   int // for work
	work   int // choices and nodes that were made
	groups []alike
	all    []node
	end    int // the node that fits
	made   []choice
	// reached are the sums of the layer that is being made.
	reached sumSet
}

// clear begins anew, in the same memory.
func (u *sums) clear(room int, fixed vec) {
	u.room, u.work, u.end = room, 0, 0
	u.groups, u.all, u.made = u.groups[:0], append(u.all[:0], node{sum: fixed, before: -1}), u.made[:0]
}

func (u *sums) at(ths []free, t, s backends.Instant, meets func(vec) bool) Found {
	unclear := false
	pairs := map[[2]vec]int{}
	for i, th := range ths {
		begin := len(u.made)
		known, whole := false, false
		if u.made, known, whole = th.choices(u.made, t, s, &u.work, u.room); !whole {
			return FoundTooLarge
		}
		cs := u.made[begin:len(u.made):len(u.made)]
		unclear = unclear || !known
		switch len(cs) {
		case 0: // it can only be where nobody knows what it takes
			return FoundNothing
		case 2:
			if cs[1].adds.less(cs[0].adds) {
				cs[0], cs[1] = cs[1], cs[0]
			}
			k := [2]vec{cs[0].adds, cs[1].adds}
			if g, there := pairs[k]; there {
				u.groups[g].members, u.groups[g].choices = append(u.groups[g].members, i), append(u.groups[g].choices, cs)
				continue
			}
			pairs[k] = len(u.groups)
			fallthrough
		default:
			u.groups = append(u.groups, alike{members: []int{i}, choices: [][]choice{cs}})
		}
	}
	for g := range u.groups {
		u.groups[g].spread()
	}
	// Small moves first, and an answer as soon as the rest may stand still: an order takes few operations.
	slices.SortStableFunc(u.groups, func(a, b alike) int { return cmp.Compare(a.reach(), b.reach()) })
	still := len(u.groups) // from this group on all may add nothing
	for still > 0 && u.groups[still-1].still() >= 0 {
		still--
	}
	switch found, whole := u.count(still, meets); {
	case found:
		return FoundOrder
	case !whole:
		return FoundTooLarge
	case unclear:
		return FoundNothing
	default:
		return FoundNone
	}
}

// count makes the nodes, group by group, until one meets and the groups behind it may stand still: then end
// is that node. whole is false when there are too many.
func (u *sums) count(still int, meets func(vec) bool) (found, whole bool) {
	fits := func(i, next int) bool {
		if next < still || !meets(u.all[i].sum) {
			return false
		}
		u.end = i
		return true
	}
	if fits(0, 0) {
		return true, true
	}
	u.reached.begin(u.all[0].sum, u.groups)
	last := 0 // the first node of the layer before
	for g := range u.groups {
		begin := len(u.all)
		u.reached.layer()
		for from := last; from < begin; from++ {
			for others, move := range u.groups[g].moves {
				u.work++
				sum := u.all[from].sum.plus(move)
				if !u.reached.add(&sum) {
					continue
				}
				u.all = append(u.all, node{sum: sum, before: from, group: g, others: others})
				if fits(len(u.all)-1, g+1) {
					return true, true
				}
			}
			if u.work > u.room || len(u.all) > maxSearchNodes {
				return false, false
			}
		}
		last = begin
	}
	return false, true
}

// still is the way in which the group adds nothing; -1 when there is none.
func (g *alike) still() int {
	return slices.Index(g.moves, vec{})
}

// reach is how far apart the choices are.
func (g *alike) reach() (n int64) {
	cs := g.choices[0]
	for _, c := range cs[1:] {
		d := c.adds.minus(cs[0].adds)
		for i := range d {
			n += abs(d[i])
		}
	}
	return n
}

// spread fills in what the group adds in each of the ways in which it may stand, as far as sums go: of two choices any
// number of members may take the second.
func (g *alike) spread() {
	cs := g.choices[0]
	if len(cs) != 2 {
		for _, c := range cs {
			g.moves = append(g.moves, c.adds)
		}
		return
	}
	step := cs[1].adds.minus(cs[0].adds)
	sum := cs[0].adds.times(int64(len(g.members)))
	for range len(g.members) + 1 {
		g.moves = append(g.moves, sum)
		sum = sum.plus(step)
	}
}

// trace notes where each free thread stands in what was found.
func (u *sums) trace(ths []free, places []place) {
	n := u.all[u.end]
	behind := 0 // the first group that is not in the sum
	if n.before >= 0 {
		behind = n.group + 1
	}
	for i := behind; i < len(u.groups); i++ {
		u.groups[i].stand(u.groups[i].still(), ths, places)
	}
	for ; n.before >= 0; n = u.all[n.before] {
		u.groups[n.group].stand(n.others, ths, places)
	}
}

func (g *alike) stand(others int, ths []free, places []place) {
	for k, i := range g.members {
		pick := others
		if len(g.choices[k]) == 2 {
			pick = 0
			if k < others {
				pick = 1
			}
		}
		places[ths[i].i] = g.choices[k][pick].at
	}
}

// choices adds to out the ways in which the thread may have stood in the truth at t and in the shadow at s,
// those that add the same counted once. known is false when one of them adds nobody knows what, whole
// when there were too many to go through: work counts those, and room bounds it.
func (th *thread) choices(out []choice, t, s backends.Instant, work *int, room int) (_ []choice, known, whole bool) {
	known = true
	begin := len(out)
	add := func(c choice) {
		if !slices.ContainsFunc(out[begin:], func(o choice) bool { return o.adds == c.adds }) {
			out = append(out, c)
		}
	}
	firstB := firstAt(th.states, s, shadowOf)
	for a := firstAt(th.states, t, truthOf); a <= len(th.states); a++ {
		if a > 0 && th.states[a-1].truth.From > t {
			continue
		}
		for b := firstB; b <= len(th.states); b++ {
			if b > 0 && th.states[b-1].shadow.From > s {
				continue
			}
			if *work += 1 + len(out) - begin; *work > room || len(out)-begin > maxChoices {
				return out, false, false
			}
			known = th.stand(a, b, add) && known
		}
	}
	return out, known, true
}

// stand adds the ways in which it may stand at a in the truth and at b in the shadow. It answers whether it is
// known what all of them add.
func (th *thread) stand(a, b int, add func(choice)) bool {
	switch {
	case a > 0 && th.states[a-1].hole, b > 0 && th.states[b-1].hole:
		return false
	case a > 0 && b > 0:
		add(choice{th.states[a-1].takes.minus(th.states[b-1].takes), place{a, b}})
	case a == b:
		add(choice{vec{}, place{}})
	case len(th.base) == 0:
		return false
	case a > 0:
		for _, base := range th.base {
			add(choice{th.states[a-1].takes.minus(base), place{a, b}})
		}
	default:
		for _, base := range th.base {
			add(choice{base.minus(th.states[b-1].takes), place{a, b}})
		}
	}
	return true
}
