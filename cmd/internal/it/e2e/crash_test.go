package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/replay"
)

// agree checks the client's own log against both stores.
func (r *rig) agree(log string, both bool) {
	r.t.Helper()
	redis, mysql := r.stores()
	for name, s := range map[string]backends.Store{"redis": redis, "mysql": mysql} {
		if name == "mysql" && !both {
			continue
		}
		f, err := os.Open(log)
		if err != nil {
			r.t.Fatal(err)
		}
		c, err := replay.CheckLog(r.t.Context(), f, s.GetMany)
		_ = f.Close()
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Logf("%s agrees with the client's log: %d holds, %d granted, %d claimed, %d sold out", name, c.Holds, c.Granted, c.Claimed, c.SoldOut)
		if !c.Ok() || c.Holds == 0 {
			r.t.Fatalf("%s contradicts the client's log: %+v", name, c)
		}
	}
}

// TestKilledProxy kills the proxy with SIGKILL at random moments of a replay, each time with at least
// one entry undelivered, and starts it again: nothing that was acknowledged is lost (P4).
func TestKilledProxy(t *testing.T) {
	r := newRig(t, 1)
	r.stage("shadow")
	redis, _ := r.stores()
	p := r.proxies[0]
	o := r.options(0.7, 400) // more than are played: it ends some time after the last kill
	o.LogPath = filepath.Join(r.dir, "client.log")
	o.Hold = 200 * time.Millisecond
	o.Rate = 30
	enough := make(chan struct{})
	o.Until = enough
	done := make(chan struct{})
	var sum replay.Summary
	var runErr error
	go func() {
		defer close(done)
		sum, runErr = replay.Run(t.Context(), o)
	}()
	kills := pick(3, 10)
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range kills {
		// A random moment, and then the first one with something undelivered.
		if waitFor(done, time.Duration(300+rng.IntN(900))*time.Millisecond) {
			t.Fatalf("the replay ended before kill %d of %d", i+1, kills)
		}
		r.eventually(30*time.Second, "an entry is undelivered", func() error { return p.stopMidway(redis) })
		p.kill()
		st, err := redis.OutboxStats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("kill %d: %d entries undelivered", i+1, st.Entries)
		if st.Entries == 0 {
			t.Fatal("the kill came too late: nothing was undelivered")
		}
		p.start()
		p.awaitServing()
	}
	if waitFor(done, time.Second) { // which comes after all kills, so that there is traffic behind the last one
		t.Fatal("the replay ended before its time")
	}
	close(enough)
	<-done
	if runErr != nil {
		t.Fatal(runErr)
	}
	t.Logf("%d carts, %d granted, %d sold out, %d claimed, %d sent again", sum.Carts, sum.Granted, sum.SoldOut, sum.Claimed, sum.Retries)
	if sum.Missing != 0 || sum.Unresolved != 0 {
		t.Fatalf("missing %d, unresolved %d: %v", sum.Missing, sum.Unresolved, sum.Problems)
	}
	r.eventually(2*time.Minute, "outbox drains", func() error {
		st, err := redis.OutboxStats(t.Context())
		if err == nil && st.Entries > 0 {
			err = os.ErrExist
		}
		return err
	})
	r.clean()
	r.agree(o.LogPath, true)
}

// stopMidway stops the proxy by SIGSTOP at an instant at which something is undelivered, or lets it go on and
// says that there was nothing. A process that runs would deliver between a look and a kill.
func (p *proxyProc) stopMidway(redis backends.Store) error {
	p.r.t.Helper()
	p.signal(syscall.SIGSTOP)
	// The second look comes after whatever the proxy had sent when it stopped.
	var entries int64
	for range 2 {
		st, err := redis.OutboxStats(p.r.t.Context())
		if err != nil {
			p.r.t.Fatal(err)
		}
		entries = st.Entries
	}
	if entries == 0 {
		p.signal(syscall.SIGCONT)
		return os.ErrNotExist
	}
	return nil
}

// waitFor waits for d, or answers true when done comes first.
func waitFor(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// TestShadowAway kills or stops MySQL in shadow: no request fails or waits for it (P5), and the stores
// converge by themselves.
func TestShadowAway(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"killed", "stopped"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, 1)
			r.stage("shadow")
			o := r.options(1, 100)
			before := r.play(o)
			away := pick(5*time.Second, 30*time.Second)
			var wg sync.WaitGroup
			wg.Add(1)
			if how == "killed" {
				if err := r.sql.Kill(); err != nil {
					t.Fatal(err)
				}
			} else if err := r.sql.Pause(); err != nil {
				t.Fatal(err)
			}
			go func() {
				defer wg.Done()
				waitFor(nil, away)
				if how == "killed" {
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					if err := r.sql.Restart(ctx); err != nil {
						t.Error(err)
					}
				} else if err := r.sql.Resume(); err != nil {
					t.Error(err)
				}
			}()
			o = r.options(1, 100)
			o.Rate = float64(len(o.Orders.Orders)) / (away.Seconds() * 0.8)
			during := r.play(o)
			wg.Wait()
			t.Logf("reserve p50/p99/longest: %.1f/%.1f/%.1f ms with MySQL, %.1f/%.1f/%.1f ms without", before.Reserve.P50MS, before.Reserve.P99MS, before.Reserve.MaxMS, during.Reserve.P50MS, during.Reserve.P99MS, during.Reserve.MaxMS)
			if during.Retries != 0 || during.Unresolved != 0 || during.Missing != 0 || during.Refused != 0 {
				t.Fatalf("with MySQL %s: %d sent again, %d unresolved, %d missing, %d refused: %v %v", how, during.Retries, during.Unresolved, during.Missing, during.Refused, during.RetryReasons, during.Problems)
			}
			r.eventually(3*time.Minute, "stores converge", func() error {
				if e := r.proxies[0].report().Outbox; e == nil || e.Entries > 0 {
					return os.ErrExist
				}
				return nil
			})
			r.clean()
		})
	}
}

// TestKillInLive kills a pod in live under load, with MySQL alive, stopped and killed: about a second, and
// afterwards Redis holds every hold that the clients were granted (P1, P4).
func TestKillInLive(t *testing.T) {
	for _, how := range []string{"alive", "stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, 2)
			r.stage("shadow", "live")
			o := r.options(1, 120)
			o.LogPath = filepath.Join(r.dir, "client.log")
			o.Rate = 40
			done := make(chan struct{})
			var sum replay.Summary
			var runErr error
			go func() {
				defer close(done)
				sum, runErr = replay.Run(t.Context(), o)
			}()
			redis, _ := r.stores()
			r.eventually(time.Minute, "carts are under way", func() error {
				hs, _, err := redis.ScanHolds(t.Context(), "", 100, false)
				if err == nil && len(hs) < 20 {
					err = os.ErrNotExist
				}
				return err
			})
			switch how {
			case "stopped":
				if err := r.sql.Pause(); err != nil {
					t.Fatal(err)
				}
			case "killed":
				if err := r.sql.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			start := time.Now()
			if _, err := r.proxies[1].run("kill", podName, "--why", "test"); err != nil {
				t.Fatalf("%v\n%s", err, r.logs())
			}
			took := time.Since(start)
			st, err := r.proxies[1].status()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("MySQL %s: the command took %s; then %s", how, took.Round(time.Millisecond), st.Actual)
			if took > 2*time.Second || st.Actual.Stage != backends.Shadow {
				t.Fatalf("the kill took %s and the pod is at %s", took, st.Actual)
			}
			<-done
			if runErr != nil {
				t.Fatal(runErr)
			}
			t.Logf("%d carts, %d granted, %d claimed, %d sent again %v; reserve longest %.0f ms", sum.Carts, sum.Granted, sum.Claimed, sum.Retries, sum.RetryReasons, sum.Reserve.MaxMS)
			if sum.Missing != 0 || sum.Unresolved != 0 {
				t.Fatalf("missing %d, unresolved %d: %v", sum.Missing, sum.Unresolved, sum.Problems)
			}
			// Also those who were waiting for MySQL when it happened.
			if most := 4 * time.Second; sum.Reserve.MaxMS > float64(most.Milliseconds()) {
				t.Fatalf("a buyer waited %.0f ms", sum.Reserve.MaxMS)
			}
			r.agree(o.LogPath, false)
			switch how {
			case "stopped":
				err = r.sql.Resume()
			case "killed":
				err = r.sql.Restart(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			r.settled()
			r.drained(3 * time.Minute)
			r.clean()
			r.agree(o.LogPath, true)
		})
	}
}

// TestRedisRestarted restarts Redis under a pod in shadow: nobody writes to it until the fence is
// re-issued under a new epoch, and then it goes on.
func TestRedisRestarted(t *testing.T) {
	r := newRig(t, 2)
	r.stage("shadow")
	c := r.proxies[0].client()
	do(t, c, "XF.RESTOCK", shop, "A", "5", "OPID", "s1", "MODE", "ONHAND")
	do(t, c, "XF.RESERVE", shop, "before", "TTL", longTTL, "LINE", "A", "2")
	r.drained(time.Minute)
	if err := r.kv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range r.proxies {
		_, err := p.client().Do(t.Context(), "XF.RESERVE", shop, "after", "TTL", longTTL, "LINE", "A", "1").Result()
		if err == nil || !strings.HasPrefix(err.Error(), "XFUNAVAILABLE") {
			t.Fatalf("a restarted Redis takes writes: %v", err)
		}
	}
	if out, err := r.proxies[0].run("reissue", podName, "--why", "test"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.settled()
	for i, p := range r.proxies {
		r.eventually(20*time.Second, "pod serves again", func() error {
			return p.client().Do(t.Context(), "XF.RESERVE", shop, fmt.Sprint("after", i), "TTL", longTTL, "LINE", "A", "1").Err()
		})
	}
	r.drained(time.Minute)
	rs, ms := r.stores()
	for name, s := range map[string]backends.Store{"redis": rs, "mysql": ms} {
		if l := r.level(s, "A"); l.OnHand != 5 || l.Held != 4 || l.Sellable() != 1 {
			t.Fatalf("%s: %+v", name, l)
		}
	}
	r.clean()
}
