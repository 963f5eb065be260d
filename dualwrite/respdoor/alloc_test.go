package respdoor

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

// oneResult is a service with a result that is there already.
type oneResult struct {
	Service
	result backends.CountResult
}

func (s *oneResult) Count(context.Context, *backends.CountRequest) (*backends.CountResult, error) {
	return &s.result, nil
}

type oneKey struct{}

func (oneKey) ParseKey(key string) (backends.Pod, backends.Key, bool) {
	shop, item, ok := strings.Cut(key[len("stock:"):], ":")
	return "p", backends.Key{Shop: backends.Shop(shop), Item: backends.Item(item), Location: "main"}, ok
}

func (oneKey) DefaultLocation(backends.Shop) (backends.Location, bool) { return "main", true }

// looseConn is a connection without a network.
func looseConn(t testing.TB) *conn {
	t.Helper()
	s, err := New(Config{}, &oneResult{}, oneKey{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cancel)
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	c := s.newConn(ours)
	t.Cleanup(c.endOp)
	c.nc = discard{ours}
	return c
}

type discard struct{ net.Conn }

func (discard) Write(p []byte) (int, error) { return io.Discard.Write(p) }

// TestDecrAllocations: a DECR costs what outlives it, and no more: the key, the operation id, and
// the request.
func TestDecrAllocations(t *testing.T) {
	c := looseConn(t)
	in := []byte("*2\r\n$4\r\nDECR\r\n$11\r\nstock:s:mug\r\n")
	const needed = 3
	if n := testing.AllocsPerRun(1000, func() { decrOnce(t, c, in) }); n > needed {
		t.Errorf("%v allocations", n)
	}
}

func decrOnce(t testing.TB, c *conn, in []byte) {
	c.p.idle()
	c.p.buf = append(c.p.buf, in...)
	if err := c.batch(); err != nil {
		t.Fatal(err)
	}
	if len(c.out) == 0 || c.out[0] != ':' {
		t.Fatalf("%q", c.out)
	}
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkDecrPath(b *testing.B) {
	c := looseConn(b)
	in := []byte("*2\r\n$4\r\nDECR\r\n$11\r\nstock:s:mug\r\n")
	b.ReportAllocs()
	for b.Loop() {
		decrOnce(b, c, in)
	}
}
