package storetest

import (
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

var claimParts = []part{
	{"in time", claimInTime},
	{"after expiry but before the sweep is in time", claimBeforeSweep},
	{"sent again", claimAgain},
	{"late, with units", claimLateWithUnits},
	{"late, without units", claimLateWithoutUnits},
	{"late, units partly there, two keys", claimLateTwoKeys},
	{"unknown, with lines that can be served", claimUnknownServed},
	{"unknown, with lines that cannot be served", claimUnknownShort},
	{"unknown, with an item that has no level", claimUnknownGhost},
	{"unknown, without lines", claimUnknownBare},
	{"known, with other lines", claimOtherLines},
	{"apologies are listed oldest first", apologiesListed},
}

func claimInTime(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.grant("cart", line(mug, 3))
	before := r.now()
	d := r.claim(backends.OutcomeClaimed, "cart")
	if d.Replayed || len(d.Apologies) != 0 || d.Hold == nil || d.Hold.State != backends.Claimed {
		t.Fatalf("a claim in time answered %+v", d)
	}
	if d.Hold.EndedAt < before || d.Hold.EndedAt > r.now() {
		t.Fatalf("the hold ended at %d, not at the time of its claim", d.Hold.EndedAt)
	}
	r.ledgerPending(d)
	r.same("the version", backends.Version{Epoch: firstEpoch, N: 2}, d.Hold.Version)
	r.same("the hold as read", d.Hold, r.get("cart"))
	r.levelIs(mug, east, units{OnHand: 7, Sellable: 7})
	r.conserved()
}

// ledgerPending wants what a fresh claim says of the ledger: it is MySQL's.
func (r *rig) ledgerPending(d *backends.Decision) {
	r.t.Helper()
	if want := r.env.side == backends.SideRedis; d.LedgerPending != want {
		r.t.Fatalf("ledger pending is %v with %s as truth", d.LedgerPending, r.env.side)
	}
}

func claimBeforeSweep(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 3)
	r.pass(r.grantFor("cart", shortTTL, line(mug, 3)).Hold.ExpiresAt)
	d := r.claim(backends.OutcomeClaimed, "cart")
	r.same("apologies", []backends.Apology(nil), d.Apologies)
	r.levelIs(mug, east, units{})
	if ds := r.expire(); len(ds) != 0 {
		t.Fatalf("the sweeper ended %d holds after the claim", len(ds))
	}
	r.state("cart", backends.Claimed)
}

func claimAgain(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.grant("cart", line(mug, 3))
	first := r.claim(backends.OutcomeClaimed, "cart")
	entries := len(r.pending())
	for _, lines := range [][]backends.Line{nil, {line(mug, 3)}} {
		d := r.claim(backends.OutcomeClaimed, "cart", lines...)
		if !d.Replayed || d.Entry != nil || len(d.Apologies) != 0 {
			t.Fatalf("a claim sent again answered %+v", d)
		}
		r.same("the hold", first.Hold, d.Hold)
	}
	if got := len(r.pending()); got != entries {
		t.Fatalf("a replay wrote %d entries", got-entries)
	}
	r.levelIs(mug, east, units{OnHand: 7, Sellable: 7})
}

func claimLateWithUnits(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.grant("released", line(mug, 3))
	r.release(backends.OutcomeReleased, "released")
	r.pass(r.grantFor("expired", shortTTL, line(mug, 4)).Hold.ExpiresAt)
	r.expire()
	r.levelIs(mug, east, units{OnHand: 10, Sellable: 10})
	for _, id := range []backends.HoldID{"released", "expired"} {
		d := r.claim(backends.OutcomeClaimed, id)
		if d.Replayed || len(d.Apologies) != 0 {
			t.Fatalf("a late claim with units there answered %+v", d)
		}
		r.ledgerPending(d)
		r.same("the version", backends.Version{Epoch: firstEpoch, N: 3}, d.Hold.Version)
		r.state(id, backends.Claimed)
	}
	r.levelIs(mug, east, units{OnHand: 3, Sellable: 3})
	r.conserved()
}

func claimLateWithoutUnits(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 3)
	r.grant("late", line(mug, 3))
	r.release(backends.OutcomeReleased, "late")
	r.grant("quick", line(mug, 2))
	d := r.claim(backends.OutcomeClaimed, "late")
	r.sorry(d, "late", map[backends.Key]int64{key(mug, east): 2})
	r.levelIs(mug, east, units{OnHand: 0, Sellable: -2, Held: 2})
	r.reserve(backends.OutcomeSoldOut, request("next", line(mug, 1)))
	// The one who came in time owes nobody an apology.
	r.same("apologies of a claim in time", []backends.Apology(nil), r.claim(backends.OutcomeClaimed, "quick").Apologies)
	r.levelIs(mug, east, units{OnHand: -2, Sellable: -2})
	r.conserved()
	// The first units that come pay the debt.
	r.stock(mug, east, 1)
	r.reserve(backends.OutcomeSoldOut, request("next", line(mug, 1)))
	r.stock(mug, east, 2)
	r.grant("next", line(mug, 1))
	r.levelIs(mug, east, units{OnHand: 1, Held: 1})
	r.conserved()
}

// sorry wants the apologies of a claim, and finds them in the store's list.
func (r *rig) sorry(d *backends.Decision, id backends.HoldID, want map[backends.Key]int64) {
	r.t.Helper()
	got := map[backends.Key]int64{}
	for _, a := range d.Apologies {
		if a.Hold != id || a.Reason == "" || a.At == 0 {
			r.t.Fatalf("the apology %+v lacks its hold, reason or time", a)
		}
		got[a.Key] += a.Quantity
	}
	r.same("units that were gone", want, got)
	all, _, err := r.s.Apologies(r.ctx, "", backends.MaxPage)
	r.ok(err, "Apologies")
	filed := map[backends.Key]int64{}
	for _, a := range all {
		if a.Hold == id {
			filed[a.Key] += a.Quantity
		}
	}
	r.same("apologies on file", want, filed)
}

func claimLateTwoKeys(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 2)
	r.stock(mug, west, 2)
	r.stock(lamp, east, 5)
	r.grant("late", splitLine(mug, 4, east, west), line(lamp, 1))
	r.release(backends.OutcomeReleased, "late")
	r.grant("quick", line(mug, 1, west))
	d := r.claim(backends.OutcomeClaimed, "late")
	r.sorry(d, "late", map[backends.Key]int64{key(mug, west): 1})
	r.levelIs(mug, east, units{})
	r.levelIs(mug, west, units{OnHand: 0, Sellable: -1, Held: 1})
	r.levelIs(lamp, east, units{OnHand: 4, Sellable: 4})
	// Where there is debt already, nothing is there.
	r.grant("other", line(lamp, 4))
	r.claim(backends.OutcomeClaimed, "stranger", line(mug, 1, west))
	r.sorry(r.claim(backends.OutcomeClaimed, "second", line(mug, 2, west)), "second", map[backends.Key]int64{key(mug, west): 2})
	r.levelIs(mug, west, units{OnHand: -3, Sellable: -4, Held: 1})
	r.conserved()
}

func claimUnknownServed(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 1)
	r.stock(mug, west, 5)
	d := r.claim(backends.OutcomeClaimed, "lost", line(mug, 3, east, west))
	if d.Replayed || len(d.Apologies) != 0 || d.Hold == nil {
		t.Fatalf("a claim of an unknown hold answered %+v", d)
	}
	r.ledgerPending(d)
	r.same("the allocation", []backends.Allocation{{Line: 0, Location: west, Quantity: 3}}, d.Hold.Allocs)
	r.same("the version", backends.Version{Epoch: firstEpoch, N: 1}, d.Hold.Version)
	r.same("the lines", []backends.Line{line(mug, 3, east, west)}, d.Hold.Lines)
	r.same("the hold as read", d.Hold, r.state("lost", backends.Claimed))
	r.levelIs(mug, east, units{OnHand: 1, Sellable: 1})
	r.levelIs(mug, west, units{OnHand: 2, Sellable: 2})
	if d := r.claim(backends.OutcomeClaimed, "lost", line(mug, 3, east, west)); !d.Replayed {
		t.Fatal("the second claim was not recognised")
	}
	r.levelIs(mug, west, units{OnHand: 2, Sellable: 2})
	r.conserved()
}

func claimUnknownShort(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 1)
	r.stock(mug, west, 2)
	r.stock(lamp, east, 5)
	r.stock(lamp, west, 0)
	d := r.claim(backends.OutcomeClaimed, "lost", splitLine(mug, 4, east, west), line(lamp, 1, west, east))
	r.same("each line whole from its first location", []backends.Allocation{
		{Line: 0, Location: east, Quantity: 4}, {Line: 1, Location: west, Quantity: 1},
	}, d.Hold.Allocs)
	r.sorry(d, "lost", map[backends.Key]int64{key(mug, east): 3, key(lamp, west): 1})
	r.levelIs(mug, east, units{OnHand: -3, Sellable: -3})
	r.levelIs(mug, west, units{OnHand: 2, Sellable: 2})
	r.levelIs(lamp, west, units{OnHand: -1, Sellable: -1})
	r.levelIs(lamp, east, units{OnHand: 5, Sellable: 5})
	r.conserved()
}

func claimUnknownGhost(t *testing.T, e *env) {
	r := e.truth(t)
	d := r.claim(backends.OutcomeClaimed, "lost", line("ghost", 2, west, east))
	r.sorry(d, "lost", map[backends.Key]int64{key("ghost", west): 2})
	r.levelIs("ghost", west, units{OnHand: -2, Sellable: -2})
	r.noLevel(key("ghost", east))
	r.conserved()
}

func claimUnknownBare(t *testing.T, e *env) {
	r := e.truth(t)
	d := r.claim(backends.OutcomeNotFound, "nobody")
	if d.Hold != nil || d.Entry != nil || d.LedgerPending {
		t.Fatalf("a claim of nothing answered %+v", d)
	}
	if r.get("nobody") != nil {
		t.Fatal("a claim of nothing made a hold")
	}
	if es := r.pending(); len(es) != 0 {
		t.Fatalf("a claim of nothing wrote %+v", es)
	}
}

func claimOtherLines(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 5)
	r.stock(lamp, east, 5)
	first := r.grant("cart", line(mug, 2))
	d := r.claim(backends.OutcomeClaimed, "cart", line(lamp, 4))
	r.same("the lines", first.Hold.Lines, d.Hold.Lines)
	r.levelIs(mug, east, units{OnHand: 3, Sellable: 3})
	r.levelIs(lamp, east, units{OnHand: 5, Sellable: 5})
}

func apologiesListed(t *testing.T, e *env) {
	r := e.truth(t)
	var want []backends.HoldID
	for _, id := range []backends.HoldID{"z", "m", "a", "k"} {
		r.claim(backends.OutcomeClaimed, id, line("ghost", 1))
		want = append(want, id)
	}
	for _, limit := range []int{1, 2, 4, 10} {
		var got []backends.HoldID
		cursor, pages := "", 0
		for {
			as, next, err := r.s.Apologies(r.ctx, cursor, limit)
			r.ok(err, "Apologies")
			for _, a := range as {
				got = append(got, a.Hold)
			}
			if pages++; len(as) > limit || pages > len(want)+1 {
				t.Fatalf("page %d of %d has %d apologies", pages, limit, len(as))
			}
			if cursor = next; next == "" {
				break
			}
		}
		r.same("apologies", want, got)
	}
	if _, _, err := r.s.Apologies(r.ctx, "nonsense", 1); !backends.IsRejection(err) {
		t.Errorf("a cursor that no page gave: %v", err)
	}
}
