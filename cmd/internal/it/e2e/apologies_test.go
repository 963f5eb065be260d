package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/comparator"
)

func (p *proxyProc) apologies(args ...string) comparator.ApologyList {
	p.r.t.Helper()
	l, err := jsonOf[comparator.ApologyList](p, append([]string{"apologies", podName}, args...)...)
	if err != nil {
		p.r.t.Fatal(err)
	}
	return l
}

// holdsOf names the holds of a list, in its order.
func holdsOf(l comparator.ApologyList) string {
	var names []string
	for i := range l.Apologies {
		names = append(names, string(l.Apologies[i].Hold))
	}
	return strings.Join(names, " ")
}

// TestApologies follows the promises without stock over stage moves, a kill, a Redis that has lost them, and stores
// that are away: the list has each once, and what was acknowledged stays so.
func TestApologies(t *testing.T) {
	r := newRig(t, 2)
	one, two := r.proxies[0], r.proxies[1]
	c := one.client()
	claim := func(hold string, units int) {
		t.Helper()
		if got := do(t, c, "XF.CLAIM", shop, hold, "LINE", "mug", fmt.Sprint(units)); got["status"] != "claimed" {
			t.Fatalf("%v", got)
		}
	}
	do(t, c, "XF.RESTOCK", shop, "mug", "1", "OPID", "s1", "MODE", "ONHAND")
	r.stage("shadow")
	claim("in-redis", 3)                                   // one unit is there
	do(t, c, "XF.RESTOCK", shop, "mug", "2", "OPID", "s2") // pays the debt; the promise is still to be seen to
	r.drained(20 * time.Second)
	r.stage("live")
	claim("in-mysql", 2)
	if l := two.apologies(); holdsOf(l) != "in-redis in-mysql" || l.Sum.Open != 2 || l.Sum.OpenUnits != 4 || l.Apologies[0].Quantity != 2 || !l.Apologies[0].Redis || !l.Apologies[1].MySQL {
		t.Fatalf("%+v", l)
	}
	rep := one.report()
	if rep.ApologyCount != 2 || rep.ApologyUnits != 4 || !strings.Contains(strings.Join(rep.Next, " "), "crossfade apologies pod-1") {
		t.Errorf("the report has %d apologies, %d units: %q", rep.ApologyCount, rep.ApologyUnits, rep.Next)
	}
	id := one.apologies().Apologies[0].ID
	for i, p := range []*proxyProc{one, two} {
		a, err := jsonOf[comparator.AckedApology](p, "apologies", "ack", podName, id, "--why", fmt.Sprint("voucher ", i))
		if err != nil || a.Changed != (i == 0) || a.AckedBy != "test" || a.Why != "voucher 0" || a.Acked != 2 {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	for _, x := range []struct {
		args []string
		want string
	}{{[]string{"apologies", "ack", podName, strings.Repeat("0", 32), "--why", "x"}, "no apology of this pod"}, {[]string{"apologies", "pod-2"}, "crossfade pods"}} {
		if _, err := one.run(x.args...); exitOf(err) != 2 || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%q: %v", x.args, err)
		}
	}
	right := func(when string) {
		t.Helper()
		for _, p := range r.proxies {
			if l := p.apologies(); holdsOf(l) != "in-mysql" || l.Sum.Open != 1 || l.Sum.OpenUnits != 2 || l.Sum.Acked != 1 {
				t.Errorf("%s, proxy %d lists %q: %+v", when, p.n, holdsOf(l), l.Sum)
			}
			if l := p.apologies("--state", "all"); holdsOf(l) != "in-redis in-mysql" {
				t.Errorf("%s, proxy %d lists %q in all", when, p.n, holdsOf(l))
			}
		}
	}
	right("acknowledged")
	// Redis has lost what it had filed, as one that was replaced has; a kill is a new epoch, under which all is read again.
	kv := redis.NewClient(&redis.Options{Addr: r.kv.Addr()})
	defer kv.Close()
	if n, err := kv.Del(t.Context(), r.prefix+"apologies").Result(); err != nil || n != 1 {
		t.Fatalf("%d keys, %v", n, err)
	}
	if _, err := one.run("kill", podName, "--from", "live", "--why", "test"); err != nil {
		t.Fatal(err)
	}
	r.settled()
	right("after a kill")
	claim("after", 1)
	if l := two.apologies(); holdsOf(l) != "in-mysql after" {
		t.Errorf("after the kill: %q", holdsOf(l))
	}
	two.kill()
	two.start()
	two.awaitServing()
	if l := two.apologies("--state", "acknowledged"); holdsOf(l) != "in-redis" || l.Apologies[0].Why != "voucher 0" {
		t.Errorf("a proxy that was killed: %+v", l)
	}
	r.apologiesWithoutStores(id)
}

// apologiesWithoutStores: without Redis the list is what had been copied, and says so; without MySQL there is none.
func (r *rig) apologiesWithoutStores(id string) {
	r.t.Helper()
	p := r.proxies[0]
	for _, away := range []struct {
		name string
		do   func() error
	}{{"hangs", r.kv.Pause}, {"is dead", r.kv.Kill}} {
		if err := away.do(); err != nil {
			r.t.Fatal(err)
		}
		out, err := p.run("apologies", podName)
		if exitOf(err) != 5 || !strings.Contains(string(out), "in-mysql") || !strings.Contains(string(out), "PROBLEM: what redis has filed") {
			r.t.Errorf("Redis %s: %v\n%s", away.name, err, out)
		}
	}
	if err := r.sql.Kill(); err != nil {
		r.t.Fatal(err)
	}
	for _, args := range [][]string{{"apologies", podName}, {"apologies", "ack", podName, id, "--why", "away"}} {
		if _, err := p.run(args...); exitOf(err) != 5 || !strings.Contains(err.Error(), "pod's MySQL") {
			r.t.Errorf("%q without MySQL: %v", args, err)
		}
	}
	if err := r.sql.Restart(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.eventually(30*time.Second, "the list is there again", func() error {
		_, err := p.run("apologies", podName)
		if exitOf(err) == 5 && strings.Contains(err.Error(), "may not be complete") {
			return nil // Redis is still away
		}
		return fmt.Errorf("exit code %d: %w", exitOf(err), err)
	})
}
