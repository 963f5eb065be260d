package replay

import (
	"context"
	"net"
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
	door         *respdoor.Server
	addr         string
	isOpen       bool
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
	s.addr = "127.0.0.1:0"
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
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.tb.Fatal(err)
	}
	if err := door.Start(ln); err != nil {
		s.tb.Fatal(err)
	}
	s.door, s.addr, s.isOpen = door, ln.Addr().String(), true
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
