package chaos

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Defaults of a run.
const (
	DefaultTrials = 20
	DefaultFor    = 2 * time.Hour
	DefaultRate   = 450
	DefaultBuyers = 96
)

// Kinds of control stores.
const (
	ControlEtcd = "etcd" // three members
	ControlFile = "file" // a folder that all proxies share
)

// Bounds that a run is judged by.
const (
	// GateP99 is what the 99th of 100 requests that met a switch may take.
	GateP99 = 300 * time.Millisecond
	// KillWithin is from the command to Redis's first grants through every proxy.
	KillWithin = time.Second
	// ServeWithin is from the death of a switch's driver until every other proxy answers again.
	ServeWithin = 5 * time.Second
	// MinRate is the number of reserves in a second below which a run has shown nothing.
	MinRate = 500
)

// Options of a run. The zero value of each field is its default.
type Options struct {
	// Scenarios to play, by name, or one case of them as scenario/case; empty: all.
	Scenarios []string
	// Trials of each case; of the switches, how many.
	Trials int
	// For bounds the run: no trial begins after that.
	For time.Duration
	// Rate of reserves in a second that the buyers ask for.
	Rate   int
	Buyers int
	Seed   uint64
	// Control is the kind of control store: ControlEtcd or ControlFile.
	Control string
	// Fast gives up what only a crash of the machine would need: for tests.
	Fast bool
	// Lenient judges no latency and no rate: for tests, which share their machine.
	Lenient bool
	// Binary is the crossfade program that is started as a proxy; required.
	Binary string
	// Keep is the folder for the histories and logs of what was broken; empty: one in the system's temporary folder.
	Keep string
	// Progress gets a line now and then; may be nil.
	Progress io.Writer
}

// complete checks the options and fills in defaults.
func (o Options) complete() (Options, error) {
	for _, d := range []struct {
		at  *int
		def int
	}{{&o.Trials, DefaultTrials}, {&o.Rate, DefaultRate}, {&o.Buyers, DefaultBuyers}} {
		if *d.at == 0 {
			*d.at = d.def
		}
	}
	if o.Control == "" {
		o.Control = ControlEtcd
	}
	if o.For == 0 {
		o.For = DefaultFor
	}
	if len(o.Scenarios) == 0 {
		o.Scenarios = Names()
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	wrong := func(field string, value any, bound, next string) error {
		return &backends.FieldError{Field: field, Value: fmt.Sprint(value), Bound: bound, Next: next}
	}
	const maxTrials, maxFor, maxRate, maxBuyers = 1000, 24 * time.Hour, 20_000, 1024
	if o.Control != ControlEtcd && o.Control != ControlFile {
		return o, wrong("control", fmt.Sprintf("%.80q", o.Control), ControlEtcd+" or "+ControlFile, "leave it out for etcd")
	}
	for _, s := range o.Scenarios {
		if name, only, one := strings.Cut(s, "/"); !slices.Contains(Names(), name) || one && !slices.Contains(casesOf(name), only) {
			bound := "one of " + strings.Join(Names(), ", ")
			if list := casesOf(name); len(list) > 0 {
				bound = name + "/ and one of " + strings.Join(list, ", ")
			}
			return o, wrong("--scenario", fmt.Sprintf("%.80q", s), bound, "name one or several, with commas between, or leave it out for all")
		}
	}
	switch {
	case o.Trials < 1 || o.Trials > maxTrials:
		return o, wrong("--trials", o.Trials, fmt.Sprintf("1 to %d", maxTrials), "give the number of trials of each case")
	case o.For < time.Second || o.For > maxFor:
		return o, wrong("--for", o.For, fmt.Sprintf("1s to %s", maxFor), "give how long the run may take")
	case o.Rate < 1 || o.Rate > maxRate:
		return o, wrong("--rate", o.Rate, fmt.Sprintf("1 to %d", maxRate), "give the reserves in a second")
	case o.Buyers < 1 || o.Buyers > maxBuyers:
		return o, wrong("--buyers", o.Buyers, fmt.Sprintf("1 to %d", maxBuyers), "give the number of buyers")
	case o.Binary == "":
		return o, wrong("binary", `""`, "the path of the crossfade program", "run it as 'crossfade chaos'")
	}
	return o, nil
}

// wants tells whether a case is to be played.
func (o *Options) wants(scenario, only string) bool {
	return slices.Contains(o.Scenarios, scenario) || slices.Contains(o.Scenarios, scenario+"/"+only)
}
