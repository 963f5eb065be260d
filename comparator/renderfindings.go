package comparator

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// FindingList is a list of findings as people and scripts get it.
type FindingList struct {
	Pod backends.Pod `json:"pod"`
	// Asked says in words what was asked for.
	Asked    string    `json:"asked"`
	Findings []Finding `json:"findings"`
	// Next is what to give as --after for what comes behind; empty when this is all.
	Next string `json:"next"`
}

// Write renders the list.
func (l *FindingList) Write(w io.Writer, f Format) error {
	csv := func(w io.Writer) error { return writeCSV(w, findingsCSV(l.Findings)) }
	return render(w, f, l, csv, l.table)
}

func (l *FindingList) table() string {
	var p page
	p.item("", fmt.Sprintf("Findings of pod %q, %s: %s", l.Pod, l.Asked, count(int64(len(l.Findings)), "finding")))
	for i := range l.Findings {
		f := &l.Findings[i]
		p.line("")
		p.line("  %s  %s, %s, %s", f.ID, f.Class, f.state(), f.harm())
		p.item("      ", fmt.Sprintf("%s; found by %s, seen %s, last %s", f.subject(), f.Source, times(f.Count), clock(f.LastSeen)))
		if n := len(f.History); n > 0 {
			p.item("      ", f.History[n-1].text())
		}
	}
	if len(l.Findings) > 0 {
		p.line("")
		p.line("All of one:  crossfade findings show %s <id>", l.Pod)
	}
	if l.Next != "" {
		p.line("There are more:  --after %s, or --all", l.Next)
	}
	return p.b.String()
}

// state is the finding's life, with the excuse that covers it.
func (f *Finding) state() string {
	if f.Life == LifeExcused {
		return fmt.Sprintf("%s (%s)", f.Life, f.Excuse)
	}
	return f.Life.String()
}

// harm is the severity in shop terms of a confirmed finding, and otherwise the units.
func (f *Finding) harm() string {
	if f.Life.Confirmed() {
		if s := f.Class.severity(f.TotalUnits); s != "" {
			return s
		}
	}
	return count(f.TotalUnits, "unit")
}

// subject says in a line what the finding is about.
func (f *Finding) subject() string {
	var parts []string
	if f.Hold != "" {
		parts = append(parts, fmt.Sprintf("hold %q", f.Hold))
	}
	switch n := len(f.Units); {
	case n == 0 && f.Shop != "":
		parts = append(parts, fmt.Sprintf("shop %q", f.Shop))
	case n == 1:
		parts = append(parts, f.Units[0].Key.String())
	case n > 1:
		parts = append(parts, fmt.Sprintf("%s and %s more", f.Units[0].Key, count(int64(n-1), "key")))
	}
	if len(parts) == 0 {
		return "the pod"
	}
	return strings.Join(parts, ", ")
}

// text is one line of a history.
func (e LifeEvent) text() string {
	if e.By == "" {
		return fmt.Sprintf("%s → %s: %s", e.From, e.To, e.Why)
	}
	return fmt.Sprintf("%s → %s by %s: %s", e.From, e.To, e.By, e.Why)
}

// FindingDetail is one finding with what its class means.
type FindingDetail struct {
	Finding
	Meaning string   `json:"meaning"`
	Next    []string `json:"next"`
}

// Detail adds to a finding what it means and what to do.
func Detail(f Finding) FindingDetail {
	d := FindingDetail{Finding: f, Meaning: f.Class.Meaning()}
	cmd := func(verb string) string {
		return fmt.Sprintf("crossfade findings %s %s %s --why …", verb, f.Pod, f.ID)
	}
	switch f.Life {
	case LifeOpen:
		d.Next = []string{f.Class.Next(), "when you know why, and it is mended or does no harm: " + cmd("ack")}
	case LifeUndetermined:
		d.Next = []string{"nothing: it counts neither for nor against; many of them say that the shadow lags too far to be judged"}
	case LifeExcused:
		d.Next = []string{fmt.Sprintf("nothing, as long as the excuse %s is right: when it has run out, or is taken out of its file, the next sight is open", f.Excuse)}
	case LifeExplained:
		d.Next = []string{"nothing: concurrency explains it, as the proof says"}
	default:
		d.Next = []string{"nothing, until it is seen again: then it is open by itself. To open it by hand: " + cmd("reopen")}
	}
	return d
}

// Write renders the finding. It is one line for each key in CSV.
func (d *FindingDetail) Write(w io.Writer, f Format) error {
	csv := func(w io.Writer) error { return writeCSV(w, findingsCSV([]Finding{d.Finding})) }
	return render(w, f, d, csv, d.table)
}

func (d *FindingDetail) table() string {
	var p page
	p.line("Finding %s of pod %q", d.ID, d.Pod)
	p.item("", fmt.Sprintf("%s, %s, %s: %s", d.Class, d.state(), d.harm(), d.Meaning))
	p.head("WHAT IT IS ABOUT")
	p.item("  ", fmt.Sprintf("%s; found by %s in stage %s, epoch %d%s", d.subject(), d.Source, d.Stage, d.Epoch, d.origin()))
	for _, u := range d.Units {
		p.item("    ", fmt.Sprintf("%s: %s", u.Key, count(u.Quantity, "unit")))
	}
	if len(d.Units) == MaxFindingUnits {
		p.line("    (at most %d keys are listed; the total counts all)", MaxFindingUnits)
	}
	if d.TruthLatencyUS > 0 || d.ShadowLatencyUS > 0 {
		p.item("  ", fmt.Sprintf("decided in %s by the truth, in %s by the shadow", latencyText(d.TruthLatencyUS), latencyText(d.ShadowLatencyUS)))
	}
	p.head("DIFFERENCE, truth → shadow")
	if d.Diff == "" {
		p.line("  no field differs")
	}
	for l := range strings.Lines(d.Diff) {
		p.item("  ", strings.TrimSuffix(l, "\n"))
	}
	p.head("EVIDENCE")
	p.item("  ", d.Proof)
	for _, f := range []struct {
		name string
		Facts
	}{{"truth", d.Truth}, {"shadow", d.Shadow}} {
		for _, l := range f.lines() {
			p.item(fmt.Sprintf("  %-8s", f.name), l)
		}
	}
	for _, e := range d.Order {
		p.item("  waiting then: ", fmt.Sprintf("entry %s, %s of %s%s", e.Seq, e.Op, holdOr(e.Hold), keysText(e.Keys)))
	}
	d.timeline(&p)
	p.head("WHAT TO DO NEXT")
	for i, s := range d.Next {
		p.item(fmt.Sprintf("  %d. ", i+1), s)
	}
	return p.b.String()
}

func (d *FindingDetail) origin() string {
	s := ""
	if d.Caller != "" {
		s += ", caller " + d.Caller
	}
	if d.Excuse != "" && d.Life != LifeExcused {
		s += ", covered by the excuse " + d.Excuse
	}
	if d.TraceID != "" {
		s += ", trace " + d.TraceID
	}
	return s
}

func latencyText(us int64) string {
	if us == 0 {
		return "an unknown time"
	}
	return micros(us)
}

func holdOr(h backends.HoldID) string {
	if h == "" {
		return "a level"
	}
	return fmt.Sprintf("hold %q", h)
}

func keysText(ks []backends.Key) string {
	if len(ks) == 0 {
		return ""
	}
	parts := make([]string, len(ks))
	for i, k := range ks {
		parts[i] = k.String()
	}
	return " at " + strings.Join(parts, ", ")
}

// lines spell out what one store said.
func (f Facts) lines() []string {
	var out []string
	if a := f.Answer; a != nil {
		s := a.Outcome.String()
		for _, sh := range a.Short {
			s += fmt.Sprintf("; line %d %s wants %d and has %d", sh.Line+1, sh.Item, sh.Wanted, sh.Available)
		}
		for _, al := range a.Allocs {
			s += fmt.Sprintf("; line %d: %s from %s", al.Line+1, count(al.Quantity, "unit"), al.Location)
		}
		out = append(out, s)
		if len(a.Seen) > 0 {
			var seen []string
			for _, u := range a.Seen {
				seen = append(seen, fmt.Sprintf("%s: %d", u.Key, u.Quantity))
			}
			out = append(out, "saw sellable "+strings.Join(seen, ", "))
		}
	}
	if h := f.Hold; h != nil {
		out = append(out, fmt.Sprintf("hold %q is %s, version %s, expires %s", h.ID, h.State, h.Version, clock(time.UnixMilli(int64(h.ExpiresAt)))))
	}
	if l := f.Level; l != nil {
		out = append(out, fmt.Sprintf("level of %s: sellable %d, on hand %d, held %d, taken %d", l.Key, l.Sellable(), l.OnHand, l.Held, l.Taken))
	}
	return out
}

// timeline lists the sights and every change of the life.
func (d *FindingDetail) timeline(p *page) {
	p.head("TIMELINE")
	p.line("  %s  first seen", clock(d.FirstSeen))
	seen := func() { p.line("  %s  last seen, %s in all", clock(d.LastSeen), times(d.Count)) }
	told := false
	for i, e := range d.History {
		if !told && e.At.After(d.LastSeen) {
			seen()
			told = true
		}
		p.item("  "+clock(e.At)+"  ", fmt.Sprintf("%s (%s, seen %s)", e.text(), count(e.Units, "unit"), times(e.Sights)))
		if i == 0 && d.HistoryDropped > 0 {
			p.line("  … %s left out", plural(d.HistoryDropped, "change is", "changes are"))
		}
	}
	if !told {
		seen()
	}
}

// MovedFindings is what became of a change by hand.
type MovedFindings struct {
	Pod      backends.Pod   `json:"pod"`
	To       Life           `json:"to"`
	Changed  int            `json:"changed"`
	Findings []MovedFinding `json:"findings"`
}

// MovedFinding is one of them in short.
type MovedFinding struct {
	ID      string `json:"id"`
	Class   Class  `json:"class"`
	State   Life   `json:"state"`
	Units   int64  `json:"units"`
	By      string `json:"by"`
	Why     string `json:"why"`
	Changed bool   `json:"changed"`
}

// NewMovedFindings sums a change up.
func NewMovedFindings(pod backends.Pod, to Life, ms []Moved) MovedFindings {
	out := MovedFindings{Pod: pod, To: to, Findings: []MovedFinding{}}
	for i := range ms {
		f := &ms[i].Finding
		if ms[i].Changed {
			out.Changed++
		}
		out.Findings = append(out.Findings, MovedFinding{ID: f.ID, Class: f.Class, State: f.Life, Units: f.TotalUnits, By: f.By, Why: f.Why, Changed: ms[i].Changed})
	}
	return out
}

// Write renders it as a table; other formats are JSON.
func (m *MovedFindings) Write(w io.Writer, f Format) error {
	if f != FormatTable {
		return writeJSON(w, m)
	}
	var p page
	for _, x := range m.Findings {
		switch {
		case x.Changed:
			p.item("  ", fmt.Sprintf("%s  %s, %s: %s now", x.ID, x.Class, count(x.Units, "unit"), x.State))
		case x.By != "":
			p.item("  ", fmt.Sprintf("%s  %s, %s: was %s already, by %s: %s", x.ID, x.Class, count(x.Units, "unit"), x.State, x.By, x.Why))
		default:
			p.item("  ", fmt.Sprintf("%s  %s, %s: was %s already", x.ID, x.Class, count(x.Units, "unit"), x.State))
		}
	}
	p.line("%s of pod %s changed, %s in that state before.", count(int64(m.Changed), "finding"), m.Pod, group(int64(len(m.Findings)-m.Changed)))
	_, err := io.WriteString(w, p.b.String())
	return err
}
