package comparator

import (
	"fmt"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Class says what a divergence means for the shop. The zero value is unknown.
type Class uint8

// The classes of DESIGN §5. Units of a class are what Meaning says.
const (
	ClassUnknown Class = iota
	OversellRisk
	FalseSoldOut
	Quantity
	Location
	LostRelease
	OrphanHold
	MissingHold
	ExpirySkew
	LevelDrift
	BypassWrite
	LedgerShort
	SlowShadow
)

type classText struct {
	name    string
	meaning string // one line, for a newcomer; says what the units are
	next    string // what to do
}

var classTexts = [...]classText{
	ClassUnknown: {"unknown", "no class", "report this as a bug of Crossfade"},
	OversellRisk: {"oversell_risk",
		"the shadow would have sold units that the truth says are not there; units = what it would have oversold",
		"'crossfade repair' shows which levels and holds are wrong, and brings the shadow in line"},
	FalseSoldOut: {"false_sold_out",
		"the shadow would have turned away a cart that the truth granted; units = those of the refused lines",
		"look for holds that the shadow still keeps ('crossfade audit'), then 'crossfade repair'"},
	Quantity: {"quantity",
		"both stores know the same hold or refusal, for different numbers of units; units = the difference",
		"see the finding's diff: which lines differ; then 'crossfade repair'"},
	Location: {"location",
		"both stores took the same units from different locations; units = those taken elsewhere",
		"check the preference order of the locations and the levels of both; stock per location drifts"},
	LostRelease: {"lost_release",
		"the truth has ended a hold that the shadow still keeps; units = what it blocks",
		"'crossfade repair': the truth says once more that it has ended"},
	OrphanHold: {"orphan_hold",
		"the shadow keeps a hold that the truth does not know; units = what it blocks",
		"find its writer (a bypass?), then 'crossfade repair', which ends such holds"},
	MissingHold: {"missing_hold",
		"the truth has a hold that the shadow does not have; units = what the shadow could sell twice",
		"'crossfade repair': the truth emits it once more; many of them: backfill, then audit again"},
	ExpirySkew: {"expiry_skew",
		"both stores have the hold, with different expiry; units = those of the hold",
		"'crossfade repair': the truth emits the hold once more, with its expiry"},
	LevelDrift: {"level_drift",
		"stock levels differ at rest, beyond what the holds found explain; units = the difference",
		"look for writes that bypass Crossfade; 'crossfade repair' corrects the shadow's level"},
	BypassWrite: {"bypass_write",
		"somebody wrote to a store without going through Crossfade; units = what the write moved",
		"find the writer and point it at Crossfade, or shut it out"},
	LedgerShort: {"ledger_short",
		"the MySQL ledger does not cover what was sold (debt, or a claim not deducted); units = what is missing",
		"check the ledger's quantity and the claims named; restock, or act on the apologies"},
	SlowShadow: {"slow_shadow",
		"the shadow took longer than the limit to decide; units = those of all slow carts of the run that saw the last one",
		"look at the shadow's load and connections before you make it the truth"},
}

// String gives the name used in reports and files.
func (c Class) String() string {
	if int(c) < len(classTexts) {
		return classTexts[c].name
	}
	return "unknown"
}

// Meaning explains the class, and what its units count, in one line.
func (c Class) Meaning() string {
	if int(c) < len(classTexts) {
		return classTexts[c].meaning
	}
	return classTexts[0].meaning
}

// Next says what to do about a finding of the class.
func (c Class) Next() string {
	if int(c) < len(classTexts) {
		return classTexts[c].next
	}
	return classTexts[0].next
}

// Classes lists all classes but the unknown one, the gravest for the shop first.
func Classes() []Class {
	return []Class{OversellRisk, MissingHold, LedgerShort, BypassWrite, FalseSoldOut, LostRelease, OrphanHold,
		Quantity, Location, LevelDrift, ExpirySkew, SlowShadow}
}

// ParseClass reads a class by its name.
func ParseClass(name string) (Class, error) {
	for i := 1; i < len(classTexts); i++ {
		if classTexts[i].name == name {
			return Class(i), nil
		}
	}
	names := make([]string, 0, len(classTexts))
	for _, c := range Classes() {
		names = append(names, c.String())
	}
	return ClassUnknown, &backends.FieldError{Field: "class", Value: fmt.Sprintf("%q", clip(name, 80)), Bound: "one of " + strings.Join(names, ", "), Next: "choose one of them"}
}

// MarshalText carries a class by its name.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (c *Class) UnmarshalText(b []byte) error {
	if string(b) == classTexts[ClassUnknown].name {
		*c = ClassUnknown
		return nil
	}
	p, err := ParseClass(string(b))
	if err == nil {
		*c = p
	}
	return err
}

// severity says what so many units of the class mean for the shop, of a confirmed divergence.
func (c Class) severity(units int64) string {
	var what string
	switch c {
	case OversellRisk, MissingHold:
		what = "at risk of oversell"
	case FalseSoldOut:
		what = "wrongly refused"
	case LostRelease, OrphanHold:
		what = "kept from sale"
	case LedgerShort:
		what = "sold that the ledger does not cover"
	case Quantity, Location, LevelDrift, BypassWrite:
		what = "counted differently"
	default:
		return ""
	}
	return count(units, "unit") + " " + what
}
