package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/rollout"
)

// rolloutPods are the pods of the test besides pod-1, with their labels.
var rolloutPods = map[string]string{"pod-2": "small", "pod-3": "small", "pod-4": "small"}

// newRolloutRig has four pods on the same two servers, three of them small.
func newRolloutRig(t *testing.T) *rig {
	t.Helper()
	return newRigWith(t, 2, rigOptions{more: func(r *rig) string {
		var b strings.Builder
		for _, name := range []string{"pod-2", "pod-3", "pod-4"} {
			fmt.Fprintf(&b, "  - name: %s\n    labels: {tier: %s}\n    shops: [shop-%s]\n    redis: {addr: %q, prefix: \"xf-%s:\"}\n    mysql: {dsn: %q}\n    key_template: \"%s:{shop}:{item}\"\n    sweep_age: 1s\n    gates: {off: [readiness, shadow-p99]}\n",
				name, rolloutPods[name], name, r.kv.Addr(), name, r.dsn, name)
		}
		return b.String()
	}})
}

// rolledTo waits until the rollout is in a phase.
func (r *rig) rolledTo(phase rollout.Phase) *rollout.State {
	r.t.Helper()
	var s *rollout.State
	r.eventually(90*time.Second, "the rollout is "+string(phase), func() error {
		o, err := jsonOf[rollout.Overview](r.proxies[0], "rollout", "status")
		if err != nil {
			return err
		}
		if s = o.Current; s == nil || s.Phase != phase {
			return fmt.Errorf("it is %+v", s)
		}
		return nil
	})
	return s
}

// buy makes n decisions in a pod, whose stock is there.
func (r *rig) buy(pod string, n int) {
	r.t.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.proxies[0].resp, MaxRetries: -1})
	defer c.Close()
	for i := range n {
		if err := c.Do(r.t.Context(), "XF.RESERVE", "shop-"+pod, fmt.Sprintf("h-%s-%d", pod, i), "TTL", "600000", "LINE", "A", "1").Err(); err != nil {
			r.t.Fatalf("%s: %v", pod, err)
		}
	}
}

func (r *rig) must(args ...string) string {
	r.t.Helper()
	out, err := r.proxies[0].run(args...)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.logs())
	}
	return string(out)
}

// TestRollout moves real pods in waves by two real proxies: lowest traffic first, halted by a kill, gone on with by a person,
// and by the other proxy when the one that led is killed.
func TestRollout(t *testing.T) {
	t.Parallel()
	r := newRolloutRig(t)
	r.must("rollout", "start", "--pods", "all", "--to", "shadow", "--order", "name", "--wave", "1", "--soak", "0s", "--why", "begin comparing")
	if s := r.rolledTo(rollout.Completed); s.Moved() != 4 || s.Waves != 2 || !slices.Equal(s.Names(), []backends.Pod{"pod-1", "pod-2", "pod-3", "pod-4"}) {
		t.Fatalf("%+v", s)
	}
	file := filepath.Join(r.dir, "stock.csv")
	if err := os.WriteFile(file, []byte("shop,item,quantity\nshop-pod-2,A,100\nshop-pod-3,A,100\nshop-pod-4,A,100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.must("stock", "load", file)
	for pod, n := range map[string]int{"pod-2": 9, "pod-3": 3, "pod-4": 6} {
		r.buy(pod, n)
	}
	// The plan: three small pods, by their traffic. Nothing is begun.
	args := []string{"rollout", "start", "--pods", "tier=small", "--wave", "1,1", "--soak", "3s", "--why", "small ones first"}
	var plan *rollout.State
	r.eventually(30*time.Second, "all decisions are counted", func() (err error) {
		plan, err = jsonOf[*rollout.State](r.proxies[0], append(args, "--dry-run")...)
		if err == nil && !slices.Equal(plan.Names(), []backends.Pod{"pod-3", "pod-4", "pod-2"}) {
			err = fmt.Errorf("planned %+v", plan.Pods)
		}
		return err
	})
	if st, err := jsonOf[killswitch.Status](r.proxies[0], "status", "pod-3"); err != nil || st.Actual.Stage != backends.Shadow {
		t.Fatalf("a dry run moved: %+v, %v", st.Actual, err)
	}
	r.must(args...)
	if _, err := r.proxies[1].run(args...); err == nil || !strings.Contains(err.Error(), "rollout abort") || !strings.Contains(err.Error(), "exit status 4") {
		t.Fatalf("a second one: %v", err)
	}
	// Killed while it soaks.
	r.eventually(60*time.Second, "the second wave was moved", func() error {
		o, err := jsonOf[rollout.Overview](r.proxies[0], "rollout", "status")
		if err == nil && o.Current.Moved() < 2 {
			err = fmt.Errorf("%+v", o.Current)
		}
		return err
	})
	r.must("kill", "pod-3", "--why", "a doubt")
	s := r.rolledTo(rollout.Halted)
	if !strings.Contains(s.Cause, "pod pod-3 was taken to shadow") || s.Moved() != 1 {
		t.Fatalf("%+v", s)
	}
	if out := r.must("rollout", "status"); !strings.Contains(out, "crossfade rollout resume --why") || !strings.Contains(out, "halted") {
		t.Fatalf("%s", out)
	}
	r.must("rollout", "resume", "--why", "the doubt is gone")
	// Who leads is killed; the other one goes on.
	var leader *proxyProc
	r.eventually(30*time.Second, "somebody leads", func() error {
		o, err := jsonOf[rollout.Overview](r.proxies[0], "rollout", "status")
		if err != nil {
			return err
		}
		for _, p := range r.proxies {
			if strings.HasPrefix(o.Current.Driver, fmt.Sprintf("proxy-%d#", p.n)) && o.Current.SoakedMillis > 0 {
				leader = p
				return nil
			}
		}
		return fmt.Errorf("%+v", o.Current.Lead)
	})
	leader.kill()
	if leader == r.proxies[0] {
		r.proxies[0], r.proxies[1] = r.proxies[1], r.proxies[0]
	}
	s = r.rolledTo(rollout.Completed)
	if s.Moved() != 2 || s.Pods[0].Place != rollout.LeftOut || strings.HasPrefix(s.Driver, fmt.Sprintf("proxy-%d#", leader.n)) {
		t.Fatalf("%+v", s)
	}
	for pod, want := range map[string]backends.Stage{"pod-1": backends.Shadow, "pod-2": backends.Live, "pod-3": backends.Shadow, "pod-4": backends.Live} {
		st, err := jsonOf[killswitch.Status](r.proxies[0], "status", pod)
		if err != nil || st.Actual.Stage != want || !st.Serving {
			t.Errorf("%s is in %+v, %v; want %s", pod, st.Actual, err, want)
		}
	}
	if out := r.must("history", "pod-2"); !strings.Contains(out, "rollout 2: small ones first") {
		t.Errorf("the history does not tell of the rollout:\n%s", out)
	}
	if out := r.must("rollout", "status"); !strings.Contains(out, "completed") || !strings.Contains(out, "begin comparing") && !strings.Contains(out, "BEFORE") {
		t.Errorf("%s", out)
	}
}
