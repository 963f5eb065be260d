package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// tick is the unit of the histograms. A loopback round trip is some hundred of it.
	tick = 100 * time.Nanosecond
	// longest is the longest latency that is told apart; what took longer counts as this.
	longest = 100 * time.Second
	// digits of the histograms: within one per cent, at 20 kB for each worker.
	digits = 2
	// failShare: a run in which more than one in so many operations failed is no measurement.
	failShare = 100
	// openAhead bounds the arrivals that wait for a worker; beyond it the pacer waits, and their
	// latency is counted from when they were due all the same.
	openAhead = 1 << 16
	// openStart is before the first arrival is due, so that all workers wait for it.
	openStart = 10 * time.Millisecond
	// drainPatience bounds what is under way when a run's time is over.
	drainPatience = 15 * time.Second
)

// op does one thing, or a pipeline of n things.
type op func(ctx context.Context) (n int, err error)

// maker makes the op of a worker, and what ends it; ops are made before the clock runs.
type maker func(worker int) (op, func(), error)

// each is a maker of ops that need no end.
func each(f func(worker int) op) maker {
	return func(w int) (op, func(), error) { return f(w), func() {}, nil }
}

// errSpent ends a worker whose supply is used up; it is no failure.
var errSpent = errors.New("nothing is left to be done")

// sample is what a run measured.
type sample struct {
	done, failed int64
	elapsed      time.Duration
	hist         *hdrhistogram.Histogram
	err          error // the first
}

func newSample() *sample {
	return &sample{hist: hdrhistogram.New(1, int64(longest/tick), digits)}
}

// rate is operations a second.
func (s *sample) rate() float64 { return float64(s.done) / s.elapsed.Seconds() }

// at is a quantile of the latency, in milliseconds; q in per cent.
func (s *sample) at(q float64) float64 {
	return float64(s.hist.ValueAtQuantile(q)) * float64(tick) / float64(time.Millisecond)
}

func (s *sample) record(took time.Duration, n int) {
	v := min(max(1, int64(took/tick)), int64(longest/tick))
	_ = s.hist.RecordValues(v, int64(n)) // it fails for values out of range only
	s.done += int64(n)
}

func (s *sample) fail(err error) {
	s.failed++
	if s.err == nil {
		s.err = err
	}
}

func (s *sample) add(o *sample) {
	s.done += o.done
	s.failed += o.failed
	s.hist.Merge(o.hist)
	if s.err == nil {
		s.err = o.err
	}
}

// errIdle: a run was too short, or the machine too busy, to be a measurement.
var errIdle = errors.New("not one operation was done in the time given")

// check tells whether the run is a measurement.
func (s *sample) check() error {
	switch {
	case s.failed*failShare > s.done:
		return fmt.Errorf("%d of %d operations failed, the first: %w", s.failed, s.failed+s.done, s.err)
	case s.done == 0:
		return errIdle
	}
	return nil
}

// figures are what is kept of a sample.
func (s *sample) figures() figures {
	return figures{"rate": s.rate(), "p50_ms": s.at(50), "p99_ms": s.at(99)}
}

// crew are workers with their ops and their own samples.
type crew struct {
	ops  []op
	ends []func()
	of   []*sample
}

func hire(workers int, mk maker) (*crew, error) {
	c := &crew{}
	for w := range workers {
		f, end, err := mk(w)
		if err != nil {
			c.end()
			return nil, fmt.Errorf("worker %d: %w", w, err)
		}
		c.ops, c.ends, c.of = append(c.ops, f), append(c.ends, end), append(c.of, newSample())
	}
	return c, nil
}

func (c *crew) end() {
	for _, f := range c.ends {
		f()
	}
}

// total is the samples of all together.
func (c *crew) total(elapsed time.Duration) (*sample, error) {
	s := newSample()
	for _, o := range c.of {
		s.add(o)
	}
	s.elapsed = elapsed
	return s, s.check()
}

// closed has each worker do one op after the other for d: the capacity. What ends later than d is not
// counted. Where workers run out of supply the time until the last of them did is what counts.
func closed(ctx context.Context, workers int, d time.Duration, mk maker) (*sample, error) {
	c, err := hire(workers, mk)
	if err != nil {
		return nil, err
	}
	defer c.end()
	ctx, cancel := context.WithTimeout(ctx, d+drainPatience)
	defer cancel()
	var wg sync.WaitGroup
	spent := make([]time.Duration, workers)
	begin := make(chan struct{})
	var start time.Time
	for w := range workers {
		wg.Go(func() {
			f, s := c.ops[w], c.of[w]
			<-begin
			for at := start; ; {
				n, err := f(ctx)
				now := time.Now()
				switch {
				case now.Sub(start) > d || ctx.Err() != nil:
					spent[w] = d
					return
				case errors.Is(err, errSpent):
					spent[w] = now.Sub(start)
					return
				case err != nil:
					s.fail(err)
				default:
					s.record(now.Sub(at), n)
				}
				at = now
			}
		})
	}
	start = time.Now()
	close(begin)
	wg.Wait()
	var elapsed time.Duration
	for _, e := range spent {
		elapsed = max(elapsed, e)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return c.total(elapsed)
}

// open has arrivals come on a fixed schedule, rate a second for d, whatever becomes of those before
// them, and counts each latency from the moment at which it was due: free of coordinated omission.
// Workers bound how many are under way; who finds none free waits, and that wait is counted.
func open(ctx context.Context, workers int, rate float64, d time.Duration, mk maker) (*sample, error) {
	if rate <= 0 {
		return nil, fmt.Errorf("open loop at %g arrivals a second", rate)
	}
	c, err := hire(workers, mk)
	if err != nil {
		return nil, err
	}
	defer c.end()
	ctx, cancel := context.WithTimeout(ctx, d+drainPatience)
	defer cancel()
	due := make(chan time.Duration, openAhead)
	start := time.Now().Add(openStart)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			f, s := c.ops[w], c.of[w]
			for at := range due {
				n, err := f(ctx)
				if err != nil {
					s.fail(err)
					continue
				}
				s.record(time.Since(start)-at, n)
			}
		})
	}
	wg.Go(func() {
		defer close(due)
		pace(ctx, start, rate, d, due)
	})
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return c.total(time.Since(start))
}

// pace sends the moments at which arrivals are due, at those moments.
func pace(ctx context.Context, start time.Time, rate float64, d time.Duration, due chan<- time.Duration) {
	runtime.LockOSThread() // a timer of the runtime may be a millisecond late; the kernel's is not
	defer runtime.UnlockOSThread()
	for i := 0; ; i++ {
		at := time.Duration(float64(i) / rate * float64(time.Second))
		if at >= d {
			return
		}
		if wait := time.Until(start.Add(at)); wait > 0 {
			nap(wait)
		}
		select {
		case due <- at:
		case <-ctx.Done():
			return
		}
	}
}
