package dualwrite_test

import (
	"context"
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// refusing is a list that cannot be reached at first.
type refusing struct {
	filed
	times int
}

var errAway = errors.New("away")

func (l *refusing) FileApologies(ctx context.Context, pod backends.Pod, side backends.Side, as []backends.Apology) error {
	if l.times > 0 {
		l.times--
		return errAway
	}
	return l.filed.FileApologies(ctx, pod, side, as)
}

// TestSoldOnBeforeAKill: MySQL has ended a hold, nobody has told Redis, and its unit went to another buyer, who has paid. After the kill the
// first one may pay as well: that is listed, once the list can be reached, and before MySQL's outbox forgets it.
func TestSoldOnBeforeAKill(t *testing.T) {
	for name, c := range map[string]struct {
		before func(r *rig) // in live, after the unit was sold again
		after  func(r *rig) // after the kill
		want   int64        // units listed
	}{
		"paid for": {after: func(r *rig) { r.claim("first") }, want: 1},
		"open":     {want: 1},
		"released": {after: func(r *rig) {
			if _, err := r.Release(r.ctx, &backends.ReleaseRequest{ID: "first"}); err != nil {
				r.t.Fatal(err)
			}
		}},
		"there is another unit": {after: func(r *rig) {
			if _, err := r.Restock(r.ctx, &backends.RestockRequest{OpID: "more", Key: key("lamp"), Amount: 1}); err != nil {
				r.t.Fatal(err)
			}
		}},
		"MySQL had it claimed after all": {want: 1, before: func(r *rig) {
			// MySQL has filed that promise, and the list knows it by hold and item.
			if d, err := r.Pod.Claim(r.ctx, &backends.ClaimRequest{ID: "first"}, 0); err != nil || len(d.Apologies) != 1 {
				r.t.Fatalf("%+v, %v", d, err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := &refusing{times: 1}
			r := newRig(t, backends.Live, func(o *dualwrite.Options) { o.Filer = l })
			r.grant("first", "lamp", 1)
			if d, err := r.mysql.Store.Release(r.ctx, r.tok(), &backends.ReleaseRequest{ID: "first"}); err != nil || d.Entry == nil {
				t.Fatalf("%+v, %v", d, err)
			}
			r.grant("second", "lamp", 1)
			r.claim("second")
			if c.before != nil {
				c.before(r)
			}
			r.kill()
			if err := r.Refresh(r.ctx); err != nil {
				t.Fatal(err)
			}
			if c.after != nil {
				c.after(r)
			}
			if _, err := r.Settle(r.ctx); c.want > 0 != errors.Is(err, errAway) {
				t.Fatalf("with a list that cannot be reached: %v", err)
			}
			if _, err := r.Settle(r.ctx); err != nil {
				t.Fatal(err)
			}
			var got int64
			for _, a := range l.as {
				if a.Hold != "first" || a.Key != key("lamp") || a.Reason == "" {
					t.Errorf("listed: %+v", a)
				}
				got += a.Quantity
			}
			if got != c.want {
				t.Errorf("%d units are listed, want %d: %+v", got, c.want, l.as)
			}
			r.waiting(r.mysql, 0)
			r.sweep(0)
			r.agree()
		})
	}
}
