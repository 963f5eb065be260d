// Package contend plays buyers who fight for the last units through several proxies of one pod, on real servers, for as many
// decisions as it is told, and says what the comparator made of it.
//
// # Words
//
//   - A sale is a few items with a few units each, for so many decisions; then the next one opens, with other items. Buyers
//     give back what they got, or pay, and what was paid for or kept is stocked again: all the time the stock is near zero.
//   - A loss is a write that the shadow confirms and does not keep: a grant, a release, a claim or a restock, in turn, one
//     in each sale, towards its end. It is what a broken shadow would do, and what the comparator is there to find.
//   - A consequence is a finding about a decision, or a level, at a key where a write has been lost: the stores differ there,
//     and decide differently.
//
// # What is checked
//
//   - Every decision is counted, once: the coverage of all proxies adds up to what the buyers were told.
//   - Without losses nothing is confirmed, and the audit at the end finds nothing.
//   - Of the contended differences (explained, undetermined or confirmed) at most [MaxUndetermined] are undetermined.
//   - Each explained difference that was kept has the order that explains it, or the debt that was paid.
//   - With losses, the audit finds each of them once, by its class, with its units; and what was confirmed while the
//     sales went on is a consequence of one.
//
// The buyers wait while more than a bound of entries are on their way to the shadow, or of decisions wait to be settled: what is
// played here is what the judge says, not how many writes the shadow's server takes, nor how fast four judges are that share a
// machine with everything else. Beyond that bound they leave more undetermined, since a record goes back so far only.
package contend
