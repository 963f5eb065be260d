package killswitch

import (
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// wellGates are those of the gates that say whether a pod goes as it should in a stage, at little cost: nothing scans a store.
// Whether proxies are current is not among them, since one that is restarted is no reason to stop anything.
func wellGates(s backends.Stage) []Gate {
	if s.Dual() {
		return []Gate{gateLost, gateBreaker, gateLag, gateFindings, gateBypass}
	}
	return []Gate{gateFindings, gateBypass}
}

// NeedsForWell is what [JudgeWell] judges.
func NeedsForWell(s backends.Stage) Need {
	var n Need
	for _, g := range wellGates(s) {
		n |= g.Needs
	}
	return n
}

// JudgeWell judges a pod that stays where it is, by the bounds that a move would be judged by.
func JudgeWell(s backends.Stage, e Evidence, b Bounds) []GateResult {
	b = b.WithDefaults()
	var out []GateResult
	for _, g := range wellGates(s) {
		r := g.Judge(e, b)
		r.Name = g.Name
		r.Off = !r.Pass && !g.Firm && slices.Contains(b.Off, g.Name)
		out = append(out, r)
	}
	return out
}
