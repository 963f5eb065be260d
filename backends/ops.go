package backends

import (
	"fmt"
	"strconv"
	"time"
)

// Op names an operation.
type Op uint8

// The operations.
const (
	OpUnknown Op = iota
	OpReserve
	OpClaim
	OpRelease
	OpExtend
	OpExpire
	OpRestock
	OpCount  // an anonymous take or give-back
	OpReemit // a backfill: no decision
)

var opNames = [...]string{"unknown", "reserve", "claim", "release", "extend", "expire", "restock", "count", "reemit"}

// String gives the name used in commands, metrics and tags.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "unknown"
}

// Ops lists every operation but the unknown one.
func Ops() []Op {
	return []Op{OpReserve, OpClaim, OpRelease, OpExtend, OpExpire, OpRestock, OpCount, OpReemit}
}

// MarshalText carries an operation by its name.
func (o Op) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (o *Op) UnmarshalText(b []byte) error {
	for i, n := range opNames {
		if n == string(b) {
			*o = Op(i)
			return nil
		}
	}
	return fmt.Errorf("backends: no operation is called %q", b)
}

// ReserveRequest asks for a hold.
type ReserveRequest struct {
	ID     HoldID
	Shop   Shop
	Lines  []Line
	TTL    time.Duration
	Caller string
}

// Check gives a *FieldError for the first thing that is wrong.
func (r *ReserveRequest) Check() error {
	if err := CheckID("hold id", string(r.ID)); err != nil {
		return err
	}
	if err := CheckTTL(r.TTL); err != nil {
		return err
	}
	if err := CheckCaller(r.Caller); err != nil {
		return err
	}
	return CheckLines(r.Shop, r.Lines)
}

// CheckTTL tells whether ttl is within its bounds.
func CheckTTL(ttl time.Duration) error {
	if ttl < MinTTL || ttl > MaxTTL {
		return &FieldError{Field: "ttl", Value: ttl.String(), Bound: fmt.Sprintf("%s to %s", MinTTL, MaxTTL), Next: "give the time in which the buyer has to pay; extend the hold if it takes longer"}
	}
	return nil
}

// CheckLines checks shop and lines of a cart.
func CheckLines(shop Shop, lines []Line) error {
	if err := CheckID("shop", string(shop)); err != nil {
		return err
	}
	if len(lines) == 0 || len(lines) > MaxLines {
		return &FieldError{Field: "lines", Value: strconv.Itoa(len(lines)), Bound: fmt.Sprintf("1 to %d", MaxLines), Next: "split the cart into several holds"}
	}
	type at struct {
		item Item
		loc  Location
	}
	seen := make(map[at]int, len(lines))
	var units int64
	for i, l := range lines {
		name := fmt.Sprintf("line %d", i+1)
		if err := CheckID(name+" item", string(l.Item)); err != nil {
			return err
		}
		if err := CheckQuantity(name+" quantity", l.Quantity); err != nil {
			return err
		}
		units += l.Quantity
		if len(l.Locations) == 0 || len(l.Locations) > MaxLocations {
			return &FieldError{Field: name + " locations", Value: strconv.Itoa(len(l.Locations)), Bound: fmt.Sprintf("1 to %d", MaxLocations), Next: "name the locations that may fulfil the line, best first"}
		}
		for _, loc := range l.Locations {
			if err := CheckID(name+" location", string(loc)); err != nil {
				return err
			}
			k := at{l.Item, loc}
			if j, dup := seen[k]; dup {
				return &FieldError{Field: name, Value: fmt.Sprintf("item %q at location %q", l.Item, loc), Bound: fmt.Sprintf("each item and location once in a cart; line %d names it too", j+1), Next: "merge the lines into one with the summed quantity"}
			}
			seen[k] = i
		}
	}
	if units > MaxCartUnits {
		return &FieldError{Field: "units of the cart", Value: strconv.FormatInt(units, 10), Bound: fmt.Sprintf("at most %d", MaxCartUnits), Next: "split the cart into several holds"}
	}
	return nil
}

// CheckQuantity tells whether q is a legal quantity for a line.
func CheckQuantity(field string, q int64) error {
	if q < 1 || q > MaxQuantity {
		return &FieldError{Field: field, Value: strconv.FormatInt(q, 10), Bound: fmt.Sprintf("1 to %d", MaxQuantity), Next: "give the number of units wanted"}
	}
	return nil
}

// CheckKey checks the parts of a key.
func CheckKey(k Key) error {
	if err := CheckID("shop", string(k.Shop)); err != nil {
		return err
	}
	if err := CheckID("item", string(k.Item)); err != nil {
		return err
	}
	return CheckID("location", string(k.Location))
}

// ClaimRequest says that payment succeeded. Shop and Lines are what the caller sold; they are
// used only when the truth does not know the hold.
type ClaimRequest struct {
	ID     HoldID
	Shop   Shop
	Lines  []Line // may be empty: then an unknown hold answers NotFound
	Caller string
}

// ReleaseRequest gives a hold's units back.
type ReleaseRequest struct {
	ID     HoldID
	Caller string
}

// ExtendRequest moves a hold's expiry to TTL from now, by the truth's clock.
type ExtendRequest struct {
	ID     HoldID
	TTL    time.Duration
	Caller string
}

// RestockKind says what the Amount of a restock means.
type RestockKind uint8

// The kinds of restock.
const (
	RestockAdd         RestockKind = iota // OnHand += Amount (which may be negative)
	RestockSetOnHand                      // OnHand = Amount
	RestockSetSellable                    // Sellable = Amount, by moving OnHand
)

// RestockRequest changes the units on hand of one key; a key that does not exist is made.
// Sent again under its operation id it answers as the first time and does nothing.
type RestockRequest struct {
	OpID   OpID
	Key    Key
	Kind   RestockKind
	Amount int64
	Caller string
}

// Check gives a *FieldError for the first thing that is wrong.
func (r *RestockRequest) Check() error {
	if err := CheckID("operation id", string(r.OpID)); err != nil {
		return err
	}
	if err := CheckKey(r.Key); err != nil {
		return err
	}
	if r.Amount < -MaxOnHand || r.Amount > MaxOnHand || r.Kind == RestockSetOnHand && r.Amount < 0 {
		return &FieldError{Field: "quantity", Value: strconv.FormatInt(r.Amount, 10), Bound: fmt.Sprintf("up to %d units, not below zero on hand", int64(MaxOnHand)), Next: "give the number of units"}
	}
	return CheckCaller(r.Caller)
}

// CountRequest is an anonymous take (Delta < 0, as DECRBY) or give-back (Delta > 0, as INCRBY).
// A take may push Sellable below zero, as Redis does; that is an overdraft, and the next
// give-back repays it first. A give-back beyond what is taken is a restock of the rest. A key that
// does not exist is made, as Redis does.
type CountRequest struct {
	OpID   OpID
	Key    Key
	Delta  int64
	Caller string
	// Fresh: OpID was made for this request, and no store has ever been sent it. A store need not look for
	// it then. Whoever sends the request again takes it away.
	Fresh bool
	// Tried is a store's own note of an attempt whose outcome is unknown (ErrAmbiguous), made here by the
	// store. Whoever sends the request again leaves it as it is.
	Tried string
}

// CountResult is the answer to a CountRequest.
type CountResult struct {
	Value    int64 // Sellable after the operation: what Redis would answer
	Replayed bool
	// Entry is nil when none was written. In live, once filled, every count that is not replayed has one.
	Entry *Entry
}

// CountAnswer is the answer to one of several counts: a result or an error.
type CountAnswer struct {
	Result *CountResult
	Err    error
}

// Outcome is what a truth decided.
type Outcome uint8

// The outcomes. The zero value is unknown: never a success, a match or a mismatch.
const (
	OutcomeUnknown   Outcome = iota
	OutcomeGranted           // reserve: held
	OutcomeSoldOut           // reserve: nothing taken; Short says what is missing
	OutcomeClaimed           // claim: deducted, or will be (LedgerPending)
	OutcomeReleased          // release
	OutcomeExtended          // extend
	OutcomeExpired           // the truth's sweeper
	OutcomeRestocked         // restock
	OutcomeEnded             // the hold had ended: nothing was changed; Hold tells its state
	OutcomeNotFound          // the truth does not know the hold
)

var outcomeNames = [...]string{"unknown", "granted", "sold out", "claimed", "released", "extended", "expired", "restocked", "ended", "not found"}

// String gives the words of DESIGN.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "unknown"
}

// MarshalText carries an outcome by its name.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (o *Outcome) UnmarshalText(b []byte) error {
	for i, n := range outcomeNames {
		if n == string(b) {
			*o = Outcome(i)
			return nil
		}
	}
	return fmt.Errorf("backends: no outcome is called %q", b)
}

// Shortage is one line that could not be served.
type Shortage struct {
	Line      int   `json:"line"`
	Item      Item  `json:"item"`
	Wanted    int64 `json:"wanted"`
	Available int64 `json:"available"` // the most that this line could have had, at that instant
}

// Decision is what a truth answers.
type Decision struct {
	Op      Op
	Outcome Outcome
	// Hold as it is after the operation; nil when refused or not found.
	Hold *Hold
	// Short names the short lines of a refusal.
	Short []Shortage
	// Seen is Sellable at the keys of the request as the decision saw it, before it took
	// anything; it may be missing where a grant did not need to count.
	Seen []Units
	// Replayed: the hold was there already under this id and body; nothing was changed.
	Replayed bool
	// LedgerPending: claimed with Redis as truth; the ledger is deducted through the outbox.
	LedgerPending bool
	// Apologies were filed by this claim: units sold that are not there.
	Apologies []Apology
	// Entry is what the same atomic step wrote to the outbox; nil when nothing was written.
	Entry *Entry
	// Dropped: an entry was due, and the outbox was full.
	Dropped bool
}

// Apology is a promise without stock behind it, for the shop to act on.
type Apology struct {
	Hold     HoldID  `json:"hold"`
	Key      Key     `json:"key"`
	Quantity int64   `json:"qty"` // units that were not there
	Reason   string  `json:"reason"`
	At       Instant `json:"at"`
}

// Level is the stock of one key, as one store has it. See the package documentation.
type Level struct {
	Key            Key     `json:"key"`
	OnHand         int64   `json:"on_hand"`
	Available      int64   `json:"available"`
	Held           int64   `json:"held"`
	Taken          int64   `json:"taken"`
	Unmaterialised int64   `json:"unmaterialised"`
	TakenVersion   Version `json:"taken_version"`
	Owed           int64   `json:"owed,omitempty"`
}

// Sellable is what a reserve may draw on, negative when there is debt.
func (l Level) Sellable() int64 { return l.Available + l.Unmaterialised }

// Debt is how many units are promised that are not there.
func (l Level) Debt() int64 { return max(0, -l.Unmaterialised) }

// Imbalance is by how much the level breaks P2; zero when it holds.
func (l Level) Imbalance() int64 {
	return l.OnHand - l.Available - l.Held - l.Taken - l.Unmaterialised
}
