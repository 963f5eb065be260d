// Package selftest proves that the comparison finds what it is there to find: it breaks pods on purpose, one fault in
// each, on real servers from the lab, and looks whether the product tells of it.
//
// # Words
//
//   - An injection is one fault, put into one pod while honest buyers go on: by a [faulty] store, which stands between the
//     pod and its shadow, or by a writer that goes to a server past Crossfade.
//   - A figure is a class with units and how many findings, sights, and which check found it: what an injection has to
//     lead to, and what it led to.
//   - A row is one injection in one stage on one pair of servers.
//   - The book is what the buyers were told, and so what the account has to come to.
//
// # What makes a row pass
//
//   - Exactly the findings expected: no more, of the right class, each at its hold or level with its units.
//   - The account has each decision that a buyer was told of in exactly one column.
//   - The pod is repaired, and audit and conservation find nothing afterwards.
//   - Without an injection (the A/A rows: two stores of one kind) nothing is found at all.
//
// A row that could not be played to its end has failed: silence is no proof.
package selftest
