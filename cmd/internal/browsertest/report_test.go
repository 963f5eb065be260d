//go:build browser

package browsertest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/comparator"
)

const (
	fetching = 10 * time.Minute // the browser is 60 MB
	driving  = 4 * time.Minute
	// driver is what npm installs.
	driver = "playwright-core@1.65.1"
)

//go:embed report_test.mjs
var script []byte

// TestReportInABrowser opens reports: one with everything, one with nothing, one that is good, and one of a
// stage that compares nothing.
func TestReportInABrowser(t *testing.T) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v; install Node.js with npm (on Debian and Ubuntu: apt install nodejs npm)", err)
		}
	}
	fetch, cancel := context.WithTimeout(t.Context(), fetching)
	defer cancel()
	browser, err := lab.Find(fetch, lab.Chromium, lab.Options{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Chromium %s, %s", browser.Version, browser.Origin)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "test.mjs"), script, 0o600); err != nil {
		t.Fatal(err)
	}
	npm := exec.CommandContext(fetch, "npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", driver)
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm install %s: %v\n%s", driver, err, out)
	}
	pictures, err := os.MkdirTemp("", "crossfade-report-") //nolint:usetesting // somebody is to look at them afterwards
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("pictures: %s", pictures)
	args := []string{"test.mjs", browser.Path(), pictures}
	reports := map[string]comparator.ReportInput{"everything": everything(), "nothing": nothing(), "good": good(), "redis-only": redisOnly()}
	for _, name := range []string{"everything", "nothing", "good", "redis-only"} {
		args = append(args, write(t, filepath.Join(pictures, name+".html"), reports[name]))
	}
	check(t, drive(t, dir, browser, args), reports)
}

// write builds a report and writes its page.
func write(t *testing.T, path string, in comparator.ReportInput) string {
	t.Helper()
	r, err := comparator.BuildReport(in)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.Write(&b, comparator.FormatHTML); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// view is what the script saw of one page, in one width and one scheme of colours.
type view struct {
	Name                    string
	Problems                []string
	Stops, Charts, Findings int
	Contrast                float64
}

func drive(t *testing.T, dir string, browser *lab.Program, args []string) []view {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), driving)
	defer cancel()
	node := exec.CommandContext(ctx, "node", args...)
	node.Dir = dir
	node.Env = append(os.Environ(), browser.Env()...)
	var stderr bytes.Buffer
	node.Stderr = &stderr
	out, err := node.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, &stderr)
	}
	var views []view
	if err := json.Unmarshal(out, &views); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return views
}

func check(t *testing.T, views []view, reports map[string]comparator.ReportInput) {
	t.Helper()
	if want := 4 * len(reports); len(views) != want {
		t.Errorf("%d views, want %d", len(views), want)
	}
	for _, v := range views {
		t.Run(v.Name, func(t *testing.T) {
			for _, p := range v.Problems {
				t.Error(p)
			}
			page, _, _ := strings.Cut(v.Name, "-")
			findings, charts := 0, 0
			switch page {
			case "everything":
				findings, charts = len(reports[page].Findings), 4
			case "good":
				charts = 2
			}
			if v.Findings != findings || v.Charts != charts || v.Stops < 9 {
				t.Errorf("%d findings, %d charts, %d links; want %d, %d and some", v.Findings, v.Charts, v.Stops, findings, charts)
			}
			t.Logf("%d links by keyboard, contrast %.1f at least", v.Stops, v.Contrast)
		})
	}
}

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func nothing() comparator.ReportInput {
	return comparator.ReportInput{Pod: "new", Stage: backends.Shadow, Epoch: 1, GeneratedAt: noon}
}

func redisOnly() comparator.ReportInput {
	return comparator.ReportInput{Pod: "old", Stage: backends.RedisOnly, Epoch: 1, GeneratedAt: noon}
}

// tallies are so many decisions of each stratum in one slot, with latencies.
func tallies(counts map[comparator.Stratum][2]int64) *comparator.Sum {
	sum := comparator.NewSum(noon, 60)
	add := func(r comparator.TallyRow) {
		if err := sum.Add(&r); err != nil {
			panic(err)
		}
	}
	for s, c := range counts {
		r := comparator.TallyRow{Slot: comparator.SinceSlot(noon.Add(-5 * time.Hour)), Name: s.String(), N: c[0], K: c[1]}
		for i := range comparator.Clusters {
			r.Cells = append(r.Cells, comparator.Cell{At: i, N: c[0] / comparator.Clusters})
		}
		r.Cells[3].K = c[1]
		add(r)
	}
	for hour := range 24 {
		for i, name := range []string{"latency_truth", "latency_shadow"} {
			at := 16*13 + 30*i + hour%7
			add(comparator.TallyRow{Slot: comparator.SinceSlot(noon.Add(time.Duration(hour-24) * time.Hour)), Name: name, N: 1000, Cells: comparator.Cells{{At: at, N: 960}, {At: at + 40, N: 40}}})
		}
	}
	return sum
}

func good() comparator.ReportInput {
	counts := map[comparator.Stratum][2]int64{}
	for _, s := range comparator.Strata() {
		counts[s] = [2]int64{40_000, 0}
	}
	t := comparator.Trend{StepMinutes: 60, Peak: 900, Carried: 880}
	for hour := range 24 {
		c := comparator.Counts{Matched: int64(800 + 30*hour), Probed: 200}
		t.Coverage = append(t.Coverage, comparator.TrendPoint{At: noon.Add(time.Duration(hour-24) * time.Hour), Decisions: c.Sum(), Counts: c})
	}
	return comparator.ReportInput{Pod: "two", Stage: backends.Live, Epoch: 8, GeneratedAt: noon, Outbox: &backends.OutboxStats{}, Trend: t, Tallies: tallies(counts),
		Coverage: comparator.Coverage{Pod: "two", Decisions: 32_280, Counts: comparator.Counts{Matched: 27_480, Probed: 4_800}}}
}

// everything has a finding of each class, in each life, of identifiers that do their worst.
func everything() comparator.ReportInput {
	long := strings.Repeat("W", backends.MaxIDLen)
	items := []string{"85123A", `<script>window.hostile=1</script>`, `"><img src=x onerror=window.hostile=1>`, long, "CREAM CUPID HEARTS COAT HANGER", "a: b & c"}
	in := comparator.ReportInput{
		Pod: "pod-1", Stage: backends.Shadow, Epoch: 7, GeneratedAt: noon, Since: noon.Add(-24 * time.Hour), Incomplete: true,
		Coverage: comparator.Coverage{Pod: "pod-1", Decisions: 1_234_567, Counts: comparator.Counts{
			Pending: 12, Matched: 900_000, Probed: 200_000, Settling: 3, Explained: 4_000, Confirmed: 2, Excused: 5, SampledOut: 130_535, Undetermined: 9, Lost: 1}},
		Outbox:       &backends.OutboxStats{Entries: 12, OldestMillis: 2_300, Lost: true, Dropped: 1},
		Debt:         []comparator.DebtLine{{Store: "mysql", Key: backends.Key{Shop: "s", Item: backends.Item(long), Location: "warehouse-1"}, Units: 3}},
		Apologies:    []backends.Apology{{Hold: backends.HoldID(long), Key: backends.Key{Shop: "s", Item: "22423", Location: "warehouse-1"}, Quantity: 4, Reason: "claimed after it had expired; the units were sold"}},
		Undetermined: map[string]int64{"window": 8, "queue_full": 1},
		Excuses: comparator.Excuses{
			{Name: "recount", Owner: "ann", Why: "the shelf is being recounted", From: noon.Add(-12 * time.Hour), Until: noon.Add(12 * time.Hour), Items: []backends.Item{"85123A", backends.Item(long)}},
			{Name: "old", Owner: "bob", Why: "ticket 7", From: noon.Add(-36 * time.Hour), Until: noon.Add(-12 * time.Hour), Pods: []backends.Pod{"pod-1"}}},
		ExcuseUse: []comparator.ExcuseUse{{Name: "gone", Findings: 1, Units: 2, LastSeen: noon}},
		Problems:  []string{"apologies of mysql: store is unavailable"},
		Goals:     comparator.Goals{comparator.LateClaim: comparator.GoalOff},
		Trend:     comparator.Trend{StepMinutes: 60, Peak: 1200, Carried: 900},
		Tallies: tallies(map[comparator.Stratum][2]int64{comparator.Plentiful: {800_000, 0}, comparator.LastUnits: {40_000, 1}, comparator.SoldOut: {900, 2},
			comparator.SeveralLines: {1_000, 0}, comparator.Expiry: {2_500, 0}}),
	}
	for hour := range 24 {
		c := comparator.Counts{Matched: int64(30_000 + 900*hour), Probed: 9_000, Explained: int64(hour % 5 * 100), Undetermined: int64(hour % 3 * 40), Excused: int64(hour % 2 * 25)}
		if hour > 18 {
			c.SampledOut, c.Confirmed = 30_000, 20
		}
		in.Trend.Coverage = append(in.Trend.Coverage, comparator.TrendPoint{At: noon.Add(time.Duration(hour-24) * time.Hour), Decisions: c.Sum(), Counts: c})
	}
	lives := comparator.ConfirmedLives()
	for i, class := range comparator.Classes() {
		f := finding(i, class, items[i%len(items)], lives[i%len(lives)])
		in.Findings = append(in.Findings, f)
		in.Summary = append(in.Summary, comparator.ClassSummary{Class: class, Life: f.Life, Findings: 1, Units: f.TotalUnits, Sights: f.Count, LastSeen: f.LastSeen})
		in.Trend.Findings = append(in.Trend.Findings, comparator.FindingPoint{At: noon.Add(time.Duration(i%6-12) * time.Hour), Class: class, Findings: int64(1 + i%4), Units: f.TotalUnits})
	}
	return in
}

func finding(i int, class comparator.Class, item string, life comparator.Life) comparator.Finding {
	k := backends.Key{Shop: "s", Item: backends.Item(item), Location: "warehouse-1"}
	f := comparator.Finding{
		Pod: "pod-1", Epoch: 7, Stage: backends.Shadow, Class: class, Source: "probe", Hold: backends.HoldID(fmt.Sprintf("order-%d %s", i, item)), Shop: "s",
		Units: []backends.Units{{Key: k, Quantity: int64(i + 1)}}, TotalUnits: int64(i + 1), Caller: "<web>", TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
		Truth: comparator.Facts{Answer: &comparator.Answer{Outcome: backends.OutcomeSoldOut, Short: []backends.Shortage{{Item: backends.Item(item), Wanted: 3, Available: 1}}, Seen: []backends.Units{{Key: k, Quantity: 1}}}},
		Shadow: comparator.Facts{Answer: &comparator.Answer{Outcome: backends.OutcomeGranted, Allocs: []backends.Allocation{{Location: "warehouse-1", Quantity: 3}},
			Seen: []backends.Units{{Key: k, Quantity: 3}}}},
		Diff:  "outcome: sold out → granted\nunits[" + k.String() + "]: none → 3",
		Proof: "truth sold out, shadow would grant: the levels differ by the same amounts at two quiescent moments, shadow less truth: " + k.String() + " (sellable +2, on hand +2, taken +0)",
		Order: []comparator.EntryRef{{Seq: "1-2", Op: backends.OpReserve, Hold: "order-99", Keys: []backends.Key{k}}}, TruthLatencyUS: 180, ShadowLatencyUS: 2_100,
		FirstSeen: noon.Add(-3 * time.Hour), LastSeen: noon.Add(-time.Hour), Count: 2, Life: life,
	}
	if life != comparator.LifeOpen {
		f.By, f.Why = "ann", "known since the stock take of May"
		f.History = []comparator.LifeEvent{{At: noon.Add(-30 * time.Minute), From: comparator.LifeOpen, To: life, By: f.By, Why: f.Why, Units: f.TotalUnits, Sights: 2}}
	}
	f.ID = comparator.FindingID(f.Pod, f.Class, f.Hold, k)
	return f
}
