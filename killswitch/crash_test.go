package killswitch_test

import (
	"fmt"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Every call of every store and of the control store is, in turn, the last one of the process that
// carries out the move: before its effect, and after it. Somebody else then finishes or undoes it.
func TestCrashAtEveryStep(t *testing.T) {
	for _, m := range moves {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after %t", m, after), virtually(func(t *testing.T) {
				outcomes := map[backends.Stage]int{}
				for at := 1; ; at++ {
					w := newWorld(t)
					m.prepare(t, w)
					before := w.state()
					p := w.process()
					p.dieAt, p.after = at, after
					err := m.start(t.Context(), p)
					if !p.dead {
						if err != nil {
							t.Fatalf("the process lived and failed: %v", err)
						}
						break
					}
					// Callers go on, under what was and under what the fences say.
					w.reserve(before.Fence(), nil)
					r, my := w.fences()
					w.reserve(r, nil)
					w.reserve(my, nil)
					w.settleDown()
					st := w.state()
					if st.Stage != m.from && st.Stage != m.to {
						t.Fatalf("died at call %d: ended in %s", at, st.Stage)
					}
					outcomes[st.Stage]++
					if t.Failed() {
						t.Fatalf("died at call %d", at)
					}
				}
				t.Logf("ended in: %v", outcomes)
				if outcomes[m.to] == 0 {
					t.Error("no death was so late that the move was finished")
				}
			}))
		}
	}
}

// As before, but the process is only cut off for one raise, whose effect comes at the worst time: after
// somebody else has taken over and finished.
func TestLateEffectAtEveryStep(t *testing.T) {
	for _, m := range moves {
		t.Run(m.String(), virtually(func(t *testing.T) {
			for nth := 1; ; nth++ {
				w := newWorld(t)
				m.prepare(t, w)
				p := w.process()
				p.cutOffAt = nth // and dead from then on
				_ = m.start(t.Context(), p)
				if !p.dead {
					break
				}
				late := w.late
				w.late = nil
				w.settleDown()
				for _, f := range late {
					f()
				}
				w.reserve(w.state().Fence(), nil)
				w.settleDown()
				if t.Failed() {
					t.Fatalf("raise %d", nth)
				}
			}
		}))
	}
}
