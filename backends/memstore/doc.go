// Package memstore fills backends.Store in memory: the sequential reference model. When two
// stores differ, this one says who is right, so it is written to be read: one mutex, plain maps,
// no pool, no background work. Simulation and property tests build many of them.
//
// # Words
//
// A record is a hold with what this store alone knows of it: when it was last touched by its
// own clock, and the decision that it took for itself when it was the shadow. A weight is how a
// hold in its state stands in a level: the units that it takes from Sellable, has taken off
// OnHand, and adds to Held. Every move of stock by a hold is "take the old weight off, put the
// new weight on", so P2 holds after any state whatever came before it.
//
// # Decisions of the reference
//
// Where the port leaves room, this is what the reference does:
//
//   - An id with another body is a conflict whether its hold is open or ended.
//   - A tombstone (Released, no lines; see Refiller.Reemit) ends an open hold of this store and
//     leaves it its lines, so that a late claim still knows what was sold. Where nothing was
//     known it is kept bare: a reserve under its id answers Ended, a claim treats it as unknown.
//   - Claimed is not left: a newer state of the other store that is not claimed does not undo
//     a claim (money was taken), and is answered as not changed.
//   - A claimed hold with LedgerOwed weighs nothing in a store that applies it: its units leave
//     OnHand and Sellable together with the level's Owed.
//   - The operation id of a take travels in its entry like that of a restock, so that a take sent
//     again to a new truth is recognised.
//   - Holds that expire at the same instant expire in the order of their ids.
//   - Reemit counts as droppable when the outbox is full: the Lost flag then asks for another
//     backfill.
//
// # Invariants
//
//   - No order of a map is visible: holds and levels are listed in the order of their creation.
//   - A *backends.Hold inside the store is never changed once it is there; a new state is a new
//     value. What goes in or out is copied. Hold and Entry.Hold of one Decision are one copy.
//   - Time is read from Options.Clock only.
//
// The package imports backends and the standard library.
package memstore
