package comparator_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

var update = flag.Bool("update", false, "write the golden files anew")

// evidence is what so many of a stratum make of the tallies: each n decisions, of which k are findings, over
// some clusters, in the slot before noon.
func evidence(rows ...comparator.TallyRow) *comparator.Sum {
	sum := comparator.NewSum(noon, 60)
	for i := range rows {
		r := &rows[i]
		if r.Slot == 0 {
			r.Slot = comparator.SinceSlot(noon.Add(-time.Hour))
		}
		if r.Cells == nil {
			for c := range comparator.Clusters {
				r.Cells = append(r.Cells, comparator.Cell{At: c, N: r.N / comparator.Clusters})
			}
			r.Cells[0].N += r.N % comparator.Clusters
			r.Cells[7].K += r.K
		}
		if err := sum.Add(r); err != nil {
			panic(err)
		}
	}
	return sum
}

// trendOf is a day in hours: half of it with sampled probes.
func trendOf() comparator.Trend {
	t := comparator.Trend{StepMinutes: 60, Peak: 1200, Carried: 900}
	for h := range 24 {
		p := comparator.TrendPoint{At: noon.Add(time.Duration(h-24) * time.Hour), Counts: comparator.Counts{Matched: int64(30_000 + 900*h), Probed: 9_000}}
		switch {
		case h == 20:
			p.Settling, p.Explained, p.Confirmed = 3, 900, 2
		case h > 20:
			p.SampledOut, p.Undetermined, p.Excused = 30_000, 3, 2
		case h%5 == 0:
			p.Explained = 500
		}
		p.Decisions = p.Sum()
		t.Coverage = append(t.Coverage, p)
	}
	t.Findings = []comparator.FindingPoint{{At: noon.Add(-4 * time.Hour), Class: comparator.OversellRisk, Findings: 2, Units: 3}, {At: noon.Add(-time.Hour), Class: comparator.LevelDrift, Findings: 1, Units: 2}}
	return t
}

// slow is a histogram of n latencies around that many microseconds.
func slow(name string, slot int64, n, us int64) comparator.TallyRow {
	at := 16
	for v := us * 1000; v >= 32; v /= 2 {
		at += 16
	}
	return comparator.TallyRow{Slot: slot, Name: name, N: n, Cells: comparator.Cells{{At: at, N: n - n/50}, {At: at + 30, N: n / 50}}}
}

// aFinding is a confirmed one as the comparator makes it.
func aFinding(hold backends.HoldID, item string, q int64) comparator.Finding {
	k := key(item, "warehouse-1")
	f := comparator.Finding{
		Pod: "one", Epoch: 7, Stage: backends.Shadow, Class: comparator.OversellRisk, Source: "probe", Hold: hold, Shop: "s",
		Units: []backends.Units{{Key: k, Quantity: q}}, TotalUnits: q, Caller: "web",
		Diff:      "outcome: sold out → granted\nunits[" + k.String() + "]: none → 3",
		Proof:     "truth sold out, shadow would grant: the levels differ by the same amounts at two quiescent moments, shadow less truth: " + k.String() + " (sellable +2, on hand +2, taken +0);",
		FirstSeen: noon.Add(-time.Hour), LastSeen: noon.Add(-time.Minute), Count: 2, Life: comparator.LifeOpen,
	}
	f.ID = comparator.FindingID(f.Pod, f.Class, f.Hold, k)
	return f
}

func badReport() comparator.ReportInput {
	acked := aFinding("order-9", "CREAM CUPID HEARTS COAT HANGER", 1)
	acked.Life, acked.By, acked.Why = comparator.LifeAcknowledged, "ann", "known since the stock take\nof May"
	level := aFinding("", "85123A", 2)
	level.Class, level.Source, level.Count = comparator.LevelDrift, "audit", 1
	for _, loc := range []string{"a", "b", "c", "d"} {
		level.Units = append(level.Units, units(1, "85123A", loc))
	}
	explained := aFinding("order-3", "85123A", 1)
	explained.Life = comparator.LifeExplained
	return comparator.ReportInput{
		Pod: "one", Stage: backends.Shadow, Epoch: 7, GeneratedAt: noon, Since: noon.Add(-24 * time.Hour),
		Coverage: comparator.Coverage{Pod: "one", Decisions: 1_234_567, Counts: comparator.Counts{
			Pending: 12, Matched: 900_000, Probed: 200_000, Settling: 3, Explained: 4_000, Confirmed: 2, Excused: 5, SampledOut: 130_535, Undetermined: 9, Lost: 1}},
		Summary: []comparator.ClassSummary{
			{Class: comparator.LevelDrift, Life: comparator.LifeOpen, Findings: 1, Units: 2},
			{Class: comparator.OversellRisk, Life: comparator.LifeOpen, Findings: 1, Units: 2},
			{Class: comparator.OversellRisk, Life: comparator.LifeAcknowledged, Findings: 1, Units: 1},
			{Class: comparator.OversellRisk, Life: comparator.LifeExplained, Findings: 3_999, Units: 5_000},
			{Class: comparator.LevelDrift, Life: comparator.LifeExcused, Findings: 3, Units: 7},
			{Class: comparator.Location, Life: comparator.LifeUndetermined, Findings: 9, Units: 9},
		},
		Findings: []comparator.Finding{aFinding("order-7", "85123A", 2), explained, level, acked},
		Truth:    comparator.Latency{Count: 1_234_567, P50: 180, P95: 420, P99: 1_350, Max: 1_200_000},
		Shadow:   comparator.Latency{Count: 1_104_002, P50: 2_100, P95: 5_400, P99: 11_000, Max: 3_100_000},
		Outbox:   &backends.OutboxStats{Entries: 12, OldestMillis: 2_300, Lost: true, Dropped: 1},
		Debt: []comparator.DebtLine{{Store: "redis", Key: key("22423", "warehouse-1"), Units: 3}, {Store: "mysql", Key: key("22423", "warehouse-1"), Units: 4},
			{Store: "mysql", Key: key("85123A", "warehouse-1"), Units: 1}},
		Apologies:    []backends.Apology{{Hold: "order-5", Key: key("22423", "warehouse-1"), Quantity: 4, Reason: "claimed after it had expired; the units were sold"}},
		ApologySum:   &comparator.ApologySum{Open: 1, OpenUnits: 4, Acked: 2, AckedUnits: 3},
		Undetermined: map[string]int64{"window": 8, "queue_full": 1},
		Audit: comparator.NewAuditReport(&comparator.AuditRow{
			Pod: "one", Holder: "proxy-2", N: 9, Lease: time.Minute, Begun: 3 * time.Minute, Fails: 2, Failed: 4 * time.Minute, Failure: "reading the truth: store is unavailable",
			State: &comparator.AuditState{Phase: 1, Result: comparator.AuditResult{HoldsTruth: 24_345, HoldsShadow: 12, FindingsTotal: 1}},
			Last:  &comparator.AuditResult{Stage: backends.Shadow, Epoch: 6, HoldsTruth: 20_000, LevelsTruth: 3_684, FindingsTotal: 1, UnitsTotal: 2, UndeterminedTotal: 3}, LastBegun: 25 * time.Hour, LastEnded: 24 * time.Hour,
		}, 24*time.Hour, backends.Shadow, 7, noon),
		Excuses: comparator.Excuses{
			{Name: "recount", Owner: "ann", Why: "the shelf is being recounted", From: noon.Add(-12 * time.Hour), Until: noon.Add(12 * time.Hour), Classes: []comparator.Class{comparator.LevelDrift}, Items: []backends.Item{"85123A", "22423", "10002", "10080"}},
			{Name: "old", Owner: "bob", Why: "ticket 7", From: noon.Add(-36 * time.Hour), Until: noon.Add(-12 * time.Hour), Pods: []backends.Pod{"one"}},
			{Name: "idle", Owner: "bob", Why: "ticket 8", From: noon.Add(-12 * time.Hour), Until: noon.Add(36*time.Hour + time.Second), Callers: []string{"web"}},
			{Name: "next", Owner: "eve", Why: "the move to the new hall", From: noon.Add(12 * time.Hour), Until: noon.Add(36 * time.Hour), Shops: []backends.Shop{"s"}},
			{Name: "elsewhere", Owner: "eve", Why: "another pod's", From: noon.Add(-12 * time.Hour), Until: noon.Add(12 * time.Hour), Pods: []backends.Pod{"two"}},
		},
		ExcuseUse: []comparator.ExcuseUse{{Name: "gone", Findings: 1, Units: 2, LastSeen: noon.Add(-24 * time.Hour)}, {Name: "recount", Findings: 3, Units: 7, LastSeen: noon.Add(-time.Minute)}},
		Problems:  []string{"apologies of mysql: store is unavailable"},
		Trend:     trendOf(),
		Goals:     comparator.Goals{comparator.LateClaim: comparator.GoalOff},
		Tallies: evidence(comparator.TallyRow{Name: "plentiful", N: 800_000}, comparator.TallyRow{Name: "last_units", N: 40_000, K: 1}, comparator.TallyRow{Name: "sold_out", N: 900, K: 2},
			comparator.TallyRow{Name: "several_lines", N: 1_000}, comparator.TallyRow{Name: "stock_not_seen", N: 1_500}, comparator.TallyRow{Name: "expiry", N: 2_500, Slot: comparator.SinceSlot(noon.Add(-30 * time.Hour))},
			slow("latency_truth", 0, 9_000, 180), slow("latency_shadow", 0, 8_000, 2_100), slow("latency_truth", comparator.SinceSlot(noon.Add(-5*time.Hour)), 9_000, 200),
			slow("latency_shadow", comparator.SinceSlot(noon.Add(-5*time.Hour)), 9_000, 4_000), comparator.TallyRow{Name: "of a later version", N: 1}),
	}
}

func goodReport() comparator.ReportInput {
	return comparator.ReportInput{
		Pod: "two", Stage: backends.Live, Epoch: 8, GeneratedAt: noon, Outbox: &backends.OutboxStats{},
		Audit: comparator.NewAuditReport(&comparator.AuditRow{Pod: "two", Holder: "proxy-1", N: 1, LastBegun: 2 * time.Hour, LastEnded: time.Hour,
			Last: &comparator.AuditResult{Stage: backends.Live, Epoch: 8, HoldsTruth: 1_000_000, LevelsTruth: 3_684}}, 24*time.Hour, backends.Live, 8, noon),
		Coverage: comparator.Coverage{Pod: "two", Decisions: 1000, Counts: comparator.Counts{Matched: 800, Probed: 200}},
		Truth:    comparator.Latency{Count: 1000, P50: 900, P95: 1500, P99: 2000, Max: 9000},
		Trend:    comparator.Trend{StepMinutes: 1, Peak: 500, Carried: 480, Coverage: []comparator.TrendPoint{{At: noon.Add(-time.Minute), Decisions: 500, Counts: comparator.Counts{Matched: 400, Probed: 100}}}},
		Tallies: evidence(comparator.TallyRow{Name: "plentiful", N: 30_000}, comparator.TallyRow{Name: "last_units", N: 3_000}, comparator.TallyRow{Name: "sold_out", N: 3_000},
			comparator.TallyRow{Name: "several_locations", N: 3_000}, comparator.TallyRow{Name: "several_lines", N: 3_000}, comparator.TallyRow{Name: "late_claim", N: 3_000},
			comparator.TallyRow{Name: "expiry", N: 3_000}),
	}
}

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (run with -update when it is meant so):\n%s", name, d)
	}
}

// render renders in all formats, compares each, and checks what every page has to keep to.
func render(t *testing.T, name string, write func(*bytes.Buffer, comparator.Format) error) {
	t.Helper()
	for f, ext := range map[comparator.Format]string{comparator.FormatTable: "txt", comparator.FormatJSON: "json", comparator.FormatCSV: "csv"} {
		var b bytes.Buffer
		if err := write(&b, f); err != nil {
			t.Fatal(err)
		}
		golden(t, name+"."+ext, b.Bytes())
		switch f {
		case comparator.FormatJSON:
			if !json.Valid(b.Bytes()) || strings.Contains(b.String(), ": null,\n  \"classes\"") {
				t.Errorf("%s: not JSON", name)
			}
		case comparator.FormatCSV:
			if _, err := csv.NewReader(&b).ReadAll(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		default:
			for line := range strings.Lines(b.String()) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
					t.Errorf("%s: a line of %d columns: %s", name, n, line)
				}
			}
		}
	}
}

func TestReports(t *testing.T) {
	inputs := map[string]comparator.ReportInput{
		"report-bad": badReport(), "report-good": goodReport(),
		"report-empty":      {Pod: "new", Stage: backends.Shadow, Epoch: 1, GeneratedAt: noon},
		"report-redis-only": {Pod: "old", Stage: backends.RedisOnly, Epoch: 1, GeneratedAt: noon},
	}
	for name, in := range inputs {
		t.Run(name, func(t *testing.T) {
			r, err := comparator.BuildReport(in)
			if err != nil {
				t.Fatal(err)
			}
			render(t, name, func(b *bytes.Buffer, f comparator.Format) error { return r.Write(b, f) })
			var b bytes.Buffer
			if err := r.Write(&b, comparator.FormatJSON); err != nil {
				t.Fatal(err)
			}
			var back comparator.Report
			if err := json.Unmarshal(b.Bytes(), &back); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(r, back); d != "" {
				t.Errorf("it does not read back:\n%s", d)
			}
		})
	}
}

func TestReportOfAnUnbalancedAccountSaysSo(t *testing.T) {
	in := goodReport()
	in.Coverage.Matched--
	r, err := comparator.BuildReport(in)
	var u *comparator.UnbalancedError
	if !errors.As(err, &u) || len(r.Problems) != 1 {
		t.Fatalf("%v, %v", err, r.Problems)
	}
	var b bytes.Buffer
	if err := r.Write(&b, comparator.FormatTable); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "BUT THE LINES ADD UP TO 999") {
		t.Error(b.String())
	}
}

// A rate never says 100 % while one decision in a million speaks against it.
func TestParityIsNeverRoundedUp(t *testing.T) {
	in := goodReport()
	in.Coverage = comparator.Coverage{Pod: "two", Decisions: 3_000_000, Counts: comparator.Counts{Matched: 2_999_999, Confirmed: 1}}
	r, err := comparator.BuildReport(in)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.Write(&b, comparator.FormatTable); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "PARITY  99.9999 % of the decisions compared agree: 2,999,999 of 3,000,000") {
		t.Error(b.String())
	}
}

func anAudit() *comparator.AuditResult {
	mug := key("mug", "warehouse-1")
	f := aFinding("order-7", "85123A", 2)
	f.Class, f.Source, f.Proof, f.Diff = comparator.MissingHold, "audit", "open in the truth, unknown to the shadow; the same at two quiescent moments", "hold: known → none"
	return &comparator.AuditResult{
		Pod: "one", Stage: backends.Shadow, Epoch: 7, Started: noon.Add(-1500 * time.Millisecond), Ended: noon, Scope: "all holds and levels",
		HoldsTruth: 24_345, HoldsShadow: 1, LevelsTruth: 3_684, LevelsShadow: 3_684, Passing: 12, Attributed: 1, FindingsTotal: 1, UnitsTotal: 2,
		Summary:  []comparator.ClassSummary{{Class: comparator.MissingHold, Life: comparator.LifeOpen, Findings: 1, Units: 2, Sights: 1, LastSeen: noon}},
		Findings: []comparator.Finding{f}, UndeterminedTotal: 2,
		Undetermined: []comparator.AuditOpen{{Hold: "order-8", Why: "entries for the hold were on their way, or it changed, at every look"}, {Key: &mug, Why: "it differed at one quiescent moment only"}},
	}
}

func TestAuditAndConservationRender(t *testing.T) {
	a := anAudit()
	render(t, "audit-findings", func(b *bytes.Buffer, f comparator.Format) error { return a.Write(b, f) })
	clean := &comparator.AuditResult{Pod: "two", Stage: backends.RedisOnly, Epoch: 1, Started: noon, Ended: noon.Add(time.Second),
		Scope: "claims, and units on hand: in redis-only MySQL follows nothing else", HoldsTruth: 5, LevelsTruth: 2, LevelsShadow: 2, Passing: 1, Attributed: 2,
		Summary: []comparator.ClassSummary{}, Findings: []comparator.Finding{}, Undetermined: []comparator.AuditOpen{}}
	render(t, "audit-clean", func(b *bytes.Buffer, f comparator.Format) error { return clean.Write(b, f) })

	broken := backends.Level{Key: key("mug", "warehouse-1"), OnHand: 10, Available: 5, Held: 2, Taken: 0, Unmaterialised: 1}
	c := &comparator.Conservation{Pod: "one", At: noon, Stores: []comparator.StoreConservation{
		{Store: "redis", Checked: 3684, Broken: []comparator.BrokenLevel{}, Took: 12},
		{Store: "mysql", Checked: 3684, BrokenTotal: 1, Broken: []comparator.BrokenLevel{{Level: broken, Imbalance: broken.Imbalance()}}, Took: 1340, Error: "store is unavailable"},
	}}
	render(t, "conservation-broken", func(b *bytes.Buffer, f comparator.Format) error { return c.Write(b, f) })
	c.Stores = c.Stores[:1]
	render(t, "conservation-clean", func(b *bytes.Buffer, f comparator.Format) error { return c.Write(b, f) })
}

func TestFormatsHaveNames(t *testing.T) {
	for name, want := range map[string]comparator.Format{"": comparator.FormatTable, "table": comparator.FormatTable, "json": comparator.FormatJSON, "csv": comparator.FormatCSV} {
		if got, err := comparator.ParseFormat(name); got != want || err != nil {
			t.Errorf("%q: %v %v", name, got, err)
		}
	}
	var fe *backends.FieldError
	if _, err := comparator.ParseFormat("html"); !errors.As(err, &fe) {
		t.Errorf("%v", err)
	}
}
