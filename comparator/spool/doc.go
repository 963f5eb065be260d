// Package spool keeps findings and coverage in a local append-only file while their store is away:
// it fills [comparator.Spool].
//
// # The file
//
// One line per batch, with a checksum (internal/linefile). A line is written whole and synced before Append returns.
//
// # Invariants
//
//   - What Append has acknowledged survives a crash of the process and of the machine.
//   - A torn last line (a crash during Append) was never acknowledged; it is cut off when the file
//     is opened. A damaged line in between is skipped and counted, and takes none of its neighbours
//     with it.
//   - The file is emptied only after every line was saved. A crash in between replays lines again,
//     which changes nothing: findings have fixed ids and coverage rows a revision.
//   - The file never exceeds its bound, and one process at a time has it open (a lock on the file).
//
// The package imports comparator and internal/linefile.
package spool
