package killswitch_test

import (
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

func TestInit(t *testing.T) {
	for _, stage := range allStages {
		t.Run(stage.String(), virtually(func(t *testing.T) {
			w := newWorld(t)
			p := w.process()
			res, err := p.Init(t.Context(), pod, stage, "ann", "first start")
			if err != nil || res.Stage != stage || res.Epoch != 1 {
				t.Fatalf("%+v, %v", res, err)
			}
			w.settleDown()
			if st := w.state(); st.Stage != stage {
				t.Errorf("at rest in %s", st.Stage)
			}
			again, err := w.process().Init(t.Context(), pod, backends.RedisOnly, "bob", "second start")
			if err != nil || again.Stage != stage {
				t.Errorf("a second start: %+v, %v", again, err)
			}
		}))
	}
	t.Run("both stores must answer", virtually(func(t *testing.T) {
		w := newWorld(t)
		p := w.process()
		p.down[backends.SideMySQL] = true
		if _, err := p.Init(t.Context(), pod, backends.RedisOnly, "ann", "first"); !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}))
	t.Run("a lost record is adopted from the fences", virtually(func(t *testing.T) {
		for _, m := range moves[:6] {
			w := newWorld(t)
			w.begin(t, m.from)
			p := w.process()
			if _, err := p.Switch(t.Context(), request(m.to)); err != nil {
				t.Fatal(err)
			}
			w.settleDown()
			w.forget()
			res, err := w.process().Init(t.Context(), pod, backends.RedisOnly, "ann", "the folder was lost")
			if err != nil || res.Stage != m.to {
				t.Errorf("%s: %+v, %v", m, res, err)
			}
			w.settleDown()
		}
	}))
	t.Run("a record lost in the middle of a switch", virtually(func(t *testing.T) {
		for _, m := range moves {
			for at := 1; ; at++ {
				w := newWorld(t)
				m.prepare(t, w)
				p := w.process()
				p.dieAt, p.after = at, true
				_ = m.start(t.Context(), p)
				w.forget()
				if _, err := w.process().Init(t.Context(), pod, backends.RedisOnly, "ann", "the folder was lost"); err != nil {
					t.Fatalf("%s, call %d: %v", m, at, err)
				}
				w.settleDown()
				if t.Failed() {
					t.Fatalf("%s, died at call %d", m, at)
				}
				if !p.dead {
					break
				}
			}
		}
	}))
	t.Run("a bad pod", virtually(func(t *testing.T) {
		var fe *backends.FieldError
		if _, err := newWorld(t).process().Init(t.Context(), "", backends.RedisOnly, "ann", "first"); !errors.As(err, &fe) {
			t.Errorf("%v", err)
		}
		if _, err := newWorld(t).process().Init(t.Context(), pod, backends.StageUnknown, "ann", "first"); !errors.As(err, &fe) {
			t.Errorf("%v", err)
		}
	}))
}

// Redis came back empty: nobody serves until an operator says so, and live is then filled from MySQL.
func TestReissue(t *testing.T) {
	for _, stage := range allStages {
		t.Run(stage.String(), virtually(func(t *testing.T) {
			w := newWorld(t)
			w.begin(t, stage)
			if stage.Truth() == backends.SideMySQL {
				w.reserve(w.state().Fence(), nil)
			}
			w.redis = newEmpty(backends.SideRedis)
			p := w.process()
			_, err := p.Work(t.Context(), pod, nil)
			var re *killswitch.ReissueError
			if stage == backends.MySQLOnly {
				if err != nil {
					t.Fatalf("Redis does not matter in mysql-only: %v", err)
				}
				return
			}
			if !errors.As(err, &re) {
				t.Fatalf("%v, want a ReissueError", err)
			}
			if _, err := p.Reissue(t.Context(), pod, "ann", "Redis was replaced"); err != nil {
				t.Fatal(err)
			}
			w.settleDown()
			if st := w.state(); st.Stage != stage {
				t.Errorf("at rest in %s", st.Stage)
			}
		}))
	}
}
