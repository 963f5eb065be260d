package soak

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
)

// Report is what a run has shown.
type Report struct {
	Dialect     string  `json:"dialect"`
	Version     string  `json:"version,omitempty"`
	Durable     bool    `json:"durable"`
	Workers     int     `json:"workers"`
	Connections int     `json:"connections"`
	Seed        uint64  `json:"seed"`
	Seconds     float64 `json:"seconds"`

	Conservation Conservation `json:"conservation"`
	Refusals     Refusals     `json:"refusals"`
	Errors       Errors       `json:"errors"`

	Rate  float64            `json:"operations_per_second"`
	Ops   map[string]Latency `json:"operations"`
	Stats mysqlstore.Stats   `json:"store"`
	// InnoDB's own counters.
	InnoDB ServerFigures `json:"innodb"`
	// Pace is the median rate of the last third of the samples over that of the first third; 0 where
	// there are too few.
	Pace float64 `json:"pace"`
	// Effort is the same of page reads per operation: it grows when scans get longer, on a busy machine
	// too.
	Effort  float64  `json:"effort"`
	Samples []Sample `json:"samples"`
	// Broken lists the first breaches in words.
	Broken []string `json:"broken"`
}

// Conservation is P2.
type Conservation struct {
	Samples  int64 `json:"samples"`
	Levels   int64 `json:"levels"`   // the most of one sample
	Broken   int64 `json:"broken"`   // levels out of balance, over all samples
	Accounts int64 `json:"accounts"` // items whose units are not what the answers come to
}

// Refusals is P3.
type Refusals struct {
	Plentiful  int64 `json:"plentiful"` // refused, though there was stock
	Histories  int64 `json:"histories"` // of scarce items
	Operations int64 `json:"operations"`
	Scarce     int64 `json:"scarce"`    // refusals in them
	Illegal    int64 `json:"illegal"`   // histories that no order explains
	Undecided  int64 `json:"undecided"` // histories for which none was found in time
}

// Errors that callers got.
type Errors struct {
	Deadlocks int64 `json:"deadlocks"`
	Busy      int64 `json:"busy"`    // waits that timed out; sent again
	Unknown   int64 `json:"unknown"` // ambiguous or unavailable; sent again
	Strange   int64 `json:"strange"` // whatever should not be
}

// Sample is what happened since the last one.
type Sample struct {
	At      float64            `json:"at_seconds"`
	Rate    float64            `json:"operations_per_second"`
	Ops     map[string]Latency `json:"operations"`
	Pages   float64            `json:"page_reads_per_operation"`
	Batches int64              `json:"batches"`
	Members int64              `json:"members"`
	Refills int64              `json:"refills"`
	InnoDB  ServerFigures      `json:"innodb"`
}

func newReport(o Options) *Report {
	return &Report{
		Dialect: string(o.Dialect), Durable: !o.Fast, Workers: o.Workers, Connections: o.Connections, Seed: o.Seed,
		Ops: map[string]Latency{}, Samples: []Sample{}, Broken: []string{},
	}
}

// Kept tells whether every promise was kept.
func (r *Report) Kept() bool {
	c, f, e := r.Conservation, r.Refusals, r.Errors
	return c.Samples > 0 && c.Broken+c.Accounts+f.Plentiful+f.Illegal+f.Undecided+e.Deadlocks+e.Strange == 0 && len(r.Broken) == 0
}

func (r *Report) judged(g *game, j judged) {
	f := &r.Refusals
	f.Histories += j.histories
	f.Operations += j.operations
	f.Scarce += j.refusals
	f.Undecided += j.undecided
	f.Illegal += int64(len(j.broken))
	for _, b := range j.broken {
		g.broke(nil, b)
	}
}

// rate is the operations of callers per second, and their latencies, between two marks.
func rate(from, to mark) (perSecond float64, ops map[string]Latency) {
	ops = map[string]Latency{}
	var n int64
	for op, h := range to.ops {
		before := from.ops[op]
		c := h.since(&before)
		if l := c.latency(); l.Count > 0 {
			ops[op] = l
			if op != "expire" { // these are sweeps
				n += l.Count
			}
		}
	}
	return float64(n) / to.at.Sub(from.at).Seconds(), ops
}

func (r *Report) header(w io.Writer) {
	fmt.Fprintf(w, "%6s %8s %15s %15s %15s %7s %8s %8s %10s %6s\n", "time", "ops/s", "reserve p50/p99", "claim p50/p99", "release p50/p99", "batch", "pages/op", "refills", "lock waits", "broken")
}

func (r *Report) sample(w io.Writer, first, last, now mark, g *game) {
	s := Sample{At: now.at.Sub(first.at).Seconds(), InnoDB: now.server.since(last.server)}
	s.Rate, s.Ops = rate(last, now)
	var ops int64
	for _, l := range s.Ops {
		ops += l.Count
	}
	s.Pages = ratio(s.InnoDB.PageReads, ops)
	s.Batches, s.Members = now.stats.Batches-last.stats.Batches, now.stats.Members-last.stats.Members
	s.Refills = now.stats.Refills - last.stats.Refills
	r.Samples = append(r.Samples, s)
	g.mu.Lock()
	broken := len(g.broken)
	g.mu.Unlock()
	two := func(op string) string { return fmt.Sprintf("%.1f/%.1f ms", s.Ops[op].P50, s.Ops[op].P99) }
	fmt.Fprintf(w, "%6s %8.0f %15s %15s %15s %7.1f %8.0f %8d %10d %6d\n", now.at.Sub(first.at).Round(time.Second), s.Rate,
		two("reserve"), two("claim"), two("release"), ratio(s.Members, s.Batches), s.Pages, s.Refills, s.InnoDB.LockWaits, broken)
}

func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// total sums the run up.
func (r *Report) total(first, last mark) {
	r.Seconds = last.at.Sub(first.at).Seconds()
	r.Rate, r.Ops = rate(first, last)
	r.InnoDB = last.server.since(first.server)
	r.Pace = trend(r.Samples, func(s Sample) float64 { return s.Rate })
	r.Effort = trend(r.Samples, func(s Sample) float64 { return s.Pages })
}

// trend is the median of the last third over that of the first third; 0 where it says nothing. The last
// sample may be a short one.
func trend(ss []Sample, of func(Sample) float64) float64 {
	third := len(ss) / 3
	if third == 0 {
		return 0
	}
	median := func(ss []Sample) float64 {
		vs := make([]float64, len(ss))
		for i, s := range ss {
			vs[i] = of(s)
		}
		slices.Sort(vs)
		return vs[len(vs)/2]
	}
	before := median(ss[:third])
	if before == 0 {
		return 0
	}
	return median(ss[len(ss)-third:]) / before
}

// finish takes over the counters of the game.
func (g *game) finish() {
	r := g.report
	r.Stats = g.to.Stats()
	r.Refusals.Plentiful = g.refused.Load()
	r.Errors = Errors{Deadlocks: g.deadlocks.Load(), Busy: g.busy.Load(), Unknown: g.unknown.Load(), Strange: g.strange.Load()}
	g.mu.Lock()
	defer g.mu.Unlock()
	r.Broken = append(r.Broken, g.broken...)
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	durable := "durable"
	if !r.Durable {
		durable = "not durable"
	}
	row("server", "%s %s, %s", r.Dialect, r.Version, durable)
	row("run", "%.0f s, %d buyers, %d connections, seed %d", r.Seconds, r.Workers, r.Connections, r.Seed)
	row("", "")
	row("conservation (P2)", "%d samples, up to %d levels each: %d out of balance, %d accounts wrong", r.Conservation.Samples, r.Conservation.Levels, r.Conservation.Broken, r.Conservation.Accounts)
	row("refused though stock was there (P3)", "%d of plentiful items", r.Refusals.Plentiful)
	row("", "%d histories of scarce items, %d operations, %d refusals: %d illegal, %d undecided", r.Refusals.Histories, r.Refusals.Operations, r.Refusals.Scarce, r.Refusals.Illegal, r.Refusals.Undecided)
	row("deadlocks answered to callers (P8)", "%d; counted by InnoDB: %d", r.Errors.Deadlocks, r.InnoDB.Deadlocks)
	row("other errors", "%d busy and %d unknown (sent again), %d strange", r.Errors.Busy, r.Errors.Unknown, r.Errors.Strange)
	row("row lock waits", "%d, %d ms in all", r.InnoDB.LockWaits, r.InnoDB.LockWaitMS)
	row("", "")
	row("operations", "%.0f/s; last third of the run over the first: %.2f, page reads per operation %.2f", r.Rate, r.Pace, r.Effort)
	for _, op := range opNames {
		if l, ok := r.Ops[op]; ok {
			row("  "+op, "%d, p50 %.1f ms, p99 %.1f ms, most %.0f ms", l.Count, l.P50, l.P99, l.Max)
		}
	}
	s := r.Stats
	row("store", "%d batches of %.1f, %d splits, %d views, %d refills, %d confirmed", s.Batches, ratio(s.Members, s.Batches), s.Splits, s.Views, s.Refills, s.Confirmed)
	row("", "%d begun again, %d of them after a deadlock; %d lock waits timed out; %d COMMITs settled", s.Restarts, s.Deadlocks, s.Busy, s.Settled)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, b := range r.Broken {
		fmt.Fprintf(w, "BROKEN: %s\n", b)
	}
	verdict := "Every promise held."
	if !r.Kept() {
		verdict = "A promise was broken, or could not be checked."
	}
	_, err := fmt.Fprintf(w, "\n%s\n", verdict)
	return err
}
