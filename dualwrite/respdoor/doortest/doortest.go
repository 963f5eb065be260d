package doortest

import (
	"context"
	"net"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
)

// TB is what the helpers need of testing.TB.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

const patience = 30 * time.Second

// Service decides with one store.
type Service struct {
	Store backends.Store
	Token backends.Token
}

// NewService opens the store's fence in redis-only, where a store of the Redis side is the truth.
func NewService(tb TB, s backends.Store) *Service {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := s.Raise(ctx, backends.Fence{Epoch: 1, Stage: backends.RedisOnly, Open: true}, 0); err != nil {
		tb.Fatalf("opening the fence: %v", err)
	}
	return &Service{Store: s, Token: backends.Token{Epoch: 1}}
}

var _ respdoor.Service = (*Service)(nil)

// Reserve asks the store.
func (s *Service) Reserve(ctx context.Context, r *backends.ReserveRequest) (*backends.Decision, error) {
	return s.Store.Reserve(ctx, s.Token, r)
}

// Claim asks the store; there is no ledger to wait for.
func (s *Service) Claim(ctx context.Context, r *backends.ClaimRequest, _ time.Duration) (*backends.Decision, error) {
	return s.Store.Claim(ctx, s.Token, r)
}

// Release asks the store.
func (s *Service) Release(ctx context.Context, _ backends.Shop, r *backends.ReleaseRequest) (*backends.Decision, error) {
	return s.Store.Release(ctx, s.Token, r)
}

// Extend asks the store.
func (s *Service) Extend(ctx context.Context, _ backends.Shop, r *backends.ExtendRequest) (*backends.Decision, error) {
	return s.Store.Extend(ctx, s.Token, r)
}

// Get asks the store.
func (s *Service) Get(ctx context.Context, _ backends.Shop, id backends.HoldID) (*backends.Hold, error) {
	return s.Store.Get(ctx, id)
}

// Now asks the store.
func (s *Service) Now(ctx context.Context, _ backends.Shop) (backends.Instant, error) {
	return s.Store.Now(ctx)
}

// Restock asks the store.
func (s *Service) Restock(ctx context.Context, r *backends.RestockRequest) (*backends.Decision, error) {
	return s.Store.Restock(ctx, s.Token, r)
}

// Count asks the store.
func (s *Service) Count(ctx context.Context, r *backends.CountRequest) (*backends.CountResult, error) {
	return s.Store.Count(ctx, s.Token, r)
}

// Levels asks the store.
func (s *Service) Levels(ctx context.Context, keys []backends.Key) ([]backends.Level, error) {
	return s.Store.Levels(ctx, keys)
}

// Router has one pod.
type Router struct {
	Pod      backends.Pod
	Template *backends.KeyTemplate
}

// NewRouter has the default template and location.
func NewRouter(tb TB) *Router {
	tb.Helper()
	t, err := backends.ParseKeyTemplate(backends.DefaultKeyTemplate, "", backends.DefaultLocation)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	return &Router{Pod: "test", Template: t}
}

var _ respdoor.Router = (*Router)(nil)

// ParseKey reads the template.
func (r *Router) ParseKey(key string) (backends.Pod, backends.Key, bool) {
	k, ok := r.Template.Parse(key)
	return r.Pod, k, ok
}

// DefaultLocation is the template's.
func (r *Router) DefaultLocation(backends.Shop) (backends.Location, bool) {
	loc := r.Template.ConstantLocation()
	return loc, loc != ""
}

// Serve starts a door on a free port of the loopback, stopped when the test ends.
func Serve(tb TB, cfg respdoor.Config, svc respdoor.Service, router respdoor.Router) (addr string, srv *respdoor.Server) {
	tb.Helper()
	srv, err := respdoor.New(cfg, svc, router)
	if err != nil {
		tb.Fatalf("making the door: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listening: %v", err)
	}
	if err := srv.Start(ln); err != nil {
		tb.Fatalf("starting the door: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := srv.Stop(ctx); err != nil {
			tb.Errorf("stopping the door: %v", err)
		}
	})
	return ln.Addr().String(), srv
}
