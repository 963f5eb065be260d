package comparator_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

func htmlOf(t *testing.T, in comparator.ReportInput) string {
	t.Helper()
	r, err := comparator.BuildReport(in)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.Write(&b, comparator.FormatHTML); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The page is one file: it has everything in it, and asks for nothing.
func TestPageIsSelfContained(t *testing.T) {
	page := htmlOf(t, badReport())
	for _, never := range []string{"http://", "https://", "<script", " src=", "@import", "javascript:"} {
		if strings.Contains(page, never) {
			t.Errorf("it has %q in it", never)
		}
	}
	for _, m := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(m[1], "#") && m[1] != "data:," {
			t.Errorf("it leads to %q", m[1])
		}
	}
	for _, want := range []string{"Content-Security-Policy", "prefers-color-scheme: dark", `<html lang="en">`, "Do not advance this pod", "2 findings are open",
		"class=\"chart wide\"", "class=\"chart thin\"", "acknowledged", "units at risk of oversell", "warehouse-1"} {
		if !strings.Contains(page, want) {
			t.Errorf("it lacks %q", want)
		}
	}
}

// A page has room for so many findings; it says where the rest is.
func TestPageNamesTheRest(t *testing.T) {
	in := badReport()
	few := len(in.Findings)
	in.Findings, in.Summary = nil, []comparator.ClassSummary{{Class: comparator.LevelDrift, Life: comparator.LifeOpen, Findings: 103, Units: 103}}
	for i := range 103 {
		f := badReport().Findings[i%few]
		f.ID, f.Life = fmt.Sprintf("%032x", i), comparator.LifeOpen
		in.Findings = append(in.Findings, f)
	}
	page := htmlOf(t, in)
	if n := strings.Count(page, `<article id="finding-`); n != 100 {
		t.Errorf("%d findings are shown", n)
	}
	want := fmt.Sprintf("3 findings more, not on this page: <code>crossfade findings %s --state open,repaired,acknowledged --all</code>", in.Pod)
	if !strings.Contains(page, want) {
		t.Errorf("it lacks %q", want)
	}
	if page := htmlOf(t, badReport()); strings.Contains(page, "not on this page") && few < 100 {
		t.Error("a page that has all says that there are more")
	}
}

// Each finding, stratum and class can be linked to by its id, and every link leads somewhere.
func TestPageHasDeepLinks(t *testing.T) {
	in := badReport()
	page := htmlOf(t, in)
	var want []string
	for i := range in.Findings {
		if in.Findings[i].Life.Confirmed() {
			want = append(want, "finding-"+in.Findings[i].ID)
		}
	}
	for _, s := range comparator.Strata() {
		want = append(want, "stratum-"+s.String())
	}
	want = append(want, "class-oversell_risk", "class-level_drift", "next", "readiness", "parity", "divergence", "latency", "items", "findings", "owed")
	for _, id := range want {
		if strings.Count(page, `id="`+id+`"`) != 1 {
			t.Errorf("%d elements have the id %s", strings.Count(page, `id="`+id+`"`), id)
		}
	}
	for _, m := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(page, `id="`+m[1]+`"`) {
			t.Errorf("a link leads to %s, which is not there", m[1])
		}
	}
}

// Whatever callers put into identifiers and texts is shown as text.
func TestPageEscapesWhatCallersWrote(t *testing.T) {
	const worst = `"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;{{.Pod}}`
	in := badReport()
	in.Pod = backends.Pod(`<b>pod</b>`)
	for i := range in.Findings {
		f := &in.Findings[i]
		k := backends.Key{Shop: worst, Item: worst, Location: worst}
		f.Hold, f.Caller, f.TraceID, f.By, f.Why, f.Excuse, f.Proof, f.Source = worst, worst, worst, worst, worst, worst, worst, worst
		f.Units = []backends.Units{{Key: k, Quantity: 1}}
		f.Diff = "outcome" + worst + ": " + worst + " → " + worst + "\n" + worst
		f.Truth.Answer = &comparator.Answer{Outcome: granted, Seen: f.Units, Allocs: []backends.Allocation{{Location: worst, Quantity: 1}}}
		f.Shadow.Answer = &comparator.Answer{Outcome: soldOut, Short: []backends.Shortage{{Item: worst, Wanted: 1}}}
		f.Order = []comparator.EntryRef{{Seq: worst, Op: backends.OpReserve, Hold: worst, Keys: []backends.Key{k}}}
		f.History = []comparator.LifeEvent{{By: worst, Why: worst}}
	}
	in.Problems = []string{worst}
	in.Debt[0].Key.Item, in.Apologies[0].Hold, in.Apologies[0].Reason = worst, worst, worst
	in.Excuses[0].Name, in.Excuses[0].Why, in.Excuses[0].Owner, in.Excuses[0].Items = worst, worst, worst, []backends.Item{worst}
	in.Undetermined = map[string]int64{worst: 3}
	page := htmlOf(t, in)
	for _, never := range []string{"<script", "<img", "<b>"} {
		if n := strings.Count(page, never); n > 0 {
			t.Errorf("%d times %q", n, never)
		}
	}
	if strings.Count(page, "&lt;script&gt;alert(1)&lt;/script&gt;") < 20 {
		t.Error("what callers wrote is not shown")
	}
}

// The charts are well-formed, and of numbers that fit into them.
func TestChartsAreWellFormed(t *testing.T) {
	odd := badReport()
	odd.Trend.Coverage[3].Settling, odd.Trend.Coverage[3].Matched = -50, -7 // changes within a step may be negative
	one := goodReport()
	one.Trend.Coverage[0].At = noon
	for name, in := range map[string]comparator.ReportInput{"bad": badReport(), "good": goodReport(), "negative": odd, "one step": one} {
		charts := regexp.MustCompile(`(?s)<svg class="chart.*?</svg>`).FindAllString(htmlOf(t, in), -1)
		if len(charts) == 0 || len(charts)%2 != 0 {
			t.Errorf("%s: %d drawings", name, len(charts))
		}
		for _, svg := range charts {
			d := xml.NewDecoder(strings.NewReader(svg))
			for {
				tok, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%s: %v\n%s", name, err, svg)
				}
				if e, ok := tok.(xml.StartElement); ok {
					checkPlace(t, e)
				}
			}
		}
	}
}

// checkPlace: everything is drawn inside the drawing.
func checkPlace(t *testing.T, e xml.StartElement) {
	t.Helper()
	for _, a := range e.Attr {
		switch a.Name.Local {
		case "x", "y", "x1", "x2", "y1", "y2", "width", "height":
			var v float64
			if _, err := fmt.Sscan(a.Value, &v); err != nil || v < 0 || v > 960 {
				t.Errorf("<%s %s=%q>", e.Name.Local, a.Name.Local, a.Value)
			}
		}
	}
}

// audited is a row of a pod in live at epoch 8, audited once a day.
func audited(row *comparator.AuditRow) *comparator.AuditReport {
	return comparator.NewAuditReport(row, 24*time.Hour, backends.Live, 8, noon)
}

// Where nobody knows of audits the page says so, and where one is under way how far it is.
func TestPageTellsOfAudits(t *testing.T) {
	in := goodReport()
	for want, a := range map[string]*comparator.AuditReport{
		"Not known.": nil, "None is complete yet.": audited(&comparator.AuditRow{}), "1,000,000 holds": in.Audit,
		"waits to be gone on with, at the levels of the truth": audited(&comparator.AuditRow{Begun: time.Minute, State: &comparator.AuditState{Phase: 2}}),
		"is with proxy-2, at the beginning":                    audited(&comparator.AuditRow{Begun: time.Minute, Lease: time.Second, Holder: "proxy-2"}),
	} {
		in.Audit = a
		if page := htmlOf(t, in); !strings.Contains(page, want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

func TestVerdictOfAReport(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*comparator.ReportInput)
		want   comparator.ReportState
	}{
		{"enough", func(*comparator.ReportInput) {}, comparator.ReportGo},
		{"an open finding", func(in *comparator.ReportInput) {
			in.Summary = []comparator.ClassSummary{{Class: comparator.LevelDrift, Life: comparator.LifeOpen, Findings: 1}}
		}, comparator.ReportStop},
		{"an acknowledged one", func(in *comparator.ReportInput) {
			in.Summary = []comparator.ClassSummary{{Class: comparator.LevelDrift, Life: comparator.LifeAcknowledged, Findings: 1}}
		}, comparator.ReportGo},
		{"an account out of balance", func(in *comparator.ReportInput) { in.Coverage.Matched-- }, comparator.ReportStop},
		{"a shadow that is not complete", func(in *comparator.ReportInput) { in.Outbox.Lost = true }, comparator.ReportStop},
		{"debt", func(in *comparator.ReportInput) { in.Debt = []comparator.DebtLine{{Store: "mysql", Units: 1}} }, comparator.ReportStop},
		{"something unread", func(in *comparator.ReportInput) { in.Incomplete = true }, comparator.ReportUnsure},
		{"no evidence", func(in *comparator.ReportInput) { in.Tallies = nil }, comparator.ReportWait},
		{"most decisions sampled out", func(in *comparator.ReportInput) {
			in.Coverage.Decisions, in.Coverage.SampledOut = 2000, 1000
		}, comparator.ReportWait},
		{"no complete audit", func(in *comparator.ReportInput) { in.Audit = audited(&comparator.AuditRow{}) }, comparator.ReportWait},
		{"an audit of another epoch", func(in *comparator.ReportInput) {
			in.Audit = audited(&comparator.AuditRow{Last: &comparator.AuditResult{Stage: backends.Live, Epoch: 7}, LastBegun: time.Hour})
		}, comparator.ReportWait},
		{"an audit of the day before yesterday", func(in *comparator.ReportInput) {
			in.Audit = audited(&comparator.AuditRow{Last: &comparator.AuditResult{Stage: backends.Live, Epoch: 8}, LastBegun: 49 * time.Hour})
		}, comparator.ReportWait},
		{"an audit of today that left something open", func(in *comparator.ReportInput) {
			in.Audit = audited(&comparator.AuditRow{Last: &comparator.AuditResult{Stage: backends.Live, Epoch: 8, UndeterminedTotal: 2}, LastBegun: time.Hour})
		}, comparator.ReportGo},
		{"nobody knows of audits", func(in *comparator.ReportInput) { in.Audit = nil }, comparator.ReportGo},
		{"no shadow", func(in *comparator.ReportInput) { in.Stage = backends.MySQLOnly }, comparator.ReportNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := goodReport()
			c.change(&in)
			r, _ := comparator.BuildReport(in) // an account out of balance is in the verdict
			if r.Verdict.State != c.want || r.Verdict.Why == "" {
				t.Errorf("%+v, want %s", r.Verdict, c.want)
			}
			if len(r.Next) == 0 {
				t.Error("it does not say what to do")
			}
		})
	}
}

func TestReportFormats(t *testing.T) {
	if f, err := comparator.ParseReportFormat("html"); f != comparator.FormatHTML || err != nil {
		t.Errorf("%v %v", f, err)
	}
	if f, err := comparator.ParseReportFormat("csv"); f != comparator.FormatCSV || err != nil {
		t.Errorf("%v %v", f, err)
	}
	if _, err := comparator.ParseReportFormat("xml"); err == nil || !strings.Contains(err.Error(), "html") {
		t.Errorf("%v", err)
	}
}
