package comparator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Sentinels of the ports.
var (
	// ErrNoFinding: no finding has that id.
	ErrNoFinding = errors.New("no finding has that id; 'crossfade report' lists them")
	// ErrSpoolFull: the spool has reached its bound; nothing was written.
	ErrSpoolFull = errors.New("the spool is full; make the findings' store reachable, or enlarge the spool")
	// ErrSpoolClosed: the spool was closed.
	ErrSpoolClosed = errors.New("the spool is closed")
)

// LifeError: a finding cannot be moved to that life from where it is.
type LifeError struct {
	ID       string
	From, To Life
}

func (e *LifeError) Error() string {
	return fmt.Sprintf("finding %s is %s and cannot become %s", e.ID, e.From, e.To)
}

// Store keeps findings and coverage of pods. Adapters fill it; [Merge] is the account that it keeps.
type Store interface {
	// SaveFindings keeps findings, joined by Merge with those of the same pod and id. Saving the
	// same again changes nothing. All or none of the call; an error leaves open which.
	SaveFindings(ctx context.Context, fs []Finding) error
	// SaveCoverage keeps rows. Of two with the same pod, proxy, run, epoch and minute the one with
	// the higher Rev stays.
	SaveCoverage(ctx context.Context, rows []CoverageRow) error
	// ListFindings answers at most q.Limit (or MaxList) findings, last seen first.
	ListFindings(ctx context.Context, q FindingQuery) ([]Finding, error)
	// Finding answers one, or ErrNoFinding.
	Finding(ctx context.Context, pod backends.Pod, id string) (*Finding, error)
	// Summary counts findings by class and life, of those last seen at or after since.
	Summary(ctx context.Context, pod backends.Pod, since time.Time) ([]ClassSummary, error)
	// Coverage answers one row per proxy, run and epoch, summed over the minutes that end after since.
	Coverage(ctx context.Context, pod backends.Pod, since time.Time) ([]CoverageRow, error)
	// SetLife moves a finding by hand, or answers ErrNoFinding or a *LifeError.
	SetLife(ctx context.Context, pod backends.Pod, id string, c LifeChange) (*Finding, error)
	// Prune removes at most limit coverage rows, and at most limit findings that are not open,
	// older than before. It answers how many it removed; 0 means that there is nothing left to do.
	Prune(ctx context.Context, pod backends.Pod, before time.Time, limit int) (int, error)
}

// FindingQuery says which findings to list. Empty fields do not restrict.
type FindingQuery struct {
	Pod     backends.Pod
	Classes []Class
	Lives   []Life
	Since   time.Time // last seen at or after
	Limit   int       // 0 or more than MaxList means MaxList
}

// ClassSummary sums up the findings of one class in one life.
type ClassSummary struct {
	Class    Class     `json:"class"`
	Life     Life      `json:"life"`
	Findings int64     `json:"findings"`
	Units    int64     `json:"units"`
	Sights   int64     `json:"sights"`
	LastSeen time.Time `json:"last_seen"`
}

// LifeChange is a change of a finding's life by hand or by a repair.
type LifeChange struct {
	To  Life
	By  string // who; required
	Why string // required
	At  time.Time
}

// Apply moves f, or answers a *LifeError, or a *backends.FieldError when By or Why is missing.
func (c LifeChange) Apply(f Finding) (Finding, error) {
	if c.By == "" || c.Why == "" {
		return f, &backends.FieldError{Field: "by and why", Value: "empty", Bound: "who changes a finding, and why", Next: "give both"}
	}
	if !f.Life.MayBecome(c.To) {
		return f, &LifeError{ID: f.ID, From: f.Life, To: c.To}
	}
	f.Life, f.By, f.Why = c.To, clip(c.By, backends.MaxIDLen), clip(c.Why, MaxText)
	return f, nil
}

// Batch is what is saved together.
type Batch struct {
	Findings []Finding     `json:"findings,omitempty"`
	Coverage []CoverageRow `json:"coverage,omitempty"`
}

// Spool keeps batches on local disk while the Store is away. Its methods may be called by many
// goroutines.
type Spool interface {
	// Append keeps b durably, all of it or none: when it returns nil, b survives a crash of the
	// machine. ErrSpoolFull when the bound is reached.
	Append(b Batch) error
	// Replay hands everything kept to save, in the order of Append, in batches, and forgets it when
	// save has taken all. A crash in between replays some of it again. save's error ends it.
	Replay(ctx context.Context, save func(context.Context, Batch) error) error
	// Size is how many bytes wait; 0 means that there is nothing to replay.
	Size() int64
}
