package comparator

import (
	"fmt"
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
	Order []EntryRef // entries seen on their way, in the truth's order: what explains it
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
	switch {
	case len(drift) > 0:
		return Settlement{End: SettledConfirmed, Drift: drift, Proof: driftProof(drift)}
	case agreed == len(states):
		return Settlement{End: SettledExplained, Order: order(c.History), Proof: agreeProof(&c, states)}
	case now.Sub(c.Since) >= c.Window:
		return Settlement{End: SettledUndetermined, Order: order(c.History), Proof: undeterminedProof(&c, agreed)}
	default:
		return Settlement{}
	}
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

func agreeProof(c *Case, states []keyState) string {
	var b strings.Builder
	b.WriteString("both stores agree at rest, with no entry for these keys waiting:")
	for i, st := range states {
		if i == maxProofKeys {
			fmt.Fprintf(&b, " and %d keys more.", len(states)-i)
			break
		}
		var l backends.Level
		if st.level != nil {
			l = *st.level
		}
		fmt.Fprintf(&b, " %s (sellable %d, on hand %d, taken %d) %s after the decision was judged;", c.Judgement.Keys[i],
			l.Sellable(), l.OnHand, l.Taken, st.agreedAt.Sub(c.Since).Round(time.Millisecond))
	}
	b.WriteString(" so the stores differed at the decision only by entries on their way")
	if refs := order(c.History); len(refs) > 0 {
		fmt.Fprintf(&b, ", %d of which were seen waiting", len(refs))
	} else {
		b.WriteString(", all delivered before the first look")
	}
	return clip(b.String(), MaxText)
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

func undeterminedProof(c *Case, agreed int) string {
	if len(c.History) == 0 {
		return fmt.Sprintf("the stores could not be looked at within %s", c.Window)
	}
	last := &c.History[len(c.History)-1]
	if last.Unsure != "" {
		return clip(fmt.Sprintf("not settled within %s: %s", c.Window, last.Unsure), MaxText)
	}
	return fmt.Sprintf("no quiescent moment at all keys within %s: %d of %d keys agreed in %d looks, the others were in motion",
		c.Window, agreed, len(c.Judgement.Keys), len(c.History))
}
