// Package etcdstore is the control store of a fleet, in etcd 3.5 or newer. It fills killswitch.ControlStore.
//
// # Under the prefix
//
//	pods/<pod>              the record of one pod
//	history/<pod>/<seq>     one change each; seq has 20 digits, so that keys are in the order of changes
//	acks/<pod>/<proxy>      the latest word of a proxy, under its lease if it has registered
//	members/<proxy>         a registration, under its lease
//
// <pod> and <proxy> are path-escaped, so that no name contains a "/". A record's revision is its ModRevision.
//
// # Invariants
//
//   - A record is written by one transaction that compares its ModRevision. Each writing has a token of its own, so
//     that one whose answer was lost is known again: what is there tells whether it took effect. Where somebody has
//     written since, that cannot be told any more, and the error says so; it is never ErrConflict.
//   - All reads are linearizable: a member that is cut off answers nothing rather than what was.
//   - A history line is written only where none was added since its place was looked up.
//   - A watch that was interrupted, for whatever reason, begins by comparing what is there with what it has
//     reported. Nothing depends on etcd's keeping old revisions.
//   - Each request ends within the caller's context and within [MaxCall], whatever the servers do. It is sent
//     again, to other members, when one does not answer.
//
// # Errors
//
// Whatever keeps etcd from answering is killswitch.ErrControlUnavailable, with the reason that was seen last;
// where it has answered and refuses (a user without rights, a full disk) the error says what to do.
//
// The package logs nothing, and the client's own logger is silenced: errors are returned.
package etcdstore
