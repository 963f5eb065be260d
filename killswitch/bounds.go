package killswitch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Defaults of Bounds.
const (
	// DefaultOutboxLag is how old the oldest outbox entry may be before an advance: the drain, for which
	// callers wait, has to take care of all that is there.
	DefaultOutboxLag = time.Second
	// DefaultOutboxEntries is how many entries may be there, for the same reason.
	DefaultOutboxEntries = 2000
	// DefaultShadowP99 is how long the slowest of a hundred decisions may take the shadow: as the truth it is what
	// a buyer waits for. A quarter of a second is a quarter of what people take for an answer at once, and leaves a
	// disk that syncs slowly its time: a healthy MySQL needs some 10 ms, and on a busy machine 140 ms were measured.
	DefaultShadowP99 = 250 * time.Millisecond
	// DefaultShadowWindow is how far back those decisions are looked for: long enough for a quiet shop to have
	// some, and short enough that the figure is of the load of today.
	DefaultShadowWindow = time.Hour
	// DefaultFindingsWindow is how far back open findings hold up an advance: a day, since shops have busy
	// hours and nightly jobs. A bypass write holds it up at any age.
	DefaultFindingsWindow = 24 * time.Hour
)

// Limits of what may be asked for.
const (
	maxOutboxLag     = 10 * time.Second // no drain could take care of more while callers wait
	maxOutboxEntries = 100_000
	maxShadowP99     = 10 * time.Second
	minWindow        = time.Minute
	maxWindow        = 90 * 24 * time.Hour // what findings and tallies are kept for
)

// ReadinessBound is what the gate of readiness asks for.
type ReadinessBound string

// What it may ask for.
const (
	// ReadyByEvidence: enough decisions of each kind were compared, and the shadow has carried the load.
	ReadyByEvidence ReadinessBound = "evidence"
	// ReadyByVerdict: the report's verdict is go. It takes an audit of today, a high share of decisions compared, and
	// no finding that is open at any age as well.
	ReadyByVerdict ReadinessBound = "go"
)

// Bounds are what the gates of a pod judge by. Zero fields have the defaults.
type Bounds struct {
	OutboxLag      time.Duration
	OutboxEntries  int64
	ShadowP99      time.Duration
	ShadowWindow   time.Duration
	FindingsWindow time.Duration
	Readiness      ReadinessBound
	// Off names gates that are judged and stand in nobody's way. Firm ones cannot be switched off.
	Off []string
}

// WithDefaults fills in what is zero.
func (b Bounds) WithDefaults() Bounds {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&b.OutboxLag, DefaultOutboxLag)
	def(&b.ShadowP99, DefaultShadowP99)
	def(&b.ShadowWindow, DefaultShadowWindow)
	def(&b.FindingsWindow, DefaultFindingsWindow)
	if b.OutboxEntries == 0 {
		b.OutboxEntries = DefaultOutboxEntries
	}
	if b.Readiness == "" {
		b.Readiness = ReadyByEvidence
	}
	return b
}

// Check gives a *backends.FieldError for the first bound that is none. Its fields are named as in a pod's configuration.
func (b Bounds) Check() error {
	b = b.WithDefaults()
	for _, d := range []struct {
		field       string
		value       time.Duration
		least, most time.Duration
		next        string
	}{
		{"gates.outbox_lag", b.OutboxLag, time.Millisecond, maxOutboxLag, "callers wait at the gate while older entries are drained, two seconds at most"},
		{"gates.shadow_p99", b.ShadowP99, time.Millisecond, maxShadowP99, "give the latency that you would accept of the truth, or name shadow-p99 in gates.off"},
		{"gates.shadow_window", b.ShadowWindow, minWindow, maxWindow, "give the time whose decisions are to be judged"},
		{"gates.findings_window", b.FindingsWindow, minWindow, maxWindow, "give the time in which no finding may be open"},
	} {
		if d.value < d.least || d.value > d.most {
			return &backends.FieldError{Field: d.field, Value: d.value.String(), Bound: fmt.Sprintf("%s to %s", d.least, d.most), Next: d.next + "; leave it out for the default"}
		}
	}
	if b.OutboxEntries < 1 || b.OutboxEntries > maxOutboxEntries {
		return &backends.FieldError{Field: "gates.outbox_entries", Value: fmt.Sprint(b.OutboxEntries), Bound: fmt.Sprintf("1 to %d", maxOutboxEntries), Next: "callers wait while they are drained; leave it out for the default"}
	}
	if b.Readiness != ReadyByEvidence && b.Readiness != ReadyByVerdict {
		return &backends.FieldError{Field: "gates.readiness", Value: fmt.Sprintf("%.80q", string(b.Readiness)), Bound: "evidence or go", Next: "name readiness in gates.off to do without it"}
	}
	return b.checkOff()
}

func (b Bounds) checkOff() error {
	free := FreeGates()
	for i, name := range b.Off {
		if slices.Contains(b.Off[:i], name) {
			return &backends.FieldError{Field: "gates.off", Value: fmt.Sprintf("%.80q twice", name), Bound: "each gate once", Next: "take one of them out"}
		}
		if slices.Contains(free, name) {
			continue
		}
		next := "see docs/operations.md for the gates"
		if slices.ContainsFunc(allGates(), func(g Gate) bool { return g.Name == name }) {
			next = "this one cannot be switched off: acknowledged holds would be lost behind it, or nothing would work"
		}
		return &backends.FieldError{Field: "gates.off", Value: fmt.Sprintf("%.80q", name), Bound: "one of " + strings.Join(free, ", "), Next: next}
	}
	return nil
}
