package rollout_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/rollout"
)

// TestWaves: pod by pod in the order, and no pod of a wave before the one before has soaked.
func TestWaves(t *testing.T) {
	r := newRig(t, 8, 1)
	s := r.start(rollout.Request{To: backends.Live, Waves: "1,25%", Soak: 10 * time.Second, Order: rollout.ByTraffic})
	if s.Waves != 3 || len(s.Pods) != 8 || !slices.IsSortedFunc(s.Pods, func(a, b rollout.Pod) int { return int(a.Traffic - b.Traffic) }) {
		t.Fatalf("%+v", s)
	}
	want := s.Names()
	for wave, upTo := range []int{1, 3, 8} {
		r.rounds(upTo - len(r.moves()))
		if got := r.moves(); !slices.Equal(got, want[:upTo]) {
			t.Fatalf("wave %d: moved %v, want %v", wave+1, got, want[:upTo])
		}
		if s := r.state(); s.Wave != wave+1 || s.SoakedMillis != 0 || s.Moved() != upTo {
			t.Fatalf("wave %d: %+v", wave+1, s)
		}
		r.rounds(10)
		if s := r.state(); s.SoakedMillis != 9000 || len(r.moves()) != upTo {
			t.Fatalf("wave %d, ten beats on: soaked %d ms, %d moved", wave+1, s.SoakedMillis, len(r.moves()))
		}
		r.rounds(2) // the tenth second, and the next wave
	}
	if s := r.state(); s.Phase != rollout.Completed || s.Ended.IsZero() || len(s.Back()) != 8 || !strings.Contains(s.Back()[0], string(want[7])+" shadow") {
		t.Fatalf("%+v", s)
	}
	for _, p := range r.state().Pods {
		if p.Epoch == 0 || p.HeldMillis == 0 || p.At.IsZero() {
			t.Errorf("%+v", p)
		}
	}
}

// TestHalts: each thing that is not as it should be stops the rollout, says why, and nothing is moved any more.
func TestHalts(t *testing.T) {
	gate := &killswitch.GateError{Pod: pod(2), To: backends.Live, Results: []killswitch.GateResult{{Name: "debt", Figure: "3", Bound: "at most 0"}}}
	undone := &killswitch.NotDoneError{Pod: pod(2), Change: killswitch.Change{From: backends.Shadow, To: backends.Live, Outcome: killswitch.Undone, Cause: "the drain took too long"}}
	for _, c := range []struct {
		name  string
		at    func(*rig)
		cause string
		moved int
	}{
		{"a gate fails", func(r *rig) { r.fleet.gates[pod(2)] = gate }, "debt: 3", 2},
		{"a switch was undone", func(r *rig) { r.fleet.gates[pod(2)] = undone }, "the drain took too long", 2},
		{"a pod is in another stage", func(r *rig) { r.fleet.stage[pod(2)] = backends.RedisOnly }, "neither in shadow nor in live", 2},
		{"a pod was killed", func(r *rig) { r.fleet.stage[pod(0)] = backends.Shadow }, "by somebody else", 2},
		{"a pod is not well", func(r *rig) { r.fleet.unwell[pod(1)] = true }, "has not been well for 30s: breaker: open", 2},
		{"a pod is out of sight", func(r *rig) { r.fleet.away[pod(1)] = true }, "cannot be looked at", 2},
		{"the next pod is out of sight", func(r *rig) { r.fleet.away[pod(2)] = true }, "could not be moved for 30s", 2},
		{"the next pod has work to do", func(r *rig) { r.fleet.gates[pod(2)] = &killswitch.WorkDueError{Pod: pod(2)} }, "could not be moved for 30s", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 4, 2)
			r.start(rollout.Request{To: backends.Live, Waves: "2", Soak: 5 * time.Second})
			r.rounds(2)
			r.fleet.set(func() { c.at(r) })
			r.rounds(50)
			s := r.state()
			if s.Phase != rollout.Halted || !strings.Contains(s.Cause, c.cause) || len(r.moves()) != c.moved {
				t.Fatalf("%s %q, %v moved; want halted, %q", s.Phase, s.Cause, r.moves(), c.cause)
			}
			if e := s.Events[len(s.Events)-1]; !strings.HasPrefix(e.What, "halted: ") {
				t.Errorf("the last event is %+v", e)
			}
			r.rounds(20)
			if len(r.moves()) != c.moved {
				t.Error("pods were moved after the halt")
			}
			// Mended and resumed, it goes on to the end; what was killed is left out.
			r.fleet.set(func() {
				clear(r.fleet.gates)
				clear(r.fleet.unwell)
				clear(r.fleet.away)
				if r.fleet.stage[pod(2)] == backends.RedisOnly {
					r.fleet.stage[pod(2)] = backends.Shadow
				}
			})
			if _, err := rollout.Resume(t.Context(), r.docs, nil, "ann", "mended", r.clock.now); err != nil {
				t.Fatal(err)
			}
			r.rounds(40)
			if s := r.state(); s.Phase != rollout.Completed || len(r.moves()) != 4 {
				t.Errorf("after resuming: %s %q, %v", s.Phase, s.Cause, r.moves())
			}
		})
	}
}

// TestUnwellForAMoment does not halt, and does not soak either.
func TestUnwellForAMoment(t *testing.T) {
	r := newRig(t, 2, 1)
	r.start(rollout.Request{To: backends.Live, Waves: "1", Soak: time.Minute})
	r.rounds(3)
	soaked := r.state().SoakedMillis
	r.fleet.set(func() { r.fleet.unwell[pod(0)] = true })
	r.rounds(20)
	s := r.state()
	if s.Phase != rollout.Running || s.SoakedMillis > soaked+6000 || len(r.moves()) != 1 {
		t.Fatalf("%s, soaked %d after %d, %v", s.Phase, s.SoakedMillis, soaked, r.moves())
	}
	r.fleet.set(func() { clear(r.fleet.unwell) })
	r.rounds(200)
	if s := r.state(); s.Phase != rollout.Completed {
		t.Fatalf("%+v", s)
	}
}

// TestCommands: pause, resume, abort, skip, and when they mean nothing.
func TestCommands(t *testing.T) {
	r := newRig(t, 4, 1)
	ctx := t.Context()
	var pe *rollout.PhaseError
	if _, err := rollout.Pause(ctx, r.docs, "ann", "x", r.clock.now); !errors.As(err, &pe) || !strings.Contains(err.Error(), "rollout start") {
		t.Fatalf("pausing nothing: %v", err)
	}
	r.start(rollout.Request{To: backends.Live, Waves: "1"})
	if _, err := rollout.Start(ctx, r.docs, r.fleet, rollout.Request{Select: "all", To: backends.Live, Order: rollout.ByName, Who: "bob", Why: "too"}, false, r.clock.now); !errors.As(err, &pe) || !strings.Contains(err.Error(), "rollout abort") {
		t.Fatalf("a second one: %v", err)
	}
	r.rounds(1)
	// Paused in the middle of a move: that pod is moved, and no other.
	r.fleet.during = func(backends.Pod) {
		if _, err := rollout.Pause(ctx, r.docs, "bob", "lunch", r.clock.now); err != nil {
			t.Error(err)
		}
		r.fleet.during = nil
	}
	r.rounds(10)
	if s := r.state(); s.Phase != rollout.Paused || len(r.moves()) != 2 || s.Moved() != 2 || s.Cause != "lunch" {
		t.Fatalf("%+v, %v", s, r.moves())
	}
	var fe *backends.FieldError
	if _, err := rollout.Resume(ctx, r.docs, []backends.Pod{pod(0)}, "ann", "x", r.clock.now); !errors.As(err, &fe) || r.state().Phase != rollout.Paused {
		t.Fatalf("skipping what was moved: %v, %s", err, r.state().Phase)
	}
	if _, err := rollout.Resume(ctx, r.docs, []backends.Pod{pod(2)}, "", "x", r.clock.now); !errors.As(err, &fe) {
		t.Fatalf("nobody resumes: %v", err)
	}
	if _, err := rollout.Resume(ctx, r.docs, []backends.Pod{pod(2)}, "ann", "x", r.clock.now); err != nil {
		t.Fatal(err)
	}
	// Aborted in the middle of a move: the record tells of it all the same.
	r.fleet.during = func(backends.Pod) {
		if _, err := rollout.Abort(ctx, r.docs, "bob", "enough", r.clock.now); err != nil {
			t.Error(err)
		}
	}
	r.rounds(10)
	if s := r.state(); s.Phase != rollout.Aborted || !slices.Equal(r.moves(), []backends.Pod{pod(0), pod(1), pod(3)}) || s.Moved() != 3 {
		t.Fatalf("%+v, %v", s, r.moves())
	}
	if _, err := rollout.Abort(ctx, r.docs, "bob", "again", r.clock.now); !errors.As(err, &pe) {
		t.Fatal(err)
	}
	r.fleet.during = nil
	r.start(rollout.Request{To: backends.Live})
	o, err := rollout.Read(ctx, r.docs)
	if err != nil || o.Current.Number != 2 || len(o.Past) != 1 || o.Past[0].Moved != 3 || o.Past[0].Phase != rollout.Aborted || len(o.Current.Pods) != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
}

// TestTakeover: a leader that has died is followed by another, not before its time, and what had soaked counts.
func TestTakeover(t *testing.T) {
	r := newRig(t, 2, 2)
	first := r.runs[0]
	r.start(rollout.Request{To: backends.Live, Waves: "1", Soak: 20 * time.Second})
	r.rounds(5)
	soaked := r.state().SoakedMillis
	if r.state().Driver != "proxy-0" || soaked == 0 {
		t.Fatalf("%+v", r.state())
	}
	r.runs = r.runs[1:]
	r.rounds(5)
	if s := r.state(); s.Driver != "proxy-0" || s.SoakedMillis != soaked {
		t.Fatalf("taken over too early: %+v", s)
	}
	r.rounds(4)
	if s := r.state(); s.Driver != "proxy-1" {
		t.Fatalf("not taken over: %+v", s)
	}
	// The first one was only stopped. It follows now.
	r.runs = append(r.runs, first)
	r.rounds(60)
	if s := r.state(); s.Phase != rollout.Completed || s.Driver != "proxy-1" || len(r.moves()) != 2 {
		t.Fatalf("%+v, %v", s, r.moves())
	}
}

// TestDiedWhileMoving: whether the switch came to its end or not, the next leader finds out where the pod is.
func TestDiedWhileMoving(t *testing.T) {
	for _, done := range []bool{true, false} {
		r := newRig(t, 2, 1)
		r.start(rollout.Request{To: backends.Live})
		r.fleet.during = func(p backends.Pod) {
			if done {
				r.fleet.set(func() { r.fleet.stage[p] = backends.Live })
			}
			panic("died")
		}
		func() {
			defer func() { _ = recover() }()
			_ = r.runs[0].Round(t.Context())
		}()
		if p := r.state().Pods[0]; p.Place != rollout.Moving {
			t.Fatalf("%+v", p)
		}
		r.fleet.during = nil
		r.runs = []*rollout.Runner{r.runner("next")}
		r.rounds(20)
		if s := r.state(); s.Phase != rollout.Completed || s.Moved() != 2 {
			t.Fatalf("done %v: %+v", done, s)
		}
	}
}

// TestAnything plays runners that stop and start, a control store that fails, gates, kills and people, in any order: a pod is
// moved only while its wave's turn has come, and only once unless somebody took it back.
func TestAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t, rapid.IntRange(1, 7).Draw(rt, "pods"), 3)
		r.start(rollout.Request{To: backends.Live, Waves: rapid.SampledFrom([]string{"1", "1,2", "2,50%", "100%"}).Draw(rt, "waves"), Soak: time.Duration(rapid.IntRange(0, 4).Draw(rt, "soak")) * time.Second})
		r.docs.fail = func() bool { return rapid.IntRange(0, 19).Draw(rt, "fails") == 0 }
		seen := 0
		for range rapid.IntRange(20, 80).Draw(rt, "steps") {
			switch rapid.IntRange(0, 12).Draw(rt, "what") {
			case 0:
				p := pod(rapid.IntRange(0, len(r.fleet.stage)-1).Draw(rt, "pod"))
				r.fleet.set(func() {
					if r.fleet.gates[p] == nil {
						r.fleet.gates[p] = &killswitch.GateError{Pod: p}
					} else {
						delete(r.fleet.gates, p)
					}
				})
			case 1:
				_, _ = rollout.Pause(t.Context(), r.docs, "ann", "x", r.clock.now)
			case 2:
				_, _ = rollout.Resume(t.Context(), r.docs, nil, "ann", "x", r.clock.now)
			case 3:
				r.clock.now = r.clock.now.Add(rollout.DefaultTakeover)
			case 4:
				i := rapid.IntRange(0, len(r.runs)-1).Draw(rt, "restarts")
				r.runs[i] = r.runner("again-" + r.clock.now.String())
			default:
				run := r.runs[rapid.IntRange(0, len(r.runs)-1).Draw(rt, "who")]
				_ = run.Round(t.Context())
				r.clock.now = r.clock.now.Add(rollout.DefaultBeat)
			}
			for moves := r.moves(); seen < len(moves); seen++ {
				checkMove(rt, r, moves, seen)
			}
		}
		// Left alone, it comes to an end.
		r.docs.fail = nil
		r.fleet.set(func() { clear(r.fleet.gates) })
		_, _ = rollout.Resume(t.Context(), r.docs, nil, "ann", "x", r.clock.now)
		r.rounds(80)
		if s := r.state(); s.Phase != rollout.Completed || s.Moved() != len(s.Pods) || len(r.moves()) != len(s.Pods) {
			rt.Fatalf("%+v, %v", s, r.moves())
		}
	})
}

// checkMove: the nth move was of a pod whose wave had come, after all of the waves before had been moved.
func checkMove(rt *rapid.T, r *rig, moves []backends.Pod, n int) {
	fail := r.docs.fail
	r.docs.fail = nil
	s := r.state()
	r.docs.fail = fail
	wave := func(p backends.Pod) int {
		return s.Pods[slices.Index(s.Names(), p)].Wave
	}
	if slices.Contains(moves[:n], moves[n]) {
		rt.Fatalf("%s was moved twice: %v", moves[n], moves)
	}
	if w := wave(moves[n]); w > s.Wave {
		rt.Fatalf("%s of wave %d was moved in wave %d", moves[n], w, s.Wave)
	}
	for _, p := range s.Pods {
		if p.Wave < wave(moves[n]) && !slices.Contains(moves[:n], p.Pod) {
			rt.Fatalf("%s was moved before %s of an earlier wave", moves[n], p.Pod)
		}
	}
}
