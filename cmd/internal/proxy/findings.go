package proxy

import (
	"context"
	"errors"
	"fmt"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// findingsAway says of an error of the findings' store where the findings are, and what to do. What a caller
// did wrong is passed on as it is.
func findingsAway(err error, change bool) error {
	var life *comparator.LifeError
	switch {
	case err == nil, errors.Is(err, comparator.ErrNoFinding), errors.As(err, &life), backends.IsRejection(err), errors.Is(err, backends.ErrDamaged):
		return err
	case change:
		return fmt.Errorf("%w: findings and apologies are kept in the pod's MySQL, which did not confirm the change (%w); all of it was made or nothing: give the same command again when MySQL answers, it is made once", backends.ErrUnavailable, err)
	default:
		return fmt.Errorf("%w: findings and apologies are kept in the pod's MySQL, which does not answer (%w); what this proxy finds meanwhile waits in its spool", backends.ErrUnavailable, err)
	}
}

// ListFindings gives findings of a pod, those of this moment and this proxy included.
func (p *Proxy) ListFindings(ctx context.Context, q comparator.FindingQuery) ([]comparator.Finding, error) {
	r, err := p.find(q.Pod)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	if err := r.comparator.Flush(ctx); err != nil {
		return nil, findingsAway(err, false)
	}
	fs, err := r.findings.ListFindings(ctx, q)
	return fs, findingsAway(err, false)
}

// Finding gives one finding.
func (p *Proxy) Finding(ctx context.Context, pod backends.Pod, id string) (comparator.Finding, error) {
	r, err := p.find(pod)
	if err != nil {
		return comparator.Finding{}, err
	}
	if err := comparator.CheckFindingID(id); err != nil {
		return comparator.Finding{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	f, err := r.findings.Finding(ctx, pod, id)
	if err != nil {
		return comparator.Finding{}, findingsAway(err, false)
	}
	return *f, nil
}

// MoveFindings changes the life of findings. What has been seen and is not in MySQL yet (up to a second, or
// in a spool) opens them again: whoever moved them had not seen it.
func (p *Proxy) MoveFindings(ctx context.Context, pod backends.Pod, ids []string, c comparator.LifeChange) ([]comparator.Moved, error) {
	r, err := p.find(pod)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ms, err := r.findings.SetLife(ctx, pod, ids, c)
	if err != nil {
		return nil, findingsAway(err, true)
	}
	p.log.Info("findings were moved", "pod", string(pod), "to", c.To.String(), "by", c.By, "findings", len(ms), "why", c.Why)
	return ms, nil
}
