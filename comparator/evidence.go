package comparator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Rechecker looks at both stores. The wiring fills it, usually with [NewStoreRechecker].
type Rechecker interface {
	// Recheck takes one look (see the package documentation for the order of its reads) at keys and
	// holds; both may be empty. It honours its context, takes no locks and changes nothing.
	Recheck(ctx context.Context, keys []backends.Key, holds []backends.HoldID) (Evidence, error)
}

// Evidence is one look at both stores.
type Evidence struct {
	At    time.Time // local time, before the first read
	Stage backends.Stage
	// Unsure says why nothing can be concluded from this look; "" when something can.
	Unsure string
	// SureSince is that of the [Pair].
	SureSince time.Time
	Keys      map[backends.Key]KeyEvidence
	Holds     map[backends.HoldID]HoldEvidence
	// Pending lists some of the entries that were seen waiting for these keys and holds.
	Pending []EntryRef
}

// only keeps of a look what concerns a case: its keys where they were at rest (others prove
// nothing), and the entries that waited for them.
func (e *Evidence) only(keys []backends.Key) Evidence {
	out := Evidence{At: e.At, Stage: e.Stage, Unsure: e.Unsure, Keys: make(map[backends.Key]KeyEvidence, len(keys))}
	for _, k := range keys {
		if ke, ok := e.Keys[k]; ok && ke.Quiescent() {
			out.Keys[k] = ke
		}
	}
	for _, r := range e.Pending {
		if len(out.Pending) < maxEntryRefs && r.touches(keys) {
			out.Pending = append(out.Pending, r)
		}
	}
	return out
}

// touches tells whether the entry may move one of keys, which are sorted.
func (r *EntryRef) touches(keys []backends.Key) bool {
	if len(r.Keys) == 0 {
		return true
	}
	for _, k := range r.Keys {
		if _, ok := slices.BinarySearchFunc(keys, k, backends.Key.Compare); ok {
			return true
		}
	}
	return false
}

// KeyEvidence is what a look saw of one key. A missing level is nil.
type KeyEvidence struct {
	TruthBefore, TruthAfter   *backends.Level
	ShadowBefore, ShadowAfter *backends.Level
	// PendingBefore and PendingAfter count entries of the truth's outbox that may move the key.
	PendingBefore, PendingAfter int
	// Oldest is when the truth decided the oldest entry of those PendingBefore, by its clock; 0 when
	// there is none, or when one of them does not say.
	Oldest backends.Instant
}

// DecidedBy tells whether everything that the truth had decided at the key by t had reached the
// shadow before the look.
func (e KeyEvidence) DecidedBy(t backends.Instant) bool { return e.PendingBefore == 0 || e.Oldest > t }

// HoldEvidence is what a look saw of one hold. An unknown hold is nil.
type HoldEvidence struct {
	TruthBefore, TruthAfter     *backends.Hold
	Shadow                      *backends.Hold
	PendingBefore, PendingAfter int
}

// EntryRef names an outbox entry.
type EntryRef struct {
	Seq     string           `json:"seq"`
	Op      backends.Op      `json:"op"`
	Hold    backends.HoldID  `json:"hold,omitempty"`
	Version backends.Version `json:"version"`
	// Keys are those of its keys that were asked for, at most maxRefKeys; none when the entry does
	// not name what it may move.
	Keys []backends.Key `json:"keys,omitempty"`
	// Place is where it stands in a legal order: PlaceBehind, PlaceAhead, or empty.
	Place string `json:"place,omitempty"`
}

// Quiescent tells whether nothing moved or was waiting at the key during the look. A level that
// still owes a delta to the other store waits for its backfill, and is not.
func (e KeyEvidence) Quiescent() bool {
	return e.PendingBefore == 0 && e.PendingAfter == 0 && !owes(e.TruthAfter) && !owes(e.ShadowAfter) &&
		sameLevel(e.TruthBefore, e.TruthAfter) && sameLevel(e.ShadowBefore, e.ShadowAfter)
}

func owes(l *backends.Level) bool { return l != nil && l.Owed != 0 }

// Quiescent tells whether the hold stood still in the truth, with nothing waiting, during the look.
func (e HoldEvidence) Quiescent() bool {
	if e.PendingBefore != 0 || e.PendingAfter != 0 {
		return false
	}
	a, b := e.TruthBefore, e.TruthAfter
	if a == nil || b == nil {
		return a == b
	}
	return a.Version == b.Version && a.State == b.State
}

// Gap is by how much the shadow's level exceeds the truth's.
type Gap struct {
	Sellable int64 `json:"sellable"`
	OnHand   int64 `json:"on_hand"`
	Taken    int64 `json:"taken"`
}

// Zero tells whether the levels agree.
func (g Gap) Zero() bool { return g == Gap{} }

// Units is the size of the gap for the shop: the largest of its parts.
func (g Gap) Units() int64 { return max(abs(g.Sellable), abs(g.OnHand), abs(g.Taken)) }

// Unaccounted is by how much the books of the two stores differ: units that are neither for sale nor taken, and that
// no hold found accounts for. What Crossfade does to a level (a restock, a take, a move of a hold) keeps it at zero in each store, also where
// it is done twice or lost; so what is not zero was written by somebody else.
func (g Gap) Unaccounted() int64 { return g.OnHand - g.Sellable - g.Taken }

func (g Gap) String() string {
	return fmt.Sprintf("sellable %+d, on hand %+d, taken %+d", g.Sellable, g.OnHand, g.Taken)
}

// GapOf compares two levels; a missing one counts as empty.
func GapOf(truth, shadow *backends.Level) Gap {
	var t, s backends.Level
	if truth != nil {
		t = *truth
	}
	if shadow != nil {
		s = *shadow
	}
	return Gap{
		Sellable: s.Sellable() - t.Sellable(),
		OnHand:   s.OnHand - t.OnHand,
		Taken:    s.Taken - t.Taken,
	}
}

func sameLevel(a, b *backends.Level) bool {
	var x, y backends.Level
	if a != nil {
		x = *a
	}
	if b != nil {
		y = *b
	}
	return x.Sellable() == y.Sellable() && x.OnHand == y.OnHand && x.Held == y.Held &&
		x.Taken == y.Taken && x.TakenVersion == y.TakenVersion && x.Owed == y.Owed
}
