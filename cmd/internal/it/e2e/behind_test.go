package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

const behindLease = 2 * time.Second

// newBehindRig is two proxies in live whose pod may answer without Redis.
func newBehindRig(t *testing.T, stock string) *rig {
	t.Helper()
	r := newRigWith(t, 2, rigOptions{control: fmt.Sprintf("{dir: control, one_host: true, lease: %s}", behindLease), pod: "    redis_away: answer\n"})
	do(t, r.proxies[0].client(), "XF.RESTOCK", shop, "A", stock, "OPID", "s1", "MODE", "ONHAND")
	r.stage("shadow")
	r.drained(time.Minute)
	r.stage("live")
	return r
}

// buy reserves one unit, resending the cart until it is answered, and tells when that was.
func buy(ctx context.Context, p *proxyProc, id string) (granted bool, err error) {
	c := p.client()
	for ctx.Err() == nil {
		var got any
		if got, err = c.Do(ctx, "XF.RESERVE", shop, id, "TTL", longTTL, "LINE", "A", "1").Result(); err != nil {
			continue
		}
		m, ok := got.(map[any]any)
		return ok && m["status"] == "granted", nil
	}
	return false, errors.Join(err, ctx.Err())
}

// mark waits until the pod's mark is what is asked for; none is unknown.
func (r *rig) mark(p *proxyProc, want killswitch.Mark) {
	r.t.Helper()
	r.eventually(30*time.Second, "the mark is "+want.String(), func() error {
		st, err := p.status()
		if err != nil {
			return err
		}
		have := killswitch.MarkUnknown
		if st.Behind != nil {
			have = st.Behind.Mark
		}
		if have != want {
			return fmt.Errorf("it is %s: %+v", have, st.Behind)
		}
		return nil
	})
}

// buys reserves n units through the proxies in turn, and answers the granted ids and the longest wait.
func (r *rig) buys(prefix string, n int, ps ...*proxyProc) (ids []string, longest time.Duration) {
	r.t.Helper()
	for i := range n {
		ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
		id := fmt.Sprint(prefix, i)
		began := time.Now()
		ok, err := buy(ctx, ps[i%len(ps)], id)
		cancel()
		if err != nil || !ok {
			r.t.Fatalf("%s: %v, %v\n%s", id, ok, err, r.logs())
		}
		ids, longest = append(ids, id), max(longest, time.Since(began))
	}
	return ids, longest
}

// both demands that both stores have the holds, in the same state.
func (r *rig) both(ids []string) {
	r.t.Helper()
	rs, ms := r.stores()
	for _, id := range ids {
		a, err := rs.Get(r.t.Context(), backends.HoldID(id))
		b, berr := ms.Get(r.t.Context(), backends.HoldID(id))
		if err != nil || berr != nil || a == nil || b == nil || a.State != b.State || a.Version != b.Version || !slices.Equal(a.Takes(), b.Takes()) {
			r.t.Fatalf("hold %s is %+v in Redis and %+v in MySQL (%v, %v)", id, a, b, err, berr)
		}
	}
}

// TestRedisBehind stops Redis under a pod in live: answers go on; Redis comes back, and has everything.
func TestRedisBehind(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"stopped", "proxy killed", "restarted"} {
		t.Run(how, func(t *testing.T) {
			r := newBehindRig(t, "1000")
			one, two := r.proxies[0], r.proxies[1]
			before, _ := r.buys("before-", 4, one, two)
			if err := r.kv.Pause(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.kv.Resume() })
			first, longest := r.buys("first-", 2, one, two)
			t.Logf("the first answers without Redis took at most %s", longest.Round(time.Millisecond))
			during, longest := r.buys("during-", 100, one, two)
			t.Logf("100 more took at most %s each", longest.Round(time.Millisecond))
			if longest > 500*time.Millisecond {
				t.Errorf("who buys while Redis is known to be away waits %s", longest)
			}
			c := one.client()
			if got := do(t, c, "XF.CLAIM", shop, before[0]); got["status"] != "claimed" {
				t.Fatalf("%v", got)
			}
			if got := do(t, c, "XF.RELEASE", shop, first[0]); got["status"] != "released" {
				t.Fatalf("%v", got)
			}
			if got := do(t, c, "XF.GET", shop, during[0]); got["state"] != "held" {
				t.Fatalf("%v", got)
			}
			st, err := one.status()
			if err != nil || st.Behind == nil || len(st.Behind.Holders) != 2 || !st.Serving || st.Waiting == nil || *st.Waiting < 100 {
				t.Fatalf("%+v, %v", st, err)
			}
			_, err = one.run("stage", podName, "shadow", "--why", "test")
			if err == nil || !strings.Contains(err.Error(), "marked as redis behind") {
				t.Errorf("a marked pod is moved: %v", err)
			}
			if how == "proxy killed" { // a proxy dies with its permission, and comes back
				two.kill()
				two.start()
				two.awaitServing()
				more, _ := r.buys("restarted-", 4, two)
				during = append(during, more...)
			}
			if err := r.kv.Resume(); err != nil {
				t.Fatal(err)
			}
			if how == "restarted" {
				more := r.reissued()
				during = append(during, more...)
			}
			r.mark(one, killswitch.MarkUnknown)
			after, _ := r.buys("after-", 4, one, two)
			r.drained(time.Minute)
			r.both(slices.Concat(before, first, during, after))
			r.clean()
		})
	}
}

// reissued restarts Redis while the pod is marked: answers go on until an operator has looked at it, and after that.
func (r *rig) reissued() []string {
	r.t.Helper()
	if err := r.kv.Restart(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	ids, _ := r.buys("restarted-", 10, r.proxies...)
	var st killswitch.Status
	r.eventually(10*time.Second, "the proxy has seen that this is another Redis", func() (err error) {
		if st, err = r.proxies[0].status(); err == nil && (!st.Serving || !slices.Contains(st.Work, killswitch.WorkReissue) || st.Behind == nil) {
			err = fmt.Errorf("%+v", st)
		}
		return err
	})
	if _, err := r.proxies[0].run("reissue", podName, "--why", "test"); err != nil {
		r.t.Fatalf("%v\n%s", err, r.logs())
	}
	more, _ := r.buys("reissued-", 10, r.proxies...)
	r.settled()
	st, err := r.proxies[0].status()
	if err != nil || !st.Actual.MayAnswerAlone() {
		r.t.Fatalf("%+v, %v", st, err)
	}
	return slices.Concat(ids, more)
}

// TestKillWhileBehind kills a marked pod while one of its proxies is stopped, with MySQL there and without.
func TestKillWhileBehind(t *testing.T) {
	t.Parallel()
	for _, mysql := range []string{"there", "stopped"} {
		t.Run("MySQL is "+mysql, func(t *testing.T) {
			r := newBehindRig(t, "100")
			one, two := r.proxies[0], r.proxies[1]
			if err := r.kv.Pause(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.kv.Resume() })
			held, _ := r.buys("one-", 20, one)
			lost, _ := r.buys("two-", 10, two)
			r.mark(one, killswitch.Marked)
			two.signal(syscall.SIGSTOP)
			if mysql == "stopped" {
				if err := r.sql.Pause(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = r.sql.Resume() })
			}
			if err := r.kv.Resume(); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			res, err := jsonOf[killswitch.KillResult](one, "kill", podName, "--why", "test")
			took := time.Since(began)
			if err != nil {
				t.Fatalf("%v\n%s", err, r.logs())
			}
			t.Logf("the kill took %s: %+v; behind: %+v", took.Round(time.Millisecond), res.Steps, res.Behind)
			if res.Behind == nil || !res.Behind.Marked || took > behindLease+time.Second {
				t.Fatalf("%s, %+v", took, res)
			}
			if !slices.Equal(res.Behind.NotAsked, []string{"proxy-2"}) {
				t.Errorf("not asked: %q", res.Behind.NotAsked)
			}
			rs, _ := r.stores()
			in := func(id string) bool {
				h, err := rs.Get(t.Context(), backends.HoldID(id))
				if err != nil {
					t.Fatal(err)
				}
				return h != nil
			}
			for _, id := range held {
				if !in(id) {
					t.Errorf("Redis does not have %s, which a living proxy answered", id)
				}
			}
			if mysql == "there" && (!res.Behind.Complete || slices.ContainsFunc(lost, func(id string) bool { return !in(id) })) {
				t.Errorf("Redis does not have what MySQL had: %+v", res.Behind)
			}
			if mysql == "stopped" && (res.Behind.Complete || res.Behind.Why == "") {
				t.Errorf("%+v", res.Behind)
			}
			two.signal(syscall.SIGCONT)
			if mysql == "stopped" {
				if err := r.sql.Resume(); err != nil {
					t.Fatal(err)
				}
			}
			r.settled()
			r.drained(time.Minute)
			if out, err := one.run("history", podName); err == nil {
				t.Logf("%s", out)
			}
			if mysql == "stopped" {
				// What a restore has brought back from MySQL before it was settled is not lost any more.
				r.apologised(slices.DeleteFunc(slices.Clone(lost), in))
			}
			r.buys("after-", 4, one, two)
			r.drained(time.Minute)
			r.clean()
		})
	}
}

// apologised waits until each hold has a finding.
func (r *rig) apologised(ids []string) {
	r.t.Helper()
	r.eventually(20*time.Second, "what was lost is found", func() error {
		have := map[string]bool{}
		for _, f := range r.proxies[0].findings("--class", "missing_hold").Findings {
			if f.Source == "kill" {
				have[string(f.Hold)] = true
			}
		}
		for _, id := range ids {
			if !have[id] {
				return fmt.Errorf("nothing says that %s is void; %d findings", id, len(have))
			}
		}
		return nil
	})
}

// TestKillWithoutControlWhileAlone: where answers may be given without Redis, a kill needs the control store, and says so.
func TestKillWithoutControlWhileAlone(t *testing.T) {
	r := newBehindRig(t, "10")
	back := r.withoutControl()
	_, err := r.proxies[0].run("kill", podName, "--why", "test")
	if exitOf(err) != 4 || !strings.Contains(err.Error(), "bring the control store back") {
		t.Errorf("%v", err)
	}
	back()
	var wg sync.WaitGroup
	began := time.Now()
	wg.Go(func() {
		res, err := jsonOf[killswitch.KillResult](r.proxies[0], "kill", podName, "--why", "test")
		if err != nil || res.Behind == nil || res.Behind.Marked {
			t.Errorf("%+v, %v", res, err)
		}
	})
	wg.Wait()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a kill of a pod that is not marked took %s", took)
	}
}
