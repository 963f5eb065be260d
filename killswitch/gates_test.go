package killswitch_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Each gate fails once, for the right reason, with its figure and its bound.
func TestEachGateFailsOnce(t *testing.T) {
	for _, c := range []struct {
		gate   string
		spoil  func(*killswitch.Evidence)
		figure string
		bound  string
		firm   bool
	}{
		{"findings", func(e *killswitch.Evidence) { e.Findings = killswitch.Is(int64(2)) }, "2", "0 open confirmed findings in 1h0m0s", false},
		{"debt", func(e *killswitch.Evidence) { e.Debt = killswitch.Is(int64(7)) }, "7", "at most 0", false},
		{"outbox-lag", func(e *killswitch.Evidence) { e.OutboxLag = killswitch.Is(1500 * time.Millisecond) }, "1.5s", "at most 1s", false},
		{"outbox-entries", func(e *killswitch.Evidence) { e.OutboxEntries = killswitch.Is(int64(2001)) }, "2001", "at most 2000", false},
		{"not-lost", func(e *killswitch.Evidence) { e.Lost = killswitch.Is(true) }, "no", "the outbox has dropped nothing since the last backfill", true},
		{"backfill", func(e *killswitch.Evidence) { e.BackfillComplete = killswitch.Is(false) }, "no", "backfill complete", true},
		{"breaker", func(e *killswitch.Evidence) { e.BreakerClosed = killswitch.Is(false) }, "no", "breaker of the shadow closed", false},
		{"conservation", func(e *killswitch.Evidence) { e.Imbalances = killswitch.Is(int64(1)) }, "1", "at most 0", false},
		{"setup", func(e *killswitch.Evidence) { e.SetupMySQL = killswitch.Is("the schema is of version 9") }, "the schema is of version 9", "both servers fit for use", true},
		{"setup", func(e *killswitch.Evidence) { e.SetupRedis = killswitch.Figure[string]{} }, "unknown", "both servers fit for use", true},
		{"debt", func(e *killswitch.Evidence) { e.Debt = killswitch.Figure[int64]{} }, "unknown", "at most 0", false},
		{"not-lost", func(e *killswitch.Evidence) { e.Lost = killswitch.Figure[bool]{} }, "unknown", "the outbox has dropped nothing since the last backfill", true},
	} {
		t.Run(c.gate+" "+c.figure, func(t *testing.T) {
			e := fine(context.Background(), 0)
			c.spoil(&e)
			_, err := killswitch.JudgeGates(pod, backends.Shadow, backends.Live, e, nil)
			var ge *killswitch.GateError
			if !errors.As(err, &ge) || len(ge.Failing()) != 1 {
				t.Fatalf("%v; want one gate to fail", err)
			}
			if g := ge.Failing()[0]; g.Name != c.gate || g.Figure != c.figure || g.Bound != c.bound {
				t.Errorf("%+v", g)
			}
			if !strings.Contains(err.Error(), c.gate+": "+c.figure) {
				t.Errorf("%v", err)
			}
			results, err := killswitch.JudgeGates(pod, backends.Shadow, backends.Live, e, []string{c.gate})
			var fe *backends.FieldError
			switch {
			case c.firm && !errors.As(err, &fe):
				t.Errorf("a firm gate was forced: %v", err)
			case !c.firm && err != nil:
				t.Errorf("forced: %v", err)
			case !c.firm:
				forced := 0
				for _, r := range results {
					if r.Forced {
						forced++
					}
				}
				if forced != 1 {
					t.Errorf("%d gates are recorded as forced", forced)
				}
			}
		})
	}
}

func TestGatesOfMoves(t *testing.T) {
	for _, c := range []struct {
		from, to backends.Stage
		gates    int
	}{
		{backends.Shadow, backends.Live, 9}, {backends.Live, backends.MySQLOnly, 2},
		{backends.RedisOnly, backends.Shadow, 1}, {backends.MySQLOnly, backends.Live, 1},
		{backends.Live, backends.Shadow, 0}, {backends.Shadow, backends.RedisOnly, 0},
	} {
		rs, err := killswitch.JudgeGates(pod, c.from, c.to, fine(context.Background(), 0), nil)
		if err != nil || len(rs) != c.gates {
			t.Errorf("%s to %s: %d gates, %v; want %d", c.from, c.to, len(rs), err, c.gates)
		}
		_, err = killswitch.JudgeGates(pod, c.from, c.to, killswitch.Evidence{}, nil)
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
		{backends.Live, []string{"no-such"}, "one of breaker, outbox-lag, outbox-entries, debt, findings, conservation"},
		{backends.Live, []string{"not-lost"}, "cannot be forced"},
		{backends.RedisOnly, []string{"debt"}, "no gate that can be forced"},
		{backends.Live, make([]string, killswitch.MaxForced+1), "at most 16"},
	} {
		_, err := killswitch.JudgeGates(pod, backends.Shadow, c.to, fine(context.Background(), 0), c.force)
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
		for _, g := range res.Change.Gates {
			if (g.Name == "debt") != g.Forced {
				t.Errorf("%+v", g)
			}
		}
		w.settleDown()
	})(t)
}

// only is evidence of the kinds in need, with nothing known of the others.
func only(need killswitch.Need) killswitch.Evidence {
	all := fine(context.Background(), need)
	e := killswitch.Evidence{FindingsWindow: all.FindingsWindow}
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
	} {
		if need.Has(k.need) {
			k.take()
		}
	}
	return e
}

// Each gate passes on the evidence that it names, and on nothing less.
func TestGatesNameTheirEvidence(t *testing.T) {
	for _, from := range []backends.Stage{backends.RedisOnly, backends.Shadow, backends.Live, backends.MySQLOnly} {
		for _, to := range []backends.Stage{backends.RedisOnly, backends.Shadow, backends.Live, backends.MySQLOnly} {
			var all killswitch.Need
			for _, g := range killswitch.GatesFor(from, to) {
				all |= g.Needs
				if !g.Judge(only(g.Needs)).Pass || g.Judge(only(^g.Needs)).Pass {
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
