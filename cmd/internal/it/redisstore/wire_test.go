package redisstore_test

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// wire is a TCP proxy before a server that can lose the reply to a request: the server does what
// was asked, and the client never hears of it.
type wire struct {
	t      *testing.T
	server string
	l      net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	lose  []byte // the reply to the next request that contains this is lost
	lost  int
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
		w.mu.Lock()
		if w.lose != nil && bytes.Contains(buf[:n], w.lose) {
			w.lose = nil
			close(doomed)
		}
		w.mu.Unlock()
		if _, err := server.Write(buf[:n]); err != nil {
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
