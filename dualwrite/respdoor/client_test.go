package respdoor_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor/doortest"
)

const patience = 30 * time.Second

// shop serves a door over the memory model, with units of items on hand at the default location.
func shop(t testing.TB, cfg respdoor.Config, stock map[string]int64) (string, *respdoor.Server, *doortest.Service) {
	t.Helper()
	svc := doortest.NewService(t, memstore.New(memstore.Options{Side: backends.SideRedis}))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for item, n := range stock {
		r := &backends.RestockRequest{OpID: backends.OpID("load-" + item), Key: backends.Key{Shop: "s", Item: backends.Item(item), Location: "main"}, Amount: n}
		if _, err := svc.Restock(ctx, r); err != nil {
			t.Fatalf("loading stock: %v", err)
		}
	}
	addr, srv := doortest.Serve(t, cfg, svc, doortest.NewRouter(t))
	return addr, srv, svc
}

// client is a bare connection.
type client struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatalf("deadline: %v", err)
	}
	return &client{t: t, nc: nc, r: bufio.NewReader(nc)}
}

func (c *client) send(raw string) {
	c.t.Helper()
	if _, err := c.nc.Write([]byte(raw)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// frame is a command on the wire.
func frame(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b.String()
}

// do sends a command and reads its reply.
func (c *client) do(args ...string) any {
	c.t.Helper()
	c.send(frame(args...))
	return c.reply()
}

// redisError is an error reply.
type redisError string

// reply reads one reply: string, int64, redisError, nil, []any, or map[string]any.
func (c *client) reply() any {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	body := strings.TrimSuffix(line[1:], "\r\n")
	count := func() int {
		n, err := strconv.Atoi(body)
		if err != nil {
			c.t.Fatalf("reply %q", line)
		}
		return n
	}
	switch line[0] {
	case '+':
		return body
	case '-':
		return redisError(body)
	case ':':
		return int64(count())
	case '_':
		return nil
	case '$', '=':
		return c.blob(count())
	case '*', '~':
		n := count()
		if n < 0 {
			return nil
		}
		out := make([]any, n)
		for i := range out {
			out[i] = c.reply()
		}
		return out
	case '%':
		out := map[string]any{}
		for range count() {
			k := c.reply()
			out[fmt.Sprint(k)] = c.reply()
		}
		return out
	default:
		c.t.Fatalf("reply %q", line)
		return nil
	}
}

func (c *client) blob(n int) any {
	c.t.Helper()
	if n < 0 {
		return nil
	}
	b := make([]byte, n+2)
	for got := 0; got < len(b); {
		m, err := c.r.Read(b[got:])
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		got += m
	}
	return string(b[:n])
}

// closed waits until the server has closed the connection, and answers what came before that.
func (c *client) closed() string {
	c.t.Helper()
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		b.WriteString(line)
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatalf("the connection is still open; it sent %q", b.String())
		}
		return b.String()
	}
}

// pairs makes a map of a RESP2 reply of names and values.
func pairs(t testing.TB, v any) map[string]any {
	t.Helper()
	if m, ok := v.(map[string]any); ok {
		return m
	}
	l, ok := v.([]any)
	if !ok || len(l)%2 != 0 {
		t.Fatalf("not a map: %#v", v)
	}
	m := map[string]any{}
	for i := 0; i < len(l); i += 2 {
		m[fmt.Sprint(l[i])] = l[i+1]
	}
	return m
}
