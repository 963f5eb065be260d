package sim

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"
)

// process is a coroutine of the simulation.
type process struct {
	name  string
	group *group
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	// waiting: not runnable before until, unless wake is closed
	until time.Time
	wake  <-chan struct{}
	dead  bool
	// caller: an operation of a client, which must not touch the shadow outside live
	caller bool
}

// group is what dies together.
type group struct {
	name  string
	procs []*process
	dead  bool
}

// crashed unwinds a process that will not run again.
type crashed struct{}

// scheduler runs processes one at a time in an order drawn from its seed.
type scheduler struct {
	rng   *rand.Rand
	now   time.Time
	procs []*process
	cur   *process
	steps int
	trace func(string)
}

var epoch0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newScheduler(seed uint64) *scheduler {
	return &scheduler{rng: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), now: epoch0} //nolint:gosec // replayable by design
}

// spawn adds a process; it starts when it is first chosen.
func (s *scheduler) spawn(g *group, name string, body func()) *process {
	p := &process{name: name, group: g}
	p.next, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		p.yield = yield
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(crashed); !ok {
					panic(fmt.Sprintf("process %s: %v", name, r))
				}
			}
		}()
		if !yield(struct{}{}) {
			return
		}
		body()
	})
	p.next() // run up to the first yield: cheap, and p.yield is set
	s.procs = append(s.procs, p)
	if g != nil {
		g.procs = append(g.procs, p)
	}
	return p
}

// pause gives way; the process goes on when it is chosen again.
func (s *scheduler) pause() {
	p := s.cur
	if p == nil {
		return // outside the schedule: set-up and the checks at the end
	}
	if p.dead || !p.yield(struct{}{}) {
		panic(crashed{})
	}
}

// kill ends a group: none of its processes runs again.
func (s *scheduler) kill(g *group) {
	g.dead = true
	for _, p := range g.procs {
		p.dead = true
	}
}

func (s *scheduler) runnable(p *process) bool {
	if !p.until.After(s.now) {
		return true
	}
	if p.wake != nil {
		select {
		case <-p.wake:
			return true
		default:
		}
	}
	return false
}

// run schedules until only idle processes are left or the steps are used up. every is called
// after each step.
func (s *scheduler) run(maxSteps int, every func()) {
	ready := make([]*process, 0, 64)
	for range maxSteps {
		ready = ready[:0]
		var first time.Time
		live := s.procs[:0]
		for _, p := range s.procs {
			if p.dead {
				cur := s.cur
				s.cur = p
				p.stop()
				s.cur = cur
				continue
			}
			live = append(live, p)
			if s.runnable(p) {
				ready = append(ready, p)
			} else if first.IsZero() || p.until.Before(first) {
				first = p.until
			}
		}
		s.procs = live
		if len(live) == 0 {
			return
		}
		if len(ready) == 0 {
			s.now = first
			continue
		}
		if s.rng.IntN(16) == 0 {
			s.now = s.now.Add(time.Duration(s.rng.IntN(20)) * time.Millisecond)
		}
		p := ready[s.rng.IntN(len(ready))]
		p.until, p.wake = time.Time{}, nil
		s.cur = p
		s.steps++
		_, more := p.next()
		s.cur = nil
		if !more {
			p.dead = true
		}
		every()
	}
}

// close ends whatever is left.
func (s *scheduler) close() {
	for _, p := range s.procs {
		p.dead = true
		p.stop()
	}
	s.procs = nil
}

// clock is virtual time for one Pod.
type clock struct{ s *scheduler }

// Now implements dualwrite.Clock.
func (c clock) Now() time.Time { return c.s.now }

// Wait implements dualwrite.Clock.
func (c clock) Wait(ctx context.Context, wake <-chan struct{}, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.s.cur == nil {
		c.s.now = c.s.now.Add(d)
		return nil
	}
	c.s.cur.until, c.s.cur.wake = c.s.now.Add(d), wake
	c.s.pause()
	return ctx.Err()
}
