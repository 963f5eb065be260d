package findingstest

import (
	"errors"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// tallied reads all tallies of a pod since then, in the order of the answer.
func (s *suite) tallied(pod backends.Pod, since time.Time) []comparator.TallyRow {
	s.t.Helper()
	out := []comparator.TallyRow{}
	s.must(s.Tallies(s.ctx, pod, since, func(r *comparator.TallyRow) error {
		c := *r
		c.Cells = append(comparator.Cells(nil), r.Cells...)
		out = append(out, c)
		return nil
	}))
	return out
}

func tally(pod backends.Pod, slot int64, name string, rev uint64, n int64) comparator.TallyRow {
	return comparator.TallyRow{Pod: pod, Proxy: "p", Run: "r", Epoch: 1, Slot: slot, Name: name, Rev: rev, N: n, K: 1,
		Cells: comparator.Cells{{At: 0, N: n - 1}, {At: 63, N: 1, K: 1}, {At: 1023, N: 1 << 40}}}
}

func tallies(t *testing.T, s *suite) {
	s.must(s.SaveTallies(s.ctx, nil))
	bare := tally("one", 40, "sold_out", 1, 5)
	bare.Cells = nil
	s.must(s.SaveTallies(s.ctx, []comparator.TallyRow{tally("one", 20, "plentiful", 2, 7), tally("one", 30, "plentiful", 1, 9), bare, tally("One", 30, "plentiful", 1, 3)}))
	s.must(s.SaveTallies(s.ctx, []comparator.TallyRow{tally("one", 20, "plentiful", 1, 99), tally("one", 20, "plentiful", 3, 8), tally("one", 20, "plentiful", 3, 77)}))
	s.same([]comparator.TallyRow{bare, tally("one", 30, "plentiful", 1, 9), tally("one", 20, "plentiful", 3, 8)}, s.tallied("one", time.Time{}))
	s.same([]comparator.TallyRow{bare, tally("one", 30, "plentiful", 1, 9)}, s.tallied("one", time.Unix(39*60, 0)))
	stop := errors.New("enough")
	if err := s.Tallies(s.ctx, "one", time.Time{}, func(*comparator.TallyRow) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the reader's error was lost: %v", err)
	}
	for _, want := range []int{1, 1, 0} {
		if n, err := s.Prune(s.ctx, "one", time.Unix(40*60, 0), 1); n != want || err != nil {
			t.Errorf("%d were removed, %v; want %d", n, err, want)
		}
	}
	s.same([]comparator.TallyRow{bare}, s.tallied("one", time.Time{}))
}

// trend: each store sums up as the reference does.
func trend(t *testing.T, s *suite) {
	empty, err := s.Trend(s.ctx, "one", noon, noon.Add(time.Hour))
	s.must(err)
	s.same(comparator.MakeTrend(nil, nil, noon, noon.Add(time.Hour)), empty)

	first := noon.Unix() / 60
	var minutes []comparator.CoverageRow
	for i := range int64(100) {
		both := comparator.CoverageRow{Pod: "one"}
		for _, proxy := range []string{"a", "b"} {
			c := comparator.Counts{Pending: -1, Matched: i, Probed: 2, Settling: i%5 - 2, Explained: 1, Confirmed: 1, Excused: 1, Undetermined: 2, Lost: 1}
			if i > 70 {
				c.SampledOut = 50
			}
			row := comparator.CoverageRow{Pod: "one", Proxy: proxy, Run: "r", Epoch: 1, Minute: first + i, Rev: 1, Decisions: c.Sum(), Counts: c}
			s.must(s.SaveCoverage(s.ctx, []comparator.CoverageRow{row}))
			both.Add(row)
		}
		minutes = append(minutes, both)
	}
	var fs []comparator.Finding
	for i, c := range []comparator.Class{comparator.OversellRisk, comparator.OversellRisk, comparator.LevelDrift, comparator.Quantity} {
		f := finding("one", c, backends.HoldID("h"+string(rune('a'+i))), 60*i, int64(i+1))
		if c == comparator.Quantity {
			f.Life = comparator.LifeExplained
		}
		fs = append(fs, f)
	}
	s.save(fs...)
	for _, since := range []time.Time{{}, noon, noon.Add(30 * time.Minute)} {
		got, err := s.Trend(s.ctx, "one", since, noon.Add(99*time.Minute))
		s.must(err)
		var of []comparator.CoverageRow
		for _, m := range minutes {
			if m.Minute >= comparator.SinceMinute(since) {
				of = append(of, m)
			}
		}
		want := comparator.MakeTrend(of, fs, since, noon.Add(99*time.Minute))
		s.same(want, got)
		if want.Peak == 0 || want.Carried == 0 || want.Carried >= want.Peak || len(want.Coverage) > 60 {
			t.Errorf("since %s: %+v", since, want)
		}
	}
}
