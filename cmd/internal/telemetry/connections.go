package telemetry

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/crossfade-proxy/crossfade/backends"
)

// connectionTags gives the attributes of ConnectionSeconds. They are made once for each set: it is on the
// path of every statement.
type connectionTags struct {
	known sync.Map // connectionTag → metric.MeasurementOption; at most MaxTags+1 a pod and operation
	mu    sync.Mutex
	tags  map[backends.Pod]map[string]bool
}

type connectionTag struct {
	pod     backends.Pod
	tag, op string
}

// of finds them. A connection without a caller is tagged with the operation's own name, of which there
// are some dozens: those do not count for the bound.
func (c *connectionTags) of(k connectionTag) metric.MeasurementOption {
	if at, ok := c.find(k); ok {
		return at
	}
	k.tag = c.admit(k)
	if at, ok := c.find(k); ok {
		return at
	}
	at := attrs("pod", string(k.pod), "tag", k.tag, "op", k.op)
	c.known.Store(k, at)
	return at
}

func (c *connectionTags) find(k connectionTag) (metric.MeasurementOption, bool) {
	v, ok := c.known.Load(k)
	if !ok {
		return nil, false
	}
	at, ok := v.(metric.MeasurementOption)
	return at, ok
}

// admit is the tag to use: the caller's while there is room.
func (c *connectionTags) admit(k connectionTag) string {
	if k.tag == k.op {
		return k.tag
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tags == nil {
		c.tags = map[backends.Pod]map[string]bool{}
	}
	of := c.tags[k.pod]
	if of == nil {
		of = map[string]bool{}
		c.tags[k.pod] = of
	}
	if !of[k.tag] && len(of) >= MaxTags {
		return OtherTag
	}
	of[k.tag] = true
	return k.tag
}

// Connection tells how long a MySQL connection was held, by whom, for which operation.
func (m *Metrics) Connection(pod backends.Pod, tag, op string, d time.Duration) {
	m.connection.Record(context.Background(), d.Seconds(), m.tags.of(connectionTag{pod, tag, op}))
}

// poolMetrics are what is read of a pool of connections when the page is fetched.
type poolMetrics struct {
	conns, most metric.Int64ObservableGauge
	waits       metric.Int64ObservableCounter
	waited      metric.Float64ObservableCounter
}

func (m *Metrics) newPool() (p poolMetrics, err error) {
	var errs [4]error
	p.conns, errs[0] = m.meter.Int64ObservableGauge(PoolConnections, metric.WithDescription("Connections of this proxy to MySQL, for reservations."))
	p.most, errs[1] = m.meter.Int64ObservableGauge(PoolMax, metric.WithDescription("The most of them that the configuration allows."))
	p.waits, errs[2] = m.meter.Int64ObservableCounter(PoolWaitsTotal, metric.WithDescription("Waits for one of them to come free."))
	p.waited, errs[3] = m.meter.Float64ObservableCounter(PoolWaitSecondsTotal, metric.WithDescription("The time of those waits, in seconds."))
	return p, errors.Join(errs[:]...)
}

func (p poolMetrics) all() []metric.Observable {
	return []metric.Observable{p.conns, p.most, p.waits, p.waited}
}

func (p poolMetrics) observe(o metric.Observer, pod string, st sql.DBStats) {
	o.ObserveInt64(p.conns, int64(st.InUse), attrs("pod", pod, "state", "in_use"))
	o.ObserveInt64(p.conns, int64(st.Idle), attrs("pod", pod, "state", "idle"))
	o.ObserveInt64(p.most, int64(st.MaxOpenConnections), attrs("pod", pod))
	o.ObserveInt64(p.waits, st.WaitCount, attrs("pod", pod))
	o.ObserveFloat64(p.waited, st.WaitDuration.Seconds(), attrs("pod", pod))
}
