package neighbours

import (
	"context"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
)

const (
	// DefaultFor is how long a look lasts.
	DefaultFor = 10 * time.Second
	// DefaultEvery gives 200 samples in that time, which tell shares to some percent.
	DefaultEvery = 50 * time.Millisecond
	// The bounds of a look. A sample takes the server about a millisecond.
	minFor, maxFor     = 100 * time.Millisecond, 5 * time.Minute
	minEvery, maxEvery = 10 * time.Millisecond, 10 * time.Second
	// burden bounds what a look costs: for each moment that a sample took, at least so many pass without one. A
	// server with thousands of sessions is sampled less often than was asked for.
	burden = 4
	// maxMissed in a row, and the look ends with the last error.
	maxMissed = 5
)

// Source is the server, as it is asked; a *mysqlstore.Watcher is one.
type Source interface {
	// Sessions reads all sessions once.
	Sessions(ctx context.Context) (mysqlstore.Sample, error)
	// Server says what the server is.
	Server(ctx context.Context) (mysqlstore.Server, error)
	// StatementCPU is the CPU time of all statements so far, where it is known.
	StatementCPU(ctx context.Context) (used time.Duration, known bool, err error)
}

// Options say how to look.
type Options struct {
	Pod        backends.Pod
	For, Every time.Duration // 0 gives the default
	// Pools reads this proxy's own pools.
	Pools func() mysqlstore.Pools
	// Progress is told of each sample; nil: nobody is.
	Progress func(samples int)
}

func (o Options) complete() (Options, error) {
	if o.For == 0 {
		o.For = DefaultFor
	}
	if o.Every == 0 {
		o.Every = DefaultEvery
	}
	if o.Progress == nil {
		o.Progress = func(int) {}
	}
	for _, f := range []struct {
		name      string
		v, lo, hi time.Duration
	}{{"for", o.For, minFor, maxFor}, {"every", o.Every, minEvery, maxEvery}} {
		if f.v < f.lo || f.v > f.hi {
			return o, &backends.FieldError{Field: f.name, Value: f.v.String(), Bound: fmt.Sprintf("%s to %s", f.lo, f.hi), Next: "choose another"}
		}
	}
	return o, nil
}

// Look samples the server for a while. Samples that could not be had are counted; several in a row end
// the look with their error.
func Look(ctx context.Context, src Source, o Options) (Connections, error) {
	o, err := o.complete()
	if err != nil {
		return Connections{}, err
	}
	srv, err := src.Server(ctx)
	if err != nil {
		return Connections{}, err
	}
	from := time.Now()
	cpu := startCPU(ctx, src, srv.Addr)
	seen := &fold{}
	missed, err := take(ctx, src, o, seen)
	if err != nil {
		return Connections{}, err
	}
	out := seen.result()
	out.CPU = cpu.end(ctx)
	out.Pod, out.Server, out.From, out.Missed = o.Pod, srv, from, missed
	out.SpanMillis, out.EveryMillis = time.Since(from).Milliseconds(), o.Every.Milliseconds()
	return out, nil
}

// take takes the samples.
func take(ctx context.Context, src Source, o Options, into *fold) (missed int, err error) {
	end := time.NewTimer(o.For)
	defer end.Stop()
	next := time.NewTimer(o.Every)
	defer next.Stop()
	inARow := 0
	for {
		began := time.Now()
		s, err := src.Sessions(ctx)
		switch {
		case err == nil:
			into.add(look{s, o.Pools().Data})
			inARow = 0
			o.Progress(into.sessions.n)
		case ctx.Err() != nil:
			return missed, ctx.Err()
		default:
			missed++
			if inARow++; inARow == maxMissed {
				return missed, err
			}
		}
		next.Reset(max(o.Every-time.Since(began), burden*s.Took))
		select {
		case <-next.C:
		case <-end.C:
			if into.sessions.n > 0 {
				err = nil
			}
			return missed, err
		case <-ctx.Done():
			return missed, ctx.Err()
		}
	}
}
