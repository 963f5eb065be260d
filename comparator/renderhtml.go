package comparator

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

//go:embed report.html.tmpl
var reportText string

// reportPage is the report as HTML. Whatever a finding holds was written by callers: the template
// escapes all of it, and nothing but the charts, which hold none of it, is passed by.
var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"group": group, "count": count, "clock": clock, "micros": micros, "percent": percentOf, "times": times, "day": day,
	"item":     func(t ItemUnits) string { return string(t.Shop) + "/" + string(t.Item) },
	"sentence": sentence,
	"millis":   func(ms int64) string { return micros(ms * 1000) },
	"upper": func(s any) string {
		return strings.ToUpper(fmt.Sprint(s))
	},
	"seq": func(n int) []int {
		out := make([]int, n)
		for i := range out {
			out[i] = i
		}
		return out
	},
}).Parse(reportText))

// htmlPage is what the template gets.
type htmlPage struct {
	*Report
	Span      string
	Roles     string
	Headline  string
	Columns   []htmlColumn
	Balanced  bool
	NotSeen   string
	Why       string // of undetermined decisions, by cause
	Figures   map[string]figure
	Strata    []htmlStratum
	Shown     []htmlFinding
	More      int64 // confirmed findings that are not shown
	Latencies []htmlLatency
	Styles    int
}

type htmlColumn struct {
	Name, Meaning, Share string
	N                    int64
}

type htmlStratum struct {
	*StratumReport
	AtMost, Resampled, GoalText string
}

type htmlLatency struct {
	Name string
	Latency
}

type htmlFinding struct {
	FindingDetail
	State, Harm, About string
	Changes            []htmlChange
	TruthSaid          []string
	ShadowSaid         []string
	Times              []htmlEvent
}

// htmlChange is one field that differs.
type htmlChange struct{ Field, Truth, Shadow string }

type htmlEvent struct{ When, What string }

func (r *Report) html(w io.Writer) error {
	p := htmlPage{Report: r, Span: "all decisions that are kept", Balanced: r.Coverage.Check() == nil, Figures: map[string]figure{}, Styles: maxStyles}
	if r.Since != nil {
		p.Span = "decisions since " + clock(*r.Since)
	}
	p.Roles = fmt.Sprintf("%s decides alone", r.Truth)
	if r.Stage.Dual() {
		p.Roles = fmt.Sprintf("%s decides (truth), %s follows and is compared (shadow)", r.Truth, r.Stage.Truth().Other())
	}
	if r.Readiness.NotSeen > 0 {
		p.NotSeen = r.notSeen()
	}
	p.Headline = headlines[r.Verdict.State]
	for _, c := range Columns() {
		p.Columns = append(p.Columns, htmlColumn{c.String(), c.Meaning(), percentOf(r.Coverage.Of(c), r.Coverage.Decisions), r.Coverage.Of(c)})
	}
	var why []string
	for k, n := range r.UndeterminedWhy {
		why = append(why, fmt.Sprintf("%s %s", k, group(n)))
	}
	slices.Sort(why)
	p.Why = strings.Join(why, ", ")
	for _, f := range r.figures() {
		p.Figures[f.ID] = f
	}
	for i := range r.Readiness.Strata {
		s := &r.Readiness.Strata[i]
		p.Strata = append(p.Strata, htmlStratum{s, s.atMost(), s.resampled(), s.goalText()})
	}
	for i := range r.Findings {
		p.Shown = append(p.Shown, showFinding(r.Findings[i]))
	}
	for i := range r.Classes {
		p.More += r.Classes[i].Open + r.Classes[i].Repaired + r.Classes[i].Acknowledged
	}
	p.More = max(0, p.More-int64(len(p.Shown)))
	p.Latencies = []htmlLatency{{"truth", r.TruthLatency}, {"shadow", r.ShadowLatency}}
	return reportPage.Execute(w, &p)
}

// sentence makes one of a text that was written to stand anywhere.
func sentence(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return ""
	}
	return string(unicode.ToUpper(r)) + s[n:] + "."
}

var headlines = map[ReportState]string{
	ReportStop:   "Do not advance this pod",
	ReportWait:   "Not yet: there is too little evidence",
	ReportGo:     "The evidence is enough",
	ReportUnsure: "Not known: something could not be read",
	ReportNone:   "Nothing is compared in this stage",
}

func showFinding(f Finding) htmlFinding {
	d := Detail(f)
	h := htmlFinding{FindingDetail: d, State: f.state(), Harm: f.harm(), About: f.subject(), TruthSaid: f.Truth.lines(), ShadowSaid: f.Shadow.lines()}
	for _, l := range strings.Split(f.Diff, "\n") {
		if l != "" {
			h.Changes = append(h.Changes, changeOf(l))
		}
	}
	h.Times = timesOf(&f)
	return h
}

// changeOf takes a line of Diff apart. No identifier has an arrow in it; a line that was cut off may
// have none.
func changeOf(line string) htmlChange {
	before, shadow, arrow := strings.Cut(line, " → ")
	i := strings.LastIndex(before, ": ")
	if !arrow || i < 0 {
		return htmlChange{Field: line}
	}
	return htmlChange{before[:i], before[i+2:], shadow}
}

// timesOf is the finding's timeline: what was on its way, its sights, and every change of its life.
func timesOf(f *Finding) []htmlEvent {
	at := func(t time.Time) string { return clock(t) }
	out := []htmlEvent{{at(f.FirstSeen), "first seen, found by " + f.Source}}
	for _, e := range f.Order {
		out = append(out, htmlEvent{"then on its way", fmt.Sprintf("entry %s, %s of %s%s", e.Seq, e.Op, holdOr(e.Hold), keysText(e.Keys))})
	}
	told := false
	seen := func() { out = append(out, htmlEvent{at(f.LastSeen), "last seen, " + times(f.Count) + " in all"}) }
	for i, e := range f.History {
		if !told && e.At.After(f.LastSeen) {
			seen()
			told = true
		}
		out = append(out, htmlEvent{at(e.At), fmt.Sprintf("%s (%s, seen %s)", e.text(), count(e.Units, "unit"), times(e.Sights))})
		if i == 0 && f.HistoryDropped > 0 {
			out = append(out, htmlEvent{"…", plural(f.HistoryDropped, "change is left out", "changes are left out")})
		}
	}
	if !told {
		seen()
	}
	return out
}
