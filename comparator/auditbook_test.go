package comparator_test

import (
	"errors"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

func TestWhenAnAuditIsDue(t *testing.T) {
	day := comparator.AuditSchedule{Every: 24 * time.Hour}
	night := comparator.AuditSchedule{Every: 24 * time.Hour, Window: comparator.DayWindow{From: 2 * time.Hour, Until: 5 * time.Hour}}
	dual := comparator.Pair{Stage: backends.Shadow, Epoch: 7}
	last := func(age time.Duration, epoch uint64) comparator.AuditRow {
		return comparator.AuditRow{Last: &comparator.AuditResult{Stage: backends.Shadow, Epoch: epoch}, LastBegun: age}
	}
	under := func(epoch uint64) comparator.AuditRow {
		r := last(time.Hour, 7)
		r.State = &comparator.AuditState{Format: 1, Result: comparator.AuditResult{Stage: backends.Shadow, Epoch: epoch}}
		return r
	}
	with := func(r comparator.AuditRow, change func(*comparator.AuditRow)) comparator.AuditRow {
		change(&r)
		return r
	}
	for _, c := range []struct {
		name string
		s    comparator.AuditSchedule
		row  comparator.AuditRow
		pair comparator.Pair
		sure time.Duration
		want bool
	}{
		{"a day after the last began", day, last(24*time.Hour, 7), dual, time.Hour, true},
		{"earlier", day, last(23*time.Hour, 7), dual, time.Hour, false},
		{"never audited, ten minutes in its stage", day, comparator.AuditRow{}, dual, 10 * time.Minute, true},
		{"never audited, and just moved", day, comparator.AuditRow{}, dual, 9 * time.Minute, false},
		{"a short interval waits no longer than that", comparator.AuditSchedule{Every: time.Minute}, comparator.AuditRow{}, dual, time.Minute, true},
		{"the last is of another epoch", day, last(time.Hour, 6), dual, 10 * time.Minute, true},
		{"the last is of another epoch, which has just begun", day, last(time.Hour, 6), dual, time.Minute, false},
		{"one was interrupted", day, under(7), dual, time.Minute, true},
		{"one was interrupted in another epoch", day, under(6), dual, time.Hour, false},
		{"somebody is at it", day, with(last(48*time.Hour, 7), func(r *comparator.AuditRow) { r.Lease = time.Second }), dual, time.Hour, false},
		{"no schedule", comparator.AuditSchedule{}, last(48*time.Hour, 7), dual, time.Hour, false},
		{"outside the window", night, last(48*time.Hour, 7), dual, time.Hour, false},
		{"the shadow is being filled", day, last(48*time.Hour, 7), comparator.Pair{Stage: backends.Shadow, Epoch: 7, Unsure: "so"}, time.Hour, false},
		{"one store serves alone", day, comparator.AuditRow{}, comparator.Pair{Stage: backends.MySQLOnly, Epoch: 7}, time.Hour, false},
		{"redis-only has claims", day, comparator.AuditRow{}, comparator.Pair{Stage: backends.RedisOnly, Epoch: 7}, time.Hour, true},
		{"no stage", day, comparator.AuditRow{}, comparator.Pair{}, time.Hour, false},
		{"failed a moment ago", day, with(under(7), func(r *comparator.AuditRow) { r.Fails, r.Failed = 1, 50*time.Second }), dual, time.Hour, false},
		{"failed a minute ago", day, with(under(7), func(r *comparator.AuditRow) { r.Fails, r.Failed = 1, time.Minute }), dual, time.Hour, true},
		{"failed three times, three minutes ago", day, with(under(7), func(r *comparator.AuditRow) { r.Fails, r.Failed = 3, 3*time.Minute }), dual, time.Hour, false},
		{"failed a thousand times, an hour ago", day, with(under(7), func(r *comparator.AuditRow) { r.Fails, r.Failed = 1000, time.Hour }), dual, time.Hour, true},
	} {
		if got := c.s.Due(&c.row, c.pair, c.sure, noon); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestDayWindow(t *testing.T) {
	at := func(h, m int) time.Time { return time.Date(2026, 5, 1, h, m, 0, 0, time.UTC) }
	for _, c := range []struct {
		text    string
		in, out []time.Time
	}{
		{"", []time.Time{at(0, 0), at(12, 0)}, nil},
		{"02:00-05:30", []time.Time{at(2, 0), at(5, 29), at(3, 0).In(time.FixedZone("x", 3*3600))}, []time.Time{at(1, 59), at(5, 30), at(23, 0)}},
		{"22:00-01:15", []time.Time{at(22, 0), at(23, 59), at(0, 0), at(1, 14)}, []time.Time{at(1, 15), at(21, 59), at(12, 0)}},
	} {
		w, err := comparator.ParseDayWindow(c.text)
		if err != nil || w.String() != c.text {
			t.Errorf("%q: %v, %v", c.text, w, err)
		}
		for _, x := range c.in {
			if !w.Has(x) {
				t.Errorf("%q has %s", c.text, x)
			}
		}
		for _, x := range c.out {
			if w.Has(x) {
				t.Errorf("%q does not have %s", c.text, x)
			}
		}
	}
	for _, bad := range []string{"2:00-05:30", "02:00", "02:00-02:00", "24:00-05:00", "02:60-05:00", "02:00-05:00 ", "night", "-1:00-05:00"} {
		var fe *backends.FieldError
		if _, err := comparator.ParseDayWindow(bad); !errors.As(err, &fe) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
