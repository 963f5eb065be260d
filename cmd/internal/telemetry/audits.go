package telemetry

import (
	"errors"

	"go.opentelemetry.io/otel/metric"
)

// auditGauges are those of the audits of pods.
type auditGauges struct {
	age                                    metric.Float64ObservableGauge
	findings, undetermined, running, fails metric.Int64ObservableGauge
}

func (m *Metrics) newAudits() (g auditGauges, err error) {
	var errs [5]error
	g.age, errs[0] = m.meter.Float64ObservableGauge(AuditAgeSeconds, metric.WithDescription("Since the end of the last complete audit, in seconds."))
	g.findings, errs[1] = m.meter.Int64ObservableGauge(AuditFindings, metric.WithDescription("Differences that the last complete audit found."))
	g.undetermined, errs[2] = m.meter.Int64ObservableGauge(AuditUndetermined, metric.WithDescription("Differences that the last complete audit could not settle."))
	g.running, errs[3] = m.meter.Int64ObservableGauge(AuditRunning, metric.WithDescription("1 while a proxy audits the pod."))
	g.fails, errs[4] = m.meter.Int64ObservableGauge(AuditFailures, metric.WithDescription("Failures of the audit since the last complete one."))
	return g, errors.Join(errs[:]...)
}

func (g *auditGauges) all() []metric.Observable {
	return []metric.Observable{g.age, g.findings, g.undetermined, g.running, g.fails}
}

func (g *auditGauges) observe(o metric.Observer, pod string, f AuditFigures) {
	if !f.Known {
		return
	}
	at := attrs("pod", pod)
	running := int64(0)
	if f.Running {
		running = 1
	}
	o.ObserveInt64(g.running, running, at)
	o.ObserveInt64(g.fails, f.Failures, at)
	if f.Complete {
		o.ObserveFloat64(g.age, f.Age.Seconds(), at)
		o.ObserveInt64(g.findings, f.Findings, at)
		o.ObserveInt64(g.undetermined, f.Open, at)
	}
}
