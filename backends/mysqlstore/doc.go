// Package mysqlstore fills backends.Store in MySQL (8.0.1 or newer) and MariaDB (10.6 or newer): the
// ledger, and a unit pool with one row per sellable unit, taken with FOR UPDATE SKIP LOCKED.
//
// # Words
//
// A level row (crossfade_levels) is the companion of a ledger row: what is unmaterialised, the
// taken sum, what is owed. The ledger holds the units on hand and nothing else. They are two tables
// since in an existing shop another application owns the ledger: we then need no column of it but
// the quantity, touch it only where OnHand moves, and its long transactions do not stand in
// the way of a refill. Where DESIGN says "the ledger row's lock", it is the level row's here.
//
// A fast reserve takes rows of the pool and nothing else. A confirmed one has the level rows of its
// cart locked, and may refill. A view is one statement without locks: levels, pools, holds and fence
// as committed at one instant.
//
// A batch is requests of one kind and one token that share a transaction (takes; ends: claims,
// releases, extensions, expiries) or a view; its members keep their own verdicts. A chain is mirrored
// entries that share one, in their order. A lane runs one batch after the other. What a caller who
// went away left in a batch under way may still be committed: his answer is ErrAmbiguous.
//
// # Order of locks
//
// Every write is one transaction at READ COMMITTED, which begins by reading the fence in share
// mode, together with the clock and the session's id, and locks in the order
//
//	fence → levels → ledger → units → holds (and operations) → outbox
//
// each by key. Whoever finds out late that it needs an earlier lock rolls back and starts again.
// SKIP LOCKED never waits, so a fast reserve waits for nothing but the fence and its own hold id.
//
// # Invariants
//
//   - Rows enter the pool only under the level row's lock, so under that lock the pool can only
//     shrink. crossfade_levels.pooled is an upper bound of the rows: a pool that has room by that
//     bound is not counted.
//   - Unmaterialised is below zero only while the pool is empty: what comes back pays the debt
//     first, and a debt is made only after the whole pool was read, waiting for neighbours.
//   - A refusal rests on a view that began after the request did, or on rows read under the level
//     row's lock, waiting. Rows that an open transaction has taken count as available in a view
//     (it may roll back): a view that still shows enough is not a refusal but a reason to go and
//     wait for them (P3).
//   - Count answers an exact number, so under the level row's lock it reads the whole pool, waiting
//     for every open transaction that has taken units: a plain count would include units that a
//     neighbour is about to take for good, a skipping one would leave out units that come back.
//   - A wait that times out is ErrBusy, never a refusal, and always rolls back.
//   - A state of a hold is written by an UPDATE that names the version it replaces.
//
// # Plans
//
// What an optimizer makes of a statement decides what it locks, and on small tables both servers
// like to read a table whole, which waits for whatever others have locked in it. So what locks names
// single rows by their whole key, or the pool of one key; many single rows are a table to join, not a
// condition, for which MySQL was seen to read 250,000 rows now and then and to wait for what other
// lanes had locked among them; a table of two indexes is told which; and the units table has 2,048
// rows of ballast, of a pod without a name. A test explains each statement that locks, on both
// servers, on large tables and on nearly empty ones.
//
// # Unknown outcomes
//
// Only COMMIT can be in doubt: what breaks before it is sent has changed nothing, and answers
// ErrUnavailable. When COMMIT breaks, the session is killed from a fresh connection, and once it
// is gone from the process list and from innodb_trx the hold (or operation id) is looked for by the
// stamp that this write put there. Where that cannot be told in time the answer is ErrAmbiguous;
// so it is when the caller's own context ends during COMMIT.
//
// # Costs
//
// A granted reserve is two round trips: fence, hold and units; delete, inserts and COMMIT. A
// refused one is one or three. All of them are shared by a batch. Statements that belong together travel in one packet, which is why
// the connections have multiStatements on; every value is put into the text by the driver.
//
// Conservation reads holds and levels in one snapshot, which keeps InnoDB from purging while it
// lasts; it is bounded in time.
//
// # Limits
//
//   - Raising a fence on MariaDB finds who blocks it in InnoDB's own tables, which are renewed only
//     when nobody has read them for 0.1 s: a monitor that polls them faster hides the blockers, and
//     Raise then answers ErrBusy after a lock wait.
//   - The outbox's bound is soft: a count that is not older than some moments, plus what this store
//     has written since; what other proxies wrote in between comes on top.
//   - Pending pages by a time-ordered number given before COMMIT: an entry that commits late may be
//     behind a position that was passed already. Sweepers start from the beginning each time.
//   - Level.Held is what balances the level. Only Conservation sums the holds.
//   - A level that is made where the ledger has a row already takes over the units on hand.
//
// # Arrows
//
// The package imports backends, the standard library and the driver.
package mysqlstore
