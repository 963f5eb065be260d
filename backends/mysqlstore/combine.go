package mysqlstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// combiner lets concurrent callers share transactions. Whoever comes while a lane is free starts at
// once and alone; whoever comes while all lanes are busy waits in the queue, and the next free lane
// takes all who wait, up to the bound. So nobody ever waits for company, and the more callers there
// are the larger the batches become. The queue is served in the order of arrival.
//
// A lane is a goroutine that lives while there is work.
type combiner[A any] struct {
	lanes int
	most  int // members of a batch
	room  int // weight of a batch; a heavier member travels alone
	// kind orders an ask among those that may travel together; unlike asks wait for a batch of
	// their own. No two asks of one name travel together.
	alike  func(a, b A) bool
	name   func(A) backends.HoldID
	weight func(A) int
	// run answers every ask, in the ask itself.
	run func(ctx context.Context, asks []A)
	// gather is how long a lane may wait for those who are likely to come back at once: 0 for never,
	// since what they wait for is not worth anybody's time. See crowd.
	gather time.Duration
	// left is the error for a caller who went away while the batch was under way.
	left func(cause error) error

	ctx  context.Context // ends when the store is closed
	stop context.CancelFunc

	batches, members atomic.Int64 // that were taken off the queue

	mu     sync.Mutex
	queue  []*member[A]
	busy   int
	closed bool
	under  sync.WaitGroup
	crowd  crowd
}

// crowd is how many callers there are: those who wait, those who are being answered, and those who,
// having been answered, are about to come again. Where there are many, a batch that begins the
// moment the last one ends has only those who came meanwhile, half of them or fewer; to wait until
// most of them are back halves the statements. A few callers are never waited for.
type crowd struct {
	peak   float64 // how many there were lately
	target int     // gathering until so many wait; 0: not gathering
	enough chan struct{}
}

const (
	// crowdFrom is how many callers are worth gathering.
	crowdFrom = 16
	// crowdShare is which part of them is waited for.
	crowdShare = 0.8
	// crowdDecay is by how much the memory of a crowd fades with each batch.
	crowdDecay = 0.95
)

// member is one caller's place.
type member[A any] struct {
	ask    A
	done   chan struct{}
	flight *flight // nil while it waits in the queue
}

// flight is a batch under way. When all of its callers have gone away, so may it.
type flight struct {
	waiting atomic.Int32
	cancel  context.CancelFunc
}

func (c *combiner[A]) init() *combiner[A] {
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// close ends the lanes; what waits is answered by run, which finds the store closed. No lane begins
// afterwards.
func (c *combiner[A]) close() {
	c.mu.Lock()
	c.closed = true
	c.stop()
	c.mu.Unlock()
	c.under.Wait()
}

// queued is how many wait for a lane.
func (c *combiner[A]) queued() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.queue))
}

// do has an ask answered. The error is only about the waiting: ask has its own.
func (c *combiner[A]) do(ctx context.Context, ask A) error {
	if err := ctx.Err(); err != nil {
		return undone(err)
	}
	if c.most <= 1 {
		c.run(ctx, []A{ask})
		return nil
	}
	m := &member[A]{ask: ask, done: make(chan struct{})}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		c.run(ctx, []A{ask})
		return nil
	}
	c.queue = append(c.queue, m)
	if c.crowd.target > 0 && len(c.queue) >= c.crowd.target {
		c.crowd.target = 0
		close(c.crowd.enough)
	}
	if c.busy < c.lanes {
		c.busy++
		c.under.Go(c.lane)
	}
	c.mu.Unlock()
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return c.leave(m, ctx.Err())
	}
}

// leave answers a caller whose context has ended.
func (c *combiner[A]) leave(m *member[A], cause error) error {
	c.mu.Lock()
	if i := slices.Index(c.queue, m); i >= 0 {
		c.queue = slices.Delete(c.queue, i, i+1)
		c.mu.Unlock()
		return undone(cause)
	}
	f := m.flight
	c.mu.Unlock()
	select {
	case <-m.done:
		return nil
	default:
	}
	if f.waiting.Add(-1) == 0 {
		f.cancel()
	}
	return c.left(cause)
}

func (c *combiner[A]) lane() {
	for {
		c.await()
		batch, ctx, cancel := c.pick()
		if len(batch) == 0 {
			return
		}
		asks := make([]A, len(batch))
		for i, m := range batch {
			asks[i] = m.ask
		}
		c.run(ctx, asks)
		cancel()
		c.mu.Lock()
		c.crowd.peak = max(crowdDecay*c.crowd.peak, float64(len(batch)+len(c.queue))) // each is here once
		c.mu.Unlock()
		for _, m := range batch {
			close(m.done)
		}
	}
}

// await waits, where gathering is worth it, until most of the crowd is there.
func (c *combiner[A]) await() {
	if c.gather == 0 {
		return
	}
	c.mu.Lock()
	target := int(min(crowdShare*c.crowd.peak, float64(c.most)))
	if c.crowd.peak < crowdFrom || len(c.queue) == 0 || len(c.queue) >= target {
		c.mu.Unlock()
		return
	}
	enough := make(chan struct{})
	c.crowd.target, c.crowd.enough = target, enough
	c.mu.Unlock()
	t := time.NewTimer(c.gather)
	defer t.Stop()
	select {
	case <-enough:
	case <-t.C:
	case <-c.ctx.Done():
	}
	c.mu.Lock()
	c.crowd.target = 0
	c.mu.Unlock()
}

// pick takes the next batch off the queue; an empty one ends the lane.
func (c *combiner[A]) pick() ([]*member[A], context.Context, context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.busy--
		return nil, nil, nil
	}
	first := c.queue[0]
	batch := append(make([]*member[A], 0, min(len(c.queue), c.most)), first)
	names := map[backends.HoldID]struct{}{c.name(first.ask): {}}
	weight := c.weight(first.ask)
	rest := c.queue[:0]
	for i, m := range c.queue[1:] {
		if len(batch) == c.most {
			rest = append(rest, c.queue[1+i:]...)
			break
		}
		w := c.weight(m.ask)
		_, twin := names[c.name(m.ask)]
		if twin || weight+w > c.room || !c.alike(first.ask, m.ask) {
			rest = append(rest, m)
			continue
		}
		names[c.name(m.ask)] = struct{}{}
		weight += w
		batch = append(batch, m)
	}
	clear(c.queue[len(rest):]) // what has left is not to be kept alive
	c.queue = rest
	ctx, cancel := context.WithCancel(c.ctx)
	f := &flight{cancel: cancel}
	f.waiting.Store(int32(len(batch))) //nolint:gosec // at most c.most
	for _, m := range batch {
		m.flight = f
	}
	c.batches.Add(1)
	c.members.Add(int64(len(batch)))
	return batch, ctx, cancel
}

// asked is what a batch tells one of its members when the batch as a whole has failed.
type asked interface{ fail(error) }

// wholeTries is how often a batch is tried as a whole after a deadlock or a broken connection, for
// which no member is to blame.
const wholeTries = 2

// together has f answer all of ms in one transaction. Where that fails for what may be the fault of
// one member (a key that is taken, a row that moved or is damaged), the halves are tried apart, and
// after a lock that was not had each of them, so that nobody fails for a neighbour's sake.
func together[A asked](ctx context.Context, s *Store, ms []A, f func(context.Context, []A) error) {
	if len(ms) == 1 {
		_ = alone(ctx, s, ms, f) // the member has been told
		return
	}
	var err error
	for try := 1; try <= wholeTries; try++ {
		if err = f(ctx, ms); !blameless(err) {
			break
		}
		s.count.restarts.Add(1)
		if !pause(ctx, rand.N(jitterStep*time.Duration(try))) {
			err = undone(ctx.Err())
			break
		}
	}
	switch {
	case err == nil:
		return
	case wholeBatch(err), blamesAll(err), ctx.Err() != nil:
		for _, m := range ms {
			m.fail(plain(err))
		}
	case errors.Is(err, backends.ErrBusy):
		s.count.splits.Add(1)
		apart(ctx, s, ms, f)
	default:
		s.count.splits.Add(1)
		half := len(ms) / 2
		together(ctx, s, ms[:half], f)
		together(ctx, s, ms[half:], f)
	}
}

// maxLocked is how many members of a batch that met a lock may wait for one alone. More of them are
// most likely in front of the same one, and the lane has others to serve: they are told to come again.
const maxLocked = 4

// apart answers each of ms by itself, one after the other: a member that waits may hold what its
// neighbours want. (Halves would wait for the same lock at each level, with all neighbours behind it.)
func apart[A asked](ctx context.Context, s *Store, ms []A, f func(context.Context, []A) error) {
	waits := 0
	var last error
	for i, m := range ms {
		if waits == maxLocked {
			m.fail(last)
			continue
		}
		if err := alone(ctx, s, ms[i:i+1], f); errors.Is(err, backends.ErrBusy) {
			waits, last = waits+1, err
		}
	}
}

// alone answers one member in a transaction of its own.
func alone[A asked](ctx context.Context, s *Store, one []A, f func(context.Context, []A) error) error {
	err := s.again(ctx, func() error { return f(ctx, one) })
	if err != nil {
		one[0].fail(err)
	}
	return err
}

// blameless tells whether an attempt failed for no fault of any member, and may be made again.
func blameless(err error) bool {
	var ag *againError
	return errors.As(err, &ag) && (ag.broken || errors.Is(err, errUndone) || classify(ag.cause) == faultDeadlock)
}

// blamesAll tells whether the connection was lost each time: a smaller batch would fare no better.
func blamesAll(err error) bool {
	var ag *againError
	return errors.As(err, &ag) && (ag.broken || errors.Is(err, errUndone))
}

// plain is an error for a caller: what asked to begin again has done so often enough.
func plain(err error) error {
	var ag *againError
	if !errors.As(err, &ag) {
		return err
	}
	if ag.broken {
		return undone(ag.cause)
	}
	return fmt.Errorf("%w: %w", backends.ErrBusy, ag.cause)
}

// pause waits, and tells whether the context lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
