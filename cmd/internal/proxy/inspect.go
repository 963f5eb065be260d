package proxy

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/telemetry"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

const (
	// figuresWithin bounds what the metrics page waits for stores.
	figuresWithin = 2 * time.Second
	// reportWithin bounds a report: what a store has not told by then is named as missing.
	reportWithin = 8 * time.Second
	// debtEvery is how often the levels are read for the metric of debt.
	debtEvery = 30 * time.Second
	// reportFindings is how many findings a report reads.
	reportFindings = 1000
)

// figures reads all pods at the same time, for the metrics page.
func (p *Proxy) figures(ctx context.Context) []telemetry.PodFigures {
	ctx, cancel := context.WithTimeout(ctx, figuresWithin)
	defer cancel()
	out := make([]telemetry.PodFigures, len(p.pods))
	var wg sync.WaitGroup
	for i, r := range p.pods {
		wg.Add(1)
		go func() {
			defer wg.Done()
			out[i] = r.figures(ctx)
		}()
	}
	wg.Wait()
	return out
}

func (p *podRuntime) figures(ctx context.Context) telemetry.PodFigures {
	st := p.comparator.Stats()
	f := telemetry.PodFigures{
		Pod: p.name, Fence: p.pod.Gate().Serving(), BreakerOpen: p.pod.BreakerOpen(), LaneDepth: p.pod.LaneDepth(), Behind: p.alone.Seen().RedisBehind != nil, Alone: p.alone.Answered(),
		Outbox: map[backends.Side]backends.OutboxStats{}, Debt: map[backends.Side]int64{},
		Decisions: map[string]int64{}, Findings: st.Confirmed, SpoolBytes: st.SpoolBytes, Pool: p.pools().Data, Audit: p.auditFigures(),
	}
	for _, c := range comparator.Columns() {
		f.Decisions[c.String()] = st.Coverage.Of(c)
	}
	for _, side := range []backends.Side{backends.SideRedis, backends.SideMySQL} {
		if s, err := p.stores.Of(side).OutboxStats(ctx); err == nil {
			f.Outbox[side] = s
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(f.Debt, p.debt)
	return f
}

// watchDebt sums up the debt of both stores now and then, for the metric, and copies Redis's apologies.
func (p *podRuntime) watchDebt(ctx context.Context) {
	for ctx.Err() == nil {
		for _, side := range []backends.Side{backends.SideRedis, backends.SideMySQL} {
			cctx, cancel := context.WithTimeout(ctx, callTimeout)
			lines, err := p.debts(cctx, side)
			cancel()
			p.mu.Lock()
			delete(p.debt, side)
			if err == nil {
				for _, l := range lines {
					p.debt[side] += l.Units
				}
				p.debt[side] += 0 // known, also when there is none
			}
			p.mu.Unlock()
		}
		p.keepApologies(ctx)
		_ = dualwrite.SystemClock{}.Wait(ctx, nil, debtEvery)
	}
}

func (p *podRuntime) debts(ctx context.Context, side backends.Side) ([]comparator.DebtLine, error) {
	return comparator.ScanDebt(ctx, side, p.stores.Of(side))
}

// buildReport reads what a report is made of. What cannot be read is named in it.
func (p *podRuntime) buildReport(ctx context.Context, since time.Time) (comparator.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	f := p.pod.Gate().Serving()
	in := comparator.ReportInput{Pod: p.name, Stage: f.Stage, Epoch: f.Epoch, GeneratedAt: time.Now(), Since: since}
	problem := func(what string, err error) {
		if err != nil {
			in.Problems = append(in.Problems, what+": "+err.Error())
			in.Incomplete = in.Incomplete || !errors.Is(err, comparator.ErrManyLevels)
		}
	}
	problem("findings that are not saved yet", p.comparator.Flush(ctx))
	empty := false
	if truth := p.stores.Of(f.Stage.Truth()); truth != nil {
		s, err := truth.OutboxStats(ctx)
		problem("the truth's outbox", err)
		if err == nil {
			in.Outbox, empty = &s, s.Entries == 0
		}
	}
	rows, err := p.findings.Coverage(ctx, p.name, since)
	problem("coverage", err)
	in.Coverage = comparator.FoldCoverage(p.name, rows, comparator.Fold{Now: time.Now(), SettleWindow: p.settle, OutboxEmpty: empty})
	in.Summary, err = p.findings.Summary(ctx, p.name, since)
	problem("findings", err)
	in.Findings, err = p.findings.ListFindings(ctx, comparator.FindingQuery{Pod: p.name, Since: since, Lives: comparator.ConfirmedLives(), Limit: reportFindings})
	problem("findings", err)
	in.Excuses = p.excuses.current()
	in.ExcuseUse, err = p.findings.ExcuseUse(ctx, p.name, time.Time{})
	problem("what was excused", err)
	if text := p.excuses.problem(); text != "" {
		in.Problems = append(in.Problems, text)
	}
	st := p.comparator.Stats()
	in.Truth, in.Shadow, in.Undetermined = st.Truth, st.Shadow, st.Undetermined
	in.Goals = p.goals
	in.Trend, err = p.findings.Trend(ctx, p.name, since, in.GeneratedAt)
	problem("how things went over time", err)
	in.Tallies = comparator.NewSum(in.GeneratedAt, in.Trend.StepMinutes)
	problem("evidence by stratum", p.findings.Tallies(ctx, p.name, since, in.Tallies.Add))
	for _, side := range []backends.Side{backends.SideRedis, backends.SideMySQL} {
		ls, err := p.debts(ctx, side)
		problem("debts of "+side.String(), err)
		in.Debt = append(in.Debt, ls...)
	}
	p.apologyReport(ctx, &in, problem)
	p.auditReport(ctx, &in, problem)
	return comparator.BuildReport(in)
}
