package storetest

import (
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

var lifeParts = []part{
	{"release gives the units back", releaseOpen},
	{"release of what has ended", releaseEnded},
	{"extend moves the expiry", extendOpen},
	{"extend after expiry, before the sweep", extendBeforeSweep},
	{"extend shortens too", extendShortens},
	{"extend of what has ended", extendEnded},
	{"expire ends what is due, in order", expireInOrder},
	{"expire leaves the rest alone", expireLeaves},
}

func (r *rig) grantFor(id backends.HoldID, ttl time.Duration, lines ...backends.Line) *backends.Decision {
	r.t.Helper()
	q := request(id, lines...)
	q.TTL = ttl
	return r.reserve(backends.OutcomeGranted, q)
}

func releaseOpen(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 2)
	r.stock(mug, west, 2)
	r.grant("cart", splitLine(mug, 3, east, west))
	d := r.release(backends.OutcomeReleased, "cart")
	if d.Replayed || d.Hold == nil || d.Hold.State != backends.Released || d.Hold.EndedAt < d.Hold.CreatedAt {
		t.Fatalf("a release answered %+v", d)
	}
	r.same("the version", backends.Version{Epoch: firstEpoch, N: 2}, d.Hold.Version)
	r.same("the hold as read", d.Hold, r.get("cart"))
	r.levelIs(mug, east, units{OnHand: 2, Sellable: 2})
	r.levelIs(mug, west, units{OnHand: 2, Sellable: 2})
	// The units are for sale again.
	r.grant("next", splitLine(mug, 4, east, west))
	r.conserved()
	// After expiry and before the sweep the hold is still open.
	r.release(backends.OutcomeReleased, "next")
	r.pass(r.grantFor("slow", shortTTL, line(mug, 2)).Hold.ExpiresAt)
	r.release(backends.OutcomeReleased, "slow")
	r.levelIs(mug, east, units{OnHand: 2, Sellable: 2})
}

func releaseEnded(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	d := r.release(backends.OutcomeNotFound, "nobody")
	if d.Hold != nil || d.Entry != nil {
		t.Fatalf("a release of nothing answered %+v", d)
	}
	r.endEach()
	r.drain()
	before := r.level(key(mug, east))
	if d := r.release(backends.OutcomeReleased, "released"); !d.Replayed || d.Hold == nil || d.Entry != nil {
		t.Fatalf("a release sent again answered %+v", d)
	}
	for id, state := range map[backends.HoldID]backends.State{"claimed": backends.Claimed, "expired": backends.Expired} {
		d := r.release(backends.OutcomeEnded, id)
		if d.Hold == nil || d.Hold.State != state || d.Entry != nil {
			t.Fatalf("a release of what was %s answered %+v", state, d)
		}
		r.state(id, state)
	}
	r.unmoved(before)
}

// endEach makes holds "claimed", "released" and "expired" of one mug each.
func (r *rig) endEach() {
	r.t.Helper()
	for _, id := range []backends.HoldID{"claimed", "released"} {
		r.grant(id, line(mug, 1))
	}
	r.claim(backends.OutcomeClaimed, "claimed")
	r.release(backends.OutcomeReleased, "released")
	r.pass(r.grantFor("expired", shortTTL, line(mug, 1)).Hold.ExpiresAt)
	if ds := r.expire(); len(ds) != 1 {
		r.t.Fatalf("the sweeper ended %d holds, want 1", len(ds))
	}
}

// unmoved wants a level as it was, and nothing in the outbox.
func (r *rig) unmoved(l backends.Level) {
	r.t.Helper()
	r.same("the level", l, r.level(l.Key))
	if es := r.pending(); len(es) != 0 {
		r.t.Fatalf("something was written: %+v", es)
	}
}

func extendOpen(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 5)
	first := r.grantFor("cart", shortTTL, line(mug, 3))
	before := r.now()
	d := r.extend(backends.OutcomeExtended, "cart", longTTL)
	if at := d.Hold.ExpiresAt.Add(-longTTL); at < before || at > r.now() {
		t.Fatalf("extended at %d by the expiry, want it counted from the store's now", at)
	}
	want := first.Hold.Clone()
	want.ExpiresAt, want.Version.N = d.Hold.ExpiresAt, 2
	r.same("the hold", want, d.Hold)
	r.same("the hold as read", want, r.get("cart"))
	r.pass(first.Hold.ExpiresAt)
	if ds := r.expire(); len(ds) != 0 {
		t.Fatalf("the sweeper ended %+v, which was extended", ds[0].Hold)
	}
	r.levelIs(mug, east, units{OnHand: 5, Sellable: 2, Held: 3})
	if d := r.extend(backends.OutcomeExtended, "cart", longTTL); d.Hold.Version.N != 3 {
		t.Fatalf("the second extend made version %s", d.Hold.Version)
	}
}

func extendBeforeSweep(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 5)
	r.pass(r.grantFor("cart", shortTTL, line(mug, 3)).Hold.ExpiresAt)
	r.extend(backends.OutcomeExtended, "cart", longTTL)
	if ds := r.expire(); len(ds) != 0 {
		t.Fatalf("the sweeper ended %+v, which was extended", ds[0].Hold)
	}
	r.state("cart", backends.Held)
}

func extendShortens(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 5)
	r.grant("cart", line(mug, 3))
	r.pass(r.extend(backends.OutcomeExtended, "cart", shortTTL).Hold.ExpiresAt)
	if ds := r.expire(); len(ds) != 1 {
		t.Fatalf("the sweeper ended %d holds, want 1", len(ds))
	}
	r.state("cart", backends.Expired)
}

func extendEnded(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	if d := r.extend(backends.OutcomeNotFound, "nobody", longTTL); d.Hold != nil || d.Entry != nil {
		t.Fatalf("an extend of nothing answered %+v", d)
	}
	r.endEach()
	r.drain()
	before := r.level(key(mug, east))
	for id, state := range map[backends.HoldID]backends.State{
		"claimed": backends.Claimed, "released": backends.Released, "expired": backends.Expired,
	} {
		d := r.extend(backends.OutcomeEnded, id, longTTL)
		if d.Hold == nil || d.Hold.State != state || d.Entry != nil {
			t.Fatalf("an extend of what was %s answered %+v", state, d)
		}
		if got := r.reserve(backends.OutcomeEnded, request(id, line(mug, 1))); got.Hold.State != state {
			t.Fatalf("a reserve of what was %s answered %+v", state, got)
		}
	}
	r.unmoved(before)
}

func expireInOrder(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	last := r.grantFor("third", 9*shortTTL, line(mug, 3)).Hold.ExpiresAt
	r.grantFor("first", shortTTL, line(mug, 1))
	r.grantFor("second", 5*shortTTL, line(mug, 2))
	r.grant("stays", line(mug, 4))
	r.pass(last)
	before := r.now()
	var got []backends.HoldID
	for _, want := range []int{2, 1, 0} {
		ds, err := r.s.Expire(r.ctx, r.tok, 2)
		r.ok(err, "Expire")
		if len(ds) != want {
			t.Fatalf("Expire of at most 2 ended %d holds, want %d", len(ds), want)
		}
		for _, d := range ds {
			r.outcome(d, backends.OpExpire, backends.OutcomeExpired)
			h := d.Hold
			if h == nil || h.State != backends.Expired || h.EndedAt < before || h.Version != (backends.Version{Epoch: firstEpoch, N: 2}) {
				t.Fatalf("Expire answered hold %+v", h)
			}
			r.same("the hold as read", h, r.get(h.ID))
			got = append(got, h.ID)
		}
	}
	r.same("the order", []backends.HoldID{"first", "second", "third"}, got)
	r.state("stays", backends.Held)
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 6, Held: 4})
	r.conserved()
}

func expireLeaves(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.grant("open", line(mug, 1))
	for _, id := range []backends.HoldID{"released", "claimed"} {
		r.pass(r.grantFor(id, shortTTL, line(mug, 1)).Hold.ExpiresAt)
	}
	r.release(backends.OutcomeReleased, "released")
	r.claim(backends.OutcomeClaimed, "claimed")
	if ds := r.expire(); len(ds) != 0 {
		t.Fatalf("the sweeper ended %+v", ds[0].Hold)
	}
	ds, err := r.s.Expire(r.ctx, r.tok, 0)
	r.ok(err, "Expire of none")
	if len(ds) != 0 {
		t.Fatalf("Expire of at most none ended %d", len(ds))
	}
	r.levelIs(mug, east, units{OnHand: 9, Sellable: 8, Held: 1})
}
