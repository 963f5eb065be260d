// Package controltest is the conformance suite of killswitch.ControlStore, and a control store in memory.
//
// # Words
//
//   - [Run] is the suite. An adapter's own test calls it with an [Open], which gives handles on one and
//     the same store: each handle stands for a process.
//   - [Memory] keeps records within one process, as text, so that whatever a record's JSON does not carry
//     is lost in it as it would be in a file. It is for tests and simulations.
//
// # Invariants
//
// Every requirement of the suite is one of the sentences of the port; it asks for nothing more, and in
// particular for no timing but that what must come comes within a patient bound.
//
// # Arrows
//
// It imports killswitch and backends, and is imported by tests and by simulations only.
package controltest
