package comparator_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
)

func row(proxy string, minute, decisions int64, c comparator.Counts) comparator.CoverageRow {
	return comparator.CoverageRow{Pod: "one", Proxy: proxy, Run: "r", Epoch: 1, Minute: minute, Rev: 1, Decisions: decisions, Counts: c}
}

func TestFoldCoverage(t *testing.T) {
	now := noon
	minute := now.Unix() / 60
	old := minute - 30
	cases := []struct {
		name      string
		rows      []comparator.CoverageRow
		fold      comparator.Fold
		decisions int64
		want      comparator.Counts
	}{
		{name: "proxies add up",
			rows:      []comparator.CoverageRow{row("a", minute, 3, comparator.Counts{Matched: 2, Pending: 1}), row("b", minute, 2, comparator.Counts{Probed: 2})},
			decisions: 5, want: comparator.Counts{Matched: 2, Probed: 2, Pending: 1}},
		{name: "begun by one proxy, mirrored by another",
			rows:      []comparator.CoverageRow{row("a", minute, 1, comparator.Counts{Pending: 1}), row("b", minute, 0, comparator.Counts{Pending: -1, Matched: 1})},
			decisions: 1, want: comparator.Counts{Matched: 1}},
		{name: "begun by a proxy that died before it was saved: still a decision",
			rows:      []comparator.CoverageRow{row("b", minute, 0, comparator.Counts{Pending: -4, Matched: 3, Confirmed: 1})},
			decisions: 4, want: comparator.Counts{Matched: 3, Confirmed: 1}},
		{name: "mirrored by a proxy that died before it was saved: lost, once nothing is on its way",
			rows: []comparator.CoverageRow{row("a", old, 5, comparator.Counts{Pending: 2, Matched: 3})}, fold: comparator.Fold{OutboxEmpty: true},
			decisions: 5, want: comparator.Counts{Matched: 3, Lost: 2}},
		{name: "pending while the outbox has entries is pending",
			rows:      []comparator.CoverageRow{row("a", old, 5, comparator.Counts{Pending: 2, Matched: 3})},
			decisions: 5, want: comparator.Counts{Matched: 3, Pending: 2}},
		{name: "pending of this minute is pending",
			rows: []comparator.CoverageRow{row("a", minute, 5, comparator.Counts{Pending: 2, Matched: 3})}, fold: comparator.Fold{OutboxEmpty: true},
			decisions: 5, want: comparator.Counts{Matched: 3, Pending: 2}},
		{name: "settling of a run that is over is lost, of a live one it is settling",
			rows:      []comparator.CoverageRow{row("dead", old, 2, comparator.Counts{Settling: 2}), row("live", minute, 3, comparator.Counts{Settling: 3})},
			decisions: 5, want: comparator.Counts{Settling: 3, Lost: 2}},
		{name: "no rows"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.fold.Now, c.fold.SettleWindow = now, 2*time.Minute
			got := comparator.FoldCoverage("one", c.rows, c.fold)
			if d := cmp.Diff(comparator.Coverage{Pod: "one", Decisions: c.decisions, Counts: c.want}, got); d != "" {
				t.Error(d)
			}
			if err := got.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCheckNamesAnImbalance(t *testing.T) {
	c := comparator.Coverage{Pod: "one", Decisions: 3, Counts: comparator.Counts{Matched: 2}}
	var u *comparator.UnbalancedError
	if err := c.Check(); !errors.As(err, &u) || u.Decisions != 3 || u.Sum != 2 {
		t.Errorf("%v", err)
	}
	r := row("a", 1, 1, comparator.Counts{Lost: 2})
	if err := r.Check(); !errors.As(err, &u) {
		t.Errorf("%v", err)
	}
}

func TestTruthCountBeyondOursIsLost(t *testing.T) {
	c := comparator.Coverage{Decisions: 5, Counts: comparator.Counts{Matched: 5}}
	if got := c.WithTruthCount(8); got.Lost != 3 || got.Decisions != 8 || got.Check() != nil {
		t.Errorf("%+v", got)
	}
	if got := c.WithTruthCount(4); got != c {
		t.Errorf("%+v", got)
	}
}

func TestParityStatesItsDenominators(t *testing.T) {
	p := comparator.Coverage{Decisions: 20, Counts: comparator.Counts{Matched: 5, Probed: 2, Explained: 1, Confirmed: 2, SampledOut: 10}}.Parity()
	if p.Agreed != 8 || p.Compared != 10 || p.Decisions != 20 || *p.Rate != 0.8 || *p.Share != 0.5 {
		t.Errorf("%+v", p)
	}
	if p := (comparator.Coverage{}).Parity(); p.Rate != nil || p.Share != nil {
		t.Errorf("a rate of nothing: %+v", p)
	}
}

// observed is one reserve of an item, as seen by both stores.
func observed(hold, item string, epoch uint64, t answer, s *own) comparator.Observation {
	o := comparator.Observation{Pod: "one", Epoch: epoch, Stage: backends.Shadow, Op: backends.OpReserve, Hold: backends.HoldID(hold), Shop: "s",
		Caller: "web", Lines: []backends.Line{line(1, item, "A")}, Truth: t, Shadow: s, How: comparator.HowMirror}
	return o
}

var (
	grantOne  = answer{Outcome: granted, Allocs: []backends.Allocation{alloc(0, "A", 1)}}
	refuseOne = answer{Outcome: soldOut, Short: []backends.Shortage{short(0, "mug", 1, 0)}}
)

func ownOf(a answer) *own {
	return &own{Outcome: a.Outcome, Allocs: a.Allocs, Short: a.Short, Seen: a.Seen}
}

// step is one decision, begun by one proxy and ended by another, and what the world is like then.
type step struct {
	begins, ends int
	epoch        uint64
	event        int
	away         bool
	look         int
	pause        time.Duration
}

func drawStep(t *rapid.T) step {
	return step{
		begins: rapid.IntRange(0, 1).Draw(t, "begins"), ends: rapid.IntRange(0, 1).Draw(t, "ends"),
		epoch: rapid.Uint64Range(1, 2).Draw(t, "epoch"), event: rapid.IntRange(0, 9).Draw(t, "event"),
		away: rapid.IntRange(0, 3).Draw(t, "store away") == 0, look: rapid.IntRange(0, 4).Draw(t, "rechecker"),
		pause: time.Duration(rapid.IntRange(0, 40_000).Draw(t, "pause")) * time.Millisecond,
	}
}

// Whatever comes in, in whatever order, from however many proxies, and however often saving fails: the
// columns of each run add up to its decisions exactly, and so do those that the store has, and every
// decision that was begun is found again.
func TestCoverageIsExactUnderAnyOrderOfEvents(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 60).Draw(rt, "steps")
		var err error
		synctest.Test(t, func(*testing.T) { err = play(steps) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func play(steps []step) error {
	const window = 20 * time.Second
	store, look := &flaky{Store: memfindings.New()}, &scripted{}
	var cs []*comparator.Comparator
	for i := range 2 {
		c, err := comparator.New(comparator.Config{Pod: "one", Proxy: fmt.Sprint("p", i), Run: "r", Store: store, Rechecker: look,
			Queue: 4, MaxSettling: 3, SettleWindow: window})
		if err != nil {
			return err
		}
		if err := c.Start(context.Background()); err != nil {
			return err
		}
		defer c.Stop()
		cs = append(cs, c)
	}
	for i, s := range steps {
		cs[s.begins].Begin(s.epoch)
		end(cs[s.ends], s, i)
		store.fail(s.away)
		look.say(s.look)
		pass(s.pause)
		for _, c := range cs {
			if err := c.Check(); err != nil {
				return err
			}
		}
	}
	store.fail(false)
	for _, c := range cs {
		c.Stop()
	}
	rows, err := store.Coverage(context.Background(), "one", time.Time{})
	if err != nil {
		return err
	}
	for i := range rows {
		if err := rows[i].Check(); err != nil {
			return err
		}
	}
	got := comparator.FoldCoverage("one", rows, comparator.Fold{Now: time.Now(), SettleWindow: window})
	if got.Decisions != int64(len(steps)) || got.Settling != 0 {
		return fmt.Errorf("%d decisions were begun, the store has %+v", len(steps), got)
	}
	return got.Check()
}

// end ends one decision in one of the ways in which decisions end.
func end(c *comparator.Comparator, s step, n int) {
	o := observed(fmt.Sprint("h", n), "mug", s.epoch, grantOne, ownOf(grantOne))
	switch s.event {
	case 0:
		c.SampledOut(s.epoch, 1)
		return
	case 1:
		c.Lost(s.epoch, 1)
		return
	case 2:
		o.Truth, o.Shadow = refuseOne, ownOf(refuseOne)
	case 3:
		o.Truth = refuseOne
	case 4:
		o.Shadow = ownOf(refuseOne)
	case 5:
		o.Shadow, o.Missing = nil, comparator.ReasonProbeFailed
	case 6:
		o.Shadow, o.Missing = nil, comparator.ReasonPending
	case 7:
		o.Shadow = &own{} // an unknown outcome
	case 8: // the same stock seen, different answers
		o.Truth.Seen = []backends.Units{units(1, "mug", "A")}
		o.Shadow = ownOf(refuseOne)
		o.Shadow.Seen = o.Truth.Seen
	}
	c.Observe(o)
}
