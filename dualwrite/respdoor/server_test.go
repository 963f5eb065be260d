package respdoor_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor/doortest"
)

func stopWithin(t testing.TB, srv *respdoor.Server, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return srv.Stop(ctx)
}

// TestStopDrains: commands that were read are answered, then the connection ends.
func TestStopDrains(t *testing.T) {
	began, proceed := make(chan struct{}, 10), make(chan struct{})
	addr, srv := counting(t, respdoor.Config{}, func(context.Context, *backends.CountRequest) (*backends.CountResult, error) {
		began <- struct{}{}
		<-proceed
		return &backends.CountResult{Value: 1}, nil
	})
	idle := dial(t, addr)
	idle.do("PING")
	busy := dial(t, addr)
	busy.send(strings.Repeat(frame("DECR", "stock:s:mug"), 3))
	<-began
	stopped := make(chan error, 2)
	go func() { stopped <- stopWithin(t, srv, patience) }()
	if got := idle.closed(); got != "" {
		t.Errorf("idle: %q", got)
	}
	if _, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
		t.Error("it still listens")
	}
	close(proceed)
	if got := busy.closed(); got != ":1\r\n:1\r\n:1\r\n" {
		t.Errorf("busy: %q", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := stopWithin(t, srv, patience); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// TestStopCutsOff: when its time is over, operations are cancelled.
func TestStopCutsOff(t *testing.T) {
	began := make(chan struct{})
	svc := countFunc{f: func(ctx context.Context, _ *backends.CountRequest) (*backends.CountResult, error) {
		close(began)
		<-ctx.Done()
		return nil, backends.ErrAmbiguous
	}}
	srv, err := respdoor.New(respdoor.Config{}, svc, doortest.NewRouter(t))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	c := dial(t, ln.Addr().String())
	c.send(frame("DECR", "stock:s:mug"))
	<-began
	if err := stopWithin(t, srv, 50*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 connections were cut off") {
		t.Errorf("%v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	if err := srv.Start(ln); !errors.Is(err, respdoor.ErrStopped) {
		t.Errorf("start: %v", err)
	}
}

func TestNeverStarted(t *testing.T) {
	srv, err := respdoor.New(respdoor.Config{}, countFunc{}, doortest.NewRouter(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := stopWithin(t, srv, patience); err != nil {
			t.Error(err)
		}
	}
	if _, err := respdoor.New(respdoor.Config{}, nil, nil); err == nil {
		t.Error("a door without a service")
	}
}

func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	cfg := respdoor.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Password: "secret"}
	addr, srv, _ := shop(t, cfg, map[string]int64{"mug": 3})
	nc, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, nc: nc, r: bufio.NewReader(nc)}
	if v := c.do("GET", "stock:s:mug"); v != redisError("NOAUTH Authentication required.") {
		t.Error(v)
	}
	c.do("AUTH", "secret")
	const commands = 20_000
	go c.send(strings.Repeat(frame("ECHO", strings.Repeat("x", 200)), commands) + frame("DECR", "stock:s:mug"))
	for i := range commands {
		v := c.reply()
		if s, ok := v.(string); !ok || len(s) != 200 {
			t.Fatalf("reply %d: %v", i, v)
		}
	}
	if v := c.reply(); v != int64(2) {
		t.Error(v)
	}
	c.send(frame("QUIT"))
	if got := c.closed(); got != "+OK\r\n" {
		t.Errorf("%q", got)
	}
	cfg.FrameTimeout = 100 * time.Millisecond
	impatient, _, _ := shop(t, cfg, nil)
	plain := dial(t, impatient)
	plain.send(frame("PING")) // no handshake
	plain.closed()
	dial(t, impatient).closed() // nothing at all
	eventually(t, "all gone", func() bool { return srv.Stats().Connections == 0 })
}

// record keeps the caller tags that it sees.
type record struct {
	*doortest.Service
	callers chan string
}

func (r record) Count(ctx context.Context, q *backends.CountRequest) (*backends.CountResult, error) {
	r.callers <- q.Caller
	return r.Service.Count(ctx, q)
}

func (r record) Reserve(ctx context.Context, q *backends.ReserveRequest) (*backends.Decision, error) {
	r.callers <- q.Caller
	return r.Service.Reserve(ctx, q)
}

func TestCallerTag(t *testing.T) {
	_, _, svc := shop(t, respdoor.Config{}, map[string]int64{"mug": 3})
	r := record{svc, make(chan string, 1)}
	addr, _ := doortest.Serve(t, respdoor.Config{Caller: "checkout"}, r, doortest.NewRouter(t))
	c := dial(t, addr)
	decr := []string{"DECR", "stock:s:mug"}
	for _, row := range []struct {
		name string
		then []string
		want string
	}{
		{"", decr, "checkout"},
		{"web-1", decr, "web-1"},
		{"web#1", decr, "checkout"}, // a legal name, and no legal tag
		{strings.Repeat("x", 65), decr, "checkout"},
		{"web-2", []string{"XF.RESERVE", "s", "h", "TTL", "1000", "CALLER", "job", "LINE", "mug", "1"}, "job"},
		{"web-2", []string{"XF.RESERVE", "s", "h", "TTL", "1000", "LINE", "mug", "1"}, "web-2"},
	} {
		if v := c.do("CLIENT", "SETNAME", row.name); v != "OK" {
			t.Fatal(v)
		}
		c.do(row.then...)
		if got := <-r.callers; got != row.want {
			t.Errorf("%q: %q, want %q", row.name, got, row.want)
		}
	}
	c.do("RESET")
	c.do(decr...)
	if got := <-r.callers; got != "checkout" {
		t.Errorf("after RESET: %q", got)
	}
}

type about struct{}

func (about) CrossfadeInfo() []respdoor.InfoField {
	return []respdoor.InfoField{{Name: "pod_eu", Value: "stage=shadow,epoch=3"}}
}

func TestInfoAndClients(t *testing.T) {
	addr, _, _ := shop(t, respdoor.Config{Info: about{}}, nil)
	c, other := dial(t, addr), dial(t, addr)
	c.do("CLIENT", "SETNAME", "web-1")
	c.do("CLIENT", "SETINFO", "LIB-NAME", "go-redis")
	other.do("HELLO", "3")
	all := c.do("INFO").(string)
	for _, want := range []string{"redis_version:7.2.0\r\n", "role:master\r\n", "loading:0\r\n", "connected_clients:2\r\n", "\r\n# Crossfade\r\npod_eu:stage=shadow,epoch=3\r\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in %q", want, all)
		}
	}
	if one := other.do("INFO", "replication"); one != "txt:# Replication\r\nrole:master\r\nconnected_slaves:0\r\n" {
		t.Errorf("%q", one)
	}
	if l := c.do("CLIENT", "LIST").(string); strings.Count(l, "\n") != 2 || !strings.Contains(l, " name=web-1 ") || !strings.Contains(l, " lib-name=go-redis ") {
		t.Errorf("%q", l)
	}
	if i := c.do("CLIENT", "INFO").(string); !strings.Contains(i, "user=default") {
		t.Errorf("%q", i)
	}
	if h := c.do("XF.HELP").([]any); len(h) < 10 {
		t.Errorf("%v", h)
	}
	if v := c.do("TIME").([]any); len(v) != 2 {
		t.Errorf("%v", v)
	}
}

func TestSetAsRestock(t *testing.T) {
	addr, _, _ := shop(t, respdoor.Config{SetRestocks: func(p backends.Pod) bool { return p == "test" }}, map[string]int64{"mug": 5})
	c := dial(t, addr)
	c.do("XF.RESERVE", "s", "h", "TTL", "60000", "LINE", "mug", "2")
	for _, row := range []struct {
		args []string
		want any
	}{
		{[]string{"SET", "stock:s:mug", "7"}, "OK"},
		{[]string{"GET", "stock:s:mug"}, "7"},
		{[]string{"SET", "stock:s:cup", "4"}, "OK"},
		{[]string{"DECR", "stock:s:cup"}, int64(3)},
		{[]string{"SET", "stock:s:mug", "x"}, redisError("ERR value is not an integer or out of range")},
		{[]string{"SET", "stock:s:mug", "7", "NX"}, redisError("ERR SET on a stock key takes no options here: it is an absolute restock")},
		{[]string{"SETEX", "stock:s:mug", "7", "7"}, redisError("ERR SETEX is refused on stock key 'stock:s:mug': change stock with DECRBY and INCRBY, or with XF.RESTOCK")},
	} {
		if got := c.do(row.args...); got != row.want {
			t.Errorf("%q: %v, want %v", row.args, got, row.want)
		}
	}
	if got, ok := c.do("SET", "stock:s:mug", "1000000000001").(redisError); !ok || !strings.HasPrefix(string(got), "XFINVALID quantity is 1000000000001") {
		t.Errorf("%v", got)
	}
	l := pairs(t, c.do("XF.STOCK", "s", "mug").([]any)[0])
	if l["on_hand"] != int64(9) || l["held"] != int64(2) {
		t.Errorf("%v", l)
	}
}
