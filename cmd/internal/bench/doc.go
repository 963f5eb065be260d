// Package bench measures Crossfade against its opponents, side by side, and says whether each target of
// the project is met. `crossfade bench` runs it.
//
// # Words
//
//   - A metric compares two sides, A (ours) over B (the opponent), by a ratio; a few print a plain figure.
//   - A run is one side under load for the time of a run. A pair is one run of each side, directly
//     after each other; which comes first is swapped from pair to pair, so that what drifts in
//     the machine does not favour a side. There are five pairs unless asked otherwise.
//   - The value of a metric is the median of the pairs' ratios. Its interval is distribution-free, from the
//     order of the ratios (medianInterval): for five pairs the least to the largest, which cover the
//     median with 93.75 %.
//   - A target is missed when the whole interval misses it, met when the whole interval meets it, and
//     within noise when the interval has the target inside.
//   - A closed loop has a fixed number of callers, each waiting for its answer: it finds capacity. An open
//     loop has arrivals on a fixed schedule and counts each latency from the moment at which the
//     arrival was due: it finds latency at a given rate, without coordinated omission.
//   - A baseline is an opponent with a known figure. One that is far below that figure, relative to what
//     this machine's disk does (health.go), is unhealthy: then our ratio is flattered and counts for
//     nothing.
//
// # Invariants
//
//   - Servers are the lab's own, started for the run, durable, on loopback, and nobody else's.
//   - Both sides of a comparison are equally durable, as read back from the servers, or A is the more
//     durable one; everything else is refused.
//   - Both sides of a metric have the same load generator, the same number of callers and the same time.
//     An opponent's number of connections is the best of a sweep, in the same run.
//   - What cannot be measured here (no PostgreSQL on the machine, say) is "not measured", with the
//     reason and the next step. It never passes.
//   - A run in which more than one operation in a hundred failed is an error, not a measurement.
//   - Quick runs, and runs of fewer than five pairs, say that they are not conclusive.
//
// # Arrows
//
// The package is under cmd and may import everything. The lean clients for RESP (respclient.go) and
// PostgreSQL (pgwire.go) are its own, since generators share the cores with what they measure.
package bench
