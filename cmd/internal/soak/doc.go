// Package soak runs the unit pool for minutes, as a shop would use it, and checks its promises while
// the traffic goes on (`crossfade soak`, `make soak`).
//
// # Words
//
//   - A buyer is a loop of one caller: carts, and claims, releases, extensions and restocks of what it
//     has. What it forgets expires.
//   - A plentiful item has more units than the whole run could take ([plentyUnits]), so that every
//     refusal of it is wrong, whatever ran beside it. A few of them are hot, many are cold.
//   - A scarce item has a few units, for which all buyers compete. Its refusals and grants are kept as a
//     history, and somebody has refused a buyer wrongly (or sold a unit twice) exactly when no order of
//     the history explains all answers. Histories grow hard to search, so there is a new
//     window, with items of its own, at every sample.
//   - A sample is what is looked at every few seconds: conservation over all holds and levels in one
//     snapshot, the window that has just ended, latencies and counters since the last one.
//
// # What is checked
//
//   - P2: Conservation at every sample, and at the end units on hand = what was stocked less what was
//     claimed, at every plentiful item.
//   - P3: no plentiful item is ever refused; every history of scarce items is linearizable.
//   - P8: no deadlock is answered to a caller. InnoDB's own count is printed.
//   - Every request is answered in the end: what is unknown is sent again under its id.
//
// The package plays against the port; only [Run] knows servers.
package soak
