package dualwrite_test

import (
	"context"
	"slices"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// filed is a list of apologies.
type filed struct{ as []backends.Apology }

func (f *filed) FileApologies(_ context.Context, _ backends.Pod, _ backends.Side, as []backends.Apology) error {
	f.as = append(f.as, as...)
	return nil
}

// TestRestoreListsWhatHasNoStock: the apology that Redis had filed for a claim without stock is lost with the rest of its last
// writes. The claim comes back from MySQL, so it is listed again. What comes back before its stock does is not.
func TestRestoreListsWhatHasNoStock(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*rig)
		want []backends.Apology
	}{
		"a claim without stock": {
			do: func(r *rig) {
				q := &backends.ClaimRequest{ID: "late", Shop: shop, Lines: cart("late", "lamp", 3).Lines}
				if d, err := r.Claim(r.ctx, q, 0); err != nil || len(d.Apologies) != 1 {
					t.Fatalf("%+v, %v", d, err)
				}
			},
			want: []backends.Apology{{Hold: "late", Key: key("lamp"), Quantity: 2}},
		},
		"a hold on a restock": {
			do: func(r *rig) {
				if _, err := r.Restock(r.ctx, &backends.RestockRequest{OpID: "more", Key: key("lamp"), Amount: 2}); err != nil {
					t.Fatal(err)
				}
				r.grant("early", "lamp", 3)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, backends.Shadow)
			redis := r.redis.Store.(*memstore.Store)
			replica := redis.Snapshot()
			c.do(r)
			r.lane()
			redis.Promote(replica)
			r.epoch++
			under := backends.Fence{Epoch: r.epoch, Stage: backends.Shadow}
			r.raise(r.redis, backends.Fence{Epoch: r.epoch, Stage: backends.RedisOnly})
			r.raise(r.mysql, backends.Fence{Epoch: r.epoch, Stage: backends.Shadow, Open: true})
			list := &filed{}
			p := dualwrite.NewPod("pod", dualwrite.Stores{Redis: redis, MySQL: r.mysql}, dualwrite.Options{Clock: r.clock, Filer: list, Lanes: 1, LaneDepth: 8})
			for range 2 { // again is safe
				if _, err := p.Restore(r.ctx, under, true); err != nil {
					t.Fatal(err)
				}
			}
			if !slices.EqualFunc(list.as, c.want, func(a, b backends.Apology) bool {
				return a.Hold == b.Hold && a.Key == b.Key && a.Quantity == b.Quantity && a.Reason != ""
			}) {
				t.Errorf("listed: %+v; want %+v", list.as, c.want)
			}
			if n := p.Kept(); n != 0 {
				t.Errorf("%d are kept still", n)
			}
			r.raise(r.redis, backends.Fence{Epoch: r.epoch, Stage: backends.Shadow, Open: true})
			r.agree()
		})
	}
}
