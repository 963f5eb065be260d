package comparator

import (
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Column is one of the columns of the account. Every decision (a reserve that the truth granted or
// refused, replays apart) is in exactly one.
type Column uint8

// The columns.
const (
	ColumnUnknown Column = iota
	Pending              // decided; the shadow's decision is not known yet
	Matched              // a grant that was compared and agrees
	Probed               // a refusal that was probed and agrees
	Settling             // diverged, and waiting in the settle queue
	Explained            // diverged, and explained by concurrency, with proof
	Confirmed            // diverged, and confirmed: a finding
	Excused              // diverged and confirmed, and covered by a named excuse
	SampledOut           // a refusal that was not probed
	Undetermined         // looked at, without a result
	Lost                 // will never be compared
	columns              // how many there are
)

var columnTexts = [...][2]string{
	{"unknown", "no column"},
	{"pending", "decided; the shadow has not followed yet"},
	{"matched", "grants that both stores decided alike"},
	{"probed", "refusals that the shadow, probed, would give too"},
	{"settling", "decided differently: being looked into"},
	{"explained", "decided differently: explained by concurrency"},
	{"confirmed", "decided differently: no order of operations explains it"},
	{"excused", "decided differently: covered by a named excuse"},
	{"sampled_out", "refusals that were not probed, to spare the shadow"},
	{"undetermined", "could not be decided: neither match nor mismatch"},
	{"lost", "never compared: dropped, voided, or lost in a crash"},
}

// String gives the name used in reports.
func (c Column) String() string {
	if c < columns {
		return columnTexts[c][0]
	}
	return "unknown"
}

// Meaning explains the column in one line.
func (c Column) Meaning() string {
	if c < columns {
		return columnTexts[c][1]
	}
	return columnTexts[0][1]
}

// Columns lists the columns in the order in which reports show them.
func Columns() []Column {
	return []Column{Matched, Probed, Explained, Confirmed, Excused, Settling, Undetermined, SampledOut, Pending, Lost}
}

// Counts has one number for each column.
type Counts struct {
	Pending      int64 `json:"pending"`
	Matched      int64 `json:"matched"`
	Probed       int64 `json:"probed"`
	Settling     int64 `json:"settling"`
	Explained    int64 `json:"explained"`
	Confirmed    int64 `json:"confirmed"`
	Excused      int64 `json:"excused"`
	SampledOut   int64 `json:"sampled_out"`
	Undetermined int64 `json:"undetermined"`
	Lost         int64 `json:"lost"`
}

// at gives the number of a column; nil for none.
func (c *Counts) at(col Column) *int64 {
	switch col {
	case Pending:
		return &c.Pending
	case Matched:
		return &c.Matched
	case Probed:
		return &c.Probed
	case Settling:
		return &c.Settling
	case Explained:
		return &c.Explained
	case Confirmed:
		return &c.Confirmed
	case Excused:
		return &c.Excused
	case SampledOut:
		return &c.SampledOut
	case Undetermined:
		return &c.Undetermined
	case Lost:
		return &c.Lost
	default:
		return nil
	}
}

// Of gives the number in a column.
func (c Counts) Of(col Column) int64 {
	if p := c.at(col); p != nil {
		return *p
	}
	return 0
}

// Sum adds up all columns.
func (c Counts) Sum() int64 {
	return c.Pending + c.Matched + c.Probed + c.Settling + c.Explained + c.Confirmed + c.Excused + c.SampledOut + c.Undetermined + c.Lost
}

func (c *Counts) add(o Counts) {
	for col := Pending; col < columns; col++ {
		*c.at(col) += o.Of(col)
	}
}

// CoverageRow is the account of one run of one proxy for one epoch and minute. Its numbers are
// changes within that minute: Pending and Settling may be negative. A row with a higher Rev replaces
// one with a lower; a lower one changes nothing. Rows that are read may be sums over minutes; then
// Minute and Rev are those of the latest.
type CoverageRow struct {
	Pod       backends.Pod `json:"pod"`
	Proxy     string       `json:"proxy"`
	Run       string       `json:"run"` // of this start of the proxy
	Epoch     uint64       `json:"epoch"`
	Minute    int64        `json:"minute"` // minutes since 1970, by the proxy's clock
	Rev       uint64       `json:"rev"`
	Decisions int64        `json:"decisions"`
	Counts
}

// Add adds o's numbers; Minute and Rev become those of the later.
func (r *CoverageRow) Add(o CoverageRow) {
	r.Decisions += o.Decisions
	r.add(o.Counts)
	r.Minute, r.Rev = max(r.Minute, o.Minute), max(r.Rev, o.Rev)
}

// UnbalancedError: an account whose columns do not add up to its decisions. It is a bug of Crossfade.
type UnbalancedError struct {
	What      string
	Decisions int64
	Sum       int64
}

func (e *UnbalancedError) Error() string {
	return fmt.Sprintf("coverage of %s is out of balance: %d decisions, and columns that add up to %d; report this as a bug of Crossfade", e.What, e.Decisions, e.Sum)
}

// Check gives an *UnbalancedError unless the columns add up to the decisions exactly.
func (r *CoverageRow) Check() error {
	if s := r.Sum(); s != r.Decisions {
		return &UnbalancedError{What: fmt.Sprintf("pod %q epoch %d minute %d of %s/%s", r.Pod, r.Epoch, r.Minute, r.Proxy, r.Run), Decisions: r.Decisions, Sum: s}
	}
	return nil
}

// Coverage is the account of a pod over any number of rows.
type Coverage struct {
	Pod       backends.Pod `json:"pod"`
	Decisions int64        `json:"decisions"`
	Counts
}

// Check gives an *UnbalancedError unless the columns add up to the decisions exactly.
func (c Coverage) Check() error {
	if s := c.Sum(); s != c.Decisions {
		return &UnbalancedError{What: fmt.Sprintf("pod %q", c.Pod), Decisions: c.Decisions, Sum: s}
	}
	return nil
}

// Compared is the denominator of the parity rate: the decisions that both stores are known to have
// made, with a result. Excused ones are in neither part of it: they differ, and are no finding.
func (c Coverage) Compared() int64 { return c.Matched + c.Probed + c.Explained + c.Confirmed }

// Agreed is its numerator: alike, or different for a reason that is proven to be concurrency.
func (c Coverage) Agreed() int64 { return c.Matched + c.Probed + c.Explained }

// Parity is a rate with the numbers that it rests on. It is never printed without them.
type Parity struct {
	Agreed    int64 `json:"agreed"`
	Compared  int64 `json:"compared"`  // denominator of the parity rate
	Decisions int64 `json:"decisions"` // denominator of the share compared
	// Rate is Agreed/Compared, Share is Compared/Decisions; both nil when there is nothing to divide by.
	Rate  *float64 `json:"rate"`
	Share *float64 `json:"share_compared"`
}

// Parity computes the rate.
func (c Coverage) Parity() Parity {
	p := Parity{Agreed: c.Agreed(), Compared: c.Compared(), Decisions: c.Decisions}
	if p.Compared > 0 {
		r := float64(p.Agreed) / float64(p.Compared)
		p.Rate = &r
	}
	if p.Decisions > 0 {
		s := float64(p.Compared) / float64(p.Decisions)
		p.Share = &s
	}
	return p
}

// WithTruthCount puts the decisions that the truth made beyond those in the account into Lost: those
// that a crash took before they were flushed.
func (c Coverage) WithTruthCount(decisions int64) Coverage {
	if more := decisions - c.Decisions; more > 0 {
		c.Decisions += more
		c.Lost += more
	}
	return c
}

// Fold is what [FoldCoverage] has to know besides the rows.
type Fold struct {
	Now          time.Time
	SettleWindow time.Duration // the longest that a decision may be settling
	// OutboxEmpty: the truth's outbox has no entries at present, so nothing is pending any more.
	OutboxEmpty bool
}

// foldMargin is how old a minute has to be before a remainder in it counts as left by a crash: the
// clocks of proxies and whoever reports may differ a little, and a flush takes its time.
const foldMargin = 2 * time.Minute

// FoldCoverage adds rows up. It is pure. Two remainders of crashes are put where they belong:
//
//   - pending below zero: decisions that were mirrored and counted by one proxy, and whose beginning
//     another took with it. They were decisions; they are in their columns already;
//   - settling, of a run that has counted nothing for longer than any decision may settle, and
//     pending, when the outbox is empty and no run has counted anything for a while: they are lost.
func FoldCoverage(pod backends.Pod, rows []CoverageRow, f Fold) Coverage {
	c := Coverage{Pod: pod}
	type run struct{ proxy, run string }
	settling := map[run]int64{}
	lastOf := map[run]int64{}
	var last int64
	for i := range rows {
		r := &rows[i]
		c.Decisions += r.Decisions
		c.add(r.Counts)
		id := run{r.Proxy, r.Run}
		settling[id] += r.Settling
		lastOf[id] = max(lastOf[id], r.Minute)
		last = max(last, r.Minute)
	}
	ended := func(minute int64, patience time.Duration) bool {
		return f.Now.Sub(time.Unix((minute+1)*60, 0)) > patience+foldMargin
	}
	for id, n := range settling {
		if n > 0 && ended(lastOf[id], f.SettleWindow) {
			c.Settling -= n
			c.Lost += n
		}
	}
	switch {
	case c.Pending < 0:
		c.Decisions -= c.Pending
		c.Pending = 0
	case c.Pending > 0 && f.OutboxEmpty && ended(last, 0):
		c.Lost += c.Pending
		c.Pending = 0
	}
	return c
}

// SinceMinute is the first minute that ends after since: what Store.Coverage begins with.
func SinceMinute(since time.Time) int64 {
	if since.IsZero() {
		return 0
	}
	return since.Unix() / 60
}
