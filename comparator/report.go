package comparator

import (
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds of a report's lists. The totals beside them count all. The table shows the first of its findings.
const (
	maxReportFindings  = 100
	maxTableFindings   = 20
	maxReportItems     = 20
	maxReportApologies = 20
	maxReportDebt      = 20
	maxReportProblems  = 20
)

// goodShare is the share of decisions that should be compared before one believes the parity rate.
const goodShare = 0.95

// ReportInput is what a report is made from. What could not be read is left empty and named in
// Problems.
type ReportInput struct {
	Pod         backends.Pod
	Stage       backends.Stage
	Epoch       uint64
	GeneratedAt time.Time
	Since       time.Time // decisions and findings from then on; zero: all that is kept
	Coverage    Coverage  // folded, see FoldCoverage
	Summary     []ClassSummary
	Findings    []Finding // the last ones seen
	// Truth and Shadow are those of the reporter's own run; where Tallies has any, those count.
	Truth     Latency
	Shadow    Latency
	Tallies   *Sum  // nil when not known
	Trend     Trend // zero when not known
	Goals     Goals
	Outbox    *backends.OutboxStats // the truth's; nil when not known
	Debt      []DebtLine
	Apologies []backends.Apology
	// ApologySum counts all; nil where only those listed are known.
	ApologySum *ApologySum
	Audit      *AuditReport // nil when not known
	// Undetermined says by cause why decisions were undetermined (Stats.Undetermined), for the runs
	// that the reporter knows.
	Undetermined map[string]int64
	// Excuses are those of the file, ExcuseUse what each covered of all findings that are kept.
	Excuses   Excuses
	ExcuseUse []ExcuseUse
	Problems  []string
	// Incomplete: something that may hold findings, debts or apologies could not be read.
	Incomplete bool
}

// DebtLine is a key at which a store has promised units that it does not have.
type DebtLine struct {
	Store string       `json:"store"`
	Key   backends.Key `json:"key"`
	Units int64        `json:"units"`
}

// Report is one page about a pod. It renders as table, JSON, CSV and HTML.
type Report struct {
	Pod         backends.Pod   `json:"pod"`
	Stage       backends.Stage `json:"stage,omitzero"`
	Truth       string         `json:"truth"`
	Epoch       uint64         `json:"epoch"`
	GeneratedAt time.Time      `json:"generated_at"`
	Since       *time.Time     `json:"since"`
	Verdict     ReportVerdict  `json:"verdict"`
	Parity      Parity         `json:"parity"`
	Coverage    Coverage       `json:"coverage"`
	// Classes has one element for each class with findings, the gravest first.
	Classes   []ClassReport `json:"classes"`
	Open      int64         `json:"open_findings"`
	OpenUnits int64         `json:"open_units"`
	// UndeterminedWhy is by cause.
	UndeterminedWhy map[string]int64 `json:"undetermined_why"`
	Findings        []Finding        `json:"findings"`
	// TopItems are those with the most units in confirmed findings, of the findings that were read.
	TopItems  []ItemUnits `json:"top_items"`
	Readiness Readiness   `json:"readiness"`
	Trend     Trend       `json:"trend"`
	// LatencyOf says whose latencies they are.
	LatencyOf      string                `json:"latency_of"`
	TruthLatency   Latency               `json:"truth_latency"`
	ShadowLatency  Latency               `json:"shadow_latency"`
	LatencyTrend   []LatencyPoint        `json:"latency_trend"`
	Outbox         *backends.OutboxStats `json:"outbox"`
	DebtUnits      int64                 `json:"debt_units"` // a key that both stores owe counts once
	Debt           []DebtLine            `json:"debt"`
	ApologyCount   int                   `json:"apology_count"`
	ApologyUnits   int64                 `json:"apology_units"`
	ApologiesAcked int64                 `json:"apologies_acknowledged"`
	Apologies      []backends.Apology    `json:"apologies"`
	Audit          *AuditReport          `json:"audit"`
	Excuses        []ExcuseReport        `json:"excuses"`
	Problems       []string              `json:"problems"`
	// Incomplete: what could not be read is among the problems; that nothing was found is no proof then.
	Incomplete bool     `json:"incomplete"`
	Next       []string `json:"next"`
}

// ClassReport sums up the findings of one class over their lives.
type ClassReport struct {
	Class        Class  `json:"class"`
	Meaning      string `json:"meaning"`
	Next         string `json:"next"`
	Open         int64  `json:"open"`
	OpenUnits    int64  `json:"open_units"`
	Repaired     int64  `json:"repaired"`
	Acknowledged int64  `json:"acknowledged"`
	// Explained and Undetermined are those that are kept with their proof; the coverage counts all.
	Explained    int64 `json:"explained_kept"`
	Undetermined int64 `json:"undetermined_kept"`
	// Excused are those that are kept and that an excuse covers; the coverage counts all decisions.
	Excused int64 `json:"excused"`
}

// BuildReport makes the page. It is pure. Its error is an account out of balance; the report then
// says so too.
func BuildReport(in ReportInput) (Report, error) {
	r := Report{
		Pod: in.Pod, Stage: in.Stage, Truth: in.Stage.Truth().String(), Epoch: in.Epoch, GeneratedAt: stamp(in.GeneratedAt),
		Parity: in.Coverage.Parity(), Coverage: in.Coverage, Classes: []ClassReport{}, UndeterminedWhy: map[string]int64{},
		Findings: []Finding{}, TruthLatency: in.Truth, ShadowLatency: in.Shadow, Outbox: in.Outbox,
		Debt: []DebtLine{}, Apologies: []backends.Apology{}, Problems: []string{}, Excuses: reportExcuses(&in), Incomplete: in.Incomplete, Audit: in.Audit,
	}
	if !in.Since.IsZero() {
		s := stamp(in.Since)
		r.Since = &s
	}
	for k, v := range in.Undetermined {
		r.UndeterminedWhy[k] = v
	}
	for _, p := range in.Problems[:min(len(in.Problems), maxReportProblems)] {
		r.Problems = append(r.Problems, clip(p, MaxText))
	}
	err := in.Coverage.Check()
	if err != nil {
		r.Problems = append(r.Problems, err.Error())
	}
	r.evidence(&in)
	r.classes(in.Summary)
	r.TopItems = topItems(in.Findings)
	for _, f := range in.Findings {
		if f.Life.Confirmed() && len(r.Findings) < maxReportFindings {
			r.Findings = append(r.Findings, f)
		}
	}
	r.owed(in)
	r.Verdict = verdictOf(&r)
	r.Next = nextSteps(&r)
	return r, err
}

// evidence fills in what was counted over time: readiness, trend, latencies.
func (r *Report) evidence(in *ReportInput) {
	sum := in.Tallies
	if sum == nil {
		sum = NewSum(in.GeneratedAt, SlotMinutes)
	}
	r.Trend = in.Trend
	if r.Trend.Coverage == nil {
		r.Trend.Coverage = []TrendPoint{}
	}
	if r.Trend.Findings == nil {
		r.Trend.Findings = []FindingPoint{}
	}
	r.Readiness = BuildReadiness(sum, &r.Trend, in.Goals)
	r.LatencyOf = "this proxy, since it started"
	truth, shadow, trend := sum.Latencies()
	if r.LatencyTrend = trend; truth.Count+shadow.Count > 0 {
		r.TruthLatency, r.ShadowLatency, r.LatencyOf = truth, shadow, "all proxies"
	}
}

func (r *Report) classes(sums []ClassSummary) {
	for _, c := range Classes() {
		cr := ClassReport{Class: c, Meaning: c.Meaning(), Next: c.Next()}
		for _, s := range sums {
			if s.Class != c {
				continue
			}
			switch s.Life {
			case LifeOpen:
				cr.Open, cr.OpenUnits = cr.Open+s.Findings, cr.OpenUnits+s.Units
			case LifeRepaired:
				cr.Repaired += s.Findings
			case LifeAcknowledged:
				cr.Acknowledged += s.Findings
			case LifeExplained:
				cr.Explained += s.Findings
			case LifeUndetermined:
				cr.Undetermined += s.Findings
			case LifeExcused:
				cr.Excused += s.Findings
			default: // a life that this version does not know is counted nowhere
			}
		}
		if cr.Open+cr.Repaired+cr.Acknowledged+cr.Explained+cr.Undetermined+cr.Excused > 0 {
			r.Classes = append(r.Classes, cr)
		}
		r.Open, r.OpenUnits = r.Open+cr.Open, r.OpenUnits+cr.OpenUnits
	}
}

func (r *Report) owed(in ReportInput) {
	debt := slices.Clone(in.Debt)
	slices.SortStableFunc(debt, func(a, b DebtLine) int {
		if a.Units != b.Units {
			return int(max(-1, min(1, b.Units-a.Units)))
		}
		return a.Key.Compare(b.Key)
	})
	most := map[backends.Key]int64{} // both stores may owe the same units
	for _, d := range debt {
		if d.Units > most[d.Key] {
			r.DebtUnits += d.Units - most[d.Key]
			most[d.Key] = d.Units
		}
		if len(r.Debt) < maxReportDebt {
			r.Debt = append(r.Debt, d)
		}
	}
	r.ApologyCount = len(in.Apologies)
	for _, a := range in.Apologies {
		r.ApologyUnits += a.Quantity
		if len(r.Apologies) < maxReportApologies {
			r.Apologies = append(r.Apologies, a)
		}
	}
	if s := in.ApologySum; s != nil {
		r.ApologyCount, r.ApologyUnits, r.ApologiesAcked = int(s.Open), s.OpenUnits, s.Acked
	}
}

// nextSteps says what to do, the most urgent first.
func nextSteps(r *Report) []string {
	var steps []string
	say := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }
	if r.Open > 0 {
		for _, c := range r.Classes {
			if c.Open > 0 {
				say("Do not advance this pod: %s open, the gravest of class %s. What to do: %s.", are(r.Open, "finding"), c.Class, c.Next)
				break
			}
		}
	}
	if r.Outbox != nil && r.Outbox.Lost {
		say("The outbox has dropped %s: the shadow is not complete until a backfill has run (entering dual-write again starts one).", plural(r.Outbox.Dropped, "entry", "entries"))
	}
	if r.ApologyCount > 0 {
		say("The shop owes customers: %s with %s behind no stock. 'crossfade apologies %s' lists them.", count(int64(r.ApologyCount), "promise"), count(r.ApologyUnits, "unit"), r.Pod)
	}
	if r.DebtUnits > 0 {
		say("%s are promised that are not there (debt). The first units that come free pay it; restock if it stays.", count(r.DebtUnits, "unit"))
	}
	steps = append(steps, excuseSteps(r)...)
	if r.Stage.Dual() {
		steps = append(steps, auditSteps(r)...)
	}
	if !r.Stage.Dual() {
		say("In %s decisions are not compared: there is no shadow.", r.Stage)
		return steps
	}
	steps = append(steps, evidenceSteps(r)...)
	if len(steps) == 0 && r.Audit != nil {
		say("Nothing in what was compared stands against this pod, and the audit of every hold and level has found nothing that is open.")
	} else if len(steps) == 0 {
		say("Nothing in what was compared stands against this pod. 'crossfade audit %s' compares every hold and level as well.", r.Pod)
	}
	return steps
}

// evidenceSteps are about how much the rate is worth.
func evidenceSteps(r *Report) []string {
	var steps []string
	say := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }
	c := r.Coverage
	if c.Decisions == 0 {
		say("No decision is in the account yet: point a checkout (or 'crossfade replay') at this pod.")
		return steps
	}
	if !r.Readiness.Ready {
		say("Wait for more evidence before you advance this pod: it is short in %s (see readiness).", readinessNames(r))
	}
	if c.Settling > 0 {
		say("%s being looked into: run the report again in a few minutes.", are(c.Settling, "decision"))
	}
	if c.Pending > 0 {
		say("%s still waiting for the shadow: run the report again when the outbox is empty.", are(c.Pending, "decision"))
	}
	if r.Parity.Share != nil && *r.Parity.Share < goodShare && c.Pending+c.Settling < c.Decisions-r.Parity.Compared {
		say("Only %s of the decisions were compared: raise the share of refusals that are probed, or look at why the shadow does not follow.", percent(r.Parity.Compared, r.Parity.Decisions))
	}
	if c.Excused > 0 {
		say("%s covered by an excuse; they count neither for nor against.", are(c.Excused, "decision"))
	}
	if c.Undetermined > 0 {
		say("%s could not be decided; they count neither for nor against.", count(c.Undetermined, "decision"))
	}
	return steps
}

func are(n int64, noun string) string {
	if n == 1 {
		return count(n, noun) + " is"
	}
	return count(n, noun) + " are"
}

// percent is rounded down to one in a million, so that it says 100 only when it is, and 0 likewise.
func percent(n, of int64) string {
	if of <= 0 {
		return "–"
	}
	const decimals = 10_000
	whole, part := n*100/of, n*100%of*decimals/of
	switch {
	case n == 0, n == of:
		return fmt.Sprintf("%d %%", whole)
	case n > 0 && whole == 0 && part == 0:
		return "<0.0001 %"
	default:
		return fmt.Sprintf("%d.%04d %%", whole, part)
	}
}
