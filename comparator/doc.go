// Package comparator says whether the two stores of a pod agree, and proves it.
//
// # Words
//
//   - An [Observation] is one reserve that the truth has decided, with what the shadow would have
//     decided by itself ([backends.OwnDecision]) or the reason why that is not known.
//   - [Judge] turns it into a [Judgement]: match, diverged with a [Class] and units, or unknown.
//     Unknown is never a match and never a mismatch.
//   - A diverged decision waits in the settle queue until a [Rechecker] has looked at the stores
//     often enough for [Settle] to call it explained, confirmed or undetermined.
//   - A [Finding] is a recorded divergence, with its units and its life.
//   - [Coverage] is the account of every decision: each is in exactly one column.
//   - An [Audit] compares all holds and all levels of both stores.
//   - A [Stratum] is a kind of decision with evidence of its own; [Readiness] says whether there is enough
//     of it to make the shadow the truth.
//
// Only reserves are decided by both stores. All other operations are mirrored by state; their
// errors show as differences of holds and levels, which the audit finds.
//
// # What is a difference, and what is concurrency (P7)
//
// Every store decides a reserve by one rule, [backends.Allocate], a function of Sellable at the
// cart's keys, in one atomic step. Two consequences:
//
//  1. A decision that does not follow from the stock that its own store says it saw
//     ([backends.Decision.Seen]) is wrong in every order of operations. In particular, when both
//     stores saw the same stock at all keys concerned and answered differently, one of them broke
//     the rule. Such a divergence is confirmed at once. (Not so two refusals that name different
//     lines: one short line decides a refusal, and a store may look at the others apart.)
//  2. Otherwise the stores saw different stock. Either that was only entries on their way (the
//     shadow decides when an entry reaches it, the truth has gone on since), or the stock of the
//     stores differs for good.
//
// To tell the two cases of (2) apart, a look at the stores reads, in this order: the truth's
// outbox, the truth's levels, the shadow's levels, the truth's and the shadow's levels again, the
// outbox again. A key is quiescent in a look when no pending entry touched it in either reading of
// the outbox, neither store's level changed between its two readings, and none owes the other a
// delta from mysql-only ([backends.Level.Owed]). At a quiescent moment
// everything that the truth has decided at that key has reached the shadow, so:
//
//   - Levels agree (Sellable, OnHand, Taken): the stock that the stores saw differed
//     only by entries that were on their way. The truth's order, with the shadow's decision
//     placed before the entries that had not reached it, is a legal order with both outcomes.
//     All keys concerned must have had such a moment: then the decision is explained.
//   - Levels differ by the same amounts at two quiescent moments: no entry will make up for it.
//     Confirmed, with the decision's class, and as a level_drift of that key.
//   - No such moment within the settle window: undetermined, counted, never a match.
//
// # Limits of that reasoning
//
// It proves that the stores agree afterwards, not which order of operations it was: that takes a
// search over recorded histories. So a decision is explained even though it was wrong, when the
// store gave no Seen for it, or a wrong one that fits, and the shadow then followed the truth. A
// look can also be deceived: operations that begin and are mirrored entirely between its two
// readings of the outbox, cancel out in the truth, and straddle both readings of the shadow,
// look like a difference. That is why one quiescent difference is not enough, and why the two
// must be of the same amounts and apart in time. An outbox that has lost entries, or is longer
// than a look reads, gives no quiescent moment at all.
//
// # Readiness: what is counted where
//
// [StrataOf] puts each decision that was compared, and ended as a match, explained or confirmed, into its
// strata; one that was excused or not determined is evidence of nothing. A decision may be in several:
//
//   - plentiful, last_units: grants, by how many units beyond what was asked for the scarcest line had in all
//     of its locations: more than [LastUnitsBound] (10), or at most so many. By the truth's Seen, else the
//     shadow's. Where a sweep brought the entry and the shadow did not count, nobody knows: such
//     grants are in neither, and counted apart.
//   - sold_out: refusals of the truth that were probed.
//   - several_locations, several_lines: carts with a line of more than one location; of more than one line.
//   - late_claim: claims at or after the hold's expiry, by the truth's clock. expiry: holds that the
//     truth's sweeper ended. The shadow decides neither; it follows. So both stores' holds are compared
//     afterwards, by [CompareHold], at a quiescent look: equal is one more compared, the same
//     difference at two quiescent looks a finding. At most 40 a second are looked into, and what does not
//     rest within a minute counts nowhere.
//
// Of each stratum [UpperBound] is the exact one-sided bound (Clopper-Pearson) at 95 %. It takes decisions
// for independent, and those on one item are not: so items are put into [Clusters] groups by a
// hash of shop and item of the first line, never splitting an item, and [Resampled] draws whole groups again. A stratum
// has enough when both bounds are under its goal. The load has enough when the shadow has decided, in a minute
// in which every refusal was probed, at least 95 % of the truth's peak minute.
//
// The counts are [TallyRow]s: absolute values of a run, epoch, slot of ten minutes and stratum, with a growing
// revision, as coverage has. A run keeps at most the unsaved rows of half a day, each of 64 groups, or of
// 1,024 steps of latency; a report folds rows one by one. What a crash takes (ten seconds) or a
// bound makes it give up is missing from the evidence, and never makes it look like more.
//
// # Invariants
//
//   - P5: [Comparator.Observe] never blocks: what does not fit its bounded queue is counted as
//     undetermined. No panic of a judge, a rechecker or a store leaves the comparator.
//   - P6: each decision is in exactly one column, and a rate is printed with its denominator.
//     What is persisted are sums of one run, proxy and minute, written as absolute values with a
//     growing revision: twice is once, late is nothing. A crash loses at most what was not flushed.
//   - A finding's id follows from pod, class and hold (or key): found twice it is one finding with
//     a later last sight. None is lost while its store is away: it waits in memory and in the
//     spool, and where a bound is reached that is counted.
//   - Judge, Settle, the audit's comparisons and the renderers are pure; time comes in.
//
// # Arrows
//
// comparator imports backends, go-cmp, and gonum's mathext for one inverse. Adapters (mysqlfindings, spool, memfindings) import
// comparator. Nothing here knows killswitch, dualwrite or a concrete store.
package comparator
