package dualwrite_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

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

// heard counts the units of which a proxy says that they are promised and not there.
type heard struct {
	dualwrite.NoObserver
	units int64
}

func (h *heard) Apology(_ backends.Pod, a backends.Apology) { h.units += a.Quantity }

// endsUnheard has MySQL release a hold, as a proxy does that dies before it tells Redis.
func (r *rig) endsUnheard(id backends.HoldID) {
	r.t.Helper()
	if d, err := r.mysql.Store.Release(r.ctx, r.tok(), &backends.ReleaseRequest{ID: id}); err != nil || d.Entry == nil {
		r.t.Fatalf("%+v, %v", d, err)
	}
}

// TestSoldOnBeforeAKill: MySQL has ended a hold, nobody has told Redis, and its unit went to another buyer, who has paid. After the kill the
// first one may pay as well: that is listed, once the list can be reached, and before MySQL's outbox forgets it.
func TestSoldOnBeforeAKill(t *testing.T) {
	restock := func(r *rig, s backends.Store, by int64) {
		if _, err := s.Restock(r.ctx, r.tok(), &backends.RestockRequest{OpID: "more", Key: key("lamp"), Amount: by}); err != nil {
			r.t.Fatal(err)
		}
	}
	resold := func(r *rig) {
		r.grant("second", "lamp", 1)
		r.claim("second")
	}
	for name, c := range map[string]struct {
		before func(r *rig) // in live, when MySQL has ended the hold
		after  func(r *rig) // after the kill
		want   int64        // units listed
	}{
		"paid for": {before: resold, after: func(r *rig) { r.claim("first") }, want: 1},
		"open":     {before: resold, want: 1},
		"not sold": {},
		"released": {before: resold, after: func(r *rig) {
			if _, err := r.Release(r.ctx, &backends.ReleaseRequest{ID: "first"}); err != nil {
				r.t.Fatal(err)
			}
		}},
		"its time has come":                  {before: resold, after: func(r *rig) { r.clock.pass(2 * time.Minute) }},
		"there is another unit":              {before: resold, after: func(r *rig) { restock(r, r.redis.Store, 1) }},
		"another unit is still on its way":   {before: func(r *rig) { resold(r); restock(r, r.mysql.Store, 1) }},
		"its unit is written off on its way": {before: func(r *rig) { restock(r, r.mysql.Store, -1) }, want: 1},
		"MySQL had it claimed after all": {before: func(r *rig) {
			resold(r)
			// MySQL has listed that itself.
			if d, err := r.Claim(r.ctx, &backends.ClaimRequest{ID: "first"}, 0); err != nil || len(d.Apologies) != 1 {
				r.t.Fatalf("%+v, %v", d, err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l, o := &refusing{times: 1}, &heard{}
			r := newRig(t, backends.Live, func(opt *dualwrite.Options) { opt.Filer, opt.Observer = l, o })
			r.grant("first", "lamp", 1)
			r.endsUnheard("first")
			if c.before != nil {
				c.before(r)
			}
			o.units = 0
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
			if got != c.want || o.units != c.want {
				t.Errorf("%d units are listed and %d said to be missing, want %d: %+v", got, o.units, c.want, l.as)
			}
			r.sweep(0)
			r.waiting(r.mysql, 0)
			r.agree()
		})
	}
}

// TestSoldOnIsListedOnce: a unit that is missing is of one of the holds that it may be missing to, and is listed once, also where the one
// who has listed it dies before MySQL's outbox forgets it.
func TestSoldOnIsListedOnce(t *testing.T) {
	l, o := &refusing{}, &heard{}
	r := newRig(t, backends.Live, func(opt *dualwrite.Options) { opt.Filer, opt.Observer = l, o })
	both := func(id backends.HoldID, mugs int64, lamps int64) *backends.ReserveRequest {
		q := cart(id, "mug", mugs)
		if lamps > 0 {
			q.Lines = append(q.Lines, cart(id, "lamp", lamps).Lines...)
		}
		return q
	}
	for _, q := range []*backends.ReserveRequest{both("a", 2, 1), both("b", 2, 0), both("c", 2, 0)} {
		if d, err := r.Reserve(r.ctx, q); err != nil || d.Outcome != backends.OutcomeGranted {
			t.Fatalf("%+v, %v", d, err)
		}
		r.endsUnheard(q.ID)
	}
	if d, err := r.Reserve(r.ctx, both("others", 7, 1)); err != nil || d.Outcome != backends.OutcomeGranted {
		t.Fatalf("%+v, %v", d, err)
	}
	r.kill()
	if err := r.Refresh(r.ctx); err != nil {
		t.Fatal(err)
	}
	lost := true
	r.mysql.before = func(call string) error {
		if call == "done" && lost && len(l.as) > 0 {
			lost = false
			return backends.ErrAmbiguous
		}
		return nil
	}
	if _, err := r.Settle(r.ctx); !errors.Is(err, backends.ErrAmbiguous) {
		t.Fatalf("with an outbox that does not answer: %v", err)
	}
	if o.units != 0 {
		t.Errorf("%d units are said to be missing while the outbox still has their holds", o.units)
	}
	if _, err := r.Settle(r.ctx); err != nil {
		t.Fatal(err)
	}
	// 10 mugs less 13 that are promised, and one lamp less two.
	want := map[backends.Key]int64{key("mug"): 3, key("lamp"): 1}
	got, listed := map[backends.Key]int64{}, map[string]int64{}
	for _, a := range l.as {
		if p := string(a.Hold) + " " + a.Key.String(); listed[p] < a.Quantity { // the list keeps the larger
			got[a.Key] += a.Quantity - listed[p]
			listed[p] = a.Quantity
		}
	}
	if !maps.Equal(got, want) || o.units != 4 {
		t.Errorf("listed: %v, and %d units said to be missing; want %v: %+v", got, o.units, want, l.as)
	}
}
