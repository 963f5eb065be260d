// Package backends is the vocabulary of Crossfade and the ports that its stores fill.
// It imports the standard library only; everything else in the module may import it.
//
// # The model
//
// A [Store] keeps, for one pod, four kinds of facts, and changes them only in atomic steps:
//
//   - levels: per [Key] (shop, item, location) the units on hand and where they are;
//   - holds: per [HoldID] a reservation and its state;
//   - the outbox: the states that this store, as truth, has decided and that the other
//     store has not confirmed yet;
//   - the fence: which epoch and stage this store serves.
//
// The same port is filled by redisstore, mysqlstore and memstore, and each may be the truth
// or the shadow. memstore is the reference: when two stores differ, it says who is right.
//
// # Invariants of a level (P2)
//
//	OnHand   = Available + Held + Taken + Unmaterialised
//	Sellable = Available + Unmaterialised
//
// Held is the sum over open holds of their allocations at that key. Taken is the signed sum of
// anonymous takes (counters: DECR less INCR). Available ≥ 0 always. Unmaterialised ≥ 0 except
// for debt, and where it is negative Available is 0: whoever would put a unit into Available
// pays the debt first. A store without a pool (Redis, memory) keeps Sellable in one counter and
// reports it as Available where it is positive and as Unmaterialised where it is negative.
//
// Sellable moves only so: reserve −, release and expire +, take −, give back +, restock ±, and a
// mirrored state by the difference of footprints. A claim moves OnHand and Held together and
// leaves Sellable as it is.
//
// # Versions
//
// The truth numbers the states of each hold: [Version] is (epoch, n), ordered by epoch, then n.
// Each state change of a hold by a truth operation sets (current epoch, n+1). Reemit sets
// (current epoch, n) and changes nothing else; what a repair restates gets an n above both stores'. The taken sum of each key has a version of its
// own, numbered the same way. A shadow applies a state only when its version is higher than the
// one that it has: twice is once, late is nothing.
//
// # Footprints
//
// What a hold takes from Sellable at the keys of its allocations: all of it while held or
// claimed, nothing once released or expired, nothing when unknown. Applying a state moves
// Sellable by footprint(old) − footprint(new), per key. Entering claimed from any other state
// moves OnHand by −(its allocations), once, in each store (unless [Hold.LedgerOwed], below).
// Where LedgerOwed is applied, the claimed state has no footprint either: its units leave OnHand and
// Sellable together, by the delta that is owed.
//
// # Following
//
// When a shadow applies a held state of a hold that it does not know, it first decides for
// itself by the code path that it would use as truth, and keeps that [OwnDecision] with the hold
// (it is returned at every later Apply of the same entry, so that a comparison lost in a crash
// can be made again). Then it stores the truth's allocation, whatever it decided itself.
// Where the units are not there, Unmaterialised goes below zero: debt.
//
// # What each stage writes to the outbox
//
//	redis-only   Redis: claims and level changes with an OnHand delta (the ledger is MySQL's)
//	shadow       Redis: everything
//	live         MySQL: everything
//	mysql-only   nothing. Deltas of OnHand (claims, restocks) are added to the level's Owed
//	             instead, and a hold claimed there carries LedgerOwed
//
// Owed is sent by ReemitLevels as one delta under one operation id and set to zero in the same
// step. LedgerOwed says: this claim's deduction travels in Owed, do not deduct OnHand for it.
//
// An outbox that has reached its bound drops entries of reserve, extend, release, expire and
// of takes; it never drops a claim or an OnHand delta, nor what SettleOp or a repeated Restock says of an
// operation. The first drop sets the outbox's Lost flag in the same step, and the truth goes on; backfill
// clears it.
//
// In live, once filled, answers wait for Redis. A hold's state is brought there whether or not its entry had
// room, since the answer has it; but of a take nothing is there to bring besides its entry, and a gap in
// the order of a key is one that no later take can pass (see [ErrOutOfOrder]). So there a count whose entry
// would be dropped is refused with [ErrOutboxFull] before it changes anything, and its entry is never dropped.
//
// # Fences
//
// A [Fence] is (epoch, stage, open, filled, alone). Its rank is (epoch, open): Raise moves it only
// upwards, and is idempotent. A truth write under a [Token] is done only when the fence is open,
// its epoch is the token's, and the store is the truth of the fence's stage; a mirror write
// (Apply) when the fence is open, its epoch is the token's, and the store takes mirrors in that
// stage. Otherwise nothing is changed and the answer is a [*FencedError] with the fence as it
// is. A missing fence is closed at epoch 0.
//
// # Time
//
// An [Instant] is a reading of one store's clock. The truth's clock alone fixes and judges
// expiry. No instant of one store is compared with one of another.
//
// # Unknown outcomes
//
// A store remembers each operation id with the OnHand delta that it gave it. A mirrored entry with
// that id moves OnHand by the difference to the delta that the entry carries, and its delta is
// remembered: the truth's word counts (see [LevelChange]). In mysql-only an operation is remembered
// with delta 0: its delta travels in Owed, under an operation id of its own.
//
// An error that [IsAmbiguous] says nothing about whether the step took effect. Every write can be
// sent again under its id: a hold id, or the operation id of a restock or a take.
package backends
