package killswitch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds that gates judge by.
const (
	// MaxGateLag is how old the oldest outbox entry may be before an advance: the drain, for which
	// callers wait, has to take care of all that is there.
	MaxGateLag = time.Second
	// MaxGateEntries is how many entries may be there, for the same reason.
	MaxGateEntries = 2000
	// MaxForced bounds the gates that one request may force.
	MaxForced = 16
)

// Figure is a value that may not be known. The zero value is unknown, and no gate passes on it.
type Figure[T any] struct {
	Value T
	Known bool
}

// Is makes a known figure.
func Is[T any](v T) Figure[T] { return Figure[T]{Value: v, Known: true} }

// Need names a kind of evidence, as a bit. Some take a scan of a whole store, so only what the gates of a
// move judge is gathered.
type Need uint

// The kinds, with the figures of [Evidence] that belong to each.
const (
	NeedSetup    Need = 1 << iota // SetupRedis, SetupMySQL
	NeedOutbox                    // OutboxLag, OutboxEntries, Lost
	NeedDebt                      // Debt: reads every level of the shadow
	NeedFindings                  // Findings
	NeedBreaker                   // BreakerClosed
	NeedBackfill                  // BackfillComplete
	NeedBalance                   // Imbalances: reads every level and hold of both stores
)

// Has tells whether all of x is needed.
func (n Need) Has(x Need) bool { return n&x == x }

// NeedsFor is what the gates of a move judge.
func NeedsFor(from, to backends.Stage) Need {
	var n Need
	for _, g := range GatesFor(from, to) {
		n |= g.Needs
	}
	return n
}

// Evidence is what the gates judge. cmd fills it from the stores, the comparator and the mirror.
type Evidence struct {
	// OutboxLag and OutboxEntries are of the truth's outbox; Lost is its flag.
	OutboxLag     Figure[time.Duration]
	OutboxEntries Figure[int64]
	Lost          Figure[bool]
	// Debt is the units of debt in the shadow.
	Debt Figure[int64]
	// Findings is how many confirmed findings are open; FindingsWindow the window they were looked for in.
	Findings       Figure[int64]
	FindingsWindow time.Duration
	// BreakerClosed: the shadow is being asked.
	BreakerClosed Figure[bool]
	// BackfillComplete: nothing is due for the pod (see WorkFor).
	BackfillComplete Figure[bool]
	// SetupRedis and SetupMySQL are what is wrong with a server; empty when it is fit.
	SetupRedis Figure[string]
	SetupMySQL Figure[string]
	// Imbalances is how many levels break P2, over both stores.
	Imbalances Figure[int64]
}

// GateResult is what one gate said.
type GateResult struct {
	Name string `json:"name"`
	Pass bool   `json:"pass"`
	// Figure is what was found, Bound what is asked for.
	Figure string `json:"figure"`
	Bound  string `json:"bound"`
	// Forced: it did not pass, and the request went on regardless.
	Forced bool `json:"forced,omitempty"`
}

func (g GateResult) String() string {
	return fmt.Sprintf("%s: %s (asked for: %s)", g.Name, g.Figure, g.Bound)
}

// Gate is one condition of a move.
type Gate struct {
	Name string
	// Needs is the evidence that Judge looks at.
	Needs Need
	// Judge is pure.
	Judge func(Evidence) GateResult
	// Firm gates cannot be forced: behind them acknowledged holds would be lost, or nothing works.
	Firm bool
}

// The gates by name. What they ask for is in GateResult.Bound.
var (
	gateSetup = Gate{Name: "setup", Needs: NeedSetup, Firm: true, Judge: func(e Evidence) GateResult {
		both := Figure[string]{Known: e.SetupRedis.Known && e.SetupMySQL.Known}
		both.Value = strings.Join(slices.DeleteFunc([]string{e.SetupRedis.Value, e.SetupMySQL.Value}, func(s string) bool { return s == "" }), "; ")
		if both.Known && both.Value == "" {
			return judge(Is("both fit"), true, "both servers fit for use")
		}
		return judge(both, false, "both servers fit for use")
	}}
	gateLost     = flag("not-lost", NeedOutbox, true, "the outbox has dropped nothing since the last backfill", false, func(e Evidence) Figure[bool] { return e.Lost })
	gateBackfill = flag("backfill", NeedBackfill, true, "backfill complete", true, func(e Evidence) Figure[bool] { return e.BackfillComplete })
	gateBreaker  = flag("breaker", NeedBreaker, false, "breaker of the shadow closed", true, func(e Evidence) Figure[bool] { return e.BreakerClosed })
	gateLag      = Gate{Name: "outbox-lag", Needs: NeedOutbox, Judge: func(e Evidence) GateResult {
		f := e.OutboxLag
		return judge(f, f.Value <= MaxGateLag, "at most "+MaxGateLag.String())
	}}
	gateEntries  = count("outbox-entries", NeedOutbox, MaxGateEntries, func(e Evidence) Figure[int64] { return e.OutboxEntries })
	gateDebt     = count("debt", NeedDebt, 0, func(e Evidence) Figure[int64] { return e.Debt })
	gateBalance  = count("conservation", NeedBalance, 0, func(e Evidence) Figure[int64] { return e.Imbalances })
	gateFindings = Gate{Name: "findings", Needs: NeedFindings, Judge: func(e Evidence) GateResult {
		return judge(e.Findings, e.Findings.Value == 0, fmt.Sprintf("0 open confirmed findings in %s", e.FindingsWindow))
	}}
)

func judge[T any](f Figure[T], pass bool, bound string) GateResult {
	if !f.Known {
		return GateResult{Figure: "unknown", Bound: bound}
	}
	return GateResult{Pass: pass, Figure: clip(fmt.Sprint(f.Value)), Bound: bound}
}

func count(name string, needs Need, most int64, of func(Evidence) Figure[int64]) Gate {
	return Gate{Name: name, Needs: needs, Judge: func(e Evidence) GateResult {
		f := of(e)
		return judge(f, f.Value <= most, fmt.Sprintf("at most %d", most))
	}}
}

func flag(name string, needs Need, firm bool, bound string, want bool, of func(Evidence) Figure[bool]) Gate {
	return Gate{Name: name, Needs: needs, Firm: firm, Judge: func(e Evidence) GateResult {
		f := of(e)
		word := Figure[string]{Known: f.Known, Value: "no"}
		if f.Value == want {
			word.Value = "yes"
		}
		return judge(word, f.Value == want, bound)
	}}
}

// GatesFor lists the gates of a move. The ways back have none: whoever wants less risk gets it.
func GatesFor(from, to backends.Stage) []Gate {
	switch {
	case from == backends.Shadow && to == backends.Live:
		return []Gate{gateSetup, gateLost, gateBackfill, gateBreaker, gateLag, gateEntries, gateDebt, gateFindings, gateBalance}
	case from == backends.Live && to == backends.MySQLOnly:
		return []Gate{gateFindings, gateBalance}
	case from == backends.RedisOnly && to == backends.Shadow, from == backends.MySQLOnly && to == backends.Live:
		return []Gate{gateSetup}
	default:
		return nil
	}
}

// GateError names the gates that did not pass and were not forced.
type GateError struct {
	Pod     backends.Pod
	To      backends.Stage
	Results []GateResult // all of them
}

// Failing are those that stand in the way.
func (e *GateError) Failing() []GateResult {
	return slices.DeleteFunc(slices.Clone(e.Results), func(g GateResult) bool { return g.Pass || g.Forced })
}

func (e *GateError) Error() string {
	var parts []string
	for _, g := range e.Failing() {
		parts = append(parts, g.String())
	}
	return fmt.Sprintf("pod %s may not go to %s: %s", e.Pod, e.To, strings.Join(parts, "; "))
}

// JudgeGates judges a move by its evidence. force names gates that need not pass. The error is a
// *backends.FieldError for a name that cannot be forced, and a *GateError when a gate fails.
func JudgeGates(pod backends.Pod, from, to backends.Stage, e Evidence, force []string) ([]GateResult, error) {
	gates := GatesFor(from, to)
	if err := checkForce(gates, force); err != nil {
		return nil, err
	}
	results := make([]GateResult, len(gates))
	failed := false
	for i, g := range gates {
		r := g.Judge(e)
		r.Name = g.Name
		r.Forced = !r.Pass && slices.Contains(force, g.Name)
		failed = failed || !r.Pass && !r.Forced
		results[i] = r
	}
	if failed {
		return results, &GateError{Pod: pod, To: to, Results: results}
	}
	return results, nil
}

func checkForce(gates []Gate, force []string) error {
	var free []string
	for _, g := range gates {
		if !g.Firm {
			free = append(free, g.Name)
		}
	}
	bound := "one of " + strings.Join(free, ", ")
	if len(free) == 0 {
		bound = "nothing: this move has no gate that can be forced"
	}
	if len(force) > MaxForced {
		return &backends.FieldError{Field: "force", Value: fmt.Sprintf("%d gates", len(force)), Bound: fmt.Sprintf("at most %d", MaxForced), Next: "name each gate once"}
	}
	for _, f := range force {
		if slices.Contains(free, f) {
			continue
		}
		next := "see 'crossfade stage --dry-run' for the gates of this move"
		if slices.ContainsFunc(gates, func(g Gate) bool { return g.Name == f }) {
			next = "this one cannot be forced: acknowledged holds would be lost behind it, or nothing would work; do what it asks for"
		}
		return &backends.FieldError{Field: "force", Value: fmt.Sprintf("%.80q", f), Bound: bound, Next: next}
	}
	return nil
}
