package admin_test

import (
	"context"
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
