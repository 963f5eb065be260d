package comparator

import (
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// maxTrend is how many steps a trend has at most: as many bars as one can still tell apart.
const maxTrend = 60

// trendSteps are the lengths of a step, in minutes.
var trendSteps = []int64{1, 2, 5, 10, 20, 30, 60, 120, 180, 360, 720, 1440}

// TrendStep is how many minutes a step has, such that the time from one minute to another (both since
// 1970, both included) has at most sixty steps; beyond sixty days it is whole days.
func TrendStep(from, to int64) int64 {
	span := max(1, to-from+1)
	for _, s := range trendSteps {
		if to/s-from/s < maxTrend {
			return s
		}
	}
	const day = 1440
	return (span/maxTrend/day + 1) * day
}

// Trend is how things went over time. Steps in which nothing happened are left out.
type Trend struct {
	StepMinutes int64          `json:"step_minutes"`
	Coverage    []TrendPoint   `json:"coverage"`
	Findings    []FindingPoint `json:"findings"`
	// Peak is the most decisions of one minute, over all proxies; Carried the most of one minute that the
	// shadow decided too (see [Counts.Decided]), of the minutes in which no refusal was left out of the probes.
	Peak    int64 `json:"peak_minute"`
	Carried int64 `json:"carried_minute"`
}

// TrendPoint is the account of one step. Its numbers are changes within it: Pending and Settling may be
// negative.
type TrendPoint struct {
	At        time.Time `json:"at"` // its beginning
	Decisions int64     `json:"decisions"`
	Counts
}

// FindingPoint counts the confirmed findings of one class that were last seen in one step.
type FindingPoint struct {
	At       time.Time `json:"at"`
	Class    Class     `json:"class"`
	Findings int64     `json:"findings"`
	Units    int64     `json:"units"`
}

// Decided is how many of these decisions the shadow has decided for itself, at least. What is settling is left out: a
// refusal that waits for the shadow's answer is settling as well. In the account of one minute what moved on from settling
// is counted once: where more did than began to settle, it was decided in a minute before.
func (c Counts) Decided() int64 {
	return c.Matched + c.Probed + min(0, c.Settling) + c.Explained + c.Confirmed + c.Excused
}

// MakeTrend puts a trend together from the account by minute (all proxies together, in order) and from
// findings. It is pure, and for stores that sum up by themselves it is the reference.
func MakeTrend(minutes []CoverageRow, findings []Finding, since, until time.Time) Trend {
	t := Trend{StepMinutes: TrendStep(firstMinute(minutes, since), until.Unix()/60), Coverage: []TrendPoint{}, Findings: []FindingPoint{}}
	for i := range minutes {
		m := &minutes[i]
		t.Peak = max(t.Peak, m.Decisions)
		if m.SampledOut == 0 {
			t.Carried = max(t.Carried, m.Decided())
		}
		at := StepTime(m.Minute/t.StepMinutes, t.StepMinutes)
		if n := len(t.Coverage); n == 0 || !t.Coverage[n-1].At.Equal(at) {
			t.Coverage = append(t.Coverage, TrendPoint{At: at})
		}
		p := &t.Coverage[len(t.Coverage)-1]
		p.Decisions += m.Decisions
		p.add(m.Counts)
	}
	type group struct {
		at    time.Time
		class Class
	}
	sums := map[group]*FindingPoint{}
	for i := range findings {
		f := &findings[i]
		if !f.Life.Confirmed() || f.LastSeen.Before(since) {
			continue
		}
		g := group{StepTime(f.LastSeen.Unix()/60/t.StepMinutes, t.StepMinutes), f.Class}
		if sums[g] == nil {
			sums[g] = &FindingPoint{At: g.at, Class: g.class}
		}
		sums[g].Findings++
		sums[g].Units += f.TotalUnits
	}
	for _, p := range sums {
		t.Findings = append(t.Findings, *p)
	}
	SortFindingPoints(t.Findings)
	return t
}

// SortFindingPoints puts points into the order of a trend: by time, then by class.
func SortFindingPoints(ps []FindingPoint) {
	slices.SortFunc(ps, func(a, b FindingPoint) int {
		if d := a.At.Compare(b.At); d != 0 {
			return d
		}
		return int(a.Class) - int(b.Class)
	})
}

func firstMinute(minutes []CoverageRow, since time.Time) int64 {
	if len(minutes) > 0 {
		return max(minutes[0].Minute, SinceMinute(since))
	}
	return SinceMinute(since)
}

// StepTime is when a step begins.
func StepTime(step, minutes int64) time.Time { return time.Unix(step*minutes*60, 0).UTC() }

// LatencyPoint is the latencies of both stores in one slot of tallies.
type LatencyPoint struct {
	At     time.Time `json:"at"`
	Truth  Latency   `json:"truth"`
	Shadow Latency   `json:"shadow"`
}

// Sum is what a report needs of the tallies: it folds them one by one, so that no more than a total for
// each name, and the latencies of each step, are in memory.
type Sum struct {
	// From is the first slot counted; zero when there is none.
	From time.Time

	now    time.Time
	step   int64
	strata [strata]stratumSum
	unseen int64
	lat    map[int64]*[2]latencies
	all    [2]latencies
}

type stratumSum struct {
	n, k   int64
	recent int64 // n of the last rateWindow
	cells  [Clusters]Cell
}

// NewSum begins a sum. step is the minutes of a step of the latencies' trend, see TrendStep.
func NewSum(now time.Time, step int64) *Sum {
	return &Sum{now: now, step: max(step, SlotMinutes), lat: map[int64]*[2]latencies{}}
}

// Add takes one row; it never fails. Rows of names that this version does not know are passed over.
func (s *Sum) Add(r *TallyRow) error {
	at := time.Unix(r.Slot*60, 0).UTC()
	if s.From.IsZero() || at.Before(s.From) {
		s.From = at
	}
	side := -1
	switch r.Name {
	case tallyTruth:
		side = 0
	case tallyShadow:
		side = 1
	}
	if side >= 0 {
		step := r.Slot / s.step
		if s.lat[step] == nil && len(s.lat) <= maxTrend+1 {
			s.lat[step] = &[2]latencies{}
		}
		if l := s.lat[step]; l != nil {
			l[side].merge(r.Cells)
		}
		s.all[side].merge(r.Cells)
		return nil
	}
	if r.Name == tallyNotSeen {
		s.unseen += r.N
		return nil
	}
	st, err := ParseStratum(r.Name)
	if err != nil {
		return nil //nolint:nilerr // of a later version
	}
	sum := &s.strata[st]
	sum.n, sum.k = sum.n+r.N, sum.k+r.K
	if s.now.Sub(at) < rateWindow {
		sum.recent += r.N
	}
	for _, c := range r.Cells {
		if c.At >= 0 && c.At < Clusters {
			sum.cells[c.At].N += c.N
			sum.cells[c.At].K += c.K
		}
	}
	return nil
}

// Latencies are those of both stores over all rows, and by step.
func (s *Sum) Latencies() (truth, shadow Latency, trend []LatencyPoint) {
	trend = []LatencyPoint{}
	for step, l := range s.lat {
		trend = append(trend, LatencyPoint{At: StepTime(step, s.step), Truth: l[0].sum(), Shadow: l[1].sum()})
	}
	slices.SortFunc(trend, func(a, b LatencyPoint) int { return a.At.Compare(b.At) })
	return s.all[0].sum(), s.all[1].sum(), trend
}

// ItemUnits is how many units of confirmed findings concern an item.
type ItemUnits struct {
	Shop     backends.Shop `json:"shop"`
	Item     backends.Item `json:"item"`
	Units    int64         `json:"units"`
	Findings int64         `json:"findings"`
	Class    Class         `json:"gravest"` // of the findings
}

// topItems sums up confirmed findings by item, the most units first.
func topItems(fs []Finding) []ItemUnits {
	type item struct {
		shop backends.Shop
		item backends.Item
	}
	sums := map[item]*ItemUnits{}
	for i := range fs {
		f := &fs[i]
		if !f.Life.Confirmed() {
			continue
		}
		counted := map[item]bool{}
		for _, u := range f.Units {
			k := item{u.Key.Shop, u.Key.Item}
			s := sums[k]
			if s == nil {
				s = &ItemUnits{Shop: k.shop, Item: k.item, Class: f.Class}
				sums[k] = s
			}
			if s.Units += u.Quantity; !counted[k] {
				counted[k] = true
				s.Findings++
			}
			if slices.Index(Classes(), f.Class) < slices.Index(Classes(), s.Class) {
				s.Class = f.Class
			}
		}
	}
	out := []ItemUnits{}
	for _, s := range sums {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b ItemUnits) int {
		if a.Units != b.Units {
			return int(max(-1, min(1, b.Units-a.Units)))
		}
		return backends.Key{Shop: a.Shop, Item: a.Item}.Compare(backends.Key{Shop: b.Shop, Item: b.Item})
	})
	return out[:min(len(out), maxReportItems)]
}
