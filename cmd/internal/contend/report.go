package contend

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// Report is what a run has shown.
type Report struct {
	Stage   backends.Stage `json:"stage"`
	SQL     lab.Kind       `json:"dialect"`
	Redis   lab.Kind       `json:"redis"`
	Proxies int            `json:"proxies"`
	Buyers  int            `json:"buyers"`
	Sale    int64          `json:"sale"`
	Lose    bool           `json:"lose"`
	Seed    uint64         `json:"seed"`

	Decisions int64 `json:"decisions"` // that the buyers were told
	Granted   int64 `json:"granted"`
	SoldOut   int64 `json:"sold_out"`
	Unknown   int64 `json:"unknown"` // answers that did not say what was decided

	Seconds   float64 `json:"seconds"`           // of the sales
	Waited    float64 `json:"waited_seconds"`    // of which a buyer waited for shadow and judge, in the mean
	Rest      float64 `json:"rest_seconds"`      // until each decision was in its last column
	Processor float64 `json:"processor_seconds"` // of all proxies and buyers, without the servers
	HeapMiB   float64 `json:"heap_mib"`          // of all proxies and buyers

	Coverage     comparator.Coverage `json:"coverage"`
	Balanced     bool                `json:"balanced"`
	Undetermined map[string]int64    `json:"undetermined_by_cause"`
	Allowed      float64             `json:"undetermined_allowed"`
	// Contended counts the decisions that differed and were neither alike at once nor excused; Share is that of
	// the undetermined ones.
	Contended int64   `json:"contended"`
	Share     float64 `json:"undetermined_share"`
	// Of the explained ones that were kept: those with their order, and those whose debt was paid.
	Ordered int64        `json:"explained_with_order"`
	Paid    int64        `json:"explained_by_paid_debt"`
	NotKept int64        `json:"explained_or_undetermined_not_kept"`
	Panics  int64        `json:"panics"`
	Losses  LossFigures  `json:"losses"`
	Audit   AuditFigures `json:"audit"`
	// Broken lists the first breaches in words.
	Broken []string `json:"broken"`
}

// LossFigures say what became of the losses.
type LossFigures struct {
	Played map[string]int64 `json:"played"`
	Units  int64            `json:"units"`
	Found  int64            `json:"found"` // by the audit, once each, with their class and units
	// Early: a level or a decision at its keys was found to differ while the sales went on.
	Early int64 `json:"early"`
	// Consequences counts the findings about decisions and levels at keys where a write was lost.
	Consequences int64 `json:"consequences"`
	False        int64 `json:"false"` // findings that follow from no loss
}

// AuditFigures are of the audit at the end.
type AuditFigures struct {
	Holds        int64 `json:"holds"`
	Levels       int64 `json:"levels"`
	Findings     int64 `json:"findings"`
	Units        int64 `json:"units"`
	Undetermined int64 `json:"undetermined"`
}

const maxBroken = 20

func (r *Report) broken(format string, args ...any) {
	if len(r.Broken) < maxBroken {
		r.Broken = append(r.Broken, fmt.Sprintf(format, args...))
	}
}

// Kept tells whether everything is as it has to be.
func (r *Report) Kept() bool { return len(r.Broken) == 0 }

// weigh compares what was found with what was done.
func (r *Report) weigh(l *losses, audited, open, explained []comparator.Finding) {
	r.account()
	r.proven(explained)
	r.lost(l, audited)
	at := l.keys()
	early := map[backends.Key]bool{}
	ids := map[string]bool{}
	for i := range open {
		f := &open[i]
		if ids[f.ID] {
			r.broken("finding %s is listed twice", f.ID)
		}
		ids[f.ID] = true
		hit := false
		for _, u := range f.Units {
			if at[u.Key] {
				hit, early[u.Key] = true, true
			}
		}
		if !hit {
			r.Losses.False++
			r.broken("%s of %q, %d units: %s", f.Class, f.Hold, f.TotalUnits, f.Proof)
			continue
		}
		r.Losses.Consequences++
	}
	for _, x := range l.list {
		if slices.ContainsFunc(x.units, func(u backends.Units) bool { return early[u.Key] }) {
			r.Losses.Early++
		}
	}
	if !r.Lose && r.Coverage.Confirmed != 0 {
		r.broken("%d decisions were confirmed to differ, and nothing was lost", r.Coverage.Confirmed)
	}
}

// account checks that each decision is counted once, and how many could not be judged.
func (r *Report) account() {
	c := &r.Coverage
	r.Contended = c.Explained + c.Confirmed + c.Undetermined
	if r.Contended > 0 {
		r.Share = float64(c.Undetermined) / float64(r.Contended)
	}
	switch {
	case c.Check() != nil:
		r.broken("coverage: %v", c.Check())
	case c.Decisions < r.Decisions, c.Decisions > r.Decisions+r.Unknown:
		r.broken("%d decisions are counted, and the buyers were told %d (and %d times that it is not known)", c.Decisions, r.Decisions, r.Unknown)
	}
	if r.Share > r.Allowed {
		r.broken("%.3f %% of %d contended differences are undetermined, above %.1f %%", 100*r.Share, r.Contended, 100*r.Allowed)
	}
	if c.Explained == 0 || r.SoldOut == 0 || r.Granted == 0 {
		r.broken("too little happened: %d granted, %d sold out, %d explained", r.Granted, r.SoldOut, c.Explained)
	}
	if r.Panics > 0 {
		r.broken("%d panics", r.Panics)
	}
}

// proven checks that what was explained and kept has its proof.
func (r *Report) proven(explained []comparator.Finding) {
	for i := range explained {
		switch f := &explained[i]; {
		case len(f.Order) > 0 && f.Order[0].Place != "":
			r.Ordered++
		case strings.Contains(f.Proof, "the debt that following the truth left"):
			r.Paid++
		default:
			r.broken("explained without an order: %s of %q: %s", f.Class, f.Hold, f.Proof)
		}
	}
}

// lost matches the audit's findings with the losses, one by one.
func (r *Report) lost(l *losses, audited []comparator.Finding) {
	r.Losses.Played = map[string]int64{}
	want := map[string]lost{} // by what names it: the hold, or the key
	levels := map[backends.Key]int64{}
	for _, x := range l.list {
		r.Losses.Played[x.kind.String()]++
		for _, u := range x.units {
			r.Losses.Units += u.Quantity
		}
		if !l.swallowed[x.id()] {
			r.broken("%s was to be lost, and the shadow was never asked to keep it", x.id())
		}
		if x.kind == loseRestock {
			levels[x.units[0].Key] += x.units[0].Quantity
		} else {
			want[string(x.hold)] = x
		}
	}
	for i := range audited {
		f := &audited[i]
		x, there := want[string(f.Hold)]
		var k backends.Key
		if len(f.Units) > 0 {
			k = f.Units[0].Key
		}
		switch {
		case f.Hold != "" && there && f.Class == x.kind.class() && slices.Equal(f.Units, x.units):
			delete(want, string(f.Hold))
			r.Losses.Found++
		case f.Hold == "" && f.Class == comparator.LevelDrift && levels[k] != 0 && f.TotalUnits == levels[k]:
			for _, x := range l.list {
				if x.kind == loseRestock && x.units[0].Key == k {
					r.Losses.Found++
				}
			}
			delete(levels, k)
		default:
			r.broken("the audit found what was not lost, or not so: %s of %q, %v: %s", f.Class, f.Hold, f.Units, f.Proof)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(want)) {
		r.broken("the audit did not find the lost %s of %s, %v", want[id].kind, id, want[id].units)
	}
	for k, n := range levels {
		r.broken("the audit did not find %d units that were lost at %s", n, k)
	}
	if r.Lose && len(l.list) == 0 {
		r.broken("nothing was lost, and something was to be")
	}
	if r.Audit.Undetermined > 0 {
		r.broken("the audit could not determine %d differences", r.Audit.Undetermined)
	}
}

func (x *lost) id() string {
	if x.kind == loseRestock {
		return string(x.op)
	}
	return string(x.hold)
}

// WriteTable prints the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	c := &r.Coverage
	row("run", "%s on %s and %s, %d proxies, %d buyers, sales of %d decisions, seed %d", r.Stage, r.SQL, r.Redis, r.Proxies, r.Buyers, r.Sale, r.Seed)
	row("decisions", "%d in %.0f s, %.0f/s: %d granted, %d sold out", r.Decisions, r.Seconds, float64(r.Decisions)/r.Seconds, r.Granted, r.SoldOut)
	row("pace", "a buyer waited %.0f s for shadow and judge; %.0f s more until all was judged; %.0f s of processor, %.0f MiB", r.Waited, r.Rest, r.Processor, r.HeapMiB)
	row("coverage", "%d counted: matched %d, probed %d, explained %d, confirmed %d, undetermined %d, sampled out %d, lost %d", c.Decisions, c.Matched, c.Probed, c.Explained, c.Confirmed, c.Undetermined, c.SampledOut, c.Lost)
	row("contended", "%d differences, %.3f %% undetermined (at most %.1f %%)", r.Contended, 100*r.Share, 100*r.Allowed)
	for _, cause := range slices.Sorted(maps.Keys(r.Undetermined)) {
		row("", "undetermined for %s: %d", cause, r.Undetermined[cause])
	}
	row("explained", "%d kept with their order, %d with the debt that was paid, %d counted only", r.Ordered, r.Paid, r.NotKept)
	row("audit", "%d holds and %d levels: %d findings, %d units, %d undetermined", r.Audit.Holds, r.Audit.Levels, r.Audit.Findings, r.Audit.Units, r.Audit.Undetermined)
	if r.Lose {
		n := int64(0)
		for _, k := range r.Losses.Played {
			n += k
		}
		row("losses", "%d writes, %d units: %d found by the audit, once each with class and units; %d showed before", n, r.Losses.Units, r.Losses.Found, r.Losses.Early)
		row("", "%d findings follow from them, %d from nothing", r.Losses.Consequences, r.Losses.False)
	}
	verdict := "as it has to be"
	if !r.Kept() {
		verdict = "BROKEN"
	}
	row("verdict", "%s", verdict)
	for _, b := range r.Broken {
		row("", "%s", b)
	}
	return t.Flush()
}
