// Package behind lets a proxy answer for a pod in live without Redis (DESIGN §6): it joins the writer's port for that, the
// permission and the mark in the control store, and the journal on disk.
//
// # Words
//
//   - A pod is marked (killswitch.RedisBehind) while some proxies, its holders, may answer without Redis.
//   - A permission (killswitch.Permit) is one process's, and lasts a lease from before it asked.
//   - The journal (dualwrite/journal) has what this proxy has answered so.
//   - Redis is away for a proxy that has asked it for something and then for its fence, and has got neither; it is back when
//     it confirms the epoch again.
//
// # The life of a mark
//
//	none ──Obtain──► marked ──nobody needs it──► ending ──permissions over, Redis has all──► none
//	                    ▲◄──────────Obtain─────────┘
//	any of these ──a kill──► barred, until the next epoch
//
// # Invariants
//
//   - An answer without Redis is given only after COMMIT, then the journal, then a look at the permission, in this order.
//     What the answer rests on is in MySQL's outbox or in Redis, and in the journal.
//   - While a permission is valid the record was Marked less than a lease ago, so no kill has moved Redis's fence: MySQL is
//     the one truth (P1).
//   - A holder leaves only without a permission, and after Redis has its journal, or others know what Redis lacks (P4).
//   - A mark goes only when nobody has a permission and Redis has what MySQL had decided until then. So a kill that finds
//     no mark has nothing to wait for, and nothing to list.
//
// Stopped anywhere: a process that stops with a permission is waited for, a lease at most, and what it answered is in
// MySQL's outbox. One that stops while it leaves is still among the holders. Its next start has the journal, and leaves for it. A
// kill that stops after it has barred the pod leaves it as if it could not be marked: the next kill goes on, or a re-issue
// ends the epoch.
package behind
