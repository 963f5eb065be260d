package sim

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
)

// TestReplay prints the schedule of CROSSFADE_SEED, call by call; seed 1 when it is not set.
func TestReplay(t *testing.T) {
	seed := uint64(1)
	if v := os.Getenv("CROSSFADE_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("CROSSFADE_SEED is %q; it has to be a seed that a run has printed", v)
		}
	}
	a := Replay(seed, func(line string) { t.Log(line) })
	if b := Run(seed); a != b {
		t.Fatalf("a seed does not replay: %+v and %+v", a, b)
	}
	if a.Failure != "" {
		t.Fatal(a.Failure)
	}
}

// TestSchedules plays a short run; CROSSFADE_SCHEDULES sets another number (make sim: 100,000).
func TestSchedules(t *testing.T) {
	n := 2500
	if v := os.Getenv("CROSSFADE_SCHEDULES"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 1 {
			t.Fatalf("CROSSFADE_SCHEDULES is %q; it has to be a positive number", v)
		}
	}
	// A schedule leaves nothing behind, so that collecting seldom costs no memory worth the name.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	s := RunMany(t.Context(), 0, n, runtime.NumCPU(), nil)
	t.Logf("%d schedules, %d steps, %d operations, %d crashes, %d kills, %d switches, %d answers without Redis, %d kills of marked pods, %d with a list", s.Schedules, s.Steps, s.Operations, s.Crashes, s.Kills, s.Switches, s.Alone, s.Behind, s.Listed)
	if s.Failed != nil {
		t.Fatalf("seed %d: %s", s.Failed.Seed, s.Failed.Failure)
	}
	if s.Schedules != n {
		t.Fatalf("%d schedules were played, %d were asked for", s.Schedules, n)
	}
}

// TestSeedsThatFailed replays schedules that found something once. Other draws make other schedules of them,
// so that one which no longer shows its fault is worth replacing.
func TestSeedsThatFailed(t *testing.T) {
	for seed, what := range map[uint64]string{
		71:     "a count that a full outbox dropped in live was acknowledged, and a kill lost it",
		55:     "such a count left a gap in the order of its key, and a backfill waited for ever",
		1719:   "a grant that a full outbox dropped in live was in no column of the account",
		23872:  "the apology for a claim without stock was lost in a failover, and the claim came back without one",
		224397: "the answer to what was given back was lost, and with it that there was no stock for it",
		12682:  "a driver died after it had given back a claim without stock, and before it had listed it",
		33436:  "an INCR that nobody was told of was void after a kill, and a hold had been granted its unit",
		494156: "an undo was decided at a step that the record had left, and a pod went back to filled live although MySQL had been open without Redis",
		301032: "a hold that Redis had again after a kill, and lost in a failover, was void by MySQL's old outbox before it could come back",
		795184: "MySQL had sold the units of a hold again, and Redis, to which it was open after a kill, had it claimed without an apology",
		955252: "what Redis still had to tell hid that it had lost a restock, and a restore in redis-only did not say so",
		637557: "MySQL's answer to a restock that Redis had lost was lost as well, and the restock did not come back to Redis",
		17783:  "a full outbox dropped what became of a count after a kill, and the stores kept different deltas",
	} {
		if r := Run(seed); r.Failure != "" {
			t.Errorf("seed %d, which once failed since %s: %s", seed, what, r.Failure)
		}
	}
}

func BenchmarkSchedule(b *testing.B) {
	steps := 0
	for i := range b.N {
		steps += Run(uint64(i)).Steps
	}
	b.ReportMetric(float64(steps)/float64(b.N), "steps/schedule")
}
