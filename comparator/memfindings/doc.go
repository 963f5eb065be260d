// Package memfindings keeps findings and coverage in memory: it fills [comparator.Store] where there
// is no MySQL (a demo on the memory model) and is the reference for the other adapters. Nothing
// outlives the process.
//
// Invariants: what goes in or out is a copy as far as a caller could change it; both maps are
// bounded, and what is beyond the bound is refused with an error, so that the comparator keeps it or
// spools it. It imports comparator and backends.
package memfindings
