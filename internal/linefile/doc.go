// Package linefile is what files of ours that are only appended to have in common.
//
// # The file
//
// A line is the CRC-32C of the rest as eight hexadecimal digits, a space, JSON, a line feed. What is behind the last line
// feed is a line that a crash has torn.
//
// # Invariants
//
//   - [Begin] leaves whole lines only, and a file whose name is as durable as its content: a file that was just made, and synced, is
//     lost with its folder's entry otherwise.
//   - One process at a time has a file open, and one opening in that.
//   - A damaged line is told from a whole one by its checksum, and takes none of its neighbours with it.
//
// What becomes durable when, and when a file is emptied, is the business of those who keep one.
//
// # Arrows
//
// linefile imports nothing of ours.
package linefile
