package comparator

import (
	"fmt"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Search is what the search for a legal order said of a case, and what it rests on.
type Search struct {
	Found Found `json:"found"`
	// Intact: no operation that this proxy, or another as far as it has told, had recorded for this
	// decision was dropped.
	Intact bool `json:"intact"`
	// Complete: besides, all that the truth had decided by then has reached the shadow, and every proxy
	// of the pod has told what it had followed at these keys since.
	Complete bool   `json:"complete"`
	Broken   bool   `json:"broken,omitempty"` // it lacks something for good
	Why      string `json:"why,omitempty"`    // what it lacks, for people
	// Steps counts the recorded operations that were considered.
	Steps int `json:"steps"`
	// Order lists operations that stand between the two decisions, at most maxEntryRefs; Behind and
	// Ahead count all of them (see [EntryRef].Place).
	Order  []EntryRef `json:"order,omitempty"`
	Behind int        `json:"behind"`
	Ahead  int        `json:"ahead"`
}

// Places of an operation in a legal order.
const (
	// PlaceBehind: the truth had decided it before it decided this, the shadow followed it afterwards.
	PlaceBehind = "before the truth's decision, after the shadow's"
	// PlaceAhead: the truth decided it after it decided this, and the shadow had followed it already.
	PlaceAhead = "after the truth's decision, before the shadow's"
)

// FindOrder searches the recorded steps for a legal order of operations that gives both outcomes of a
// diverged decision. It is pure. Intact, Complete and Broken are left to whoever knows the record.
func FindOrder(o *Observation, j *Judgement, steps []Step) Search {
	var out Search
	out.look(o, j, steps)
	return out
}

// look fills in what a search says.
func (s *Search) look(o *Observation, j *Judgement, steps []Step) {
	steps = overlapping(o, steps)
	s.Steps = len(steps)
	switch {
	case !o.TruthSpan.Known() || !o.ShadowSpan.Known():
		s.Why = "when the stores decided is not known"
		return
	case len(j.Keys) == 0:
		s.Why = "the decision names no key at which it could be checked"
		return
	case len(j.Keys) > maxSearchKeys || len(steps) > maxSearchSteps:
		s.Found, s.Why = FoundTooLarge, fmt.Sprintf("%d keys and %d operations that overlap are more than a search takes", len(j.Keys), len(steps))
		return
	}
	lines := linesAt(o, j.Keys)
	room := maxSearchWork // for all of them together
	if !twoRefusals(o) && len(backends.Keys(o.Shop, o.Lines)) <= maxCartKeys {
		s.search(o, j.Keys, lines, steps, &room)
		return
	}
	for _, i := range lines { // each is a verdict of its own, that may be told from a moment apart
		s.search(o, lineKeys(o, []int{i}), []int{i}, steps, &room)
		if s.Found != FoundOrder {
			return
		}
	}
}

// overlapping leaves out the threads that stood at one state for sure when both stores decided.
func overlapping(o *Observation, steps []Step) []Step {
	var at map[threadID]bool
	for i := range steps {
		s := &steps[i]
		before := s.Truth.To < o.TruthSpan.From && s.Shadow.To < o.ShadowSpan.From
		after := s.Truth.From > o.TruthSpan.To && s.Shadow.From > o.ShadowSpan.To
		if !before && !after {
			if at == nil {
				at = map[threadID]bool{}
			}
			at[s.thread()] = true
		}
	}
	out := make([]Step, 0, len(at))
	for i := range steps {
		if at[steps[i].thread()] {
			out = append(out, steps[i])
		}
	}
	return out
}

// twoRefusals tells whether both stores refused, and only named different lines.
func twoRefusals(o *Observation) bool {
	return o.Truth.Outcome == backends.OutcomeSoldOut && o.Shadow != nil && o.Shadow.Outcome == backends.OutcomeSoldOut
}

// linesAt lists the lines that may draw on any of keys.
func linesAt(o *Observation, keys []backends.Key) (lines []int) {
	for i := range o.Lines {
		if slices.ContainsFunc(o.Lines[i].Locations, func(loc backends.Location) bool {
			_, ok := slices.BinarySearchFunc(keys, backends.Key{Shop: o.Shop, Item: o.Lines[i].Item, Location: loc}, backends.Key.Compare)
			return ok
		}) {
			lines = append(lines, i)
		}
	}
	return lines
}

// search searches for an order that gives both answers at lines, which draw on keys. room is for its work, of which it
// leaves the rest.
func (s *Search) search(o *Observation, keys []backends.Key, lines []int, steps []Step, room *int) {
	meets := outcomes(o, keys, lines)
	if meets == nil {
		s.Found, s.Why = FoundNothing, "neither store told what stock it saw"
		return
	}
	skip := o.Hold
	if o.Truth.Outcome != backends.OutcomeGranted {
		skip = "" // refused: under that id there may be another decision, an operation like any
	}
	h := history{truth: o.TruthSpan, shadow: o.ShadowSpan, threads: weave(keys, steps, skip, o.TruthSpan.From), meets: meets}
	r := h.search(*room)
	*room -= r.work
	s.Found = r.found
	switch r.found {
	case FoundOrder:
		s.lay(h.threads, r.places)
	case FoundTooLarge:
		s.Why = "the operations that overlap can be ordered in too many ways"
	case FoundNothing:
		s.Why = "what an operation took before it was recorded is not known"
	case FoundNone: // Settle says so
	}
}

// lay lists the operations at which the two decisions stood apart.
func (s *Search) lay(ths []thread, places []place) {
	note := func(st *state, where string) {
		if len(s.Order) < maxEntryRefs {
			r := st.ref
			r.Place = where
			s.Order = append(s.Order, r)
		}
	}
	for i, p := range places {
		for k := p.shadow; k < p.truth; k++ {
			s.Behind++
			note(&ths[i].states[k], PlaceBehind)
		}
	}
	for i, p := range places {
		for k := p.truth; k < p.shadow; k++ {
			s.Ahead++
			note(&ths[i].states[k], PlaceAhead)
		}
	}
}

// outcomes tells, as a function of how much more the shadow has for sale than the truth, whether both
// outcomes follow; nil when neither store's stock is known. Where both said what they saw, that
// has to fit (debt sells as little as nothing does); where one did, the other's answer has to follow.
func outcomes(o *Observation, keys []backends.Key, lines []int) func(vec) bool {
	shadowAnswer := o.ShadowAnswer()
	t, tok := saw(o, &o.Truth, lines, keys)
	s, sok := saw(o, &shadowAnswer, lines, keys)
	switch {
	case tok && sok:
		return func(more vec) bool {
			for i := range keys {
				if max(0, t[i]+more[i]) != max(0, s[i]) {
					return false
				}
			}
			return true
		}
	case tok:
		return func(more vec) bool { return fits(o, &shadowAnswer, lines, keys, t.plus(more)) }
	case sok:
		return func(more vec) bool { return fits(o, &o.Truth, lines, keys, s.minus(more)) }
	default:
		return nil
	}
}

// saw is the stock that an answer rests on, where it tells that for sure: a refusal has counted its
// short lines, and may have looked at others a moment apart.
func saw(o *Observation, a *Answer, lines []int, keys []backends.Key) (v vec, ok bool) {
	if a.Outcome == backends.OutcomeSoldOut && !twoRefusals(o) {
		for _, i := range lines {
			if !names(a.Short, i) {
				return v, false
			}
		}
	}
	seen, ok := seenAt(keys, a.Seen)
	for i, k := range keys {
		v[i] = seen[k]
	}
	return v, ok
}

func names(short []backends.Shortage, line int) bool {
	return slices.ContainsFunc(short, func(s backends.Shortage) bool { return s.Line == line })
}

// fits tells whether an answer is, at lines, what the one rule makes of stock.
func fits(o *Observation, a *Answer, lines []int, keys []backends.Key, stock vec) bool {
	sellable := func(k backends.Key) int64 {
		i, ok := slices.BinarySearchFunc(keys, k, backends.Key.Compare)
		if !ok {
			return 0
		}
		return stock[i]
	}
	for _, i := range lines {
		allocs, short := backends.Allocate(o.Shop, o.Lines[i:i+1], sellable)
		if a.Outcome == backends.OutcomeSoldOut {
			if (len(short) > 0) != names(a.Short, i) {
				return false
			}
			continue
		}
		var want []backends.Allocation
		for _, al := range a.Allocs {
			if al.Line == i {
				want = append(want, backends.Allocation{Location: al.Location, Quantity: al.Quantity})
			}
		}
		if len(short) > 0 || !slices.Equal(allocs, want) {
			return false
		}
	}
	return true
}
