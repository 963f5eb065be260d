package comparator

import (
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Stratum is a kind of decision for which readiness is judged by itself: a million easy decisions
// prove nothing about the last unit.
type Stratum uint8

// The strata. One decision may be in several.
const (
	StratumUnknown Stratum = iota
	// Plentiful: granted, and every line left more than LastUnits units behind.
	Plentiful
	// LastUnits: granted, and some line left at most LastUnits units behind.
	LastUnits
	// SoldOut: refused by the truth.
	SoldOut
	// SeveralLocations: some line names more than one location.
	SeveralLocations
	// SeveralLines: more than one line.
	SeveralLines
	// LateClaim: a claim after the hold's expiry, by the truth's clock.
	LateClaim
	// Expiry: a hold that the truth's sweeper has ended.
	Expiry
	strata // how many there are
)

// LastUnitsBound is how many units at most may be left beyond what the cart asked for, in the stratum
// last_units. It is a few carts' worth: within it the next buyers decide who gets none.
const LastUnitsBound = 10

var stratumTexts = [strata][2]string{
	{"unknown", "no stratum"},
	{"plentiful", fmt.Sprintf("granted, and more than %d units were left for every line", LastUnitsBound)},
	{"last_units", fmt.Sprintf("granted, and at most %d units were left for some line", LastUnitsBound)},
	{"sold_out", "refused by the truth"},
	{"several_locations", "some line may be fulfilled from more than one location"},
	{"several_lines", "carts of more than one line"},
	{"late_claim", "claims after the hold's expiry: both stores' holds were compared afterwards"},
	{"expiry", "holds that the truth's sweeper has ended: compared afterwards"},
}

// Strata lists the strata in the order in which reports show them.
func Strata() []Stratum {
	return []Stratum{Plentiful, LastUnits, SoldOut, SeveralLocations, SeveralLines, LateClaim, Expiry}
}

// String gives the name used in reports and files.
func (s Stratum) String() string {
	if s < strata {
		return stratumTexts[s][0]
	}
	return stratumTexts[0][0]
}

// Meaning says in one line what is in the stratum.
func (s Stratum) Meaning() string {
	if s < strata {
		return stratumTexts[s][1]
	}
	return stratumTexts[0][1]
}

// ParseStratum reads a stratum by its name.
func ParseStratum(name string) (Stratum, error) {
	names := make([]string, 0, strata)
	for _, s := range Strata() {
		if s.String() == name {
			return s, nil
		}
		names = append(names, s.String())
	}
	return StratumUnknown, &backends.FieldError{Field: "stratum", Value: fmt.Sprintf("%q", clip(name, 80)), Bound: "one of " + strings.Join(names, ", "), Next: "choose one of them"}
}

// MarshalText carries a stratum by its name.
func (s Stratum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Stratum) UnmarshalText(b []byte) error {
	p, err := ParseStratum(string(b))
	if err == nil {
		*s = p
	}
	return err
}

// StrataOf puts a decision into its strata. It is pure. What is left after a decision is by the truth's
// Seen, or where that is missing (a swept entry; a grant that needed no count) by the shadow's; where
// both are missing the decision is in neither plentiful nor last_units.
func StrataOf(o *Observation) []Stratum {
	var in []Stratum
	switch o.Op {
	case backends.OpReserve:
	case backends.OpClaim:
		if o.late() {
			in = append(in, LateClaim)
		}
		return in
	case backends.OpExpire:
		return append(in, Expiry)
	default:
		return nil
	}
	switch o.Truth.Outcome {
	case backends.OutcomeSoldOut:
		in = append(in, SoldOut)
	case backends.OutcomeGranted:
		if left, known := o.left(); known && left <= LastUnitsBound {
			in = append(in, LastUnits)
		} else if known {
			in = append(in, Plentiful)
		}
	default:
		return nil
	}
	for _, l := range o.Lines {
		if len(l.Locations) > 1 {
			in = append(in, SeveralLocations)
			break
		}
	}
	if len(o.Lines) > 1 {
		in = append(in, SeveralLines)
	}
	return in
}

// late tells whether the truth took a claim after the hold's expiry.
func (o *Observation) late() bool { return o.ExpiresAt > 0 && o.TruthAt >= o.ExpiresAt }

// left is how many units the scarcest line left behind, over its locations.
func (o *Observation) left() (int64, bool) {
	if n, known := o.leftOf(o.Truth.Seen); known || o.Shadow == nil {
		return n, known
	}
	return o.leftOf(o.Shadow.Seen)
}

// leftOf is left by what a store says it saw; it has to have seen every key.
func (o *Observation) leftOf(seen []backends.Units) (least int64, known bool) {
	if len(seen) == 0 || len(o.Lines) == 0 {
		return 0, false
	}
	at := unitsAt(seen)
	for i, l := range o.Lines {
		n := int64(0)
		for _, loc := range l.Locations {
			q, ok := at(backends.Key{Shop: o.Shop, Item: l.Item, Location: loc})
			if !ok {
				return 0, false
			}
			n += max(0, q)
		}
		for _, m := range o.Lines { // two lines of a cart may want one item
			if m.Item == l.Item {
				n -= m.Quantity
			}
		}
		if i == 0 || n < least {
			least = n
		}
	}
	return least, true
}

// unitsAt finds a key's units: in a short list by looking through it, since most carts have one line.
func unitsAt(us []backends.Units) func(backends.Key) (int64, bool) {
	const short = 8
	if len(us) > short {
		m := make(map[backends.Key]int64, len(us))
		for _, u := range us {
			m[u.Key] = u.Quantity
		}
		return func(k backends.Key) (int64, bool) { n, ok := m[k]; return n, ok }
	}
	return func(k backends.Key) (int64, bool) {
		for i := range us {
			if us[i].Key == k {
				return us[i].Quantity, true
			}
		}
		return 0, false
	}
}

// Watched tells whether an entry that the shadow has followed is of interest to a comparator: reserves are
// compared as decisions, expiries and late claims by the holds that they leave.
func Watched(e *backends.Entry) bool {
	if e.Hold == nil {
		return false
	}
	switch e.Op {
	case backends.OpReserve, backends.OpExpire:
		return true
	case backends.OpClaim:
		return e.Hold.ExpiresAt > 0 && e.At >= e.Hold.ExpiresAt
	default:
		return false
	}
}

// clusterOf is the group of items that a decision belongs to, by the first line's item: all decisions
// on one item are in one group.
func clusterOf(o *Observation) int {
	h := fnv.New32a()
	item := ""
	if len(o.Lines) > 0 {
		item = string(o.Lines[0].Item)
	}
	_, _ = h.Write([]byte(string(o.Shop) + "\t" + item)) // it never fails (hash.Hash)
	return int(h.Sum32() % Clusters)
}
