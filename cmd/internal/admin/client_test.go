package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// slow is a proxy that takes its time over everything: until go.
type slow struct {
	Backend
	gone chan error // how the caller's context was when the work was done
	go_  chan struct{}
}

func (s *slow) work(ctx context.Context) error {
	select {
	case <-s.go_:
	case <-ctx.Done():
	}
	s.gone <- ctx.Err()
	return ctx.Err()
}

func (s *slow) SetStage(ctx context.Context, _ killswitch.SwitchRequest, _ func(killswitch.StepDone)) (killswitch.Result, error) {
	return killswitch.Result{Epoch: 7}, s.work(ctx)
}

func (s *slow) Conservation(ctx context.Context, _ backends.Pod) (*comparator.Conservation, error) {
	return &comparator.Conservation{}, s.work(ctx)
}

func (s *slow) Audit(ctx context.Context, _ backends.Pod, _ func(comparator.AuditProgress)) (*comparator.AuditResult, error) {
	return &comparator.AuditResult{}, s.work(ctx)
}

func (s *slow) AdoptStock(ctx context.Context, _ backends.Pod) (AdoptResult, error) {
	return AdoptResult{}, s.work(ctx)
}

func (s *slow) Backfill(ctx context.Context, _ backends.Pod, _ func(dualwrite.BackfillProgress)) error {
	return s.work(ctx)
}

func (s *slow) LoadStock(ctx context.Context, _ *backends.RestockRequest) (bool, error) {
	return false, s.work(ctx)
}

func (s *slow) Status(ctx context.Context, _ backends.Pod) (killswitch.Status, error) {
	return killswitch.Status{}, s.work(ctx)
}

// TestLongWorkIsWaitedFor: what takes as long as there is stock is not given up by the client, which would
// cancel it in the proxy, each time at the same place.
func TestLongWorkIsWaitedFor(t *testing.T) {
	const answer = 20 * time.Millisecond
	for name, call := range map[string]func(context.Context, *Client) error{
		"stage": func(ctx context.Context, c *Client) error {
			_, err := c.SetStage(ctx, "p", "live", "why", nil, false, func(string, time.Duration) {})
			return err
		},
		"conservation": func(ctx context.Context, c *Client) error { _, err := c.Conservation(ctx, "p"); return err },
		"audit": func(ctx context.Context, c *Client) error {
			_, err := c.Audit(ctx, "p", func(string, int64, int64) {})
			return err
		},
		"adopt": func(ctx context.Context, c *Client) error { _, err := c.AdoptStock(ctx, "p"); return err },
		"backfill": func(ctx context.Context, c *Client) error {
			return c.Backfill(ctx, "p", func(string, int64, int64, int64, int64) {})
		},
		"load": func(ctx context.Context, c *Client) error {
			_, err := c.LoadStock(ctx, make([]StockRow, 1), false)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := serveSlow(t, answer)
			release := time.AfterFunc(5*answer, func() { close(s.go_) })
			defer release.Stop()
			if err := call(t.Context(), c); err != nil {
				t.Errorf("the client gave up: %v", err)
			}
			if err := <-s.gone; err != nil {
				t.Errorf("the work was cancelled in the proxy: %v", err)
			}
		})
	}
}

// TestHangingProxyIsNamed: a proxy that takes a call and does not answer is given up, and named.
func TestHangingProxyIsNamed(t *testing.T) {
	_, c := serveSlow(t, 20*time.Millisecond)
	_, err := c.Status(t.Context(), "p")
	if err == nil || !strings.Contains(err.Error(), c.addr) || !strings.Contains(err.Error(), "--admin") {
		t.Fatalf("got %v; want the address that does not answer, and what to do", err)
	}
}

func serveSlow(t *testing.T, answer time.Duration) (*slow, *Client) {
	t.Helper()
	s := &slow{gone: make(chan error, 1), go_: make(chan struct{})}
	h, err := Handler(s, nil, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return s, newClient(strings.TrimPrefix(srv.URL, "http://"), "", answer)
}
