// Package chaos switches and kills a pod that several proxies serve, under a checkout load and with one thing broken after the
// other, and checks that no client was told what the stores do not have.
//
// # Words
//
//   - The fleet is three proxies, each a process of the program itself, on private servers from the lab. Between each proxy and
//     each server is a relay of ours, which passes, cuts, stalls or slows; so a server can be out of reach of one proxy only, and
//     what a proxy writes can be seen, and kept back, before it arrives.
//   - A fault is one case of a scenario; a trial is one time that it is played: the pod is brought to its stage with everything
//     well, buyers come, the fault happens, it is taken away, the buyers leave, and what was said is checked.
//   - A buyer sends each request until he has a verdict, under the same id, through another proxy when one fails him. One
//     operation is from his first try to the verdict. A try without a verdict is a failed request.
//   - An excuse allows tries through one proxy, or through all, to fail for a named span of time: while the proxy is dead,
//     or MySQL is gone and the kill not yet given. All others count as broken.
//   - A prober asks one proxy for what cannot run out, one try each: it shows when a proxy answers again.
//   - A ghost is a take by a store whose word nobody was given, given back when that was found: a grant of MySQL that Redis
//     did not accept before a kill.
//
// # What is checked after each trial, when both outboxes are empty
//
//   - No request failed that was not excused.
//   - Every hold is in the state that its buyer was told, in both stores, under the same version and with the same units. A hold
//     that was never granted is not held, unless a try of unknown outcome has taken effect.
//   - Each item has in both stores, to the unit, what was stocked less what was claimed; what is held is what its holds
//     have; nothing is below zero.
//   - The operations on each hot item have an order that explains every answer: stock that is counted once, with
//     refusals that name what was there at their instant. It is found by a search that knows counters, and checked by the model; where
//     that finds none, porcupine judges. A history is bounded by taking another item after some
//     hundred reserves; one whose order is not found in time counts as broken. Ghosts are allowed only to operations of
//     unknown outcome, or under way when a truth was left, and only where no order without them was found.
//   - Audit and conservation find nothing.
//
// # One truth
//
// That two stores never acknowledge at the same instant (P1) cannot be sampled: two reads of two fences are two
// instants. It follows from the histories. Were two stores to grant from a stock that each believes to be its own, then a unit would be
// sold twice, or a refusal would name a level that was never there, or a hold that one has acknowledged would be unknown
// to the other in the end; each of these is checked for every operation, whatever the fences said meanwhile.
//
// # Figures
//
// What is judged by time: 99 of 100 reserves that met one of the switches within [GateP99]; Redis's grants through every proxy within
// [KillWithin] of the kill's command; all other proxies serving within [ServeWithin] of a driver's death. They are by this
// process's monotonic clock, from the outside.
//
// # Arrows
//
// It is a package of cmd: it may import all. It signals only what it has started.
package chaos
