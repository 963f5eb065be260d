package failover_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// relay is the address under which proxies find Redis: what a failover points elsewhere.
type relay struct {
	ln     net.Listener
	served sync.WaitGroup

	mu     sync.Mutex
	to     string
	closed bool
	conns  map[net.Conn]bool
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{ln: ln, to: to, conns: map[net.Conn]bool{}}
	r.served.Go(r.accept)
	t.Cleanup(func() {
		r.mu.Lock()
		r.closed = true
		r.mu.Unlock()
		_ = ln.Close()
		r.point("")
		r.served.Wait()
	})
	return r
}

func (r *relay) addr() string { return r.ln.Addr().String() }

// point leads new connections to another server, and ends the others.
func (r *relay) point(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
	for c := range r.conns {
		_ = c.Close()
	}
}

func (r *relay) accept() {
	for {
		near, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.served.Go(func() { r.serve(near) })
	}
}

func (r *relay) serve(near net.Conn) {
	defer near.Close()
	r.mu.Lock()
	to := r.to
	r.mu.Unlock()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	r.mu.Lock()
	if r.closed || r.to != to {
		r.mu.Unlock()
		return
	}
	r.conns[near], r.conns[far] = true, true
	r.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
	})
	_, _ = io.Copy(far, near)
	_ = far.Close()
	back.Wait()
	r.mu.Lock()
	delete(r.conns, near)
	delete(r.conns, far)
	r.mu.Unlock()
}
