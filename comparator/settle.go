package comparator

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Settled is what became of a diverged decision.
type Settled uint8

// The ends. SettledWait, the zero value, is none yet.
const (
	SettledWait Settled = iota
	SettledExplained
	SettledConfirmed
	SettledUndetermined
)

var settledNames = [...]string{"wait", "explained", "confirmed", "undetermined"}

// String gives the word used in reports.
func (s Settled) String() string {
	if int(s) < len(settledNames) {
		return settledNames[s]
	}
	return "unknown"
}

// Case is a diverged decision with everything that is known of it.
type Case struct {
	Observation Observation
	Judgement   Judgement
	Since       time.Time // when it came into the settle queue
	Window      time.Duration
	History     []Evidence // looks, oldest first
	Search      Search     // what the record of operations says by now
}

// Drift is a key whose levels differ at rest.
type Drift struct {
	Key           backends.Key
	Gap           Gap
	Truth, Shadow *backends.Level
}

// Settlement is what [Settle] says, with its proof.
type Settlement struct {
	End   Settled
	Proof string     // for people
	Order []EntryRef // the operations between the two decisions, or what was seen on its way
	Drift []Drift    // confirmed: the keys that differ at rest
}

// keyState is what the looks so far say about one key.
type keyState struct {
	agreed   bool
	agreedAt time.Time
	level    *backends.Level // on which they agreed
	moments  int             // quiescent moments with the same gap, in a row
	last     time.Time
	drift    Drift
}

// Settle decides what a diverged decision is, from the looks so far. It is pure; the package
// documentation has its argument and its limits.
func Settle(c Case, now time.Time) Settlement {
	if c.Judgement.AtOnce {
		return Settlement{End: SettledConfirmed, Proof: c.Judgement.Why}
	}
	if len(c.Judgement.Keys) == 0 {
		return Settlement{End: SettledUndetermined, Proof: "the decision names no key at which it could be checked"}
	}
	if n := len(c.History); n > 0 && !c.History[n-1].Stage.Dual() {
		return Settlement{End: SettledUndetermined, Proof: fmt.Sprintf("the pod is in %s now: its stores no longer follow each other", c.History[n-1].Stage)}
	}
	states := make([]keyState, len(c.Judgement.Keys))
	var drift []Drift
	agreed := 0
	for i, k := range c.Judgement.Keys {
		states[i] = follow(k, c.History)
		switch {
		case states[i].agreed:
			agreed++
		case states[i].moments >= 2:
			drift = append(drift, states[i].drift)
		}
	}
	r := resting{agreed: agreed, all: agreed == len(states), states: states, drift: drift}
	for i := range states {
		r.gap = r.gap || !states[i].agreed && states[i].moments > 0
	}
	return c.settle(now.Sub(c.Since), &r)
}

// resting is what the looks say of the keys at rest.
type resting struct {
	agreed int  // keys at which the stores agreed
	all    bool // at all of them
	gap    bool // one differed, and has not agreed since
	states []keyState
	drift  []Drift
}

// settle joins what the looks and the search say.
func (c *Case) settle(waited time.Duration, r *resting) Settlement {
	s := &c.Search
	over := waited >= c.Window
	patient := waited >= min(c.Window, restPatience)
	switch {
	case len(r.drift) > 0:
		return Settlement{End: SettledConfirmed, Drift: r.drift, Proof: driftProof(r.drift)}
	case s.Complete && s.Found == FoundNone && c.exact() && patient: // a moment for what differs at rest, and who has not told yet, to show
		return Settlement{End: SettledConfirmed, Proof: noneProof(c)}
	case s.Complete && s.Found == FoundOrder && (r.all || patient && !r.gap):
		return Settlement{End: SettledExplained, Order: s.Order, Proof: orderProof(c, r)}
	case r.all && c.debtPaid() && (patient || s.Complete && s.Found != FoundOrder):
		return Settlement{End: SettledExplained, Order: order(c.History), Proof: debtProof(c, r.states)}
	case over, s.Complete && r.all && (s.Found == FoundTooLarge || s.Found == FoundNone && !c.exact()), s.Broken && patient:
		return Settlement{End: SettledUndetermined, Order: order(c.History), Proof: undeterminedProof(c, r)}
	default:
		return Settlement{}
	}
}

// exact tells whether a search that finds no order is a proof. Of two refusals it is none: which of
// the lines are short besides the one that decides it, a store may tell from a moment apart.
func (c *Case) exact() bool {
	return !twoRefusals(&c.Observation)
}

// debtPaid tells whether following the truth left the shadow in debt at keys concerned: with the levels
// equal at rest, it has been paid since. A decision that no order explains is not helped by that.
func (c *Case) debtPaid() bool {
	if c.Search.Found == FoundNone {
		return false
	}
	for _, u := range c.Observation.Debt {
		if _, ok := slices.BinarySearchFunc(c.Judgement.Keys, u.Key, backends.Key.Compare); ok {
			return true
		}
	}
	return false
}

// follow goes through the looks at one key. Its first agreement at rest settles it: what differs
// later is another decision's matter.
func follow(k backends.Key, history []Evidence) keyState {
	var st keyState
	for i := range history {
		h := &history[i]
		e, looked := h.Keys[k]
		if !looked || h.Unsure != "" || !h.Stage.Dual() || !e.Quiescent() {
			continue
		}
		gap := GapOf(e.TruthAfter, e.ShadowAfter)
		if gap.Zero() {
			st.agreed, st.agreedAt, st.level = true, h.At, e.TruthAfter
			return st
		}
		switch {
		case st.moments == 0 || gap != st.drift.Gap:
			st.moments, st.last = 1, h.At
		case h.At.Sub(st.last) >= momentsApart:
			st.moments, st.last = st.moments+1, h.At
		}
		st.drift = Drift{Key: k, Gap: gap, Truth: e.TruthAfter, Shadow: e.ShadowAfter}
	}
	return st
}

// order lists the entries seen on their way, in the order seen, without doubles.
func order(history []Evidence) []EntryRef {
	var refs []EntryRef
	seen := map[string]bool{}
	for i := range history {
		for _, r := range history[i].Pending {
			if !seen[r.Seq] && len(refs) < maxEntryRefs {
				seen[r.Seq] = true
				refs = append(refs, r)
			}
		}
	}
	return refs
}

const maxProofKeys = 5 // keys that a proof spells out; the finding's units list more

func orderProof(c *Case, r *resting) string {
	var b strings.Builder
	s := &c.Search
	fmt.Fprintf(&b, "a legal order of the operations gives both outcomes: of %s that overlap, %d stood before the truth's decision and after the shadow's, %d the other way round",
		count(int64(s.Steps), "operation"), s.Behind, s.Ahead)
	if s.Behind+s.Ahead > len(s.Order) {
		fmt.Fprintf(&b, " (%d of them are listed)", len(s.Order))
	}
	if r.all {
		b.WriteString("; and the stores agree at rest:")
		atRest(&b, c, r.states)
	} else {
		fmt.Fprintf(&b, "; %d of %d keys were not at rest in %d looks, so that their levels are left to the audit", len(r.states)-r.agreed, len(r.states), len(c.History))
	}
	return clip(b.String(), MaxText)
}

func noneProof(c *Case) string {
	return clip(fmt.Sprintf("no order of operations explains it: the record of what was decided and followed at these keys is complete (%s overlap), and none of the orders that their times allow gives both outcomes",
		count(int64(c.Search.Steps), "operation")), MaxText)
}

func debtProof(c *Case, states []keyState) string {
	var b strings.Builder
	b.WriteString("the debt that following the truth left in the shadow has been paid, and the stores agree at rest:")
	atRest(&b, c, states)
	return clip(b.String(), MaxText)
}

func atRest(b *strings.Builder, c *Case, states []keyState) {
	for i, st := range states {
		if i == maxProofKeys {
			fmt.Fprintf(b, " and %d keys more.", len(states)-i)
			return
		}
		var l backends.Level
		if st.level != nil {
			l = *st.level
		}
		fmt.Fprintf(b, " %s (sellable %d, on hand %d, taken %d) %s after the decision was judged;", c.Judgement.Keys[i],
			l.Sellable(), l.OnHand, l.Taken, st.agreedAt.Sub(c.Since).Round(time.Millisecond))
	}
}

func driftProof(drift []Drift) string {
	var b strings.Builder
	b.WriteString("the levels differ by the same amounts at two quiescent moments, shadow less truth:")
	for i, d := range drift {
		if i == maxProofKeys {
			fmt.Fprintf(&b, " and %d keys more", len(drift)-i)
			break
		}
		fmt.Fprintf(&b, " %s (%s);", d.Key, d.Gap)
	}
	return clip(b.String(), MaxText)
}

func undeterminedProof(c *Case, r *resting) string {
	if len(c.History) == 0 {
		return fmt.Sprintf("the stores could not be looked at within %s", c.Window)
	}
	s := &c.Search
	switch last := &c.History[len(c.History)-1]; {
	case last.Unsure != "":
		return clip(fmt.Sprintf("not settled within %s: %s", c.Window, last.Unsure), MaxText)
	case s.Complete && s.Found == FoundNone:
		return "no order of the recorded operations makes these lines short; a store may tell from a moment apart which lines are short besides the one that decides"
	case s.Why != "":
		return clip(fmt.Sprintf("no legal order was found: %s; %d of %d keys agreed at rest in %d looks", s.Why, r.agreed, len(r.states), len(c.History)), MaxText)
	default:
		return fmt.Sprintf("the stores did not come to rest in agreement within %s: %d of %d keys agreed in %d looks", c.Window, r.agreed, len(r.states), len(c.History))
	}
}
