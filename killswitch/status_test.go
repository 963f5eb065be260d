package killswitch_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

var updateGolden = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *updateGolden {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path) //nolint:gosec // a file of this test
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

var noon = time.Date(2026, 5, 6, 12, 0, 0, 0, time.UTC)

// statuses are pods in every condition that an operator meets.
func statuses() []killswitch.Status {
	ack := func(proxy string, epoch uint64, stage backends.Stage, age time.Duration) killswitch.Ack {
		return killswitch.Ack{Proxy: proxy, Pod: pod, Epoch: epoch, Stage: stage, At: noon.Add(-age)}
	}
	told := func(st killswitch.PodState) killswitch.PodState {
		st.Who, st.Why, st.Since = "ann", "the rollout\nof May", noon.Add(-time.Hour)
		return st
	}
	switching := told(at(open(5, backends.Shadow)))
	switching.Phase, switching.MaxEpoch = killswitch.Switching, 6
	switching.Switch = &killswitch.Switch{
		ID: 6, Kind: killswitch.KindMove, From: backends.Shadow, To: backends.Live, FromEpoch: 5, Epoch: 6, RedisWas: open(5, backends.Shadow),
		Step: 1, Name: "drain outbox of Redis", Lead: killswitch.Lead{Driver: "proxy-1#a1", Beat: 2}, Started: noon, Who: "ann", Why: "the rollout of May",
		Steps: []killswitch.StepDone{{Name: "close Redis, shadow", TookMillis: 3.25}},
	}
	undoing := switching.Clone()
	undoing.Switch.Undo, undoing.Switch.UndoEpoch, undoing.Switch.UndoneAt, undoing.Switch.Step = true, 7, 1, 0
	undoing.Switch.Name, undoing.Switch.Cause = "open Redis, shadow", "12 entries are still in the outbox of redis"
	undone := told(at(open(7, backends.Shadow)))
	undone.History = []killswitch.Change{{Seq: 1, Kind: killswitch.KindMove, Outcome: killswitch.Undone, From: backends.Shadow, To: backends.Live, Cause: "12 entries are still in the outbox of redis"}}
	full := told(at(filling(5)))
	full.Phase, full.Due = killswitch.Filling, []killswitch.Work{killswitch.WorkBackfill, killswitch.WorkFill}
	killed := told(at(open(5, backends.Live)))
	build := func(name backends.Pod, st killswitch.PodState, r, m killswitch.View, controlErr error, acks ...killswitch.Ack) killswitch.Status {
		return killswitch.BuildStatus(name, killswitch.Seen{State: st, Redis: r, MySQL: m}, controlErr, killswitch.Fleet{Acks: acks}, noon)
	}
	live := told(at(open(5, backends.Live)))
	return []killswitch.Status{
		build("well", live, saw(live.Fence()), saw(live.Fence()), nil, ack("proxy-1", 5, backends.Live, time.Second), ack("proxy-2", 5, backends.Live, 4*time.Second)),
		build("behind", live, saw(live.Fence()), saw(live.Fence()), nil, ack("proxy-1", 4, backends.Shadow, time.Second), ack("proxy-2", 5, backends.Live, time.Minute)),
		build("switching", switching, saw(shut(open(6, backends.Shadow))), saw(open(5, backends.Shadow)), nil, ack("proxy-1", 5, backends.Shadow, 0)),
		build("undoing", undoing, saw(shut(open(6, backends.Shadow))), saw(open(5, backends.Shadow)), nil),
		build("undone", undone, saw(undone.Fence()), saw(undone.Fence()), nil),
		build("filling", full, saw(filling(5)), saw(filling(5)), nil),
		build("killed, not recorded", killed, saw(open(6, backends.Shadow)), away, nil),
		build("no control store", killswitch.PodState{}, saw(live.Fence()), saw(live.Fence()), errors.New("permission denied")),
		build("Redis lost its data", live, saw(backends.Fence{}), saw(live.Fence()), nil),
		build("never set up", killswitch.PodState{}, saw(backends.Fence{}), saw(backends.Fence{}), nil),
	}
}

func TestRenderPods(t *testing.T) {
	var b bytes.Buffer
	if err := killswitch.RenderPods(&b, statuses()); err != nil {
		t.Fatal(err)
	}
	golden(t, "pods.txt", b.Bytes())
	b.Reset()
	if err := killswitch.RenderPods(&b, nil); err != nil || b.String() != "no pods\n" {
		t.Errorf("no pods: %q, %v", b.String(), err)
	}
}

func TestRenderStatus(t *testing.T) {
	var b bytes.Buffer
	for _, s := range statuses() {
		if err := killswitch.RenderStatus(&b, s); err != nil {
			t.Fatal(err)
		}
		b.WriteString("\n----\n\n")
	}
	golden(t, "status.txt", b.Bytes())
}

func TestStatusJSON(t *testing.T) {
	ss := statuses()
	b, err := json.MarshalIndent(ss, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "status.json", append(b, '\n'))
	var back []killswitch.Status
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(ss, back); d != "" {
		t.Errorf("a status does not survive its JSON (-was +is):\n%s", d)
	}
}

func TestRenderResults(t *testing.T) {
	gates := []killswitch.GateResult{
		{Name: "debt", Pass: true, Figure: "0", Bound: "at most 0"}, {Name: "findings", Figure: "2", Bound: "0 open confirmed findings in 24h0m0s", Forced: true},
		{Name: "breaker", Figure: "no", Bound: "breaker of the shadow closed"},
	}
	done := []killswitch.StepDone{{Name: "close Redis, shadow", TookMillis: 2.5}, {Name: "open MySQL, live", TookMillis: 4, Note: "a note"}}
	change := killswitch.Change{Kind: killswitch.KindMove, Outcome: killswitch.Done, From: backends.Shadow, To: backends.Live, FromEpoch: 5, Epoch: 6, Gates: gates, Steps: done}
	undone := change
	undone.Outcome, undone.Cause, undone.Gates = killswitch.Undone, "12 entries are still in the outbox of redis", nil
	planned := change
	planned.Steps = nil
	planned.Gates = append(slices.Clone(gates), killswitch.GateResult{Name: "readiness", Figure: "short of 2 of 8 kinds: plentiful wants 29956 more; load (1 of a peak of 9 a minute)", Bound: "evidence enough", Off: true})
	forceable := change
	forceable.Steps, forceable.Gates = nil, []killswitch.GateResult{{Name: "findings", Figure: "2", Bound: "none"}, {Name: "proxies", Figure: "1 of 2", Bound: "all"}}
	firm := forceable
	firm.Gates = append(slices.Clone(forceable.Gates), killswitch.GateResult{Name: "not-lost", Figure: "no", Bound: "nothing dropped"})
	plan := []killswitch.Planned{{Name: "close Redis, shadow", Means: "Redis decides nothing any more"}, {Name: "drain outbox of Redis", Means: "what was decided reaches MySQL"}}
	var b bytes.Buffer
	for _, r := range []killswitch.Result{
		{Pod: "p", Change: change, Stage: backends.Live, Epoch: 6, Phase: killswitch.Serving, TookMillis: 20.125, HeldMillis: 20.125},
		{Pod: "p", Change: undone, Stage: backends.Shadow, Epoch: 7, Phase: killswitch.Serving, TookMillis: 2000.5, HeldMillis: 2000.5},
		{Pod: "p", Change: planned, DryRun: true, Plan: plan},
		{Pod: "p", Change: forceable, Refused: "so"},
		{Pod: "p", Change: firm, Refused: "so"},
		{Pod: "p", Change: killswitch.Change{Outcome: killswitch.Done, From: backends.RedisOnly, To: backends.Shadow, Steps: done}, Stage: backends.Shadow, Epoch: 3, Phase: killswitch.Serving, Left: []killswitch.Work{killswitch.WorkBackfill}},
	} {
		if err := killswitch.RenderResult(&b, r); err != nil {
			t.Fatal(err)
		}
		b.WriteString("\n")
	}
	for _, r := range []killswitch.KillResult{
		{Pod: "p", Verdict: killswitch.KillGo, From: open(5, backends.Live), To: open(6, backends.Shadow), Steps: done, Recorded: true, Left: []killswitch.Work{killswitch.WorkRaiseMySQL, killswitch.WorkSettle}},
		{Pod: "p", Verdict: killswitch.KillGo, From: shut(open(5, backends.Shadow)), To: open(6, backends.Shadow), NotRecorded: "permission denied", Left: []killswitch.Work{killswitch.WorkRaiseMySQL}},
		{Pod: "p", Verdict: killswitch.KillGo, From: open(5, backends.Live), To: open(6, backends.Shadow), DryRun: true},
		{Pod: "p", Verdict: killswitch.KillNothing, From: open(5, backends.RedisOnly)},
		{Pod: "p", Verdict: killswitch.KillAlready, From: open(6, backends.Shadow), Already: &killswitch.Change{Kind: killswitch.KindKill, Outcome: killswitch.Done, At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), From: backends.Live, To: backends.Shadow, Epoch: 6, Who: "ann", Why: "MySQL is slow"}},
		{Pod: "p", Verdict: killswitch.KillAlready, From: open(6, backends.Shadow)},
		{Pod: "p", Verdict: killswitch.KillRefused, From: open(5, backends.MySQLOnly)},
	} {
		if err := killswitch.RenderKill(&b, r); err != nil {
			t.Fatal(err)
		}
		b.WriteString("\n")
	}
	golden(t, "results.txt", b.Bytes())
}

// What people have typed cannot break a table or move a terminal's cursor.
func TestRenderIsOneLinePerCell(t *testing.T) {
	s := statuses()[0]
	s.Why = "a\nb\x1b[2Jc\td\u009be"
	var b bytes.Buffer
	if err := killswitch.RenderStatus(&b, s); err != nil {
		t.Fatal(err)
	}
	if out := b.String(); strings.ContainsAny(out, "\x1b\u009b") || !strings.Contains(out, "a b [2Jc d e") {
		t.Errorf("%q", out)
	}
}

// The status of a running pod, by the driver, also when things are away.
func TestDriverStatus(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		p := w.process()
		if err := w.control.Acknowledge(t.Context(), killswitch.Ack{Proxy: "x", Pod: pod, Epoch: 2, Stage: backends.Live, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		s, err := p.Status(t.Context(), pod)
		if err != nil || !s.Serving || len(s.Notes) != 0 || len(s.Proxies) != 1 || !s.Proxies[0].Current {
			t.Errorf("%+v, %v", s, err)
		}
		p.noControl = true
		p.down[backends.SideMySQL] = true
		s, err = p.Status(t.Context(), pod)
		if err != nil || len(s.Notes) != 2 || s.Redis.Fence != open(2, backends.Live) {
			t.Errorf("%+v, %v", s, err)
		}
	})(t)
}

func TestNamesSurviveTheirText(t *testing.T) {
	type words struct {
		P killswitch.Phase
		K killswitch.Kind
		O killswitch.Outcome
		W killswitch.Work
		V killswitch.Verdict
	}
	for i := range uint8(8) {
		in := words{killswitch.Phase(i % 4), killswitch.Kind(i % 7), killswitch.Outcome(i % 4), killswitch.Work(i), killswitch.Verdict(i % 4)}
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out words
		if err := json.Unmarshal(b, &out); err != nil || out != in {
			t.Errorf("%s came back as %+v, %v", b, out, err)
		}
	}
	var p killswitch.Phase
	if err := p.UnmarshalText([]byte("no such phase")); err == nil {
		t.Error("a phase that does not exist was read")
	}
	if got := killswitch.Phase(99).String(); got != "unknown" {
		t.Errorf("%q", got)
	}
}

// A stage is served when all who are heard of say so, and nothing stands between.
func TestServes(t *testing.T) {
	ack := func(epoch uint64, stage backends.Stage, silent bool) killswitch.ProxyStatus {
		return killswitch.ProxyStatus{Ack: killswitch.Ack{Proxy: "a", Epoch: epoch, Stage: stage}, Current: epoch == 5, Silent: silent}
	}
	base := killswitch.Status{Pod: "p", Actual: open(5, backends.Live), Serving: true, Proxies: []killswitch.ProxyStatus{ack(5, backends.Live, false)}}
	for _, c := range []struct {
		want  string
		spoil func(*killswitch.Status)
	}{
		{"", func(*killswitch.Status) {}},
		{"", func(s *killswitch.Status) { s.Proxies = append(s.Proxies, ack(4, backends.Shadow, true)) }},
		{"1 of 2 proxies have not acknowledged epoch 5", func(s *killswitch.Status) { s.Proxies = append(s.Proxies, ack(4, backends.Shadow, false)) }},
		{"no proxy has acknowledged it", func(s *killswitch.Status) { s.Proxies[0].Silent = true }},
		{"no decision can be acknowledged", func(s *killswitch.Status) { s.Serving = false }},
		{"it is in shadow, epoch 6", func(s *killswitch.Status) { s.Actual = open(6, backends.Shadow) }},
		{`a switch to shadow is at "close MySQL, live"`, func(s *killswitch.Status) {
			s.Switch = &killswitch.Switch{To: backends.Shadow, Name: "close MySQL, live"}
		}},
	} {
		s := base
		s.Proxies = slices.Clone(base.Proxies)
		c.spoil(&s)
		if missing, ok := s.Serves(backends.Live); missing != c.want || ok != (c.want == "") {
			t.Errorf("%q, %v; want %q", missing, ok, c.want)
		}
	}
}
