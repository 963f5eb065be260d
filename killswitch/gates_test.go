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
			e := fine(context.Background())
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
		rs, err := killswitch.JudgeGates(pod, c.from, c.to, fine(context.Background()), nil)
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
		_, err := killswitch.JudgeGates(pod, backends.Shadow, c.to, fine(context.Background()), c.force)
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
		r.Evidence = func(ctx context.Context) killswitch.Evidence {
			e := fine(ctx)
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
