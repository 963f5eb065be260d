package respdoor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor/doortest"
)

// countFunc is a service that only counts.
type countFunc struct {
	respdoor.Service // nil: nothing else is called
	f                func(ctx context.Context, r *backends.CountRequest) (*backends.CountResult, error)
}

func (s countFunc) Count(ctx context.Context, r *backends.CountRequest) (*backends.CountResult, error) {
	return s.f(ctx, r)
}

func counting(t testing.TB, cfg respdoor.Config, f func(context.Context, *backends.CountRequest) (*backends.CountResult, error)) (string, *respdoor.Server) {
	t.Helper()
	return doortest.Serve(t, cfg, countFunc{f: f}, doortest.NewRouter(t))
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if f() {
			return
		}
	}
	t.Fatalf("it never happened: %s", what)
}

func TestHalfAFrame(t *testing.T) {
	const limit = 100 * time.Millisecond
	addr, srv, _ := shop(t, respdoor.Config{FrameTimeout: limit}, nil)
	for _, half := range []string{"*", "*2\r\n$4\r\nDE", "PING", frame("PING") + "*1\r\n$4\r\nPI", "*1\r\n$4\r\nPING\r"} {
		c := dial(t, addr)
		began := time.Now() // before the door can have begun to count
		c.send(half)
		got := c.closed()
		if !strings.HasSuffix(got, "-ERR Protocol error: a command was begun and not completed in time\r\n") {
			t.Errorf("%q: %q", half, got)
		}
		if d := time.Since(began); d < limit/2 {
			t.Errorf("%q: closed after %s", half, d)
		}
	}
	// One byte now and then does not keep it: the frame has a time as a whole.
	c := dial(t, addr)
	done := make(chan string)
	go func() { done <- c.closed() }()
	tick := time.NewTicker(limit / 10)
	defer tick.Stop()
	c.send("*1\r\n$60000\r\n")
	for {
		select {
		case got := <-done:
			if !strings.Contains(got, "not completed in time") {
				t.Errorf("%q", got)
			}
			if n := srv.Stats().Malformed; n != 6 {
				t.Errorf("%d counted", n)
			}
			return
		case <-tick.C:
			_, _ = c.nc.Write([]byte("x")) // fails once it is closed, which is what is awaited
		}
	}
}

// TestEachFrameHasItsTime: a stream that always ends in half a frame, for longer than one may take.
func TestEachFrameHasItsTime(t *testing.T) {
	const limit = time.Second // a busy machine may take a while for each half
	addr, _, _ := shop(t, respdoor.Config{FrameTimeout: limit}, nil)
	c := dial(t, addr)
	whole := frame("PING")
	c.send(whole[:5])
	for end := time.Now().Add(limit * 3 / 2); time.Now().Before(end); {
		c.send(whole[5:] + whole[:5])
		if v := c.reply(); v != "PONG" {
			t.Fatal(v)
		}
	}
}

func TestIdle(t *testing.T) {
	addr, _, _ := shop(t, respdoor.Config{IdleTimeout: time.Second}, nil)
	c := dial(t, addr)
	if v := c.do("PING"); v != "PONG" {
		t.Fatal(v)
	}
	if got := c.closed(); got != "" {
		t.Errorf("%q", got)
	}
	addr, _, _ = shop(t, respdoor.Config{FrameTimeout: 30 * time.Millisecond}, nil)
	c = dial(t, addr)
	c.do("PING")
	quiet := time.NewTimer(100 * time.Millisecond) // several frame timeouts
	<-quiet.C
	if v := c.do("PING"); v != "PONG" {
		t.Errorf("an idle connection without a frame begun: %v", v)
	}
}

func TestOversized(t *testing.T) {
	cfg := respdoor.Config{MaxArgs: 100, MaxBulk: 1000, MaxFrame: 20_000}
	addr, srv, _ := shop(t, cfg, nil)
	arg := strings.Repeat("x", 999)
	for _, row := range []struct{ name, in, want string }{
		{"arguments", "*101\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"an argument", "*2\r\n$4\r\nECHO\r\n$1001\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
		{"a frame", "*30\r\n" + strings.Repeat(fmt.Sprintf("$%d\r\n%s\r\n", len(arg), arg), 30), "-ERR Protocol error: frame is longer than 20000 bytes\r\n"},
		{"a number", "*1\r\n$9223372036854775807\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
	} {
		c := dial(t, addr)
		go func() { _, _ = io.WriteString(c.nc, row.in+strings.Repeat("y", 300_000)) }() // it goes on sending
		if got := c.closed(); got != row.want {
			t.Errorf("%s: %q", row.name, got)
		}
	}
	eventually(t, "buffers given back", func() bool { s := srv.Stats(); return s.Connections == 0 && s.BufferBytes == 0 })
}

// TestTwentyThousandArguments are read, also in small pieces.
func TestTwentyThousandArguments(t *testing.T) {
	addr, srv, _ := shop(t, respdoor.Config{}, map[string]int64{"mug": 5})
	args := make([]string, 20_001)
	args[0] = "EXISTS"
	for i := range args[1:] {
		args[i+1] = "stock:s:mug"
	}
	c := dial(t, addr)
	all := frame(args...)
	for len(all) > 0 {
		n := min(len(all), 1499)
		c.send(all[:n])
		all = all[n:]
	}
	if got, ok := c.reply().(redisError); !ok || got != "ERR at most 10000 stock keys in one command" {
		t.Fatalf("%v", got)
	}
	if v := c.do(args[:10_001]...); v != int64(10_000) {
		t.Fatalf("%v", v)
	}
	if v := c.do(append([]string{"ECHO"}, args[1:]...)...); v != redisError("ERR wrong number of arguments for 'echo' command") {
		t.Fatalf("%v", v)
	}
	eventually(t, "buffers given back", func() bool { return srv.Stats().BufferBytes == 0 })
}

func TestBuffersAreShared(t *testing.T) {
	cfg := respdoor.Config{MaxFrame: 256 << 10, MaxBuffers: 256 << 10}
	addr, srv, _ := shop(t, cfg, nil)
	half := "*5\r\n$4\r\nECHO\r\n" + strings.Repeat("$60000\r\n"+strings.Repeat("x", 60_000)+"\r\n", 3)
	first := dial(t, addr)
	first.send(half)
	eventually(t, "the first has its buffer", func() bool { return srv.Stats().BufferBytes > 200_000 })
	second := dial(t, addr)
	go func() { _, _ = io.WriteString(second.nc, half) }()
	if got := second.closed(); got != "-ERR the proxy has no buffer memory left for a command of this size; try again\r\n" {
		t.Errorf("%q", got)
	}
	first.nc.Close()
	eventually(t, "buffers given back", func() bool { return srv.Stats().BufferBytes == 0 })
}

// TestLongPipelineUnread: a client may send all before it reads anything, far beyond what the
// sockets hold.
func TestLongPipelineUnread(t *testing.T) {
	addr, srv, _ := shop(t, respdoor.Config{MaxOutput: 64 << 20}, nil)
	c := dial(t, addr)
	const commands = 24_000
	word := strings.Repeat("x", 1000)
	c.send(strings.Repeat(frame("ECHO", word), commands))
	eventually(t, "more replies than the sockets hold", func() bool { return srv.Stats().BufferBytes > 0 })
	for i := range commands {
		if v := c.reply(); v != word {
			t.Fatalf("reply %d: %v", i, v)
		}
	}
	eventually(t, "buffers given back", func() bool { return srv.Stats().BufferBytes == 0 })
}

// TestClientThatDoesNotRead is cut off, and its memory is bounded until then.
func TestClientThatDoesNotRead(t *testing.T) {
	const most = 1 << 20
	var served atomic.Int64
	addr, srv := counting(t, respdoor.Config{MaxOutput: most, WriteTimeout: 200 * time.Millisecond}, func(context.Context, *backends.CountRequest) (*backends.CountResult, error) {
		served.Add(1)
		return &backends.CountResult{Value: -1_000_000_000_000}, nil
	})
	c := dial(t, addr)
	part := []byte(strings.Repeat("DECR stock:s:mug\r\n", 10_000))
	var peak int64
	for {
		if _, err := c.nc.Write(part); err != nil {
			break // cut off, as it should be
		}
		peak = max(peak, srv.Stats().BufferBytes)
	}
	if peak > 2*most {
		t.Errorf("%d bytes were kept for it", peak)
	}
	eventually(t, "connection gone", func() bool { s := srv.Stats(); return s.Connections == 0 && s.BufferBytes == 0 })
}

func TestManyConnections(t *testing.T) {
	const clients, loops, limit = 200, 10, 200
	addr, srv, svc := shop(t, respdoor.Config{MaxConns: limit}, map[string]int64{"mug": 500})
	var sold, refused atomic.Int64
	var wg sync.WaitGroup
	all := make([]*client, clients)
	for i := range all {
		all[i] = dial(t, addr)
	}
	eventually(t, "all are in", func() bool { return srv.Stats().Connections == clients })
	over := dial(t, addr)
	if got := over.closed(); got != "-ERR max number of clients reached\r\n" {
		t.Errorf("one too many: %q", got)
	}
	for _, c := range all {
		wg.Go(func() {
			for range loops {
				if v, ok := c.do("DECR", "stock:s:mug").(int64); ok && v < 0 {
					refused.Add(1)
					c.do("INCR", "stock:s:mug")
				} else if ok {
					sold.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if sold.Load() != 500 || refused.Load() != clients*loops-500 {
		t.Errorf("%d sold, %d refused", sold.Load(), refused.Load())
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ls, err := svc.Levels(ctx, []backends.Key{{Shop: "s", Item: "mug", Location: "main"}})
	if err != nil || len(ls) != 1 || ls[0].Sellable() != 0 || ls[0].Taken != 500 || ls[0].OnHand != 500 {
		t.Errorf("%+v %v", ls, err)
	}
	all[0].nc.Close()
	eventually(t, "room again", func() bool { return srv.Stats().Connections < clients })
	if v := dial(t, addr).do("PING"); v != "PONG" {
		t.Error(v)
	}
}

// TestRequestTimeout: a store that does not answer makes an unknown outcome, not a hung client.
func TestRequestTimeout(t *testing.T) {
	addr, _ := counting(t, respdoor.Config{RequestTimeout: 50 * time.Millisecond}, func(ctx context.Context, _ *backends.CountRequest) (*backends.CountResult, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("%w: %w", backends.ErrAmbiguous, ctx.Err())
	})
	c := dial(t, addr)
	for range 3 {
		got, ok := c.do("DECR", "stock:s:mug").(redisError)
		if !ok || !strings.HasPrefix(string(got), "XFUNKNOWN ") {
			t.Fatalf("%v", got)
		}
	}
}

// TestLeavingCancelsNothing: what was sent runs to its end although the client is gone.
func TestLeavingCancelsNothing(t *testing.T) {
	began, proceed, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	addr, srv := counting(t, respdoor.Config{}, func(ctx context.Context, _ *backends.CountRequest) (*backends.CountResult, error) {
		close(began)
		<-proceed
		ended <- ctx.Err()
		return &backends.CountResult{}, nil
	})
	c := dial(t, addr)
	c.send(frame("DECR", "stock:s:mug"))
	<-began
	if err := c.nc.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.nc.Close()
	close(proceed)
	if err := <-ended; err != nil {
		t.Errorf("cancelled: %v", err)
	}
	eventually(t, "connection gone", func() bool { return srv.Stats().Connections == 0 })
}

// TestPanic: the command's outcome is unknown, the connection ends, the proxy goes on.
func TestPanic(t *testing.T) {
	var once atomic.Bool
	addr, srv := counting(t, respdoor.Config{}, func(context.Context, *backends.CountRequest) (*backends.CountResult, error) {
		if once.CompareAndSwap(false, true) {
			panic("a bug")
		}
		return &backends.CountResult{Value: 7}, nil
	})
	c := dial(t, addr)
	c.send(frame("PING") + frame("DECR", "stock:s:mug") + frame("PING"))
	if got := c.closed(); !strings.HasPrefix(got, "+PONG\r\n-XFUNKNOWN internal error") || strings.Count(got, "\r\n") != 2 {
		t.Errorf("%q", got)
	}
	if v := dial(t, addr).do("DECR", "stock:s:mug"); v != int64(7) || srv.Stats().Panics != 1 {
		t.Errorf("%v, %+v", v, srv.Stats())
	}
}

func TestErrorsOfTheService(t *testing.T) {
	var answer atomic.Pointer[error]
	addr, srv := counting(t, respdoor.Config{}, func(context.Context, *backends.CountRequest) (*backends.CountResult, error) {
		return nil, *answer.Load()
	})
	c := dial(t, addr)
	for _, row := range []struct {
		err  error
		want string
	}{
		{backends.ErrUnavailable, "XFUNAVAILABLE store is unavailable"},
		{errors.New("a\r\nb"), "XFUNKNOWN the command may"},
		{fmt.Errorf("%w:\r\n+OK", backends.ErrUnavailable), "XFUNAVAILABLE store is unavailable:  +OK"},
	} {
		answer.Store(&row.err)
		if got, ok := c.do("DECR", "stock:s:mug").(redisError); !ok || !strings.HasPrefix(string(got), row.want) {
			t.Errorf("%v: %v", row.err, got)
		}
	}
	if n := srv.Stats().Failed; n != 3 {
		t.Errorf("%d counted", n)
	}
}
