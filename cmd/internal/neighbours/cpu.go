package neighbours

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"
)

// cpuMeter measures the server's CPU time between two moments.
type cpuMeter struct {
	from time.Time
	used time.Duration
	read func(context.Context) (time.Duration, error)
	what string
	of   int
	err  error // why nothing can be measured
}

var errNotVisible = errors.New("not visible from here: the server is on another machine or not ours to see, and does not count it by statement (MySQL 8.0.28 and newer do when performance_schema's consumer events_statements_cpu is on)")

// startCPU finds the way: what the server itself counts, else its process, where that is on this machine.
func startCPU(ctx context.Context, src Source, addr string) *cpuMeter {
	m := &cpuMeter{err: errNotVisible}
	if used, known, err := src.StatementCPU(ctx); err == nil && known {
		m.used, m.err, m.what = used, nil, "statements that ended, as the server counts them"
		m.read = func(ctx context.Context) (time.Duration, error) {
			used, known, err := src.StatementCPU(ctx)
			if err == nil && !known {
				err = errors.New("the server does not count it any more")
			}
			return used, err
		}
	} else if p, ok := localServer(addr); ok {
		if used, err := p.cpu(); err == nil {
			m.used, m.err, m.of = used, nil, runtime.NumCPU()
			m.what = fmt.Sprintf("the server's process (pid %d)", p.pid)
			m.read = func(context.Context) (time.Duration, error) { return p.cpu() }
		}
	}
	m.from = time.Now()
	return m
}

// end is the mean since the start.
func (m *cpuMeter) end(ctx context.Context) CPU {
	if m.err != nil {
		return CPU{What: m.err.Error()}
	}
	used, err := m.read(ctx)
	span := time.Since(m.from)
	switch {
	case err != nil:
		return CPU{What: "not known: " + err.Error()}
	case used < m.used || span <= 0:
		return CPU{What: "not known: the server was restarted, or its counters were"}
	}
	return CPU{Cores: (used - m.used).Seconds() / span.Seconds(), Known: true, Of: m.of, What: m.what}
}

// localServer finds the process behind an address of this machine.
func localServer(addr string) (process, bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return process{}, false
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return process{}, false
	}
	return findListener(port)
}
