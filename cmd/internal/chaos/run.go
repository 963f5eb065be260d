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
	// alone: the pod's policy is to answer without Redis while that is away.
	alone bool
	// prepare is what takes long and needs no buyers; nil: nothing.
	prepare func(ctx context.Context, r *rig) error
	play    func(ctx context.Context, t *trial) error
}

// trial is one time that a fault is played.
type trial struct {
	*rig
	load    *load
	no      int
	marks   []time.Time // moments at which a truth may have been left
	worst   time.Duration
	waits   []time.Duration            // of reserves that met a switch
	held    []time.Duration            // how long switches held the gate
	longest *Held                      // of them
	spans   [][2]time.Time             // of those switches
	steps   map[string][]time.Duration // and how long each of their steps took
	notes   []string
	bad     []string
	// switching: the figure is of those who met a switch.
	switching bool
}

// tell prints where a run is.
func (p *play) tell(format string, args ...any) {
	fmt.Fprintf(p.o.Progress, "%6.1f s  %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

func (t *trial) mark() { t.marks = append(t.marks, time.Now()) }

func (t *trial) broken(format string, args ...any) {
	t.bad = append(t.bad, fmt.Sprintf(format, args...))
}

func (t *trial) told(figure string) string {
	if t.worst == 0 {
		return ""
	}
	return fmt.Sprintf("; %s: %s", figure, t.worst.Round(time.Millisecond))
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
	if slices.ContainsFunc(casesOf(clockName), func(c string) bool { return o.wants(clockName, c) }) {
		if err := buildable(ctx); err != nil {
			return nil, err
		}
	}
	quiet()
	rep = &Report{Proxies: fleet, Buyers: o.Buyers, Rate: o.Rate, Seed: o.Seed, Lenient: o.Lenient}
	p := &play{o: &o, rep: rep, began: time.Now()}
	defer func() { err = errors.Join(err, p.close()) }()
	for _, s := range scenarios() {
		for i := range s.cases {
			if c := &s.cases[i]; o.wants(s.name, c.name) {
				if err := p.all(ctx, rep.row(s.name, c), c); err != nil {
					return rep, err
				}
			}
		}
	}
	rep.Seconds = time.Since(p.began).Seconds()
	rep.judge()
	return rep, ctx.Err()
}

// play is a run: the fleet that it plays on, and what came of it.
type play struct {
	o     *Options
	rep   *Report
	began time.Time
	rig   *rig
	dirs  string // the folder for what was broken
	n     int    // trials played
}

// ready has a fleet that is at rest: the last one, or a new one.
func (p *play) ready(ctx context.Context, alone bool) error {
	if p.rig != nil && p.rig.alone == alone {
		return nil
	}
	if err := p.close(); err != nil {
		return err
	}
	p.rig = &rig{play: p, alone: alone}
	if err := p.rig.open(ctx); err != nil {
		return err
	}
	p.rep.Control = p.rig.control.name()
	p.tell("%d proxies, control store in %s, %d buyers, %d reserves/s asked for", fleet, p.rep.Control, p.o.Buyers, p.o.Rate)
	return nil
}

func (p *play) close() (err error) {
	if p.rig != nil {
		err = p.rig.close()
	}
	p.rig = nil
	return err
}

// all plays a case as often as is asked for. A fleet that does not come to rest is given up, and the next trial has a new one.
func (p *play) all(ctx context.Context, row *Row, c *faultCase) error {
	n := p.o.Trials
	if c.once {
		n = 1
	}
	for no := range n {
		if over := ctx.Err() != nil || time.Since(p.began) > p.o.For; over {
			why := "the time was over"
			if ctx.Err() != nil {
				why = "it was broken off"
			}
			row.broken("%d of %d trials were not played: %s", n-no, n, why)
			return nil
		}
		if err := p.ready(ctx, c.alone); err != nil {
			return err
		}
		if err := p.rig.try(ctx, c, row, no); err != nil {
			row.broken("%v", err)
			if err := p.close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// try plays a fault once.
func (r *rig) try(ctx context.Context, c *faultCase, row *Row, no int) (err error) {
	o := r.o
	name := fmt.Sprintf("%s-%s-%d", row.Scenario, c.name, no)
	if c.prepare != nil {
		if err := c.prepare(ctx, r); err != nil {
			return fmt.Errorf("before %s: %w", name, err)
		}
	}
	if err := errors.Join(r.heal(ctx), r.begin(ctx, c.stage)); err != nil {
		return fmt.Errorf("before %s: %w", name, err)
	}
	row.Tried++
	r.n++
	r.tell("%s begins", name)
	addrs := make([]string, 0, fleet)
	for _, p := range r.proxies {
		addrs = append(addrs, p.resp)
	}
	const warmup = 150 // reserves before the fault, and after it
	t := &trial{rig: r, no: no}
	if t.load, err = startLoad(ctx, fmt.Sprintf("t%d", r.n), o, addrs, r.lag); err != nil {
		t.load.end()
		return fmt.Errorf("%s: %w", name, err)
	}
	err = t.load.warm(ctx, warmup)
	if err == nil {
		if err = c.play(ctx, t); err == nil {
			err = t.load.warm(ctx, warmup)
		}
	}
	t.load.end()
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
	r.tell("%s %s: %d reserves at %.0f/s (%d granted, %d sold out), %d tries without a verdict, %d histories with %d operations%s",
		name, verdict, t.load.reserves.Load(), t.load.rate(), t.load.granted.Load(), t.load.soldOut.Load(), t.load.retries.Load(), c.Histories, c.Operations, t.told(row.Figure))
	for _, n := range append(t.notes, t.bad...) {
		r.tell("    %s", n)
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
	if r.dirs == "" {
		if r.o.Keep != "" {
			r.dirs = r.o.Keep
			err = os.MkdirAll(r.dirs, 0o700)
		} else {
			r.dirs, err = os.MkdirTemp("", "crossfade-chaos-broken-")
		}
		if err != nil {
			return "", err
		}
	}
	where = filepath.Join(r.dirs, name)
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
