package killswitch_test

import (
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// A Redis that was replaced by a replica without the last write, where Redis is the truth: nothing but a re-issue
// lets it go on, and that gives it back what MySQL has.
func TestReplacedRedis(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Shadow)
		p := w.process()
		before := w.redis.Snapshot()
		f, _ := w.fences()
		w.reserve(f, nil)
		if err := p.carrier.Drain(t.Context(), pod, f); err != nil {
			t.Fatal(err)
		}
		w.redis.Promote(before)

		_, err := killswitch.Kill(t.Context(), p.stores.Redis, w.control, killswitch.SystemClock{}, killswitch.KillRequest{Pod: pod, Who: "test", Why: "test"})
		if !errors.Is(err, backends.ErrRestarted) {
			t.Errorf("a kill of a replaced Redis: %v, want ErrRestarted", err)
		}
		var reissue *killswitch.ReissueError
		for _, to := range []backends.Stage{backends.RedisOnly, backends.Live} {
			if _, err := p.Switch(t.Context(), request(to)); !errors.As(err, &reissue) {
				t.Errorf("a move to %s: %v, want a ReissueError", to, err)
			}
		}
		if _, err := p.Work(t.Context(), pod, nil); !errors.As(err, &reissue) {
			t.Errorf("work: %v, want a ReissueError", err)
		}
		if f, _ := w.fences(); f.Open {
			t.Fatalf("Redis is open at %s before the re-issue", f)
		}

		// Known again when it is opened, and not only afterwards.
		restored := 0
		p.atRaise = func() {
			if h, _ := w.redis.Get(t.Context(), w.acked[0]); h != nil && restored == 0 {
				restored = p.carrier.restores
			}
		}
		res, err := p.Reissue(t.Context(), pod, "test", "replaced")
		if err != nil || restored != 1 {
			t.Errorf("re-issue: %v; restored %d times before Redis was opened, want once: %+v", err, restored, res.Change.Steps)
		}
		w.settleDown()
	})(t)
}

// A kill does not open a Redis that is being given back what it has lost.
func TestKillWhileRedisIsRestored(t *testing.T) {
	f := backends.Fence{Epoch: 7, Stage: backends.RedisOnly}
	var refused *killswitch.KillRefusedError
	if to, v, err := killswitch.DecideKill(pod, f); v != killswitch.KillRefused || !errors.As(err, &refused) || to != f {
		t.Errorf("%s, %s, %v; want it refused", to, v, err)
	}
}
