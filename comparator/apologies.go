package comparator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// ErrNoApology: no apology has that id.
var ErrNoApology = errors.New("no apology of this pod has that id; 'crossfade apologies <pod> --state all' lists them")

// ApologyBook keeps a pod's apologies, of both stores, and who has seen to them. Its adapters are those of
// Store.
type ApologyBook interface {
	// FileApologies files what a store has: a promise (hold and key) that is there already is the same one;
	// it keeps the larger quantity, the earlier moment, and the reason of that. The same again changes
	// nothing. On an error some may be filed.
	FileApologies(ctx context.Context, pod backends.Pod, from backends.Side, as []backends.Apology) error
	// ListApologies answers at most q.Limit (or MaxList), oldest first, and of one moment the lowest id first.
	ListApologies(ctx context.Context, q ApologyQuery) ([]ApologyRecord, error)
	// SumApologies counts all.
	SumApologies(ctx context.Context, pod backends.Pod) (ApologySum, error)
	// AckApology acknowledges one: all units that it has at that moment. One that is acknowledged already is
	// left as it is. Errors: ErrNoApology, a *backends.FieldError; any other leaves open whether it was, and
	// the same again does it once.
	AckApology(ctx context.Context, pod backends.Pod, id string, a ApologyAck) (rec *ApologyRecord, changed bool, err error)
}

// ApologyRecord is one promise without stock behind it.
type ApologyRecord struct {
	ID string `json:"id"` // see ApologyID
	backends.Apology
	// Redis and MySQL tell which stores filed it: after a kill it may be both.
	Redis bool `json:"redis"`
	MySQL bool `json:"mysql"`
	// Acked is how many units AckedBy has acknowledged.
	Acked   int64     `json:"acked"`
	AckedBy string    `json:"acked_by,omitempty"`
	AckedAt time.Time `json:"acked_at,omitzero"`
	Why     string    `json:"why,omitempty"`
}

// Open tells whether there are units that nobody has acknowledged.
func (r *ApologyRecord) Open() bool { return r.Quantity > r.Acked }

// ApologyAck says who acknowledges, and why.
type ApologyAck struct {
	By  string
	Why string // 1 to MaxWhy bytes
	At  time.Time
}

// Check gives a *backends.FieldError for what is missing or too long.
func (a ApologyAck) Check() error {
	if err := backends.CheckID("by", a.By); err != nil {
		return err
	}
	return CheckWhy(a.Why)
}

// ApologyQuery says which to list.
type ApologyQuery struct {
	Pod backends.Pod
	// Open and Acked say which; both or none means all.
	Open, Acked bool
	After       *ApologyCursor
	Limit       int // 0 or more than MaxList means MaxList
}

// Matches tells whether r, of that pod, is among what q asks for, whatever its limit.
func (q *ApologyQuery) Matches(r *ApologyRecord) bool {
	if q.Open != q.Acked && q.Open != r.Open() {
		return false
	}
	return q.After == nil || r.At > q.After.At || r.At == q.After.At && r.ID > q.After.ID
}

// ApologyCursor is the last one of a page.
type ApologyCursor struct {
	At backends.Instant
	ID string
}

// String is the form that ParseApologyCursor reads.
func (c *ApologyCursor) String() string { return fmt.Sprintf("%d-%s", c.At, c.ID) }

// ParseApologyCursor reads a cursor; "" is none.
func ParseApologyCursor(s string) (*ApologyCursor, error) {
	if s == "" {
		return nil, nil
	}
	at, id, _ := strings.Cut(s, "-")
	ms, err := strconv.ParseInt(at, 10, 64)
	if err != nil || CheckFindingID(id) != nil {
		return nil, &backends.FieldError{Field: "after", Value: fmt.Sprintf("%.80q", s), Bound: "the next of the page before", Next: "leave it out for the first page"}
	}
	return &ApologyCursor{At: backends.Instant(ms), ID: id}, nil
}

// ApologySum counts a pod's apologies.
type ApologySum struct {
	Open       int64 `json:"open"`
	OpenUnits  int64 `json:"open_units"` // those that nobody has acknowledged
	Acked      int64 `json:"acked"`
	AckedUnits int64 `json:"acked_units"`
}

// ApologyID is the same for the same promise, whichever store files it: a hold and a key. It is 32
// hexadecimal digits.
func ApologyID(pod backends.Pod, hold backends.HoldID, key backends.Key) string {
	return hashID(string(pod), "apology", string(hold), string(key.Shop), string(key.Item), string(key.Location))
}

// Join files a in r: the account that every ApologyBook keeps. It answers false when nothing changes.
func (r *ApologyRecord) Join(from backends.Side, a *backends.Apology) bool {
	was := *r
	r.Quantity = max(r.Quantity, a.Quantity)
	if a.At < r.At {
		r.At, r.Reason = a.At, a.Reason
	}
	r.Redis, r.MySQL = r.Redis || from == backends.SideRedis, r.MySQL || from == backends.SideMySQL
	return *r != was
}

// NewApologyRecord is the record of one that is filed for the first time.
func NewApologyRecord(pod backends.Pod, from backends.Side, a *backends.Apology) ApologyRecord {
	return ApologyRecord{ID: ApologyID(pod, a.Hold, a.Key), Apology: *a, Redis: from == backends.SideRedis, MySQL: from == backends.SideMySQL}
}

// Apply acknowledges all units of r; false when that had been done.
func (a ApologyAck) Apply(r *ApologyRecord) (bool, error) {
	if err := a.Check(); err != nil || !r.Open() {
		return false, err
	}
	r.Acked, r.AckedBy, r.Why, r.AckedAt = r.Quantity, a.By, a.Why, stamp(a.At)
	return true, nil
}

// ReadApologies reads a store's apologies from a cursor on, page by page, and hands each page over. It
// answers where it stopped: the cursor of the last whole page that was taken.
func ReadApologies(ctx context.Context, s backends.Inspector, cursor string, take func([]backends.Apology) error) (string, error) {
	for {
		as, next, err := s.Apologies(ctx, cursor, apologyPage)
		if err != nil {
			return cursor, err
		}
		if err := take(as); err != nil {
			return cursor, err
		}
		if next == "" {
			return cursor, nil
		}
		cursor = next
	}
}

// apologyPage is how many apologies are read and filed at a time.
const apologyPage = 500
