// Package dualwrite is the Writer: it takes a checkout's operation, has the truth of its pod
// decide it, answers, and brings the decided state to the other store.
//
// # Words
//
//   - A [Pod] joins the two stores of a pod with its gate, its lanes and its comparer.
//   - The [Gate] says, without I/O, under which epoch and stage this proxy serves. It is a
//     hint that saves round trips: what makes it safe are the fences in the stores, which every
//     write passes.
//   - A mirror step ([Pod.Mirror]) applies outbox entries to the shadow, removes them, and hands
//     what was compared to the comparer.
//   - A lane carries entries from decisions to mirror steps, off the request path. It is
//     bounded; what does not fit waits in the outbox.
//   - A sweep ([Pod.Sweep]) mirrors what has stayed in the outbox: of a lane that was full, of
//     a shadow that was down, of a proxy that died.
//
// # Invariants
//
//   - A decision is answered only as the truth made it, under an epoch that its fence admitted
//     (P1). In live, an answer is given only after Redis has accepted its mirror at that epoch,
//     or, where nothing has changed, has confirmed that it still admits that epoch. Where the fence allows it, a
//     permission ([Lone]) takes the place of a Redis that cannot be reached; a fence that refuses is never passed by.
//   - An entry is removed from the outbox only after the shadow has confirmed it (P4).
//   - Outside live no answer waits for the shadow: offering to a lane never blocks, and
//     neither a failing shadow nor a panicking comparer reaches the caller (P5).
//   - A retry inside the proxy uses the id of the first attempt, so it takes nothing twice; and it says
//     that it is one (backends.CountRequest.Fresh).
//   - Of all proxies exactly one counts an entry's comparison: the one that removed it (P6).
//
// # How it runs
//
// Every step is a synchronous method: the operations of [Pod], Mirror, Sweep, Expire, Refresh,
// Backfill, Settle. [Service] only runs them in loops. The simulation drives the same steps
// with its own scheduler, clock and stores.
//
// # Arrows
//
// dualwrite imports comparator (to hand over observations) and backends. It knows no concrete
// store, no control store and no door.
package dualwrite
