package killswitch_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Each gate fails once, for the right reason, with its figure and its bound.
func TestEachGateFailsOnce(t *testing.T) {
	type E = killswitch.Evidence
	fleet := func(epoch uint64, s ...killswitch.Standing) killswitch.Figure[killswitch.Proxies] {
		return killswitch.Is(killswitch.Proxies{Epoch: epoch, Fleet: s})
	}
	at := func(name string, epoch uint64, silent time.Duration) killswitch.Standing {
		return killswitch.Standing{Proxy: name, Epoch: epoch, Silent: silent}
	}
	const proxies, ready, p99 = "every proxy has acknowledged the pod's epoch", "evidence enough of each kind of decision, and for the load", "p99 of the last 1h0m0s at most 250ms"
	seen := map[string]bool{}
	for _, c := range []struct {
		gate   string
		spoil  func(*E)
		figure string
		bound  string
		firm   bool
	}{
		{"findings", func(e *E) { e.Findings = killswitch.Is(int64(2)) }, "2", "no open confirmed finding in 1h0m0s", false},
		{"findings", func(e *E) { e.Findings.Known = false }, "unknown", "no open confirmed finding in 1h0m0s", false},
		{"bypass", func(e *E) { e.Bypasses = killswitch.Is(int64(1)) }, "1", "no open finding of a write past Crossfade, at any age", false},
		{"bypass", func(e *E) { e.Bypasses.Known = false }, "unknown", "no open finding of a write past Crossfade, at any age", false},
		{"debt", func(e *E) { e.Debt = killswitch.Is(int64(7)) }, "7", "no unit promised that the shadow does not have", false},
		{"debt", func(e *E) { e.Debt.Known = false }, "unknown", "no unit promised that the shadow does not have", false},
		{"outbox-lag", func(e *E) { e.OutboxLag = killswitch.Is(1500 * time.Millisecond) }, "1.5s", "oldest entry at most 1s old", false},
		{"outbox-lag", func(e *E) { e.OutboxLag.Known = false }, "unknown", "oldest entry at most 1s old", false},
		{"outbox-entries", func(e *E) { e.OutboxEntries = killswitch.Is(int64(2001)) }, "2001", "at most 2000", false},
		{"outbox-entries", func(e *E) { e.OutboxEntries.Known = false }, "unknown", "at most 2000", false},
		{"not-lost", func(e *E) { e.Lost = killswitch.Is(true) }, "no", "the outbox has dropped nothing since the last backfill", true},
		{"not-lost", func(e *E) { e.Lost.Known = false }, "unknown", "the outbox has dropped nothing since the last backfill", true},
		{"backfill", func(e *E) { e.BackfillComplete = killswitch.Is(false) }, "no", "backfill complete", true},
		{"backfill", func(e *E) { e.BackfillComplete = killswitch.Figure[bool]{Value: true} }, "unknown", "backfill complete", true},
		{"breaker", func(e *E) { e.BreakerClosed = killswitch.Is(false) }, "no", "breaker of the shadow closed", false},
		{"breaker", func(e *E) { e.BreakerClosed.Known = false }, "unknown", "breaker of the shadow closed", false},
		{"conservation", func(e *E) { e.Imbalances = killswitch.Is(int64(1)) }, "1", "no level out of balance in either store", false},
		{"conservation", func(e *E) { e.Imbalances.Known = false }, "unknown", "no level out of balance in either store", false},
		{"setup", func(e *E) { e.SetupMySQL = killswitch.Is("the schema is of version 9") }, "the schema is of version 9", "both servers and schemas fit for use", true},
		{"setup", func(e *E) { e.SetupRedis.Known = false }, "unknown", "both servers and schemas fit for use", true},
		{"proxies", func(e *E) { e.Proxies = fleet(4, at("a", 4, 0), at("b", 3, 0)) }, "1 of 2 at epoch 4: b is at epoch 3", proxies, false},
		{"proxies", func(e *E) { e.Proxies = fleet(4, at("a", 4, 0), at("b", 4, 20*time.Second)) }, "1 of 2 at epoch 4: b is silent (for 20s)", proxies, false},
		{"proxies", func(e *E) { e.Proxies = fleet(4, at("a", 4, 0), at("b", 0, 0)) }, "1 of 2 at epoch 4: b has acknowledged nothing", proxies, false},
		{"proxies", func(e *E) { e.Proxies = fleet(4, at("a", 5, 0)) }, "0 of 1 at epoch 4: a is at epoch 5", proxies, false},
		{"proxies", func(e *E) { e.Proxies = fleet(4) }, "0 of 0 at epoch 4", proxies, false},
		{"proxies", func(e *E) { e.Proxies.Known = false }, "unknown", proxies, false},
		{"readiness", func(e *E) {
			e.Readiness = killswitch.Is(killswitch.Readiness{Kinds: 8, Short: []string{"expiry wants 2995 more", "load (1 of a peak of 9 a minute)"}})
		}, "short of 2 of 8 kinds: expiry wants 2995 more; load (1 of a peak of 9 a minute)", ready, false},
		{"readiness", func(e *E) { e.Readiness.Known = false }, "unknown", ready, false},
		{"shadow-p99", func(e *E) {
			e.ShadowLatency = killswitch.Is(killswitch.Latency{P99: 250*time.Millisecond + time.Microsecond, Decisions: 9})
		}, "250ms, of 9 decisions", p99, false},
		{"shadow-p99", func(e *E) { e.ShadowLatency = killswitch.Is(killswitch.Latency{}) }, "unknown: the shadow has decided nothing in that time", p99, false},
		{"shadow-p99", func(e *E) { e.ShadowLatency.Known = false }, "unknown", p99, false},
	} {
		seen[c.gate] = true
		t.Run(c.gate+" "+c.figure, func(t *testing.T) {
			e := fine(context.Background(), 0)
			c.spoil(&e)
			_, err := killswitch.JudgeGates(pod, backends.Shadow, backends.Live, e, killswitch.Bounds{}, nil)
			var ge *killswitch.GateError
			if !errors.As(err, &ge) || len(ge.Failing()) != 1 {
				t.Fatalf("%v; want one gate to fail", err)
			}
			if g := ge.Failing()[0]; g.Name != c.gate || g.Figure != c.figure || g.Bound != c.bound || !g.Stands() {
				t.Errorf("%+v", g)
			}
			if !strings.Contains(err.Error(), c.gate+": "+c.figure) {
				t.Errorf("%v", err)
			}
			passedBy(t, e, c.gate, c.firm)
		})
	}
	for _, g := range killswitch.GatesFor(backends.Shadow, backends.Live) {
		if !seen[g.Name] {
			t.Errorf("gate %s is not shown failing", g.Name)
		}
	}
}

// passedBy: a gate that fails can be forced or switched off, which the results say of it and of no other; a firm one cannot.
func passedBy(t *testing.T, e killswitch.Evidence, gate string, firm bool) {
	t.Helper()
	off := killswitch.Bounds{Off: []string{gate}}
	for what, c := range map[string]struct {
		bounds killswitch.Bounds
		force  []string
	}{"forced": {force: []string{gate}}, "off": {bounds: off}, "both": {off, []string{gate}}} {
		results, err := killswitch.JudgeGates(pod, backends.Shadow, backends.Live, e, c.bounds, c.force)
		if firm != (err != nil) {
			t.Errorf("%s: %v", what, err)
		}
		for _, r := range results {
			mine := r.Name == gate
			if r.Pass == mine || r.Forced != (mine && what == "forced") || r.Off != (mine && !firm && what != "forced") {
				t.Errorf("%s: %+v", what, r)
			}
		}
	}
	var fe *backends.FieldError
	if err := off.Check(); firm != errors.As(err, &fe) {
		t.Errorf("switched off: %v", err)
	}
}

// A gate of readiness that asks for the verdict judges that, and not the evidence alone.
func TestReadinessByVerdict(t *testing.T) {
	for _, c := range []struct {
		r      killswitch.Readiness
		figure string
		pass   bool
	}{
		{killswitch.Readiness{Ready: true, Kinds: 8, Go: true, Verdict: "go: enough"}, "go: enough", true},
		{killswitch.Readiness{Ready: true, Kinds: 8, Verdict: "wait: no audit"}, "wait: no audit", false},
		{killswitch.Readiness{Ready: true, Kinds: 8}, "unknown", false}, // nobody has looked
	} {
		e := fine(context.Background(), 0)
		e.Readiness = killswitch.Is(c.r)
		rs, _ := killswitch.JudgeGates(pod, backends.Shadow, backends.Live, e, killswitch.Bounds{Readiness: killswitch.ReadyByVerdict}, nil)
		i := slices.IndexFunc(rs, func(g killswitch.GateResult) bool { return g.Name == "readiness" })
		if i < 0 || rs[i].Pass != c.pass || rs[i].Figure != c.figure || rs[i].Bound != "the report's verdict is go" {
			t.Errorf("%+v: %+v", c.r, rs)
		}
	}
}

// Gates judge by the pod's own bounds.
func TestBoundsCount(t *testing.T) {
	e := fine(context.Background(), 0)
	e.OutboxLag, e.OutboxEntries = killswitch.Is(3*time.Second), killswitch.Is(int64(5000))
	e.ShadowLatency = killswitch.Is(killswitch.Latency{P99: time.Second, Decisions: 1})
	wide := killswitch.Bounds{OutboxLag: 3 * time.Second, OutboxEntries: 5000, ShadowP99: time.Second}
	if _, err := killswitch.JudgeGates(pod, backends.Shadow, backends.Live, e, wide, nil); err != nil {
		t.Error(err)
	}
	var ge *killswitch.GateError
	if _, err := killswitch.JudgeGates(pod, backends.Shadow, backends.Live, e, killswitch.Bounds{}, nil); !errors.As(err, &ge) || len(ge.Failing()) != 3 {
		t.Errorf("by the defaults: %v", err)
	}
}

func TestBoundsAreChecked(t *testing.T) {
	if err := (killswitch.Bounds{}).Check(); err != nil {
		t.Error(err)
	}
	for want, b := range map[string]killswitch.Bounds{
		"gates.outbox_lag -1s (allowed: 1ms to 10s)":            {OutboxLag: -time.Second},
		"gates.outbox_entries -1 (allowed: 1 to 100000)":        {OutboxEntries: -1},
		"gates.shadow_p99 11s (allowed: 1ms to 10s)":            {ShadowP99: 11 * time.Second},
		"gates.shadow_window 1s (allowed: 1m0s to 2160h0m0s)":   {ShadowWindow: time.Second},
		"gates.findings_window 1s (allowed: 1m0s to 2160h0m0s)": {FindingsWindow: time.Second},
		`gates.readiness "off" (allowed: evidence or go)`:       {Readiness: "off"},
		`gates.off "setup"`:      {Off: []string{"setup"}},
		`gates.off "nonsense"`:   {Off: []string{"nonsense"}},
		`gates.off "debt" twice`: {Off: []string{"debt", "debt"}},
	} {
		var fe *backends.FieldError
		if err := b.Check(); !errors.As(err, &fe) || !strings.Contains(fe.Field+" "+fe.Value+" (allowed: "+fe.Bound+")", want) || fe.Next == "" {
			t.Errorf("%+v: %v; want %s", b, err, want)
		}
	}
}

// Who counts as a proxy of the pod, by what is known of it.
func TestStandings(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	ack := func(proxy string, epoch uint64, age time.Duration) killswitch.Ack {
		return killswitch.Ack{Proxy: proxy, Pod: pod, Epoch: epoch, At: now.Add(-age)}
	}
	acks := []killswitch.Ack{ack("b", 4, 0), ack("a", 3, time.Second), ack("c", 4, 16*time.Second), ack("gone", 2, killswitch.AckGone), ack("ahead", 4, -time.Minute)}
	for _, c := range []struct {
		name       string
		registered []string
		want       string
	}{
		{"known by their word", nil, "2 of 4 at epoch 4: a is at epoch 3, c is silent (for 16s)"},
		{"registered", []string{"b", "new", "gone"}, "1 of 3 at epoch 4: gone is silent (for 1h0m0s), new has acknowledged nothing"},
		{"nobody is registered", []string{}, "0 of 0 at epoch 4"},
	} {
		if got := (killswitch.Proxies{Epoch: 4, Fleet: killswitch.Standings(c.registered, acks, now)}).String(); got != c.want {
			t.Errorf("%s: %s; want %s", c.name, got, c.want)
		}
	}
	behind := killswitch.Proxies{Epoch: 4, Fleet: killswitch.Standings(nil, acks[:2], now)}
	silent := killswitch.Proxies{Epoch: 4, Fleet: killswitch.Standings(nil, acks, now)}
	if !behind.Behind() || silent.Behind() || (killswitch.Proxies{Epoch: 4, Fleet: killswitch.Standings(nil, acks[:1], now)}).Behind() {
		t.Error("who is behind is worth waiting for, who is silent is not")
	}
}

func TestGatesOfMoves(t *testing.T) {
	for _, c := range []struct {
		from, to backends.Stage
		gates    int
	}{
		{backends.Shadow, backends.Live, 13}, {backends.Live, backends.MySQLOnly, 4},
		{backends.RedisOnly, backends.Shadow, 1}, {backends.MySQLOnly, backends.Live, 1},
		{backends.Live, backends.Shadow, 0}, {backends.Shadow, backends.RedisOnly, 0},
	} {
		rs, err := killswitch.JudgeGates(pod, c.from, c.to, fine(context.Background(), 0), killswitch.Bounds{}, nil)
		if err != nil || len(rs) != c.gates {
			t.Errorf("%s to %s: %d gates, %v; want %d", c.from, c.to, len(rs), err, c.gates)
		}
		_, err = killswitch.JudgeGates(pod, c.from, c.to, killswitch.Evidence{}, killswitch.Bounds{}, nil)
		if (err != nil) != (c.gates > 0) {
			t.Errorf("%s to %s on no evidence: %v", c.from, c.to, err)
		}
	}
}

func TestForceIsChecked(t *testing.T) {
	for _, c := range []struct {
		to    backends.Stage
		force []string
		want  string
	}{
		{backends.Live, []string{"no-such"}, "one of proxies, breaker, outbox-lag, outbox-entries, debt, readiness, shadow-p99, findings, bypass, conservation"},
		{backends.Live, []string{"not-lost"}, "cannot be forced"},
		{backends.RedisOnly, []string{"debt"}, "no gate that can be forced"},
		{backends.Live, make([]string, killswitch.MaxForced+1), "at most 16"},
	} {
		_, err := killswitch.JudgeGates(pod, backends.Shadow, c.to, fine(context.Background(), 0), killswitch.Bounds{}, c.force)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("force %q: %v; want %q in it", c.force, err, c.want)
		}
	}
}

// A forced gate is in the history.
func TestForcedGateIsAudited(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Shadow)
		r := request(backends.Live)
		r.Evidence = func(ctx context.Context, need killswitch.Need) killswitch.Evidence {
			e := fine(ctx, need)
			e.Debt = killswitch.Is(int64(3))
			return e
		}
		r.Force = []string{"debt"}
		res, err := w.process().Switch(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := w.control.History(t.Context(), pod, 0, 1)
		if err != nil || len(kept) != 1 {
			t.Fatalf("%+v, %v", kept, err)
		}
		for _, gates := range [][]killswitch.GateResult{res.Change.Gates, kept[0].Gates} {
			if len(gates) != len(killswitch.GatesFor(backends.Shadow, backends.Live)) {
				t.Errorf("%d gates are kept", len(gates))
			}
			for _, g := range gates {
				if mine := g.Name == "debt"; mine != g.Forced || mine && g.Figure != "3" {
					t.Errorf("%+v", g)
				}
			}
		}
		w.settleDown()
	})(t)
}

// only is evidence of the kinds in need, with nothing known of the others.
func only(need killswitch.Need) killswitch.Evidence {
	all := fine(context.Background(), need)
	e := killswitch.Evidence{FindingsWindow: all.FindingsWindow, ShadowWindow: all.ShadowWindow}
	for _, k := range []struct {
		need killswitch.Need
		take func()
	}{
		{killswitch.NeedSetup, func() { e.SetupRedis, e.SetupMySQL = all.SetupRedis, all.SetupMySQL }},
		{killswitch.NeedOutbox, func() { e.OutboxLag, e.OutboxEntries, e.Lost = all.OutboxLag, all.OutboxEntries, all.Lost }},
		{killswitch.NeedDebt, func() { e.Debt = all.Debt }},
		{killswitch.NeedFindings, func() { e.Findings = all.Findings }},
		{killswitch.NeedBreaker, func() { e.BreakerClosed = all.BreakerClosed }},
		{killswitch.NeedBackfill, func() { e.BackfillComplete = all.BackfillComplete }},
		{killswitch.NeedBalance, func() { e.Imbalances = all.Imbalances }},
		{killswitch.NeedProxies, func() { e.Proxies = all.Proxies }},
		{killswitch.NeedReadiness, func() { e.Readiness = all.Readiness }},
		{killswitch.NeedLatency, func() { e.ShadowLatency = all.ShadowLatency }},
		{killswitch.NeedBypass, func() { e.Bypasses = all.Bypasses }},
	} {
		if need.Has(k.need) {
			k.take()
		}
	}
	return e
}

// Each gate passes on the evidence that it names, and on nothing less.
func TestGatesNameTheirEvidence(t *testing.T) {
	b := killswitch.Bounds{}.WithDefaults()
	for _, from := range []backends.Stage{backends.RedisOnly, backends.Shadow, backends.Live, backends.MySQLOnly} {
		for _, to := range []backends.Stage{backends.RedisOnly, backends.Shadow, backends.Live, backends.MySQLOnly} {
			var all killswitch.Need
			for _, g := range killswitch.GatesFor(from, to) {
				all |= g.Needs
				if !g.Judge(only(g.Needs), b).Pass || g.Judge(only(^g.Needs), b).Pass {
					t.Errorf("gate %s of %s to %s does not judge the evidence that it names", g.Name, from, to)
				}
			}
			if got := killswitch.NeedsFor(from, to); got != all {
				t.Errorf("%s to %s: %b, want %b", from, to, got, all)
			}
		}
	}
	if got := killswitch.NeedsFor(backends.RedisOnly, backends.Shadow); got != killswitch.NeedSetup {
		t.Errorf("redis-only to shadow needs %b; nothing is in MySQL yet that could be judged", got)
	}
}
