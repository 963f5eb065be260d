package comparator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Format is how a result is rendered.
type Format uint8

// The formats. The zero value is a table, for people.
const (
	FormatTable Format = iota
	FormatJSON
	FormatCSV
	// FormatHTML is a page of its own, for a report only.
	FormatHTML
)

// ParseFormat reads a format by its name.
func ParseFormat(name string) (Format, error) {
	switch name {
	case "table", "":
		return FormatTable, nil
	case "json":
		return FormatJSON, nil
	case "csv":
		return FormatCSV, nil
	default:
		return FormatTable, &backends.FieldError{Field: "format", Value: fmt.Sprintf("%q", clip(name, 40)), Bound: "table, json or csv", Next: "choose one of them"}
	}
}

// ParseReportFormat reads a format of a report by its name.
func ParseReportFormat(name string) (Format, error) {
	if name == "html" {
		return FormatHTML, nil
	}
	f, err := ParseFormat(name)
	var fe *backends.FieldError
	if errors.As(err, &fe) {
		fe.Bound = "table, json, csv or html"
	}
	return f, err
}

// tableWidth is what a table keeps to.
const tableWidth = 100

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// page collects the lines of a table.
type page struct{ b strings.Builder }

func (p *page) line(format string, args ...any) {
	p.b.WriteString(strings.TrimRight(plain(fmt.Sprintf(format, args...)), " "))
	p.b.WriteByte('\n')
}

// text writes s wrapped, all lines behind indent.
func (p *page) text(indent, s string) {
	for _, l := range wrap(s, tableWidth-len(indent), "") {
		p.line("%s%s", indent, l)
	}
}

// item writes s wrapped behind a mark; further lines are indented as much.
func (p *page) item(mark, s string) {
	pad := strings.Repeat(" ", utf8.RuneCountInString(mark))
	for i, l := range wrap(plain(s), tableWidth-len(pad), "") {
		if i == 0 {
			p.line("%s%s", mark, l)
		} else {
			p.line("%s%s", pad, l)
		}
	}
}

func (p *page) head(format string, args ...any) {
	p.line("")
	p.line(format, args...)
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// micros writes microseconds in the unit that people read best.
func micros(us int64) string {
	switch {
	case us >= 1_000_000:
		return fmt.Sprintf("%.1f s", float64(us)/1e6)
	case us >= 1000:
		return fmt.Sprintf("%.1f ms", float64(us)/1e3)
	default:
		return fmt.Sprintf("%d µs", us)
	}
}

// Write renders the report.
func (r *Report) Write(w io.Writer, f Format) error {
	if f == FormatHTML {
		return r.html(w)
	}
	return render(w, f, r, r.csv, r.table)
}

// render writes v as JSON, by csv, or, in any other format, as table has it for people.
func render(w io.Writer, f Format, v any, csv func(io.Writer) error, table func() string) error {
	switch f {
	case FormatJSON:
		return writeJSON(w, v)
	case FormatCSV:
		return csv(w)
	default:
		_, err := io.WriteString(w, table())
		return err
	}
}

func (r *Report) table() string {
	var p page
	p.line("Mismatch report of pod %q, %s", r.Pod, clock(r.GeneratedAt))
	truth := backends.SideUnknown
	if r.Stage != backends.StageUnknown {
		truth = r.Stage.Truth()
	}
	span := "all decisions that are kept"
	if r.Since != nil {
		span = "decisions since " + clock(*r.Since)
	}
	if r.Stage.Dual() {
		p.line("stage %s, epoch %d: %s decides (truth), %s follows and is compared (shadow)", r.Stage, r.Epoch, truth, truth.Other())
	} else {
		p.line("stage %s, epoch %d: %s decides alone", r.Stage, r.Epoch, truth)
	}
	p.line("%s", span)
	p.item(fmt.Sprintf("VERDICT  %s: ", strings.ToUpper(string(r.Verdict.State))), r.Verdict.Why)
	r.parityTable(&p)
	r.readinessTable(&p)
	r.findingTable(&p)
	r.excuseTable(&p)
	r.sideTable(&p)
	p.head("WHAT TO DO NEXT")
	for i, s := range r.Next {
		p.item(fmt.Sprintf("  %d. ", i+1), s)
	}
	return p.b.String()
}

func (r *Report) parityTable(p *page) {
	c := r.Coverage
	if r.Parity.Compared == 0 {
		p.head("PARITY  not known: 0 of %s were compared", count(r.Parity.Decisions, "decision"))
	} else {
		p.head("PARITY  %s of the decisions compared agree: %s of %s", percent(r.Parity.Agreed, r.Parity.Compared), group(r.Parity.Agreed), group(r.Parity.Compared))
		p.line("        %s of all decisions were compared: %s of %s", percent(r.Parity.Compared, r.Parity.Decisions), group(r.Parity.Compared), group(r.Parity.Decisions))
	}
	p.head("COVERAGE: each decision (a reserve granted or refused by the truth) is in exactly one line")
	for _, col := range Columns() {
		p.line("  %-13s %14s %10s  %s", col, group(c.Of(col)), percent(c.Of(col), c.Decisions), clip(col.Meaning(), tableWidth-43))
	}
	sum := "= the sum of the lines above"
	if c.Check() != nil {
		sum = fmt.Sprintf("BUT THE LINES ADD UP TO %s", group(c.Sum()))
	}
	p.line("  %-13s %14s %10s  %s", "decisions", group(c.Decisions), "", sum)
	if len(r.UndeterminedWhy) > 0 && c.Undetermined > 0 {
		var why []string
		for k, n := range r.UndeterminedWhy {
			why = append(why, fmt.Sprintf("%s %s", k, group(n)))
		}
		slices.Sort(why)
		p.item("  undetermined since this proxy started, by cause: ", strings.Join(why, ", "))
	}
}

func (r *Report) findingTable(p *page) {
	p.head("FINDINGS: differences that no order of the overlapping operations explains")
	if len(r.Classes) == 0 {
		p.line("  none")
	} else {
		p.line("  %-15s %8s %12s %10s %13s %8s %11s %13s", "class", "open", "open units", "repaired", "acknowledged", "excused", "explained*", "undetermined*")
		for _, c := range r.Classes {
			p.line("  %-15s %8s %12s %10s %13s %8s %11s %13s", c.Class, group(c.Open), group(c.OpenUnits), group(c.Repaired), group(c.Acknowledged), group(c.Excused), group(c.Explained), group(c.Undetermined))
			p.item("      ", c.Meaning)
		}
		p.line("  * kept with their proof; the coverage above counts all of them")
	}
	if len(r.Findings) > 0 {
		r.topTable(p)
		p.head("LAST FINDINGS (%d shown, %s open in all)", min(len(r.Findings), maxTableFindings), group(r.Open))
		for i := range r.Findings[:min(len(r.Findings), maxTableFindings)] {
			findingLines(p, &r.Findings[i])
		}
	}
}

func (r *Report) topTable(p *page) {
	if len(r.TopItems) == 0 {
		return
	}
	p.head("ITEMS with the most units in confirmed findings")
	for _, t := range r.TopItems {
		p.item("  ", fmt.Sprintf("%s/%s: %s in %s, the gravest of class %s", t.Shop, t.Item, count(t.Units, "unit"), count(t.Findings, "finding"), t.Class))
	}
}

// findingLines writes one finding in a few lines.
func findingLines(p *page, f *Finding) {
	subject := "level"
	if f.Hold != "" {
		subject = fmt.Sprintf("hold %q", f.Hold)
	}
	p.item("  ", fmt.Sprintf("%s  %s, %s, %s, %s, found by %s, seen %s, last %s", f.ID, f.Class, f.harm(), f.state(), subject, f.Source, times(f.Count), clock(f.LastSeen)))
	const most = 3
	for i, u := range f.Units {
		if i == most {
			p.line("      and %s more", count(int64(len(f.Units)-most), "key"))
			break
		}
		p.item("      ", fmt.Sprintf("%s: %s", u.Key, count(u.Quantity, "unit")))
	}
	if f.Diff != "" {
		p.line("      truth → shadow")
		for i, l := range strings.Split(f.Diff, "\n") {
			if i == 2*most {
				p.line("        …")
				break
			}
			p.item("        ", l)
		}
	}
	if f.Proof != "" {
		p.item("      why: ", clip(f.Proof, 3*tableWidth))
	}
	if f.By != "" {
		p.item("      ", fmt.Sprintf("%s by %s: %s", f.Life, f.By, clip(f.Why, 2*tableWidth)))
	}
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return group(n) + " times"
}

// sideTable writes what else there is to know: outbox, debt, apologies, latencies, problems.
func (r *Report) sideTable(p *page) {
	p.head("OUTBOX, DEBT, APOLOGIES")
	switch o := r.Outbox; {
	case o == nil:
		p.line("  outbox      not known")
	case o.Entries == 0:
		p.line("  outbox      empty: the shadow has everything that the truth has decided")
	default:
		p.line("  outbox      %s waiting for the shadow, the oldest for %s", plural(o.Entries, "entry", "entries"), micros(o.OldestMillis*1000))
	}
	if r.Outbox != nil && r.Outbox.Lost {
		p.line("  outbox      LOST: %s dropped, the shadow is not complete", plural(r.Outbox.Dropped, "entry", "entries"))
	}
	p.line("  debt        %s promised by a store that does not have them", count(r.DebtUnits, "unit"))
	for _, d := range r.Debt {
		p.item("              ", fmt.Sprintf("%s %s: %s", d.Store, d.Key, count(d.Units, "unit")))
	}
	acked := ""
	if r.ApologiesAcked > 0 {
		acked = "; " + group(r.ApologiesAcked) + " more acknowledged"
	}
	p.line("  apologies   %s, %s sold without stock behind them%s", count(int64(r.ApologyCount), "promise"), count(r.ApologyUnits, "unit"), acked)
	for _, a := range r.Apologies {
		p.item("              ", fmt.Sprintf("hold %q, %s: %s (%s)", a.Hold, a.Key, count(a.Quantity, "unit"), a.Reason))
	}
	p.head("AUDIT of all holds and levels")
	for _, l := range r.Audit.Lines() {
		p.item("  ", l)
	}
	p.head("LATENCY of decisions, %s", r.LatencyOf)
	p.line("  %-8s %12s %10s %10s %10s %10s", "", "decisions", "p50", "p95", "p99", "max")
	for _, l := range []struct {
		name string
		Latency
	}{{"truth", r.TruthLatency}, {"shadow", r.ShadowLatency}} {
		if l.Count == 0 {
			p.line("  %-8s %12s", l.name, "0")
			continue
		}
		p.line("  %-8s %12s %10s %10s %10s %10s", l.name, group(l.Count), micros(l.P50), micros(l.P95), micros(l.P99), micros(l.Max))
	}
	if len(r.Problems) > 0 {
		p.head("PROBLEMS of this report")
		for _, s := range r.Problems {
			p.item("  - ", s)
		}
	}
}
