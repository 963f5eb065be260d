package comparator

import (
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// RepairAction is what a step writes.
type RepairAction string

// The actions.
const (
	// RestateHold: the truth emits the hold's present state under a version above the shadow's.
	RestateHold RepairAction = "restate hold"
	// RestateTaken: likewise the sum of anonymous takes of a key.
	RestateTaken RepairAction = "restate takes"
	// CorrectLevel: the shadow's level is moved by what it differs.
	CorrectLevel RepairAction = "correct level"
	// ByHand: nothing that a repair may write sets it right; the step says what a person has to do.
	ByHand RepairAction = "by hand"
	// NoAction: both stores agree, or nothing can be concluded.
	NoAction RepairAction = "nothing"
)

// RepairOutcome is what became of a step.
type RepairOutcome string

// The outcomes.
const (
	RepairPlanned      RepairOutcome = "planned"      // nothing was written yet
	RepairDone         RepairOutcome = "repaired"     // written, and both stores agree at rest
	RepairAgrees       RepairOutcome = "agrees"       // both stores agree at rest; nothing was to be written
	RepairDiffers      RepairOutcome = "differs"      // written, and they still differ
	RepairUndetermined RepairOutcome = "undetermined" // no moment of rest, or one of the stores did not answer
	RepairByHand       RepairOutcome = "by hand"
)

// RepairStep is one hold, one key, or one decision of the past.
type RepairStep struct {
	Findings []string        `json:"findings"` // ids; none for what the repair itself has come upon
	Class    Class           `json:"class"`
	Hold     backends.HoldID `json:"hold,omitempty"`
	Key      *backends.Key   `json:"key,omitempty"`
	Action   RepairAction    `json:"action"`
	Outcome  RepairOutcome   `json:"outcome"`
	// Why says what differs, or why nothing can be done.
	Why string `json:"why"`
	// Units is how many units the difference is about.
	Units int64 `json:"units"`
	// Truth and Shadow are what both stores have.
	Truth  Facts `json:"truth"`
	Shadow Facts `json:"shadow"`
	// Gap is by how much the shadow's level exceeds the truth's, beyond what differences of holds make; what
	// a correction takes away.
	Gap *Gap `json:"gap,omitempty"`
	// HeldGap likewise of the running sum of what open holds take, which Redis keeps.
	HeldGap int64 `json:"held_gap,omitempty"`
	// Writes are the commands and rows, in the words of the stores.
	Writes []string `json:"writes,omitempty"`
	// ByHand is what a person has to do.
	ByHand string `json:"by_hand,omitempty"`
	// Done says what was written.
	Done []string `json:"done,omitempty"`

	above   backends.Version // of the shadow
	written int
}

// RepairCompared is what was compared before levels were planned.
type RepairCompared struct {
	Holds        int64 `json:"holds"`
	Levels       int64 `json:"levels"`
	Findings     int64 `json:"findings"`
	Undetermined int64 `json:"undetermined"`
}

// RepairResult is a plan, and with Applied what became of it.
type RepairResult struct {
	Pod           backends.Pod    `json:"pod"`
	Stage         backends.Stage  `json:"stage,omitzero"`
	Epoch         uint64          `json:"epoch"`
	Started       time.Time       `json:"started"`
	Ended         time.Time       `json:"ended"`
	Applied       bool            `json:"applied"`
	CorrectLedger bool            `json:"correct_ledger"`
	Compared      *RepairCompared `json:"compared,omitempty"` // nil: only holds were concerned
	Steps         []RepairStep    `json:"steps"`
	// Outcomes counts steps; Recorded how many findings were marked as repaired.
	Outcomes map[RepairOutcome]int `json:"outcomes"`
	Recorded int                   `json:"recorded"`
	// Problems name what is missing.
	Problems []string `json:"problems"`
}

func (r *RepairResult) sum() {
	r.Outcomes = map[RepairOutcome]int{}
	for i := range r.Steps {
		r.Outcomes[r.Steps[i].Outcome]++
	}
}

// Clean tells whether nothing is left to do: of a plan, that there is nothing to write and nothing open; of
// one that was applied, that all of it was repaired or agrees.
func (r *RepairResult) Clean() bool {
	return len(r.Problems) == 0 && r.Outcomes[RepairDone]+r.Outcomes[RepairAgrees] == len(r.Steps)
}

// planHold says what is to be done about a hold, as a look shows it. It is pure.
func planHold(e *HoldEvidence, rules HoldRules) RepairStep {
	s := RepairStep{Truth: Facts{Hold: e.TruthAfter}, Shadow: Facts{Hold: e.Shadow}}
	if !e.Quiescent() {
		s.Action, s.Outcome, s.Why = NoAction, RepairUndetermined, "entries for the hold are on their way, or it changed"
		return s
	}
	d, differs := CompareHold(e.TruthAfter, e.Shadow, rules)
	if !differs {
		s.Action, s.Outcome, s.Why = NoAction, RepairAgrees, "both stores say the same"
		return s
	}
	s.Class, s.Why = d.Class, d.Why
	for _, u := range d.Units {
		s.Units += u.Quantity
	}
	if e.Shadow != nil && e.Shadow.State == backends.Claimed && (e.TruthAfter == nil || e.TruthAfter.State != backends.Claimed) {
		s.Action, s.Outcome = ByHand, RepairByHand
		s.ByHand = "a claim is never undone, since money was taken. Find out whether the buyer has paid. If so, claim it in the truth as well (XF.CLAIM " + string(e.Shadow.Shop) + " " + string(e.Shadow.ID) +
			" through the proxy): then both agree. If not, find who wrote the claim into the shadow, and set the hold's state back there by hand"
		return s
	}
	if e.Shadow != nil {
		s.above = e.Shadow.Version
	}
	s.Action, s.Outcome = RestateHold, RepairPlanned
	return s
}

// levelRules say what a repair may write to a level.
type levelRules struct {
	stage         backends.Stage
	correctLedger bool
	imbalance     int64 // of the truth's level: units on hand beyond what is accounted for
}

// planLevel says what is to be done about a key, as a look shows it. effects is what differences of holds make
// of it; resting is false when one of those holds was not at rest. It is pure.
func planLevel(k backends.Key, e *KeyEvidence, effects levelGap, resting bool, rules levelRules) RepairStep {
	s := RepairStep{Key: &k, Truth: Facts{Level: orEmpty(e.TruthAfter, k)}, Shadow: Facts{Level: orEmpty(e.ShadowAfter, k)}}
	if !e.Quiescent() || !resting {
		s.Action, s.Outcome, s.Why = NoAction, RepairUndetermined, "entries for the key are on their way, or its level changed"
		return s
	}
	rest := restOf(rules.stage, e.TruthAfter, e.ShadowAfter, effects)
	if rest == (levelGap{}) {
		s.Action, s.Outcome, s.Why = NoAction, RepairAgrees, "both stores have the same level"
		if effects != (levelGap{}) {
			s.Why = "its difference follows from holds that differ"
		}
		return s
	}
	s.Class, s.Units, s.Gap, s.HeldGap = LevelDrift, max(rest.Units(), abs(rest.Held)), &rest.Gap, rest.Held
	if d, ok := CompareLevel(rules.stage, e.TruthAfter, e.ShadowAfter, effects.Gap); ok {
		s.Class = d.Class
	}
	s.Why = "levels differ at rest, shadow less truth: " + rest.String()
	mysqlFollows := rules.stage.Truth() == backends.SideRedis
	switch {
	case rules.imbalance != 0:
		s.Action, s.Outcome, s.ByHand = ByHand, RepairByHand, brokenTruth(rules)
	case rest.OnHand != 0 && mysqlFollows && !rules.correctLedger:
		s.Action, s.Outcome, s.ByHand = ByHand, RepairByHand, ledgerRules(k, rest.OnHand)
	case rest.Taken != 0:
		s.above = s.Shadow.Level.TakenVersion
		s.Action, s.Outcome = RestateTaken, RepairPlanned
	default:
		s.Action, s.Outcome = CorrectLevel, RepairPlanned
	}
	return s
}

func brokenTruth(rules levelRules) string {
	return fmt.Sprintf("the truth itself is out of balance here: %+d units on hand are not accounted for, so somebody has written to %s without going through Crossfade. "+
		"Undo that write where it was made, make it again through the proxy, and run the repair again; it does not bring a shadow in line with a level that does not add up", rules.imbalance, rules.stage.Truth())
}

func ledgerRules(k backends.Key, gap int64) string {
	return fmt.Sprintf("the MySQL ledger has %+d units on hand against Redis, and the ledger is authoritative in every stage: count them. "+
		"If Redis is right, run the repair with --correct-ledger. If the ledger is right, first bring Redis to it by a restock of %+d of %s through the proxy "+
		"(the ledger follows it and is then that much too high), and run the repair with --correct-ledger after that", gap, gap, k)
}

// levelGap is a gap with the one of the running sum of what is held.
type levelGap struct {
	Gap
	Held int64
}

func (g levelGap) String() string {
	if g.Held == 0 {
		return g.Gap.String()
	}
	return fmt.Sprintf("%s, held %+d", g.Gap, g.Held)
}

// restOf is by how much levels differ beyond what differences of holds make. What is held is compared where the
// shadow keeps a sum of its own: MySQL's is what balances the rest.
func restOf(stage backends.Stage, truth, shadow *backends.Level, effects levelGap) levelGap {
	g := GapOf(truth, shadow)
	if !stage.Dual() { // reservations are not followed: units on hand are what is comparable
		return levelGap{Gap: Gap{OnHand: g.OnHand - effects.OnHand}}
	}
	rest := levelGap{Gap: Gap{g.Sellable - effects.Sellable, g.OnHand - effects.OnHand, g.Taken - effects.Taken}}
	if stage.Truth() == backends.SideMySQL {
		rest.Held = -effects.Held
		if shadow != nil {
			rest.Held += shadow.Held
		}
		if truth != nil {
			rest.Held -= truth.Held
		}
	}
	return rest
}

// correctionOf is what takes a gap away that has no part in the sum of takes.
func correctionOf(stage backends.Stage, id backends.OpID, k backends.Key, rest levelGap) *backends.Correction {
	c := &backends.Correction{OpID: id, Key: k, Sellable: -rest.Sellable, OnHand: -rest.OnHand, Held: -rest.Held}
	if !stage.Dual() { // units on hand come with what is for sale
		c.Sellable = c.OnHand
	}
	return c
}

// effectsAt is what the holds do to a key by which they differ; false: one of them was not at rest.
func effectsAt(k backends.Key, holds []backends.HoldID, ev *Evidence) (g levelGap, resting bool) {
	resting = true
	for _, id := range holds {
		e := ev.Holds[id]
		resting = resting && e.Quiescent()
		effectOf(e.TruthAfter, e.Shadow, func(at backends.Key, h Gap) {
			if at == k {
				g.Gap = Gap{g.Sellable + h.Sellable, g.OnHand + h.OnHand, g.Taken + h.Taken}
			}
		})
		g.Held += heldAt(e.Shadow, k) - heldAt(e.TruthAfter, k)
	}
	return g, resting
}

// heldAt is what an open hold takes at a key.
func heldAt(h *backends.Hold, k backends.Key) (n int64) {
	if h == nil || !h.State.Open() {
		return 0
	}
	for _, u := range h.Takes() {
		if u.Key == k {
			n += u.Quantity
		}
	}
	return n
}

// touched are the keys that a hold takes from in either store.
func touched(e *HoldEvidence) []backends.Key {
	var out []backends.Key
	for _, h := range []*backends.Hold{e.TruthAfter, e.Shadow} {
		if h == nil {
			continue
		}
		for _, u := range h.Takes() {
			out = append(out, u.Key)
		}
	}
	slices.SortFunc(out, backends.Key.Compare)
	return slices.Compact(out)
}

// correctionID is the operation id of the n-th correction of a key. Whoever uses it has looked at the level after
// all corrections with a lower n: so two that have seen the same gap correct it once.
func correctionID(pod backends.Pod, k backends.Key, n int) backends.OpID {
	return backends.OpID(fmt.Sprintf("repair:%s:%d", hashID(string(pod), string(k.Shop), string(k.Item), string(k.Location)), n))
}
