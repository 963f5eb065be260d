package e2e_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// enrolled waits until all proxies of the rig are registered and serve the stage, by what any of them says.
func (r *rig) enrolled(stage backends.Stage) {
	r.t.Helper()
	for _, p := range r.proxies {
		r.eventually(30*time.Second, "all proxies are registered and current", func() error {
			st, err := p.status()
			if err != nil {
				return err
			}
			if st.Desired.Stage != stage || st.Actual.Stage != stage || len(st.Proxies) != len(r.proxies) {
				return fmt.Errorf("recorded %s, actual %s, %d proxies, notes %q", st.Desired.Stage, st.Actual.Stage, len(st.Proxies), st.Notes)
			}
			for i, one := range st.Proxies {
				if !one.Registered || !one.Current || one.Addr != r.proxies[i].admin {
					return fmt.Errorf("%+v", one)
				}
			}
			return nil
		})
	}
}

// TestFleetOnEtcd: two proxies on a cluster of three. Losing etcd stops switching, not serving, and not killing; a proxy that
// starts meanwhile serves; when etcd is back, everybody knows what happened.
func TestFleetOnEtcd(t *testing.T) {
	c := lab.Cluster(t, 3)
	r := newRigOn(t, 2, fmt.Sprintf("{etcd: {endpoints: [%s]}, lease: 2s}", `"`+strings.Join(c.Endpoints(), `", "`)+`"`))
	carts := 0
	reserve := func(when string) {
		t.Helper()
		for _, p := range r.proxies {
			carts++
			got := do(t, p.client(), "XF.RESERVE", shop, fmt.Sprint("cart-", carts), "TTL", longTTL, "LINE", "A", "1")
			if got["status"] != "granted" {
				t.Fatalf("%s, proxy %d: %v\n%s", when, p.n, got, r.logs())
			}
		}
	}
	do(t, r.proxies[0].client(), "XF.RESTOCK", shop, "A", "1000", "OPID", "s1", "MODE", "ONHAND")
	r.stage("shadow")
	reserve("in shadow")
	r.drained(time.Minute)
	r.stage("live")
	r.enrolled(backends.Live)
	reserve("in live")

	// A proxy that is gone is no longer among those that a switch has to ask, one that comes back is.
	r.proxies[1].kill()
	r.eventually(20*time.Second, "a dead proxy is no longer registered", func() error {
		st, err := r.proxies[0].status()
		if err == nil && len(st.Proxies) != 1 {
			err = fmt.Errorf("%d proxies", len(st.Proxies))
		}
		return err
	})
	r.proxies[1].start()
	r.proxies[1].awaitServing()
	r.enrolled(backends.Live)

	for _, m := range c.Members {
		if err := m.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	reserve("without etcd")
	began := time.Now()
	_, err := r.proxies[0].run("stage", podName, "mysql-only", "--why", "test")
	var ee *exec.ExitError
	if !errors.As(err, &ee) || !strings.Contains(err.Error(), killswitch.ErrControlUnavailable.Error()) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("stage without etcd: %v; want the reason", err)
	}
	t.Logf("stage without etcd, after %s: %v", time.Since(began).Round(time.Millisecond), err)
	r.proxies[1].kill()
	r.proxies[1].start() // while etcd is away
	r.proxies[1].awaitServing()
	reserve("started without etcd")
	st, err := r.proxies[1].status()
	if err != nil || !strings.Contains(strings.Join(st.Notes, "\n"), "the control store does not answer") {
		t.Errorf("status without etcd: %q, %v", st.Notes, err)
	}
	began = time.Now()
	if _, err := r.proxies[1].run("kill", podName, "--why", "test"); err != nil {
		t.Fatalf("%v\n%s", err, r.logs())
	}
	t.Logf("kill without etcd took %s", time.Since(began).Round(time.Millisecond))
	reserve("killed without etcd")

	var wg sync.WaitGroup
	for _, m := range c.Members {
		wg.Go(func() {
			if err := m.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := c.AwaitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.settled()
	r.enrolled(backends.Shadow)
	reserve("etcd is back")
	r.drained(time.Minute)
	r.clean()
}
