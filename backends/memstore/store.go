package memstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Options of a store. The zero value of each field but Side gives its default.
type Options struct {
	// Side says which role rules apply; a store without a side admits nothing.
	Side backends.Side
	// Clock is read at each operation, under the store's lock; nil is the machine's clock.
	Clock func() backends.Instant
	// OutboxMax bounds the outbox, in entries; 0 is backends.DefaultOutboxMax.
	OutboxMax int
	// Retain is how long ended holds and operation ids are kept; 0 is backends.DefaultRetain.
	Retain time.Duration
}

// maintainBatch bounds what one round of Maintain removes, so that it holds the lock shortly.
const maintainBatch = 1000

// Store is a handle on the data of one pod. Handles share their data; see Handle.
type Store struct {
	d      *data
	closed atomic.Bool
}

var _ backends.Store = (*Store)(nil)

// data is the store itself. Everything below is guarded by mu.
type data struct {
	mu        sync.Mutex
	opt       Options
	fence     backends.Fence
	doubtful  bool // the fence was raised at another run of the server: see Promote
	levels    map[backends.Key]*level
	levelList []*level // in the order of creation; levels are never removed
	holds     map[backends.HoldID]*record
	holdList  []*record // in the order of creation, so by record.place
	places    uint64    // given out to holds so far
	ops       map[backends.OpID]opRecord
	opList    []backends.OpID // in the order of their instants
	fresh     uint64          // operation ids made by ReemitLevels so far
	apologies []backends.Apology
	outbox    outbox
}

// record is a hold and what this store alone knows of it.
type record struct {
	place   uint64                // its place in holdList's order
	hold    *backends.Hold        // never changed in place
	touched backends.Instant      // by this store's clock
	own     *backends.OwnDecision // nil where it never decided
}

// opRecord is what is remembered of an operation id.
type opRecord struct {
	at    backends.Instant
	value int64 // answer of a count: Sellable after the operation
	delta int64 // what it moved OnHand by
	void  bool  // nobody decided it, and nobody ever will
}

// same tells whether two records say the same of an operation.
func (r opRecord) same(q opRecord) bool {
	return r.value == q.value && r.delta == q.delta && r.void == q.void
}

// New makes an empty store with a closed fence.
func New(opt Options) *Store {
	if opt.Clock == nil {
		opt.Clock = func() backends.Instant { return backends.Instant(time.Now().UnixMilli()) }
	}
	if opt.OutboxMax <= 0 {
		opt.OutboxMax = backends.DefaultOutboxMax
	}
	if opt.Retain <= 0 {
		opt.Retain = backends.DefaultRetain
	}
	return &Store{d: &data{
		opt:    opt,
		levels: map[backends.Key]*level{},
		holds:  map[backends.HoldID]*record{},
		ops:    map[backends.OpID]opRecord{},
	}}
}

// Handle gives another handle on the same data, as a second proxy would have. Closing one does not
// close the other.
func (s *Store) Handle() *Store { return &Store{d: s.d} }

// Identity is the data's address in memory: handles that share it are one store.
func (s *Store) Identity(ctx context.Context) (string, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return "", err
	}
	defer d.mu.Unlock()
	return fmt.Sprintf("memory at %p", d), nil
}

// lock is how every method begins: nothing is done under a context that is over, nor on a closed
// handle. On success the caller unlocks d.mu.
func (s *Store) lock(ctx context.Context) (*data, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", backends.ErrUnavailable, err)
	}
	if s.closed.Load() {
		return nil, fmt.Errorf("%w: the handle is closed", backends.ErrUnavailable)
	}
	s.d.mu.Lock()
	return s.d, nil
}

// lockTruth is lock for a write of the truth.
func (s *Store) lockTruth(ctx context.Context, t backends.Token) (*data, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.admitBy(t, backends.Fence.Admits); err != nil {
		defer d.mu.Unlock()
		return nil, err
	}
	return d, nil
}

// admitBy asks one of the fence's rules.
func (d *data) admitBy(t backends.Token, admits rule) error {
	switch {
	case d.doubtful:
		return errRestarted
	case !admits(d.fence, t, d.opt.Side):
		return d.fenced(t)
	default:
		return nil
	}
}

func (d *data) fenced(t backends.Token) error {
	return &backends.FencedError{Side: d.opt.Side, Have: d.fence, Want: t}
}

// Side tells which role rules apply.
func (s *Store) Side() backends.Side { return s.d.opt.Side }

// Close ends the handle; the data stay for other handles.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

// Setup has nothing to create.
func (s *Store) Setup(ctx context.Context) error { return s.Ping(ctx) }

// Ping answers nil unless the handle is closed.
func (s *Store) Ping(ctx context.Context) error {
	d, err := s.lock(ctx)
	if err != nil {
		return err
	}
	d.mu.Unlock()
	return nil
}

// Now reads the clock.
func (s *Store) Now(ctx context.Context) (backends.Instant, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	return d.opt.Clock(), nil
}

// Fence reads the fence; after Promote it is shown as closed.
func (s *Store) Fence(ctx context.Context) (backends.Fence, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return backends.Fence{}, err
	}
	defer d.mu.Unlock()
	return d.shown(), nil
}

// Raise moves the fence upwards only.
func (s *Store) Raise(ctx context.Context, f backends.Fence, ifEpoch uint64) (backends.Fence, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return backends.Fence{}, err
	}
	defer d.mu.Unlock()
	if d.doubtful && f.Epoch == d.fence.Epoch {
		return d.shown(), errRestarted
	}
	if f == d.fence {
		return d.fence, nil
	}
	if !f.Outranks(d.fence) || ifEpoch != 0 && ifEpoch != d.fence.Epoch {
		return d.shown(), d.fenced(backends.Token{Epoch: f.Epoch})
	}
	if d.doubtful && ifEpoch != 0 {
		return d.shown(), errRestarted
	}
	d.fence, d.doubtful = f, false
	return d.fence, nil
}

// Admitted answers whether the fence admits t in the role asked about.
func (s *Store) Admitted(ctx context.Context, t backends.Token, asMirror bool) error {
	d, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer d.mu.Unlock()
	if asMirror {
		return d.admitBy(t, backends.Fence.AdmitsMirror)
	}
	return d.admitBy(t, backends.Fence.Admits)
}

// Maintain removes ended holds and operation ids older than retain. There is no pool to refill,
// and debt is paid by the counter itself.
func (s *Store) Maintain(ctx context.Context, t backends.Token) (bool, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return false, err
	}
	defer d.mu.Unlock()
	either := func(f backends.Fence, t backends.Token, side backends.Side) bool {
		return f.Admits(t, side) || f.AdmitsMirror(t, side)
	}
	if err := d.admitBy(t, either); err != nil {
		return false, err
	}
	oldest := d.opt.Clock().Add(-d.opt.Retain)
	more := d.purgeHolds(oldest)
	return d.purgeOps(oldest) || more, nil
}

func (d *data) purgeHolds(oldest backends.Instant) (more bool) {
	kept := d.holdList[:0]
	removed := 0
	for _, rec := range d.holdList {
		switch old := rec.hold.State.Ended() && rec.touched < oldest; {
		case !old:
			kept = append(kept, rec)
		case removed == maintainBatch:
			more = true
			kept = append(kept, rec)
		default:
			removed++
			delete(d.holds, rec.hold.ID)
		}
	}
	clear(d.holdList[len(kept):])
	d.holdList = kept
	return more
}

func (d *data) purgeOps(oldest backends.Instant) (more bool) {
	n := 0
	for n < len(d.opList) && n < maintainBatch && d.ops[d.opList[n]].at < oldest {
		delete(d.ops, d.opList[n])
		n++
	}
	d.opList = append(d.opList[:0], d.opList[n:]...)
	return len(d.opList) > 0 && d.ops[d.opList[0]].at < oldest
}
