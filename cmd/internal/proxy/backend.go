package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/behind"
	"github.com/crossfade-proxy/crossfade/cmd/internal/killfile"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Pods implements admin.Backend, as do the methods below.
func (p *Proxy) Pods() []backends.Pod {
	out := make([]backends.Pod, len(p.pods))
	for i, r := range p.pods {
		out[i] = r.name
	}
	return out
}

// Status reads record, fences and acknowledgements of a pod.
func (p *Proxy) Status(ctx context.Context, pod backends.Pod) (killswitch.Status, error) {
	if _, err := p.find(pod); err != nil {
		return killswitch.Status{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return p.driver.Status(ctx, pod)
}

// SetStage moves a pod by one stage.
func (p *Proxy) SetStage(ctx context.Context, q killswitch.SwitchRequest, steps func(killswitch.StepDone)) (killswitch.Result, error) {
	r, err := p.find(q.Pod)
	if err != nil {
		return killswitch.Result{}, err
	}
	q.Evidence, q.Bounds = r.evidence, r.gates
	res, err := p.driver.Switch(ctx, q)
	for _, s := range res.Change.Steps {
		steps(s)
	}
	if !q.DryRun && !errors.Is(err, killswitch.ErrControlUnavailable) {
		_ = r.pod.Refresh(ctx) // this proxy knows at once; the others within refreshEvery
		r.follow(ctx)
	}
	return res, err
}

// Kill takes a pod back by one compare-and-set in Redis.
func (p *Proxy) Kill(ctx context.Context, q killswitch.KillRequest) (killswitch.KillResult, error) {
	r, err := p.find(q.Pod)
	if err != nil {
		return killswitch.KillResult{}, err
	}
	q.Own = r.lastKill()
	q.Carry = behind.Carry{Pod: r.pod, Docs: p.control}
	res, err := killswitch.Kill(ctx, r.stores.Redis, p.control, killswitch.SystemClock{}, q)
	if err == nil && !q.DryRun {
		r.killed(q, res)
		_ = r.pod.Refresh(ctx)
	}
	return res, err
}

// watchKills watches the folder of kills, if there is one.
func (p *Proxy) watchKills(ctx context.Context) error {
	if p.cfg.Kill.Dir == "" {
		return nil
	}
	dir := p.cfg.Path(p.cfg.Kill.Dir)
	if err := killfile.Prepare(dir); err != nil {
		return err
	}
	w := &killfile.Watcher{Dir: dir, Proxy: p.cfg.ProxyID, Pods: p.Pods(), Kill: p.Kill, Log: p.log}
	p.spawn(func() { w.Run(ctx) })
	return nil
}

// Reissue raises both fences to a new epoch in the same stage: after Redis was restarted.
func (p *Proxy) Reissue(ctx context.Context, pod backends.Pod, who, why string) (killswitch.Result, error) {
	r, err := p.find(pod)
	if err != nil {
		return killswitch.Result{}, err
	}
	res, err := p.driver.Reissue(ctx, pod, who, why)
	if err == nil {
		_ = r.pod.Refresh(ctx)
	}
	return res, err
}

// History gives a page of a pod's changes.
func (p *Proxy) History(ctx context.Context, pod backends.Pod, before uint64, limit int) ([]killswitch.Change, error) {
	if _, err := p.find(pod); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return p.control.History(ctx, pod, before, limit)
}

// Report builds the mismatch report.
func (p *Proxy) Report(ctx context.Context, pod backends.Pod, since time.Time) (comparator.Report, error) {
	r, err := p.find(pod)
	if err != nil {
		return comparator.Report{}, err
	}
	return r.buildReport(ctx, since)
}

// Conservation checks P2 inside each store; what is out of balance becomes findings.
func (p *Proxy) Conservation(ctx context.Context, pod backends.Pod) (*comparator.Conservation, error) {
	r, err := p.find(pod)
	if err != nil {
		return nil, err
	}
	c := comparator.CheckConservation(ctx, pod, []comparator.NamedStore{
		{Name: backends.SideRedis.String(), Store: r.stores.Redis}, {Name: backends.SideMySQL.String(), Store: r.stores.MySQL},
	}, time.Now)
	f := r.pod.Gate().Serving()
	for _, found := range c.Findings(f.Stage, f.Epoch) {
		r.comparator.Record(found)
	}
	return c, nil
}

// LoadStock sets or adds units on hand, through the truth; the other store follows by the outbox.
func (p *Proxy) LoadStock(ctx context.Context, q *backends.RestockRequest) (known bool, err error) {
	d, err := p.router.Restock(ctx, q)
	return d != nil && d.Replayed, err
}

// Backfill makes the shadow complete again.
func (p *Proxy) Backfill(ctx context.Context, pod backends.Pod, progress func(dualwrite.BackfillProgress)) error {
	r, err := p.find(pod)
	if err != nil {
		return err
	}
	return r.pod.Backfill(ctx, progress)
}
