package replay

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// maxProblems bounds the problems that a summary lists in words; the counts have all.
const maxProblems = 20

// Summary is what became of a run. Of the carts begun each is in exactly one of Granted, SoldOut,
// Ended, Refused and Unresolved; of those granted each is in exactly one of Claimed, Released, Lapsed,
// Missing and Open.
type Summary struct {
	Run  string        `json:"run"`
	Shop backends.Shop `json:"shop"`
	// Orders and BrokenRows are of the book.
	Orders     int `json:"orders"`
	BrokenRows int `json:"broken_rows"`
	// Stopped: the run was ended before all orders were begun.
	Stopped bool `json:"stopped"`

	Carts int64 `json:"carts"`
	Lines int64 `json:"lines"`
	Units int64 `json:"units"` // asked for

	Granted    int64 `json:"granted"`
	SoldOut    int64 `json:"sold_out"`
	Ended      int64 `json:"ended"`      // the hold had ended before its grant was known
	Refused    int64 `json:"refused"`    // wrong as it stands: see RefusedBy
	Unresolved int64 `json:"unresolved"` // reserves without a verdict

	Claimed  int64 `json:"claimed"`
	Released int64 `json:"released"`
	Lapsed   int64 `json:"lapsed"`  // had expired before its release
	Missing  int64 `json:"missing"` // granted, and the truth does not know it: must not be
	Open     int64 `json:"open"`    // left as granted, or its end has no verdict

	UnitsClaimed int64 `json:"units_claimed"`
	ShortLines   int64 `json:"short_lines"`
	ShortUnits   int64 `json:"short_units"`
	ApologyUnits int64 `json:"apology_units"`

	Restocks           int64 `json:"restocks"` // orders; the next three are their lines
	RestockLines       int64 `json:"restock_lines"`
	RestocksRefused    int64 `json:"restock_lines_refused"`
	RestocksUnresolved int64 `json:"restock_lines_unresolved"`
	RestockUnits       int64 `json:"restock_units"`

	SeededItems int   `json:"seeded_items"`
	SeededUnits int64 `json:"seeded_units"`

	// Retries counts commands that were sent again, by reason in RetryReasons; Replayed the answers
	// that said that it had been done before.
	Retries      int64            `json:"retries"`
	RetryReasons map[string]int64 `json:"retry_reasons"`
	Replayed     int64            `json:"replayed"`
	// RefusedBy counts by the first word of the error.
	RefusedBy map[string]int64 `json:"refused_by"`

	Reserve Latency `json:"reserve"`
	Claim   Latency `json:"claim"`

	SeedMS float64 `json:"seed_ms"`
	WallMS float64 `json:"wall_ms"` // of playing, seeding apart
	// Rate is carts with a verdict per second of playing.
	Rate float64 `json:"carts_per_second"`
	// Problems are the first things that should not be, in words.
	Problems []string `json:"problems"`
}

// Latency is the time from sending a command first to its verdict, repetitions included.
type Latency struct {
	N     int     `json:"n"`
	P50MS float64 `json:"p50_ms"`
	P95MS float64 `json:"p95_ms"`
	P99MS float64 `json:"p99_ms"`
	MaxMS float64 `json:"max_ms"`
}

// Check gives an error when the account does not add up: a bug of the player.
func (s *Summary) Check() error {
	if sum := s.Granted + s.SoldOut + s.Ended + s.Refused + s.Unresolved; sum != s.Carts {
		return fmt.Errorf("replay: %d carts were begun and %d accounted for", s.Carts, sum)
	}
	if sum := s.Claimed + s.Released + s.Lapsed + s.Missing + s.Open; sum != s.Granted {
		return fmt.Errorf("replay: %d carts were granted and %d accounted for", s.Granted, sum)
	}
	return nil
}

// Clean tells whether every order that was begun ended as it should: nothing unresolved, refused,
// missing, or left open.
func (s *Summary) Clean() bool {
	return s.Unresolved+s.Refused+s.Missing+s.Open+s.RestocksRefused+s.RestocksUnresolved == 0
}

// WriteTable writes the summary for people.
func (s *Summary) WriteTable(w io.Writer) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	early := ""
	if s.Stopped {
		early = ", ended early"
	}
	row("run", "%s, shop %s%s", s.Run, s.Shop, early)
	row("orders", "%d played of %d; %d rows of the file broken", s.Carts+s.Restocks, s.Orders, s.BrokenRows)
	if s.SeededItems > 0 {
		row("stock", "%d units of %d items, set in %s", s.SeededUnits, s.SeededItems, shortly(s.SeedMS))
	}
	row("carts", "%d with %d lines, %d units", s.Carts, s.Lines, s.Units)
	row("  granted", "%d", s.Granted)
	row("  sold out", "%d (%d short lines, %d units missing)", s.SoldOut, s.ShortLines, s.ShortUnits)
	row("  ended, refused, unresolved", "%d, %d%s, %d", s.Ended, s.Refused, byCount(s.RefusedBy), s.Unresolved)
	row("holds claimed", "%d (%d units, %d of them not there)", s.Claimed, s.UnitsClaimed, s.ApologyUnits)
	row("  released, lapsed", "%d, %d", s.Released, s.Lapsed)
	row("  left open, missing", "%d, %d", s.Open, s.Missing)
	row("restocks", "%d with %d lines, %d units; %d refused, %d unresolved", s.Restocks, s.RestockLines, s.RestockUnits, s.RestocksRefused, s.RestocksUnresolved)
	row("sent again", "%d%s; %d answers were replays", s.Retries, byCount(s.RetryReasons), s.Replayed)
	row("reserve", "%s", s.Reserve)
	row("claim", "%s", s.Claim)
	row("time", "%s, %.1f carts per second", shortly(s.WallMS), s.Rate)
	for _, p := range s.Problems {
		row("problem", "%s", p)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// byCount renders " (a 3, b 1)", the largest first; nothing when empty.
func byCount(m map[string]int64) string {
	if len(m) == 0 {
		return ""
	}
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return int(m[b] - m[a])
		}
		return strings.Compare(a, b)
	})
	for i, k := range keys {
		keys[i] = fmt.Sprintf("%s %d", k, m[k])
	}
	return " (" + strings.Join(keys, ", ") + ")"
}

func (l Latency) String() string {
	return fmt.Sprintf("p50 %s, p95 %s, p99 %s, longest %s, of %d", shortly(l.P50MS), shortly(l.P95MS), shortly(l.P99MS), shortly(l.MaxMS), l.N)
}

func shortly(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(10 * time.Microsecond).String()
	}
}

func millis(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// latencyOf sorts ds.
func latencyOf(ds []time.Duration) Latency {
	if len(ds) == 0 {
		return Latency{}
	}
	slices.Sort(ds)
	at := func(percent int) float64 { return millis(ds[max(0, (len(ds)*percent+99)/100-1)]) }
	return Latency{N: len(ds), P50MS: at(50), P95MS: at(95), P99MS: at(99), MaxMS: millis(ds[len(ds)-1])}
}

// tally counts while a run goes on.
type tally struct {
	mu             sync.Mutex
	s              Summary
	reserve, claim []time.Duration
}

// do changes the counts under the lock.
func (t *tally) do(f func(s *Summary)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.s)
}

func (t *tally) retried(reason string) {
	t.do(func(s *Summary) { s.Retries++; s.RetryReasons[reason]++ })
}

func (t *tally) problem(format string, args ...any) {
	t.do(func(s *Summary) {
		if len(s.Problems) < maxProblems {
			s.Problems = append(s.Problems, fmt.Sprintf(format, args...))
		}
	})
}

// line is one line of progress.
func (t *tally) line() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.s
	l := fmt.Sprintf("%d of %d orders: %d granted, %d sold out, %d claimed", s.Carts+s.Restocks, s.Orders, s.Granted, s.SoldOut, s.Claimed)
	if s.Retries > 0 {
		l += fmt.Sprintf(", %d sent again%s", s.Retries, byCount(s.RetryReasons))
	}
	return l
}

// end gives the summary of a run whose playing took wall.
func (t *tally) end(wall time.Duration) Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Reserve, t.s.Claim = latencyOf(t.reserve), latencyOf(t.claim)
	t.s.WallMS = millis(wall)
	if wall > 0 {
		t.s.Rate = float64(t.s.Carts-t.s.Unresolved) / wall.Seconds()
	}
	return t.s
}
