package killswitch_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// A switch begins when there is little to drain. If that does not come it begins all the same, since the gate has let the lag
// pass; and who only asks does not wait.
func TestGoodMoment(t *testing.T) {
	const behind, bit, middling = 900 * time.Millisecond, killswitch.DefaultOutboxLag / 20, killswitch.DefaultOutboxLag / 8
	lag := func(times int) (ages []time.Duration) {
		for range times {
			ages = append(ages, behind)
		}
		return append(ages, bit)
	}
	for _, c := range []struct {
		name        string
		ages        []time.Duration
		dry         bool
		least, most time.Duration
	}{
		{"little at once", lag(0), false, 0, 0},
		{"little after a while", lag(20), false, 900 * time.Millisecond, 1200 * time.Millisecond},
		{"nothing better comes", slices.Repeat([]time.Duration{middling}, 10_000), false, 900 * time.Millisecond, 1100 * time.Millisecond},
		{"never", lag(10_000), false, killswitch.DefaultMoment, killswitch.DefaultMoment + 100*time.Millisecond},
		{"a dry run", lag(10_000), true, 0, 0},
	} {
		t.Run(c.name, virtually(func(t *testing.T) {
			w := newWorld(t)
			w.begin(t, backends.Shadow)
			p, r := w.process(), request(backends.Live)
			p.ages, r.DryRun = c.ages, c.dry
			start := time.Now()
			p.atRaise = func() { p.ages = nil } // the drain finds the outbox as it is
			res, err := p.Switch(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took < c.least || took > c.most {
				t.Errorf("it began after %s; want %s to %s", took, c.least, c.most)
			}
			if held := time.Duration(res.HeldMillis * float64(time.Millisecond)); held > 100*time.Millisecond {
				t.Errorf("callers were kept waiting for %s", held)
			}
		}))
	}
}

// What was live and has been drained is complete in shadow: MySQL was the truth.
func TestBackFromLiveLeavesNothing(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Shadow)
		p := w.process()
		for _, to := range []backends.Stage{backends.Live, backends.Shadow} {
			w.reserve(w.state().Fence(), nil)
			res, err := p.Switch(t.Context(), request(to))
			if err != nil || len(res.Left) > 0 {
				t.Fatalf("to %s: %v left to do, %v", to, res.Left, err)
			}
		}
		for _, id := range w.acked {
			r, _ := w.redis.Get(context.Background(), id)
			m, _ := w.mysql.Get(context.Background(), id)
			if r == nil || m == nil || r.State != m.State || r.Version != m.Version {
				t.Errorf("hold %s is %+v in Redis and %+v in MySQL", id, r, m)
			}
		}
		if len(w.acked) == 0 {
			t.Error("nothing was acknowledged")
		}
	})(t)
}
