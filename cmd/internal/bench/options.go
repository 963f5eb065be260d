package bench

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Defaults and bounds of a run.
const (
	// DefaultDuration is how long one side is under load in one pair.
	DefaultDuration = 3 * time.Second
	// DefaultPairs is the least number for which a result is conclusive.
	DefaultPairs = 5
	// QuickDuration and QuickPairs are those of the short form, which is not conclusive.
	QuickDuration = 700 * time.Millisecond
	QuickPairs    = 3
	// MinDuration and MaxDuration bound what may be asked for: below, a run is shorter than a
	// server's own rhythms; above, a metric takes hours.
	MinDuration = 50 * time.Millisecond
	MaxDuration = 5 * time.Minute
	// MaxPairs bounds the pairs.
	MaxPairs = 100
)

// Options of a run; the zero value is everything, at full length.
type Options struct {
	// Only are names of metrics, or beginnings of names ("pool", "resp.r"); empty is all.
	Only []string
	// Quick is the short form.
	Quick bool
	// Duration of one side in one pair; 0 is the default of the form.
	Duration time.Duration
	// Pairs; 0 is the default of the form.
	Pairs int
	// Binary is the crossfade program that is started as a proxy; required for what is measured over
	// sockets.
	Binary string
	// CacheDir of the lab; empty is its default.
	CacheDir string
	// Progress gets a line for whatever takes longer than a blink; may be nil.
	Progress io.Writer
}

func (o Options) withDefaults() (Options, error) {
	bad := func(field, value, bound string) error {
		return &backends.FieldError{Field: field, Value: value, Bound: bound, Next: "see 'crossfade bench --help'"}
	}
	if o.Duration == 0 {
		o.Duration = DefaultDuration
		if o.Quick {
			o.Duration = QuickDuration
		}
	}
	if o.Pairs == 0 {
		o.Pairs = DefaultPairs
		if o.Quick {
			o.Pairs = QuickPairs
		}
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	switch {
	case o.Duration < MinDuration || o.Duration > MaxDuration:
		return o, bad("duration", o.Duration.String(), fmt.Sprintf("%s to %s", MinDuration, MaxDuration))
	case o.Pairs < 1 || o.Pairs > MaxPairs:
		return o, bad("pairs", strconv.Itoa(o.Pairs), fmt.Sprintf("1 to %d", MaxPairs))
	}
	return o, nil
}

// conclusive tells whether a target may be judged by this run.
func (o Options) conclusive() bool { return !o.Quick && o.Pairs >= DefaultPairs }

// chosen are the metrics that are asked for, in the order of the table.
func chosen(all []*metric, only []string) ([]*metric, error) {
	if len(only) == 0 {
		return all, nil
	}
	var out []*metric
	for _, want := range only {
		want = strings.TrimSpace(want)
		found := false
		for _, m := range all {
			if want == "" || m.name != want && !strings.HasPrefix(m.name, want) {
				continue
			}
			// A whole name means that one, though it may begin another's.
			if m.name != want && slices.ContainsFunc(all, func(x *metric) bool { return x.name == want }) {
				continue
			}
			found = true
			if !slices.Contains(out, m) {
				out = append(out, m)
			}
		}
		if !found {
			return nil, &backends.FieldError{Field: "metric", Value: strconv.Quote(want), Bound: "a name of the list, or its beginning", Next: "see 'crossfade bench --list'"}
		}
	}
	slices.SortStableFunc(out, func(a, b *metric) int { return slices.Index(all, a) - slices.Index(all, b) })
	return out, nil
}
