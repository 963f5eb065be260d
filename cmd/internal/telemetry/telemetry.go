package telemetry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/attribute"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/crossfade-proxy/crossfade/backends"
)

// buckets cover 50 µs (a Redis script on the same host) to 10 s (an operation's whole time).
var buckets = []float64{.00005, .0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}

// PodFigures is what is read of a pod when the page is fetched.
type PodFigures struct {
	Pod         backends.Pod
	Fence       backends.Fence
	BreakerOpen bool
	Behind      bool  // the pod is marked as redis behind
	Alone       int64 // answers of this proxy without Redis
	LaneDepth   int
	Outbox      map[backends.Side]backends.OutboxStats // sides that answered
	Debt        map[backends.Side]int64                // sides whose levels were read
	Decisions   map[string]int64                       // by column
	Findings    map[string]int64                       // by class
	SpoolBytes  int64
	Pool        sql.DBStats // of connections to MySQL, for reservations
	Audit       AuditFigures
}

// AuditFigures are of a pod's audits, as they were last looked at. What is not known is left out.
type AuditFigures struct {
	Known    bool // they were looked at
	Running  bool
	Failures int64
	Complete bool          // there is a complete one; what follows is of the last
	Age      time.Duration // since it ended
	Findings int64
	Open     int64 // undetermined
}

// Metrics are the instruments of one proxy. It fills dualwrite.Observer.
type Metrics struct {
	registry *prometheus.Registry
	provider *sdk.MeterProvider
	meter    metric.Meter

	operation, storeCall, gateWait, mirrorLag, connection metric.Float64Histogram
	mirrored, laneFull, apology, resubmitted              metric.Int64Counter
	tags                                                  connectionTags

	// What is told with every operation keeps its labels: making them costs more than the rest.
	operations, calls labels
}

// New makes the instruments in a registry of their own.
func New() (*Metrics, error) {
	reg := prometheus.NewRegistry()
	exp, err := otelprom.New(otelprom.WithRegisterer(reg), otelprom.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithoutSuffixes), otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("making the metrics page: %w", err)
	}
	m := &Metrics{registry: reg, provider: sdk.NewMeterProvider(sdk.WithReader(exp))}
	m.meter = m.provider.Meter("crossfade")
	var errs []error
	hist := func(name, help string) metric.Float64Histogram {
		h, err := m.meter.Float64Histogram(name, metric.WithDescription(help), metric.WithExplicitBucketBoundaries(buckets...))
		errs = append(errs, err)
		return h
	}
	count := func(name, help string) metric.Int64Counter {
		c, err := m.meter.Int64Counter(name, metric.WithDescription(help))
		errs = append(errs, err)
		return c
	}
	m.operation = hist(OperationSeconds, "Operations of callers, from arrival to answer, in seconds.")
	m.storeCall = hist(StoreCallSeconds, "Calls of a store, in seconds.")
	m.gateWait = hist(GateWaitSeconds, "How long operations waited at the gate, in seconds.")
	m.mirrorLag = hist(MirrorLagSeconds, "From decision to confirmation by the shadow, the oldest of each step, in seconds.")
	m.connection = hist(ConnectionSeconds, "How long MySQL connections were held, by business process, in seconds.")
	m.mirrored = count(MirroredTotal, "Entries that the shadow confirmed.")
	m.laneFull = count(LaneFullTotal, "Entries and probes that found their lane full.")
	m.apology = count(ApologyUnitsTotal, "Units promised that are not there.")
	m.resubmitted = count(ResubmittedTotal, "Operations that a new truth decided again, under their id.")
	return m, errors.Join(errs...)
}

// Handler serves the page.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Close flushes and ends the provider.
func (m *Metrics) Close(ctx context.Context) error { return m.provider.Shutdown(ctx) }

func attrs(kv ...string) metric.MeasurementOption {
	as := make([]attribute.KeyValue, 0, len(kv)/2)
	for i := 0; i+1 < len(kv); i += 2 {
		as = append(as, attribute.String(kv[i], kv[i+1]))
	}
	return metric.WithAttributeSet(attribute.NewSet(as...))
}

// Operation implements dualwrite.Observer.
func (m *Metrics) Operation(pod backends.Pod, stage backends.Stage, op backends.Op, o backends.Outcome, err error, d time.Duration) {
	out := o.String()
	if err != nil {
		out = result(err)
	}
	options := m.operations.of(series{pod: pod, stage: stage, op: op, what: out}, func() []string {
		return []string{"pod", string(pod), "stage", stage.String(), "op", op.String(), "outcome", strings.ReplaceAll(out, " ", "_")}
	})
	m.operation.Record(context.Background(), d.Seconds(), options...)
}

// StoreCall implements dualwrite.Observer.
func (m *Metrics) StoreCall(pod backends.Pod, side backends.Side, role string, op backends.Op, err error, d time.Duration) {
	res := result(err)
	m.storeCall.Record(context.Background(), d.Seconds(), m.calls.of(series{pod: pod, side: side, role: role, op: op, what: res}, func() []string {
		return []string{"pod", string(pod), "store", side.String(), "role", role, "op", op.String(), "result", res}
	})...)
}

// result names the kind of an error.
func result(err error) string {
	var fe *backends.FencedError
	switch {
	case err == nil:
		return "ok"
	case backends.IsRejection(err):
		return "rejected"
	case errors.As(err, &fe):
		return "fenced"
	case errors.Is(err, backends.ErrAmbiguous):
		return "ambiguous"
	case errors.Is(err, backends.ErrBusy):
		return "busy"
	case errors.Is(err, backends.ErrUnavailable):
		return "unavailable"
	default:
		return "error"
	}
}

// GateWait implements dualwrite.Observer.
func (m *Metrics) GateWait(pod backends.Pod, d time.Duration) {
	m.gateWait.Record(context.Background(), d.Seconds(), attrs("pod", string(pod)))
}

// Mirrored implements dualwrite.Observer.
func (m *Metrics) Mirrored(pod backends.Pod, n int, lag time.Duration, swept bool) {
	by := "owner"
	if swept {
		by = "sweeper"
	}
	m.mirrored.Add(context.Background(), int64(n), attrs("pod", string(pod), "by", by))
	if lag > 0 {
		m.mirrorLag.Record(context.Background(), lag.Seconds(), attrs("pod", string(pod)))
	}
}

// LaneFull implements dualwrite.Observer.
func (m *Metrics) LaneFull(pod backends.Pod, what string) {
	m.laneFull.Add(context.Background(), 1, attrs("pod", string(pod), "what", what))
}

// Apology implements dualwrite.Observer.
func (m *Metrics) Apology(pod backends.Pod, a backends.Apology) {
	m.apology.Add(context.Background(), a.Quantity, attrs("pod", string(pod)))
}

// Resubmitted implements dualwrite.Observer.
func (m *Metrics) Resubmitted(pod backends.Pod, op backends.Op) {
	m.resubmitted.Add(context.Background(), 1, attrs("pod", string(pod), "op", op.String()))
}

// Watch reads figures when the page is fetched. figures must answer within its context's time.
func (m *Metrics) Watch(figures func(context.Context) []PodFigures, connections func() int64) error {
	var errs []error
	ig := func(name, help string) metric.Int64ObservableGauge {
		g, err := m.meter.Int64ObservableGauge(name, metric.WithDescription(help))
		errs = append(errs, err)
		return g
	}
	entries := ig(OutboxEntries, "Hold states and level changes that the other store has not confirmed.")
	lost := ig(OutboxLost, "1 when the outbox has dropped entries since the last backfill.")
	stage := ig(Stage, "1 for the stage that this proxy serves.")
	epoch := ig(Epoch, "The epoch that this proxy serves.")
	open := ig(BreakerOpen, "1 when the shadow is not being asked.")
	behind := ig(RedisBehind, "1 while the control store marks the pod as redis behind.")
	depth := ig(LaneDepth, "Entries and probes waiting in lanes.")
	decisions := ig(Decisions, "Decisions of this proxy by column of the coverage account.")
	spool := ig(SpoolBytes, "Findings that wait on local disk.")
	debt := ig(DebtUnits, "Units promised that a store does not have.")
	auditOf, err := m.newAudits()
	errs = append(errs, err)
	conns := ig(DoorConnections, "Client connections.")
	oldest, err := m.meter.Float64ObservableGauge(OutboxOldestSeconds, metric.WithDescription("Age of the oldest entry in an outbox, in seconds."))
	errs = append(errs, err)
	found, err := m.meter.Int64ObservableCounter(FindingsTotal, metric.WithDescription("Findings confirmed by this proxy."))
	errs = append(errs, err)
	alone, err := m.meter.Int64ObservableCounter(AloneTotal, metric.WithDescription("Answers that were given without Redis."))
	errs = append(errs, err)
	pool, err := m.newPool()
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	flag := func(b bool) int64 {
		if b {
			return 1
		}
		return 0
	}
	_, err = m.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		o.ObserveInt64(conns, connections())
		for _, f := range figures(ctx) {
			pod := string(f.Pod)
			for _, s := range []backends.Stage{backends.RedisOnly, backends.Shadow, backends.Live, backends.MySQLOnly} {
				o.ObserveInt64(stage, flag(f.Fence.Stage == s), attrs("pod", pod, "stage", s.String()))
			}
			o.ObserveInt64(epoch, int64(f.Fence.Epoch), attrs("pod", pod)) //nolint:gosec // epochs are small
			o.ObserveInt64(open, flag(f.BreakerOpen), attrs("pod", pod))
			o.ObserveInt64(behind, flag(f.Behind), attrs("pod", pod))
			o.ObserveInt64(alone, f.Alone, attrs("pod", pod))
			o.ObserveInt64(depth, int64(f.LaneDepth), attrs("pod", pod))
			o.ObserveInt64(spool, f.SpoolBytes, attrs("pod", pod))
			pool.observe(o, pod, f.Pool)
			auditOf.observe(o, pod, f.Audit)
			for side, st := range f.Outbox {
				at := attrs("pod", pod, "store", side.String())
				o.ObserveInt64(entries, st.Entries, at)
				o.ObserveFloat64(oldest, float64(st.OldestMillis)/1000, at)
				o.ObserveInt64(lost, flag(st.Lost), at)
			}
			for side, n := range f.Debt {
				o.ObserveInt64(debt, n, attrs("pod", pod, "store", side.String()))
			}
			for col, n := range f.Decisions {
				o.ObserveInt64(decisions, n, attrs("pod", pod, "column", col))
			}
			for class, n := range f.Findings {
				o.ObserveInt64(found, n, attrs("pod", pod, "class", class))
			}
		}
		return nil
	}, append(append(pool.all(), auditOf.all()...), entries, lost, stage, epoch, open, behind, alone, depth, decisions, spool, debt, conns, oldest, found)...)
	return err
}
