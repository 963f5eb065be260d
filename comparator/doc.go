// Package comparator says whether the two stores of a pod agree, and proves it.
//
// # Words
//
//   - An [Observation] is one reserve that the truth has decided, with what the shadow would have
//     decided by itself ([backends.OwnDecision]) or the reason why that is not known.
//   - [Judge] turns it into a [Judgement]: match, diverged with a [Class] and units, or unknown.
//     Unknown is never a match and never a mismatch.
//   - A diverged decision waits in the settle queue until the record of operations ([Step]) and looks
//     at the stores ([Rechecker]) say enough for [Settle] to call it explained, confirmed or
//     undetermined.
//   - A [Sheet] is what a proxy tells the others of its pod about what it had the shadow follow.
//   - A [Finding] is a recorded divergence, with its units and its life.
//   - [Coverage] is the account of every decision: each is in exactly one column.
//   - An [Audit] compares all holds and all levels of both stores; [Audits] run it by a schedule, on all proxies and one at a
//     time, and go on where one was interrupted ([AuditState]); a [Pacer] spares the stores.
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
// The two cases of (2) are told apart by a search, and by looks at the stores.
//
// # The search for a legal order
//
// Every change of Sellable is a state that the truth decides and the shadow follows: of a hold, of an
// operation on a level, of a taken sum. So, at each key,
//
//	Sellable in the shadow when it decided
//	  = Sellable in the truth when that decided
//	  + what was taken by states that the truth had reached then
//	  - what was taken by states that the shadow had reached then
//
// and only those states count that one store had reached and the other not: the operations that stand
// between the two decisions. [FindOrder] looks for instants of both decisions and for a state of each
// hold at each of them, such that the sum fits what the stores say they saw ([backends.Decision.Seen]), or
// that the rule gives the answer of the store that did not say. That is a legal order of the
// overlapping operations that gives both outcomes; the operations between the two decisions are kept
// with the verdict, each with its place.
//
// What may be assumed of the order: a state was reached within the span of time that is known of it.
// Truth spans are by the truth's clock: Redis decides at the instant that the entry bears; in MySQL a state is
// reached between that instant and the end of the call, and the decision was made at some instant of the
// call (it may plan by an early look). What a backfill emits once more was reached at any time before. Shadow spans are by the shadow's
// clock, which each proxy reads once a second and carries on by its own: from the start of the attempt
// that brought the entry there to its end; of an attempt that failed, from its start on for ever. No two
// proxies' clocks are compared. At one instant within the spans of both decisions each hold has
// a few states to choose from, and holds choose on their own, so the sums that can be reached are
// counted up hold by hold. That is exact: rapid checks it against going through all orders. It is
// bounded in keys, instants, sums and work; beyond that the answer is "too large". Of a cart of more keys than every
// store reads at one instant each line is searched for on its own: one that has no order is a proof, too.
//
// The record has to be complete, or neither "an order" nor "none" is a proof:
//
//   - Whoever mirrors hands over each attempt ([Comparator.Followed]) before an entry leaves the outbox.
//     So once a look shows that no entry older than the truth's decision waits at the keys, all that
//     the truth had decided by then is in some proxy's record.
//   - What the truth decided later may have reached the shadow first, by an attempt that has not returned
//     yet. So each attempt is announced ([Comparator.Following]), and as long as one is under way that
//     began before the end of the shadow's decision, the record waits for it.
//   - Proxies ask each other by sheets, in the findings' store, one row for each run of a proxy: from the
//     sheet that follows that look on, the keys and the instant are in it, and each run that has been
//     heard of since a minute before the decision has to have answered that sheet. A question ends when a search of a
//     complete record has found an order or given up, so that it begins with the oldest decision that still
//     needs it. An answer has room for so many operations: what is left out are the oldest at the busiest
//     keys, and each key says since when it lacks nothing. One that stops in good
//     order leaves all that it has recorded, as far as it fits, for those who will ask.
//   - That there is no order is asked again until it is confirmed, ten seconds after the decision was judged: a run
//     that had only just started has told of itself by then.
//   - A later state may have overtaken a hold's first ones. What a thread took before its first recorded
//     state follows from that state only where the hold is much older than the decision; else both is
//     allowed. A state that is missing between two recorded ones leaves the search without an answer.
//   - What did not fit into a bounded record, or was forgotten before it was asked for, leaves the
//     instants concerned unproven. So does a backfill, up to the last state that it brings: until then the
//     shadow lacks what nobody has told it. And so does a change of truth.
//   - While a change of stage is under way, or what it has left to be done is not done, whoever knows says so
//     ([Pair].Unsure), and no look concludes anything.
//
// # Looks
//
// A look at the stores reads, in this order: the truth's
// outbox, the truth's levels, the shadow's levels, the truth's and the shadow's levels again, the
// outbox again. A key is quiescent in a look when no pending entry touched it in either reading of
// the outbox, neither store's level changed between its two readings, and none owes the other a
// delta from mysql-only ([backends.Level.Owed]). At a quiescent moment
// everything that the truth has decided at that key has reached the shadow, so levels (Sellable, OnHand,
// Taken) that differ by the same amounts at two quiescent moments differ for good.
//
// # What becomes of a decision
//
//   - Levels that differ at two quiescent moments: confirmed, with the decision's class, and as a
//     level_drift of that key.
//   - A complete record with no legal order, for ten seconds: confirmed, even though the stores agree
//     afterwards.
//   - A complete record with a legal order: explained, once the levels have agreed at a quiescent
//     moment, or when the keys have not come to rest within some seconds and nothing differed at rest.
//   - A search that can tell nothing, of a decision that left the shadow in debt, and levels that agree at
//     rest: the debt was paid. Explained.
//   - Otherwise, or at the end of the settle window: undetermined, counted, never a match.
//
// A refusal about stock of which the shadow has no level yet waits in the settle queue as well: the shadow is asked
// anew ([Observation].Again) until it knows the stock, and what it says then is judged like any other answer.
//
// Units are the severity ([Finding.Severity]): at risk of oversell, or wrongly refused.
//
// # Limits of that reasoning
//
//   - An order is a proof that the decision may have been right, not that it was: where many operations
//     overlap, a wrong decision may fit one of their orders. What was lost or doubled for good differs at
//     rest, and is confirmed or found by the audit; what the record alone can show is a wrong
//     decision among few operations.
//   - Of two refusals that name different lines each line is searched for on its own, and that there is
//     no order confirms nothing: a store may tell from a moment apart which lines are short besides
//     the one that decides.
//   - A decision whose stores both did not say what they saw (a swept entry, and a grant by MySQL)
//     cannot be searched. It is undetermined, unless it left a debt that was paid.
//   - Taken sums (counters) say nothing about the one before. Where one stands between the two decisions
//     and its predecessor is not recorded, the search can tell nothing.
//   - A step of a store's clock within the seconds around a decision makes spans wrong; slewing does not. So does a
//     pause of the machine that the local clock does not count, and a COMMIT in MySQL that takes effect more
//     than ten seconds after its call was given up.
//   - A proxy that is killed takes its record with it: for a minute, what overlaps is undetermined.
//   - A proxy whose sheet is refused writes one without operations, which leaves what overlaps undetermined. One that
//     follows states and cannot write at all is taken for gone after a minute, and one that has just
//     started is not known before its first sheet: if that lasts longer than the ten seconds above, while its
//     mirror goes on, what it followed is missing and nobody knows.
//   - A look can be deceived: operations that begin and are mirrored entirely between its two
//     readings of the outbox, cancel out in the truth, and straddle both readings of the shadow,
//     look like a difference. That is why one quiescent difference is not enough, and why the two
//     must be of the same amounts and apart in time. An outbox that has lost entries, or is longer
//     than a look reads, gives no quiescent moment at all.
//
// # Repair
//
// [Repair] makes the shadow agree with the truth about findings, by the fenced, versioned path, and nothing else:
//
//   - A hold: the truth emits its present state once more under a version above both stores'
//     ([backends.Repairer].RestateHolds), and the shadow follows it as it follows any state: it moves stock by the difference
//     to what it has. Repeated, or overtaken by a newer state, it does nothing. A claim in the shadow is never undone.
//   - A sum of takes likewise. Between two sums nothing can be added that would commute with the next one.
//   - A level, beyond what differences of holds make: a correction of the shadow alone. It is a delta, so it commutes with
//     all that is on its way. The gap has to be the same at two quiescent moments. Its operation id is the key's n-th
//     ([backends.Correction]), and only those may use n who have looked at the level after n-1 was used: of several that
//     have seen the same gap one corrects it.
//   - Units on hand where MySQL is the shadow: the ledger is authoritative in every stage, and a truth that is out of balance
//     is right about nothing. Both are for a person, and the step says what to do.
//
// Holds come first, and levels are looked at afterwards. As long as holds of a key differ, what they make of it is not
// corrected. Where a level is concerned, an audit comes before the plan, since its difference may belong to a hold that nobody
// has found. What was written is looked at again until both stores agree at rest; then the findings are marked as repaired. A
// repair that was stopped is finished by the next one: what it has written is found to agree, and is marked.
//
// To call it: fill [RepairInput] with the pod's [Pair], its [RepairHands] (token, both stores, and dualwrite's Pod.Deliver),
// and the findings' store; cmd/internal/proxy's Proxy.Repair does, and serves it by the admin service (admin.Client.Repair). Without
// Apply it is a plan. [RepairResult].Clean tells whether all is well.
//
// # Audits
//
// An audit reads everything: what it is there to find (a write past Crossfade, or one that a store has lost) changes no
// version, so that what has changed since the last one is not enough to look at. It is bounded in time instead, by slices.
//
//   - Its cursors belong to one stage, one epoch and one run of Redis; when one of them moves it begins anew.
//   - Progress is saved behind the findings that it rests on. What was found after the last save is found again, and has the same
//     id; totals are those that were saved, so that nothing is counted twice.
//   - Differences under re-check are saved by name only: whoever goes on looks twice at rest by its own clock (P7).
//   - A row's number grows with each proxy that takes it, and who has an older one cannot write. Two that audit at the same time,
//     as after a pause of one of them, do no harm but the reading.
//   - P5: a panic or failure is one more failure of the row, and a longer pause before the next try.
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
// 1,024 steps of latency; a report folds rows one by one, the newest [MaxTallies]. What a crash takes (ten seconds) or a
// bound makes it give up is missing from the evidence: rows without findings go first. Where a row with findings is
// lost all the same, its stratum looks better than it was; the findings themselves are kept apart, and still open.
//
// # Invariants
//
//   - P5: [Comparator.Observe], [Comparator.Following] and [Comparator.Followed] never block: what does not fit their bounds is
//     counted, and leaves decisions undetermined. No panic of a judge, a rechecker or a store leaves the comparator, nor
//     one of judging, settling or flushing. Searches take half of a processor at most: a quarter of a second after each look, and
//     a pause as long.
//   - P6: each decision is in exactly one column, and a rate is printed with its denominator. One whose judging or settling
//     panics is undetermined, once.
//     What is persisted are sums of one run, proxy and minute, written as absolute values with a
//     growing revision: twice is once, late is nothing. A crash loses at most what was not flushed.
//   - A finding's id follows from pod, class and hold (or key): found twice it is one finding with
//     a later last sight. None is lost while its store is away: it waits in memory and in the
//     spool, and where a bound is reached that is counted.
//   - Judge, FindOrder, Settle, the audit's comparisons, [AuditSchedule.Due] and the renderers are pure; time comes in.
//
// # Arrows
//
// comparator imports backends, go-cmp, and gonum's mathext for one inverse. Adapters (mysqlfindings, spool, memfindings) import
// comparator. Nothing here knows killswitch, dualwrite or a concrete store.
package comparator
