package backends

// Entry is one state that the truth has decided and that the other store has to follow. Exactly
// one of Hold and Level is set.
type Entry struct {
	// Seq is the entry's place in its outbox: opaque, unique, not ordered as a string.
	Seq string `json:"seq,omitempty"`
	// Op is the operation that made the state. Entries of OpReserve are the granted decisions
	// of the coverage account.
	Op Op `json:"op"`
	// At is when it was decided, by the truth's clock.
	At    Instant      `json:"at"`
	Hold  *Hold        `json:"hold,omitempty"`
	Level *LevelChange `json:"level,omitempty"`
}

// Keys lists the keys that the entry may move, sorted and distinct.
func (e *Entry) Keys() []Key {
	if e.Level != nil {
		return []Key{e.Level.Key}
	}
	if e.Hold == nil {
		return nil
	}
	var ks []Key
	for _, u := range e.Hold.Takes() {
		ks = append(ks, u.Key)
	}
	return ks
}

// LevelChange carries the taken sum of a key by state, and a change of OnHand by operation.
// Applying it makes the key if it does not exist.
type LevelChange struct {
	Key Key `json:"key"`
	// Taken and Version: applied when Version is higher than the receiver's. Only entries of
	// OpCount that moved Taken, and of OpReemit, carry them; elsewhere Version is zero. In live,
	// once filled, an OpCount's Version has to follow the receiver's without a gap, else the
	// entry answers ErrOutOfOrder: see there.
	Taken   int64   `json:"taken"`
	Version Version `json:"version"`
	// OnHandDelta belongs to OpID by state as well: the receiver keeps the delta that it has
	// for each operation id, and moves OnHand by the difference. Nearly always that is "once"; but
	// how much of a give-back is a restock depends on the store that decides it, and after a kill
	// the same operation may be decided again by the new truth. An empty OpID carries no delta.
	OpID        OpID  `json:"op_id,omitempty"`
	OnHandDelta int64 `json:"delta,omitempty"`
	// Answer is what the truth answered the count OpID: the receiver answers the same if it is sent
	// again. Zero for a restock, whose answer has no value.
	Answer int64 `json:"answer,omitempty"`
	// Void: OpID was decided by nobody, and never will be (see [Refiller.SettleOp]). The receiver takes
	// back the delta that it has for it, and answers ErrVoid if it is sent again. It is final: no
	// later entry of OpID changes it. The taken sum travels in the same entry.
	Void bool `json:"void,omitempty"`
}

// Applied is what became of one mirrored entry.
type Applied struct {
	Seq string
	// Changed: the entry was newer than what the shadow had.
	Changed bool
	// Own is what the shadow had decided for itself when it first saw the hold as held, kept with
	// the hold. Nil for entries of anything but a held hold, and where it never decided.
	Own *OwnDecision
	// Debt lists the keys at which this entry left Sellable below zero, with the debt.
	Debt []Units
	// Err: this entry was not applied, and stays in the outbox.
	Err error
}

// OwnDecision is what a store would have answered a reserve by itself.
type OwnDecision struct {
	Outcome Outcome      `json:"outcome"` // granted or sold out
	Allocs  []Allocation `json:"allocs,omitempty"`
	Short   []Shortage   `json:"short,omitempty"`
	// Seen is Sellable at the keys, as the decision saw it; may be missing for a grant.
	Seen []Units `json:"seen,omitempty"`
}

// OutboxStats describes an outbox.
type OutboxStats struct {
	Entries int64 `json:"entries"`
	// OldestMillis is the age of the oldest entry by that store's clock; 0 when empty.
	OldestMillis int64 `json:"oldest_ms"`
	// Lost: entries were dropped since the last backfill began; the shadow is not complete.
	Lost    bool  `json:"lost"`
	Dropped int64 `json:"dropped"`
}
