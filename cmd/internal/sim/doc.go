// Package sim runs the real steps of the Writer, mirror, sweeper, expiry, claim, settle and stage
// change over memory stores, under a scheduler that is driven by a seed: a schedule decides which
// step goes next, which message is delayed, duplicated, reordered or lost, which proxy dies
// between which two calls, and when time passes. After every schedule the promises are checked. A
// seed replays.
//
// # Words
//
//   - A process is a coroutine: an operation of a client inside a proxy, a background step, the
//     driver of a switch. It gives way before and after each call of a store and at each wait, and
//     nowhere else; so every interleaving of store calls can be produced.
//   - A proxy is a group of processes with one dualwrite.Pod. It dies as one: none of its processes
//     ever runs again, and what it had in memory is gone.
//   - A ghost is a call whose answer was lost and which takes effect later, as a COMMIT that
//     lands late or a script that a stopped process had sent.
//   - A tight schedule, one in eight, has outboxes that hold next to nothing, more counts, and a Redis that is
//     away for a while, so that entries are dropped, and counts refused in live.
//   - An alone schedule, one in four, begins in a live in which MySQL may answer without Redis. Redis is away for some proxies or all, sometimes MySQL
//     as well, disks are slow, and machines are lost with their journals.
//   - Time is virtual: it moves when nobody can run, and now and then by itself.
//
// # What is checked
//
//   - P1, P4: every acknowledged operation is in both stores, in a final state that the
//     operations acknowledged and those of unknown outcome allow.
//   - P2: at every step and every key of the truth; at the end in both stores.
//   - P3: every sold-out was true at some instant of its call, in the store that was then the truth.
//   - P1, P4, without Redis: see behind.go.
//   - P5: outside live no caller's operation calls the shadow.
//   - P6: no grant is counted twice; where nothing crashed and no message was lost, each decision
//     that was begun has ended in one column of the account.
//   - P7: when everything is delivered, both stores agree on every hold and level.
//
// Beside it, the comparator's judge is played over whole proxies in virtual time, with clocks apart, calls that take their time
// and proxies that are killed, stop and start (its tests): P7, nothing that was honest is confirmed.
package sim
