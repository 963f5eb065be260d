package killswitch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// MaxForced bounds the gates that one request may force.
const MaxForced = 16

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
	NeedSetup     Need = 1 << iota // SetupRedis, SetupMySQL
	NeedOutbox                     // OutboxLag, OutboxEntries, Lost
	NeedDebt                       // Debt: reads every level of the shadow
	NeedFindings                   // Findings
	NeedBreaker                    // BreakerClosed
	NeedBackfill                   // BackfillComplete
	NeedBalance                    // Imbalances: reads every level and hold of both stores
	NeedProxies                    // Proxies
	NeedReadiness                  // Readiness: reads the counts of all decisions that are kept
	NeedLatency                    // ShadowLatency
	NeedBypass                     // Bypasses
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
	// Proxies are those of the pod, and what each has acknowledged.
	Proxies Figure[Proxies]
	// Readiness is how far the evidence of the comparison reaches.
	Readiness Figure[Readiness]
	// ShadowLatency is of the decisions of the last ShadowWindow; not known when there was none.
	ShadowLatency Figure[Latency]
	ShadowWindow  time.Duration
	// Bypasses is how many findings of writes past Crossfade are open, whenever they were seen.
	Bypasses Figure[int64]
}

// Readiness is what the comparison says of the shadow as a truth.
type Readiness struct {
	// Ready: there is evidence enough of each kind of decision, and for the load.
	Ready bool
	// Kinds is how many kinds are asked for, the load as one of them; Short names those of which there is too little,
	// with what is missing.
	Kinds int
	Short []string
	// Go: the report's verdict is go. Verdict is it in words. Empty unless it was asked for.
	Go      bool
	Verdict string
}

// Latency is that of the slowest of a hundred decisions.
type Latency struct {
	P99       time.Duration
	Decisions int64
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
	// Off: it did not pass, and the pod's configuration does not ask for it.
	Off bool `json:"off,omitempty"`
}

// Stands tells whether the gate stands in the way.
func (g GateResult) Stands() bool { return !g.Pass && !g.Forced && !g.Off }

func (g GateResult) String() string {
	return fmt.Sprintf("%s: %s (asked for: %s)", g.Name, g.Figure, g.Bound)
}

// Gate is one condition of a move.
type Gate struct {
	Name string
	// Needs is the evidence that Judge looks at.
	Needs Need
	// Judge is pure; it names neither the gate, nor who has forced it.
	Judge func(Evidence, Bounds) GateResult
	// Firm gates cannot be forced: behind them acknowledged holds would be lost, or nothing works.
	Firm bool
}

// The gates by name. What they ask for is in GateResult.Bound.
var (
	gateSetup    = Gate{Name: "setup", Needs: NeedSetup, Firm: true, Judge: judgeSetup}
	gateLost     = flag("not-lost", NeedOutbox, true, "the outbox has dropped nothing since the last backfill", false, func(e Evidence) Figure[bool] { return e.Lost })
	gateBackfill = flag("backfill", NeedBackfill, true, "backfill complete", true, func(e Evidence) Figure[bool] { return e.BackfillComplete })
	gateProxies  = Gate{Name: "proxies", Needs: NeedProxies, Judge: judgeProxies}
	gateBreaker  = flag("breaker", NeedBreaker, false, "breaker of the shadow closed", true, func(e Evidence) Figure[bool] { return e.BreakerClosed })
	gateLag      = Gate{Name: "outbox-lag", Needs: NeedOutbox, Judge: judgeLag}
	gateEntries  = Gate{Name: "outbox-entries", Needs: NeedOutbox, Judge: judgeEntries}
	gateDebt     = none("debt", NeedDebt, "no unit promised that the shadow does not have", func(e Evidence) Figure[int64] { return e.Debt })
	gateReady    = Gate{Name: "readiness", Needs: NeedReadiness, Judge: judgeReadiness}
	gateP99      = Gate{Name: "shadow-p99", Needs: NeedLatency, Judge: judgeP99}
	gateFindings = Gate{Name: "findings", Needs: NeedFindings, Judge: judgeFindings}
	gateBypass   = none("bypass", NeedBypass, "no open finding of a write past Crossfade, at any age", func(e Evidence) Figure[int64] { return e.Bypasses })
	gateBalance  = none("conservation", NeedBalance, "no level out of balance in either store", func(e Evidence) Figure[int64] { return e.Imbalances })
)

func allGates() []Gate {
	return []Gate{
		gateSetup, gateLost, gateBackfill, gateProxies, gateBreaker, gateLag, gateEntries, gateDebt,
		gateReady, gateP99, gateFindings, gateBypass, gateBalance,
	}
}

// FreeGates names the gates that can be forced and switched off.
func FreeGates() []string {
	var out []string
	for _, g := range allGates() {
		if !g.Firm {
			out = append(out, g.Name)
		}
	}
	return out
}

func judgeSetup(e Evidence, _ Bounds) GateResult {
	const bound = "both servers and schemas fit for use"
	both := Figure[string]{Known: e.SetupRedis.Known && e.SetupMySQL.Known}
	both.Value = strings.Join(slices.DeleteFunc([]string{e.SetupRedis.Value, e.SetupMySQL.Value}, func(s string) bool { return s == "" }), "; ")
	if both.Known && both.Value == "" {
		return judge(Is("both fit"), true, bound)
	}
	return judge(both, false, bound)
}

func judgeProxies(e Evidence, _ Bounds) GateResult {
	return judge(e.Proxies, e.Proxies.Value.current(), "every proxy has acknowledged the pod's epoch")
}

func judgeLag(e Evidence, b Bounds) GateResult {
	f := e.OutboxLag
	return judge(f, f.Value <= b.OutboxLag, "oldest entry at most "+b.OutboxLag.String()+" old")
}

func judgeEntries(e Evidence, b Bounds) GateResult {
	f := e.OutboxEntries
	return judge(f, f.Value <= b.OutboxEntries, fmt.Sprintf("at most %d", b.OutboxEntries))
}

func judgeReadiness(e Evidence, b Bounds) GateResult {
	r := e.Readiness.Value
	text := Figure[string]{Known: e.Readiness.Known, Value: fmt.Sprintf("enough of all %d kinds", r.Kinds)}
	if len(r.Short) > 0 {
		text.Value = fmt.Sprintf("short of %d of %d kinds: %s", len(r.Short), r.Kinds, strings.Join(r.Short, "; "))
	}
	if b.Readiness == ReadyByVerdict {
		text.Known = text.Known && r.Verdict != ""
		text.Value = r.Verdict
		return judge(text, r.Go, "the report's verdict is go")
	}
	return judge(text, r.Ready && len(r.Short) == 0, "evidence enough of each kind of decision, and for the load")
}

func judgeP99(e Evidence, b Bounds) GateResult {
	l := e.ShadowLatency.Value
	bound := fmt.Sprintf("p99 of the last %s at most %s", e.ShadowWindow, b.ShadowP99)
	if e.ShadowLatency.Known && l.Decisions <= 0 {
		return GateResult{Figure: "unknown: the shadow has decided nothing in that time", Bound: bound}
	}
	text := Figure[string]{Known: e.ShadowLatency.Known, Value: fmt.Sprintf("%s, of %d decisions", l.P99.Round(10*time.Microsecond), l.Decisions)}
	return judge(text, l.P99 <= b.ShadowP99, bound)
}

func judgeFindings(e Evidence, _ Bounds) GateResult {
	return judge(e.Findings, e.Findings.Value == 0, fmt.Sprintf("no open confirmed finding in %s", e.FindingsWindow))
}

func judge[T any](f Figure[T], pass bool, bound string) GateResult {
	if !f.Known {
		return GateResult{Figure: "unknown", Bound: bound}
	}
	return GateResult{Pass: pass, Figure: Clip(fmt.Sprint(f.Value)), Bound: bound}
}

// none is a gate that asks for a count of zero.
func none(name string, needs Need, bound string, of func(Evidence) Figure[int64]) Gate {
	return Gate{Name: name, Needs: needs, Judge: func(e Evidence, _ Bounds) GateResult {
		f := of(e)
		return judge(f, f.Value == 0, bound)
	}}
}

func flag(name string, needs Need, firm bool, bound string, want bool, of func(Evidence) Figure[bool]) Gate {
	return Gate{Name: name, Needs: needs, Firm: firm, Judge: func(e Evidence, _ Bounds) GateResult {
		f := of(e)
		word := Figure[string]{Known: f.Known, Value: "no"}
		if f.Value == want {
			word.Value = "yes"
		}
		return judge(word, f.Value == want, bound)
	}}
}

// GatesFor lists the gates of a move. The ways back have none but what nothing works without: whoever wants less risk gets
// it. Into shadow nothing can be judged yet, since MySQL has nothing. Out of live, MySQL is the truth already and has been
// compared as such: what is asked is whether anything speaks against it, since no kill leads back from mysql-only.
func GatesFor(from, to backends.Stage) []Gate {
	switch {
	case from == backends.Shadow && to == backends.Live:
		return allGates()
	case from == backends.Live && to == backends.MySQLOnly:
		return []Gate{gateProxies, gateFindings, gateBypass, gateBalance}
	case from == backends.RedisOnly && to == backends.Shadow, from == backends.MySQLOnly && to == backends.Live:
		return []Gate{gateSetup}
	default:
		return nil
	}
}

// GateError names the gates that did not pass and were not forced.
type GateError struct {
	Pod      backends.Pod
	From, To backends.Stage
	Results  []GateResult // all of them
}

// Failing are those that stand in the way.
func (e *GateError) Failing() []GateResult {
	return slices.DeleteFunc(slices.Clone(e.Results), func(g GateResult) bool { return !g.Stands() })
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
func JudgeGates(pod backends.Pod, from, to backends.Stage, e Evidence, b Bounds, force []string) ([]GateResult, error) {
	b = b.WithDefaults()
	gates := GatesFor(from, to)
	if err := checkForce(gates, force); err != nil {
		return nil, err
	}
	results := make([]GateResult, len(gates))
	failed := false
	for i, g := range gates {
		r := g.Judge(e, b)
		r.Name = g.Name
		r.Off = !r.Pass && !g.Firm && slices.Contains(b.Off, g.Name)
		r.Forced = !r.Pass && !r.Off && slices.Contains(force, g.Name)
		failed = failed || r.Stands()
		results[i] = r
	}
	if failed {
		return results, &GateError{Pod: pod, From: from, To: to, Results: results}
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
