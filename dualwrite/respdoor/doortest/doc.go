// Package doortest serves a RESP door from a single store, for tests of the door and of its
// clients.
//
// # Words
//
// A [Service] is what the Writer is in front of the door of a proxy, made of one store without a
// shadow; a [Router] has one pod, with the default key template.
//
// # Invariants
//
//   - The store is its own truth from the start: its fence is open in redis-only at epoch 1.
//   - A door that was started is stopped when its test ends, and one that does not stop in time
//     fails the test.
//
// # Arrows
//
// The package imports respdoor and backends, and not package testing.
package doortest
