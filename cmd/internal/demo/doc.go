// Package demo shows what Crossfade is for, in about a minute, on real servers where they can be had.
//
// # The story
//
// Two shops sell at the same time through one proxy, each in a pod of its own. Both pods go from
// redis-only to shadow, and the decisions of both stores are compared. Pod one is found well and goes
// live. In pod two a unit is lost in MySQL behind Crossfade's back: the report finds it from one
// buyer's cart, and the gate refuses to take the pod live. Pod one is killed back to Redis under load.
// At the end every hold and every level is compared, and the checkouts' own logs are held against what
// the truth says.
//
// # Words
//
//   - A [System] is what the demo plays on: a proxy with its stores. The one on real servers is put
//     together in cmd/crossfade; [OpenMemory] has one on the memory model, for machines where no server
//     can be had and for tests. A summary says which it was ([Summary.Memory]).
//   - A step is one thing shown, with what it found in words and figures.
//
// # Invariants
//
//   - The demo judges itself: whatever is not as it should be is listed in [Summary.Wrong], and is an
//     error at the end.
//   - Something is written before anything takes time, and a line every few seconds after that.
//   - The memory model is never taken for servers: what stands in for them is said at the start, at the
//     end, and in the JSON form, with what to install.
//
// # Arrows
//
// The package imports orders, replay and lab (for what to install), and for the memory model the
// packages that a proxy is made of.
package demo
