package respdoor_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor/doortest"
)

// batching is a service that takes counts together, and writes down how many.
type batching struct {
	*doortest.Service
	mu    sync.Mutex
	sizes []int
	at    func(rs []*backends.CountRequest) // called first
	void  backends.Item                     // a kill has voided counts of this
}

func (s *batching) Counts(ctx context.Context, rs []*backends.CountRequest) []backends.CountAnswer {
	s.mu.Lock()
	s.sizes = append(s.sizes, len(rs))
	s.mu.Unlock()
	if s.at != nil {
		s.at(rs)
	}
	out := make([]backends.CountAnswer, len(rs))
	for i, r := range rs {
		if r.Key.Item == s.void {
			out[i].Err = backends.ErrVoid
			continue
		}
		out[i].Result, out[i].Err = s.Count(ctx, r)
	}
	return out
}

func (s *batching) asked() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.sizes)
}

func newBatching(t *testing.T) *batching {
	return &batching{Service: doortest.NewService(t, memstore.New(memstore.Options{Side: backends.SideRedis}))}
}

// Counts that were sent one behind the other are done together, and what stands between them has its place.
func TestCountsTogether(t *testing.T) {
	svc := newBatching(t)
	addr, _ := doortest.Serve(t, respdoor.Config{}, svc, doortest.NewRouter(t))
	for _, c := range []struct {
		name, send, want, asked string
	}{
		{"one", frame("DECR", "stock:s:a"), ":-1\r\n", "[]"},
		{"three", frame("INCRBY", "stock:s:a", "11") + frame("DECR", "stock:s:a") + frame("DECRBY", "stock:s:b", "2"), ":10\r\n:9\r\n:-2\r\n", "[3]"},
		{
			"others between", frame("DECR", "stock:s:a") + frame("PING") + frame("DECR", "stock:s:a") + frame("GET", "stock:s:a") + frame("DECR", "stock:s:a"),
			":8\r\n+PONG\r\n:7\r\n$1\r\n7\r\n:6\r\n", "[1 1]",
		},
		{
			"errors between",
			frame("DECR", "stock:s:a") + frame("DECRBY", "stock:s:a", "x") + frame("DECR", "stock:s:a") + frame("DECR") + frame("DECR", "stock:s:a") + frame("NOPE") + frame("DECR", "stock:s:a"),
			":5\r\n-ERR value is not an integer or out of range\r\n:4\r\n-ERR wrong number of arguments for 'decr' command\r\n:3\r\n-ERR unknown command 'NOPE', with args beginning with: \r\n:2\r\n", "[1 1 1]",
		},
		{
			"a refusal of one", frame("DECR", "stock:s:a") + frame("INCRBY", "stock:s:a", "1000000000000") + frame("INCR", "stock:s:a"),
			":1\r\n-XFINVALID", "[3]",
		},
		{"replies off", frame("DECR", "stock:s:c") + frame("CLIENT", "REPLY", "SKIP") + frame("DECR", "stock:s:c") + frame("DECR", "stock:s:c") + frame("DECR", "stock:s:c"), ":-1\r\n:-3\r\n:-4\r\n", "[1 2]"},
		{
			"replies off behind them", frame("DECR", "stock:s:f") + frame("DECR", "stock:s:f") + frame("CLIENT", "REPLY", "OFF") + frame("DECR", "stock:s:f") +
				frame("CLIENT", "REPLY", "ON"), ":-1\r\n:-2\r\n+OK\r\n", "[2]",
		},
		{"a broken frame", frame("DECR", "stock:s:d") + frame("DECR", "stock:s:d") + "*x\r\n", ":-1\r\n:-2\r\n-ERR Protocol error: invalid multibulk length\r\n", "[2]"},
	} {
		svc.mu.Lock()
		svc.sizes = nil
		svc.mu.Unlock()
		nc := dial(t, addr)
		nc.send(c.send)
		got := make([]byte, len(c.want))
		for n := 0; n < len(got); {
			m, err := nc.r.Read(got[n:])
			if err != nil {
				t.Fatalf("%s: %q, then %v", c.name, got[:n], err)
			}
			n += m
		}
		if string(got) != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if a := svc.asked(); a != c.asked {
			t.Errorf("%s: together %s, want %s", c.name, a, c.asked)
		}
		nc.nc.Close()
	}
	nc := dial(t, addr)
	nc.send(strings.Repeat(frame("DECR", "stock:s:e"), 100))
	for i := range 100 {
		if got := nc.reply(); got != int64(-1-i) {
			t.Fatalf("reply %d: %v", i, got)
		}
	}
}

// A panic is answered to all whose counts were together, and ends their connection alone.
func TestPanicTogether(t *testing.T) {
	svc := newBatching(t)
	svc.at = func(rs []*backends.CountRequest) {
		if rs[0].Key.Item == "bad" {
			panic("on purpose")
		}
	}
	addr, srv := doortest.Serve(t, respdoor.Config{}, svc, doortest.NewRouter(t))
	nc := dial(t, addr)
	nc.send(frame("PING") + frame("DECR", "stock:s:bad") + frame("DECR", "stock:s:bad") + frame("PING"))
	const unknown = "-XFUNKNOWN internal error; retry under the same id\r\n"
	if got, want := nc.closed(), "+PONG\r\n"+unknown+unknown; got != want {
		t.Fatalf("%q, want %q", got, want)
	}
	if n := srv.Stats().Panics; n != 1 {
		t.Errorf("%d panics", n)
	}
	if got := dial(t, addr).do("DECR", "stock:s:good"); got != int64(-1) {
		t.Fatalf("another connection: %v", got)
	}
}

// twoPods has items that begin with "stuck" in a pod that does not answer.
type twoPods struct{ *doortest.Router }

func (r twoPods) ParseKey(key string) (backends.Pod, backends.Key, bool) {
	_, k, ok := r.Router.ParseKey(key)
	if strings.HasPrefix(string(k.Item), "stuck") {
		return "stuck", k, ok
	}
	return "free", k, ok
}

// Replies come in the order of the commands: what a client has sent behind a command to a pod that does
// not answer waits with it, and nobody else does.
func TestOrderAcrossPods(t *testing.T) {
	svc := newBatching(t)
	stuck := make(chan struct{})
	svc.at = func(rs []*backends.CountRequest) {
		for _, r := range rs {
			if strings.HasPrefix(string(r.Key.Item), "stuck") {
				<-stuck
			}
		}
	}
	addr, _ := doortest.Serve(t, respdoor.Config{}, svc, twoPods{doortest.NewRouter(t)})
	nc := dial(t, addr)
	nc.send(frame("DECR", "stock:s:before") + frame("PING") + frame("DECR", "stock:s:stuck") + frame("DECR", "stock:s:behind") + frame("PING"))
	eventually(t, "the stuck pod is asked", func() bool { return svc.asked() == "[1 2]" })
	other := dial(t, addr)
	for i := range 10 {
		other.send(frame("DECR", "stock:s:other") + frame("DECR", "stock:s:other"))
		if a, b := other.reply(), other.reply(); a != int64(-1-2*i) || b != int64(-2-2*i) {
			t.Fatalf("another connection: %v %v", a, b)
		}
	}
	if n := nc.r.Buffered(); n != 0 {
		t.Fatalf("%d bytes of replies are here already", n)
	}
	close(stuck)
	for i, want := range []any{int64(-1), "PONG", int64(-1), int64(-1), "PONG"} {
		if got := nc.reply(); got != want {
			t.Fatalf("reply %d: %v, want %v", i, got, want)
		}
	}
}

// A count that a kill voids is done anew, and those beside it only once.
func TestVoidTogether(t *testing.T) {
	svc := newBatching(t)
	svc.void = "void"
	addr, _ := doortest.Serve(t, respdoor.Config{}, svc, doortest.NewRouter(t))
	nc := dial(t, addr)
	nc.send(frame("DECR", "stock:s:a") + frame("DECR", "stock:s:void") + frame("DECR", "stock:s:a"))
	for i, want := range []int64{-1, -1, -2} {
		if got := nc.reply(); got != want {
			t.Fatalf("reply %d: %v, want %d", i, got, want)
		}
	}
}
