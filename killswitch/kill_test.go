package killswitch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

func open(epoch uint64, s backends.Stage) backends.Fence {
	return backends.Fence{Epoch: epoch, Stage: s, Open: true, Filled: s == backends.Live}
}

func shut(f backends.Fence) backends.Fence {
	f.Open = false
	return f
}

func filling(epoch uint64) backends.Fence {
	return backends.Fence{Epoch: epoch, Stage: backends.Live, Open: true}
}

func TestDecideKill(t *testing.T) {
	for _, c := range []struct {
		name string
		from backends.Fence
		to   backends.Fence
		v    killswitch.Verdict
		next string // part of the error
	}{
		{"live goes to shadow", open(7, backends.Live), open(8, backends.Shadow), killswitch.KillGo, ""},
		{"shadow goes to redis-only", open(7, backends.Shadow), open(8, backends.RedisOnly), killswitch.KillGo, ""},
		{"in the middle of a switch to live", shut(open(7, backends.Shadow)), open(8, backends.Shadow), killswitch.KillGo, ""},
		{"redis-only does nothing", open(7, backends.RedisOnly), open(7, backends.RedisOnly), killswitch.KillNothing, ""},
		{"mysql-only is refused", open(7, backends.MySQLOnly), open(7, backends.MySQLOnly), killswitch.KillRefused, "go back by 'crossfade stage pod live"},
		{"filling is refused", filling(7), filling(7), killswitch.KillRefused, "crossfade stage pod mysql-only"},
		{"no fence", backends.Fence{}, backends.Fence{}, killswitch.KillRefused, "Redis has no fence"},
		{"a closed live fence", shut(open(7, backends.Live)), shut(open(7, backends.Live)), killswitch.KillRefused, "not one that Crossfade leaves there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			to, v, err := killswitch.DecideKill(pod, c.from)
			if to != c.to || v != c.v {
				t.Errorf("to %s (%s), want %s (%s)", to, v, c.to, c.v)
			}
			var re *killswitch.KillRefusedError
			if refused := errors.As(err, &re); refused != (c.v == killswitch.KillRefused) {
				t.Errorf("error %v", err)
			} else if refused && !strings.Contains(err.Error(), c.next) {
				t.Errorf("error %v, want %q in it", err, c.next)
			}
		})
	}
}

func (w *world) kill(p *process) (killswitch.KillResult, error) {
	r := killswitch.KillRequest{Pod: pod, Who: "ops", Why: "it burns"}
	if f, _ := w.fences(); f.Stage == backends.Live || f.Stage == backends.Shadow {
		r.Expect = f.Stage // each kill is meant, also the second
	}
	return killswitch.Kill(context.Background(), p.stores.Redis, controlOf{w.control, p.life}, killswitch.SystemClock{}, r)
}

// A kill comes between any two steps of any move, with and without a control store. What was
// acknowledged is in the truth afterwards, and the driver that meets it stops.
func TestKillAtEveryStep(t *testing.T) {
	for _, m := range moves {
		// With burnt epochs the switch's target is above what the kill takes, so that rank alone does
		// not protect the kill.
		for _, c := range []struct {
			recorded bool
			burnt    uint64
		}{{true, 0}, {false, 0}, {true, 5}, {false, 5}} {
			recorded := c.recorded
			t.Run(fmt.Sprintf("%s, recorded %t, %d epochs burnt", m, recorded, c.burnt), virtually(func(t *testing.T) {
				killed := 0
				for at := 0; ; at++ {
					w := newWorld(t)
					m.prepare(t, w)
					w.burn(c.burnt)
					killer, p := w.process(), w.process()
					killer.noControl = !recorded
					killer.down[backends.SideMySQL] = true
					n, came := 0, false
					var from backends.Fence
					p.atRaise = func() {
						if n++; n != at+1 {
							return
						}
						came = true
						from, _ = w.fences()
						if res, err := w.kill(killer); err == nil && res.Verdict == killswitch.KillGo {
							killed++
							if res.Recorded != recorded {
								t.Errorf("raise %d: recorded %t (%s)", at, res.Recorded, res.NotRecorded)
							}
							w.reserve(res.To, nil)
							if id := backends.HoldID(fmt.Sprintf("hold-%d", w.ops)); !slices.Contains(w.acked, id) {
								t.Errorf("raise %d: Redis does not decide after the kill from %s", at, from)
							}
						}
					}
					_ = m.start(t.Context(), p)
					if !came {
						break
					}
					w.settleDown()
					if t.Failed() {
						t.Fatalf("killed before raise %d, from %s", at, from)
					}
				}
				t.Logf("%d kills", killed)
			}))
		}
	}
}

// burn makes epochs known that were planned and never reached.
func (w *world) burn(n uint64) {
	st, rev, _ := w.control.Get(context.Background(), pod)
	st.MaxEpoch += n
	if _, err := w.control.CompareAndSet(context.Background(), pod, rev, st); err != nil {
		w.tb.Fatalf("%v", err)
	}
}

// Every raise of every move, in turn, has its answer lost, and its store does not answer to the driver
// any more, which does what it can. Then the effect comes after all, and then a kill.
func TestLateEffectThenKill(t *testing.T) {
	for _, m := range moves {
		for _, redisToo := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, Redis gone too %t", m, redisToo), virtually(func(t *testing.T) {
				for nth := 1; ; nth++ {
					w := newWorld(t)
					m.prepare(t, w)
					p := w.process()
					p.loseAt = nth
					p.afterLoss = func() { p.down[backends.SideRedis] = p.down[backends.SideRedis] || redisToo }
					_ = m.start(t.Context(), p)
					if p.loseAt > 0 {
						break
					}
					for _, f := range w.late {
						f()
					}
					w.late = nil
					r, my := w.fences()
					w.reserve(r, nil)
					w.reserve(my, nil)
					_, _ = w.kill(w.process())
					r, _ = w.fences()
					w.reserve(my, nil)
					w.reserve(r, nil)
					w.settleDown()
					if t.Failed() {
						t.Fatalf("raise %d", nth)
					}
				}
			}))
		}
	}
}

// A kill needs Redis and nothing else, and leaves everything else alone.
func TestKillNeedsRedisAlone(t *testing.T) {
	t.Run("no control store, no MySQL", virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		w.reserve(w.state().Fence(), nil)
		p := w.process()
		p.down[backends.SideMySQL] = true
		res, err := killswitch.Kill(t.Context(), p.stores.Redis, nil, killswitch.SystemClock{}, killswitch.KillRequest{Pod: pod, Who: "ops", Why: "it burns"})
		if err != nil || res.Verdict != killswitch.KillGo || res.Recorded || res.To != open(3, backends.Shadow) {
			t.Fatalf("%+v, %v", res, err)
		}
		want := []killswitch.Work{killswitch.WorkRaiseMySQL, killswitch.WorkSettle, killswitch.WorkBackfill}
		if !slices.Equal(res.Left, want) {
			t.Errorf("left to do: %v, want %v", res.Left, want)
		}
		if _, m := w.fences(); m != open(2, backends.Live) {
			t.Errorf("MySQL's fence was moved to %s", m)
		}
		w.settleDown()
		if st := w.state(); st.Stage != backends.Shadow || st.Who != "unknown" {
			t.Errorf("%+v", st)
		}
	}))
	t.Run("who and why reach the record later", virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		p := w.process()
		p.afterRaise = func() { w.settleDown() } // somebody finds the fence before the kill is recorded
		if res, err := w.kill(p); err != nil || !res.Recorded {
			t.Fatalf("%+v, %v", res, err)
		}
		if st := w.state(); st.Who != "ops" || st.Why != "it burns" || st.Epoch != 3 {
			t.Errorf("%+v", st)
		}
		w.settleDown()
	}))
	t.Run("a record", virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		res, err := w.kill(w.process())
		if err != nil || !res.Recorded || len(res.Steps) != 3 {
			t.Fatalf("%+v, %v", res, err)
		}
		st := w.state()
		c := st.History[0]
		if st.Stage != backends.Shadow || st.Who != "ops" || c.Kind != killswitch.KindKill || c.From != backends.Live || c.Epoch != 3 || len(c.Steps) != 2 {
			t.Errorf("%+v", st)
		}
		w.settleDown()
	}))
}

// An unknown outcome is tried again as the same compare-and-set: it never goes back two stages.
func TestKillWithALostAnswer(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		p := w.process()
		p.loseNext = true
		p.afterLoss = func() { w.late[0]() } // it took effect; the answer was lost
		res, err := w.kill(p)
		if r, _ := w.fences(); err != nil || r != open(3, backends.Shadow) || res.To != r {
			t.Fatalf("%+v, %v, Redis at %s", res, err, r)
		}
		w.settleDown()
	})(t)
}

func TestKillOfADeadRedis(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		p := w.process()
		p.down[backends.SideRedis] = true
		if _, err := w.kill(p); err == nil || !strings.Contains(err.Error(), "was not killed") {
			t.Errorf("%v", err)
		}
		p.down[backends.SideRedis] = false
		p.atRaise = func() { p.down[backends.SideRedis] = true }
		_, err := w.kill(p)
		if !backends.IsAmbiguous(err) || !strings.Contains(err.Error(), "give the same kill again") {
			t.Errorf("%v, want an unknown outcome with what to do", err)
		}
	})(t)
}

func TestKillRequests(t *testing.T) {
	kill := func(w *world, r killswitch.KillRequest) (killswitch.KillResult, error) {
		p := w.process()
		return killswitch.Kill(context.Background(), p.stores.Redis, w.control, killswitch.SystemClock{}, r)
	}
	t.Run("dry run", func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		res, err := kill(w, killswitch.KillRequest{Pod: pod, Who: "a", Why: "b", DryRun: true})
		if r, _ := w.fences(); err != nil || res.Verdict != killswitch.KillGo || res.To != open(3, backends.Shadow) || r != open(2, backends.Live) {
			t.Errorf("%+v, %v, Redis at %s", res, err, r)
		}
	})
	t.Run("expected stage", func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		_, err := kill(w, killswitch.KillRequest{Pod: pod, Who: "a", Why: "b", Expect: backends.Shadow})
		var re *killswitch.KillRefusedError
		if r, _ := w.fences(); !errors.As(err, &re) || !strings.Contains(err.Error(), "--from live") || r != open(2, backends.Live) {
			t.Errorf("%v, Redis at %s", err, r)
		}
	})
	t.Run("no reason", func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		var fe *backends.FieldError
		if _, err := kill(w, killswitch.KillRequest{Pod: pod, Who: "a"}); !errors.As(err, &fe) {
			t.Errorf("%v", err)
		}
	})
	t.Run("redis-only", func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.RedisOnly)
		if res, err := kill(w, killswitch.KillRequest{Pod: pod, Who: "a", Why: "b"}); err != nil || res.Verdict != killswitch.KillNothing {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

// Two kills of one pod at once are one kill.
func TestTwoKillsAtOnce(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		first, second := w.process(), w.process()
		first.atRaise = func() {
			if _, err := w.kill(second); err != nil {
				t.Error(err)
			}
		}
		if _, err := w.kill(first); err != nil {
			t.Error(err)
		}
		if r, _ := w.fences(); r != open(3, backends.Shadow) {
			t.Errorf("Redis is at %s", r)
		}
		w.settleDown()
	})(t)
}

// A proxy has decided in MySQL and not yet mirrored when the kill comes: that hold was never acknowledged,
// and is void in both stores afterwards.
func TestCommitBehindAKillIsVoid(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		w.reserve(w.state().Fence(), func() {
			if _, err := w.kill(w.process()); err != nil {
				t.Error(err)
			}
		})
		if len(w.acked) != 0 {
			t.Error("it was acknowledged")
		}
		p := w.settleDown()
		if p.carrier.settles != 1 || p.carrier.backfills != 1 {
			t.Errorf("%d settles, %d backfills", p.carrier.settles, p.carrier.backfills)
		}
		h, err := w.mysql.Get(t.Context(), "hold-1")
		if err != nil || h == nil || h.State.Takes() {
			t.Errorf("in MySQL it is %+v, %v; want it void", h, err)
		}
	})(t)
}
