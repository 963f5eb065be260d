package respdoor

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// budget is a number of bytes that all connections share.
type budget struct {
	free atomic.Int64
}

// take answers false, and takes nothing, when there are not n left.
func (b *budget) take(n int) bool {
	for {
		have := b.free.Load()
		if have < int64(n) {
			return false
		}
		if b.free.CompareAndSwap(have, have-int64(n)) {
			return true
		}
	}
}

func (b *budget) give(n int) { b.free.Add(int64(n)) }

const (
	// promptly is how long a write has at least before the rest is left to a goroutine of its own: a
	// client that reads has taken it by then.
	promptly = 20 * time.Millisecond
	// drainPiece is what a client has to take within the write timeout.
	drainPiece = 64 << 10
)

var errNotRead = errors.New("client does not read its replies")

// sink is a network connection whose writes do not wait for the client, up to a bound. A client
// may send a long pipeline before it reads its first reply; if the door waited for it to read,
// both would wait for ever. It lies below TLS, whose connections do not survive a write that
// timed out. There is one writer at a time.
type sink struct {
	net.Conn
	most    int
	timeout time.Duration
	budget  *budget

	mu       sync.Mutex
	changed  sync.Cond
	backlog  []byte // not yet given to the network, but for the first bytes
	head     int    // that many of them
	draining bool
	armed    time.Time // the write deadline, where Write has set it
	err      error
	wg       sync.WaitGroup
}

func newSink(c net.Conn, most int, timeout time.Duration, b *budget) *sink {
	s := &sink{Conn: c, most: most, timeout: timeout, budget: b}
	s.changed.L = &s.mu
	return s
}

// Write answers once the network or the backlog has p. It waits, no longer than the write timeout
// without progress, while the backlog is full.
func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	if s.draining {
		return s.add(p, 0)
	}
	s.mu.Unlock()
	err := s.arm()
	n := 0
	if err == nil {
		n, err = s.Conn.Write(p)
	}
	s.mu.Lock()
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	return s.add(p[n:], n)
}

// arm sees to it that a write ends within promptly, or twice that: setting a deadline costs as much as a
// small write, so one serves for a while.
func (s *sink) arm() error {
	now := time.Now()
	if s.armed.Sub(now) >= promptly {
		return nil
	}
	s.armed = now.Add(2 * promptly)
	return s.SetWriteDeadline(s.armed)
}

// add puts p behind the backlog, in pieces as there is room. The lock is held.
func (s *sink) add(p []byte, done int) (int, error) {
	for len(p) > 0 {
		if s.err != nil {
			return done, s.err
		}
		n := min(len(p), s.most-s.waiting())
		switch {
		case n > 0 && s.budget.take(n):
		case s.waiting() == 0: // the budget is spent: go on in small steps without it
			n = min(len(p), drainPiece)
			s.budget.give(-n)
		default:
			s.changed.Wait()
			continue
		}
		s.backlog = append(s.backlog, p[:n]...)
		p, done = p[n:], done+n
		if !s.draining {
			s.draining = true
			s.wg.Add(1)
			go s.drain()
		}
	}
	return done, nil
}

// drain writes the backlog until it is empty, or the client stops taking it.
func (s *sink) drain() {
	defer s.wg.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = time.Time{}
	piece := make([]byte, 0, drainPiece)
	for s.waiting() > 0 && s.err == nil {
		piece = append(piece[:0], s.backlog[s.head:s.head+min(s.waiting(), drainPiece)]...)
		s.mu.Unlock()
		err := s.SetWriteDeadline(time.Now().Add(s.timeout))
		if err == nil {
			_, err = s.Conn.Write(piece)
		}
		s.mu.Lock()
		s.drop(len(piece))
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = errNotRead
			}
			s.err = err
			s.Conn.Close() // wakes the reader
		}
		s.changed.Broadcast()
	}
	s.budget.give(s.waiting())
	s.backlog, s.head, s.draining = nil, 0, false
	s.changed.Broadcast()
}

func (s *sink) waiting() int { return len(s.backlog) - s.head }

// drop forgets the first n bytes. What is left moves to the front once it is less than what was
// dropped, so that each byte moves once on average.
func (s *sink) drop(n int) {
	s.head += n
	s.budget.give(n)
	if s.head > s.waiting() {
		s.backlog, s.head = s.backlog[:copy(s.backlog, s.backlog[s.head:])], 0
	}
}

// settle waits until what was written has left, or cannot.
func (s *sink) settle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.draining {
		s.changed.Wait()
	}
	return s.err
}

// Close also waits for the goroutine that writes.
func (s *sink) Close() error {
	err := s.Conn.Close()
	s.wg.Wait()
	return err
}
