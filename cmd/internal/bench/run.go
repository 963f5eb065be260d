package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Info describes a metric without measuring it.
type Info struct {
	Name    string   `json:"name"`
	What    string   `json:"what"`
	A       string   `json:"a"`
	B       string   `json:"b,omitempty"`
	Targets []string `json:"targets,omitempty"`
}

// List describes the metrics that are asked for.
func List(only []string) ([]Info, error) {
	ms, err := chosen(metrics(), only)
	if err != nil {
		return nil, err
	}
	var out []Info
	for _, m := range ms {
		i := Info{Name: m.name, What: m.what, A: m.a, B: m.b}
		for _, r := range m.rows {
			if r.goal.kind != none {
				i.Targets = append(i.Targets, fmt.Sprintf("%s%s %s %s", m.name, r.suffix, r.goal, r.unit))
			}
		}
		out = append(out, i)
	}
	return out, nil
}

// Run measures. The report has what was measured also when an error is answered; an error means that
// the run could not go on, not that a target was missed: see Report.Complaint.
func Run(ctx context.Context, o Options) (*Report, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	ms, err := chosen(metrics(), o.Only)
	if err != nil {
		return nil, err
	}
	rep := &Report{Conclusive: o.conclusive(), Quick: o.Quick, Began: time.Now().UTC(), DurationMS: o.Duration.Milliseconds(), Pairs: o.Pairs, Machine: thisMachine()}
	e, err := newEnv(o, rep)
	if err != nil {
		return nil, err
	}
	defer func() { rep.TookMS = time.Since(rep.Began).Milliseconds() }()
	if rep.Fsync, err = measureFsync(os.TempDir(), min(o.Duration, fsyncFor)); err != nil {
		return rep, errors.Join(err, e.close(ctx))
	}
	e.say("fsync takes %.3f ms (p99 %.3f ms) here; %d metrics, %d pairs of %s a side", rep.Fsync.MedianMS, rep.Fsync.P99MS, len(ms), o.Pairs, o.Duration)
	for i, m := range ms {
		if err = e.measure(ctx, m, i+1, len(ms)); err != nil {
			break
		}
	}
	return rep, errors.Join(err, e.close(ctx))
}

// measure runs one metric; its failure is in the report, and the next one is measured.
func (e *env) measure(ctx context.Context, m *metric, i, n int) error {
	e.say("%-18s %d of %d: %s", m.name, i, n, m.what)
	began, before := time.Now(), len(e.rep.Metrics)
	err := m.run(ctx, e, m)
	var un *unmeasuredError
	var unequal *UnequalError
	switch {
	case ctx.Err() != nil:
		e.rep.Metrics = e.rep.Metrics[:before]
		return ctx.Err()
	case errors.As(err, &un):
		e.rep.Metrics = append(e.rep.Metrics[:before], m.unmeasured(NotMeasured, un.reason, un.next)...)
	case errors.As(err, &unequal):
		e.rep.Metrics = append(e.rep.Metrics[:before], m.unmeasured(Broken, unequal.Error(), "start both sides with the same durability")...)
	case err != nil:
		e.rep.Metrics = append(e.rep.Metrics[:before], m.unmeasured(Broken, err.Error(), "run it again alone: crossfade bench --only "+m.name)...)
	}
	for _, v := range e.rep.Metrics[before:] {
		e.say("%-18s %s (%.0f s)", v.Name, v.short(), time.Since(began).Seconds())
	}
	return nil
}
