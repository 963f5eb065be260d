package comparator

import (
	"fmt"
	"strings"
)

// readinessTable writes what evidence there is, by stratum.
func (r *Report) readinessTable(p *page) {
	if !r.Stage.Dual() {
		return
	}
	answer := "yes"
	if !r.Readiness.Ready {
		answer = "NOT YET"
	}
	p.head("READINESS, evidence enough for each kind of decision: %s", answer)
	p.line("  %-17s %10s %8s  %-15s %-13s %-11s %s", "stratum", "compared", "findings", "wrong at most*", "resampled**", "goal", "verdict")
	for i := range r.Readiness.Strata {
		s := &r.Readiness.Strata[i]
		p.line("  %-17s %10s %8s  %-15s %-13s %-11s %s", s.Stratum, group(s.Compared), group(s.Findings), s.atMost(), s.resampled(), s.goalText(), s.Verdict)
		p.item("      ", s.Meaning+"; "+s.Why)
	}
	load := "more"
	if r.Readiness.Load.Enough {
		load = "enough"
	}
	p.item("  load: ", load+"; "+r.Readiness.Load.Why)
	p.item("  * ", "the true rate at 95 %, exact for independent decisions (Clopper-Pearson)")
	p.item("  ** ", "the interval at 95 % when whole items are drawn again, since decisions on one item hang together; without findings it says nothing")
	if r.Readiness.NotSeen > 0 {
		p.item("  ", r.notSeen())
	}
	if !r.Readiness.Since.IsZero() {
		p.item("  ", fmt.Sprintf("counted since %s, in steps of %d minutes", clock(r.Readiness.Since), SlotMinutes))
	}
}

// notSeen tells of the grants that are in neither plentiful nor last_units.
func (r *Report) notSeen() string {
	return fmt.Sprintf("%s compared that are in neither plentiful nor last_units: neither store told what stock it saw", plural(r.Readiness.NotSeen, "grant was", "grants were"))
}

func (s *StratumReport) atMost() string {
	if s.Compared == 0 {
		return "not known"
	}
	return ratio(s.Upper)
}

func (s *StratumReport) resampled() string {
	if s.Findings == 0 {
		return "-"
	}
	return "to " + ratio(s.High)
}

func (s *StratumReport) goalText() string {
	if s.Verdict == StratumOff {
		return "none"
	}
	return ratio(s.Goal)
}

// readinessNames lists the strata in which evidence is missing, and the load.
func readinessNames(r *Report) string {
	var names []string
	for i := range r.Readiness.Strata {
		if s := &r.Readiness.Strata[i]; !s.Settled() {
			names = append(names, s.Stratum.String())
		}
	}
	if !r.Readiness.Load.Enough {
		names = append(names, "load")
	}
	return strings.Join(names, ", ")
}

// readinessCSV has one line per stratum: count is n, units is k.
func (r *Report) readinessCSV() []csvLine {
	var ls []csvLine
	for i := range r.Readiness.Strata {
		s := &r.Readiness.Strata[i]
		detail := fmt.Sprintf("upper_95=%g resampled_low_95=%g resampled_high_95=%g goal=%g needed=%d per_day=%.1f item_groups=%d", s.Upper, s.Low, s.High, s.Goal, s.Needed, s.PerDay, s.Clusters)
		ls = append(ls, csvLine{section: "readiness", name: s.Stratum.String(), state: string(s.Verdict), count: num(s.Compared), units: num(s.Findings), detail: detail, why: s.Why})
	}
	ls = append(ls, csvLine{section: "readiness", name: tallyNotSeen, count: num(r.Readiness.NotSeen)})
	l := &r.Readiness.Load
	state := StratumMore
	if l.Enough {
		state = StratumEnough
	}
	return append(ls, csvLine{section: "readiness", name: "load", state: string(state), count: num(l.Carried), detail: fmt.Sprintf("peak_minute=%d carried_minute=%d goal=%g", l.Peak, l.Carried, l.Goal), why: l.Why})
}

// trendCSV has one line per step and column, class or latency.
func (r *Report) trendCSV() []csvLine {
	var ls []csvLine
	for i := range r.Trend.Coverage {
		p := &r.Trend.Coverage[i]
		ls = append(ls, csvLine{section: "trend", name: "decisions", count: num(p.Decisions), first: p.At})
		for _, c := range Columns() {
			if n := p.Of(c); n != 0 {
				ls = append(ls, csvLine{section: "trend", name: c.String(), count: num(n), first: p.At})
			}
		}
	}
	for _, f := range r.Trend.Findings {
		ls = append(ls, csvLine{section: "trend_finding", name: f.Class.String(), count: num(f.Findings), units: num(f.Units), first: f.At})
	}
	for _, l := range r.LatencyTrend {
		ls = append(ls, csvLine{section: "trend_latency", name: "truth_p99_us", count: num(l.Truth.P99), first: l.At},
			csvLine{section: "trend_latency", name: "shadow_p99_us", count: num(l.Shadow.P99), first: l.At})
	}
	for _, t := range r.TopItems {
		ls = append(ls, csvLine{section: "top_item", name: t.Class.String(), count: num(t.Findings), units: num(t.Units), key: keyOfItem(t)})
	}
	return ls
}
