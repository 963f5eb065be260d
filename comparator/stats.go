package comparator

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// cause says why a decision ended as undetermined.
type cause int

const (
	causeOther cause = iota
	causeQueueFull
	causeSettleFull
	causeWindow
	causeTooLarge
	causeProbeFailed
	causeOvertaken
	causeNoVerdict
	causePanic
	causeStopped
	causeRecord
	causeUnknownStock
	causes
)

var causeNames = [...]string{"other", "queue_full", "settle_queue_full", "window", "too_large", "probe_failed", "overtaken", "no_verdict", "panic", "stopped", "record_incomplete", "unknown_stock"}

// counters of one run, for metrics.
type counters struct {
	ignored      atomic.Int64
	looks        atomic.Int64
	looksFailed  atomic.Int64
	panics       atomic.Int64
	savesFailed  atomic.Int64
	spoolFailed  atomic.Int64
	dropped      atomic.Int64
	sheetsFailed atomic.Int64
	notKept      atomic.Int64
	notFollowed  atomic.Int64
	undetermined [causes]atomic.Int64

	mu        sync.Mutex
	lastPanic string
	lastError string
	findings  map[Class]int64
}

// Stats describes one run of a comparator, for metrics and status.
type Stats struct {
	Coverage     Coverage         `json:"coverage"`
	Undetermined map[string]int64 `json:"undetermined"` // by cause
	Confirmed    map[string]int64 `json:"confirmed"`    // findings of this run by class
	Queued       int              `json:"queued"`       // observations waiting for the judge
	Settling     int              `json:"settling"`     // decisions in the settle queue
	Unsaved      int              `json:"unsaved"`      // findings that neither store nor spool has
	SpoolBytes   int64            `json:"spool_bytes"`
	Ignored      int64            `json:"ignored"`         // observations of other operations
	NotKept      int64            `json:"not_kept"`        // explained or undetermined: counted, proof not kept
	NotFollowed  int64            `json:"not_followed"`    // expiries and late claims that were not looked into
	Dropped      int64            `json:"dropped"`         // findings given up for want of room
	Looks        int64            `json:"looks"`           // looks at the stores
	LooksFailed  int64            `json:"looks_failed"`    // of which failed
	SavesFailed  int64            `json:"saves_failed"`    // calls of the store that failed
	SpoolFailed  int64            `json:"spool_failed"`    // appends that failed
	NotRecorded  int64            `json:"not_recorded"`    // operations that the record had no room for
	SheetsFailed int64            `json:"sheets_failed"`   // exchanges with the other proxies that failed
	Panics       int64            `json:"panics"`          // recovered
	LastPanic    string           `json:"last_panic"`      // its text
	LastError    string           `json:"last_error"`      // of store, spool or look
	Truth        Latency          `json:"truth_latency"`   // decisions of the truth, this run
	Shadow       Latency          `json:"shadow_latency"`  // decisions of the shadow, this run
	SlowLimitMS  int64            `json:"slow_shadow_ms"`  // 0: off
	SettleWindow int64            `json:"settle_window_s"` // seconds
}

// Stats reads the counters.
func (c *Comparator) Stats() Stats {
	s := Stats{
		Coverage: c.Snapshot(), Undetermined: map[string]int64{}, Confirmed: map[string]int64{},
		Queued: len(c.in), Settling: c.queue.len(), Unsaved: c.keep.len(),
		Ignored: c.stats.ignored.Load(), NotKept: c.stats.notKept.Load(), NotFollowed: c.stats.notFollowed.Load(), Dropped: c.stats.dropped.Load(),
		Looks: c.stats.looks.Load(), LooksFailed: c.stats.looksFailed.Load(),
		SavesFailed: c.stats.savesFailed.Load(), SpoolFailed: c.stats.spoolFailed.Load(), Panics: c.stats.panics.Load(),
		NotRecorded: c.record.losses(), SheetsFailed: c.stats.sheetsFailed.Load(),
		Truth: c.truth.sum(), Shadow: c.shadow.sum(),
		SlowLimitMS: c.cfg.SlowShadow.Milliseconds(), SettleWindow: int64(c.cfg.SettleWindow.Seconds()),
	}
	if c.cfg.Spool != nil {
		s.SpoolBytes = c.cfg.Spool.Size()
	}
	for i := range causes {
		if n := c.stats.undetermined[i].Load(); n > 0 {
			s.Undetermined[causeNames[i]] = n
		}
	}
	c.stats.mu.Lock()
	defer c.stats.mu.Unlock()
	s.LastPanic, s.LastError = c.stats.lastPanic, c.stats.lastError
	for cl, n := range c.stats.findings {
		s.Confirmed[cl.String()] = n
	}
	return s
}

// recovered is deferred around everything that calls code of others: a panic ends here, counted.
func (c *Comparator) recovered(where string) {
	if p := recover(); p != nil {
		c.stats.panics.Add(1)
		c.stats.mu.Lock()
		c.stats.lastPanic = clip(fmt.Sprintf("%s: %v", where, p), MaxText)
		c.stats.mu.Unlock()
	}
}

// protected calls f; ok is false when it has panicked, which is counted.
func (c *Comparator) protected(where string, f func()) (ok bool) {
	defer c.recovered(where)
	f()
	return true
}

func (c *Comparator) failed(err error) {
	c.stats.mu.Lock()
	c.stats.lastError = clip(err.Error(), MaxText)
	c.stats.mu.Unlock()
}

func (c *Comparator) counted(cl Class) {
	c.stats.mu.Lock()
	if c.stats.findings == nil {
		c.stats.findings = map[Class]int64{}
	}
	c.stats.findings[cl]++
	c.stats.mu.Unlock()
}
