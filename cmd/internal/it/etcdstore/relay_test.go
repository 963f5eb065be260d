package etcdstore_test

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// fate is what a relay does to the first request that has a text in it, and to all behind it on its connection.
type fate int

const (
	passes      fate = iota
	lostRequest      // the server never gets it
	lostAnswer       // the server has done it, and nobody learns of it
)

// relay stands between a store and etcd.
type relay struct {
	listener net.Listener
	server   string
	served   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	away   bool
	text   []byte
	fate   fate
	conns  map[net.Conn]bool
}

func newRelay(t *testing.T, server string) *relay {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, server: server, conns: map[net.Conn]bool{}}
	r.served.Go(r.serve)
	t.Cleanup(func() {
		r.mu.Lock()
		r.closed = true
		r.mu.Unlock()
		_ = l.Close()
		r.cut()
		r.served.Wait()
	})
	return r
}

func (r *relay) addr() string { return r.listener.Addr().String() }

// lose arms the relay for one request.
func (r *relay) lose(f fate, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fate, r.text = f, []byte(text)
}

// meets takes the fate that bytes from the client meet. It is taken once.
func (r *relay) meets(b []byte) fate {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fate == passes || !bytes.Contains(b, r.text) {
		return passes
	}
	f := r.fate
	r.fate = passes
	return f
}

// shut lets nothing through from now on, or everything again.
func (r *relay) shut(away bool) {
	r.mu.Lock()
	r.away = away
	r.mu.Unlock()
	if away {
		r.cut()
	}
}

// cut breaks all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		_ = c.Close()
	}
}

func (r *relay) serve() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", r.server)
		if err != nil || !r.keep(client, server) {
			_ = client.Close()
			if server != nil {
				_ = server.Close()
			}
			continue
		}
		mute := make(chan struct{})
		r.served.Go(func() { r.upwards(client, server, mute) })
		r.served.Go(func() { r.downwards(server, client, mute) })
	}
}

func (r *relay) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away || r.closed {
		return false
	}
	for _, c := range conns {
		r.conns[c] = true
	}
	return true
}

func (r *relay) upwards(client, server net.Conn, mute chan struct{}) {
	defer client.Close()
	defer server.Close()
	buf := make([]byte, 64<<10)
	lost := false
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		switch r.meets(buf[:n]) {
		case lostRequest:
			lost = true
		case lostAnswer:
			close(mute)
		case passes:
		}
		if lost {
			continue
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (r *relay) downwards(server, client net.Conn, mute chan struct{}) {
	defer client.Close()
	defer server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-mute:
			continue
		default:
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// The answer to a writing is lost: the store finds out by itself that it took effect, or says that it cannot tell.
func TestLostAnswers(t *testing.T) {
	e := lab.ForTest(t, lab.Etcd)
	type result struct {
		rev killswitch.Revision
		err error
	}
	for _, c := range []struct {
		name      string
		fate      fate
		overtaken bool // somebody writes on top before the store asks again
		create    bool
	}{
		{"request lost", lostRequest, false, false},
		{"answer lost", lostAnswer, false, false},
		{"answer to a creation lost", lostAnswer, false, true},
		{"answer lost, and written again since", lostAnswer, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			prefix := "/" + e.NewPrefix(t) + "/"
			r := newRelay(t, e.Addr())
			s, direct := open(t, prefix, r.addr()), open(t, prefix, e.Addr())
			var rev killswitch.Revision
			if !c.create {
				rev = set(t, direct, "p", 0, 1)
			}
			if _, _, err := s.Get(within(t, patience), "p"); err != nil {
				t.Fatal(err)
			}
			const mark = "the writing whose answer is lost"
			r.lose(c.fate, mark)
			done := make(chan result, 1)
			go func() {
				got, err := s.CompareAndSet(within(t, patience), "p", rev, killswitch.PodState{Epoch: 2, Why: mark})
				done <- result{got, err}
			}()
			eventually(t, "the writing", func() bool {
				r.mu.Lock()
				met := r.fate == passes
				r.mu.Unlock()
				st, _, err := direct.Get(within(t, patience), "p")
				return err == nil && met && (st.Epoch == 2) == (c.fate == lostAnswer)
			})
			if c.overtaken {
				_, at, err := direct.Get(within(t, patience), "p")
				if err != nil {
					t.Fatal(err)
				}
				set(t, direct, "p", at, 3)
			}
			r.cut() // the client learns that there will be no answer
			got := <-done
			st, at, err := direct.Get(within(t, patience), "p")
			if err != nil {
				t.Fatal(err)
			}
			if c.overtaken {
				if !errors.Is(got.err, killswitch.ErrControlUnavailable) || errors.Is(got.err, killswitch.ErrConflict) || st.Epoch != 3 {
					t.Errorf("%d, %v at epoch %d; want an error that leaves it open", got.rev, got.err, st.Epoch)
				}
				return
			}
			if got.err != nil || got.rev != at || st.Epoch != 2 {
				t.Errorf("answered %d, %v; there is epoch %d at %d", got.rev, got.err, st.Epoch, at)
			}
		})
	}
}

// Cut off, every call ends in its time and says why; back again, everything goes on.
func TestCutOff(t *testing.T) {
	e := lab.ForTest(t, lab.Etcd)
	prefix := "/" + e.NewPrefix(t) + "/"
	r := newRelay(t, e.Addr())
	s, direct := open(t, prefix, r.addr()), open(t, prefix, e.Addr())
	m, err := s.Join(within(t, patience), killswitch.Member{Proxy: "x"}, killswitch.MinLease)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := s.Watch(within(t, 2*patience))
	if err != nil {
		t.Fatal(err)
	}
	rev := set(t, s, "p", 0, 1)
	await(t, ch, "p")
	r.shut(true)
	refuses(t, s, 700*time.Millisecond)
	eventually(t, "the end of the lease", func() bool {
		ms, err := direct.Members(within(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		if len(ms) == 0 && m.ValidUntil().After(time.Now()) {
			t.Fatalf("gone %s before the proxy knows", time.Until(m.ValidUntil()))
		}
		return len(ms) == 0
	})
	rev = set(t, direct, "p", rev, 2)
	set(t, direct, "p", rev, 3)
	r.shut(false)
	await(t, ch, "p")
	if st, _, err := s.Get(within(t, patience), "p"); err != nil || st.Epoch != 3 {
		t.Errorf("after rejoining: epoch %d, %v", st.Epoch, err)
	}
	eventually(t, "the registration", func() bool { return m.ValidUntil().After(time.Now()) })
	if ms, err := direct.Members(within(t, patience)); err != nil || len(ms) != 1 {
		t.Errorf("members %v, %v", ms, err)
	}
	select {
	case <-m.Lost():
		t.Error("its own former registration was taken for another's")
	default:
	}
}
