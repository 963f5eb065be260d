package comparator

import (
	"fmt"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Verdict is what a judge says about one observation.
type Verdict uint8

// The verdicts. Unknown is never a match and never a mismatch.
const (
	VerdictUnknown Verdict = iota
	VerdictMatch
	VerdictDiverged
)

var verdictNames = [...]string{"unknown", "match", "diverged"}

// String gives the word used in reports.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown"
}

// Judgement is a verdict with what it rests on.
type Judgement struct {
	Verdict Verdict
	// Class and Units are set when diverged. Units are by key, sorted, distinct, each above zero.
	Class Class
	Units []backends.Units
	// Keys are the keys concerned: all locations of the lines that the difference is about.
	Keys []backends.Key
	// AtOnce: no order of operations explains it (see the package documentation, 1).
	AtOnce bool
	// Why says what the verdict rests on, for people.
	Why string
}

// TotalUnits is the sum of Units.
func (j *Judgement) TotalUnits() int64 {
	var n int64
	for _, u := range j.Units {
		n += u.Quantity
	}
	return n
}

// Judge compares the truth's verdict with the shadow's own decision. It is pure, and total: any
// observation has a judgement.
func Judge(o Observation) Judgement {
	if o.Op != backends.OpReserve {
		return Judgement{Why: fmt.Sprintf("a %s is mirrored by state and decided by the truth alone", o.Op)}
	}
	if o.Shadow == nil {
		return Judgement{Why: "the shadow's own decision is not known: " + o.Missing.String()}
	}
	t, s := o.Truth.Outcome, o.Shadow.Outcome
	var j Judgement
	switch {
	case t == backends.OutcomeSoldOut && s == backends.OutcomeGranted:
		j = oversell(&o)
	case t == backends.OutcomeGranted && s == backends.OutcomeSoldOut:
		j = falseSoldOut(&o)
	case t == backends.OutcomeGranted && s == backends.OutcomeGranted:
		j = bothGranted(&o)
	case t == backends.OutcomeSoldOut && s == backends.OutcomeSoldOut:
		j = bothSoldOut(&o)
	default:
		return Judgement{Why: fmt.Sprintf("truth %s, shadow %s: not two verdicts on a reserve", t, s)}
	}
	if j.Verdict == VerdictDiverged {
		j.Units = backends.SumUnits(j.Units)
		if why := contradiction(&o); why != "" {
			j.AtOnce, j.Why = true, why
		}
	}
	return j
}

// oversell: the units at risk are those that the short lines wanted beyond what the truth had. They
// are laid to the shadow's allocations of those lines, least preferred first.
func oversell(o *Observation) Judgement {
	j := Judgement{Verdict: VerdictDiverged, Class: OversellRisk, Why: "truth sold out, shadow would grant"}
	var lines []int
	for _, sh := range shortages(o, o.Truth.Short) {
		lines = append(lines, sh.Line)
		j.Units = append(j.Units, lay(o, sh.Line, missing(sh), o.Shadow.Allocs)...)
	}
	j.Keys = lineKeys(o, lines)
	return j
}

// falseSoldOut: what would have been refused are the lines that the shadow calls short, whole.
func falseSoldOut(o *Observation) Judgement {
	j := Judgement{Verdict: VerdictDiverged, Class: FalseSoldOut, Why: "truth granted, shadow would say sold out"}
	var lines []int
	for _, sh := range shortages(o, o.Shadow.Short) {
		lines = append(lines, sh.Line)
		j.Units = append(j.Units, lay(o, sh.Line, sh.Wanted, o.Truth.Allocs)...)
	}
	j.Keys = lineKeys(o, lines)
	return j
}

// bothGranted compares units by line, then by line and location.
func bothGranted(o *Observation) Judgement {
	t, s := o.Truth.Allocs, o.Shadow.Allocs
	if slices.Equal(t, s) {
		return Judgement{Verdict: VerdictMatch, Why: "both granted, same units from the same locations"}
	}
	type place struct {
		line int
		loc  backends.Location
	}
	at := map[place]int64{} // shadow less truth
	sum := map[int]int64{}
	for _, a := range s {
		at[place{a.Line, a.Location}] += a.Quantity
		sum[a.Line] += a.Quantity
	}
	for _, a := range t {
		at[place{a.Line, a.Location}] -= a.Quantity
		sum[a.Line] -= a.Quantity
	}
	var q, l Judgement
	var qlines, llines []int
	for line, d := range sum {
		if d != 0 {
			qlines = append(qlines, line)
			q.Units = append(q.Units, lay(o, line, abs(d), t)...)
		}
	}
	for p, d := range at {
		if d < 0 { // the truth took more here: these units would have come from elsewhere
			llines = append(llines, p.line)
			l.Units = append(l.Units, backends.Units{Key: keyOf(o, p.line, p.loc), Quantity: -d})
		}
	}
	switch {
	case len(qlines) > 0:
		return Judgement{Verdict: VerdictDiverged, Class: Quantity, Units: q.Units, Keys: lineKeys(o, qlines),
			Why: "both granted, different numbers of units"}
	case len(llines) > 0:
		return Judgement{Verdict: VerdictDiverged, Class: Location, Units: l.Units, Keys: lineKeys(o, llines),
			Why: "both granted, the same units from different locations"}
	default:
		return Judgement{Verdict: VerdictMatch, Why: "both granted, same units from the same locations"}
	}
}

// bothSoldOut compares which lines are short: that is part of the verdict. How many units a short
// line could have had is not: it changes from one instant to the next, and the audit compares levels.
func bothSoldOut(o *Observation) Judgement {
	t, s := shortByLine(o.Truth.Short), shortByLine(o.Shadow.Short)
	j := Judgement{Verdict: VerdictDiverged, Class: Quantity, Why: "both sold out, for different lines"}
	var lines []int
	only := func(a, b map[int]backends.Shortage) {
		for line, sh := range a {
			if _, both := b[line]; !both {
				lines = append(lines, line)
				j.Units = append(j.Units, lay(o, line, missing(sh), nil)...)
			}
		}
	}
	only(t, s)
	only(s, t)
	if len(lines) == 0 {
		return Judgement{Verdict: VerdictMatch, Why: "both sold out, for the same lines"}
	}
	j.Keys = lineKeys(o, lines)
	return j
}

// contradiction gives the proof that no order of operations explains the divergence, or "".
func contradiction(o *Observation) string {
	for _, allocs := range [][]backends.Allocation{o.Truth.Allocs, o.Shadow.Allocs} {
		for _, a := range allocs {
			if a.Line < 0 || a.Line >= len(o.Lines) {
				return fmt.Sprintf("an allocation names line %d of a cart of %d: the record is damaged", a.Line+1, len(o.Lines))
			}
		}
	}
	if !wholeLines(o, o.Truth) || !wholeLines(o, o.ShadowAnswer()) {
		return "a grant gives each line all of its units, whatever else is on its way: one of the stores has granted another number, so no order of operations explains it"
	}
	if o.Truth.Outcome == o.Shadow.Outcome && o.Truth.Outcome == backends.OutcomeSoldOut {
		// One short line decides a refusal; a store may have looked at the others a moment apart
		// from Seen. So which lines are short has to be settled like any other difference.
		return ""
	}
	keys := backends.Keys(o.Shop, o.Lines)
	t, tok := seenAt(keys, o.Truth.Seen)
	s, sok := seenAt(keys, o.Shadow.Seen)
	if tok && sok && sameSeen(keys, t, s) {
		return "both stores saw the same stock at every key concerned and answered differently; an answer is a function of what is seen, so no order of operations explains it"
	}
	if tok && !follows(o, t, o.Truth) {
		return "the truth's answer does not follow from the stock that it saw, so no order of operations explains it"
	}
	if sok && !follows(o, s, o.ShadowAnswer()) {
		return "the shadow's answer does not follow from the stock that it saw, so no order of operations explains it"
	}
	return ""
}

// wholeLines tells whether an answer, if it is a grant, has each line's own number of units.
func wholeLines(o *Observation, a Answer) bool {
	if a.Outcome != backends.OutcomeGranted || len(a.Allocs) == 0 { // a store that does not say where from has not said how many
		return true
	}
	sum := make([]int64, len(o.Lines))
	for _, al := range a.Allocs {
		sum[al.Line] += al.Quantity
	}
	for i, l := range o.Lines {
		if sum[i] != l.Quantity {
			return false
		}
	}
	return true
}

// seenAt indexes what was seen; ok is false unless every key was.
func seenAt(keys []backends.Key, seen []backends.Units) (map[backends.Key]int64, bool) {
	if len(keys) == 0 || len(seen) < len(keys) {
		return nil, false
	}
	m := make(map[backends.Key]int64, len(seen))
	for _, u := range seen {
		m[u.Key] = u.Quantity
	}
	for _, k := range keys {
		if _, ok := m[k]; !ok {
			return nil, false
		}
	}
	return m, true
}

func sameSeen(keys []backends.Key, a, b map[backends.Key]int64) bool {
	for _, k := range keys {
		if max(0, a[k]) != max(0, b[k]) { // debt sells as little as nothing does
			return false
		}
	}
	return true
}

// follows tells whether an answer is what the one rule makes of the stock seen.
func follows(o *Observation, seen map[backends.Key]int64, a Answer) bool {
	allocs, short := backends.Allocate(o.Shop, o.Lines, func(k backends.Key) int64 { return seen[k] })
	if len(short) > 0 {
		return a.Outcome == backends.OutcomeSoldOut
	}
	return a.Outcome == backends.OutcomeGranted && slices.Equal(allocs, a.Allocs)
}

// shortages are the short lines of a refusal; a refusal that names none is short of all.
func shortages(o *Observation, short []backends.Shortage) []backends.Shortage {
	if len(short) > 0 {
		return short
	}
	all := make([]backends.Shortage, len(o.Lines))
	for i, l := range o.Lines {
		all[i] = backends.Shortage{Line: i, Item: l.Item, Wanted: l.Quantity}
	}
	return all
}

func shortByLine(short []backends.Shortage) map[int]backends.Shortage {
	m := make(map[int]backends.Shortage, len(short))
	for _, sh := range short {
		m[sh.Line] = sh
	}
	return m
}

func missing(sh backends.Shortage) int64 {
	return max(0, sh.Wanted-max(0, sh.Available))
}

// lay spreads n units of a line over the allocations of that line, last first; what does not fit, and
// a line without allocations, goes to the line's first location.
func lay(o *Observation, line int, n int64, allocs []backends.Allocation) []backends.Units {
	var us []backends.Units
	for i := len(allocs) - 1; i >= 0 && n > 0; i-- {
		if a := allocs[i]; a.Line == line && a.Quantity > 0 {
			q := min(n, a.Quantity)
			us = append(us, backends.Units{Key: keyOf(o, line, a.Location), Quantity: q})
			n -= q
		}
	}
	if n > 0 {
		us = append(us, backends.Units{Key: keyOf(o, line, firstLocation(o, line)), Quantity: n})
	}
	return us
}

func firstLocation(o *Observation, line int) backends.Location {
	if line < 0 || line >= len(o.Lines) || len(o.Lines[line].Locations) == 0 {
		return ""
	}
	return o.Lines[line].Locations[0]
}

// keyOf tolerates a line index that the cart does not have: a damaged record is a finding, no panic.
func keyOf(o *Observation, line int, loc backends.Location) backends.Key {
	k := backends.Key{Shop: o.Shop, Location: loc}
	if line >= 0 && line < len(o.Lines) {
		k.Item = o.Lines[line].Item
	}
	return k
}

// lineKeys lists all keys of the lines, sorted and distinct.
func lineKeys(o *Observation, lines []int) []backends.Key {
	slices.Sort(lines)
	var ls []backends.Line
	for _, i := range slices.Compact(lines) {
		if i >= 0 && i < len(o.Lines) {
			ls = append(ls, o.Lines[i])
		}
	}
	return backends.Keys(o.Shop, ls)
}

func abs(n int64) int64 { return max(n, -n) }
