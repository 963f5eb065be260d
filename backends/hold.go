package backends

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// Instant is a reading of one store's clock, in milliseconds since 1970. Instants of different
// stores are never compared.
type Instant int64

// Time converts for display.
func (i Instant) Time() time.Time { return time.UnixMilli(int64(i)).UTC() }

// Add gives the instant d later, to the millisecond.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d.Milliseconds()) }

// Sub gives the time from o to i.
func (i Instant) Sub(o Instant) time.Duration { return time.Duration(i-o) * time.Millisecond }

// State is where a hold is in its life.
type State uint8

// The states. Unknown means that the store has no such hold.
const (
	StateUnknown State = iota
	Held
	Claimed
	Released
	Expired
)

var stateNames = [...]string{"unknown", "held", "claimed", "released", "expired"}

// String gives the name used in answers and reports.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// MarshalText carries a state by its name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *State) UnmarshalText(b []byte) error {
	for i, n := range stateNames {
		if n == string(b) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("backends: no hold state is called %q", b)
}

// Open tells whether the hold may still be claimed in time, released or extended.
func (s State) Open() bool { return s == Held }

// Ended tells whether the hold's life is over.
func (s State) Ended() bool { return s == Claimed || s == Released || s == Expired }

// Takes tells whether a hold in this state has a footprint on Sellable.
func (s State) Takes() bool { return s == Held || s == Claimed }

// Version orders the states of one hold (or the taken sums of one key).
type Version struct {
	Epoch uint64 `json:"epoch"`
	N     uint64 `json:"n"`
}

// After tells whether v is newer than o.
func (v Version) After(o Version) bool {
	return v.Epoch > o.Epoch || v.Epoch == o.Epoch && v.N > o.N
}

// Next gives the version of the next state under epoch. An epoch never runs backwards in a
// store that checks its fence; the larger of the two keeps the order even if it did.
func (v Version) Next(epoch uint64) Version {
	return Version{Epoch: max(v.Epoch, epoch), N: v.N + 1}
}

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Epoch, v.N) }

// Line asks for units of one item.
type Line struct {
	Item     Item  `json:"item"`
	Quantity int64 `json:"qty"`
	// Locations that may fulfil the line, in order of preference.
	Locations []Location `json:"loc"`
	// Split allows the units to come from several of the locations.
	Split bool `json:"split,omitempty"`
}

// Allocation says where units of one line come from.
type Allocation struct {
	Line     int      `json:"line"` // index into the hold's lines
	Location Location `json:"loc"`
	Quantity int64    `json:"qty"`
}

// Hold is a reservation with its whole state: what an outbox entry carries.
type Hold struct {
	ID     HoldID       `json:"id"`
	Shop   Shop         `json:"shop"`
	Caller string       `json:"caller,omitempty"`
	Lines  []Line       `json:"lines"`
	Allocs []Allocation `json:"allocs"`
	State  State        `json:"state"`
	// Version numbers the states; see the package documentation.
	Version Version `json:"version"`
	// CreatedAt, ExpiresAt and EndedAt are readings of the clock of the truth that set them.
	CreatedAt Instant `json:"created"`
	ExpiresAt Instant `json:"expires"`
	EndedAt   Instant `json:"ended,omitempty"`
	// LedgerOwed: claimed in mysql-only; the OnHand deduction travels in the level's Owed.
	LedgerOwed bool `json:"owed,omitempty"`
}

// Units is a number of units at a key.
type Units struct {
	Key      Key   `json:"key"`
	Quantity int64 `json:"qty"`
}

// Takes lists what the allocations take, by key, in key order; keys are distinct.
func (h *Hold) Takes() []Units {
	out := make([]Units, 0, len(h.Allocs))
	for _, a := range h.Allocs {
		if a.Line < 0 || a.Line >= len(h.Lines) {
			continue // a damaged record takes nothing; the audit reports it as a quantity finding
		}
		out = append(out, Units{Key{h.Shop, h.Lines[a.Line].Item, a.Location}, a.Quantity})
	}
	return SumUnits(out)
}

// Footprint is Takes while the state takes units, else nothing.
func (h *Hold) Footprint() []Units {
	if h == nil || !h.State.Takes() {
		return nil
	}
	return h.Takes()
}

// Clone copies the hold so that neither copy's slices are shared.
func (h *Hold) Clone() *Hold {
	if h == nil {
		return nil
	}
	c := *h
	c.Allocs = append([]Allocation(nil), h.Allocs...)
	c.Lines = make([]Line, len(h.Lines))
	for i, l := range h.Lines {
		l.Locations = append([]Location(nil), l.Locations...)
		c.Lines[i] = l
	}
	return &c
}

// Digest identifies the body of a reserve: shop and lines with their locations, in the order
// given. TTL and caller do not belong to it: a retry may come with what is left of its time.
func Digest(shop Shop, lines []Line) string {
	h := sha256.New()
	put := func(s string) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s))) //nolint:gosec // bounded by MaxIDLen
		h.Write(n[:])
		h.Write([]byte(s))
	}
	num := func(v int64) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(v)) //nolint:gosec // a bit pattern, not a number
		h.Write(n[:])
	}
	put(string(shop))
	num(int64(len(lines)))
	for _, l := range lines {
		put(string(l.Item))
		num(l.Quantity)
		if l.Split {
			num(1)
		} else {
			num(0)
		}
		num(int64(len(l.Locations)))
		for _, loc := range l.Locations {
			put(string(loc))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
