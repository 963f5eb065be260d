package proxy

import (
	"context"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
	"github.com/crossfade-proxy/crossfade/cmd/internal/telemetry"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// auditsAtOnce bounds the scheduled audits that a proxy runs at the same time: the share of each is of its own time, and pods
// may share servers.
const auditsAtOnce = 1

// openAudits makes the audits of a pod, kept in its findings' store.
func (p *podRuntime) openAudits(c *config.Pod, book comparator.AuditBook, turns chan struct{}) (*comparator.Audits, comparator.AuditSchedule, error) {
	schedule, err := c.AuditSchedule()
	if err != nil {
		return nil, schedule, err
	}
	return comparator.NewAudits(comparator.AuditsConfig{
		// The time tells a run from the one before, which may still have an audit when it is killed.
		Pod: p.name, Holder: fmt.Sprintf("%s (run of %s)", p.proxyID, time.Now().UTC().Format(time.RFC3339Nano)), Book: book,
		Schedule: schedule, Share: c.Audit.Share, Turns: turns, Input: p.auditInput, Flush: p.comparator.Flush,
		Failed: func(err error) { p.report("audit", err) },
	}), schedule, nil
}

// auditInput is what an audit of the pod needs at present.
func (p *podRuntime) auditInput() comparator.AuditInput {
	return comparator.AuditInput{
		Pod: p.name, Epoch: p.pod.Gate().Serving().Epoch, Pair: p.pair, Retain: p.retain, Found: p.comparator.Record, Excuses: p.excuses.current(),
	}
}

// Audit compares all holds and levels, from the beginning; what it confirms becomes findings.
func (p *Proxy) Audit(ctx context.Context, pod backends.Pod, progress func(comparator.AuditProgress)) (*comparator.AuditResult, error) {
	return p.audit(ctx, pod, false, progress)
}

// ResumeAudit goes on with the pod's audit where one was interrupted, or begins one.
func (p *Proxy) ResumeAudit(ctx context.Context, pod backends.Pod, progress func(comparator.AuditProgress)) (*comparator.AuditResult, error) {
	return p.audit(ctx, pod, true, progress)
}

func (p *Proxy) audit(ctx context.Context, pod backends.Pod, resume bool, progress func(comparator.AuditProgress)) (*comparator.AuditResult, error) {
	r, err := p.find(pod)
	if err != nil {
		return nil, err
	}
	res, err := r.audits.ByHand(ctx, resume, progress)
	if err == nil {
		err = r.comparator.Flush(ctx)
	}
	return res, err
}

// auditReport says how the pod's audits stand.
func (p *podRuntime) auditReport(ctx context.Context, in *comparator.ReportInput, problem func(string, error)) {
	row, err := p.audits.Row(ctx)
	problem("how the audits stand", err)
	if err == nil {
		in.Audit = comparator.NewAuditReport(&row, p.schedule.Every, in.Stage, in.Epoch, in.GeneratedAt)
	}
}

// auditFigures are of the last look at the pod's audits, for the metrics page; they ask nobody.
func (p *podRuntime) auditFigures() (f telemetry.AuditFigures) {
	row, ago, ok := p.audits.Seen()
	if !ok {
		return f
	}
	f.Known, f.Running, f.Failures = true, row.Lease > ago, int64(row.Fails)
	if l := row.Last; l != nil {
		f.Complete, f.Age, f.Findings, f.Open = true, row.LastEnded+ago, l.FindingsTotal, l.UndeterminedTotal
	}
	return f
}
