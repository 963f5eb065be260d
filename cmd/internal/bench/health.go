package bench

import "fmt"

// The figures below are the project's reference for its opponents, taken on a machine with two cores, with
// full durability, the generator on the same cores. What commits to disk is scaled by this machine's
// disk:
//
//	expected = figure × min(1, this run's fsyncs a second ÷ referenceFsync)
//	unhealthy: measured < expected × healthyShare
//
// A disk that is faster than the reference raises nothing: commits are shared by groups, and then the
// processors are the bound. What does not commit is not scaled.
const (
	// referenceFsync is the rate of fdatasync after 4 KiB (machine.go) that the figures are held to: one
	// in 0.275 ms, as this benchmark found it on a machine like the reference's.
	referenceFsync = 3_640
	// healthyShare: below half of what is expected, something is wrong with the baseline, not with the day.
	healthyShare = 0.5
)

// baseline is an opponent with its reference figure, in operations a second.
type baseline struct {
	name   string
	rate   float64
	fsyncs bool // it commits to disk, so its figure is relative to the disk
}

// The opponents with a known figure.
var (
	baseTransaction = baseline{"one transaction per reserve, hot", 1_750, true}
	baseRow         = baseline{"single-row UPDATE and INSERT, hot", 1_000, true}
	baseRedisScript = baseline{"the Redis script, pipelined by the callers", 26_000, false}
	baseAdvisory    = baseline{"PostgreSQL's advisory-lock recipe, real deductions", 1_260, true}
	baseDirect      = baseline{"DECR straight to Redis", 65_000, false}
	baseRelay       = baseline{"DECR through a byte relay in Go", 39_000, false}
	baseTwemproxy   = baseline{"DECR through twemproxy", 40_000, false}
)

// Health of a baseline in this run.
type Health struct {
	Baseline string  `json:"baseline"`
	Measured float64 `json:"measured"` // a second
	Expected float64 `json:"expected"` // a second, on this disk
	Healthy  bool    `json:"healthy"`
}

// health judges a baseline by what it did in this run.
func (b baseline) health(measured, fsyncRate float64) Health {
	expected := b.rate
	if b.fsyncs {
		expected *= min(1, fsyncRate/referenceFsync)
	}
	return Health{Baseline: b.name, Measured: measured, Expected: expected, Healthy: measured >= expected*healthyShare}
}

func (h Health) String() string {
	return fmt.Sprintf("%s: %.0f/s, expected about %.0f/s here", h.Baseline, h.Measured, h.Expected)
}
