package storetest

import (
	"context"
	"errors"
	"flag"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Options of the store that a harness opens. The zero value of each field is the adapter's default.
type Options struct {
	// PoolCap is the most available unit rows per key; a store without a pool ignores it.
	PoolCap int
	// OutboxMax bounds the outbox, in entries.
	OutboxMax int
	// Retain is how long ended holds and operation ids are kept.
	Retain time.Duration
	// Same asks for a second handle on the data of an open store, as a second proxy would have.
	// The other options are those of the first handle.
	Same backends.Store
}

// Harness says how to get a store.
type Harness struct {
	// Sides that the adapter can take; the suite runs for each of them.
	Sides []backends.Side
	// Open gives a store that is set up, on data of its own (unless Same is given), with a
	// missing fence. The suite closes it; the harness cleans up the rest through t.
	Open func(t *testing.T, side backends.Side, opts Options) backends.Store
	// Corrupt changes the units for sale at a key behind the store's back by delta (which is
	// positive), so that P2 is broken there. Nil for a store whose data nobody else can reach;
	// Differences then says why.
	Corrupt func(t *testing.T, s backends.Store, k backends.Key, delta int64)
	// Replaced puts a server with all that the store has in the place of its server, as a failover does, and gives a store
	// on it. Nil for a store whose servers are not replaced like that; Differences then says why.
	Replaced func(t *testing.T, s backends.Store) backends.Store
	// Only names the chapters to run; empty: all.
	Only []string
	// Checks is how many random sequences each property tries; 0 is DefaultChecks. The flag
	// -rapid.checks goes before it.
	Checks int
	// Differences from the reference.
	Differences Differences
}

// Differences are the ways in which a store must differ from the reference; each is a reason in
// words, or empty.
type Differences struct {
	// NoCorruption: why Corrupt is nil.
	NoCorruption string
	// NotReplaced: why Replaced is nil.
	NotReplaced string
}

const (
	// DefaultChecks of each property: on a real server a check is some fifty round trips.
	DefaultChecks = 60
	// patience bounds every wait of the suite. It is far above what a store needs on a slow
	// machine, so that reaching it means that something is stuck.
	patience = 30 * time.Second
)

// Run is the suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if len(h.Sides) == 0 || h.Open == nil {
		t.Fatal("storetest: a harness needs Sides and Open")
	}
	if (h.Corrupt == nil) != (h.Differences.NoCorruption != "") {
		t.Fatal("storetest: a harness has either Corrupt or the reason why not")
	}
	if (h.Replaced == nil) != (h.Differences.NotReplaced != "") {
		t.Fatal("storetest: a harness has either Replaced or the reason why not")
	}
	setChecks(t, h.Checks)
	for _, side := range h.Sides {
		t.Run(side.String(), func(t *testing.T) {
			for _, c := range suite {
				if len(h.Only) > 0 && !slices.Contains(h.Only, c.name) {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					for _, p := range c.parts {
						t.Run(p.name, func(t *testing.T) { p.run(t, &env{h: h, side: side}) })
					}
				})
			}
		})
	}
}

// chapter is a group of tests.
type chapter struct {
	name  string
	parts []part
}

type part struct {
	name string
	run  func(t *testing.T, e *env)
}

// suite lists every test; each chapter is declared in the file of its name.
var suite = []chapter{
	{"reserve", reserveParts},
	{"claim", claimParts},
	{"life of a hold", lifeParts},
	{"levels", levelParts},
	{"fences", fenceParts},
	{"outbox", outboxParts},
	{"mirror", mirrorParts},
	{"backfill", backfillParts},
	{"repair", repairParts},
	{"restore", restoreParts},
	{"inspection", inspectParts},
	{"crowd", crowdParts},
	{"together", togetherParts},
	{"upkeep", upkeepParts},
	{"large", largeParts},
	{"properties", propertyParts},
}

const checksFlag = "rapid.checks"

// checksGiven tells whether the command line says how many sequences to try. It is asked before
// the suite first sets the flag itself.
var checksGiven = sync.OnceValue(func() bool {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == checksFlag })
	return given
})

// setChecks sets how many sequences rapid tries, unless the command line does.
func setChecks(t *testing.T, checks int) {
	t.Helper()
	if checksGiven() {
		return
	}
	if checks <= 0 {
		checks = DefaultChecks
	}
	// A failing sequence is replayed by its seed, which rapid prints: no files in the source tree.
	if err := errors.Join(flag.Set(checksFlag, strconv.Itoa(checks)), flag.Set("rapid.nofailfile", "true")); err != nil {
		t.Fatal(err)
	}
}

// env is one run of the suite on one side.
type env struct {
	h    Harness
	side backends.Side
}

// dual is the stage in which the side is the truth and everything is mirrored.
func (e *env) dual() backends.Stage {
	if e.side == backends.SideRedis {
		return backends.Shadow
	}
	return backends.Live
}

// alone is the stage in which the side serves without a shadow.
func (e *env) alone() backends.Stage {
	if e.side == backends.SideRedis {
		return backends.RedisOnly
	}
	return backends.MySQLOnly
}

// following is the stage in which the side is the shadow.
func (e *env) following() backends.Stage {
	if e.side == backends.SideRedis {
		return backends.Live
	}
	return backends.Shadow
}

// context is bounded by patience, so that a store that hangs fails and does not stop the suite.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
