package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// answerWithin bounds the wait for an answer. It is far above what a proxy takes for one: a machine that is busy
// with other tests must not make a client give up, which cannot tell then what became of its DECR.
const answerWithin = 30 * time.Second

// longTTL is a hold's life where it must not end during the test, in milliseconds.
const longTTL = "3600000"

func (p *proxyProc) client() *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: p.resp, MaxRetries: -1, PoolSize: 80, ReadTimeout: answerWithin, PoolTimeout: answerWithin})
	p.r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// do sends a command whose reply is a map of strings.
func do(t *testing.T, c *redis.Client, args ...any) map[any]any {
	t.Helper()
	m, err := c.Do(t.Context(), args...).Result()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	got, ok := m.(map[any]any)
	if !ok {
		t.Fatalf("%v: %T %v", args, m, m)
	}
	return got
}

func (r *rig) level(s backends.Store, item backends.Item) backends.Level {
	r.t.Helper()
	ls, err := s.Levels(r.t.Context(), []backends.Key{{Shop: shop, Item: item, Location: backends.DefaultLocation}})
	if err != nil || len(ls) != 1 {
		r.t.Fatalf("level of %s: %v %v", item, ls, err)
	}
	return ls[0]
}

func (r *rig) expired(s backends.Store, id backends.HoldID) {
	r.t.Helper()
	r.eventually(20*time.Second, "hold expires", func() error {
		h, err := s.Get(r.t.Context(), id)
		if err == nil && (h == nil || h.State != backends.Expired) {
			err = os.ErrExist
		}
		return err
	})
}

// TestLateClaim claims after the hold has expired, with and without units left: the claim counts, and
// what is not there is an apology.
func TestLateClaim(t *testing.T) {
	for _, stage := range []string{"shadow", "live"} {
		t.Run(stage, func(t *testing.T) {
			r := newRig(t, 1)
			r.stage("shadow")
			if stage == "live" {
				r.stage("live")
			}
			c := r.proxies[0].client()
			rs, ms := r.stores()
			truth := rs
			if stage == "live" {
				truth = ms
			}
			do(t, c, "XF.RESTOCK", shop, "A", "2", "OPID", "s1", "MODE", "ONHAND")
			for _, id := range []string{"with", "without"} {
				if got := do(t, c, "XF.RESERVE", shop, id, "TTL", "100", "LINE", "A", "1"); got["status"] != "granted" {
					t.Fatalf("%v", got)
				}
			}
			r.expired(truth, "with")
			r.expired(truth, "without")
			// One unit stays; the other is sold to somebody else.
			if got := do(t, c, "XF.RESERVE", shop, "other", "TTL", longTTL, "LINE", "A", "1"); got["status"] != "granted" {
				t.Fatalf("%v", got)
			}
			if got := do(t, c, "XF.CLAIM", shop, "with"); got["status"] != "claimed" {
				t.Fatalf("%v", got)
			}
			if got := do(t, c, "XF.CLAIM", shop, "without"); got["status"] != "claimed" {
				t.Fatalf("%v", got)
			}
			aps, _, err := truth.Apologies(t.Context(), "", 10)
			if err != nil || len(aps) != 1 || aps[0].Hold != "without" || aps[0].Quantity != 1 {
				t.Fatalf("apologies: %+v %v", aps, err)
			}
			r.drained(time.Minute)
			for name, s := range map[string]backends.Store{"redis": rs, "mysql": ms} {
				// Two sold, one held, none there: one short.
				if l := r.level(s, "A"); l.OnHand != 0 || l.Held != 1 || l.Sellable() != -1 {
					t.Fatalf("%s: %+v", name, l)
				}
			}
			r.evidence(2, comparator.LateClaim)
			r.evidence(2, comparator.Expiry)
			r.clean()
		})
	}
}

// TestClaimWithoutLedger claims in shadow while MySQL is down: the buyer is answered at once, and the
// ledger is deducted exactly once when it is back.
func TestClaimWithoutLedger(t *testing.T) {
	r := newRig(t, 1)
	r.stage("shadow")
	c := r.proxies[0].client()
	rs, ms := r.stores()
	do(t, c, "XF.RESTOCK", shop, "A", "5", "OPID", "s1", "MODE", "ONHAND")
	do(t, c, "XF.RESERVE", shop, "h", "TTL", longTTL, "LINE", "A", "2")
	r.drained(time.Minute)
	if err := r.sql.Kill(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for range 3 { // a client that is not sure sends it again
		got := do(t, c, "XF.CLAIM", shop, "h")
		if got["status"] != "claimed" {
			t.Fatalf("%v", got)
		}
	}
	t.Logf("three claims without MySQL took %s", time.Since(start).Round(time.Millisecond))
	if l := r.level(rs, "A"); l.OnHand != 3 || l.Sellable() != 3 {
		t.Fatalf("redis: %+v", l)
	}
	if err := r.sql.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.eventually(time.Minute, "ledger is deducted", func() error {
		ls, err := ms.Levels(t.Context(), []backends.Key{{Shop: shop, Item: "A", Location: backends.DefaultLocation}})
		if err == nil && (len(ls) != 1 || ls[0].OnHand != 3) {
			err = fmt.Errorf("%+v", ls)
		}
		return err
	})
	r.drained(time.Minute)
	if l := r.level(ms, "A"); l.OnHand != 3 || l.Sellable() != 3 || l.Held != 0 {
		t.Fatalf("mysql: %+v", l)
	}
	r.clean()
}

// TestLegacyLoop plays the loop of existing checkouts, "DECR, and if negative INCR", with 64 clients in
// every dual stage: never more sold than there is, and both stores end equal.
func TestLegacyLoop(t *testing.T) {
	r := newRig(t, 2)
	for _, stage := range []string{"shadow", "live"} {
		r.stage(stage)
		item := backends.Item("L" + stage)
		key := fmt.Sprintf("stock:%s:%s", shop, item)
		const units, clients, rounds = 40, 64, 3
		do(t, r.proxies[0].client(), "XF.RESTOCK", shop, string(item), fmt.Sprint(units), "OPID", "s-"+stage, "MODE", "ONHAND")
		var wg sync.WaitGroup
		var mu sync.Mutex
		sold := 0
		var failed error
		for i := range clients {
			c := r.proxies[i%len(r.proxies)].client()
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range rounds {
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					n, err := c.Decr(ctx, key).Result()
					if err == nil && n < 0 {
						err = c.Incr(ctx, key).Err()
						n = -1
					}
					cancel()
					mu.Lock()
					if err != nil {
						failed = errors.Join(failed, err)
					} else if n >= 0 {
						sold++
					}
					mu.Unlock()
				}
			}()
		}
		wg.Wait()
		if failed != nil {
			t.Fatal(failed)
		}
		// A DECR that overdraws hides a unit from its neighbours until its INCR: fewer may be sold than
		// there are, as with Redis itself, but never more, and what is left is still there.
		left, err := r.proxies[0].client().Get(t.Context(), key).Int()
		if err != nil || sold > units || left != units-sold {
			t.Fatalf("%s: %d of %d units sold, %d left, %v", stage, sold, units, left, err)
		}
		t.Logf("%s: %d clients, %d units, %d sold, %d left", stage, clients, units, sold, left)
		r.drained(2 * time.Minute)
		rs, ms := r.stores()
		a, b := r.level(rs, item), r.level(ms, item)
		if a.Sellable() != b.Sellable() || a.Taken != b.Taken || a.OnHand != b.OnHand {
			t.Fatalf("%s: redis %+v, mysql %+v", stage, a, b)
		}
	}
	r.clean0()
}

// clean0 is clean for a pod without holds.
func (r *rig) clean0() {
	r.t.Helper()
	for _, args := range [][]string{{"audit", podName}, {"conservation", podName}} {
		if out, err := r.proxies[0].run(args...); err != nil {
			r.t.Fatalf("%v\n%s", err, out)
		}
	}
}

// TestExistingKeys points the proxy at a Redis in which a checkout has kept its counters for years: they
// are adopted with their quantities, and the pod goes to live with them.
func TestExistingKeys(t *testing.T) {
	r := newRig(t, 1)
	raw := redis.NewClient(&redis.Options{Addr: r.kv.Addr()})
	t.Cleanup(func() { _ = raw.Close() })
	const n = 300
	for i := range n {
		if err := raw.Set(t.Context(), fmt.Sprintf("stock:%s:old%d", shop, i), i%7, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := raw.Set(t.Context(), "stock:another-shop:x", 5, 0).Err(); err != nil {
		t.Fatal(err)
	}
	c := r.proxies[0].client()
	if left, err := c.Decr(t.Context(), "stock:"+shop+":old6").Result(); err != nil || left != 5 {
		t.Fatalf("%d %v", left, err)
	}
	for range 2 { // again changes nothing
		if out, err := r.proxies[0].run("stock", "adopt", podName); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	r.stage("shadow")
	r.drained(time.Minute)
	r.clean0()
	r.stage("live")
	if left, err := c.Get(t.Context(), "stock:"+shop+":old6").Int(); err != nil || left != 5 {
		t.Fatalf("%d %v", left, err)
	}
	if got := do(t, c, "XF.RESERVE", shop, "h", "TTL", longTTL, "LINE", "old5", "5"); got["status"] != "granted" {
		t.Fatalf("%v", got)
	}
	_, ms := r.stores()
	if l := r.level(ms, "old6"); l.OnHand != 6 || l.Taken != 1 || l.Sellable() != 5 {
		t.Fatalf("%+v", l)
	}
	r.drained(time.Minute)
	r.clean()
}

// TestSameFileTwice loads a file of stock a second time: nothing is loaded, and nobody is told that it was.
func TestSameFileTwice(t *testing.T) {
	r := newRig(t, 1)
	file := filepath.Join(r.dir, "stock.csv")
	if err := os.WriteFile(file, []byte("shop,item,quantity\nshop-one,A,5\nshop-one,\"B,1\nshop-one,C,7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type sum struct{ Loaded, Known, Failed int }
	rs, _ := r.stores()
	for _, c := range []struct {
		run   string
		want  sum
		after int64
	}{{"", sum{2, 0, 1}, 5}, {"", sum{0, 2, 1}, 4}, {"counted anew", sum{2, 0, 1}, 5}} {
		got, err := jsonOf[sum](r.proxies[0], "stock", "load", file, "--run", c.run)
		if err != nil || got != c.want {
			t.Fatalf("run %q: %+v, %v; want %+v", c.run, got, err, c.want)
		}
		if l := r.level(rs, "A"); l.OnHand != c.after {
			t.Fatalf("run %q: %+v; want %d on hand", c.run, l, c.after)
		}
		if c.after == 5 && c.run == "" { // one is sold in between
			client := r.proxies[0].client()
			do(t, client, "XF.RESERVE", shop, "h", "TTL", longTTL, "LINE", "A", "1")
			do(t, client, "XF.CLAIM", shop, "h")
		}
	}
}
