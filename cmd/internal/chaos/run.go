package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// scenario is one kind of fault.
type scenario struct {
	name  string
	cases []faultCase
}

// faultCase is one fault, tried by itself.
type faultCase struct {
	name string
	// says what is done, for the table.
	says  string
	stage backends.Stage // in which a trial begins
	// figure names what the worst of is printed, and bound what it may be; 0: it is not judged.
	figure string
	bound  time.Duration
	// once: one trial is all, however many are asked for.
	once bool
	play func(ctx context.Context, t *trial) error
}

// trial is one time that a fault is played.
type trial struct {
	*rig
	load  *load
	o     *Options
	no    int
	marks []time.Time // moments at which a truth may have been left
	worst time.Duration
	waits []time.Duration // of reserves that met a switch
	held  []time.Duration // how long switches held the gate
	spans [][2]time.Time  // of those switches
	notes []string
	bad   []string
}

// tell prints where a trial is.
func (r *rig) tell(format string, args ...any) {
	fmt.Fprintf(r.o.Progress, "%6.1f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (t *trial) mark() { t.marks = append(t.marks, time.Now()) }

func (t *trial) broken(format string, args ...any) {
	t.bad = append(t.bad, fmt.Sprintf(format, args...))
}

// figure keeps the worst of a measure.
func (t *trial) figure(d time.Duration) { t.worst = max(t.worst, d) }

// Names of all scenarios, in the order in which they are played.
func Names() []string {
	out := make([]string, 0, len(scenarios()))
	for _, s := range scenarios() {
		out = append(out, s.name)
	}
	return out
}

// Run plays on servers and proxies of its own.
func Run(ctx context.Context, o Options) (rep *Report, err error) {
	if o, err = o.complete(); err != nil {
		return nil, err
	}
	r := &rig{o: &o, began: time.Now()}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	rep = &Report{Proxies: fleet, Control: r.control.name(), Buyers: o.Buyers, Rate: o.Rate, Seed: o.Seed, Lenient: o.Lenient}
	fmt.Fprintf(o.Progress, "%d proxies, control store in %s, %d buyers, %d reserves/s asked for\n", fleet, rep.Control, o.Buyers, o.Rate)
	began := time.Now()
	for _, s := range scenarios() {
		if !slices.Contains(o.Scenarios, s.name) {
			continue
		}
		for i := range s.cases {
			row := rep.row(s.name, &s.cases[i])
			n := o.Trials
			if s.cases[i].once {
				n = 1
			}
			for no := range n {
				if ctx.Err() != nil || time.Since(began) > o.For {
					row.broken("%d of %d trials were not played: the time was over", n-no, n)
					break
				}
				if err := r.try(ctx, &s.cases[i], row, no); err != nil {
					row.broken("the run ended here: %v", err)
					rep.judge()
					return rep, err
				}
			}
		}
	}
	rep.Seconds = time.Since(began).Seconds()
	rep.judge()
	return rep, ctx.Err()
}

// try plays a fault once.
func (r *rig) try(ctx context.Context, c *faultCase, row *Row, no int) (err error) {
	o := r.o
	name := fmt.Sprintf("%s-%s-%d", row.Scenario, c.name, no)
	if err := errors.Join(r.heal(ctx), r.begin(ctx, c.stage)); err != nil {
		return fmt.Errorf("before %s: %w", name, err)
	}
	row.Tried++
	r.tell("%s begins", name)
	addrs := make([]string, 0, fleet)
	for _, p := range r.proxies {
		addrs = append(addrs, p.resp)
	}
	const warmup = 150 // reserves before the fault, and after it
	t := &trial{rig: r, o: o, no: no}
	if t.load, err = startLoad(ctx, fmt.Sprintf("t%d", r.trials), o, addrs); err != nil {
		t.load.end()
		return fmt.Errorf("%s: %w", name, err)
	}
	r.trials++
	err = t.load.warm(ctx, warmup)
	if err == nil {
		if err = c.play(ctx, t); err == nil {
			err = t.load.warm(ctx, warmup)
		}
	}
	t.load.end()
	r.tell("%d reserves made", t.load.reserves.Load())
	t.measure()
	if err != nil {
		t.broken("%v", err)
	}
	return r.finish(ctx, t, row, name)
}

// finish has everything come to rest and checks it.
func (r *rig) finish(ctx context.Context, t *trial, row *Row, name string) error {
	if err := r.heal(ctx); err != nil {
		return fmt.Errorf("after %s: %w", name, err)
	}
	st, err := r.settled(ctx)
	if err == nil {
		err = r.drained(ctx)
	}
	var c *checked
	if err == nil {
		c, err = r.check(ctx, t.load, t.marks, st.Actual.Stage.Truth())
	}
	if err != nil {
		t.broken("it does not come to rest: %v", err)
		c = &checked{}
	}
	t.bad = append(t.bad, c.Broken...)
	if err == nil {
		t.bad = append(t.bad, r.clean(ctx)...)
	}
	row.add(t, c)
	verdict := "survived"
	if len(t.bad) > 0 {
		verdict = "BROKEN"
		where, kerr := r.keep(name, t, c)
		if kerr != nil {
			return errors.Join(err, kerr)
		}
		row.broken("%s: kept in %s", name, where)
		for _, b := range t.bad {
			row.broken("%s: %s", name, b)
		}
	}
	fmt.Fprintf(r.o.Progress, "%-34s %s: %d reserves at %.0f/s (%d granted, %d sold out), %d tries without a verdict, %d histories with %d operations",
		name, verdict, t.load.reserves.Load(), t.load.rate(), t.load.granted.Load(), t.load.soldOut.Load(), t.load.retries.Load(), c.Histories, c.Operations)
	if t.worst > 0 {
		fmt.Fprintf(r.o.Progress, ", %s %s", row.Figure, t.worst.Round(time.Millisecond))
	}
	fmt.Fprintln(r.o.Progress)
	for _, n := range append(t.notes, t.bad...) {
		fmt.Fprintf(r.o.Progress, "    %s\n", n)
	}
	return err
}

func (l *load) rate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return float64(l.reserves.Load()) / l.stopped.Sub(l.began).Seconds()
}

// clean has a proxy audit the pod and check conservation.
func (r *rig) clean(ctx context.Context) (bad []string) {
	a, err := r.proxies[0].admin.Audit(ctx, podName, func(string, int64, int64) {})
	switch {
	case err != nil:
		bad = append(bad, "the audit: "+err.Error())
	case !a.Clean():
		bad = append(bad, fmt.Sprintf("the audit found %d differences and left %d undetermined", a.FindingsTotal, a.UndeterminedTotal))
		for i := range min(len(a.Findings), 3) { //nolint:mnd // enough to see what it is
			f := &a.Findings[i]
			bad = append(bad, fmt.Sprintf("the audit: %s of %q, %v: %s", f.Class, f.Hold, f.Units, f.Proof))
		}
	}
	c, err := r.proxies[0].admin.Conservation(ctx, podName)
	if err != nil {
		return append(bad, "conservation: "+err.Error())
	}
	if !c.Clean() {
		bad = append(bad, fmt.Sprintf("conservation: %+v", c.Stores))
	}
	return bad
}

// keep writes down the histories of the items in question, what failed, and the proxies' logs.
func (r *rig) keep(name string, t *trial, c *checked) (where string, err error) {
	if r.kept == "" {
		if r.o.Keep != "" {
			r.kept = r.o.Keep
			err = os.MkdirAll(r.kept, 0o700)
		} else {
			r.kept, err = os.MkdirTemp("", "crossfade-chaos-broken-")
		}
		if err != nil {
			return "", err
		}
	}
	where = filepath.Join(r.kept, name)
	if err := os.MkdirAll(where, 0o700); err != nil {
		return "", err
	}
	put := func(file string, v any) {
		b, jerr := json.MarshalIndent(v, "", " ")
		err = errors.Join(err, jerr, os.WriteFile(filepath.Join(where, file), b, 0o600))
	}
	put("broken.json", map[string]any{"broken": t.bad, "notes": t.notes, "marks": t.marks, "load_began": t.load.began})
	l := t.load
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := map[*item]bool{}
	for _, it := range c.bad {
		seen[it] = true
	}
	for it := range maps.Keys(seen) {
		put(fmt.Sprintf("item-%s.json", it.name), it.history)
	}
	failed := make([]string, 0, len(l.faults))
	for i := range l.faults {
		f := &l.faults[i]
		failed = append(failed, fmt.Sprintf("proxy %d, %d µs for %s: %s (excused: %v)", f.proxy, l.since(f.began), f.end.Sub(f.began), f.code, l.excused(f)))
	}
	put("tries.json", failed)
	for _, p := range r.proxies {
		err = errors.Join(err, copyFile(filepath.Join(where, filepath.Base(p.log)), p.log))
	}
	return where, err
}

func copyFile(to, from string) error {
	in, err := os.Open(from) //nolint:gosec // the harness's own
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to) //nolint:gosec // the harness's own
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
