package dualwrite_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// crowded is a truth whose outbox always has thousands of young entries of other operations, and that notes how many there are of
// the backfill's own.
type crowded struct {
	*memstore.Store
	most int64
}

func (b *crowded) OutboxStats(ctx context.Context) (backends.OutboxStats, error) {
	st, err := b.Store.OutboxStats(ctx)
	b.most = max(b.most, st.Entries)
	st.Entries += 5000
	return st, err
}

// TestBackfillUnderTraffic comes to its end although the outbox is never short, and sends no more ahead than it may.
func TestBackfillUnderTraffic(t *testing.T) {
	const holds, ahead = 3000, 2 * dualwrite.SweepPage
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	redis := &crowded{Store: memstore.New(memstore.Options{Side: backends.SideRedis})}
	mysql := memstore.New(memstore.Options{Side: backends.SideMySQL})
	if _, err := redis.Raise(ctx, backends.Fence{Epoch: 1, Stage: backends.RedisOnly, Open: true}, 0); err != nil {
		t.Fatal(err)
	}
	one := backends.Token{Epoch: 1}
	if _, err := redis.Restock(ctx, one, &backends.RestockRequest{OpID: "o", Key: key("a"), Amount: holds}); err != nil {
		t.Fatal(err)
	}
	for i := range holds {
		if _, err := redis.Reserve(ctx, one, cart(backends.HoldID(fmt.Sprintf("h-%d", i)), "a", 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []backends.Store{redis, mysql} {
		if _, err := s.Raise(ctx, backends.Fence{Epoch: 2, Stage: backends.Shadow, Open: true}, 0); err != nil {
			t.Fatal(err)
		}
	}
	pod := dualwrite.NewPod("p", dualwrite.Stores{Redis: redis, MySQL: mysql}, dualwrite.Options{})
	if err := pod.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	var last dualwrite.BackfillProgress
	if err := pod.Backfill(ctx, func(b dualwrite.BackfillProgress) { last = b }); err != nil {
		t.Fatalf("%v, at %+v", err, last)
	}
	if last.Holds != holds {
		t.Errorf("%d holds were sent, of %d", last.Holds, holds)
	}
	// A page may be complete in the moment in which it is looked at.
	if most := redis.most; most > ahead+dualwrite.SweepPage {
		t.Errorf("%d entries waited at once, at most %d may", most, ahead+dualwrite.SweepPage)
	}
	hs, _, err := mysql.ScanHolds(ctx, "", 1, true)
	if err != nil || len(hs) != 1 {
		t.Errorf("the shadow has %d holds on a page of one, %v", len(hs), err)
	}
}

// asked is a truth that notes during which phases of a backfill it was asked how long its outbox is.
type asked struct {
	*memstore.Store
	phase string
	in    map[string]int
}

func (a *asked) OutboxStats(ctx context.Context) (backends.OutboxStats, error) {
	a.in[a.phase]++
	return a.Store.OutboxStats(ctx)
}

// TestBackfillWaitsForNothingThatItDidNotSend: a pod in live has far more ended holds than open ones, and a shadow that is seconds
// behind must not be waited for once for each page of them.
func TestBackfillWaitsForNothingThatItDidNotSend(t *testing.T) {
	const ended = 3 * dualwrite.SweepPage
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	redis := memstore.New(memstore.Options{Side: backends.SideRedis})
	mysql := &asked{Store: memstore.New(memstore.Options{Side: backends.SideMySQL}), in: map[string]int{}}
	for _, s := range []backends.Store{redis, mysql} {
		if _, err := s.Raise(ctx, backends.Fence{Epoch: 1, Stage: backends.Live, Open: true}, 0); err != nil {
			t.Fatal(err)
		}
	}
	one := backends.Token{Epoch: 1}
	if _, err := mysql.Restock(ctx, one, &backends.RestockRequest{OpID: "o", Key: key("a"), Amount: 1}); err != nil {
		t.Fatal(err)
	}
	for i := range ended {
		id := backends.HoldID(fmt.Sprintf("h-%d", i))
		if _, err := mysql.Reserve(ctx, one, cart(id, "a", 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := mysql.Release(ctx, one, &backends.ReleaseRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	pod := dualwrite.NewPod("p", dualwrite.Stores{Redis: redis, MySQL: mysql}, dualwrite.Options{})
	if err := pod.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	phases := 0
	if err := pod.Backfill(ctx, func(b dualwrite.BackfillProgress) {
		if b.Phase != mysql.phase {
			mysql.phase, phases = b.Phase, phases+1
		}
	}); err != nil {
		t.Fatal(err)
	}
	// One look is of the next phase, before it has told its name.
	if n := mysql.in["late claims"]; n > 1 || phases < 5 {
		t.Errorf("the shadow was looked at %d times for %d ended holds, in one of %d phases", n, ended, phases)
	}
}
