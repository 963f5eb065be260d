package comparator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// ErrAuditTaken: somebody else is at the pod's audit.
var ErrAuditTaken = errors.New("another run of the pod's audit has begun; 'crossfade report <pod>' says how far it is")

// AuditBook keeps one row for each pod: whose its audit is at present, how far that is, and what the last complete one
// found. All times are by the store's clock, so that no two proxies' clocks are compared.
type AuditBook interface {
	// AuditRow reads a pod's row; a pod that was never audited has an empty one.
	AuditRow(ctx context.Context, pod backends.Pod) (AuditRow, error)
	// TakeAudit makes the pod's audit holder's for term when it is nobody's; of several callers at most one is told
	// so. It answers the row as it is then. After an error that leaves open whether it was taken it is, until term ends.
	TakeAudit(ctx context.Context, pod backends.Pod, holder string, term time.Duration) (row AuditRow, taken bool, err error)
	// SaveAudit changes the row if nobody has taken it since it got number n, else it is ErrAuditTaken and nothing changes.
	SaveAudit(ctx context.Context, pod backends.Pod, n uint64, s AuditSave) error
}

// AuditRow is what is known of a pod's audits.
type AuditRow struct {
	Pod    backends.Pod
	Holder string        // who has taken it last
	N      uint64        // how often it was taken
	Lease  time.Duration // how much longer it is the holder's; 0 or less: it is nobody's
	// State is how far the present audit is; nil when none has begun, or it has saved nothing yet. Begun is how long
	// ago it began; 0 for none.
	State *AuditState
	Begun time.Duration
	// Last is the last complete audit without its findings; nil for none. It began and ended so long ago.
	Last                 *AuditResult
	LastBegun, LastEnded time.Duration
	// Fails counts the failures since the last complete audit; Failure is the last one, so long ago.
	Fails   int
	Failure string
	Failed  time.Duration
}

// AuditStep is what a save tells of an audit.
type AuditStep uint8

// The steps. The zero value only keeps the lease, or gives it back.
const (
	AuditKeeps  AuditStep = iota
	AuditBegins           // a new audit begins: what was saved of another is forgotten
	AuditGoesOn           // State is how far it is
	AuditEnds             // Last is complete
	AuditDrops            // what was saved is worth nothing any more: the stage has moved
	AuditFails            // Failure says why; what was saved stays
)

// AuditSave is one change of a row.
type AuditSave struct {
	Step    AuditStep
	State   *AuditState
	Last    *AuditResult
	Failure string
	// Term is how long from now on the audit stays the holder's; 0 gives it back.
	Term time.Duration
}

// maxAuditFailure bounds the text of a failure, in bytes.
const maxAuditFailure = 1000

// Checked gives s with its texts bounded, or an error for a save that lacks what its step needs.
func (s AuditSave) Checked() (AuditSave, error) {
	if s.Step == AuditGoesOn && s.State == nil || s.Step == AuditEnds && s.Last == nil || s.Step > AuditFails {
		return s, fmt.Errorf("comparator: step %d of an audit without what it tells", s.Step)
	}
	if s.Last != nil {
		last := *s.Last
		last.Findings = nil
		s.Last = &last
	}
	s.Failure = clip(s.Failure, maxAuditFailure)
	return s, nil
}

// DayWindow is a part of the day, in UTC. The zero value is the whole day; a window that ends before it begins goes over
// midnight.
type DayWindow struct{ From, Until time.Duration } // since midnight

// ParseDayWindow reads "02:00-05:30"; "" is the whole day.
func ParseDayWindow(s string) (w DayWindow, err error) {
	if s == "" {
		return w, nil
	}
	var h1, m1, h2, m2 int
	n, err := fmt.Sscanf(s, "%2d:%2d-%2d:%2d", &h1, &m1, &h2, &m2)
	w = DayWindow{From: time.Duration(h1)*time.Hour + time.Duration(m1)*time.Minute, Until: time.Duration(h2)*time.Hour + time.Duration(m2)*time.Minute}
	if err != nil || n != 4 || w.String() != s || min(h1, m1, h2, m2) < 0 || h1 > 23 || h2 > 23 || m1 > 59 || m2 > 59 || w.From == w.Until {
		return DayWindow{}, &backends.FieldError{Field: "window", Value: fmt.Sprintf("%q", clip(s, 40)), Bound: "two different times of the day, UTC", Next: "write it like 02:00-05:30, or leave it out for the whole day"}
	}
	return w, nil
}

// String is the form that ParseDayWindow reads.
func (w DayWindow) String() string {
	if w == (DayWindow{}) {
		return ""
	}
	at := func(d time.Duration) string { return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60) }
	return at(w.From) + "-" + at(w.Until)
}

// Has tells whether the window is open at t.
func (w DayWindow) Has(t time.Time) bool {
	t = t.UTC()
	day := t.Sub(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC))
	switch {
	case w == (DayWindow{}):
		return true
	case w.From < w.Until:
		return w.From <= day && day < w.Until
	default:
		return day >= w.From || day < w.Until
	}
}

// AuditSchedule says when a pod is audited without being asked to.
type AuditSchedule struct {
	// Every is from the beginning of one complete audit to that of the next; 0: never.
	Every  time.Duration
	Window DayWindow
}

const (
	// DefaultAuditEvery is once a day: a cutover is decided by an audit of today.
	DefaultAuditEvery = 24 * time.Hour
	// auditAfterMove is how long the stores have to have been sure before the first audit of an epoch: a pod
	// that is being set up is moved through its stages, and each move would end an audit.
	auditAfterMove = 10 * time.Minute
	// auditRetry is the pause after a failure; it doubles with each, up to auditRetryMost.
	auditRetry, auditRetryMost = time.Minute, time.Hour
)

// Due tells whether an audit should begin, or go on, at now: a local time, for the window. sure is how long the pod has
// been in its stage and epoch with nothing left to be done. It is pure.
func (s AuditSchedule) Due(row *AuditRow, p Pair, sure time.Duration, now time.Time) bool {
	switch {
	case s.Every <= 0, row.Lease > 0, !s.Window.Has(now), p.Unsure != "",
		p.Stage != backends.RedisOnly && !p.Stage.Dual(),
		row.Fails > 0 && row.Failed < retryAfter(row.Fails):
		return false
	case row.State != nil && row.State.fits(p.Stage, p.Epoch) == nil:
		return true // one that was interrupted
	case row.Last == nil || row.Last.Epoch != p.Epoch || row.Last.Stage != p.Stage:
		return sure >= min(auditAfterMove, s.Every)
	default:
		return row.LastBegun >= s.Every
	}
}

// retryAfter is the pause after so many failures.
func retryAfter(fails int) time.Duration {
	d := auditRetry
	for range fails - 1 {
		if d *= 2; d >= auditRetryMost {
			return auditRetryMost
		}
	}
	return d
}
