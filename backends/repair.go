package backends

import (
	"context"
	"fmt"
	"strconv"
)

// Repairer is what a repair needs of both stores: of the truth, that it says once more what it has, under a
// version that the shadow takes; of the shadow, that it corrects a level.
//
// A state that a mirror would bring has the version that the shadow has already, and "twice is once" would
// make nothing of it: so what is wrong in the shadow under the right version stays wrong, however often
// it is emitted. A restated one has a version above both.
type Repairer interface {
	// RestateHolds writes the present state of each hold to the outbox under (epoch, n), with n above its own
	// and above what the other store has, and keeps that version. It changes nothing else. A hold that
	// this store does not have is written as Released with no lines: under (epoch, 0), as Reemit does, where
	// that is after Above; else under a version above it, and then this store keeps the tombstone, so that
	// whoever reserves under that id is told that it has ended, and no state of this store is ever older than
	// what the other one has. Atomic per hold; it answers how many were written. What an outbox that is
	// full drops is not written.
	RestateHolds(ctx context.Context, t Token, hs []HoldAbove) (int, error)
	// RestateTaken likewise writes the taken sum of each key that exists. What is owed stays owed.
	RestateTaken(ctx context.Context, t Token, ks []LevelAbove) (int, error)
	// Correct moves one level of a store that takes mirrors, and tells whether it did: an OpID that is known
	// changes nothing. A key that does not exist is made. asOf is a Now of this store read before the
	// figures that the correction rests on; older than half of retain is ErrStaleAttempt. Nothing goes to
	// the outbox. It commutes with every entry that is on its way.
	Correct(ctx context.Context, t Token, asOf Instant, c *Correction) (done bool, err error)
}

// HoldAbove names a hold, and the version that it must get beyond.
type HoldAbove struct {
	ID    HoldID
	Above Version
}

// LevelAbove names a key, and the version that its taken sum must get beyond.
type LevelAbove struct {
	Key   Key
	Above Version
}

// Correction moves Sellable and OnHand of a level, each by an amount of its own: with OnHand alone what is
// unmaterialised does not move, so the two are equal where units are found or lost, and Sellable moves
// alone where the units on hand are right.
type Correction struct {
	OpID     OpID
	Key      Key
	Sellable int64
	OnHand   int64
	// Held moves the running sum of what open holds take, in a store that keeps one; MySQL does not.
	Held int64
}

// Check gives a *FieldError for the first thing that is wrong.
func (c *Correction) Check() error {
	if err := CheckID("operation id", string(c.OpID)); err != nil {
		return err
	}
	if err := CheckKey(c.Key); err != nil {
		return err
	}
	for _, n := range []int64{c.Sellable, c.OnHand, c.Held} {
		if n < -MaxOnHand || n > MaxOnHand {
			return &FieldError{Field: "correction of " + c.Key.String(), Value: strconv.FormatInt(n, 10), Bound: fmt.Sprintf("up to %d units", int64(MaxOnHand)), Next: "look at the level: one of the stores has a figure that it cannot have"}
		}
	}
	return nil
}

// MaxVersion bounds what a restated version may have to get beyond. It is far below the 2^53 at which Lua's
// numbers stop being exact, and far above what any pod reaches: a version beyond it was not
// written by Crossfade.
const MaxVersion = 1 << 50

// CheckAbove gives a *FieldError for a version that nothing can be put above.
func CheckAbove(what string, v Version) error {
	if v.Epoch > MaxVersion || v.N > MaxVersion {
		return &FieldError{Field: "version of " + what + " in the other store", Value: v.String(), Bound: "below 2^50.2^50", Next: "the record is damaged: set it right by hand"}
	}
	return nil
}

// Over is a version under epoch that is after both v and o.
func (v Version) Over(o Version, epoch uint64) Version {
	return Version{Epoch: max(v.Epoch, o.Epoch, epoch), N: max(v.N, o.N) + 1}
}

// Explainer says in a store's own commands and rows what the steps of a repair write, for people to read
// before it is done. A store need not be one.
type Explainer interface {
	// ExplainRestated is what the truth writes to restate a hold as is; was nil: it does not know it.
	ExplainRestated(was, is *Hold) []string
	// ExplainFollowed is what a shadow writes that follows it.
	ExplainFollowed(was, is *Hold) []string
	// ExplainTaken is what either writes for a taken sum.
	ExplainTaken(was, is *Level, asTruth bool) []string
	// ExplainCorrect is what a shadow writes to correct a level.
	ExplainCorrect(was *Level, c *Correction) []string
}
