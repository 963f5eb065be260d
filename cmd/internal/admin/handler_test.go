package admin_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// backend answers the calls of these tests; any other would be a nil call.
type backend struct {
	admin.Backend
	killedBy string
}

func (b *backend) Pods() []backends.Pod { return nil }

func (b *backend) Kill(_ context.Context, r killswitch.KillRequest) (killswitch.KillResult, error) {
	b.killedBy = r.Who
	return killswitch.KillResult{Pod: r.Pod}, nil
}

const listPods = "/crossfade.admin.v1.AdminService/ListPods"

// TestWhoIsLetIn: a token, a Host and an Origin decide, before any backend is asked.
func TestWhoIsLetIn(t *testing.T) {
	tokens := map[string]string{"ann": "0123456789abcdef", "bob": "fedcba9876543210"}
	for _, c := range []struct {
		name   string
		tokens map[string]string
		host   string
		header map[string]string
		code   int
	}{
		{"with a token", tokens, "proxy:1", map[string]string{"Authorization": "Bearer 0123456789abcdef"}, http.StatusOK},
		{"without one", tokens, "127.0.0.1:1", nil, http.StatusUnauthorized},
		{"with a wrong one", tokens, "127.0.0.1:1", map[string]string{"Authorization": "Bearer 0123456789abcdeX"}, http.StatusUnauthorized},
		{"with an empty one", tokens, "127.0.0.1:1", map[string]string{"Authorization": "Bearer "}, http.StatusUnauthorized},
		{"no tokens, loopback", nil, "127.0.0.1:1", nil, http.StatusOK},
		{"no tokens, localhost", nil, "localhost:1", nil, http.StatusOK},
		{"no tokens, a name that was bent to loopback", nil, "evil.example:1", nil, http.StatusForbidden},
		{"a page of another origin", nil, "127.0.0.1:1", map[string]string{"Origin": "http://evil.example"}, http.StatusForbidden},
		{"a page of this origin", nil, "127.0.0.1:1", map[string]string{"Origin": "http://127.0.0.1:1"}, http.StatusOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := admin.Handler(&backend{}, c.tokens, http.NotFoundHandler())
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.host+listPods, strings.NewReader("{}"))
			r.Header.Set("Content-Type", "application/json")
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.code {
				t.Fatalf("got %d %s; want %d", w.Code, w.Body, c.code)
			}
		})
	}
}

// TestWhoIsTheTokensName: what is changed is changed in the name of the token, by the client.
func TestWhoIsTheTokensName(t *testing.T) {
	b := &backend{}
	h, err := admin.Handler(b, map[string]string{"ann": "0123456789abcdef"}, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	if _, err := admin.NewClient(addr, "0123456789abcdef").Kill(t.Context(), "p", "why", backends.StageUnknown, false, nil); err != nil || b.killedBy != "ann" {
		t.Fatalf("killed by %q: %v", b.killedBy, err)
	}
	if _, err := admin.NewClient(addr, "wrong").Kill(t.Context(), "p", "why", backends.StageUnknown, false, nil); err == nil || !strings.Contains(err.Error(), "CROSSFADE_TOKEN") {
		t.Fatalf("got %v; want the way to a token", err)
	}
}
