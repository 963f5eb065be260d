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
	body  func()
	co    *coroutine // nil before it is first chosen, and after its end
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

// coroutine runs one process after the other. Coroutines are kept from one schedule to the next: a
// schedule has some sixty processes, and what costs is not a step but a stack that has to grow.
type coroutine struct {
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	p     *process // what it runs now; nil when it is free
}

func newCoroutine() *coroutine {
	co := &coroutine{}
	co.next, co.stop = iter.Pull(func(yield func(struct{}) bool) {
		co.yield = yield
		for {
			co.p.run()
			co.p.co, co.p = nil, nil
			if !yield(struct{}{}) {
				return
			}
		}
	})
	return co
}

// run runs a process to its end, or until it is crashed.
func (p *process) run() {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crashed); !ok {
				panic(fmt.Sprintf("process %s: %v", p.name, r))
			}
		}
	}()
	p.body()
}

// coroutines are those that are free. One goroutine at a time may use them.
type coroutines struct{ free []*coroutine }

func (c *coroutines) get() *coroutine {
	n := len(c.free)
	if n == 0 {
		return newCoroutine()
	}
	co := c.free[n-1]
	c.free = c.free[:n-1]
	return co
}

// close ends the free ones.
func (c *coroutines) close() {
	for _, co := range c.free {
		co.stop()
	}
	c.free = nil
}

// scheduler runs processes one at a time in an order drawn from its seed.
type scheduler struct {
	pool  *coroutines
	rng   *rand.Rand
	now   time.Time
	procs []*process
	cur   *process
	steps int
	trace func(string)
}

var epoch0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newScheduler(seed uint64, pool *coroutines) *scheduler {
	return &scheduler{pool: pool, rng: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), now: epoch0} //nolint:gosec // replayable by design
}

// spawn adds a process; it starts when it is first chosen.
func (s *scheduler) spawn(g *group, name string, body func()) *process {
	p := &process{name: name, group: g, body: body}
	s.procs = append(s.procs, p)
	if g != nil {
		g.procs = append(g.procs, p)
	}
	return p
}

// step lets a process run until it gives way. It answers whether it has more to do.
func (s *scheduler) step(p *process) bool {
	co := p.co
	if co == nil {
		co = s.pool.get()
		co.p, p.co = p, co
	}
	before := s.cur
	s.cur = p
	co.next()
	s.cur = before
	if co.p != nil {
		return true
	}
	s.pool.free = append(s.pool.free, co)
	return false
}

// end unwinds a process that is dead: what it has deferred runs, and gives way to nobody.
func (s *scheduler) end(p *process) {
	if p.co != nil {
		s.step(p)
	}
}

// pause gives way; the process goes on when it is chosen again.
func (s *scheduler) pause() {
	p := s.cur
	if p == nil {
		return // outside the schedule: set-up and the checks at the end
	}
	if p.dead || !p.co.yield(struct{}{}) || p.dead {
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

// run schedules until all processes have come to their ends, or the steps are used up: it answers which.
func (s *scheduler) run(maxSteps int) (ended bool) {
	ready := make([]*process, 0, 64)
	for range maxSteps {
		ready = ready[:0]
		var first time.Time
		live := s.procs[:0]
		for _, p := range s.procs {
			if p.dead {
				s.end(p)
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
			return true
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
		s.steps++
		if !s.step(p) {
			p.dead = true
		}
	}
	return false
}

// close ends whatever is left.
func (s *scheduler) close() {
	for _, p := range s.procs {
		p.dead = true
		s.end(p)
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
