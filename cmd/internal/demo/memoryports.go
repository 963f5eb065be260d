package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// pair is the roles that the present stage gives the stores.
func (p *memoryPod) pair() (comparator.Pair, error) {
	f := p.Gate().Serving()
	truth, shadow := p.Stores().Of(f.Stage.Truth()), p.Stores().Of(f.Stage.Truth().Other())
	if truth == nil || shadow == nil {
		return comparator.Pair{}, comparator.ErrNoPair
	}
	return comparator.Pair{Stage: f.Stage, Truth: truth, Shadow: shadow}, nil
}

func (p *memoryPod) debt(ctx context.Context, side backends.Side) ([]comparator.DebtLine, error) {
	return comparator.ScanDebt(ctx, side, p.Stores().Of(side))
}

// memoryBounds are the demo's: whoever plays the shop on the same machine makes its shadow slow.
var memoryBounds = killswitch.Bounds{ShadowP99: 10 * time.Second}.WithDefaults()

// evidence is what the gates of a move judge. Memory is always fit, and has no breaker.
func (m *memory) evidence(ctx context.Context, p *memoryPod) killswitch.Evidence {
	e := killswitch.Evidence{
		BreakerClosed: killswitch.Is(true), SetupRedis: killswitch.Is(""), SetupMySQL: killswitch.Is(""),
		FindingsWindow: memoryBounds.FindingsWindow, ShadowWindow: memoryBounds.ShadowWindow, // nothing here is that old
	}
	f := p.Gate().Serving()
	if truth := p.Stores().Of(f.Stage.Truth()); truth != nil {
		if st, err := truth.OutboxStats(ctx); err == nil {
			e.OutboxEntries, e.Lost = killswitch.Is(st.Entries), killswitch.Is(st.Lost)
			e.OutboxLag = killswitch.Is(time.Duration(st.OldestMillis) * time.Millisecond)
		}
		if ls, err := p.debt(ctx, f.Stage.Truth().Other()); err == nil {
			var n int64
			for _, l := range ls {
				n += l.Units
			}
			e.Debt = killswitch.Is(n)
		}
	}
	if sums, err := p.summary(ctx, time.Time{}); err == nil {
		var n, bypasses int64
		for _, s := range sums {
			if s.Life != comparator.LifeOpen {
				continue
			}
			n += s.Findings
			if s.Class == comparator.BypassWrite {
				bypasses += s.Findings
			}
		}
		e.Findings, e.Bypasses = killswitch.Is(n), killswitch.Is(bypasses)
	}
	if rep, err := m.Report(ctx, p.Name(), time.Time{}); err == nil {
		e.Readiness = killswitch.Is(killswitch.Readiness{Ready: rep.Readiness.Ready, Kinds: len(rep.Readiness.Strata) + 1, Short: rep.Readiness.Missing})
		e.ShadowLatency = killswitch.Is(killswitch.Latency{P99: time.Duration(rep.ShadowLatency.P99) * time.Microsecond, Decisions: rep.ShadowLatency.Count})
	}
	// The only proxy is this process, and it learns of a change as it is made.
	e.Proxies = killswitch.Is(killswitch.Proxies{Epoch: f.Epoch, Fleet: []killswitch.Standing{{Proxy: "proxy-1", Epoch: f.Epoch}}})
	if seen, _, err := m.driver.Look(ctx, p.Name()); err == nil {
		e.BackfillComplete = killswitch.Is(len(killswitch.WorkFor(seen)) == 0)
	}
	if c, err := m.Conservation(ctx, p.Name()); err == nil {
		var n int64
		for _, s := range c.Stores {
			n += int64(s.BrokenTotal)
		}
		e.Imbalances = killswitch.Is(n)
	}
	return e
}

// summary sums up the findings, those of this moment included.
func (p *memoryPod) summary(ctx context.Context, since time.Time) ([]comparator.ClassSummary, error) {
	if err := p.comparator.Flush(ctx); err != nil {
		return nil, err
	}
	return p.findings.Summary(ctx, p.Name(), since)
}

// Report implements Operator.
func (m *memory) Report(ctx context.Context, pod backends.Pod, since time.Time) (comparator.Report, error) {
	p, err := m.pod(pod)
	if err != nil {
		return comparator.Report{}, err
	}
	f := p.Gate().Serving()
	in := comparator.ReportInput{Pod: pod, Stage: f.Stage, Epoch: f.Epoch, GeneratedAt: time.Now(), Since: since}
	var errs []error
	read := func(err error) { errs = append(errs, err) }
	in.Summary, err = p.summary(ctx, since)
	read(err)
	if truth := p.Stores().Of(f.Stage.Truth()); truth != nil {
		st, err := truth.OutboxStats(ctx)
		read(err)
		in.Outbox = &st
	}
	rows, err := p.findings.Coverage(ctx, pod, since)
	read(err)
	in.Coverage = comparator.FoldCoverage(pod, rows, comparator.Fold{Now: time.Now(), SettleWindow: p.comparator.SettleWindow()})
	in.Trend, err = p.findings.Trend(ctx, pod, since, in.GeneratedAt)
	read(err)
	in.Tallies = comparator.NewSum(in.GeneratedAt, in.Trend.StepMinutes)
	read(p.findings.Tallies(ctx, pod, since, in.Tallies.Add))
	in.Findings, err = p.findings.ListFindings(ctx, comparator.FindingQuery{Pod: pod, Since: since, Lives: comparator.ConfirmedLives(), Limit: reportFindings})
	read(err)
	for _, side := range []backends.Side{backends.SideRedis, backends.SideMySQL} {
		ls, err := p.debt(ctx, side)
		read(err)
		as, _, err := p.Stores().Of(side).Apologies(ctx, "", reportFindings)
		read(err)
		in.Debt, in.Apologies = append(in.Debt, ls...), append(in.Apologies, as...)
	}
	if err := errors.Join(errs...); err != nil {
		return comparator.Report{}, err
	}
	st := p.comparator.Stats()
	in.Truth, in.Shadow, in.Undetermined = st.Truth, st.Shadow, st.Undetermined
	return comparator.BuildReport(in)
}

// memoryCarrier brings states from one store to the other, for package killswitch.
type memoryCarrier struct{ m *memory }

// Drain implements killswitch.Carrier.
func (c memoryCarrier) Drain(ctx context.Context, pod backends.Pod, under backends.Fence) error {
	p, err := c.m.pod(pod)
	if err != nil {
		return err
	}
	return p.Drain(ctx, under)
}

// Settle implements killswitch.Carrier.
func (c memoryCarrier) Settle(ctx context.Context, pod backends.Pod, under backends.Fence) error {
	p, err := c.m.pod(pod)
	if err != nil {
		return err
	}
	p.Gate().Adopt(under)
	_, err = p.Settle(ctx)
	return err
}

// Backfill implements killswitch.Carrier.
func (c memoryCarrier) Backfill(ctx context.Context, pod backends.Pod, under backends.Fence, progress func(killswitch.Progress)) error {
	p, err := c.m.pod(pod)
	if err != nil {
		return err
	}
	p.Gate().Adopt(under)
	return p.Backfill(ctx, func(b dualwrite.BackfillProgress) {
		progress(killswitch.Progress{Phase: b.Phase, Levels: b.Levels, Holds: b.Holds, Voided: b.Voided, Waiting: b.Waiting})
	})
}

// Restore implements killswitch.Restorer.
func (c memoryCarrier) Restore(ctx context.Context, pod backends.Pod, under backends.Fence, complete bool) (killswitch.Restored, error) {
	p, err := c.m.pod(pod)
	if err != nil {
		return killswitch.Restored{}, err
	}
	p.Gate().Adopt(under)
	r, err := p.Restore(ctx, under, complete)
	return killswitch.Restored(r), err
}

// memoryRouter chooses pods by shop: the ports of the RESP door.
type memoryRouter struct{ m *memory }

func (r memoryRouter) of(shop backends.Shop) (*memoryPod, error) {
	if p := r.m.shops[shop]; p != nil {
		return p, nil
	}
	return nil, &backends.FieldError{Field: "shop", Value: fmt.Sprintf("%.80q", string(shop)), Bound: string(ShopOne + " or " + ShopTwo), Next: "name a shop of the demo"}
}

func (r memoryRouter) Reserve(ctx context.Context, q *backends.ReserveRequest) (*backends.Decision, error) {
	p, err := r.of(q.Shop)
	if err != nil {
		return nil, err
	}
	return p.Reserve(ctx, q)
}

func (r memoryRouter) Claim(ctx context.Context, q *backends.ClaimRequest, wait time.Duration) (*backends.Decision, error) {
	p, err := r.of(q.Shop)
	if err != nil {
		return nil, err
	}
	return p.Claim(ctx, q, wait)
}

func (r memoryRouter) Release(ctx context.Context, shop backends.Shop, q *backends.ReleaseRequest) (*backends.Decision, error) {
	p, err := r.of(shop)
	if err != nil {
		return nil, err
	}
	return p.Release(ctx, q)
}

func (r memoryRouter) Extend(ctx context.Context, shop backends.Shop, q *backends.ExtendRequest) (*backends.Decision, error) {
	p, err := r.of(shop)
	if err != nil {
		return nil, err
	}
	return p.Extend(ctx, q)
}

func (r memoryRouter) Get(ctx context.Context, shop backends.Shop, id backends.HoldID) (*backends.Hold, error) {
	p, err := r.of(shop)
	if err != nil {
		return nil, err
	}
	return p.Get(ctx, id)
}

func (r memoryRouter) Now(ctx context.Context, shop backends.Shop) (backends.Instant, error) {
	p, err := r.of(shop)
	if err != nil {
		return 0, err
	}
	return p.TruthNow(ctx)
}

func (r memoryRouter) Restock(ctx context.Context, q *backends.RestockRequest) (*backends.Decision, error) {
	p, err := r.of(q.Key.Shop)
	if err != nil {
		return nil, err
	}
	return p.Restock(ctx, q)
}

func (r memoryRouter) Count(ctx context.Context, q *backends.CountRequest) (*backends.CountResult, error) {
	p, err := r.of(q.Key.Shop)
	if err != nil {
		return nil, err
	}
	return p.Count(ctx, q)
}

func (r memoryRouter) Levels(ctx context.Context, keys []backends.Key) ([]backends.Level, error) {
	parts := map[*memoryPod][]backends.Key{}
	for _, k := range keys {
		p, err := r.of(k.Shop)
		if err != nil {
			return nil, err
		}
		parts[p] = append(parts[p], k)
	}
	var all []backends.Level
	for p, ks := range parts {
		ls, err := p.Levels(ctx, ks)
		if err != nil {
			return nil, err
		}
		all = append(all, ls...)
	}
	return all, nil
}

// ParseKey knows no counters: the demo's checkouts make holds.
func (r memoryRouter) ParseKey(string) (backends.Pod, backends.Key, bool) {
	return "", backends.Key{}, false
}

// DefaultLocation implements respdoor.Router.
func (r memoryRouter) DefaultLocation(backends.Shop) (backends.Location, bool) { return Home, true }
