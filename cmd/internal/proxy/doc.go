// Package proxy assembles a running Crossfade proxy from its configuration. It is the one place
// where concrete types meet: stores, breaker, comparator, control store, driver, front door, admin
// service and metrics.
//
// # What runs
//
// For each pod: the loops of dualwrite.Service, the comparator, and a keeper that follows the control
// store, acknowledges the epoch served, resumes switches that were left half-way and does the work
// that a kill or a switch leaves (package killswitch decides what; this package carries it out).
//
// # Order
//
// A pod serves as soon as Redis's fence admits a stage; MySQL may be away then. Only a pod's very
// first start needs both stores, since the schema is made and the first fence is written. Stopping goes
// the other way: the door first, so that every answer that was promised is given.
package proxy
