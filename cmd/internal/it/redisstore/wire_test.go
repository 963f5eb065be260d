package redisstore_test

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// wire is a TCP proxy before a server that can lose the reply to a request, so that the server does what
// was asked and the client never hears of it, and can keep requests waiting.
type wire struct {
	t      *testing.T
	server string
	l      net.Listener
	wg     sync.WaitGroup

	stop sync.RWMutex // held for writing: requests wait on the wire

	mu    sync.Mutex
	conns []net.Conn
	lose  []byte // the reply to the next request that contains this is lost
	lost  int
	twice bool // that request arrives twice
}

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, server: server, l: l}
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.mu.Lock()
		for _, c := range w.conns {
			_ = c.Close()
		}
		w.mu.Unlock()
		w.wg.Wait()
	})
	return w
}

func (w *wire) addr() string { return w.l.Addr().String() }

// loseReply loses the reply to the next request that contains text.
func (w *wire) loseReply(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = []byte(text)
}

// loseReplyAndRepeat does the same to a request that arrives twice, as if a driver had sent it again.
func (w *wire) loseReplyAndRepeat(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose, w.twice = []byte(text), true
}

func (w *wire) losses() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

func (w *wire) accept() {
	for {
		client, err := w.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, client, server)
		w.mu.Unlock()
		doomed := make(chan struct{})
		w.wg.Go(func() { w.requests(client, server, doomed) })
		w.wg.Go(func() { w.replies(server, client, doomed) })
	}
}

func (w *wire) requests(client, server net.Conn, doomed chan struct{}) {
	defer server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		what := buf[:n]
		w.mu.Lock()
		if w.lose != nil && bytes.Contains(what, w.lose) {
			w.lose = nil
			close(doomed)
			if w.twice {
				w.twice = false
				what = bytes.Repeat(what, 2)
			}
		}
		w.mu.Unlock()
		w.stop.RLock()
		_, err = server.Write(what)
		w.stop.RUnlock()
		if err != nil {
			return
		}
	}
}

func (w *wire) replies(server, client net.Conn, doomed chan struct{}) {
	defer client.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-doomed:
			w.mu.Lock()
			w.lost++
			w.mu.Unlock()
			return
		default:
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}
