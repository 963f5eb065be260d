package killswitch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

var allStages = []backends.Stage{backends.RedisOnly, backends.Shadow, backends.Live, backends.MySQLOnly}

// fine is evidence on which every gate passes.
func fine(context.Context, killswitch.Need) killswitch.Evidence {
	return killswitch.Evidence{
		OutboxLag: killswitch.Is(time.Duration(0)), OutboxEntries: killswitch.Is(int64(0)), Lost: killswitch.Is(false),
		Debt: killswitch.Is(int64(0)), Findings: killswitch.Is(int64(0)), FindingsWindow: time.Hour,
		BreakerClosed: killswitch.Is(true), BackfillComplete: killswitch.Is(true),
		SetupRedis: killswitch.Is(""), SetupMySQL: killswitch.Is(""), Imbalances: killswitch.Is(int64(0)),
		Proxies:   killswitch.Is(killswitch.Proxies{Epoch: 2, Fleet: []killswitch.Standing{{Proxy: "proxy-1", Epoch: 2}}}),
		Readiness: killswitch.Is(killswitch.Readiness{Ready: true, Kinds: 8}), ShadowWindow: time.Hour,
		ShadowLatency: killswitch.Is(killswitch.Latency{P99: 12 * time.Millisecond, Decisions: 431}), Bypasses: killswitch.Is(int64(0)),
	}
}

func request(to backends.Stage) killswitch.SwitchRequest {
	return killswitch.SwitchRequest{Pod: pod, To: to, Who: "ann", Why: "a test", Evidence: fine}
}

// move is a way to go, from a pod at rest.
type move struct {
	from, to backends.Stage
	// fill: the pod came to live from mysql-only and is still filling (from), or the move is the
	// completion of that (to live).
	filling bool
}

func (m move) String() string {
	s := fmt.Sprintf("%s to %s", m.from, m.to)
	if m.filling {
		s += " (filling)"
	}
	return s
}

var moves = []move{
	{backends.Shadow, backends.Live, false},
	{backends.RedisOnly, backends.Shadow, false},
	{backends.Shadow, backends.RedisOnly, false},
	{backends.Live, backends.Shadow, false},
	{backends.Live, backends.MySQLOnly, false},
	{backends.MySQLOnly, backends.Live, false},
	{backends.Live, backends.MySQLOnly, true},
	{backends.Live, backends.Live, true},
}

// prepare brings a world to where the move starts, with entries in the outbox.
func (m move) prepare(t testing.TB, w *world) {
	t.Helper()
	if !m.filling {
		w.begin(t, m.from)
	} else {
		w.begin(t, backends.MySQLOnly)
		p := w.process()
		w.reserve(w.state().Fence(), nil)
		if _, err := p.Switch(t.Context(), request(backends.Live)); err != nil {
			t.Fatal(err)
		}
		if m.to == backends.Live { // all but the completion
			if done, err := p.Work(t.Context(), pod, nil); err != nil || len(done) != 1 {
				t.Fatalf("%v, %v", done, err)
			}
		}
	}
	for range 3 {
		w.reserve(w.state().Fence(), nil)
	}
}

// start begins the move, without taking its steps.
func (m move) start(ctx context.Context, p *process) error {
	if m.from == m.to {
		_, err := p.Work(ctx, pod, nil)
		return err
	}
	_, err := p.Switch(ctx, request(m.to))
	return err
}

func TestMoves(t *testing.T) {
	steps := map[string]string{
		"shadow to live":               "close Redis, shadow; drain outbox of Redis; open Redis, live; open MySQL, live",
		"redis-only to shadow":         "open MySQL, shadow; open Redis, shadow",
		"shadow to redis-only":         "open Redis, redis-only; open MySQL, redis-only",
		"live to shadow":               "close MySQL, live; drain outbox of MySQL; open MySQL, shadow; open Redis, shadow",
		"live to mysql-only":           "open Redis, mysql-only; open MySQL, mysql-only; serve mysql-only",
		"mysql-only to live":           "open Redis, live (filling); open MySQL, live (filling)",
		"live to mysql-only (filling)": "open MySQL, mysql-only; open Redis, mysql-only; serve mysql-only",
		"live to live (filling)":       "close MySQL, live; drain outbox of MySQL; open Redis, live; open MySQL, live",
	}
	for _, m := range moves {
		t.Run(m.String(), virtually(func(t *testing.T) {
			w := newWorld(t)
			m.prepare(t, w)
			before := w.state()
			if err := m.start(t.Context(), w.process()); err != nil {
				t.Fatal(err)
			}
			st := w.state()
			wantPhase := killswitch.Serving
			if m.from == backends.MySQLOnly {
				wantPhase = killswitch.Filling
			}
			if st.Stage != m.to || st.Phase != wantPhase || st.Epoch <= before.Epoch {
				t.Errorf("from %s to %s, phase %s", before.Fence(), st.Fence(), st.Phase)
			}
			last := st.History[len(st.History)-1]
			var names []string
			for _, s := range last.Steps {
				names = append(names, s.Name)
			}
			if got := strings.Join(names, "; "); got != steps[m.String()] {
				t.Errorf("steps %q, want %q", got, steps[m.String()])
			}
			if last.Outcome != killswitch.Done || last.FromEpoch != before.Epoch || last.Epoch != st.Epoch {
				t.Errorf("history: %+v", last)
			}
			w.reserve(st.Fence(), nil)
			w.settleDown()
			if got := w.state(); got.Stage != m.to {
				t.Errorf("at rest in %s", got.Stage)
			}
		}))
	}
}

func TestMovesMustBeOneStep(t *testing.T) {
	virtually(func(t *testing.T) {
		for _, from := range allStages {
			for _, to := range append(allStages, backends.StageUnknown, 99) {
				diff := int(to) - int(from)
				legal := to != backends.StageUnknown && to <= backends.MySQLOnly && (diff == 1 || diff == -1)
				err := killswitch.CheckMove(killswitch.PodState{Pod: pod, Stage: from, Filled: true}, to)
				var fe *backends.FieldError
				if (err == nil) != legal || err != nil && !errors.As(err, &fe) {
					t.Errorf("%s to %s: %v", from, to, err)
				}
			}
		}
		for _, c := range []struct {
			from   backends.Stage
			filled bool
			to     backends.Stage
			want   string
		}{
			{backends.RedisOnly, false, backends.Live, "go to shadow first: 'crossfade stage pod shadow"},
			{backends.RedisOnly, false, backends.MySQLOnly, "go to shadow first"},
			{backends.MySQLOnly, false, backends.RedisOnly, "go to live first"},
			{backends.Live, true, backends.RedisOnly, "go to shadow first"},
			{backends.Live, false, backends.Shadow, "crossfade stage pod mysql-only"},
			{backends.Live, false, backends.Live, "nothing is to be done"},
			{backends.StageUnknown, false, backends.Live, "present stage is known"},
		} {
			err := killswitch.CheckMove(killswitch.PodState{Pod: pod, Stage: c.from, Filled: c.filled}, c.to)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s to %s: %v, want %q in it", c.from, c.to, err, c.want)
			}
		}
	})(t)
}

func TestDrainThatDoesNotEndIsUndone(t *testing.T) {
	for _, m := range []move{{backends.Shadow, backends.Live, false}, {backends.Live, backends.Shadow, false}} {
		t.Run(m.String(), virtually(func(t *testing.T) {
			w := newWorld(t)
			m.prepare(t, w)
			before := w.state()
			p := w.process()
			p.carrier.stuck = true
			start := time.Now()
			res, err := p.Switch(t.Context(), request(m.to))
			var nd *killswitch.NotDoneError
			if !errors.As(err, &nd) || !strings.Contains(err.Error(), "stays in "+m.from.String()) {
				t.Fatalf("%v; want a NotDoneError", err)
			}
			if took := time.Since(start); took < killswitch.DefaultHold || took > killswitch.DefaultHold+time.Second {
				t.Errorf("callers were held for %s, the bound is %s", took, killswitch.DefaultHold)
			}
			st := w.state()
			if res.Change.Outcome != killswitch.Undone || st.Stage != m.from || st.Epoch != before.Epoch+2 || st.Switch != nil {
				t.Errorf("%+v", st)
			}
			w.reserve(st.Fence(), nil)
			if n := len(w.acked); n != 4 {
				t.Errorf("%d holds are acknowledged, want that of after the undo too", n)
			}
			w.settleDown()
		}))
	}
}

func TestFillThatDoesNotDrainLeavesMySQLServing(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		move{backends.Live, backends.Live, true}.prepare(t, w)
		p := w.process()
		p.carrier.stuck = true
		if _, err := p.Work(t.Context(), pod, nil); err == nil {
			t.Fatal("a fill that did not drain was completed")
		}
		st := w.state()
		if st.Phase != killswitch.Filling || st.Filled {
			t.Fatalf("%+v", st)
		}
		w.reserve(st.Fence(), nil)
		if len(w.acked) != 5 {
			t.Errorf("%d holds are acknowledged, want 5", len(w.acked))
		}
		w.settleDown()
		if st := w.state(); !st.Filled {
			t.Errorf("at rest it is not filled: %+v", st)
		}
	})(t)
}

// Redis dies while MySQL is closed for the completion of filling: MySQL must not stay closed.
func TestRedisDiesWhileFilling(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		move{backends.Live, backends.Live, true}.prepare(t, w)
		p := w.process()
		p.carrier.atDrain = func() { p.down[backends.SideRedis] = true }
		var nd *killswitch.NotDoneError
		if _, err := p.Work(t.Context(), pod, nil); !errors.As(err, &nd) {
			t.Fatalf("%v, want a NotDoneError", err)
		}
		st := w.state()
		if st.Phase != killswitch.Filling || st.Switch != nil {
			t.Fatalf("%+v", st)
		}
		w.reserve(st.Fence(), nil)
		if len(w.acked) != 5 {
			t.Errorf("%d holds are acknowledged, want 5: unfilled live does not wait for Redis", len(w.acked))
		}
		w.settleDown()
	})(t)
}

// Redis is away for good while the pod is filling: the way back to mysql-only does not need it.
func TestWayBackFromFillingWithoutRedis(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		move{backends.Live, backends.MySQLOnly, true}.prepare(t, w)
		p := w.process()
		p.down[backends.SideRedis] = true
		res, err := p.Switch(t.Context(), request(backends.MySQLOnly))
		if err != nil || res.Stage != backends.MySQLOnly {
			t.Fatalf("%+v, %v", res, err)
		}
		if !strings.Contains(res.Change.Steps[1].Note, "left for later") {
			t.Errorf("steps: %+v", res.Change.Steps)
		}
		w.reserve(w.state().Fence(), nil)
		w.settleDown()
	})(t)
}

// live to mysql-only without Redis is refused before anything is touched: a kill would have been
// possible behind its back (P1).
func TestMySQLOnlyNeedsRedis(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		r, m := w.fences()
		p := w.process()
		p.down[backends.SideRedis] = true
		if _, err := p.Switch(t.Context(), request(backends.MySQLOnly)); !errors.Is(err, backends.ErrUnavailable) {
			t.Fatalf("%v, want a refusal", err)
		}
		if r2, m2 := w.fences(); r2 != r || m2 != m || w.state().Switch != nil {
			t.Errorf("something was touched: %s, %s, %+v", r2, m2, w.state().Switch)
		}
	})(t)
}

// A switch whose first step finds the store gone has touched nothing, and is cancelled.
func TestCancelledBeforeAnythingIsTouched(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.RedisOnly)
		p := w.process()
		run, err := p.Begin(t.Context(), request(backends.Shadow))
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		p.down[backends.SideMySQL] = true
		done, err := run.Next(t.Context())
		st := run.State()
		if !done || err != nil || st.Switch != nil || st.Phase != killswitch.Serving || st.Epoch != 2 || st.MaxEpoch != 3 {
			t.Fatalf("%t, %v, %+v", done, err, st)
		}
		if c := st.History[0]; c.Outcome != killswitch.Cancelled || !strings.Contains(c.Cause, "down") {
			t.Errorf("history: %+v", c)
		}
	})(t)
}

// The control store goes away while Redis is closed in the middle of a switch to live: serving must
// not stop for longer than the bounds.
func TestControlStoreLostInTheMiddle(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		move{backends.Shadow, backends.Live, false}.prepare(t, w)
		p := w.process()
		p.carrier.atDrain = func() { p.noControl = true }
		start := time.Now()
		if _, err := p.Switch(t.Context(), request(backends.Live)); !errors.Is(err, killswitch.ErrControlUnavailable) {
			t.Fatalf("%v, want ErrControlUnavailable", err)
		}
		if took := time.Since(start); took > killswitch.DefaultHold+killswitch.DefaultFinish {
			t.Errorf("it took %s", took)
		}
		r, _ := w.fences()
		if !r.Open || r.Stage != backends.Shadow {
			t.Fatalf("Redis's fence is at %s", r)
		}
		w.reserve(r, nil)
		if len(w.acked) != 4 {
			t.Errorf("%d holds are acknowledged, want 4", len(w.acked))
		}
		w.settleDown()
	})(t)
}

// MySQL's fence turns out to be ahead of a switch that cannot be undone any more: the switch is given up
// to what the fences say, and they are realigned.
func TestMySQLAheadOfTheSwitch(t *testing.T) {
	virtually(func(t *testing.T) {
		for at := range 3 { // the raises of this move
			w := newWorld(t)
			move{backends.Live, backends.Shadow, false}.prepare(t, w)
			p := w.process()
			n := 0
			p.atRaise = func() {
				if n++; n == at+1 {
					_, _ = w.mysql.Raise(t.Context(), backends.Fence{Epoch: 50, Stage: backends.Shadow, Open: true}, 0)
				}
			}
			start := time.Now()
			_, err := p.Switch(t.Context(), request(backends.Shadow))
			var stuck *killswitch.StuckError
			if errors.As(err, &stuck) || time.Since(start) > killswitch.DefaultHold {
				t.Errorf("raise %d: %v after %s", at, err, time.Since(start))
			}
			w.settleDown()
			if st := w.state(); st.Epoch <= 50 {
				t.Errorf("raise %d: at rest at epoch %d", at, st.Epoch)
			}
		}
	})(t)
}

func TestDryRunTouchesNothing(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Shadow)
		before, rev, _ := w.control.Get(t.Context(), pod)
		r := request(backends.Live)
		r.DryRun = true
		res, err := w.process().Switch(t.Context(), r)
		if err != nil || !res.DryRun || len(res.Plan) != 5 || len(res.Change.Gates) == 0 || res.Change.Epoch != 3 {
			t.Fatalf("%+v, %v", res, err)
		}
		if _, now, _ := w.control.Get(t.Context(), pod); now != rev {
			t.Errorf("the record was changed: %+v", before)
		}
	})(t)
}

func TestSwitchRefusals(t *testing.T) {
	for _, c := range []struct {
		name  string
		setUp func(*world, *process, *killswitch.SwitchRequest)
		want  string
	}{
		{"two stages at once", func(_ *world, _ *process, r *killswitch.SwitchRequest) { r.To = backends.MySQLOnly }, "go to live first"},
		{"no reason", func(_ *world, _ *process, r *killswitch.SwitchRequest) { r.Why = "" }, "why is 0 bytes long"},
		{"nobody", func(_ *world, _ *process, r *killswitch.SwitchRequest) { r.Who = "" }, "who is 0 bytes long"},
		{"no evidence", func(_ *world, _ *process, r *killswitch.SwitchRequest) { r.Evidence = nil }, "setup: unknown"},
		{"MySQL is behind", func(w *world, _ *process, _ *killswitch.SwitchRequest) {
			ctx := context.Background()
			st := w.state()
			st.Epoch, st.MaxEpoch = 3, 3
			_, _ = w.redis.Raise(ctx, st.Fence(), 0)
			_, _ = w.control.CompareAndSet(ctx, pod, 1, st)
		}, "MySQL is not complete yet (raise MySQL's fence)"},
		{"MySQL has not been backfilled", func(w *world, _ *process, _ *killswitch.SwitchRequest) {
			st := w.state()
			st.Due = []killswitch.Work{killswitch.WorkBackfill}
			_, _ = w.control.CompareAndSet(context.Background(), pod, 1, st)
		}, "MySQL is not complete yet (backfill)"},
		{"MySQL is away", func(_ *world, p *process, _ *killswitch.SwitchRequest) { p.down[backends.SideMySQL] = true }, "needs it"},
		{"a switch is open", func(w *world, _ *process, _ *killswitch.SwitchRequest) {
			_, _ = w.process().Begin(context.Background(), request(backends.RedisOnly))
		}, "a switch from shadow to redis-only by ann is open"},
		{"no control store", func(_ *world, p *process, _ *killswitch.SwitchRequest) { p.noControl = true }, "control store is unavailable"},
	} {
		t.Run(c.name, virtually(func(t *testing.T) {
			w := newWorld(t)
			w.begin(t, backends.Shadow)
			p, r := w.process(), request(backends.Live)
			c.setUp(w, p, &r)
			r0, m0 := w.fences()
			_, err := p.Switch(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q in it", err, c.want)
			}
			if r1, m1 := w.fences(); r1 != r0 || m1 != m0 {
				t.Errorf("a fence was touched: %s, %s", r1, m1)
			}
		}))
	}
}

// An outbox that has dropped entries is never taken for an empty one.
func TestLostOutboxIsNotDrained(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.redis = newLossy(backends.SideRedis)
		w.begin(t, backends.Shadow)
		for range 3 {
			w.reserve(w.state().Fence(), nil)
		}
		p := w.process()
		if _, err := p.Switch(t.Context(), request(backends.Live)); err == nil || !strings.Contains(err.Error(), "has dropped 2 entries") {
			t.Fatalf("%v", err)
		}
		if st := w.state(); st.Switch != nil || st.Stage != backends.Shadow {
			t.Errorf("%+v", st)
		}
	})(t)
}

func TestBoundsOfTheRecord(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.RedisOnly)
		p := w.process()
		long := strings.Repeat("x", killswitch.MaxText)
		for range killswitch.MaxHistory {
			for _, to := range []backends.Stage{backends.Shadow, backends.RedisOnly} {
				r := request(to)
				r.Why = long
				if _, err := p.Switch(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
		}
		st := w.state()
		if len(st.History) != killswitch.MaxHistory {
			t.Errorf("%d changes in the record", len(st.History))
		}
		full, err := w.control.History(t.Context(), pod, 0, killswitch.MaxHistoryPage)
		if err != nil || len(full) != 2*killswitch.MaxHistory {
			t.Errorf("%d changes in the full history, %v", len(full), err)
		}
		r := request(backends.Shadow)
		r.Why = long + "x"
		if _, err := p.Switch(t.Context(), r); err == nil {
			t.Error("an over-long reason was taken")
		}
	})(t)
}
