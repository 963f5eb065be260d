package proxy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/rollout"
)

const (
	// trafficWindow is the time over which a pod's traffic is measured: a day, so that shops of all hours compare.
	trafficWindow = 24 * time.Hour
	// looksAtOnce bounds how many pods are looked at at the same time when a rollout is planned.
	looksAtOnce = 8
)

// fleet is the pods of this process, for rollouts.
type fleet struct{ p *Proxy }

var _ rollout.Fleet = fleet{}

// Pods implements rollout.Fleet.
func (f fleet) Pods(ctx context.Context, traffic bool) ([]rollout.Candidate, error) {
	out := make([]rollout.Candidate, len(f.p.pods))
	turns := make(chan struct{}, looksAtOnce)
	var wg sync.WaitGroup
	for i, r := range f.p.pods {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			out[i] = f.candidate(ctx, r, traffic)
		})
	}
	wg.Wait()
	return out, ctx.Err()
}

func (f fleet) candidate(ctx context.Context, r *podRuntime, traffic bool) rollout.Candidate {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c := rollout.Candidate{Pod: r.name, Labels: r.labels}
	w, err := f.Where(ctx, r.name)
	if err != nil {
		c.Problem = err.Error()
		return c
	}
	c.Stage, c.Switching = w.Stage, w.Switching
	if traffic && w.Stage.Dual() { // a stage without a shadow compares nothing, and so counts nothing
		c.Traffic = r.traffic(ctx, time.Now())
	}
	return c
}

// traffic is the pod's decisions in an hour, of all proxies.
func (p *podRuntime) traffic(ctx context.Context, now time.Time) killswitch.Figure[float64] {
	if err := p.comparator.Flush(ctx); err != nil {
		return killswitch.Figure[float64]{}
	}
	rows, err := p.findings.Coverage(ctx, p.name, now.Add(-trafficWindow))
	if err != nil {
		return killswitch.Figure[float64]{}
	}
	var n int64
	for i := range rows {
		n += rows[i].Decisions
	}
	return killswitch.Is(float64(n) / trafficWindow.Hours())
}

// Serves implements rollout.Fleet.
func (f fleet) Serves(pods []backends.Pod) bool {
	for _, pod := range pods {
		if f.p.byName[pod] == nil {
			return false
		}
	}
	return true
}

// Where implements rollout.Fleet.
func (f fleet) Where(ctx context.Context, pod backends.Pod) (rollout.Where, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	seen, _, err := f.p.driver.Look(ctx, pod)
	if err != nil {
		return rollout.Where{}, err
	}
	a := killswitch.Reconcile(seen, time.Now())
	if !seen.Redis.Known {
		return rollout.Where{}, fmt.Errorf("%w: Redis's fence cannot be read: %s", backends.ErrUnavailable, seen.Redis.Why)
	}
	return rollout.Where{Stage: a.Next.Stage, Epoch: a.Next.Epoch, Switching: a.Next.Switch != nil}, nil
}

// Switch implements rollout.Fleet.
func (f fleet) Switch(ctx context.Context, pod backends.Pod, to backends.Stage, who, why string) (killswitch.Result, error) {
	return f.p.SetStage(ctx, killswitch.SwitchRequest{Pod: pod, To: to, Who: who, Why: why}, func(killswitch.StepDone) {})
}

// Well implements rollout.Fleet.
func (f fleet) Well(ctx context.Context, pod backends.Pod) []killswitch.GateResult {
	r, err := f.p.find(pod)
	if err != nil {
		return []killswitch.GateResult{{Name: "pod", Figure: err.Error(), Bound: "served by this proxy"}}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stage := r.pod.Gate().Serving().Stage
	return killswitch.JudgeWell(stage, r.evidence(ctx, killswitch.NeedsForWell(stage)), r.gates)
}

// rollouts is the runner of this process.
func (p *Proxy) rollouts() *rollout.Runner {
	had := false
	report := func(err error) { // once each time that it begins to fail
		switch {
		case err != nil && !had:
			p.log.Warn("carrying on rollouts fails", "error", err)
		case err == nil && had:
			p.log.Info("carrying on rollouts works again")
		}
		had = err != nil
	}
	return rollout.NewRunner(rollout.Options{
		ID: killswitch.NewDriverID(p.cfg.ProxyID), Documents: p.control, Fleet: fleet{p},
		Report: report,
	})
}

// StartRollout implements admin.Backend, as do the methods below.
func (p *Proxy) StartRollout(ctx context.Context, r rollout.Request, dry bool) (*rollout.State, error) {
	return rollout.Start(ctx, p.control, fleet{p}, r, dry, time.Now())
}

// Rollout answers the present rollout and those before it.
func (p *Proxy) Rollout(ctx context.Context) (rollout.Overview, error) {
	return rollout.Read(ctx, p.control)
}

// ChangeRollout pauses, resumes or aborts the present one.
func (p *Proxy) ChangeRollout(ctx context.Context, q admin.RolloutChange) (*rollout.State, error) {
	switch q.Change {
	case admin.PauseRollout:
		return rollout.Pause(ctx, p.control, q.Who, q.Why, time.Now())
	case admin.ResumeRollout:
		return rollout.Resume(ctx, p.control, q.Skip, q.Who, q.Why, time.Now())
	case admin.AbortRollout:
		return rollout.Abort(ctx, p.control, q.Who, q.Why, time.Now())
	default:
		return nil, &backends.FieldError{Field: "change", Value: fmt.Sprintf("%.80q", q.Change), Bound: "pause, resume or abort", Next: "say what is to become of the rollout"}
	}
}
