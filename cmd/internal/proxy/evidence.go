package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// proxiesWithin is how long the gate of that name waits for proxies that are behind: twice as long as they take to look.
const proxiesWithin = 2 * keepEvery

// evidence is what the gates of a move judge; what is not needed stays unknown.
func (p *podRuntime) evidence(ctx context.Context, need killswitch.Need) killswitch.Evidence {
	e := killswitch.Evidence{FindingsWindow: p.gates.FindingsWindow, ShadowWindow: p.gates.ShadowWindow}
	if need.Has(killswitch.NeedProxies) {
		p.proxiesEvidence(ctx, &e)
	}
	if need.Has(killswitch.NeedBreaker) {
		e.BreakerClosed = killswitch.Is(!p.pod.BreakerOpen())
	}
	if need.Has(killswitch.NeedBackfill) {
		if seen, _, err := p.driver.Look(ctx, p.name); err == nil {
			e.BackfillComplete = backfillFigure(seen)
		}
	}
	p.storesEvidence(ctx, &e, need)
	return e
}

// storesEvidence is what is read from the stores. A MySQL that does not answer a short question is not asked long ones: some
// take as long as there is stock, and have no bound of their own.
func (p *podRuntime) storesEvidence(ctx context.Context, e *killswitch.Evidence, need killswitch.Need) {
	if need.Has(killswitch.NeedSetup) {
		cctx, cancel := context.WithTimeout(ctx, callTimeout)
		e.SetupRedis = setupFigure(p.stores.Redis.Setup(cctx))
		e.SetupMySQL = setupFigure(cmp.Or(p.stores.MySQL.Setup(cctx), backends.Apart(cctx, p.stores.Redis, p.stores.MySQL)))
		cancel()
	}
	truth := p.pod.Gate().Serving().Stage.Truth()
	if need.Has(killswitch.NeedOutbox) && p.stores.Of(truth) != nil {
		p.outboxEvidence(ctx, e, truth)
	}
	const long = killswitch.NeedDebt | killswitch.NeedBalance | killswitch.NeedFindings | killswitch.NeedBypass | killswitch.NeedReadiness | killswitch.NeedLatency
	if need&long == 0 || !answers(ctx, p.stores.MySQL) {
		return
	}
	p.comparisonEvidence(ctx, e, need)
	if need.Has(killswitch.NeedDebt) && p.stores.Of(truth) != nil {
		p.debtEvidence(ctx, e, truth.Other())
	}
	if need.Has(killswitch.NeedBalance) {
		p.balanceEvidence(ctx, e)
	}
}

func answers(ctx context.Context, s backends.Store) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := s.Now(ctx)
	return err == nil
}

func (p *podRuntime) outboxEvidence(ctx context.Context, e *killswitch.Evidence, truth backends.Side) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if s, err := p.stores.Of(truth).OutboxStats(ctx); err == nil {
		e.OutboxEntries = killswitch.Is(s.Entries)
		e.OutboxLag = killswitch.Is(time.Duration(s.OldestMillis) * time.Millisecond)
		e.Lost = killswitch.Is(s.Lost)
	}
}

// backfillFigure: what a fence would tell of work to be done is not known while it cannot be read.
func backfillFigure(seen killswitch.Seen) killswitch.Figure[bool] {
	due := len(killswitch.WorkFor(seen)) > 0
	return killswitch.Figure[bool]{Value: !due, Known: due || seen.Redis.Known && seen.MySQL.Known}
}

func (p *podRuntime) debtEvidence(ctx context.Context, e *killswitch.Evidence, shadow backends.Side) {
	ls, err := p.debts(ctx, shadow)
	if err != nil {
		return
	}
	var n int64
	for _, l := range ls {
		n += l.Units
	}
	e.Debt = killswitch.Is(n)
}

// comparisonEvidence is what the comparators of all proxies have found and counted. What has not reached the findings' store
// leaves it unknown.
func (p *podRuntime) comparisonEvidence(ctx context.Context, e *killswitch.Evidence, need killswitch.Need) {
	const of = killswitch.NeedFindings | killswitch.NeedBypass | killswitch.NeedReadiness | killswitch.NeedLatency
	if need&of == 0 || p.comparator.Flush(ctx) != nil {
		return
	}
	now := time.Now()
	all := func(comparator.Class) bool { return true }
	if need.Has(killswitch.NeedFindings) {
		e.Findings = p.openFindings(ctx, now.Add(-p.gates.FindingsWindow), all)
	}
	if need.Has(killswitch.NeedBypass) {
		e.Bypasses = p.openFindings(ctx, time.Time{}, func(c comparator.Class) bool { return c == comparator.BypassWrite })
	}
	if need.Has(killswitch.NeedLatency) {
		sum := comparator.NewSum(now, comparator.SlotMinutes)
		if err := p.findings.Tallies(ctx, p.name, now.Add(-p.gates.ShadowWindow), sum.Add); err == nil {
			_, shadow, _ := sum.Latencies()
			e.ShadowLatency = killswitch.Is(killswitch.Latency{P99: time.Duration(shadow.P99) * time.Microsecond, Decisions: shadow.Count})
		}
	}
	if need.Has(killswitch.NeedReadiness) {
		e.Readiness = p.readinessEvidence(ctx)
	}
}

// openFindings counts those of some classes that are open and were last seen since then.
func (p *podRuntime) openFindings(ctx context.Context, since time.Time, of func(comparator.Class) bool) killswitch.Figure[int64] {
	sums, err := p.findings.Summary(ctx, p.name, since)
	if err != nil {
		return killswitch.Figure[int64]{}
	}
	var n int64
	for _, s := range sums {
		if s.Life == comparator.LifeOpen && of(s.Class) {
			n += s.Findings
		}
	}
	return killswitch.Is(n)
}

// readinessEvidence is the report's readiness; its verdict too, where the gate asks for that.
func (p *podRuntime) readinessEvidence(ctx context.Context) killswitch.Figure[killswitch.Readiness] {
	if p.gates.Readiness == killswitch.ReadyByVerdict {
		rep, err := p.buildReport(ctx, time.Time{})
		if err != nil {
			return killswitch.Figure[killswitch.Readiness]{}
		}
		r := readinessFigures(rep.Readiness)
		r.Go, r.Verdict = rep.Verdict.State == comparator.ReportGo, string(rep.Verdict.State)+": "+rep.Verdict.Why
		return killswitch.Is(r)
	}
	now := time.Now()
	trend, err := p.findings.Trend(ctx, p.name, time.Time{}, now)
	if err != nil {
		return killswitch.Figure[killswitch.Readiness]{}
	}
	sum := comparator.NewSum(now, trend.StepMinutes)
	if err := p.findings.Tallies(ctx, p.name, time.Time{}, sum.Add); err != nil {
		return killswitch.Figure[killswitch.Readiness]{}
	}
	return killswitch.Is(readinessFigures(comparator.BuildReadiness(sum, &trend, p.goals)))
}

// readinessFigures are what the gate is told: which kinds are short, and of how much.
func readinessFigures(from comparator.Readiness) killswitch.Readiness {
	r := killswitch.Readiness{Ready: from.Ready, Kinds: 1} // the load
	for i := range from.Strata {
		s := &from.Strata[i]
		if s.Verdict == comparator.StratumOff {
			continue
		}
		r.Kinds++
		switch {
		case s.Settled():
		case s.Findings > 0:
			r.Short = append(r.Short, fmt.Sprintf("%s has %d findings in %d", s.Stratum, s.Findings, s.Compared))
		default:
			r.Short = append(r.Short, fmt.Sprintf("%s wants %d more", s.Stratum, s.Needed))
		}
	}
	if l := from.Load; !l.Enough {
		r.Short = append(r.Short, fmt.Sprintf("load (%d of a peak of %d a minute)", l.Carried, l.Peak))
	}
	return r
}

// proxiesEvidence asks which proxies serve the pod, and what each has acknowledged. It waits a moment for those that are
// behind: they look twice a second.
func (p *podRuntime) proxiesEvidence(ctx context.Context, e *killswitch.Evidence) {
	p.follow(ctx)
	_ = p.acknowledge(ctx) // what it could not say shows in what is read
	for until := time.Now().Add(proxiesWithin); ; {
		st, _, err := p.control.Get(ctx, p.name)
		if err != nil {
			return
		}
		fleet, err := killswitch.ReadFleet(ctx, p.control, p.name)
		if err != nil {
			return
		}
		now := killswitch.Proxies{Epoch: st.Epoch, Fleet: fleet.Standings(p.name, time.Now())}
		e.Proxies = killswitch.Is(now)
		if !now.Behind() || time.Now().After(until) {
			return
		}
		if (dualwrite.SystemClock{}).Wait(ctx, nil, setupPoll) != nil {
			return
		}
	}
}

func (p *podRuntime) balanceEvidence(ctx context.Context, e *killswitch.Evidence) {
	n, known := int64(0), true
	for _, s := range []backends.Store{p.stores.Redis, p.stores.MySQL} {
		broken, _, err := s.Conservation(ctx)
		n, known = n+int64(len(broken)), known && err == nil
	}
	if known {
		e.Imbalances = killswitch.Is(n)
	}
}

func setupFigure(err error) killswitch.Figure[string] {
	if err == nil {
		return killswitch.Is("")
	}
	if errors.Is(err, backends.ErrSetup) || errors.Is(err, backends.ErrSameStore) {
		return killswitch.Is(err.Error())
	}
	return killswitch.Figure[string]{}
}
