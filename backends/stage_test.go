package backends_test

import (
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

func TestStages(t *testing.T) {
	for _, c := range []struct {
		stage        backends.Stage
		name         string
		truth        backends.Side
		dual         bool
		redis, mysql bool // take mirrors
	}{
		{backends.StageUnknown, "unknown", backends.SideUnknown, false, false, false},
		{backends.RedisOnly, "redis-only", backends.SideRedis, false, false, true},
		{backends.Shadow, "shadow", backends.SideRedis, true, false, true},
		{backends.Live, "live", backends.SideMySQL, true, true, false},
		{backends.MySQLOnly, "mysql-only", backends.SideMySQL, false, false, false},
		{backends.Stage(99), "unknown", backends.SideUnknown, false, false, false},
	} {
		s := c.stage
		if s.String() != c.name || s.Truth() != c.truth || s.Dual() != c.dual {
			t.Errorf("stage %d: %s, truth %s, dual %v", s, s, s.Truth(), s.Dual())
		}
		if s.TakesMirrors(backends.SideRedis) != c.redis || s.TakesMirrors(backends.SideMySQL) != c.mysql || s.TakesMirrors(backends.SideUnknown) {
			t.Errorf("stage %s takes mirrors: redis %v, mysql %v", s, s.TakesMirrors(backends.SideRedis), s.TakesMirrors(backends.SideMySQL))
		}
		parsed, err := backends.ParseStage(c.name)
		if c.truth == backends.SideUnknown {
			refused(t, c.name, err, "redis-only, shadow, live, mysql-only")
			continue
		}
		if err != nil || parsed != s {
			t.Errorf("%q is parsed as %s (%v)", c.name, parsed, err)
		}
		roundTrip(t, s)
	}
	for _, name := range []string{"", "Live", "live ", "redis"} {
		_, err := backends.ParseStage(name)
		refused(t, name, err, "one of")
	}
}

func TestSides(t *testing.T) {
	for side, c := range map[backends.Side]struct {
		name  string
		other backends.Side
	}{
		backends.SideUnknown: {"unknown", backends.SideUnknown},
		backends.SideRedis:   {"redis", backends.SideMySQL},
		backends.SideMySQL:   {"mysql", backends.SideRedis},
	} {
		if side.String() != c.name || side.Other() != c.other {
			t.Errorf("side %d: %s, other %s", side, side, side.Other())
		}
	}
}

// TestFenceRank: the rank is (epoch, open), and no fence outranks itself.
func TestFenceRank(t *testing.T) {
	f := func(epoch uint64, open bool) backends.Fence {
		return backends.Fence{Epoch: epoch, Stage: backends.Shadow, Open: open}
	}
	order := []backends.Fence{{}, f(1, false), f(1, true), f(2, false), f(2, true), f(9, false)}
	for i, a := range order {
		for j, b := range order {
			if got := a.Outranks(b); got != (i > j) {
				t.Errorf("%s outranks %s: %v", a, b, got)
			}
		}
	}
	// Neither the stage nor the filling belongs to the rank.
	other := backends.Fence{Epoch: 1, Stage: backends.Live, Open: true, Filled: true}
	if other.Outranks(f(1, true)) || f(1, true).Outranks(other) {
		t.Error("two open fences of one epoch outrank each other")
	}
}

func TestFenceAdmits(t *testing.T) {
	for _, stage := range []backends.Stage{backends.StageUnknown, backends.RedisOnly, backends.Shadow, backends.Live, backends.MySQLOnly} {
		for _, open := range []bool{false, true} {
			for _, epoch := range []uint64{0, 4, 5, 6} {
				for _, side := range []backends.Side{backends.SideUnknown, backends.SideRedis, backends.SideMySQL} {
					f := backends.Fence{Epoch: 5, Stage: stage, Open: open}
					at := open && epoch == 5
					truth := side != backends.SideUnknown && stage.Truth() == side
					if got := f.Admits(backends.Token{Epoch: epoch}, side); got != (at && truth) {
						t.Errorf("%s admits epoch %d of %s as truth: %v", f, epoch, side, got)
					}
					if got := f.AdmitsMirror(backends.Token{Epoch: epoch}, side); got != (at && stage.TakesMirrors(side)) {
						t.Errorf("%s admits epoch %d of %s as mirror: %v", f, epoch, side, got)
					}
				}
			}
		}
	}
	// Epoch 0 is that of a missing fence: nobody serves under it.
	zero := backends.Fence{Stage: backends.Shadow, Open: true}
	if zero.Admits(backends.Token{}, backends.SideRedis) || zero.AdmitsMirror(backends.Token{}, backends.SideMySQL) {
		t.Error("epoch 0 is admitted")
	}
}

func TestFenceArbitrates(t *testing.T) {
	for _, c := range []struct {
		f    backends.Fence
		want bool
		text string
	}{
		{backends.Fence{Epoch: 1, Stage: backends.Live, Open: true, Filled: true}, true, "epoch 1 live open"},
		{backends.Fence{Epoch: 1, Stage: backends.Live, Open: true}, false, "epoch 1 live open, filling"},
		{backends.Fence{Epoch: 2, Stage: backends.Shadow, Open: true, Filled: true}, false, "epoch 2 shadow open"},
		{backends.Fence{Epoch: 2, Stage: backends.MySQLOnly}, false, "epoch 2 mysql-only closed"},
		{backends.Fence{}, false, "epoch 0 unknown closed"},
	} {
		if got := c.f.Arbitrates(); got != c.want || c.f.String() != c.text {
			t.Errorf("%+v arbitrates %v and reads %q, want %v and %q", c.f, got, c.f, c.want, c.text)
		}
		roundTrip(t, c.f)
	}
}
