package telemetry

import (
	"sync"

	"go.opentelemetry.io/otel/metric"

	"github.com/crossfade-proxy/crossfade/backends"
)

// series is what tells one line of a hot metric from another. Unused fields are zero.
type series struct {
	pod   backends.Pod
	stage backends.Stage
	side  backends.Side
	role  string
	op    backends.Op
	what  string // outcome or result
}

// labels keeps the labels of series: as many as there are pods, stages, operations and outcomes.
type labels struct {
	mu   sync.RWMutex
	made map[series][]metric.RecordOption
}

func (l *labels) of(s series, kv func() []string) []metric.RecordOption {
	l.mu.RLock()
	o := l.made[s]
	l.mu.RUnlock()
	if o != nil {
		return o
	}
	o = []metric.RecordOption{attrs(kv()...)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made == nil {
		l.made = map[series][]metric.RecordOption{}
	}
	l.made[s] = o
	return o
}
