package dualwrite_test

import (
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// TestRestockComesBackOnce: Redis had taken a restock and lost it in a failover, and only the proxy knows of it. It comes back to both stores,
// once, also where MySQL's answer is lost on the way; one that MySQL has had all along is in what Redis is set to, and is left alone.
func TestRestockComesBackOnce(t *testing.T) {
	for name, c := range map[string]struct {
		had  bool // MySQL has it, and the proxy was not told
		lost int  // answers of MySQL that are lost
	}{
		"MySQL has never had it":         {},
		"an answer is lost":              {lost: 1},
		"MySQL has had it, without word": {had: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, backends.Shadow)
			redis := r.redis.Store.(*memstore.Store)
			replica := redis.Snapshot()
			r.Pod = dualwrite.NewPod("pod", dualwrite.Stores{Redis: redis, MySQL: r.mysql}, dualwrite.Options{Clock: r.clock, Lanes: 1, LaneDepth: 8})
			if err := r.Refresh(r.ctx); err != nil {
				t.Fatal(err)
			}
			q := &backends.RestockRequest{OpID: "more", Key: key("lamp"), Amount: 2}
			if _, err := r.Restock(r.ctx, q); err != nil {
				t.Fatal(err)
			}
			r.mysql.before = func(string) error { return backends.ErrUnavailable }
			r.lane()
			r.mysql.before = nil
			if c.had {
				es, err := redis.Pending(r.ctx, "", 0, 10)
				if err != nil || len(es) != 1 {
					t.Fatalf("%+v, %v", es, err)
				}
				if _, err := r.mysql.Store.Apply(r.ctx, r.tok(), r.clock.instant(), es); err != nil {
					t.Fatal(err)
				}
			}
			redis.Promote(replica)
			r.fences(backends.Shadow)
			if c.had { // as a restore does under the closed fence
				by := &backends.Correction{OpID: "restore", Key: key("lamp"), Sellable: 2, OnHand: 2}
				if _, err := redis.RestoreLevel(r.ctx, r.tok(), r.clock.instant(), by); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.Refresh(r.ctx); err != nil {
				t.Fatal(err)
			}
			lost := c.lost
			r.mysql.spoil = func(as []backends.Applied) {
				if lost > 0 {
					lost--
					for i := range as {
						as[i] = backends.Applied{Seq: as[i].Seq, Err: backends.ErrAmbiguous}
					}
				}
			}
			for range c.lost {
				if err := r.GiveBack(r.ctx); err == nil || r.Kept() != 1 {
					t.Fatalf("with an answer that is lost: %v, and %d are kept", err, r.Kept())
				}
			}
			if err := r.GiveBack(r.ctx); err != nil || r.Kept() != 0 {
				t.Fatalf("%v, and %d are kept", err, r.Kept())
			}
			r.sweep(0)
			r.agree()
			ls, err := r.Levels(r.ctx, []backends.Key{key("lamp")})
			if err != nil || ls[0].OnHand != 3 {
				t.Errorf("%+v, %v; want 3 on hand", ls, err)
			}
		})
	}
}
