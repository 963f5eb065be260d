package replay

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shop is a pod on memory stores, in shadow, behind a door that can be closed and opened again.
type shop struct {
	*dualwrite.Pod
	tb           testing.TB
	redis, mysql *memstore.Store
	port         *port
	door         *respdoor.Server
	addr         string
	isOpen       bool
}

// port is an address that stays the test's own while its door is closed: nobody else can take it. Whoever
// comes meanwhile is cut off.
type port struct {
	net.Listener
	mu   sync.Mutex
	open *entrance
	done chan struct{}
}

// entrance is the port as one door sees it.
type entrance struct {
	net.Listener
	in     chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPort(tb testing.TB) *port {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &port{Listener: ln, done: make(chan struct{})}
	p.enter().Close()
	go p.serve()
	tb.Cleanup(func() { ln.Close(); <-p.done })
	return p
}

func (p *port) serve() {
	defer close(p.done)
	for {
		c, err := p.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		at := p.open
		p.mu.Unlock()
		select {
		case at.in <- c:
		case <-at.closed:
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}
}

// enter opens the port for a door.
func (p *port) enter() *entrance {
	e := &entrance{Listener: p.Listener, in: make(chan net.Conn), closed: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = e
	return e
}

// Accept implements net.Listener, as does Close.
func (e *entrance) Accept() (net.Conn, error) {
	select {
	case c := <-e.in:
		return c, nil
	case <-e.closed:
		return nil, net.ErrClosed
	}
}

func (e *entrance) Close() error {
	e.once.Do(func() { close(e.closed) })
	return nil
}

func newShop(tb testing.TB) *shop {
	tb.Helper()
	s := &shop{
		tb:    tb,
		redis: memstore.New(memstore.Options{Side: backends.SideRedis}),
		mysql: memstore.New(memstore.Options{Side: backends.SideMySQL}),
	}
	for _, st := range []*memstore.Store{s.redis, s.mysql} {
		if _, err := st.Raise(tb.Context(), backends.Fence{Epoch: 1, Stage: backends.Shadow, Open: true}, 0); err != nil {
			tb.Fatal(err)
		}
	}
	s.Pod = dualwrite.NewPod("pod", dualwrite.Stores{Redis: s.redis, MySQL: s.mysql}, dualwrite.Options{SweepAge: 50 * time.Millisecond})
	if err := s.Refresh(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	svc := dualwrite.NewService(s.Pod, nil)
	svc.Start(context.WithoutCancel(tb.Context()))
	tb.Cleanup(svc.Stop)
	s.port = newPort(tb)
	s.addr = s.port.Addr().String()
	s.open()
	tb.Cleanup(s.close)
	return s
}

// open opens the door, on the address that it had before.
func (s *shop) open() {
	s.tb.Helper()
	door, err := respdoor.New(respdoor.Config{User: "shop", Password: "secret"}, s, s)
	if err != nil {
		s.tb.Fatal(err)
	}
	if err := door.Start(s.port.enter()); err != nil {
		s.tb.Fatal(err)
	}
	s.door, s.isOpen = door, true
}

// close cuts off all connections, in the middle of whatever they do.
func (s *shop) close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.isOpen = false
	_ = s.door.Stop(ctx) // that connections were cut off is the point
}

// The door's ports, beyond what the pod has itself.

func (s *shop) Release(ctx context.Context, _ backends.Shop, r *backends.ReleaseRequest) (*backends.Decision, error) {
	return s.Pod.Release(ctx, r)
}

func (s *shop) Extend(ctx context.Context, _ backends.Shop, r *backends.ExtendRequest) (*backends.Decision, error) {
	return s.Pod.Extend(ctx, r)
}

func (s *shop) Get(ctx context.Context, _ backends.Shop, id backends.HoldID) (*backends.Hold, error) {
	return s.Pod.Get(ctx, id)
}

func (s *shop) Now(ctx context.Context, _ backends.Shop) (backends.Instant, error) {
	return s.TruthNow(ctx)
}

func (s *shop) ParseKey(string) (backends.Pod, backends.Key, bool) { return "", backends.Key{}, false }

func (s *shop) DefaultLocation(backends.Shop) (backends.Location, bool) { return "main", true }

// settled waits until the shadow has everything.
func (s *shop) settled() {
	s.tb.Helper()
	s.until("the outbox is empty", func() bool {
		st, err := s.redis.OutboxStats(s.tb.Context())
		return err == nil && st.Entries == 0
	})
}

func (s *shop) until(what string, done func() bool) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(s.tb.Context(), 20*time.Second)
	defer cancel()
	for !done() {
		if wait(ctx, time.Millisecond) != nil {
			s.tb.Fatalf("waited in vain until %s", what)
		}
	}
}

// checkStores holds P2 in both stores, and the levels of both against each other.
func (s *shop) checkStores() {
	s.tb.Helper()
	s.settled()
	ctx := s.tb.Context()
	var levels [2]map[backends.Key]int64
	for i, st := range []*memstore.Store{s.redis, s.mysql} {
		broken, _, err := st.Conservation(ctx)
		if err != nil || len(broken) > 0 {
			s.tb.Errorf("conservation in %s: %v, %v", st.Side(), broken, err)
		}
		ls, _, err := st.ScanLevels(ctx, "", backends.MaxPage)
		if err != nil {
			s.tb.Fatal(err)
		}
		levels[i] = map[backends.Key]int64{}
		for _, l := range ls {
			levels[i][l.Key] = l.Sellable()
		}
	}
	for k, v := range levels[0] {
		if levels[1][k] != v {
			s.tb.Errorf("%s: %d sellable in redis, %d in mysql", k, v, levels[1][k])
		}
	}
}

// A port that is closed is still taken, and cuts off whoever comes; opened again it serves.
func TestPort(t *testing.T) {
	s := newShop(t)
	s.close()
	if ln, err := net.Listen("tcp", s.addr); err == nil {
		ln.Close()
		t.Error("somebody else can have the address")
	}
	if c, err := dial(t.Context(), s.addr, "shop", "secret"); err == nil {
		c.close()
		t.Error("a closed door lets in")
	}
	s.open()
	c, err := dial(t.Context(), s.addr, "shop", "secret")
	if err != nil {
		t.Fatal(err)
	}
	c.close()
}
