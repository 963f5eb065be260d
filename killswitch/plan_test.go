package killswitch_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

func saw(f backends.Fence) killswitch.View { return killswitch.Saw(f, nil) }

var away = killswitch.Saw(backends.Fence{}, errors.New("connection refused"))

func at(f backends.Fence) killswitch.PodState {
	return killswitch.PodState{Pod: pod, Stage: f.Stage, Epoch: f.Epoch, Filled: f.Filled, Phase: killswitch.Serving, MaxEpoch: f.Epoch}
}

func TestAcknowledgeable(t *testing.T) {
	for _, c := range []struct {
		name         string
		redis, mysql backends.Fence
		byR, byM     bool
	}{
		{"live: MySQL, since Redis takes its mirrors", open(5, backends.Live), open(5, backends.Live), false, true},
		{"killed: Redis alone", open(6, backends.Shadow), open(5, backends.Live), true, false},
		{"live, Redis at another epoch", open(6, backends.Live), open(5, backends.Live), false, false},
		{"filling: MySQL alone", filling(5), filling(5), false, true},
		{"filling, Redis behind", open(4, backends.MySQLOnly), filling(5), false, true},
		{"shadow", open(5, backends.Shadow), open(5, backends.Shadow), true, false},
		{"redis-only, MySQL behind", open(5, backends.RedisOnly), open(4, backends.Shadow), true, false},
		{"mysql-only", open(5, backends.MySQLOnly), open(5, backends.MySQLOnly), false, true},
		{"closed", shut(open(5, backends.Shadow)), open(4, backends.Shadow), false, false},
		{"nothing", backends.Fence{}, backends.Fence{}, false, false},
		{"what must not be", open(5, backends.Shadow), open(5, backends.MySQLOnly), true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r, m := killswitch.Acknowledgeable(c.redis, c.mysql); r != c.byR || m != c.byM {
				t.Errorf("Redis %t, MySQL %t; want %t, %t", r, m, c.byR, c.byM)
			}
		})
	}
}

func TestPlanTakesAnEpochAboveAll(t *testing.T) {
	for _, c := range []struct {
		name                    string
		record, max, redis, sql uint64
		want                    uint64
	}{
		{"the record's", 7, 7, 7, 7, 8},
		{"one that was planned", 7, 12, 7, 7, 13},
		{"Redis's", 7, 7, 9, 7, 10},
		{"MySQL's", 7, 7, 7, 11, 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := at(open(c.record, backends.Shadow))
			st.MaxEpoch = c.max
			seen := killswitch.Seen{State: st, Redis: saw(open(c.redis, backends.Shadow)), MySQL: saw(open(c.sql, backends.Shadow))}
			sw, err := killswitch.Plan(seen, backends.RedisOnly)
			if err != nil || sw.Epoch != c.want {
				t.Errorf("epoch %d, %v; want %d", sw.Epoch, err, c.want)
			}
		})
	}
}

// The steps of every move and of every way back, as an operator reads them.
func TestUndoSteps(t *testing.T) {
	for _, c := range []struct {
		kind     killswitch.Kind
		from, to backends.Stage
		filled   bool
		noReturn int
		undo     string
	}{
		{killswitch.KindMove, backends.Shadow, backends.Live, false, 4, "open Redis, shadow; open MySQL, shadow (if possible); serve shadow"},
		{killswitch.KindMove, backends.RedisOnly, backends.Shadow, false, 2, "open Redis, redis-only; open MySQL, redis-only (if possible); serve redis-only"},
		{killswitch.KindMove, backends.Shadow, backends.RedisOnly, false, 0, ""},
		{killswitch.KindMove, backends.Live, backends.Shadow, true, 2, "open Redis, live; open MySQL, live; serve live"},
		{killswitch.KindMove, backends.Live, backends.MySQLOnly, true, 1, "open Redis, live; open MySQL, live; serve live"},
		{killswitch.KindMove, backends.Live, backends.MySQLOnly, false, 0, "open Redis, live (filling); open MySQL, live (filling); serve live"},
		{killswitch.KindMove, backends.MySQLOnly, backends.Live, false, 2, "open MySQL, mysql-only; open Redis, mysql-only (if possible); serve mysql-only"},
		{killswitch.KindFill, backends.Live, backends.Live, false, 2, "open MySQL, live (filling); open Redis, live (filling) (if possible); serve live"},
	} {
		sw := killswitch.Switch{Kind: c.kind, From: c.from, To: c.to, FromEpoch: 5, FromFilled: c.filled, Epoch: 6, UndoEpoch: 7, Undo: true}
		if got := killswitch.NoReturn(sw); got != c.noReturn {
			t.Errorf("%s to %s: no return from step %d, want %d", c.from, c.to, got, c.noReturn)
		}
		var names []string
		for _, s := range killswitch.UndoSteps(sw) {
			n := s.Name
			if s.BestEffort {
				n += " (if possible)"
			}
			names = append(names, n)
			if s.Fence.Epoch != 7 || !s.Fence.Open {
				t.Errorf("%s to %s: undone under %s", c.from, c.to, s.Fence)
			}
		}
		if got := strings.Join(names, "; "); got != c.undo {
			t.Errorf("%s to %s: undone by %q, want %q", c.from, c.to, got, c.undo)
		}
	}
}

func TestReconcile(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	toLive := at(open(5, backends.Shadow))
	toLive.Phase = killswitch.Switching
	toLive.Switch = &killswitch.Switch{ID: 6, Kind: killswitch.KindMove, From: backends.Shadow, To: backends.Live, FromEpoch: 5, Epoch: 6, RedisWas: open(5, backends.Shadow), Step: 1}
	toShadow := at(open(5, backends.Live))
	toShadow.Switch = &killswitch.Switch{ID: 6, Kind: killswitch.KindMove, From: backends.Live, To: backends.Shadow, FromEpoch: 5, FromFilled: true, Epoch: 6, RedisWas: open(5, backends.Live), Step: 1}
	for _, c := range []struct {
		name         string
		record       killswitch.PodState
		redis, mysql killswitch.View
		serving      bool
		stale        bool
		next         backends.Fence
		due          []killswitch.Work
	}{
		{
			"a kill that could not be recorded", at(open(5, backends.Live)), saw(open(6, backends.Shadow)), saw(open(5, backends.Live)),
			true, true, open(6, backends.Shadow), []killswitch.Work{killswitch.WorkSettle, killswitch.WorkBackfill},
		},
		{"all agree", at(open(5, backends.Live)), saw(open(5, backends.Live)), saw(open(5, backends.Live)), true, false, open(5, backends.Live), nil},
		{
			"two kills", at(open(5, backends.Live)), saw(open(7, backends.RedisOnly)), saw(open(5, backends.Live)),
			true, true, open(7, backends.RedisOnly), []killswitch.Work{killswitch.WorkSettle},
		},
		{"a kill from shadow", at(open(5, backends.Shadow)), saw(open(6, backends.RedisOnly)), saw(open(5, backends.Shadow)), true, true, open(6, backends.RedisOnly), nil},
		{"in the middle of a switch", toLive, saw(shut(open(6, backends.Shadow))), saw(open(5, backends.Shadow)), false, false, open(5, backends.Shadow), nil},
		{"a kill in the middle of a switch to live", toLive, saw(open(7, backends.Shadow)), saw(open(5, backends.Shadow)), true, true, open(7, backends.Shadow), nil},
		{
			"a kill that took the switch's own epoch", toShadow, saw(open(6, backends.Shadow)), saw(shut(open(6, backends.Live))),
			true, true, open(6, backends.Shadow), []killswitch.Work{killswitch.WorkSettle, killswitch.WorkBackfill},
		},
		{"Redis away", at(open(5, backends.Live)), away, saw(open(5, backends.Live)), false, false, open(5, backends.Live), nil},
		{"Redis away in mysql-only", at(open(5, backends.MySQLOnly)), away, saw(open(5, backends.MySQLOnly)), true, false, open(5, backends.MySQLOnly), nil},
		{"MySQL away in shadow", at(open(5, backends.Shadow)), saw(open(5, backends.Shadow)), away, true, false, open(5, backends.Shadow), nil},
		{"both away", at(open(5, backends.Shadow)), away, away, false, false, open(5, backends.Shadow), nil},
		{"Redis rolled back", at(open(5, backends.Live)), saw(open(4, backends.Shadow)), saw(open(5, backends.Live)), false, false, open(5, backends.Live), nil},
		{"Redis rolled back in shadow", at(open(5, backends.Shadow)), saw(open(4, backends.RedisOnly)), saw(open(5, backends.Shadow)), false, false, open(5, backends.Shadow), nil},
		{"Redis rolled back, no record", killswitch.PodState{}, saw(open(4, backends.Shadow)), saw(open(5, backends.Live)), false, true, open(5, backends.Live), nil},
		{
			"no record: shadow", killswitch.PodState{}, saw(open(5, backends.Shadow)), saw(open(5, backends.Shadow)),
			true, true, open(5, backends.Shadow), []killswitch.Work{killswitch.WorkSettle, killswitch.WorkBackfill},
		},
		{"no record: filling", killswitch.PodState{}, saw(filling(5)), saw(filling(5)), true, true, filling(5), []killswitch.Work{killswitch.WorkBackfill, killswitch.WorkFill}},
		{"no record, half-way to live", killswitch.PodState{}, saw(open(6, backends.Live)), saw(open(5, backends.Shadow)), false, true, open(6, backends.Live), nil},
		{"no record, half-way back", killswitch.PodState{}, saw(open(5, backends.Live)), saw(open(6, backends.Shadow)), false, true, open(5, backends.Live), nil},
		{"never set up", killswitch.PodState{}, saw(backends.Fence{}), saw(backends.Fence{}), false, false, backends.Fence{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := killswitch.Reconcile(killswitch.Seen{State: c.record, Redis: c.redis, MySQL: c.mysql}, now)
			got := a.Next.Fence()
			if a.Next.Epoch == 0 {
				got = backends.Fence{}
			}
			if a.Serving != c.serving || a.Stale != c.stale || got != c.next {
				t.Errorf("serving %t, stale %t, next %s; want %t, %t, %s", a.Serving, a.Stale, got, c.serving, c.stale, c.next)
			}
			if d := cmp.Diff(c.due, a.Next.Due); d != "" {
				t.Errorf("due (-want +got):\n%s", d)
			}
			if a.Stale && (a.Next.Switch != nil || len(a.Next.History) != 1 || !a.Next.Since.Equal(now) || a.Next.Who != "unknown") {
				t.Errorf("next: %+v", a.Next)
			}
		})
	}
}

func TestWorkFor(t *testing.T) {
	due := func(f backends.Fence, ws ...killswitch.Work) killswitch.PodState {
		st := at(f)
		st.Due = ws
		return st
	}
	const (
		settle, backfill, fill = killswitch.WorkSettle, killswitch.WorkBackfill, killswitch.WorkFill
		raiseM, raiseR         = killswitch.WorkRaiseMySQL, killswitch.WorkRaiseRedis
		realign, reissue       = killswitch.WorkRealign, killswitch.WorkReissue
	)
	shadow, live := open(5, backends.Shadow), open(5, backends.Live)
	switching := at(shadow)
	switching.Switch = &killswitch.Switch{}
	for _, c := range []struct {
		name         string
		record       killswitch.PodState
		redis, mysql killswitch.View
		want         []killswitch.Work
	}{
		{"after a kill", due(shadow, settle, backfill), saw(shadow), saw(open(4, backends.Live)), []killswitch.Work{raiseM, settle, backfill}},
		{"at rest", at(live), saw(live), saw(live), nil},
		{"MySQL away", due(shadow, settle), saw(shadow), away, []killswitch.Work{settle}},
		{"a kill that met the switch's epoch", due(shadow, settle), saw(shadow), saw(shut(open(5, backends.Live))), []killswitch.Work{raiseM, settle}},
		{"MySQL ahead", due(shadow, settle), saw(shadow), saw(shut(open(6, backends.Live))), []killswitch.Work{realign, settle}},
		{"filling", due(filling(5), backfill, fill), saw(filling(5)), saw(filling(5)), []killswitch.Work{backfill, fill}},
		{"filling, Redis behind", due(filling(5), fill), saw(open(4, backends.MySQLOnly)), saw(filling(5)), []killswitch.Work{raiseR, fill}},
		{"Redis lost its fence in live", at(live), saw(backends.Fence{}), saw(live), []killswitch.Work{reissue}},
		{"Redis lost its fence in mysql-only", at(open(5, backends.MySQLOnly)), saw(backends.Fence{}), saw(open(5, backends.MySQLOnly)), []killswitch.Work{raiseR}},
		{"half-way without a record of it", at(live), saw(live), saw(shut(open(6, backends.Live))), []killswitch.Work{realign}},
		{"MySQL lost its fence in live", at(live), saw(live), saw(backends.Fence{}), []killswitch.Work{realign}},
		{"backfill means nothing in redis-only", due(open(5, backends.RedisOnly), backfill), saw(open(5, backends.RedisOnly)), away, nil},
		{"a switch is open", switching, saw(open(6, backends.Live)), saw(shadow), nil},
		{"never set up", killswitch.PodState{}, saw(shadow), saw(shadow), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := killswitch.WorkFor(killswitch.Seen{State: c.record, Redis: c.redis, MySQL: c.mysql})
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("work (-want +got):\n%s", d)
			}
		})
	}
}
