package e2e_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/killswitch"
)

// gatesOfTest are bounds that a test can reach: what waits until it is too old was too slow, before lock_wait ends it. Some seconds of traffic are not what the gate of readiness asks for, which
// so fails all the time, for its own reason.
const gatesOfTest = "{outbox_lag: 1500ms, outbox_entries: 100, shadow_p99: 900ms}\n    outbox_max: 2000"

// alwaysShort is the gate that fails all the time.
const alwaysShort = "readiness"

// standing waits until the gates in must stand in the way of the move to live, with readiness, and no others but those in may.
func (r *rig) standing(why string, must, may []string) map[string]killswitch.GateResult {
	r.t.Helper()
	var gates map[string]killswitch.GateResult
	r.eventually(40*time.Second, why, func() error {
		gates = r.proxies[0].gates()
		must := append([]string{alwaysShort}, must...)
		for _, name := range slices.Sorted(maps.Keys(gates)) {
			switch g := gates[name]; {
			case g.Stands() && !slices.Contains(must, name) && !slices.Contains(may, name):
				return fmt.Errorf("%s stands in the way for no reason", g)
			case !g.Stands() && slices.Contains(must, name):
				return fmt.Errorf("%s does not stand in the way", g)
			}
		}
		if len(gates) != len(killswitch.GatesFor(2, 3)) {
			return fmt.Errorf("%d gates", len(gates))
		}
		return nil
	})
	for _, name := range must {
		r.t.Logf("%s: %s", why, gates[name])
	}
	return gates
}

// acknowledgeAll acknowledges what is open.
func (r *rig) acknowledgeAll() {
	r.t.Helper()
	r.drained(90 * time.Second)
	p := r.proxies[0]
	for _, f := range p.findings().Findings {
		if _, err := p.run("findings", "ack", podName, f.ID, "--why", "made by the test"); err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestEachGateFails makes each gate of the move to live fail by its real cause, and sees that those without a reason do not.
func TestEachGateFails(t *testing.T) {
	r := newGatedRig(t, 2, gatesOfTest)
	p := r.proxies[0]
	r.stage("shadow")
	c := p.client()
	raw := redis.NewClient(&redis.Options{Addr: r.kv.Addr()})
	t.Cleanup(func() { _ = raw.Close() })
	g := r.standing("nothing was decided yet", []string{"shadow-p99"}, nil)
	if !strings.HasPrefix(g["shadow-p99"].Figure, "unknown") || !strings.Contains(g[alwaysShort].Figure, "plentiful wants 29956 more") {
		t.Errorf("%+v", g)
	}
	do(t, c, "XF.RESTOCK", shop, "mug", "50", "OPID", "s1", "MODE", "ONHAND")
	do(t, c, "XF.RESTOCK", shop, "cup", "5", "OPID", "s2", "MODE", "ONHAND")
	do(t, c, "XF.RESERVE", shop, "h0", "TTL", longTTL, "LINE", "mug", "1")
	r.standing("all is well but for evidence", nil, nil)

	r.gateSetup(raw)
	r.gateProxies()
	r.gateDebt(c)
	r.gateBypass(raw)
	r.gateSlow(c)
	r.gatesWithoutMySQL(c)
}

// gateSetup: a server that is set otherwise, and a schema of a later version.
func (r *rig) gateSetup(raw *redis.Client) {
	r.t.Helper()
	policy := func(to string) {
		if err := raw.ConfigSet(r.t.Context(), "maxmemory-policy", to).Err(); err != nil {
			r.t.Fatal(err)
		}
	}
	policy("allkeys-lru")
	if g := r.standing("Redis may evict", []string{"setup"}, nil); !strings.Contains(g["setup"].Figure, "maxmemory-policy is") {
		r.t.Errorf("%+v", g["setup"])
	}
	policy("noeviction")
	r.neighbour("INSERT INTO crossfade_schema (version, name) VALUES (999, 'later')")
	if g := r.standing("the schema is newer", []string{"setup"}, nil); !strings.Contains(g["setup"].Figure, "the schema is version 999") {
		r.t.Errorf("%+v", g["setup"])
	}
	r.neighbour("DELETE FROM crossfade_schema WHERE version = 999")
	r.neighbour("ALTER TABLE crossfade_units ADD INDEX helpful (id)")
	if g := r.standing("somebody has added an index", []string{"setup"}, nil); !strings.Contains(g["setup"].Figure, "an index helpful besides") {
		r.t.Errorf("%+v", g["setup"])
	}
	r.neighbour("ALTER TABLE crossfade_units DROP INDEX helpful", "RENAME TABLE crossfade_audits TO audits_of_old")
	if g := r.standing("a table is missing", []string{"setup"}, nil); !strings.Contains(g["setup"].Figure, "has no InnoDB table crossfade_audits") {
		r.t.Errorf("%+v", g["setup"])
	}
	r.neighbour("RENAME TABLE audits_of_old TO crossfade_audits")
	r.standing("all is right again", nil, nil)
}

// gateProxies: a proxy that is stopped does not hear of a new epoch.
func (r *rig) gateProxies() {
	r.t.Helper()
	r.proxies[1].signal(syscall.SIGSTOP)
	if _, err := r.proxies[0].run("reissue", podName, "--why", "a new epoch"); err != nil {
		r.t.Fatal(err)
	}
	g := r.standing("a proxy is stopped", []string{"proxies"}, nil)
	if f := g["proxies"].Figure; !strings.Contains(f, "1 of 2 at epoch 3: proxy-2 is at epoch 2") && !strings.Contains(f, "proxy-2 is silent") {
		r.t.Errorf("%+v", g["proxies"])
	}
	r.proxies[1].signal(syscall.SIGCONT)
	r.standing("it goes on", nil, nil)
}

// gateDebt: the ledger has less than Redis sells.
func (r *rig) gateDebt(c *redis.Client) {
	r.t.Helper()
	r.drained(30 * time.Second)
	r.drift("cup", -2)
	do(r.t, c, "XF.RESERVE", shop, "h1", "TTL", longTTL, "LINE", "cup", "5")
	if g := r.standing("Redis has sold what MySQL does not have", []string{"debt"}, []string{"findings"}); g["debt"].Figure != "2" {
		r.t.Errorf("%+v", g["debt"])
	}
	r.drift("cup", 2)
	r.acknowledgeAll()
	r.standing("the ledger is right again, and what was found acknowledged", nil, nil)
}

// gateBypass: somebody moves a counter behind the proxy's back.
func (r *rig) gateBypass(raw *redis.Client) {
	r.t.Helper()
	key := "stock:" + shop + ":mug"
	by := func(n int64) {
		if err := raw.IncrBy(r.t.Context(), key, n).Err(); err != nil {
			r.t.Fatal(err)
		}
	}
	by(3)
	if _, err := r.proxies[0].run("conservation", podName); exitOf(err) != 3 {
		r.t.Fatalf("conservation: %v", err)
	}
	g := r.standing("a write past Crossfade", []string{"bypass", "conservation", "findings"}, nil)
	if g["bypass"].Figure != "1" || g["conservation"].Figure != "1" {
		r.t.Errorf("%+v", g)
	}
	by(-3)
	r.standing("it was taken back, and nobody has looked into it", []string{"bypass", "findings"}, nil)
	r.acknowledgeAll()
	r.standing("it was looked into", nil, nil)
}

// gateSlow: a neighbour holds a lock that the shadow waits for. What waits is old, and when it is through it was slow.
// MySQL ends a wait after a second, and what counts is how long the attempt took that succeeded: after the first time, in which the
// gate of the outbox's lag has to fail, the lock is given back just before that.
func (r *rig) gateSlow(c *redis.Client) {
	r.t.Helper()
	raw, _ := r.stores()
	for try := 0; r.proxies[0].gate("shadow-p99").Pass; try++ {
		if try == 25 {
			r.t.Fatal("the shadow was never slow")
		}
		neighbour := r.neighbour("START TRANSACTION", "SELECT * FROM crossfade_fence FOR UPDATE")
		do(r.t, c, "XF.RESERVE", shop, fmt.Sprint("slow", try), "TTL", longTTL, "LINE", "mug", "1")
		r.eventually(20*time.Second, "an entry grows old", func() error {
			if try > 0 {
				st, err := raw.OutboxStats(r.t.Context())
				if err == nil && st.OldestMillis < 930 {
					err = fmt.Errorf("%+v", st)
				}
				return err
			}
			if g := r.proxies[0].gate("outbox-lag"); g.Pass {
				return fmt.Errorf("%s", g)
			}
			return nil
		})
		if _, err := neighbour.ExecContext(r.t.Context(), "ROLLBACK"); err != nil {
			r.t.Fatal(err)
		}
		r.drained(30 * time.Second)
	}
	r.standing("the shadow was slow", []string{"shadow-p99"}, []string{"findings"})
}

// gatesWithoutMySQL: nothing is known of a MySQL that is dead, and an outbox that is full has dropped what no drain brings.
func (r *rig) gatesWithoutMySQL(c *redis.Client) {
	r.t.Helper()
	p := r.proxies[0]
	if err := r.sql.Kill(); err != nil {
		r.t.Fatal(err)
	}
	do(r.t, c, "XF.RESERVE", shop, "b0", "TTL", longTTL, "LINE", "mug", "1")
	unknown := []string{"setup", "backfill", "debt", "findings", "bypass", "shadow-p99", "conservation"}
	g := r.standing("MySQL is dead", append([]string{"breaker", "outbox-lag"}, unknown...), nil)
	for _, name := range append(unknown, alwaysShort) {
		if g[name].Figure != "unknown" {
			r.t.Errorf("%+v", g[name])
		}
	}
	const carts = 2200 // outbox_max is 2,000
	var sent []*redis.Cmd
	pipe := c.Pipeline()
	pipe.Do(r.t.Context(), "XF.RESTOCK", shop, "mug", fmt.Sprint(2*carts), "OPID", "s3", "MODE", "ADD")
	for i := range carts {
		sent = append(sent, pipe.Do(r.t.Context(), "XF.RESERVE", shop, fmt.Sprint("f", i), "TTL", longTTL, "LINE", "mug", "1"))
	}
	if _, err := pipe.Exec(r.t.Context()); err != nil || len(sent) != carts {
		r.t.Fatal(err)
	}
	r.standing("and the outbox is full", append([]string{"outbox-lag", "outbox-entries", "not-lost"}, unknown...), []string{"breaker"})

	if err := r.sql.Restart(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	// What followed in a rush may have been quick enough to make up for the slow ones.
	r.standing("MySQL is back, and what was dropped is not", []string{"not-lost"}, []string{"shadow-p99", "findings"})
	if _, err := p.run("backfill", podName); err != nil {
		r.t.Fatal(err)
	}
	r.standing("what was lost was filled in", nil, []string{"shadow-p99", "findings"})
}
