// Package storetest is the one conformance suite that every backends.Store passes: the memory
// model and the real servers alike. An adapter's test is a [Harness] and a call of [Run].
//
// # Words
//
// A rig is a fresh store of one side with its fence raised so that it serves as the truth or as
// the mirror of one stage. A book is what a store says of some keys and holds at rest: levels,
// holds, outbox. Two stores agree when their books are equal.
//
// # Rules of the suite
//
//   - What is required is stated by package backends; memstore decides where that leaves room.
//   - A store is looked at through its port only.
//   - Nothing waits by sleeping: time passes by the store's own clock, within a deadline.
//   - Nothing is skipped. A store that must differ says so in [Differences], with the reason.
//
// The package imports backends, memstore, rapid, porcupine and go-cmp.
package storetest
