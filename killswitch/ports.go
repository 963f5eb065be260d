package killswitch

import (
	"context"
	"errors"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds of a control store.
const (
	// MaxPods bounds how many pods one control store keeps, and so what a watcher can have pending.
	MaxPods = 10_000
	// MaxAcks bounds the proxies whose acknowledgements are kept for a pod; the oldest go first.
	MaxAcks = 256
	// MaxHistoryPage bounds what one call of History returns.
	MaxHistoryPage = 1000
)

// Errors of the port. Test with errors.Is.
var (
	// ErrConflict: the record is not at the revision that was expected; nothing was changed.
	ErrConflict = errors.New("the pod's record was changed by someone else meanwhile")
	// ErrControlDamaged: a record in the control store is not what the control store itself writes.
	ErrControlDamaged = errors.New("a record in the control store is damaged")
	// ErrControlUnavailable: the control store could not be reached, or not in time.
	ErrControlUnavailable = errors.New("the control store is unavailable")
)

// Revision orders the versions of one pod's record. Zero means that there is none.
type Revision int64

// Record is a pod's state with its revision.
type Record struct {
	State    PodState
	Revision Revision
}

// Ack is a proxy's word that it serves a pod under an epoch.
type Ack struct {
	Proxy string         `json:"proxy"`
	Pod   backends.Pod   `json:"pod"`
	Epoch uint64         `json:"epoch"`
	Stage backends.Stage `json:"stage"`
	// At is by the acknowledging proxy's clock: for people, who see that a proxy has gone silent.
	At time.Time `json:"at"`
}

// ControlStore keeps the pods' records. Every method may be called by many goroutines and processes,
// and honours its context. States that go in and come out share nothing with the caller's.
type ControlStore interface {
	// Get answers the zero state and revision 0 for a pod without a record.
	Get(ctx context.Context, pod backends.Pod) (PodState, Revision, error)
	// CompareAndSet replaces the record if it is at rev (0: if there is none) and answers the new
	// revision, which is higher than every earlier one; else ErrConflict. An error that is not
	// ErrConflict leaves open whether it was replaced.
	CompareAndSet(ctx context.Context, pod backends.Pod, rev Revision, next PodState) (Revision, error)
	// List answers all records in the order of their pods, at most MaxPods. One that cannot be read
	// fails the whole call: an incomplete list would be taken for a complete one.
	List(ctx context.Context) ([]Record, error)
	// Watch reports every pod that has a record once, and then each whose record has changed since it
	// was last reported. Changes that come faster than they are received are one report. The channel is
	// closed when ctx is done. Trouble in reading is not reported here: Get tells.
	Watch(ctx context.Context) (<-chan backends.Pod, error)
	// AppendHistory appends those changes whose Seq is above the newest there, in their order.
	AppendHistory(ctx context.Context, pod backends.Pod, changes ...Change) error
	// History answers the newest limit changes (at most MaxHistoryPage) of those whose Seq is below before, or of all
	// when before is 0, oldest first.
	History(ctx context.Context, pod backends.Pod, before uint64, limit int) ([]Change, error)
	// Acknowledge keeps the latest word of each proxy for each pod.
	Acknowledge(ctx context.Context, a Ack) error
	// Acks answers them in the order of proxies.
	Acks(ctx context.Context, pod backends.Pod) ([]Ack, error)
	// Close frees what the store holds; twice is once. It does not end watches: their contexts do.
	Close() error
}

// StorePort is what a switch needs of a store.
type StorePort interface {
	backends.Fencer
	// OutboxStats counts.
	OutboxStats(ctx context.Context) (backends.OutboxStats, error)
}

// Stores are the two stores of a pod.
type Stores struct {
	Redis StorePort
	MySQL StorePort
}

// Of gives the store of a side; nil for an unknown one.
func (s Stores) Of(side backends.Side) StorePort {
	switch side {
	case backends.SideRedis:
		return s.Redis
	case backends.SideMySQL:
		return s.MySQL
	default:
		return nil
	}
}

// Progress is how far a backfill has come.
type Progress struct {
	Phase   string
	Levels  int
	Holds   int
	Voided  int
	Waiting int64 // entries in the outbox
}

// Carrier brings states from one store of a pod to the other. dualwrite does it, by way of cmd.
type Carrier interface {
	// Drain applies the outbox of the truth of under.Stage to the other store, under under.Epoch,
	// until it is empty: nil means that it was seen empty. The truth's fence is closed meanwhile, and
	// the other's still at under.
	Drain(ctx context.Context, pod backends.Pod, under backends.Fence) error
	// Settle works off MySQL's outbox from before Redis became the truth again (DESIGN §6): known
	// holds get Redis's state, unknown ones are voided, claims follow the claim rule. Both fences
	// are at under. Again is safe.
	Settle(ctx context.Context, pod backends.Pod, under backends.Fence) error
	// Backfill makes the shadow of under.Stage complete, under traffic, and clears the truth's Lost
	// flag when it begins. Again is safe. progress may be called often, and must not block.
	Backfill(ctx context.Context, pod backends.Pod, under backends.Fence, progress func(Progress)) error
}

// Clock is time as this package sees it. Only differences of Now within one process decide anything.
type Clock interface {
	Now() time.Time
	// Tick sends at most one pending tick about every d until stop is called.
	Tick(d time.Duration) (c <-chan time.Time, stop func())
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now reads it.
func (SystemClock) Now() time.Time { return time.Now() }

// Tick implements Clock.
func (SystemClock) Tick(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// pause waits for d or for the context.
func pause(ctx context.Context, c Clock, d time.Duration) error {
	ch, stop := c.Tick(d)
	defer stop()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
