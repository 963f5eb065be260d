package comparator

import (
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// HoldRules say how holds are compared.
type HoldRules struct {
	// ExpiryTolerance is by how much expiry may differ. Both stores keep the instant that the truth
	// set, so 0 is right.
	ExpiryTolerance time.Duration
	// EndedBefore: holds that the truth ended before this instant (of its clock) may be gone from the
	// shadow, since each store keeps ended holds for a while of its own. 0: none may be gone.
	EndedBefore backends.Instant
	// ClaimsOnly: only what claims did to the ledger is compared (redis-only).
	ClaimsOnly bool
}

// Difference is what is wrong with one hold or level.
type Difference struct {
	Class Class
	Units []backends.Units // by key, sorted, distinct, each above zero
	Why   string
}

func (d *Difference) same(o *Difference) bool {
	return d.Class == o.Class && slices.Equal(d.Units, o.Units)
}

// CompareHold compares one hold as both stores have it; nil is unknown. It is pure. ok is false when
// there is no difference.
func CompareHold(truth, shadow *backends.Hold, r HoldRules) (d Difference, ok bool) {
	switch {
	case truth == nil && shadow == nil:
		return d, false
	case truth == nil:
		if r.ClaimsOnly || !shadow.State.Open() {
			return d, false // what the shadow has ended takes nothing that could be given back
		}
		return Difference{OrphanHold, shadow.Footprint(), "open in the shadow, unknown to the truth"}, true
	case truth.State == backends.Claimed:
		return compareClaim(truth, shadow, r)
	case r.ClaimsOnly:
		return d, false
	case truth.State.Ended():
		return compareEnded(truth, shadow)
	case !truth.State.Open():
		return d, false // a state that this version does not know is judged by nobody
	default:
		return compareOpen(truth, shadow, r)
	}
}

func compareClaim(truth, shadow *backends.Hold, r HoldRules) (d Difference, ok bool) {
	switch {
	case shadow != nil && shadow.State == backends.Claimed:
		if r.ClaimsOnly {
			return d, false
		}
		return compareUnits(truth, shadow)
	case shadow != nil && shadow.State.Open():
		return Difference{LedgerShort, truth.Takes(), "claimed in the truth, still held in the shadow: its units on hand are not deducted there"}, true
	case truth.LedgerOwed, truth.EndedAt < r.EndedBefore:
		return d, false // deducted by a delta of its level, or gone by age
	case shadow != nil:
		return Difference{LedgerShort, truth.Takes(), fmt.Sprintf("claimed in the truth, %s in the shadow: its units are not deducted there", shadow.State)}, true
	case r.ClaimsOnly:
		return Difference{LedgerShort, truth.Takes(), "claimed in the truth, unknown to the ledger's store"}, true
	default:
		return Difference{MissingHold, truth.Takes(), "claimed in the truth, unknown to the shadow"}, true
	}
}

func compareEnded(truth, shadow *backends.Hold) (d Difference, ok bool) {
	switch {
	case shadow == nil:
		return d, false
	case shadow.State.Open():
		return Difference{LostRelease, shadow.Footprint(), fmt.Sprintf("%s in the truth, still held in the shadow", truth.State)}, true
	case shadow.State == backends.Claimed:
		return Difference{Quantity, shadow.Footprint(), fmt.Sprintf("%s in the truth, claimed in the shadow", truth.State)}, true
	default:
		return d, false // released and expired take nothing, either way
	}
}

func compareOpen(truth, shadow *backends.Hold, r HoldRules) (d Difference, ok bool) {
	switch {
	case shadow == nil:
		return Difference{MissingHold, truth.Footprint(), "open in the truth, unknown to the shadow"}, true
	case shadow.State == backends.Claimed:
		return Difference{Quantity, shadow.Footprint(), "open in the truth, claimed in the shadow"}, true
	case !shadow.State.Open():
		return Difference{MissingHold, truth.Footprint(), fmt.Sprintf("open in the truth, %s in the shadow", shadow.State)}, true
	}
	if d, ok = compareUnits(truth, shadow); ok {
		return d, true
	}
	if skew := shadow.ExpiresAt.Sub(truth.ExpiresAt); skew.Abs() > r.ExpiryTolerance {
		return Difference{ExpirySkew, truth.Footprint(), fmt.Sprintf("the shadow's expiry is off by %s", skew)}, true
	}
	return d, false
}

// compareUnits compares what two holds take, whole items first.
func compareUnits(truth, shadow *backends.Hold) (d Difference, ok bool) {
	t, s := truth.Takes(), shadow.Takes()
	if slices.Equal(t, s) {
		return d, false
	}
	type item struct {
		shop backends.Shop
		item backends.Item
	}
	at := map[backends.Key]int64{} // shadow less truth
	sum := map[item]int64{}
	for _, u := range s {
		at[u.Key] += u.Quantity
		sum[item{u.Key.Shop, u.Key.Item}] += u.Quantity
	}
	for _, u := range t {
		at[u.Key] -= u.Quantity
		sum[item{u.Key.Shop, u.Key.Item}] -= u.Quantity
	}
	keys := make([]backends.Key, 0, len(at))
	for k := range at {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, backends.Key.Compare)
	var quantity, location []backends.Units
	for _, k := range keys {
		id := item{k.Shop, k.Item}
		n := at[k]
		if total := sum[id]; total != 0 && n != 0 && (n > 0) == (total > 0) {
			// of an item's difference each key bears at most its own
			part := min(abs(n), abs(total))
			quantity = append(quantity, backends.Units{Key: k, Quantity: part})
			if total > 0 {
				sum[id] -= part
			} else {
				sum[id] += part
			}
		}
		if n < 0 {
			location = append(location, backends.Units{Key: k, Quantity: -n})
		}
	}
	if len(quantity) > 0 {
		return Difference{Quantity, quantity, "different numbers of units"}, true
	}
	return Difference{Location, location, "the same units from different locations"}, true
}

// effectOf is what a hold's difference does to the levels, shadow less truth.
func effectOf(truth, shadow *backends.Hold, add func(backends.Key, Gap)) {
	each := func(h *backends.Hold, sign int64) {
		if h == nil {
			return
		}
		for _, u := range h.Footprint() {
			g := Gap{Sellable: -sign * u.Quantity}
			if h.State == backends.Claimed && !h.LedgerOwed {
				g.OnHand = -sign * u.Quantity
			}
			add(u.Key, g)
		}
	}
	each(shadow, 1)
	each(truth, -1)
}

// writtenTo names the store whose books do not balance. Redis keeps what is held beside what is for sale, so one reading of a level
// tells; MySQL's level follows from the rest.
func writtenTo(redis *backends.Level) backends.Side {
	if redis != nil && redis.Imbalance() != 0 {
		return backends.SideRedis
	}
	return backends.SideMySQL
}

// CompareLevel compares the levels of one key at rest; nil is missing, and counts as empty. expected
// is what differences of holds, found elsewhere, do to them: of it there is no second finding. It is
// pure. ok is false when there is nothing to find.
func CompareLevel(stage backends.Stage, truth, shadow *backends.Level, expected Gap) (d Difference, ok bool) {
	gap := GapOf(truth, shadow)
	if !stage.Dual() { // reservations are not followed: only what is on hand is comparable
		gap, expected = Gap{OnHand: gap.OnHand}, Gap{OnHand: expected.OnHand}
	}
	rest := Gap{gap.Sellable - expected.Sellable, gap.OnHand - expected.OnHand, gap.Taken - expected.Taken}
	if gap.Zero() || rest.Zero() {
		return d, false
	}
	var key backends.Key
	mysql, redis := shadow, truth
	if stage.Truth() == backends.SideMySQL {
		mysql, redis = truth, shadow
	}
	for _, l := range []*backends.Level{truth, shadow} {
		if l != nil {
			key = l.Key
		}
	}
	d = Difference{LevelDrift, []backends.Units{{Key: key, Quantity: rest.Units()}}, "levels differ at rest, shadow less truth: " + gap.String()}
	if rest != gap {
		d.Why += "; differences of holds explain " + expected.String()
	}
	if n := rest.Unaccounted(); stage.Dual() && n != 0 {
		d.Class = BypassWrite
		d.Why = fmt.Sprintf("somebody wrote to %s past Crossfade: its books are out by %d units; %s", writtenTo(redis), abs(n), d.Why)
	}
	if stage.Dual() && mysql != nil && mysql.Debt() > 0 && (redis == nil || redis.Sellable() >= 0) {
		d.Class = LedgerShort
		d.Why = fmt.Sprintf("MySQL promises %d units that its ledger does not have; %s", mysql.Debt(), d.Why)
	}
	return d, true
}
