package comparator

import (
	"fmt"
	"strconv"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// DefaultGoal is the rate of wrong decisions that the upper bound has to come under in a stratum: one
	// in a thousand, which takes 2,995 decisions without a finding. The strata other than plentiful are
	// some percent of a shop's traffic each, so a rate that cannot be told from this one is at worst some
	// wrong answers among a hundred thousand carts: less than a shop corrects by hand every day.
	DefaultGoal = 0.001
	// DefaultGoalPlentiful is ten times stricter, 29,956 decisions: nearly all carts are there, and they
	// come by themselves.
	DefaultGoalPlentiful = 0.0001
	// GoalOff switches a stratum off: no bound is above it.
	GoalOff = 1
	// rateWindow is what "the current rate" is taken over: a day, since shops have busy and quiet hours.
	rateWindow = 24 * time.Hour
)

// Goals are the upper bounds that readiness asks for, by stratum; a stratum that is missing has its default.
type Goals map[Stratum]float64

// Of gives the goal of a stratum.
func (g Goals) Of(s Stratum) float64 {
	if goal, ok := g[s]; ok {
		return goal
	}
	if s == Plentiful {
		return DefaultGoalPlentiful
	}
	return DefaultGoal
}

// Check gives a *backends.FieldError for a goal that no evidence could reach, or that is no rate.
func (g Goals) Check() error {
	for s, goal := range g {
		if !(goal > 0 && goal <= 1) {
			return &backends.FieldError{Field: "readiness goal of " + s.String(), Value: strconv.FormatFloat(goal, 'g', -1, 64), Bound: "above 0 and at most 1", Next: "give the rate of wrong decisions that you can live with, like 0.001; 1 leaves the stratum out"}
		}
	}
	return nil
}

// StratumVerdict says in a word where a stratum stands.
type StratumVerdict string

// The verdicts.
const (
	StratumEnough   StratumVerdict = "enough"   // the bound is under the goal
	StratumMore     StratumVerdict = "more"     // nothing speaks against it, and there is too little
	StratumFindings StratumVerdict = "findings" // findings hold the bound over the goal
	StratumUnseen   StratumVerdict = "unseen"   // nothing of it was compared
	StratumOff      StratumVerdict = "off"      // nobody asked for it
)

// StratumReport is the evidence of one stratum.
type StratumReport struct {
	Stratum Stratum `json:"stratum"`
	Meaning string  `json:"meaning"`
	// Compared is n, Findings is k: decisions that ended as confirmed, whatever became of the finding.
	Compared int64 `json:"compared"`
	Findings int64 `json:"findings"`
	// Clusters is how many of the groups of items they are of, Groups how many there are: at least so
	// many items.
	Clusters int `json:"item_groups"`
	// Upper is the one-sided bound of UpperBound; Low and High are those of Resampled, 0 without findings.
	Upper float64 `json:"upper_95"`
	Low   float64 `json:"resampled_low_95"`
	High  float64 `json:"resampled_high_95"`
	Goal  float64 `json:"goal"`
	// Needed is how many more are needed, if none of them is a finding.
	Needed int64 `json:"needed"`
	// PerDay is how many come in a day at the rate of the last 24 hours; NeededSeconds how long it takes
	// until there are enough, nil when none come.
	PerDay        float64        `json:"per_day"`
	NeededSeconds *int64         `json:"needed_seconds"`
	Verdict       StratumVerdict `json:"verdict"`
	Why           string         `json:"why"`
}

// Settled tells whether nothing more is asked of the stratum.
func (s *StratumReport) Settled() bool { return s.Verdict == StratumEnough || s.Verdict == StratumOff }

// bound is the worse of both bounds.
func (s *StratumReport) bound() float64 { return max(s.Upper, s.High) }

// LoadReport says whether the shadow has carried what it would have to carry as truth.
type LoadReport struct {
	Peak    int64   `json:"peak_minute"`    // most decisions of one minute
	Carried int64   `json:"carried_minute"` // most that the shadow decided too, in a minute with every refusal probed
	Goal    float64 `json:"goal"`
	Enough  bool    `json:"enough"`
	Why     string  `json:"why"`
}

// Readiness says whether there is evidence enough to make the shadow the truth. It is about evidence
// alone: open findings, debts and the outbox are the report's other parts.
type Readiness struct {
	Ready  bool            `json:"ready"`
	Since  time.Time       `json:"since,omitzero"` // the first slot that is counted
	Strata []StratumReport `json:"strata"`
	Load   LoadReport      `json:"load"`
	// NotSeen is how many grants were compared that are in neither plentiful nor last_units, since neither
	// store has told what stock it saw: nearly all of them reached the shadow by a sweep.
	NotSeen int64 `json:"stock_not_seen"`
	// Missing names what is missing, one line each; empty when ready.
	Missing []string `json:"missing"`
}

// BuildReadiness judges the evidence. It is pure.
func BuildReadiness(s *Sum, t *Trend, goals Goals) Readiness {
	r := Readiness{Since: s.From, Strata: []StratumReport{}, Missing: []string{}, Load: loadReport(t), NotSeen: s.unseen}
	span := min(rateWindow, s.now.Sub(s.From))
	if s.From.IsZero() {
		span = 0
	}
	for _, st := range Strata() {
		x := &s.strata[st]
		sr := StratumReport{Stratum: st, Meaning: st.Meaning(), Compared: x.n, Findings: x.k, Goal: goals.Of(st), Upper: UpperBound(x.k, x.n)}
		var cells Cells
		for _, c := range x.cells {
			if c.N > 0 {
				cells = append(cells, c)
			}
		}
		sr.Clusters = len(cells)
		sr.Low, sr.High = Resampled(cells)
		sr.Needed = Needed(x.k, x.n, sr.Goal)
		if span > 0 {
			sr.PerDay = float64(x.recent) / span.Seconds() * rateWindow.Seconds()
		}
		if sr.PerDay > 0 && sr.Needed < maxNeeded {
			secs := int64(float64(sr.Needed) / sr.PerDay * rateWindow.Seconds())
			sr.NeededSeconds = &secs
		}
		sr.judge()
		if !sr.Settled() {
			r.Missing = append(r.Missing, fmt.Sprintf("%s: %s", st, sr.Why))
		}
		r.Strata = append(r.Strata, sr)
	}
	if !r.Load.Enough {
		r.Missing = append(r.Missing, "load: "+r.Load.Why)
	}
	r.Ready = len(r.Missing) == 0
	return r
}

func (s *StratumReport) judge() {
	switch {
	case s.Goal >= GoalOff:
		s.Verdict, s.Needed, s.NeededSeconds = StratumOff, 0, nil
		s.Why = "not asked for by the configuration"
	case s.Compared == 0:
		s.Verdict, s.Why = StratumUnseen, fmt.Sprintf("nothing of it was compared yet; %s without a finding are enough", count(s.Needed, "decision"))
	case s.bound() <= s.Goal:
		s.Verdict = StratumEnough
		s.Why = fmt.Sprintf("at 95 %% at most %s are wrong, the goal is %s", ratio(s.bound()), ratio(s.Goal))
	case s.Findings > 0:
		s.Verdict = StratumFindings
		s.Why = fmt.Sprintf("%s among %s: up to %s may be wrong, the goal is %s", count(s.Findings, "finding"), group(s.Compared), ratio(s.bound()), ratio(s.Goal))
		if s.Needed == 0 { // the binomial bound is under the goal, the resampled one is not
			s.Why += "; they are of few items, so more decisions alone do not settle it"
		}
	default:
		s.Verdict = StratumMore
		s.Why = fmt.Sprintf("%s more without a finding%s", count(s.Needed, "decision"), s.howLong())
	}
}

// howLong says when there will be enough.
func (s *StratumReport) howLong() string {
	if s.NeededSeconds == nil {
		return ", and none came in the last 24 hours"
	}
	return ", about " + long(*s.NeededSeconds) + " at the rate of the last 24 hours"
}

func loadReport(t *Trend) LoadReport {
	l := LoadReport{Peak: t.Peak, Carried: t.Carried, Goal: goodShare}
	l.Enough = l.Peak > 0 && float64(l.Carried) >= l.Goal*float64(l.Peak)
	switch {
	case l.Peak == 0:
		l.Why = "no decision is in the account yet"
	case l.Enough:
		l.Why = fmt.Sprintf("the shadow decided %s in one minute with every refusal probed, of a peak of %s: %s", group(l.Carried), group(l.Peak), percent(min(l.Carried, l.Peak), l.Peak))
	default:
		l.Why = fmt.Sprintf("the shadow decided at most %s in a minute with every refusal probed, %s of the truth's peak minute of %s; the goal is %.0f %%. Let it have such a minute with probe_share 1", group(l.Carried), percent(l.Carried, l.Peak), group(l.Peak), l.Goal*100)
	}
	return l
}

// ratio writes a rate as one in so many, and as percent where it is large.
func ratio(rate float64) string {
	switch {
	case rate <= 0:
		return "none"
	case rate > 0.02:
		return fmt.Sprintf("%.1f %%", rate*100)
	default:
		return "1 in " + group(int64(1/rate))
	}
}

// long writes seconds in the unit that people plan by.
func long(secs int64) string {
	const minute, hour, day, year = 60, 3600, 86400, 365 * 86400
	switch {
	case secs < minute:
		return "a minute"
	case secs < 2*hour:
		return count((secs+minute-1)/minute, "minute")
	case secs < 2*day:
		return count((secs+hour-1)/hour, "hour")
	case secs < 2*year:
		return count((secs+day-1)/day, "day")
	default:
		return "years"
	}
}
