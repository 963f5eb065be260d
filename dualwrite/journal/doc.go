// Package journal keeps on this proxy's disk what was answered without Redis, until Redis has it.
//
// # The model
//
//   - A journal is a file of lines, each one state with the epoch under which it was decided and the run of the process
//     that answered it. It is only appended to, and emptied as a whole when nothing of it is needed any more.
//   - [Journal.Append] returns when the states are on the disk. Those who append at the same time share a sync.
//   - The process that has the file open has it alone: whoever opens it knows that every other run in it is dead.
//   - A line that a crash has torn was never acknowledged. It is cut off. A damaged line in between is left out and counted, and
//     takes none of its neighbours with it.
//
// # Arrows
//
// journal imports backends and internal/linefile. It knows neither the writer nor the control store.
package journal
