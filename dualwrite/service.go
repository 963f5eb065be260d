package dualwrite

import (
	"context"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Intervals of the loops.
const (
	sweepEvery    = 500 * time.Millisecond
	expireEvery   = 200 * time.Millisecond
	maintainEvery = time.Second
	// refreshEvery is how soon a proxy that serves nobody (an idle pod, a held gate) learns of a
	// new fence from the stores themselves.
	refreshEvery     = 500 * time.Millisecond
	refreshEveryHeld = 10 * time.Millisecond
	// laneLinger is how long a lane waits for more, so that a batch shares one transaction of the shadow:
	// nobody waits for it, and what the shadow does costs checkout its part of the machine. It
	// looks each lanePeek whether the batch is full.
	laneLinger = 50 * time.Millisecond
	lanePeek   = 10 * time.Millisecond
	// lagsToSweep is how many times as old as what its own lanes handle an entry has to be for a proxy to take it
	// for left behind; maxSweepAge bounds that.
	lagsToSweep = 3
	maxSweepAge = time.Minute
	// stepTimeout bounds one background step.
	stepTimeout = 10 * time.Second
)

// Service runs a pod's steps in loops. Stop is safe when never started, and twice.
type Service struct {
	pod    *Pod
	report func(task string, err error)

	mu     sync.Mutex
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// NewService prepares the loops. report is told of a task's failure, and of its recovery with a nil
// error; it must not block.
func NewService(p *Pod, report func(task string, err error)) *Service {
	if report == nil {
		report = func(string, error) {}
	}
	return &Service{pod: p, report: report}
}

// Start starts the loops; a second call does nothing.
func (s *Service) Start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		return
	}
	ctx, s.cancel = context.WithCancel(ctx)
	p := s.pod
	for lane := range p.lanes.qs {
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			var buf []item
			for {
				if buf = p.lanes.take(ctx, lane, buf); buf == nil {
					return
				}
				buf = p.lanes.linger(ctx, p.o.Clock, p.gate.Held, lane, buf)
				p.lanes.took(lane, p.o.Clock.Now(), buf)
				p.handle(ctx, buf)
				p.lanes.done(lane)
			}
		}()
	}
	s.loop(ctx, "sweep", func(ctx context.Context) (time.Duration, error) {
		n, _, err := p.SweepNow(ctx, p.sweepAge())
		return again(n > 0, sweepEvery), err
	})
	s.loop(ctx, "expire", func(ctx context.Context) (time.Duration, error) {
		n, err := p.Expire(ctx)
		return again(n == ExpireBatch, expireEvery), err
	})
	s.loop(ctx, "maintain", func(ctx context.Context) (time.Duration, error) {
		more, err := p.Maintain(ctx)
		return again(more, maintainEvery), err
	})
	s.loop(ctx, "refresh", s.refresh)
	s.loop(ctx, "settle", s.settle)
	s.loop(ctx, "give back", func(ctx context.Context) (time.Duration, error) { return giveBackEvery, p.GiveBack(ctx) })
}

// sweepAge is how long an entry stays with the proxy that made it. While the shadow is behind, what other proxies have
// in their lanes grows as old as what this one has: if each swept that, all would be brought there by
// all of them, and the shadow fall further behind.
func (p *Pod) sweepAge() time.Duration {
	return max(p.o.SweepAge, p.lagAge())
}

// lagAge is sweepAge for what is in a hurry: 0 while the shadow keeps up.
func (p *Pod) lagAge() time.Duration { return min(lagsToSweep*p.lanes.lag(), maxSweepAge) }

func again(now bool, every time.Duration) time.Duration {
	if now {
		return 0
	}
	return every
}

func (s *Service) refresh(ctx context.Context) (time.Duration, error) {
	err := s.pod.Refresh(ctx)
	if s.pod.gate.Held() {
		return refreshEveryHeld, err
	}
	return refreshEvery, err
}

// settle brings MySQL back after a kill: fence, then its old outbox.
func (s *Service) settle(ctx context.Context) (time.Duration, error) {
	f := s.pod.gate.Serving()
	if f.Stage.Truth() != backends.SideRedis {
		return refreshEvery, nil
	}
	_, err := s.pod.Settle(ctx)
	return refreshEvery, err
}

// loop runs do until the context ends; do answers how long to wait before the next round.
func (s *Service) loop(ctx context.Context, task string, do func(context.Context) (time.Duration, error)) {
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		failing := false
		for ctx.Err() == nil {
			sctx, cancel := context.WithTimeout(ctx, stepTimeout)
			wait, err := do(sctx)
			cancel()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				wait = max(wait, sweepEvery)
			}
			if err != nil || failing {
				s.report(task, err)
			}
			failing = err != nil
			_, _, changed := s.pod.gate.State()
			if s.pod.o.Clock.Wait(ctx, changed, wait) != nil {
				return
			}
		}
	}()
}

// Stop ends the loops and waits for them. What waits in lanes stays in the outbox.
func (s *Service) Stop() {
	s.mu.Lock()
	cancel := s.cancel
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	s.wg.Wait()
}
