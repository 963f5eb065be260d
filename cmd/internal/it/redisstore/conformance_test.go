package redisstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/backends/storetest"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(m)) }

// servers are the two kinds that every test runs on.
var servers = []lab.Kind{lab.Redis, lab.Valkey}

// patience bounds every wait.
const patience = 30 * time.Second

// onEach runs a test on a shared server of each kind.
func onEach(t *testing.T, test func(t *testing.T, srv *lab.Server)) {
	t.Helper()
	for _, k := range servers {
		t.Run(string(k), func(t *testing.T) { test(t, lab.ForTest(t, k)) })
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// template gives counters under a prefix, with separators that no test's identifiers contain.
func template(t *testing.T, prefix string) *backends.KeyTemplate {
	t.Helper()
	tpl, err := backends.ParseKeyTemplate(prefix+"stock:{shop}:{item}:{location}", "", "")
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

// open gives a store that is set up, with keys of its own.
func open(t *testing.T, addr, prefix string, change ...func(*redisstore.Config)) *redisstore.Store {
	t.Helper()
	c := redisstore.Config{Pod: "pod-1", Addr: addr, Prefix: prefix + "xf:", Template: template(t, prefix)}
	for _, f := range change {
		f(&c)
	}
	s, err := redisstore.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	if err := s.Setup(testContext(t)); err != nil {
		t.Fatal(err)
	}
	return s
}

// raw is a client of the server itself.
func raw(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConformance(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		conform(t, srv, func(s *redisstore.Store) backends.Store { return s })
	})
}

// conform runs the suite for all stores; as is how a test sees a store.
func conform(t *testing.T, srv *lab.Server, as func(*redisstore.Store) backends.Store) {
	prefixes := map[backends.Store]string{}
	storetest.Run(t, storetest.Harness{
		Sides: []backends.Side{backends.SideRedis},
		Open: func(t *testing.T, _ backends.Side, o storetest.Options) backends.Store {
			prefix, again := prefixes[o.Same]
			if !again {
				prefix = srv.NewPrefix(t)
			}
			s := as(open(t, srv.Addr(), prefix, func(c *redisstore.Config) {
				c.OutboxMax, c.Retain = int64(o.OutboxMax), o.Retain
			}))
			prefixes[s] = prefix
			return s
		},
		Replaced: func(t *testing.T, s backends.Store) backends.Store {
			// To a new connection a server looks like another one when its fence was raised at another one.
			if err := raw(t, srv.Addr()).HSet(testContext(t), prefixes[s]+"xf:fence", "run", "another").Err(); err != nil {
				t.Fatal(err)
			}
			n := as(open(t, srv.Addr(), prefixes[s]))
			prefixes[n] = prefixes[s]
			return n
		},
		Corrupt: func(t *testing.T, s backends.Store, k backends.Key, delta int64) {
			counter, err := template(t, prefixes[s]).Render(k)
			if err != nil {
				t.Fatal(err)
			}
			if err := raw(t, srv.Addr()).IncrBy(testContext(t), counter, delta).Err(); err != nil {
				t.Fatal(err)
			}
		},
	})
}
