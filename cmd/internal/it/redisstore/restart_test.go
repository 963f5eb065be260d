package redisstore_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// After a restart nothing is written until the fence is raised under a new epoch, by whichever
// proxy.
func TestRestart(t *testing.T) {
	for _, k := range servers {
		t.Run(string(k), func(t *testing.T) {
			srv := lab.Private(t, k)
			r := newRig(t, srv, backends.Shadow)
			other := open(t, srv.Addr(), r.prefix)
			if _, err := other.Fence(r.ctx); err != nil {
				t.Fatal(err)
			}
			r.restock("mug", 10)
			r.reserve(cart("before", "mug", 1))
			r.ok(srv.Kill())
			r.ok(srv.Restart(r.ctx))
			r.until("the server to answer", func() bool { return r.s.Ping(r.ctx) == nil && other.Ping(r.ctx) == nil })
			late := open(t, srv.Addr(), r.prefix) // a proxy that starts now
			before := r.dump()
			for name, s := range map[string]*redisstore.Store{"old": r.s, "other": other, "late": late} {
				var restarted *redisstore.RestartedError
				_, err := s.Reserve(r.ctx, r.tok, cart("during", "mug", 1))
				if !errors.As(err, &restarted) || !errors.Is(err, backends.ErrUnavailable) || restarted.Was == restarted.Now {
					t.Fatalf("%s: reserve: %v, want a RestartedError", name, err)
				}
				if err := s.Admitted(r.ctx, r.tok, false); !errors.As(err, &restarted) {
					t.Fatalf("%s: Admitted: %v, want a RestartedError", name, err)
				}
				f, err := s.Fence(r.ctx)
				if err != nil || f.Open || f.Epoch != 1 {
					t.Fatalf("%s: the fence is %s, %v, want epoch 1 closed", name, f, err)
				}
				// The same epoch does not do, and neither does opening it.
				if _, err := s.Raise(r.ctx, backends.Fence{Epoch: 1, Stage: backends.Shadow, Open: true, Filled: true}, 0); !errors.As(err, &restarted) {
					t.Fatalf("%s: raising the same epoch: %v, want a RestartedError", name, err)
				}
				if h, err := s.Get(r.ctx, "before"); err != nil || h == nil {
					t.Fatalf("%s: reading: %+v, %v", name, h, err)
				}
			}
			if diff := cmp.Diff(before, r.dump()); diff != "" {
				t.Fatalf("something was written: %s", diff)
			}
			r.raise(backends.Fence{Epoch: 2, Stage: backends.Shadow, Open: true})
			for name, s := range map[string]*redisstore.Store{"old": r.s, "other": other, "late": late} {
				d, err := s.Reserve(r.ctx, r.tok, cart(backends.HoldID("after-"+name), "mug", 1))
				if err != nil || d.Outcome != backends.OutcomeGranted {
					t.Fatalf("%s: reserve under the new epoch: %+v, %v", name, d, err)
				}
				var fenced *backends.FencedError
				if _, err := s.Reserve(r.ctx, backends.Token{Epoch: 1}, cart("stale", "mug", 1)); !errors.As(err, &fenced) || fenced.Have.Epoch != 2 {
					t.Fatalf("%s: reserve under the old epoch: %v", name, err)
				}
			}
			r.conserved()
		})
	}
}

// A fence that was closed before a restart is not opened after it.
func TestRestartOfAClosedFence(t *testing.T) {
	srv := lab.Private(t, lab.Redis)
	r := newRig(t, srv, backends.Shadow)
	r.raise(backends.Fence{Epoch: 2, Stage: backends.Live})
	r.ok(srv.Kill())
	r.ok(srv.Restart(r.ctx))
	r.until("the server to answer", func() bool { return r.s.Ping(r.ctx) == nil })
	var restarted *redisstore.RestartedError
	if _, err := r.s.Raise(r.ctx, backends.Fence{Epoch: 2, Stage: backends.Live, Open: true}, 0); !errors.As(err, &restarted) {
		t.Fatalf("opening the old epoch: %v, want a RestartedError", err)
	}
	r.raise(backends.Fence{Epoch: 3, Stage: backends.Live, Open: true, Filled: true})
	r.ok(r.s.Admitted(r.ctx, r.tok, true))
}

// A raise counts when every replica has it.
func TestReplicas(t *testing.T) {
	for _, k := range servers {
		t.Run(string(k), func(t *testing.T) {
			srv := lab.Private(t, k, func(o *lab.Options) { o.Args = []string{"--repl-diskless-sync-delay", "0"} })
			host, port, _ := strings.Cut(srv.Addr(), ":")
			replica := lab.Private(t, k, func(o *lab.Options) { o.Args = append(o.Args, "--replicaof", host+" "+port) })
			until(t, "the replica to be connected", func() bool {
				info, err := raw(t, srv.Addr()).Info(testContext(t), "replication").Result()
				there, err2 := raw(t, replica.Addr()).Info(testContext(t), "replication").Result()
				return err == nil && err2 == nil && strings.Contains(info, "state=online") && strings.Contains(there, "master_link_status:up")
			})
			r := newRig(t, srv, backends.Shadow)
			r.raise(backends.Fence{Epoch: 2, Stage: backends.Shadow, Open: true})
			got, err := raw(t, replica.Addr()).HGet(r.ctx, r.own("fence"), "epoch").Result()
			if err != nil || got != "2" {
				t.Fatalf("the replica has epoch %q, %v", got, err)
			}
			r.ok(replica.Pause())
			f := backends.Fence{Epoch: 3, Stage: backends.Shadow, Open: true}
			again := open(t, srv.Addr(), r.prefix) // whose connections have not written anything
			for what, s := range map[string]*redisstore.Store{"raised": r.s, "raised again": again} {
				have, err := s.Raise(r.ctx, f, 0)
				var few *redisstore.ReplicationError
				if !errors.As(err, &few) || few.Confirmed != 0 || few.Replicas != 1 || have != f {
					t.Fatalf("%s with a replica that does not answer: %s, %v, want a ReplicationError", what, have, err)
				}
			}
			r.ok(replica.Resume())
			r.until("the raise to count", func() bool { _, err := r.s.Raise(r.ctx, f, 0); return err == nil })
			setupRefuses(t, replica, "primary")
		})
	}
}

// setupRefuses wants Setup to refuse a server, with a word of the next step.
func setupRefuses(t *testing.T, srv *lab.Server, word string) {
	t.Helper()
	s, err := redisstore.Open(t.Context(), redisstore.Config{Pod: "p", Addr: srv.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Setup(testContext(t)); !errors.Is(err, backends.ErrSetup) || !strings.Contains(err.Error(), word) {
		t.Errorf("Setup: %v, want ErrSetup with %q", err, word)
	}
}

// A connection that cannot be set up is no answer, of any kind.
func TestRefusedConnections(t *testing.T) {
	for _, k := range servers {
		t.Run(string(k), func(t *testing.T) {
			srv := lab.Private(t, k)
			r := newRig(t, srv, backends.Shadow)
			r.restock("mug", 10)
			r.reserve(cart("cart", "mug", 1))
			r.ok(r.raw.ConfigSet(r.ctx, "requirepass", "secret").Err())
			s, err := redisstore.Open(r.ctx, redisstore.Config{Pod: "p", Addr: srv.Addr(), Prefix: r.own(""), Template: template(t, r.prefix)})
			r.ok(err)
			defer s.Close()
			if h, err := s.Get(r.ctx, "cart"); h != nil || !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "NOAUTH") {
				t.Errorf("Get without the password: %+v, %v", h, err)
			}
			if d, err := s.Reserve(r.ctx, r.tok, cart("new", "mug", 1)); d != nil || !errors.Is(err, backends.ErrUnavailable) || backends.IsAmbiguous(err) {
				t.Errorf("Reserve without the password: %+v, %v", d, err)
			}
			if err := s.Setup(r.ctx); !errors.Is(err, backends.ErrUnavailable) {
				t.Errorf("Setup without the password: %v", err)
			}
			with, err := redisstore.Open(r.ctx, redisstore.Config{Pod: "p", Addr: "redis://:secret@" + srv.Addr() + "/0", Prefix: r.own(""), Template: template(t, r.prefix)})
			r.ok(err)
			defer with.Close()
			if h, err := with.Get(r.ctx, "cart"); err != nil || h == nil {
				t.Errorf("Get with the password: %+v, %v", h, err)
			}
		})
	}
}

func TestSetupRefusals(t *testing.T) {
	for _, k := range servers {
		for word, args := range map[string][]string{
			"one primary per pod": {"--cluster-enabled", "yes"},
			"noeviction":          {"--maxmemory-policy", "allkeys-lru"},
		} {
			t.Run(string(k)+" "+word, func(t *testing.T) {
				setupRefuses(t, lab.Private(t, k, func(o *lab.Options) { o.Args = args }), word)
			})
		}
	}
	t.Run("CONFIG is forbidden", func(t *testing.T) {
		srv := lab.Private(t, lab.Redis, func(o *lab.Options) { o.Args = []string{"--maxmemory-policy", "volatile-lru"} })
		c := raw(t, srv.Addr())
		if err := c.Do(testContext(t), "ACL", "SETUSER", "default", "-config").Err(); err != nil {
			t.Fatal(err)
		}
		setupRefuses(t, srv, "noeviction")
	})
}
