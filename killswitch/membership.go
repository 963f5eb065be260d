package killswitch

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// RenewShare is how many renewals there are in a lease: some may fail before it runs out.
	RenewShare = 4
	// renewWithin is the share of a lease that one renewal may take: a control store that has stalled must not
	// keep the next from being tried.
	renewWithin = 3
	// leaveWithin bounds the wait for a renewal that is under way while the registration is left.
	leaveWithin = 5 * time.Second
)

// Registrar is what a control store does for one registration. Its methods are called one at a time.
type Registrar interface {
	// Renew keeps the registration for another lease; where it has run out, it registers anew. ErrReplaced says
	// that another process has registered under the name since.
	Renew(ctx context.Context) error
	// Remove takes the registration away, if it is still this one's.
	Remove(ctx context.Context) error
}

// Registration is the Membership that all control stores give: it says when to renew and until when that holds.
type Registration struct {
	clock  Clock
	ttl    time.Duration
	r      Registrar
	lost   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	until time.Time
	ended bool // left, lost or abandoned: nothing makes it valid again
}

var _ Membership = (*Registration)(nil)

// Register makes the first renewal under ctx, and then renews until Leave or Abandon.
func Register(ctx context.Context, clock Clock, ttl time.Duration, r Registrar) (*Registration, error) {
	m := &Registration{clock: clock, ttl: ttl, r: r, lost: make(chan struct{}), done: make(chan struct{})}
	if err := m.renew(ctx); err != nil {
		return nil, err
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.cancel = cancel
	go m.run(own)
	return m, nil
}

// renew counts the lease from before the request was sent: when the answer comes, part of it has gone by.
func (m *Registration) renew(ctx context.Context) error {
	sent := m.clock.Now()
	if err := m.r.Renew(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ended {
		m.until = sent.Add(m.ttl)
	}
	return nil
}

func (m *Registration) run(ctx context.Context) {
	defer close(m.done)
	tick, stop := m.clock.Tick(m.ttl / RenewShare)
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		cctx, cancel := context.WithTimeout(ctx, m.ttl/renewWithin)
		err := m.renew(cctx)
		cancel()
		if errors.Is(err, ErrReplaced) {
			m.end()
			close(m.lost)
			return
		}
	}
}

// end makes the registration invalid for good, and tells whether it was not so before.
func (m *Registration) end() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.ended
	m.until, m.ended = time.Time{}, true
	return !was
}

// ValidUntil implements Membership.
func (m *Registration) ValidUntil() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.until
}

// Lost implements Membership.
func (m *Registration) Lost() <-chan struct{} { return m.lost }

// Leave implements Membership.
func (m *Registration) Leave(ctx context.Context) error {
	first := m.end()
	m.cancel()
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	select {
	case <-m.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !first {
		return nil
	}
	return m.r.Remove(ctx)
}

// Abandon ends the renewals and leaves the registration to run out. It waits for the one that is under way.
func (m *Registration) Abandon() {
	m.end()
	m.cancel()
	<-m.done
}
