package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// wrong is a difference that is put into a shadow past Crossfade, and what a repair makes of it.
type wrong struct {
	name    string
	item    string // of the key, or of the hold's line
	hold    string // "" for a level
	class   comparator.Class
	action  comparator.RepairAction
	byHand  bool // without --correct-ledger
	more    int  // steps of levels that only show once the hold is right
	rows    []string
	redis   [][]any
	prepare func(r *rig, c *redis.Client)
}

// mysqlWrongs break MySQL as the shadow. In each the hold is h-<item>, of 2 units, at the version that the truth has too.
func mysqlWrongs() []wrong {
	at := func(item string) string { return fmt.Sprintf(" WHERE pod = '%s' AND item = '%s'", podName, item) }
	hold := func(id string) string { return fmt.Sprintf(" WHERE pod = '%s' AND id = '%s'", podName, id) }
	units := func(item string, n int) string {
		return fmt.Sprintf("UPDATE crossfade_levels SET unmaterialised = unmaterialised %+d", n) + at(item)
	}
	release := func(r *rig, c *redis.Client) { do(r.t, c, "XF.RELEASE", shop, "h-released") }
	claim := func(r *rig, c *redis.Client) { do(r.t, c, "XF.CLAIM", shop, "h-claimed", "WAIT", "5000") }
	return []wrong{
		{name: "a lost write", item: "lost", hold: "h-lost", class: comparator.MissingHold, action: comparator.RestateHold,
			rows: []string{"DELETE FROM crossfade_holds" + hold("h-lost"), units("lost", 2)}},
		{name: "a hold's row gone, and its units not back", item: "gone", hold: "h-gone", class: comparator.MissingHold, action: comparator.RestateHold, more: 1,
			rows: []string{"DELETE FROM crossfade_holds" + hold("h-gone")}},
		{name: "a lost release", item: "released", hold: "h-released", class: comparator.LostRelease, action: comparator.RestateHold, prepare: release,
			rows: []string{"UPDATE crossfade_holds SET state = 1, ended = 0" + hold("h-released"), units("released", -2)}},
		{name: "a lost claim", item: "claimed", hold: "h-claimed", class: comparator.LedgerShort, action: comparator.RestateHold, prepare: claim,
			rows: []string{"UPDATE crossfade_holds SET state = 1, ended = 0" + hold("h-claimed"), "UPDATE crossfade_ledger SET on_hand = on_hand + 2" + at("claimed")}},
		{name: "an orphan", item: "orphan", hold: "ghost", class: comparator.OrphanHold, action: comparator.RestateHold,
			rows: []string{"INSERT INTO crossfade_holds SELECT pod, 'ghost', shop, state, epoch, n, stamp, digest, body, allocs, caller, created, expires, ended, ledger_owed, own, due FROM crossfade_holds" + hold("h-orphan"), units("orphan", -2)}},
		{name: "a wrong quantity", item: "more", hold: "h-more", class: comparator.Quantity, action: comparator.RestateHold,
			rows: []string{`UPDATE crossfade_holds SET body = REPLACE(body, '"qty":2', '"qty":3'), allocs = REPLACE(allocs, '"qty":2', '"qty":3')` + hold("h-more"), units("more", -1)}},
		{name: "a skewed expiry", item: "skewed", hold: "h-skewed", class: comparator.ExpirySkew, action: comparator.RestateHold,
			rows: []string{"UPDATE crossfade_holds SET expires = expires + 60000, due = due + 60000" + hold("h-skewed")}},
		{name: "units of the pool gone", item: "pool", class: comparator.BypassWrite, action: comparator.CorrectLevel,
			rows: []string{"DELETE FROM crossfade_units" + at("pool") + " ORDER BY id LIMIT 1"}},
		{name: "units that nobody brought", item: "found", class: comparator.BypassWrite, action: comparator.CorrectLevel, rows: []string{units("found", 3)}},
		{name: "takes that nobody made", item: "taken", class: comparator.LevelDrift, action: comparator.RestateTaken,
			prepare: func(r *rig, c *redis.Client) {
				if err := c.DecrBy(r.t.Context(), "stock:"+shop+":taken", 2).Err(); err != nil {
					r.t.Fatal(err)
				}
			},
			rows: []string{"UPDATE crossfade_levels SET taken = taken + 4, unmaterialised = unmaterialised - 4" + at("taken")}},
		{name: "a ledger that was counted anew", item: "ledger", class: comparator.LevelDrift, action: comparator.ByHand, byHand: true,
			rows: []string{"UPDATE crossfade_ledger SET on_hand = on_hand + 2" + at("ledger"), units("ledger", 2)}},
	}
}

// redisWrongs break Redis as the shadow.
func redisWrongs() []wrong {
	key := func(item string) string { return "stock:" + shop + ":" + item }
	return []wrong{
		{name: "a hold's record gone", item: "gone", hold: "h-gone", class: comparator.MissingHold, action: comparator.RestateHold, more: 1,
			redis: [][]any{{"DEL", "xf:h:h-gone"}, {"ZREM", "xf:exp", "h-gone"}}},
		{name: "an orphan", item: "orphan", hold: "ghost", class: comparator.OrphanHold, action: comparator.RestateHold, more: 1,
			redis: [][]any{{"COPY", "xf:h:h-orphan", "xf:h:ghost"}, {"ZADD", "xf:exp", time.Now().Add(time.Hour).UnixMilli(), "ghost"}, {"DECRBY", key("orphan"), 2}}},
		{name: "a decrement twice", item: "twice", class: comparator.BypassWrite, action: comparator.CorrectLevel, redis: [][]any{{"DECRBY", key("twice"), 2}}},
		{name: "units that nobody brought", item: "found", class: comparator.BypassWrite, action: comparator.CorrectLevel, redis: [][]any{{"INCRBY", key("found"), 3}}},
	}
}

func (r *rig) breakShadow(ws []wrong) {
	r.t.Helper()
	kv := redis.NewClient(&redis.Options{Addr: r.kv.Addr(), MaxRetries: -1})
	defer kv.Close()
	for _, w := range ws {
		if len(w.rows) > 0 {
			r.neighbour(append(append([]string{"START TRANSACTION"}, w.rows...), "COMMIT")...)
		}
		for _, q := range w.redis {
			if err := kv.Do(r.t.Context(), q...).Err(); err != nil {
				r.t.Fatalf("%s: %v: %v", w.name, q, err)
			}
		}
	}
}

func (p *proxyProc) repair(args ...string) comparator.RepairResult {
	p.r.t.Helper()
	res, err := jsonOf[comparator.RepairResult](p, append([]string{"repair", podName}, args...)...)
	if err != nil {
		p.r.t.Fatal(err)
	}
	return res
}

// stepOf finds what a repair says of a difference.
func stepOf(res *comparator.RepairResult, w *wrong) *comparator.RepairStep {
	i := slices.IndexFunc(res.Steps, func(s comparator.RepairStep) bool {
		return w.hold != "" && string(s.Hold) == w.hold || w.hold == "" && s.Key != nil && string(s.Key.Item) == w.item
	})
	if i < 0 {
		return nil
	}
	return &res.Steps[i]
}

func (r *rig) seed(ws []wrong) *redis.Client {
	r.t.Helper()
	c := r.proxies[0].client()
	for _, w := range append([]wrong{{item: "busy"}}, ws...) {
		do(r.t, c, "XF.RESTOCK", shop, w.item, "20", "OPID", "s-"+w.item, "MODE", "ONHAND")
	}
	r.drained(30 * time.Second)
	for _, w := range ws {
		do(r.t, c, "XF.RESERVE", shop, "h-"+w.item, "TTL", "3600000", "CALLER", "checkout", "LINE", w.item, "2")
		if w.prepare != nil {
			w.prepare(r, c)
		}
	}
	r.drained(30 * time.Second)
	return c
}

// traffic reserves and ends holds until it is stopped.
func (r *rig) traffic(c *redis.Client) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() {
			pace := time.NewTicker(300 * time.Millisecond) // the key has to come to rest now and then, or it is looked at in vain
			defer pace.Stop()
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				case <-pace.C:
				}
				id := fmt.Sprintf("t-%d-%d", n, i)
				for _, q := range [][]any{{"XF.RESERVE", shop, id, "TTL", "600000", "CALLER", "checkout", "LINE", "busy", "1"}, {"XF.RELEASE", shop, id}} {
					if err := c.Do(r.t.Context(), q...).Err(); err != nil {
						r.t.Errorf("%v: %v", q, err)
						return
					}
				}
			}
		})
	}
	return func() { close(done); wg.Wait() }
}

// TestRepair breaks a shadow on real servers in every way, and has it repaired under traffic: the plan shows each,
// a first step by its finding alone, the rest at once through two proxies, and then nothing differs.
func TestRepair(t *testing.T) {
	r := newRig(t, 2)
	r.stage("shadow")
	ws := mysqlWrongs()
	c := r.seed(ws)
	stop := r.traffic(c)
	defer func() { stop() }()
	r.breakShadow(ws)
	one, two := r.proxies[0], r.proxies[1]
	r.planned(one, ws)
	lost := comparator.FindingID(podName, comparator.MissingHold, "h-lost", backends.Key{})
	if res := two.repair("--finding", lost, "--apply", "--why", "one alone"); len(res.Steps) != 1 || res.Steps[0].Outcome != comparator.RepairDone || res.Recorded != 1 || res.Compared != nil {
		t.Fatalf("%+v", res)
	}
	var wg sync.WaitGroup
	for _, p := range r.proxies { // twice at the same time is once
		wg.Go(func() { p.repair("--apply", "--why", "all of it") })
	}
	wg.Wait()
	left := one.repair("--apply", "--why", "what is left")
	if len(left.Steps) != 1 || left.Steps[0].Outcome != comparator.RepairByHand || left.Outcomes[comparator.RepairByHand] != 1 || !strings.Contains(left.Steps[0].ByHand, "--correct-ledger") {
		t.Fatalf("%+v", left)
	}
	if _, err := one.run("repair", podName, "--apply", "--why", "as before"); exitOf(err) != 3 {
		t.Errorf("with a step left the command ends with %v", err)
	}
	if res := one.repair("--apply", "--correct-ledger", "--why", "the shelf was counted"); len(res.Steps) != 1 || res.Steps[0].Outcome != comparator.RepairDone {
		t.Fatalf("%+v", res)
	}
	stop()
	stop = func() {}
	r.repaired(ws)
}

// TestRepairInLive is the same with Redis as the shadow, which has running sums of its own.
func TestRepairInLive(t *testing.T) {
	r := newRig(t, 1)
	r.stage("shadow", "live")
	ws := redisWrongs()
	c := r.seed(ws)
	stop := r.traffic(c)
	defer func() { stop() }()
	r.breakShadow(ws)
	p := r.proxies[0]
	r.planned(p, ws)
	more := 0
	for _, w := range ws {
		more += w.more
	}
	res := p.repair("--apply", "--why", "a failover lost writes")
	if len(res.Steps) != len(ws)+more || res.Outcomes[comparator.RepairDone] != len(res.Steps) || !res.Clean() {
		t.Fatalf("%+v: %+v", res.Outcomes, res.Steps)
	}
	stop()
	stop = func() {}
	r.repaired(ws)
	do(t, c, "XF.CLAIM", shop, "h-gone") // the hold is whole again: Redis takes the claim
	r.drained(30 * time.Second)
	r.clean()
}

// planned wants each difference in the plan, with what would be written, and nothing written.
func (r *rig) planned(p *proxyProc, ws []wrong) {
	r.t.Helper()
	plan := p.repair()
	for _, w := range ws {
		s := stepOf(&plan, &w)
		switch {
		case s == nil:
			r.t.Errorf("%s: no step in %+v", w.name, plan.Outcomes)
		case s.Class != w.class || s.Action != w.action || len(s.Findings) == 0 || (len(s.Writes) == 0) != w.byHand || (s.ByHand != "") != w.byHand:
			r.t.Errorf("%s: %+v", w.name, *s)
		}
		if s == nil {
			continue
		}
		for _, text := range s.Writes {
			r.t.Logf("%s: %s", w.name, text)
		}
	}
	if plan.Recorded != 0 || plan.Applied || plan.Clean() {
		r.t.Errorf("%+v", plan.Outcomes)
	}
	again := p.repair()
	if len(again.Steps) != len(plan.Steps) || again.Outcomes[comparator.RepairPlanned] != plan.Outcomes[comparator.RepairPlanned] {
		r.t.Errorf("a plan was made of %+v, and again of %+v", plan.Outcomes, again.Outcomes)
	}
}

// repaired wants an audit and conservation that find nothing, and every finding marked.
func (r *rig) repaired(ws []wrong) {
	r.t.Helper()
	r.drained(60 * time.Second)
	r.clean()
	p := r.proxies[len(r.proxies)-1]
	if l := p.findings(); len(l.Findings) != 0 {
		r.t.Errorf("open findings are left: %+v", l.Findings)
	}
	repaired := p.findings("--state", "repaired", "--all").Findings
	if len(repaired) < len(ws) {
		r.t.Errorf("%d of %d differences are marked as repaired", len(repaired), len(ws))
	}
	for _, f := range repaired {
		if f.By != "test" || f.Why == "" {
			r.t.Errorf("finding %s was repaired by %q: %q", f.ID, f.By, f.Why)
		}
	}
}
