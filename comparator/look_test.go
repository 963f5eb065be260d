package comparator_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// queued is a truth with an outbox of its own making.
type queued struct {
	*memstore.Store
	entries []backends.Entry
	claims  int64 // what its statistics say beyond its entries
	pages   int
}

func (q *queued) OutboxStats(context.Context) (backends.OutboxStats, error) {
	return backends.OutboxStats{Entries: int64(len(q.entries)) + q.claims}, nil
}

func (q *queued) Pending(_ context.Context, after string, _ int64, limit int) ([]backends.Entry, error) {
	q.pages++
	start := 0
	for start < len(q.entries) && after != "" && q.entries[start].Seq <= after {
		start++
	}
	return q.entries[start:min(start+limit, len(q.entries))], nil
}

func entry(n int, id backends.HoldID, item string) backends.Entry {
	h := &backends.Hold{ID: id, Shop: "s", State: backends.Held, Lines: []backends.Line{line(1, item, "A")}, Allocs: []backends.Allocation{alloc(0, "A", 1)}}
	return backends.Entry{Seq: fmt.Sprintf("%06d", n), Op: backends.OpReserve, Hold: h}
}

func TestLook(t *testing.T) {
	mug, cup := key("mug", "A"), key("cup", "A")
	tombstone := backends.Entry{Seq: "1", Op: backends.OpReemit, Hold: &backends.Hold{ID: "ghost", Shop: "s", State: backends.Released}}
	change := backends.Entry{Seq: "1", Op: backends.OpCount, Level: &backends.LevelChange{Key: mug, Taken: 1}}
	var many []backends.Entry
	for n := range 2500 {
		many = append(many, entry(n, "other", "hat"))
	}
	cases := []struct {
		name     string
		entries  []backends.Entry
		claims   int64
		mug, cup int // entries waiting
		hold     int
		unsure   bool
	}{
		{name: "an empty outbox"},
		{name: "an entry of a hold waits for its keys", entries: []backends.Entry{entry(1, "h1", "mug")}, mug: 1, hold: 1},
		{name: "an entry of another hold waits for its keys", entries: []backends.Entry{entry(1, "h2", "mug")}, mug: 1},
		{name: "a level change waits for its key", entries: []backends.Entry{change}, mug: 1},
		{name: "an entry that names no key may move any", entries: []backends.Entry{tombstone}, mug: 1, cup: 1},
		{name: "the last page is read too", entries: append(many, entry(9999, "h1", "cup")), cup: 1, hold: 1},
		{name: "an outbox that is too long proves nothing", claims: comparator.MaxPendingScan + 1, unsure: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPod(t, backends.Shadow)
			truth := &queued{Store: p.truth, entries: c.entries, claims: c.claims}
			ev, err := comparator.Look(ctx, comparator.Pair{Stage: p.stage, Truth: truth, Shadow: p.shadow}, []backends.Key{cup, mug}, []backends.HoldID{"h1"}, noon)
			if err != nil {
				t.Fatal(err)
			}
			m, u, h := ev.Keys[mug], ev.Keys[cup], ev.Holds["h1"]
			if m.PendingBefore != c.mug || m.PendingAfter != c.mug || u.PendingBefore != c.cup || u.PendingAfter != c.cup ||
				h.PendingBefore != c.hold || h.PendingAfter != c.hold || (ev.Unsure != "") != c.unsure {
				t.Errorf("mug %+v, cup %+v, hold %+v, unsure %q", m, u, h, ev.Unsure)
			}
			if waits := c.mug+c.cup > 0; waits != (len(ev.Pending) == 1) {
				t.Errorf("entries kept: %+v", ev.Pending)
			}
			if ev.Stage != backends.Shadow || !ev.At.Equal(noon) {
				t.Errorf("%+v", ev)
			}
		})
	}
}

// An outbox that grows while it is read, faster than it is read, ends the reading all the same.
func TestLookIsBounded(t *testing.T) {
	p := newPod(t, backends.Shadow)
	truth := &queued{Store: p.truth, claims: -comparator.MaxPendingScan - 5000}
	for n := range comparator.MaxPendingScan + 5000 {
		truth.entries = append(truth.entries, entry(n, "h", "hat"))
	}
	ev, err := comparator.Look(ctx, comparator.Pair{Stage: p.stage, Truth: truth, Shadow: p.shadow}, []backends.Key{key("mug", "A")}, nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	if ev.Unsure == "" || truth.pages > 2*comparator.MaxPendingScan/1000 {
		t.Errorf("unsure %q after %d pages", ev.Unsure, truth.pages)
	}
}

func TestRecheckerAcrossAChangeOfStage(t *testing.T) {
	p := newPod(t, backends.Shadow)
	asked := 0
	r := comparator.NewStoreRechecker(func() (comparator.Pair, error) {
		asked++
		stage := backends.Shadow
		if asked > 1 {
			stage = backends.Live
		}
		return comparator.Pair{Stage: stage, Truth: p.truth, Shadow: p.shadow}, nil
	}, func() time.Time { return noon })
	ev, err := r.Recheck(ctx, []backends.Key{key("mug", "A")}, nil)
	if err != nil || ev.Unsure == "" {
		t.Errorf("%v %+v", err, ev)
	}
}

// Whoever knows that the shadow is being filled says so: then a look concludes nothing.
func TestRecheckerTellsThatNothingCanBeConcluded(t *testing.T) {
	p := newPod(t, backends.Shadow)
	for first := range 2 { // it may be told before the look or behind it
		asked := 0
		r := comparator.NewStoreRechecker(func() (comparator.Pair, error) {
			pair := comparator.Pair{Stage: backends.Shadow, Truth: p.truth, Shadow: p.shadow}
			if asked == first {
				pair.Unsure = "a backfill is under way"
			}
			asked++
			return pair, nil
		}, func() time.Time { return noon })
		ev, err := r.Recheck(ctx, []backends.Key{key("mug", "A")}, nil)
		if err != nil || ev.Unsure != "a backfill is under way" {
			t.Errorf("%v %+v", err, ev)
		}
	}
}

func TestRecheckerPassesErrorsOn(t *testing.T) {
	p := newPod(t, backends.Shadow)
	r := comparator.NewStoreRechecker(func() (comparator.Pair, error) { return comparator.Pair{}, comparator.ErrNoPair }, time.Now)
	if _, err := r.Recheck(ctx, nil, nil); !errors.Is(err, comparator.ErrNoPair) {
		t.Errorf("%v", err)
	}
	if _, err := comparator.Look(ctx, comparator.Pair{Stage: backends.Shadow}, nil, nil, noon); !errors.Is(err, comparator.ErrNoPair) {
		t.Errorf("%v", err)
	}
	for _, s := range []*memstore.Store{p.shadow, p.truth} {
		_ = s.Close()
		if _, err := comparator.Look(ctx, comparator.Pair{Stage: backends.Shadow, Truth: p.truth, Shadow: p.shadow}, []backends.Key{key("mug", "A")}, nil, noon); !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}
}
