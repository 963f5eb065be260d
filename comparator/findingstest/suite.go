package findingstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// noon is when the suite's findings begin.
var noon = time.Date(2026, 5, 1, 12, 0, 0, 123_000, time.UTC)

// patience bounds each test.
const patience = 30 * time.Second

// Exercise runs the suite. open gives a fresh, empty store.
func Exercise(t *testing.T, open func(testing.TB) comparator.Store) {
	for _, c := range []struct {
		name string
		do   func(*testing.T, *suite)
	}{
		{"a finding reads back as it was saved", reads},
		{"saved twice is once", twice},
		{"later sights are joined", joined},
		{"lists are filtered, ordered and bounded", lists},
		{"identifiers are compared byte for byte, pods apart", apart},
		{"summary", summary},
		{"lists by shop and item", subjects},
		{"pages", pages},
		{"lives", lives},
		{"all of a change or none", together},
		{"an acknowledged finding that is seen again is open", seenAgain},
		{"two reviewers at once", reviewers},
		{"excused findings are counted apart", excused},
		{"coverage adds up", coverage},
		{"a later revision stays", revisions},
		{"tallies", tallies},
		{"a trend", trend},
		{"many proxies at once", crowd},
		{"prune", prune},
		{"an ended context", ended},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c.do(t, &suite{t: t, ctx: ctx, Store: open(t)})
		})
	}
}

type suite struct {
	comparator.Store
	t   *testing.T
	ctx context.Context //nolint:containedctx // one test's
}

func (s *suite) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *suite) save(fs ...comparator.Finding) {
	s.t.Helper()
	s.must(s.SaveFindings(s.ctx, fs))
}

func (s *suite) get(f comparator.Finding) comparator.Finding {
	s.t.Helper()
	got, err := s.Finding(s.ctx, f.Pod, f.ID)
	s.must(err)
	return *got
}

func (s *suite) same(want, got any) {
	s.t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		s.t.Errorf("want → got\n%s", d)
	}
}

// finding makes an open one, seen once, some seconds after noon.
func finding(pod backends.Pod, c comparator.Class, hold backends.HoldID, sec int, units int64) comparator.Finding {
	k := backends.Key{Shop: "s", Item: "mug", Location: "A"}
	at := noon.Add(time.Duration(sec) * time.Second)
	allocs := []backends.Allocation{{Line: 0, Location: "A", Quantity: units}}
	return comparator.Finding{
		ID: comparator.FindingID(pod, c, hold, k), Pod: pod, Epoch: 3, Stage: backends.Shadow, Class: c, Source: "mirror", Hold: hold, Shop: "s",
		Units: []backends.Units{{Key: k, Quantity: units}}, TotalUnits: units, Caller: "web",
		Truth: comparator.Facts{Answer: &comparator.Answer{Outcome: backends.OutcomeSoldOut}, Level: &backends.Level{Key: k, OnHand: 1}},
		Shadow: comparator.Facts{Answer: &comparator.Answer{Outcome: backends.OutcomeGranted, Allocs: allocs},
			Hold: &backends.Hold{ID: hold, Shop: "s", State: backends.Held, Lines: []backends.Line{{Item: "mug", Quantity: units, Locations: []backends.Location{"A"}}}, Allocs: allocs}},
		Diff: "outcome: sold out → granted", Proof: "“so”", Order: []comparator.EntryRef{{Seq: "1-2", Op: backends.OpReserve, Hold: "h9", Keys: []backends.Key{k}}},
		TruthLatencyUS: 200, ShadowLatencyUS: 1500, TraceID: "t1", FirstSeen: at, LastSeen: at, Count: 1, Life: comparator.LifeOpen,
	}
}

func reads(t *testing.T, s *suite) {
	f := finding("one", comparator.OversellRisk, "h1", 1, 3)
	s.save(f)
	s.same(f, s.get(f))
	if _, err := s.Finding(s.ctx, "one", "nonesuch"); !errors.Is(err, comparator.ErrNoFinding) {
		t.Errorf("an id that is not there: %v", err)
	}
	s.must(s.SaveFindings(s.ctx, nil))
	s.must(s.SaveCoverage(s.ctx, nil))
}

func twice(t *testing.T, s *suite) {
	f, g := finding("one", comparator.OversellRisk, "h1", 1, 3), finding("one", comparator.LevelDrift, "", 2, 1)
	s.save(f, g)
	s.save(g, f, f)
	fs, err := s.ListFindings(s.ctx, comparator.FindingQuery{Pod: "one"})
	s.must(err)
	s.same([]comparator.Finding{g, f}, fs)
}

func joined(t *testing.T, s *suite) {
	first, second, third := finding("one", comparator.LevelDrift, "", 1, 3), finding("one", comparator.LevelDrift, "", 2, 5), finding("one", comparator.LevelDrift, "", 3, 4)
	s.save(first)
	s.save(third)
	s.save(second) // late: known by the later sight, not counted
	want := third
	want.FirstSeen, want.Count = first.FirstSeen, 2
	s.same(want, s.get(first))

	explained := finding("one", comparator.LevelDrift, "", 9, 1)
	explained.Life = comparator.LifeExplained
	s.save(explained)
	want.LastSeen, want.Count = explained.LastSeen, 3
	s.same(want, s.get(first))
}

func lists(t *testing.T, s *suite) {
	var all []comparator.Finding
	for i := range 5 {
		f := finding("one", comparator.OversellRisk, backends.HoldID(fmt.Sprint("h", i)), i, 1)
		if i%2 == 1 {
			f.Life = comparator.LifeExplained
		}
		all = append(all, f)
	}
	drift := finding("one", comparator.LevelDrift, "", 10, 1)
	s.save(append([]comparator.Finding{drift}, all...)...)
	list := func(q comparator.FindingQuery) []comparator.Finding {
		t.Helper()
		q.Pod = "one"
		fs, err := s.ListFindings(s.ctx, q)
		s.must(err)
		return fs
	}
	s.same([]comparator.Finding{drift, all[4], all[3], all[2], all[1], all[0]}, list(comparator.FindingQuery{}))
	s.same([]comparator.Finding{drift, all[4]}, list(comparator.FindingQuery{Limit: 2}))
	s.same([]comparator.Finding{drift, all[4], all[3]}, list(comparator.FindingQuery{Since: all[3].LastSeen}))
	s.same([]comparator.Finding{all[3], all[1]}, list(comparator.FindingQuery{Lives: []comparator.Life{comparator.LifeExplained, comparator.LifeRepaired}}))
	s.same([]comparator.Finding{drift}, list(comparator.FindingQuery{Classes: []comparator.Class{comparator.LevelDrift}, Lives: []comparator.Life{comparator.LifeOpen}}))
	s.same([]comparator.Finding{}, list(comparator.FindingQuery{Since: noon.Add(time.Hour)}))
	if _, err := s.ListFindings(s.ctx, comparator.FindingQuery{}); err == nil {
		t.Error("a list without a pod was answered")
	}
}

func apart(t *testing.T, s *suite) {
	pods := []backends.Pod{"one", "One", "one "}
	for i, pod := range pods {
		s.save(finding(pod, comparator.OversellRisk, "85123A", i, int64(i+1)))
		s.save(finding(pod, comparator.OversellRisk, "85123a", i+5, 9))
		s.must(s.SaveCoverage(s.ctx, []comparator.CoverageRow{{Pod: pod, Proxy: "p", Run: "r", Epoch: 1, Minute: 1, Rev: 1, Decisions: int64(i + 1), Counts: comparator.Counts{Matched: int64(i + 1)}}}))
	}
	for i, pod := range pods {
		fs, err := s.ListFindings(s.ctx, comparator.FindingQuery{Pod: pod})
		s.must(err)
		if len(fs) != 2 || fs[1].TotalUnits != int64(i+1) || fs[1].Hold != "85123A" {
			t.Errorf("pod %q has %+v", pod, fs)
		}
		rows, err := s.Coverage(s.ctx, pod, time.Time{})
		s.must(err)
		if len(rows) != 1 || rows[0].Decisions != int64(i+1) {
			t.Errorf("pod %q has %+v", pod, rows)
		}
	}
}

func summary(t *testing.T, s *suite) {
	for i := range 3 {
		s.save(finding("one", comparator.OversellRisk, backends.HoldID(fmt.Sprint("h", i)), i, int64(i+1)))
	}
	old := finding("one", comparator.Quantity, "h9", -100, 50)
	explained := finding("one", comparator.OversellRisk, "h7", 7, 4)
	explained.Life = comparator.LifeExplained
	s.save(old, explained, finding("two", comparator.OversellRisk, "h1", 1, 99))
	got, err := s.Summary(s.ctx, "one", noon)
	s.must(err)
	slices.SortFunc(got, func(a, b comparator.ClassSummary) int { return int(a.Life) - int(b.Life) })
	s.same([]comparator.ClassSummary{
		{Class: comparator.OversellRisk, Life: comparator.LifeOpen, Findings: 3, Units: 6, Sights: 3, LastSeen: noon.Add(2 * time.Second)},
		{Class: comparator.OversellRisk, Life: comparator.LifeExplained, Findings: 1, Units: 4, Sights: 1, LastSeen: noon.Add(7 * time.Second)},
	}, got)
	if got, err = s.Summary(s.ctx, "one", time.Time{}); err != nil || len(got) != 3 {
		t.Errorf("since ever: %v %v", got, err)
	}
}

func coverage(t *testing.T, s *suite) {
	row := func(proxy string, minute int64, c comparator.Counts) comparator.CoverageRow {
		return comparator.CoverageRow{Pod: "one", Proxy: proxy, Run: "r", Epoch: 2, Minute: minute, Rev: 1, Decisions: c.Sum(), Counts: c}
	}
	full := comparator.Counts{Pending: -1, Matched: 2, Probed: 3, Settling: -4, Explained: 5, Confirmed: 6, Excused: 10, SampledOut: 7, Undetermined: 8, Lost: 9}
	s.must(s.SaveCoverage(s.ctx, []comparator.CoverageRow{row("a", 10, full), row("a", 11, comparator.Counts{Matched: 1}), row("b", 10, comparator.Counts{Lost: 1})}))
	read := func(since time.Time) []comparator.CoverageRow {
		t.Helper()
		rows, err := s.Coverage(s.ctx, "one", since)
		s.must(err)
		slices.SortFunc(rows, func(a, b comparator.CoverageRow) int { return int(a.Proxy[0]) - int(b.Proxy[0]) })
		return rows
	}
	sum := full
	sum.Matched++
	want := row("a", 11, sum)
	s.same([]comparator.CoverageRow{want, row("b", 10, comparator.Counts{Lost: 1})}, read(time.Time{}))
	s.same([]comparator.CoverageRow{row("a", 11, comparator.Counts{Matched: 1})}, read(time.Unix(11*60+30, 0)))
}

func revisions(t *testing.T, s *suite) {
	row := func(rev uint64, n int64) comparator.CoverageRow {
		return comparator.CoverageRow{Pod: "one", Proxy: "a", Run: "r", Epoch: 1, Minute: 10, Rev: rev, Decisions: n, Counts: comparator.Counts{Matched: n}}
	}
	for _, r := range []comparator.CoverageRow{row(1, 1), row(7, 70), row(7, 70), row(3, 30)} {
		s.must(s.SaveCoverage(s.ctx, []comparator.CoverageRow{r}))
	}
	rows, err := s.Coverage(s.ctx, "one", time.Time{})
	s.must(err)
	s.same([]comparator.CoverageRow{row(7, 70)}, rows)
}

// crowd: proxies that save overlapping findings at once neither lose one nor double one. A call that
// fails (a deadlock is legal) is repeated, as the comparator does.
func crowd(t *testing.T, s *suite) {
	const proxies, holds, rounds = 4, 12, 5
	var wg sync.WaitGroup
	for p := range proxies {
		wg.Go(func() {
			for round := range rounds {
				var fs []comparator.Finding
				for h := range holds {
					f := finding("one", comparator.OversellRisk, backends.HoldID(fmt.Sprint("h", (h+3*p)%holds)), 0, 1)
					f.LastSeen = noon.Add(time.Duration(round*proxies+p) * time.Second)
					fs = append(fs, f)
				}
				row := comparator.CoverageRow{Pod: "one", Proxy: fmt.Sprint("p", p), Run: "r", Epoch: 1, Minute: 1, Rev: uint64(round + 1),
					Decisions: int64(round + 1), Counts: comparator.Counts{Matched: int64(round + 1)}}
				for s.SaveFindings(s.ctx, fs) != nil || s.SaveCoverage(s.ctx, []comparator.CoverageRow{row}) != nil {
					if s.ctx.Err() != nil {
						t.Error("it could not be saved in time")
						return
					}
				}
			}
		})
	}
	wg.Wait()
	fs, err := s.ListFindings(s.ctx, comparator.FindingQuery{Pod: "one"})
	s.must(err)
	if len(fs) != holds {
		t.Errorf("%d findings", len(fs))
	}
	last := noon.Add((rounds*proxies - 1) * time.Second)
	for _, f := range fs {
		if !f.LastSeen.Equal(last) || f.Count < 1 || f.Count > rounds*proxies {
			t.Errorf("%s: last seen %s, %d times", f.Hold, f.LastSeen, f.Count)
		}
	}
	rows, err := s.Coverage(s.ctx, "one", time.Time{})
	s.must(err)
	if c := comparator.FoldCoverage("one", rows, comparator.Fold{Now: noon}); c.Decisions != proxies*rounds || c.Matched != proxies*rounds {
		t.Errorf("%+v", c)
	}
}

func prune(t *testing.T, s *suite) {
	for i := range 4 {
		f := finding("one", comparator.OversellRisk, backends.HoldID(fmt.Sprint("h", i)), i, 1)
		if i > 0 {
			f.Life = comparator.LifeExplained
		}
		s.save(f)
		s.must(s.SaveCoverage(s.ctx, []comparator.CoverageRow{{Pod: "one", Proxy: "p", Run: "r", Epoch: 1, Minute: noon.Unix()/60 + int64(i), Rev: 1}}))
	}
	s.save(finding("two", comparator.Quantity, "h1", 0, 1))
	total := 0
	for {
		n, err := s.Prune(s.ctx, "one", noon.Add(150*time.Second), 1)
		s.must(err)
		if n == 0 {
			break
		}
		total += n
	}
	if total != 5 { // three explained ones, two minutes
		t.Errorf("%d were removed", total)
	}
	fs, err := s.ListFindings(s.ctx, comparator.FindingQuery{Pod: "one"})
	s.must(err)
	if len(fs) != 1 || fs[0].Hold != "h0" {
		t.Errorf("left: %+v", fs)
	}
}

func ended(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := s.SaveFindings(ctx, []comparator.Finding{finding("one", comparator.OversellRisk, "h1", 1, 1)}); err == nil {
		t.Error("saved under a context that had ended")
	}
	if _, err := s.Coverage(ctx, "one", time.Time{}); err == nil {
		t.Error("answered under a context that had ended")
	}
}
