package admin_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// killable is a proxy that has a Redis and no control store. It loses the answers of kills.
type killable struct {
	admin.Backend
	redis *memstore.Store
	lose  atomic.Int64
	last  atomic.Pointer[killswitch.KillRequest]
}

func (k *killable) Kill(ctx context.Context, r killswitch.KillRequest) (killswitch.KillResult, error) {
	k.last.Store(&r)
	return killswitch.Kill(ctx, k.redis, nil, killswitch.SystemClock{}, r)
}

func newKillable(t *testing.T) (*killable, *admin.Client) {
	t.Helper()
	k := &killable{redis: memstore.New(memstore.Options{Side: backends.SideRedis})}
	if _, err := k.redis.Raise(t.Context(), backends.Fence{Epoch: 5, Stage: backends.Live, Open: true, Filled: true}, 0); err != nil {
		t.Fatal(err)
	}
	h, err := admin.Handler(k, nil, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if !k.last.Load().DryRun && k.lose.Add(-1) >= 0 {
			panic(http.ErrAbortHandler) // it was done, and nobody is told
		}
		for name, v := range rec.Header() {
			w.Header()[name] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = rec.Body.WriteTo(w)
	}))
	t.Cleanup(s.Close)
	return k, admin.NewClient(strings.TrimPrefix(s.URL, "http://"), "")
}

// TestKillIsSentAgain: an answer that is lost costs a repetition, and not a stage.
func TestKillIsSentAgain(t *testing.T) {
	for _, c := range []struct {
		lost    int64
		verdict killswitch.Verdict
		err     string
	}{
		{0, killswitch.KillGo, ""}, {1, killswitch.KillAlready, ""}, {2, killswitch.KillAlready, ""}, {3, killswitch.KillUnknown, "it kills once"},
	} {
		k, client := newKillable(t)
		k.lose.Store(c.lost)
		var from backends.Fence
		res, err := client.Kill(t.Context(), "p", "why", backends.StageUnknown, false, func(f backends.Fence) { from = f })
		if res.Verdict != c.verdict || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%d answers lost: %+v, %v", c.lost, res, err)
		}
		if from.Stage != backends.Live || from.Epoch != 5 || k.last.Load().Expect != backends.Live || k.last.Load().ExpectEpoch != 5 {
			t.Errorf("%d answers lost: told %s, sent %+v", c.lost, from, *k.last.Load())
		}
		if f, err := k.redis.Fence(t.Context()); err != nil || f.Epoch != 6 || f.Stage != backends.Shadow {
			t.Errorf("%d answers lost: Redis at %s, %v", c.lost, f, err)
		}
	}
}

// TestKillFrom: a kill from another stage is refused, and one that was made is not made again.
func TestKillFrom(t *testing.T) {
	k, client := newKillable(t)
	kill := func(from backends.Stage) (killswitch.KillResult, error) {
		return client.Kill(t.Context(), "p", "why", from, false, func(backends.Fence) {})
	}
	if _, err := kill(backends.Shadow); err == nil || !strings.Contains(err.Error(), "--from live") {
		t.Errorf("from shadow in live: %v", err)
	}
	for _, want := range []killswitch.Verdict{killswitch.KillGo, killswitch.KillAlready} {
		if res, err := kill(backends.Live); err != nil || res.Verdict != want || res.DryRun {
			t.Errorf("from live: %+v, %v", res, err)
		}
	}
	for _, want := range []killswitch.Verdict{killswitch.KillGo, killswitch.KillNothing} {
		if res, err := kill(backends.Shadow); err != nil || res.Verdict != want {
			t.Errorf("from shadow: %+v, %v", res, err)
		}
	}
	if f, err := k.redis.Fence(t.Context()); err != nil || f.Epoch != 7 || f.Stage != backends.RedisOnly {
		t.Errorf("Redis at %s, %v", f, err)
	}
}

// post sends a kill as whoever has nothing but HTTP would.
func post(t *testing.T, method, url, token, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// TestKillByHTTP: one POST kills, in the name of its token, and answers with the steps and how long each took.
func TestKillByHTTP(t *testing.T) {
	k := &killable{redis: memstore.New(memstore.Options{Side: backends.SideRedis})}
	if _, err := k.redis.Raise(t.Context(), backends.Fence{Epoch: 5, Stage: backends.Live, Open: true, Filled: true}, 0); err != nil {
		t.Fatal(err)
	}
	const token = "0123456789abcdef"
	h, err := admin.Handler(k, map[string]string{"ann": token}, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	at := s.URL + "/v1/kill/p%2F1"
	for _, c := range []struct {
		name, method, url, token, body string
		status                         int
		want                           string
		epoch                          uint64
	}{
		{"no token", "POST", at, "wrong", `{"why":"slow"}`, 401, "a token of admin.tokens is required", 5},
		{"no body", "POST", at, token, "", 400, "no body", 5},
		{"no reason", "POST", at, token, "{}", 400, "say who changes the pod, and why", 5},
		{"a mistake", "POST", at, token, `{"why":"slow","form":"live"}`, 400, "form", 5},
		{"no such stage", "POST", at, token, `{"why":"slow","from":"nowhere"}`, 400, "nowhere", 5},
		{"another stage", "POST", at, token, `{"why":"slow","from":"shadow"}`, 409, "failed_precondition", 5},
		{"another method", "GET", at, token, "", 404, "", 5},
		{"a dry run", "POST", at, token, `{"why":"slow","dry_run":true}`, 200, `"dry_run": true`, 5},
		{"a kill", "POST", at, token, `{"why":"slow","from":"live"}`, 200, `"name": "compare-and-set Redis's fence"`, 6},
		{"the same", "POST", at, token, `{"why":"slow","from":"live"}`, 200, `"verdict": "already killed"`, 6},
	} {
		status, text := post(t, c.method, c.url, c.token, c.body)
		f, err := k.redis.Fence(t.Context())
		if status != c.status || !strings.Contains(text, c.want) || err != nil || f.Epoch != c.epoch {
			t.Errorf("%s: %d, Redis at %s, %v: %s", c.name, status, f, err, text)
		}
	}
	if q := k.last.Load(); q.Who != "ann" || q.Why != "slow" || q.Pod != "p/1" {
		t.Errorf("%+v", q)
	}
}
