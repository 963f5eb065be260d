package dualwrite_test

import (
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// TestEmptiedRedisIsNotFilled: a Redis that has lost its units on hand must not become the arbiter of
// live, since a kill would make it the truth.
func TestEmptiedRedisIsNotFilled(t *testing.T) {
	ctx := t.Context()
	key := backends.Key{Shop: "s", Item: "a", Location: "l"}
	redis := memstore.New(memstore.Options{Side: backends.SideRedis})
	mysql := memstore.New(memstore.Options{Side: backends.SideMySQL})
	raise := func(f backends.Fence) {
		t.Helper()
		for _, s := range []*memstore.Store{redis, mysql} {
			if _, err := s.Raise(ctx, f, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	pod := dualwrite.NewPod("p", dualwrite.Stores{Redis: redis, MySQL: mysql}, dualwrite.Options{})
	// Stock that MySQL has and whose delta Redis was told of before it was emptied.
	raise(backends.Fence{Epoch: 1, Stage: backends.Live, Filled: true, Open: true})
	d, err := mysql.Restock(ctx, backends.Token{Epoch: 1}, &backends.RestockRequest{OpID: "o", Key: key, Amount: 5})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mysql.Done(ctx, []string{d.Entry.Seq}); err != nil {
		t.Fatal(err)
	}
	raise(backends.Fence{Epoch: 2, Stage: backends.Live, Open: true})
	if err := pod.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	var differ *dualwrite.LevelsDifferError
	if err := pod.Backfill(ctx, nil); !errors.As(err, &differ) || differ.Truth != 5 || differ.Shadow != 0 || differ.Key != key {
		t.Fatalf("got %v; want the 5 units that Redis does not have", err)
	}
	// Set right in Redis, it passes.
	raise(backends.Fence{Epoch: 3, Stage: backends.Shadow, Open: true})
	if _, err := redis.Restock(ctx, backends.Token{Epoch: 3}, &backends.RestockRequest{OpID: "right", Key: key, Kind: backends.RestockSetOnHand, Amount: 5}); err != nil {
		t.Fatal(err)
	}
	raise(backends.Fence{Epoch: 4, Stage: backends.Live, Open: true})
	if err := pod.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if err := pod.Backfill(ctx, nil); err != nil {
		t.Fatal(err)
	}
}
