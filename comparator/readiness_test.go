package comparator_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// full is evidence enough for every stratum.
func full() []comparator.TallyRow {
	return []comparator.TallyRow{{Name: "plentiful", N: 29_956}, {Name: "last_units", N: 2_995}, {Name: "sold_out", N: 2_995}, {Name: "several_locations", N: 2_995},
		{Name: "several_lines", N: 2_995}, {Name: "late_claim", N: 2_995}, {Name: "expiry", N: 2_995}}
}

func TestReadiness(t *testing.T) {
	load := comparator.Trend{Peak: 1000, Carried: 950}
	for _, c := range []struct {
		name    string
		change  func(rows []comparator.TallyRow) []comparator.TallyRow
		trend   comparator.Trend
		goals   comparator.Goals
		missing int
		stratum comparator.Stratum
		verdict comparator.StratumVerdict
		needed  int64
	}{
		{"a million easy decisions prove nothing about the last unit", func(rows []comparator.TallyRow) []comparator.TallyRow {
			rows[0].N = 1_000_000
			rows[1].N = 0
			return rows
		}, load, nil, 1, comparator.LastUnits, comparator.StratumUnseen, 2_995},
		{"enough of each", nil, load, nil, 0, comparator.LastUnits, comparator.StratumEnough, 0},
		{"one too few", func(rows []comparator.TallyRow) []comparator.TallyRow { rows[2].N--; return rows }, load, nil, 1, comparator.SoldOut, comparator.StratumMore, 1},
		{"a finding wants more", func(rows []comparator.TallyRow) []comparator.TallyRow { rows[2].K = 1; return rows }, load, nil, 1, comparator.SoldOut, comparator.StratumFindings, 1747},
		{"a finding among very many does not", func(rows []comparator.TallyRow) []comparator.TallyRow {
			rows[2].N, rows[2].K = 100_000, 1
			return rows
		}, load, nil, 0, comparator.SoldOut, comparator.StratumEnough, 0},
		{"findings that are all of one item weigh more than the binomial says", func(rows []comparator.TallyRow) []comparator.TallyRow {
			rows[2].N, rows[2].K = 100_000, 70
			return rows
		}, load, nil, 1, comparator.SoldOut, comparator.StratumFindings, 0},
		{"a stratum that is switched off", func(rows []comparator.TallyRow) []comparator.TallyRow { return rows[:6] }, load, comparator.Goals{comparator.Expiry: comparator.GoalOff}, 0, comparator.Expiry, comparator.StratumOff, 0},
		{"a goal of one's own", nil, load, comparator.Goals{comparator.Expiry: 0.0005}, 1, comparator.Expiry, comparator.StratumMore, 2_995},
		{"a shadow that has not carried the peak", nil, comparator.Trend{Peak: 1000, Carried: 949}, nil, 1, comparator.LastUnits, comparator.StratumEnough, 0},
		{"no load at all", nil, comparator.Trend{}, nil, 1, comparator.LastUnits, comparator.StratumEnough, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := full()
			if c.change != nil {
				rows = c.change(rows)
			}
			r := comparator.BuildReadiness(evidence(rows...), &c.trend, c.goals)
			if len(r.Missing) != c.missing || r.Ready != (c.missing == 0) {
				t.Errorf("ready %v, missing %q", r.Ready, r.Missing)
			}
			for _, s := range r.Strata {
				if s.Stratum == c.stratum && (s.Verdict != c.verdict || c.needed > 0 && s.Needed != c.needed) {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

// The rate is that of the last day, and of a younger pod that since its start.
func TestReadinessSaysHowLong(t *testing.T) {
	at := func(before time.Duration, n int64) comparator.TallyRow {
		return comparator.TallyRow{Name: "sold_out", Slot: comparator.SinceSlot(noon.Add(-before)), N: n}
	}
	of := func(rows ...comparator.TallyRow) comparator.StratumReport {
		for _, s := range comparator.BuildReadiness(evidence(rows...), &comparator.Trend{}, nil).Strata {
			if s.Stratum == comparator.SoldOut {
				return s
			}
		}
		t.Fatal("no such stratum")
		return comparator.StratumReport{}
	}
	if s := of(at(2*time.Hour, 995)); math.Abs(s.PerDay-995*12) > 1 || s.NeededSeconds == nil || math.Abs(float64(*s.NeededSeconds)-2000/995.0*7200) > 1 {
		t.Errorf("two hours: %+v", s)
	}
	if s := of(at(72*time.Hour, 900), at(time.Hour, 95)); s.PerDay != 95 || *s.NeededSeconds != 2000*86400/95 {
		t.Errorf("three days: %+v", s)
	}
	if s := of(at(72*time.Hour, 995)); s.PerDay != 0 || s.NeededSeconds != nil {
		t.Errorf("none today: %+v", s)
	}
}

func TestGoalsAreChecked(t *testing.T) {
	for _, goal := range []float64{0, -1, 1.1, math.NaN(), math.Inf(1)} {
		var fe *backends.FieldError
		if err := (comparator.Goals{comparator.SoldOut: goal}).Check(); !errors.As(err, &fe) {
			t.Errorf("%g: %v", goal, err)
		}
	}
	if err := (comparator.Goals{comparator.SoldOut: 0.5, comparator.Expiry: 1}).Check(); err != nil {
		t.Error(err)
	}
}

func TestTrendStep(t *testing.T) {
	for _, c := range []struct{ minutes, want int64 }{{1, 1}, {60, 1}, {61, 2}, {24 * 60, 30}, {7 * 24 * 60, 180}, {60 * 24 * 60, 1440}, {90 * 24 * 60, 2880}} {
		const from = 1440 * 1000
		step := comparator.TrendStep(from, from+c.minutes-1)
		if steps := (from+c.minutes-1)/step - from/step + 1; step != c.want || steps > 60 {
			t.Errorf("%d minutes: steps of %d, %d of them", c.minutes, step, steps)
		}
	}
}
