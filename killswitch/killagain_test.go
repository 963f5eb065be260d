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

// hangingControl answers nothing until its caller gives up.
type hangingControl struct{ killswitch.ControlStore }

func (hangingControl) Get(ctx context.Context, _ backends.Pod) (killswitch.PodState, killswitch.Revision, error) {
	<-ctx.Done()
	return killswitch.PodState{}, 0, ctx.Err()
}

func asked(from backends.Stage, epoch uint64) killswitch.KillRequest {
	return killswitch.KillRequest{Pod: pod, Who: "ops", Why: "it burns", Expect: from, ExpectEpoch: epoch}
}

// A kill whose answer was lost is sent again. It is made once, whatever the caller says of the stage.
func TestKillTwiceIsOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		r    killswitch.KillRequest
	}{
		{"nothing said", asked(backends.StageUnknown, 0)},
		{"from live", asked(backends.Live, 0)},
		{"from live in its epoch", asked(backends.Live, 2)},
	} {
		t.Run(c.name, virtually(func(t *testing.T) {
			w := newWorld(t)
			w.begin(t, backends.Live)
			first, err := killswitch.Kill(t.Context(), w.redis, w.control, killswitch.SystemClock{}, c.r)
			if err != nil || first.Verdict != killswitch.KillGo || first.To != open(3, backends.Shadow) {
				t.Fatalf("%+v, %v", first, err)
			}
			for _, when := range []string{"at once", "when all has settled"} {
				again, err := killswitch.Kill(t.Context(), w.redis, w.control, killswitch.SystemClock{}, c.r)
				if err != nil || again.Verdict != killswitch.KillAlready || again.Already == nil || again.Already.Who != "ops" || again.Already.At.IsZero() {
					t.Errorf("%s: %+v, %v", when, again, err)
				}
				if r, _ := w.fences(); r != first.To || again.To != r {
					t.Errorf("%s: Redis at %s", when, r)
				}
				w.settleDown()
			}
			onwards, err := killswitch.Kill(t.Context(), w.redis, w.control, killswitch.SystemClock{}, asked(backends.Shadow, 0))
			if err != nil || onwards.To != open(4, backends.RedisOnly) {
				t.Errorf("a second kill that is meant: %+v, %v", onwards, err)
			}
			w.settleDown()
		}))
	}
}

// Leaving live never needs the record. Leaving a shadow needs it only for who does not say that it is meant.
func TestKillAgainWithoutARecord(t *testing.T) {
	t.Run("a control store that hangs", virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		start := time.Now()
		res, err := killswitch.Kill(t.Context(), w.redis, hangingControl{}, killswitch.SystemClock{}, asked(backends.StageUnknown, 0))
		if err != nil || res.Verdict != killswitch.KillGo || res.Recorded || time.Since(start) > killswitch.KillRecord {
			t.Fatalf("%+v, %v after %s", res, err, time.Since(start))
		}
		start = time.Now()
		_, err = killswitch.Kill(t.Context(), w.redis, hangingControl{}, killswitch.SystemClock{}, asked(backends.StageUnknown, 0))
		var re *killswitch.KillRefusedError
		if !errors.As(err, &re) || !strings.Contains(err.Error(), "--from shadow") || time.Since(start) > killswitch.KillRecord {
			t.Errorf("%v after %s; want to be asked for --from shadow", err, time.Since(start))
		}
		own := asked(backends.StageUnknown, 0)
		own.Own = killswitch.Change{Kind: killswitch.KindKill, Outcome: killswitch.Done, From: backends.Live, To: backends.Shadow, Epoch: 3}
		if res, err := killswitch.Kill(t.Context(), w.redis, hangingControl{}, killswitch.SystemClock{}, own); err != nil || res.Verdict != killswitch.KillAlready {
			t.Errorf("the process that made it: %+v, %v", res, err)
		}
		if r, _ := w.fences(); r != open(3, backends.Shadow) {
			t.Errorf("Redis at %s", r)
		}
		if res, err := killswitch.Kill(t.Context(), w.redis, nil, killswitch.SystemClock{}, asked(backends.Shadow, 3)); err != nil || res.To != open(4, backends.RedisOnly) {
			t.Errorf("a second one that is meant: %+v, %v", res, err)
		}
		w.settleDown()
	}))
	t.Run("a kill that others found in the fences", virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		if _, err := killswitch.Kill(t.Context(), w.redis, nil, killswitch.SystemClock{}, asked(backends.Live, 0)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // before and after it is written down
			res, err := killswitch.Kill(t.Context(), w.redis, w.control, killswitch.SystemClock{}, asked(backends.StageUnknown, 0))
			if err != nil || res.Verdict != killswitch.KillAlready {
				t.Errorf("%+v, %v", res, err)
			}
			w.settleDown()
		}
	}))
}

// What a kill that says where it comes from may leave.
func TestKillFromAnotherStage(t *testing.T) {
	for _, c := range []struct {
		name string
		at   backends.Stage
		r    killswitch.KillRequest
		v    killswitch.Verdict
		next string
	}{
		{"a shadow of which the record does not tell", backends.Shadow, asked(backends.StageUnknown, 0), killswitch.KillRefused, "--from shadow"},
		{"shadow, as said", backends.Shadow, asked(backends.Shadow, 2), killswitch.KillGo, ""},
		{"shadow, where a kill from live leads to", backends.Shadow, asked(backends.Live, 0), killswitch.KillAlready, ""},
		{"live, said to be shadow", backends.Live, asked(backends.Shadow, 0), killswitch.KillRefused, "--from live"},
		{"live again, in another epoch", backends.Live, asked(backends.Live, 1), killswitch.KillRefused, "--from live"},
		{"shadow again, in another epoch", backends.Shadow, asked(backends.Shadow, 1), killswitch.KillRefused, "--from shadow"},
		{"a fence that was rolled back", backends.Shadow, asked(backends.Live, 9), killswitch.KillRefused, "--from shadow"},
		{"redis-only", backends.RedisOnly, asked(backends.Live, 0), killswitch.KillNothing, ""},
		{"mysql-only", backends.MySQLOnly, asked(backends.Live, 0), killswitch.KillRefused, "go back by"},
		{"a stage that no kill leaves", backends.Live, asked(backends.MySQLOnly, 0), killswitch.KillUnknown, "live or shadow"},
	} {
		t.Run(c.name, virtually(func(t *testing.T) {
			w := newWorld(t)
			w.begin(t, c.at)
			before, _ := w.fences()
			res, err := killswitch.Kill(t.Context(), w.redis, w.control, killswitch.SystemClock{}, c.r)
			after, _ := w.fences()
			if res.Verdict != c.v || (after != before) != (c.v == killswitch.KillGo) {
				t.Errorf("%+v, %v; Redis from %s to %s", res, err, before, after)
			}
			if (err != nil) != (c.next != "") || err != nil && !strings.Contains(err.Error(), c.next) {
				t.Errorf("%v; want %q in it", err, c.next)
			}
			w.settleDown()
		}))
	}
}

// A shadow to which a stage has led is left by a kill that says nothing.
func TestKillOfAShadowThatWasMovedTo(t *testing.T) {
	for _, from := range []backends.Stage{backends.RedisOnly, backends.Live} {
		t.Run(from.String(), virtually(func(t *testing.T) {
			w := newWorld(t)
			w.begin(t, from)
			p := w.process()
			if _, err := p.Switch(t.Context(), request(backends.Shadow)); err != nil {
				t.Fatal(err)
			}
			w.settleDown()
			if _, err := p.Reissue(t.Context(), pod, "ann", "a change that leaves the stage as it is"); err != nil {
				t.Fatal(err)
			}
			w.settleDown()
			res, err := killswitch.Kill(t.Context(), w.redis, w.control, killswitch.SystemClock{}, asked(backends.StageUnknown, 0))
			if err != nil || res.Verdict != killswitch.KillGo || res.To.Stage != backends.RedisOnly || res.Already != nil {
				t.Errorf("%+v, %v", res, err)
			}
			w.settleDown()
		}))
	}
}

// In the middle of a switch to live a kill ends in shadow. The same one again does not end in redis-only.
func TestKillTwiceInASwitch(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Shadow)
		if _, err := w.redis.Raise(t.Context(), backends.Fence{Epoch: 3, Stage: backends.Shadow}, 0); err != nil {
			t.Fatal(err)
		}
		for i, want := range []killswitch.Verdict{killswitch.KillGo, killswitch.KillAlready} {
			res, err := killswitch.Kill(t.Context(), w.redis, w.control, killswitch.SystemClock{}, asked(backends.Shadow, 3))
			if r, _ := w.fences(); err != nil || res.Verdict != want || r != open(4, backends.Shadow) {
				t.Errorf("kill %d: %+v, %v, Redis at %s", i+1, res, err, r)
			}
		}
		w.settleDown()
	})(t)
}
