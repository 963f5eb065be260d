package respdoor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// refusalTimeout bounds telling a connection that there is no room for it.
	refusalTimeout = time.Second
	// acceptPause is waited after a failed accept, so that a machine out of file descriptors
	// is not kept busy by it as well.
	acceptPause = 50 * time.Millisecond
	// forcedPatience is how long Stop waits, after its context ended and operations were
	// cancelled, for a service that does not heed its context.
	forcedPatience = 5 * time.Second
)

// ErrStopped: the server was stopped, or is about to.
var ErrStopped = errors.New("resp door is stopped")

// Server is the door. Its methods may be called by many goroutines.
type Server struct {
	cfg Config
	svc Service
	// batches is svc, if it is one that takes counts together.
	batches BatchService
	router  Router
	guard   guard
	ops     *opIDs
	budget  budget
	began   time.Time

	table  *table
	base   context.Context // of operations; ends when Stop runs out of patience
	cancel context.CancelFunc
	lastID atomic.Int64
	count  counters

	mu        sync.Mutex
	stopping  bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	wg        sync.WaitGroup // accept loops and connections
	stopped   chan struct{}  // closed when stopping began
}

// counters are what Stats answers.
type counters struct {
	accepted, refused, commands, failed, malformed, panics atomic.Int64
}

// Stats is what the door has counted since it was made.
type Stats struct {
	Connections int64 // now
	Accepted    int64 // connections
	Refused     int64 // connections, over the limit
	Commands    int64 // executed, whatever their reply
	Failed      int64 // commands answered by a code of this package
	Malformed   int64 // connections closed by a protocol error or half a frame
	Panics      int64
	BufferBytes int64 // kept now beyond the base buffers
}

// New prepares a door. The error is a *backends.FieldError.
func New(cfg Config, svc Service, router Router) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if svc == nil || router == nil {
		return nil, errors.New("resp door needs a service and a router")
	}
	ops, err := newOpIDs()
	if err != nil {
		return nil, fmt.Errorf("resp door: operation ids: %w", err)
	}
	s := &Server{
		cfg: cfg, svc: svc, router: router, guard: newGuard(cfg.User, cfg.Password), ops: ops, table: commandTable(), began: time.Now(),
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{}, stopped: make(chan struct{}),
	}
	s.batches, _ = svc.(BatchService)
	s.budget.free.Store(cfg.MaxBuffers)
	s.base, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Start serves ln in the background and takes it over. After Stop it closes ln and answers
// ErrStopped.
func (s *Server) Start(ln net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		ln.Close()
		return ErrStopped
	}
	s.listeners[ln] = struct{}{}
	s.wg.Add(1)
	go s.accept(ln)
	return nil
}

// Serve is Start, and waits until Stop is called. It then answers nil.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.Start(ln); err != nil {
		return err
	}
	<-s.stopped
	return nil
}

// Stop closes the listeners, lets each connection finish the commands that it has read, and waits
// until ctx ends; then it cancels what is still running. It answers nil when everything ended in
// time, and is safe to call twice, and on a server that was never started.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopping {
		s.stopping = true
		close(s.stopped)
	}
	for ln := range s.listeners {
		ln.Close()
	}
	for c := range s.conns {
		c.nudge()
	}
	s.mu.Unlock()

	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	left := len(s.conns)
	for c := range s.conns {
		c.abort()
	}
	s.mu.Unlock()
	t := time.NewTimer(forcedPatience)
	defer t.Stop()
	select {
	case <-done:
		return fmt.Errorf("resp door: %d connections were cut off: %w", left, ctx.Err())
	case <-t.C:
		return fmt.Errorf("resp door: operations did not end %s after they were cancelled: %w", forcedPatience, ctx.Err())
	}
}

// Stats counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	now := int64(len(s.conns))
	s.mu.Unlock()
	return Stats{
		Connections: now, Accepted: s.count.accepted.Load(), Refused: s.count.refused.Load(),
		Commands: s.count.commands.Load(), Failed: s.count.failed.Load(),
		Malformed: s.count.malformed.Load(), Panics: s.count.panics.Load(),
		BufferBytes: s.cfg.MaxBuffers - s.budget.free.Load(),
	}
}

func (s *Server) accept(ln net.Listener) {
	defer s.wg.Done()
	defer func() {
		ln.Close()
		s.mu.Lock()
		delete(s.listeners, ln)
		s.mu.Unlock()
	}()
	for {
		raw, err := ln.Accept()
		if err == nil {
			s.admit(raw)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		s.cfg.Log.Warn("resp door: accept failed", "error", err)
		t := time.NewTimer(acceptPause)
		select {
		case <-s.stopped:
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// admit gives the connection its goroutine, or turns it away.
func (s *Server) admit(raw net.Conn) {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		raw.Close()
		return
	}
	full := len(s.conns) >= s.cfg.MaxConns
	var c *conn
	if !full {
		c = s.newConn(raw)
		s.conns[c] = struct{}{}
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if full {
		s.count.refused.Add(1)
		s.cfg.Log.Warn("resp door: connection refused", "limit", s.cfg.MaxConns, "client", raw.RemoteAddr())
		refuse(raw, s.cfg.TLS != nil)
		return
	}
	s.count.accepted.Add(1)
	go func() {
		defer s.wg.Done()
		defer func() {
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		}()
		c.run()
	}()
}

// refuse says why, as Redis does. A few bytes into an empty socket do not block; TLS would take a
// handshake, which is not worth it.
func refuse(raw net.Conn, secured bool) {
	defer raw.Close()
	if secured || raw.SetWriteDeadline(time.Now().Add(refusalTimeout)) != nil {
		return
	}
	_, _ = raw.Write([]byte("-" + errMaxClients + "\r\n")) // it is closed anyway
}

func (s *Server) newConn(raw net.Conn) *conn {
	c := &conn{
		srv: s, id: s.lastID.Add(1), began: time.Now(), proto: 2, authed: s.guard.open,
		out: make([]byte, 0, 512),
	}
	c.p = parser{maxArgs: s.cfg.MaxArgs, maxBulk: s.cfg.MaxBulk, maxFrame: s.cfg.MaxFrame, bulk: -1,
		locked: !s.guard.open, buf: make([]byte, 0, baseBuffer)}
	c.sink = newSink(raw, s.cfg.MaxOutput, s.cfg.WriteTimeout, &s.budget)
	c.nc = c.sink
	if s.cfg.TLS != nil {
		c.nc = tls.Server(c.sink, s.cfg.TLS)
	}
	c.info.Store(&clientInfo{})
	return c
}
