package contend

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/comparator"
)

const (
	stopPatience = 30 * time.Second
	database     = "contend"
	restEvery    = 100 * time.Millisecond
	tellEvery    = 10 * time.Second
)

// Run plays on servers of its own from the lab.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	if o, err = o.complete(); err != nil {
		return nil, err
	}
	var s Servers
	for _, k := range []lab.Kind{o.SQL, o.Redis} {
		srv, serr := lab.Start(ctx, k, lab.Options{Fast: o.Fast, Own: true, Progress: o.Progress})
		if serr != nil {
			return nil, serr
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
			defer cancel()
			err = errors.Join(err, srv.Stop(ctx))
		}()
		if !k.SQL() {
			s.Redis, s.Prefix = srv.Addr(), "contend:"
			continue
		}
		if err := srv.CreateDatabase(ctx, database); err != nil {
			return nil, err
		}
		s.DSN = srv.DSN(database)
	}
	return Play(ctx, s, o)
}

// Play plays on servers that are there.
func Play(ctx context.Context, s Servers, o Options) (r *Report, err error) {
	if o, err = o.complete(); err != nil {
		return nil, err
	}
	p := &pod{losses: &losses{}}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.open(ctx, s, &o); err != nil {
		return nil, err
	}
	fmt.Fprintf(o.Progress, "%d decisions in %s on %s and %s, %d proxies, %d buyers\n", o.Decisions, o.Stage, o.SQL, o.Redis, o.Proxies, o.Buyers)
	m := newMarket(p, &o)
	r = &Report{Stage: o.Stage, SQL: o.SQL, Redis: o.Redis, Proxies: o.Proxies, Buyers: o.Buyers, Sale: o.Sale, Lose: o.Lose, Seed: o.Seed, Allowed: o.Undetermined}
	told := tell(ctx, &o, m)
	began, cpu := time.Now(), processor()
	err = m.play(ctx)
	r.Seconds = time.Since(began).Seconds()
	if err == nil {
		err = r.rest(ctx, p, &o)
	}
	told()
	r.Rest, r.Processor = time.Since(began).Seconds()-r.Seconds, (processor() - cpu).Seconds()
	if err != nil {
		return nil, err
	}
	r.Decisions, r.Granted, r.SoldOut, r.Unknown = m.granted.Load()+m.soldOut.Load(), m.granted.Load(), m.soldOut.Load(), m.unknown.Load()
	r.Waited = time.Duration(m.waited.Load()).Seconds() / float64(o.Buyers)
	return r, r.judge(ctx, p)
}

// tell prints how far it is until it is told to stop.
func tell(ctx context.Context, o *Options, m *market) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(tellEvery)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			c := m.pod.coverage()
			fmt.Fprintf(o.Progress, "%9d of %d decided: %d explained, %d confirmed, %d undetermined; %d settling, %d behind\n",
				min(m.next.Load(), o.Decisions), o.Decisions, c.Explained, c.Confirmed, c.Undetermined, c.Settling, m.behind.Load())
		}
	}()
	return func() { cancel(); <-done }
}

// rest waits until each decision is in its last column.
func (r *Report) rest(ctx context.Context, p *pod, o *Options) error {
	tick := time.NewTicker(restEvery)
	defer tick.Stop()
	for deadline := time.Now().Add(o.Patience); ; {
		n, err := p.behind(ctx)
		if err != nil {
			return err
		}
		c := p.coverage()
		if n == 0 && c.Pending == 0 && c.Settling == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not come to rest within %s: %d entries on their way, %d decisions pending, %d settling", o.Patience, n, c.Pending, c.Settling)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// judge compares what was found with what was done.
func (r *Report) judge(ctx context.Context, p *pod) error {
	r.Undetermined, r.Balanced = map[string]int64{}, true
	for _, x := range p.proxies {
		if err := x.comparator.Check(); err != nil {
			r.Balanced = false
			r.broken("coverage: %v", err)
		}
		if err := x.comparator.Flush(ctx); err != nil {
			return err
		}
		s := x.comparator.Stats()
		for cause, n := range s.Undetermined {
			r.Undetermined[cause] += n
		}
		r.NotKept, r.Panics = r.NotKept+s.NotKept, r.Panics+s.Panics
	}
	r.Coverage = p.coverage()
	res, err := comparator.Audit(ctx, comparator.AuditInput{Pod: podName, Epoch: p.epoch, Pair: p.proxies[0].pair(p.stage)})
	if err != nil {
		return err
	}
	r.Audit = AuditFigures{Holds: res.HoldsTruth + res.HoldsShadow, Levels: res.LevelsTruth + res.LevelsShadow, Findings: res.FindingsTotal, Units: res.UnitsTotal, Undetermined: res.UndeterminedTotal}
	open, err := p.list(ctx, comparator.LifeOpen)
	if err != nil {
		return err
	}
	explained, err := p.list(ctx, comparator.LifeExplained)
	if err != nil {
		return err
	}
	r.weigh(p.losses, res.Findings, open, explained)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.HeapMiB = float64(m.HeapSys) / (1 << 20)
	return nil
}

// list lists all findings with a life.
func (p *pod) list(ctx context.Context, life comparator.Life) (out []comparator.Finding, err error) {
	q := comparator.FindingQuery{Pod: podName, Lives: []comparator.Life{life}}
	for {
		fs, err := p.findings.ListFindings(ctx, q)
		if err != nil {
			return nil, err
		}
		if len(fs) == 0 {
			return out, nil
		}
		out = append(out, fs...)
		last := &fs[len(fs)-1]
		q.After = comparator.CursorOf(last)
	}
}

// processor is how long this process has computed.
func processor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
