// Package killswitch moves a pod between its stages, and kills it back, so that at no instant
// the decisions of two stores can be acknowledged (P1) and nothing acknowledged is lost (P4).
//
// # The model
//
//   - A pod's [PodState] lives in a [ControlStore]: what is wanted, who wanted it and why, and how
//     far an open [Switch] has come. It coordinates. It does not make anything safe.
//   - The two stores' own fences ([backends.Fence]) make it safe. The highest epoch seen anywhere
//     wins ([Reconcile]); losing the control store stops switching, not serving.
//   - A switch is a fixed list of idempotent steps ([Steps]) that follows from its record alone. Each
//     step is recorded before it is taken, so whoever finds a switch whose driver has died
//     ([Driver.Resume]) repeats the recorded step and finishes, or takes it back ([UndoSteps]).
//   - A kill ([Kill]) is one compare-and-set of Redis's fence. It needs no control store, no MySQL and
//     no acknowledgement, but where answers may be given without Redis (see below); all else is told afterwards, as well as may be. The same kill asked for twice
//     is made once: it names the stage that it leaves, or a shadow is left only if no kill led there.
//   - What a kill or a switch leaves to be done when a store comes back is a pure function of the
//     record and the fences ([WorkFor]).
//
// # When a decision can be acknowledged
//
// Redis's can while its fence admits it as truth. MySQL's can while its fence admits it as
// truth under an epoch e, and the stage is mysql-only, or live and not filled, or Redis's fence takes
// mirrors under e. So in filled live Redis's fence alone arbitrates; in mysql-only and
// unfilled live MySQL's fence alone does. [Acknowledgeable] is that definition; the tests check it
// after every step of every schedule.
//
// # Answers without Redis
//
// Where the fence of filled live says Alone, MySQL's decision can be acknowledged without Redis as well, by a process that has
// a permission ([Permit]). The invariants, whatever stops where:
//
//   - Permissions exist only for an epoch whose fence says Alone, so Redis's fence alone tells a killer that there are none.
//   - A process has a permission only while the record has it among the holders of a mark of that epoch, or for a lease after it
//     was changed. It enters by compare-and-set, and leaves only without a permission.
//   - Nobody is given one while a switch is open, and none is opened while there is a mark, but for one that makes MySQL the
//     truth again (a re-issue): its fences refuse whatever still has a permission.
//   - A kill bars the mark first, and moves Redis's fence only when no permission can be valid: P1.
//   - A mark goes only when Redis has everything; so a kill that finds none lists nothing: P4.
//
// # Invariants of the steps
//
//   - A target epoch is above every epoch seen in the control store, in either fence, and above
//     every epoch ever planned ([PodState.MaxEpoch]). Only a kill may meet it, on Redis.
//   - Redis's fence is moved only by compare-and-set from a fence that the record expects there. So
//     a kill is never overwritten: the driver that meets one stops and writes down what it found.
//   - Redis becomes the truth only out of a fence that was filled live, or closed while
//     MySQL had not been opened. So MySQL can never be acknowledging alone at that moment.
//   - live to mysql-only moves Redis first: after it no kill can make Redis decide.
//   - MySQL's fence is opened for live under an epoch only after Redis's fence has reached that
//     epoch, except unfilled, where no kill is possible.
//   - A driver writes nothing after another has put its name into the record: each step is recorded by
//     compare-and-set first. What it had sent before then is at most the recorded step, which
//     the other repeats or outranks.
//
// # Time
//
// Instants in records are for people. Whether a driver is alive is judged by how long this
// process, by its own monotonic clock, has seen its heartbeat stand still.
//
// # Arrows
//
// killswitch imports backends and the standard library. Adapters of its ports (filestore, etcd) import
// it; what drains, settles and backfills is behind [Carrier] and comes from dualwrite by way of cmd.
package killswitch
