package soak

import (
	"fmt"
	"io"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// Defaults of a run.
const (
	DefaultFor     = 10 * time.Minute
	DefaultSample  = 5 * time.Second
	DefaultWorkers = 32
	// DefaultConnections is what the issue of this soak asks for, and a pod's own default.
	DefaultConnections = mysqlstore.DefaultMaxConns
)

// Bounds of the options.
const (
	minFor     = time.Second
	maxFor     = 24 * time.Hour
	minSample  = 100 * time.Millisecond
	maxWorkers = 1024
	maxConns   = 64
)

// Options of a run. The zero value of each field is its default.
type Options struct {
	Dialect     lab.Kind // MySQL or MariaDB
	For         time.Duration
	Sample      time.Duration
	Workers     int // buyers at the same time
	Connections int // of the store
	Combine     int // requests of a batch; 1 gives each a transaction of its own
	Seed        uint64
	// Fast gives up what only a crash of the machine would need: for tests.
	Fast bool
	// Progress gets a line for each sample; may be nil.
	Progress io.Writer
}

// complete checks the options and fills in defaults.
func (o Options) complete() (Options, error) {
	if o.Dialect == "" {
		o.Dialect = lab.MySQL
	}
	if o.For == 0 {
		o.For = DefaultFor
	}
	if o.Sample == 0 {
		o.Sample = min(DefaultSample, o.For)
	}
	if o.Workers == 0 {
		o.Workers = DefaultWorkers
	}
	if o.Connections == 0 {
		o.Connections = DefaultConnections
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	wrong := func(field string, value any, bound, next string) error {
		return &backends.FieldError{Field: field, Value: fmt.Sprint(value), Bound: bound, Next: next}
	}
	switch {
	case !o.Dialect.SQL():
		return o, wrong("--dialect", o.Dialect, "mysql or mariadb", "the unit pool is in one of these")
	case o.For < minFor || o.For > maxFor:
		return o, wrong("--for", o.For, fmt.Sprintf("%s to %s", minFor, maxFor), "give the length of the run, as in --for 10m")
	case o.Sample < minSample || o.Sample > o.For:
		return o, wrong("--sample", o.Sample, fmt.Sprintf("%s to the length of the run", minSample), "give the time between two samples, as in --sample 5s")
	case o.Workers < 1 || o.Workers > maxWorkers:
		return o, wrong("--workers", o.Workers, fmt.Sprintf("1 to %d", maxWorkers), "give the number of buyers")
	case o.Connections < 1 || o.Connections > maxConns:
		return o, wrong("--connections", o.Connections, fmt.Sprintf("1 to %d", maxConns), "give the number of connections of the store")
	case o.Combine < 0 || o.Combine > maxWorkers:
		return o, wrong("--combine", o.Combine, fmt.Sprintf("0 (the default of the store) to %d", maxWorkers), "1 gives each request a transaction of its own")
	}
	return o, nil
}
