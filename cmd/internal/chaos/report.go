package chaos

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Report is what a run came to.
type Report struct {
	Proxies int     `json:"proxies"`
	Control string  `json:"control"`
	Buyers  int     `json:"buyers"`
	Rate    int     `json:"rate"` // asked for
	Seed    uint64  `json:"seed"`
	Lenient bool    `json:"lenient"` // no latency and no rate was judged
	Seconds float64 `json:"seconds"`
	Rows    []*Row  `json:"rows"`
	// Broken says what was broken; empty when the promises were kept.
	Broken []string `json:"broken"`
}

// Row is what one fault came to.
type Row struct {
	Scenario string `json:"scenario"`
	Case     string `json:"case"`
	Fault    string `json:"fault"`
	Tried    int    `json:"tried"`
	Survived int    `json:"survived"`
	// Figure is what WorstMS is of; BoundMS what it may be, 0 when it is not judged.
	Figure  string  `json:"figure,omitempty"`
	WorstMS float64 `json:"worst_ms,omitempty"`
	BoundMS float64 `json:"bound_ms,omitempty"`
	// What the buyers did.
	Reserves int64   `json:"reserves"`
	Granted  int64   `json:"granted"`
	SoldOut  int64   `json:"sold_out"`
	PerSec   float64 `json:"reserves_per_second"` // the slowest trial
	Retries  int64   `json:"retries"`
	// What was checked.
	Holds      int      `json:"holds"`
	Histories  int      `json:"histories"`
	Operations int      `json:"operations"`
	Undecided  int      `json:"undecided"`
	Waits      *Waits   `json:"waits,omitempty"`
	Notes      []string `json:"notes,omitempty"`
	Broken     []string `json:"broken,omitempty"`

	lenient     bool
	waits, held []time.Duration
	longest     *Held
	steps       map[string][]time.Duration
}

// Waits are of reserves that met a switch, and of the gate itself.
type Waits struct {
	Requests  int     `json:"requests"`
	P50MS     float64 `json:"p50_ms"`
	P99MS     float64 `json:"p99_ms"`
	MaxMS     float64 `json:"max_ms"`
	Switches  int     `json:"switches"`
	HeldP50MS float64 `json:"held_p50_ms"`
	HeldMaxMS float64 `json:"held_max_ms"`
	// Steps are those of the switches, the one that took longest first.
	Steps []Step `json:"steps,omitempty"`
	// Longest is the switch that held the gate for longest.
	Longest *Held `json:"longest,omitempty"`
}

// Held is one switch, and what it held the gate for.
type Held struct {
	To    string                `json:"to"`
	MS    float64               `json:"ms"`
	Steps []killswitch.StepDone `json:"steps"`
}

// longer gives the one that held the gate for longer.
func longer(a, b *Held) *Held {
	if a == nil || b != nil && b.MS > a.MS {
		return b
	}
	return a
}

func (h *Held) String() string {
	parts := make([]string, len(h.Steps))
	sum := 0.0
	for i, s := range h.Steps {
		parts[i] = fmt.Sprintf("%s %.0f", s.Name, s.TookMillis)
		sum += s.TookMillis
	}
	return fmt.Sprintf("to %s %.0f ms: %s, between them %.0f", h.To, h.MS, strings.Join(parts, ", "), max(0, h.MS-sum))
}

// Step is how long one step of the switches took.
type Step struct {
	Name  string  `json:"name"`
	P50MS float64 `json:"p50_ms"`
	MaxMS float64 `json:"max_ms"`
}

// stepsOf sums the steps up.
func stepsOf(took map[string][]time.Duration) (out []Step) {
	for name, ds := range took {
		slices.Sort(ds)
		out = append(out, Step{Name: name, P50MS: quantile(ds, 0.5), MaxMS: quantile(ds, 1)})
	}
	slices.SortFunc(out, func(a, b Step) int {
		return cmp.Or(cmp.Compare(b.MaxMS, a.MaxMS), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func (r *Report) row(scenario string, c *faultCase) *Row {
	row := &Row{Scenario: scenario, Case: c.name, Fault: c.says, Figure: c.figure, BoundMS: millis(c.bound), lenient: r.Lenient}
	r.Rows = append(r.Rows, row)
	return row
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (r *Row) broken(format string, args ...any) {
	const most = 60
	if len(r.Broken) < most {
		r.Broken = append(r.Broken, fmt.Sprintf(format, args...))
	}
}

// add counts a trial.
func (r *Row) add(t *trial, c *checked) {
	l := t.load
	r.WorstMS = max(r.WorstMS, millis(t.worst))
	if !r.lenient && r.BoundMS > 0 && millis(t.worst) > r.BoundMS {
		t.broken("%s was %s, above %.0f ms", r.Figure, t.worst.Round(time.Millisecond), r.BoundMS)
	}
	if l.granted.Load() == 0 || l.soldOut.Load() == 0 || c.Histories == 0 {
		t.broken("too little happened: %d granted, %d sold out, %d histories", l.granted.Load(), l.soldOut.Load(), c.Histories)
	}
	if len(t.bad) == 0 {
		r.Survived++
	}
	r.Reserves += l.reserves.Load()
	r.Granted += l.granted.Load()
	r.SoldOut += l.soldOut.Load()
	r.Retries += l.retries.Load()
	if p := l.rate(); r.PerSec == 0 || p < r.PerSec {
		r.PerSec = p
	}
	r.Holds += c.Holds
	r.Histories += c.Histories
	r.Operations += c.Operations
	r.Undecided += c.Undecided
	r.waits, r.held, r.longest = append(r.waits, t.waits...), append(r.held, t.held...), longer(r.longest, t.longest)
	for name, ds := range t.steps {
		if r.steps == nil {
			r.steps = map[string][]time.Duration{}
		}
		r.steps[name] = append(r.steps[name], ds...)
	}
	for _, n := range t.notes {
		const most = 20
		if len(r.Notes) < most {
			r.Notes = append(r.Notes, n)
		}
	}
}

// judge sums up.
func (r *Report) judge() {
	for _, row := range r.Rows {
		if len(row.waits) > 0 || len(row.held) > 0 {
			slices.Sort(row.waits)
			slices.Sort(row.held)
			row.Waits = &Waits{
				Requests: len(row.waits), P50MS: quantile(row.waits, 0.5), P99MS: quantile(row.waits, 0.99), MaxMS: quantile(row.waits, 1),
				Switches: len(row.held), HeldP50MS: quantile(row.held, 0.5), HeldMaxMS: quantile(row.held, 1),
				Steps: stepsOf(row.steps), Longest: row.longest,
			}
		}
		if row.Scenario == switchesName && !r.Lenient {
			if row.Waits != nil && row.Waits.P99MS > millis(GateP99) {
				row.broken("requests that met a switch: p99 is %.0f ms, above %.0f", row.Waits.P99MS, millis(GateP99))
			}
			if row.PerSec < MinRate {
				row.broken("%.0f reserves/s, below %d: too few to have shown anything", row.PerSec, MinRate)
			}
		}
		for _, b := range row.Broken {
			r.Broken = append(r.Broken, fmt.Sprintf("%s, %s: %s", row.Scenario, row.Case, b))
		}
	}
}

func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return millis(sorted[int(q*float64(len(sorted)-1))])
}

// Kept tells whether no promise was broken.
func (r *Report) Kept() bool { return len(r.Broken) == 0 && len(r.Rows) > 0 }

// WriteTable prints the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	fmt.Fprintf(w, "%d proxies, control store in %s, %d buyers, seed %d, %.0f s\n\n", r.Proxies, r.Control, r.Buyers, r.Seed, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tFAULT\tTRIED\tSURVIVED\tRESERVES\tPER S\tOPERATIONS\tWORST FIGURE")
	for _, x := range r.Rows {
		worst := "-"
		if x.Figure != "" {
			worst = fmt.Sprintf("%s %.0f ms", x.Figure, x.WorstMS)
			if x.BoundMS > 0 {
				worst += fmt.Sprintf(" (≤ %.0f)", x.BoundMS)
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%.0f\t%d\t%s\n", x.Scenario, x.Fault, x.Tried, x.Survived, x.Reserves, x.PerSec, x.Operations, worst)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, x := range r.Rows {
		if x.Waits != nil {
			fmt.Fprintf(w, "%s, %s: %d reserves met one of %d switches: p50 %.0f, p99 %.0f, longest %.0f ms; the gate was held for %.0f ms (p50), %.0f at most\n",
				x.Scenario, x.Case, x.Waits.Requests, x.Waits.Switches, x.Waits.P50MS, x.Waits.P99MS, x.Waits.MaxMS, x.Waits.HeldP50MS, x.Waits.HeldMaxMS)
			if x.Waits.Longest != nil {
				fmt.Fprintf(w, "%s, %s: it was held longest %s\n", x.Scenario, x.Case, x.Waits.Longest)
			}
			for _, s := range x.Waits.Steps {
				fmt.Fprintf(w, "%s, %s: step %q: %.0f ms (p50), %.0f at most\n", x.Scenario, x.Case, s.Name, s.P50MS, s.MaxMS)
			}
		}
		for _, n := range x.Notes {
			fmt.Fprintf(w, "%s, %s: %s\n", x.Scenario, x.Case, n)
		}
	}
	if r.Kept() {
		_, err := fmt.Fprintln(w, "Every promise was kept.")
		return err
	}
	fmt.Fprintln(w, "BROKEN:")
	for _, b := range r.Broken {
		fmt.Fprintf(w, "  %s\n", b)
	}
	return nil
}
