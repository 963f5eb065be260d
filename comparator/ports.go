package comparator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Sentinels of the ports.
var (
	// ErrNoFinding: no finding has that id.
	ErrNoFinding = errors.New("no finding of this pod has that id; 'crossfade findings <pod> --state all' lists them")
	// ErrSpoolFull: the spool has reached its bound; nothing was written.
	ErrSpoolFull = errors.New("the spool is full; make the findings' store reachable, or enlarge the spool")
	// ErrSpoolClosed: the spool was closed.
	ErrSpoolClosed = errors.New("the spool is closed")
)

// Store keeps findings and coverage of pods. Adapters fill it; [Merge] is the account that it keeps.
type Store interface {
	// SaveFindings keeps findings, joined by Merge with those of the same pod and id. Saving the
	// same again changes nothing. All or none of the call; an error leaves open which.
	SaveFindings(ctx context.Context, fs []Finding) error
	// SaveCoverage keeps rows. Of two with the same pod, proxy, run, epoch and minute the one with
	// the higher Rev stays.
	SaveCoverage(ctx context.Context, rows []CoverageRow) error
	// ListFindings answers at most q.Limit (or MaxList) findings, last seen first, and of those last seen
	// at the same time the highest id first. A finding that is seen again between two pages moves to the
	// front.
	ListFindings(ctx context.Context, q FindingQuery) ([]Finding, error)
	// Finding answers one, or ErrNoFinding.
	Finding(ctx context.Context, pod backends.Pod, id string) (*Finding, error)
	// Summary counts findings by class and life, of those last seen at or after since.
	Summary(ctx context.Context, pod backends.Pod, since time.Time) ([]ClassSummary, error)
	// ExcuseUse sums up the findings last seen at or after since by the excuse that covered their last
	// sight.
	ExcuseUse(ctx context.Context, pod backends.Pod, since time.Time) ([]ExcuseUse, error)
	// Coverage answers one row per proxy, run and epoch, summed over the minutes that end after since.
	Coverage(ctx context.Context, pod backends.Pod, since time.Time) ([]CoverageRow, error)
	// SaveTallies keeps rows. Of two with the same pod, proxy, run, epoch, slot and name the one with the
	// higher Rev stays.
	SaveTallies(ctx context.Context, rows []TallyRow) error
	// Tallies hands the rows of the slots that end after since to each, the newest slot first, at most
	// MaxTallies of them. each must not keep the row's cells, and its error ends it.
	Tallies(ctx context.Context, pod backends.Pod, since time.Time, each func(*TallyRow) error) error
	// Trend counts coverage and confirmed findings since then in steps of equal length, see TrendStep.
	Trend(ctx context.Context, pod backends.Pod, since, until time.Time) (Trend, error)
	// SetLife moves findings by hand, by LifeChange.Apply: all of them or none. It answers them in the
	// order of ids, each once. Errors: ErrNoFinding, a *LifeError, a *backends.FieldError (CheckFindingIDs);
	// any other leaves open whether all or none was moved, and the same again moves them once.
	SetLife(ctx context.Context, pod backends.Pod, ids []string, c LifeChange) ([]Moved, error)
	// Prune removes at most limit coverage rows, limit tallies, and limit findings that are not open,
	// older than before. It answers how many it removed; 0 means that there is nothing left to do.
	Prune(ctx context.Context, pod backends.Pod, before time.Time, limit int) (int, error)
}

// FindingQuery says which findings to list. Empty fields do not restrict.
type FindingQuery struct {
	Pod     backends.Pod
	Classes []Class
	Lives   []Life
	// Shop and Item: at least one key that the finding lists (MaxFindingUnits at most) is of both.
	Shop  backends.Shop
	Item  backends.Item
	Since time.Time // last seen at or after
	After *FindingCursor
	Limit int // 0 or more than MaxList means MaxList
}

// Matches tells whether f is among what q asks for, whatever its limit.
func (q *FindingQuery) Matches(f *Finding) bool {
	if f.Pod != q.Pod || f.LastSeen.Before(q.Since) || q.After != nil && !q.After.before(f) ||
		len(q.Classes) > 0 && !slices.Contains(q.Classes, f.Class) || len(q.Lives) > 0 && !slices.Contains(q.Lives, f.Life) {
		return false
	}
	if q.Item == "" {
		return q.Shop == "" || f.Shop == q.Shop || slices.ContainsFunc(f.Units, func(u backends.Units) bool { return u.Key.Shop == q.Shop })
	}
	return slices.ContainsFunc(f.Units, func(u backends.Units) bool { return u.Key.Item == q.Item && (q.Shop == "" || u.Key.Shop == q.Shop) })
}

// FindingCursor is the last finding of a page: the next one begins behind it.
type FindingCursor struct {
	LastSeen time.Time
	ID       string
}

// CursorOf is the cursor of a page that ends with f.
func CursorOf(f *Finding) *FindingCursor { return &FindingCursor{LastSeen: f.LastSeen, ID: f.ID} }

// before tells whether f comes behind the cursor in a list.
func (c *FindingCursor) before(f *Finding) bool {
	if d := f.LastSeen.Compare(c.LastSeen); d != 0 {
		return d < 0
	}
	return f.ID < c.ID
}

// String is the form that ParseFindingCursor reads.
func (c *FindingCursor) String() string { return fmt.Sprintf("%d-%s", c.LastSeen.UnixMicro(), c.ID) }

// ParseFindingCursor reads a cursor; "" is none.
func ParseFindingCursor(s string) (*FindingCursor, error) {
	if s == "" {
		return nil, nil
	}
	at, id, _ := strings.Cut(s, "-")
	us, err := strconv.ParseInt(at, 10, 64)
	if err != nil || CheckFindingID(id) != nil {
		return nil, &backends.FieldError{Field: "after", Value: fmt.Sprintf("%.80q", s), Bound: "the next of the page before", Next: "leave it out for the first page"}
	}
	return &FindingCursor{LastSeen: time.UnixMicro(us).UTC(), ID: id}, nil
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

// Batch is what is saved together.
type Batch struct {
	Findings []Finding     `json:"findings,omitempty"`
	Coverage []CoverageRow `json:"coverage,omitempty"`
	Tallies  []TallyRow    `json:"tallies,omitempty"`
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
