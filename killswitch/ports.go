package killswitch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	// MaxMembers bounds the proxies that one control store registers.
	MaxMembers = 1000
	// MaxAddr bounds a member's address, in bytes: a host name has 253 at most.
	MaxAddr = 300
)

// Bounds of a lease. A short one tells soon that a proxy is gone; a long one outlasts an election of the control store.
const (
	MinLease     = time.Second
	DefaultLease = 5 * time.Second
	MaxLease     = 60 * time.Second
)

// Errors of the port. Test with errors.Is.
var (
	// ErrConflict: the record is not at the revision that was expected; nothing was changed.
	ErrConflict = errors.New("the pod's record was changed by someone else meanwhile")
	// ErrControlDamaged: a record in the control store is not what the control store itself writes.
	ErrControlDamaged = errors.New("a record in the control store is damaged")
	// ErrReplaced: another process has registered under the same proxy's name since.
	ErrReplaced = errors.New("another process has registered under this proxy's name")
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

// Member is a proxy that has registered.
type Member struct {
	Proxy string `json:"proxy"`
	// Addr is host:port of its admin service; may be empty.
	Addr string `json:"addr"`
	// Pods that it serves, each once, in their order.
	Pods []backends.Pod `json:"pods"`
	// Since is when this process registered first, by its own clock: for people.
	Since time.Time `json:"since"`
	// Process tells one start of the proxy from another; may be empty.
	Process string `json:"process,omitempty"`
}

// Membership is a registration that renews itself, several times within each lease, until it is left or lost.
// A lease that runs out is not final: the registration comes back with the first renewal that succeeds.
type Membership interface {
	// ValidUntil is until when the control store keeps the registration at least, by this process's monotonic
	// clock: a lease after the sending of the last renewal that succeeded. The zero time: it was left or lost.
	ValidUntil() time.Time
	// Lost is closed when another process has registered under the name. A restarted proxy cannot be told from
	// a second one of the same name, so the newer wins, and the older neither renews nor comes back. It learns
	// of it at its next renewal.
	Lost() <-chan struct{}
	// Leave ends the renewals and takes the registration away. Twice is once; what could not be taken away
	// runs out.
	Leave(ctx context.Context) error
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
	// Acknowledge keeps the latest word of each proxy for each pod, of at most MaxAcks. Where proxies are on several
	// machines, that of a proxy that has joined by this handle goes when its registration does, and is refused
	// (ErrReplaced) when that was lost; any other stays.
	Acknowledge(ctx context.Context, a Ack) error
	// Acks answers them in the order of proxies.
	Acks(ctx context.Context, pod backends.Pod) ([]Ack, error)
	// Join registers a proxy for ttl (MinLease to MaxLease) and keeps it registered. Whoever was registered under
	// its name before is replaced. The context is for the first registration alone.
	Join(ctx context.Context, m Member, ttl time.Duration) (Membership, error)
	// Members answers those whose lease has not run out, in the order of proxies. One whose process has died is
	// among them for one lease at most, and somewhat longer where the control store has changed its leader.
	Members(ctx context.Context) ([]Member, error)
	// Close frees what the store holds; twice is once. It does not end watches: their contexts do. Registrations
	// that were not left are no longer renewed, as if the process had died.
	Close() error
}

// MaxDocument bounds a document, in bytes: a rollout of a thousand pods has some 150 kB.
const MaxDocument = 512 << 10

// Documents keeps small documents by name with compare-and-set, for what is not of one pod. Names are 1 to 64 printable ASCII
// bytes. All control stores do; it is a port of its own, since a kill and a switch need none.
type Documents interface {
	// Document answers nothing at revision 0 for one that is not there.
	Document(ctx context.Context, name string) ([]byte, Revision, error)
	// SetDocument replaces it by body, which is JSON and comes back as the same value, if it is at rev (0: if it is not there) and answers the new revision; else
	// ErrConflict. An error that is not ErrConflict leaves open whether it was replaced.
	SetDocument(ctx context.Context, name string, rev Revision, body []byte) (Revision, error)
}

// CheckDocument tells whether a document can be kept.
func CheckDocument(name string, body []byte) error {
	if err := backends.CheckID("document", name); err != nil {
		return err
	}
	if len(body) > MaxDocument {
		return &backends.FieldError{Field: "document " + name, Value: fmt.Sprintf("%d bytes", len(body)), Bound: fmt.Sprintf("at most %d", MaxDocument), Next: "keep less in it"}
	}
	return nil
}

// Check tells whether a member can be registered.
func (m Member) Check() error {
	if err := backends.CheckID("proxy", m.Proxy); err != nil {
		return err
	}
	if len(m.Addr) > MaxAddr {
		return &backends.FieldError{Field: "addr of proxy " + m.Proxy, Value: fmt.Sprintf("%d bytes", len(m.Addr)), Bound: fmt.Sprintf("at most %d", MaxAddr), Next: "give host:port of its admin service, or nothing"}
	}
	if len(m.Pods) > MaxPods {
		return &backends.FieldError{Field: "pods of proxy " + m.Proxy, Value: strconv.Itoa(len(m.Pods)), Bound: fmt.Sprintf("at most %d", MaxPods), Next: "spread them over several proxies"}
	}
	for i, p := range m.Pods {
		if err := backends.CheckID("pod of proxy "+m.Proxy, string(p)); err != nil {
			return err
		}
		if i > 0 && m.Pods[i-1] >= p {
			return &backends.FieldError{Field: "pods of proxy " + m.Proxy, Value: fmt.Sprintf("%q after %q", p, m.Pods[i-1]), Bound: "each once, in their order", Next: "sort them"}
		}
	}
	return nil
}

// CheckLease tells whether a lease has a length that a control store keeps.
func CheckLease(field string, ttl time.Duration) error {
	if ttl < MinLease || ttl > MaxLease {
		return &backends.FieldError{Field: field, Value: ttl.String(), Bound: fmt.Sprintf("%s to %s", MinLease, MaxLease), Next: "leave it out for " + DefaultLease.String()}
	}
	return nil
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
