package bench

import (
	"context"
	"fmt"
	"math"
	"strconv"
)

// metric is one comparison.
type metric struct {
	name string
	what string // A over B, in one line
	a, b string // what the sides are, exactly
	rows []row  // what it prints; row 0 has the metric's own name
	run  func(ctx context.Context, e *env, m *metric) error
}

// row is one value of a metric and its target.
type row struct {
	suffix string // behind the metric's name; empty for the first
	figure string // of which the ratio is taken
	unit   string // "x" for a ratio
	goal   target
}

// target is a bound for a value. The zero target asks for nothing.
type target struct {
	kind  comparison
	bound float64
}

type comparison string

const (
	none    comparison = ""
	atLeast comparison = "≥"
	atMost  comparison = "≤"
	exactly comparison = "="
)

func (t target) String() string {
	if t.kind == none {
		return ""
	}
	return string(t.kind) + " " + strconv.FormatFloat(t.bound, 'f', -1, 64)
}

// Verdict on a value.
type Verdict string

// The verdicts. Only Met and WithinNoise pass.
const (
	Met         Verdict = "met"
	WithinNoise Verdict = "within noise"
	Missed      Verdict = "missed"
	NotMeasured Verdict = "not measured"
	Broken      Verdict = "broken"  // the measurement itself failed
	Printed     Verdict = "printed" // there is no target
)

// judge compares an interval with a target: it is missed when all of the interval misses it.
func judge(iv interval, t target) Verdict {
	if math.IsNaN(iv.value) {
		return Broken
	}
	meets := func(v float64) bool {
		switch t.kind {
		case atLeast:
			return v >= t.bound
		case atMost:
			return v <= t.bound
		case exactly:
			return v == t.bound
		default:
			return true
		}
	}
	low, high := meets(iv.low), meets(iv.high)
	switch {
	case t.kind == none:
		return Printed
	case low && high:
		return Met
	case low || high, t.kind == exactly && iv.low < t.bound && t.bound < iv.high:
		return WithinNoise
	default:
		return Missed
	}
}

// Value is one line of the result.
type Value struct {
	Name    string   `json:"name"`
	What    string   `json:"what"`
	Value   *float64 `json:"value"` // null when it was not measured
	Low     *float64 `json:"low"`
	High    *float64 `json:"high"`
	Covers  float64  `json:"covers,omitempty"` // the probability that low..high has the median
	Unit    string   `json:"unit"`
	Target  string   `json:"target,omitempty"`
	Verdict Verdict  `json:"verdict"`
	Pass    *bool    `json:"pass"` // null without a target, and when it was not measured
	A       *Side    `json:"a,omitempty"`
	B       *Side    `json:"b,omitempty"`
	// Beside are other opponents, and curves: printed, not judged.
	Beside []Side `json:"beside,omitempty"`
	// Ratios are those of the pairs, in their order.
	Ratios []float64 `json:"ratios,omitempty"`
	// Reason and Next say why it was not measured, or is broken, and what to do.
	Reason string `json:"reason,omitempty"`
	Next   string `json:"next,omitempty"`
}

// Side is what one side of a metric did: the medians of its figures over all pairs.
type Side struct {
	What    string  `json:"what"`
	Figures figures `json:"figures"`
}

func (v *Value) set(iv interval) {
	if math.IsNaN(iv.value) {
		return
	}
	v.Value, v.Low, v.High, v.Covers = &iv.value, &iv.low, &iv.high, iv.covers
}

func (v *Value) decide(d Verdict) {
	v.Verdict = d
	switch d {
	case Met, WithinNoise, Missed:
		pass := d != Missed
		v.Pass = &pass
	case Broken:
		pass := false
		v.Pass = &pass
	case NotMeasured, Printed:
	}
}

func (m *metric) fresh(r row) Value {
	return Value{Name: m.name + r.suffix, What: m.what, Unit: r.unit, Target: r.goal.String()}
}

// compared is the value of a row that is a ratio of two sides.
func (m *metric) compared(r row, pairs []pair, sides []side, beside ...Side) Value {
	v := m.fresh(r)
	v.Ratios = ratios(pairs, r.figure, 0, 1)
	iv := medianInterval(v.Ratios)
	v.set(iv)
	v.A = &Side{What: sides[0].what, Figures: medians(pairs, 0)}
	v.B = &Side{What: sides[1].what, Figures: medians(pairs, 1)}
	for i := 2; i < len(sides); i++ {
		v.Beside = append(v.Beside, Side{What: sides[i].what, Figures: medians(pairs, i)})
	}
	v.Beside = append(v.Beside, beside...)
	v.decide(judge(iv, r.goal))
	if v.Verdict == Broken {
		v.Reason = fmt.Sprintf("%s has no %s", sides[1].what, r.figure)
	}
	return v
}

// plain is the value of a row that is a figure of its own, of one or several runs.
func (m *metric) plain(r row, runs []float64, sides ...Side) Value {
	v := m.fresh(r)
	iv := medianInterval(runs)
	v.set(iv)
	v.Ratios = runs
	if len(sides) > 0 {
		v.A = &sides[0]
	}
	if len(sides) > 1 {
		v.Beside = sides[1:]
	}
	v.decide(judge(iv, r.goal))
	return v
}

// unmeasuredError says why a metric cannot be measured here, and what would help.
type unmeasuredError struct{ reason, next string }

func (e *unmeasuredError) Error() string { return e.reason + "; " + e.next }

// unmeasured are the values of a metric that was not measured.
func (m *metric) unmeasured(d Verdict, reason, next string) []Value {
	var out []Value
	for _, r := range m.rows {
		v := m.fresh(r)
		v.Reason, v.Next = reason, next
		v.decide(d)
		out = append(out, v)
	}
	return out
}
