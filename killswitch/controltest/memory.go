package controltest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Memory is a control store in memory, for tests and simulations within one process.
type Memory struct {
	mu      sync.Mutex
	records map[backends.Pod]memRecord
	docs    map[string]memRecord
	history map[backends.Pod][]killswitch.Change
	acks    map[backends.Pod]map[string]killswitch.Ack
	members map[string]memMember
	joins   uint64
	changed chan struct{} // closed and replaced at every change
}

type memMember struct {
	killswitch.Member
	join  uint64
	until time.Time
}

// memRecord keeps the record as text, so that nothing is shared and all that is not carried is lost.
type memRecord struct {
	rev  killswitch.Revision
	body []byte
}

var (
	_ killswitch.ControlStore = (*Memory)(nil)
	_ killswitch.Documents    = (*Memory)(nil)
)

// NewMemory makes an empty one.
func NewMemory() *Memory {
	return &Memory{
		records: map[backends.Pod]memRecord{}, docs: map[string]memRecord{}, history: map[backends.Pod][]killswitch.Change{},
		acks: map[backends.Pod]map[string]killswitch.Ack{}, changed: make(chan struct{}),
		members: map[string]memMember{},
	}
}

// Handle is one process's way to a Memory: closing it ends that process's registrations only.
type Handle struct {
	*Memory
	own struct {
		sync.Mutex
		of []*killswitch.Registration
	}
}

var _ killswitch.ControlStore = (*Handle)(nil)

// Handle gives a new one.
func (m *Memory) Handle() *Handle { return &Handle{Memory: m} }

// Join implements killswitch.ControlStore.
func (h *Handle) Join(ctx context.Context, mb killswitch.Member, ttl time.Duration) (killswitch.Membership, error) {
	r, err := h.join(ctx, mb, ttl)
	if err != nil {
		return nil, err
	}
	h.own.Lock()
	defer h.own.Unlock()
	h.own.of = append(h.own.of, r)
	return r, nil
}

// Close implements killswitch.ControlStore.
func (h *Handle) Close() error {
	h.own.Lock()
	defer h.own.Unlock()
	for _, r := range h.own.of {
		r.Abandon()
	}
	return nil
}

// Join implements killswitch.ControlStore.
func (m *Memory) Join(ctx context.Context, mb killswitch.Member, ttl time.Duration) (killswitch.Membership, error) {
	return m.join(ctx, mb, ttl)
}

func (m *Memory) join(ctx context.Context, mb killswitch.Member, ttl time.Duration) (*killswitch.Registration, error) {
	if err := errors.Join(mb.Check(), killswitch.CheckLease("lease", ttl)); err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.joins++
	r := &memRegistrar{m: m, ttl: ttl, self: memMember{Member: mb, join: m.joins}}
	m.mu.Unlock()
	return killswitch.Register(ctx, killswitch.SystemClock{}, ttl, r)
}

// memRegistrar is one registration; a later one of the same name has a higher join.
type memRegistrar struct {
	m    *Memory
	ttl  time.Duration
	self memMember
}

// Renew implements killswitch.Registrar.
func (r *memRegistrar) Renew(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", killswitch.ErrControlUnavailable, err)
	}
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if r.m.members[r.self.Proxy].join > r.self.join {
		return killswitch.ErrReplaced
	}
	r.self.until = time.Now().Add(r.ttl)
	r.m.members[r.self.Proxy] = r.self
	return nil
}

// Remove implements killswitch.Registrar.
func (r *memRegistrar) Remove(context.Context) error {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if r.m.members[r.self.Proxy].join == r.self.join {
		r.self.until = time.Time{}
		r.m.members[r.self.Proxy] = r.self
	}
	return nil
}

// Members implements killswitch.ControlStore.
func (m *Memory) Members(ctx context.Context) ([]killswitch.Member, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", killswitch.ErrControlUnavailable, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []killswitch.Member
	for _, name := range slices.Sorted(maps.Keys(m.members)) {
		if one := m.members[name]; one.until.After(time.Now()) {
			mb := one.Member
			mb.Pods = slices.Clone(mb.Pods)
			out = append(out, mb)
		}
	}
	return out, nil
}

func (m *Memory) lock(ctx context.Context, pod backends.Pod) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", killswitch.ErrControlUnavailable, err)
	}
	if err := backends.CheckID("pod", string(pod)); err != nil {
		return err
	}
	m.mu.Lock()
	return nil
}

// Get implements killswitch.ControlStore.
func (m *Memory) Get(ctx context.Context, pod backends.Pod) (st killswitch.PodState, rev killswitch.Revision, err error) {
	if err := m.lock(ctx, pod); err != nil {
		return st, 0, err
	}
	defer m.mu.Unlock()
	r, ok := m.records[pod]
	if !ok {
		return st, 0, nil
	}
	return st, r.rev, json.Unmarshal(r.body, &st)
}

// CompareAndSet implements killswitch.ControlStore.
func (m *Memory) CompareAndSet(ctx context.Context, pod backends.Pod, rev killswitch.Revision, next killswitch.PodState) (killswitch.Revision, error) {
	if err := m.lock(ctx, pod); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	if m.records[pod].rev != rev {
		return 0, killswitch.ErrConflict
	}
	next.Pod = pod
	body, err := json.Marshal(next)
	if err != nil {
		return 0, err
	}
	m.records[pod] = memRecord{rev: rev + 1, body: body}
	close(m.changed)
	m.changed = make(chan struct{})
	return rev + 1, nil
}

// Document implements killswitch.Documents.
func (m *Memory) Document(ctx context.Context, name string) ([]byte, killswitch.Revision, error) {
	if err := m.lock(ctx, backends.Pod(name)); err != nil {
		return nil, 0, err
	}
	defer m.mu.Unlock()
	d := m.docs[name]
	return slices.Clone(d.body), d.rev, nil
}

// SetDocument implements killswitch.Documents.
func (m *Memory) SetDocument(ctx context.Context, name string, rev killswitch.Revision, body []byte) (killswitch.Revision, error) {
	if err := killswitch.CheckDocument(name, body); err != nil {
		return 0, err
	}
	if err := m.lock(ctx, backends.Pod(name)); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	if m.docs[name].rev != rev {
		return 0, killswitch.ErrConflict
	}
	m.docs[name] = memRecord{rev: rev + 1, body: slices.Clone(body)}
	return rev + 1, nil
}

// List implements killswitch.ControlStore.
func (m *Memory) List(ctx context.Context) ([]killswitch.Record, error) {
	m.mu.Lock()
	pods := make([]backends.Pod, 0, len(m.records))
	for p := range m.records {
		pods = append(pods, p)
	}
	m.mu.Unlock()
	slices.Sort(pods)
	out := make([]killswitch.Record, 0, len(pods))
	for _, p := range pods {
		st, rev, err := m.Get(ctx, p)
		if err != nil {
			return nil, err
		}
		out = append(out, killswitch.Record{State: st, Revision: rev})
	}
	return out, nil
}

// Watch implements killswitch.ControlStore.
func (m *Memory) Watch(ctx context.Context) (<-chan backends.Pod, error) {
	out := make(chan backends.Pod)
	go func() {
		defer close(out)
		sent := map[backends.Pod]killswitch.Revision{}
		for {
			pod, rev, changed := m.unsent(sent)
			var to chan<- backends.Pod
			if rev > 0 {
				to = out
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			case to <- pod:
				sent[pod] = rev
			}
		}
	}()
	return out, nil
}

// unsent finds a pod that has changed since it was sent; revision 0 when there is none.
func (m *Memory) unsent(sent map[backends.Pod]killswitch.Revision) (backends.Pod, killswitch.Revision, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, r := range m.records {
		if sent[p] != r.rev {
			return p, r.rev, m.changed
		}
	}
	return "", 0, m.changed
}

// AppendHistory implements killswitch.ControlStore.
func (m *Memory) AppendHistory(ctx context.Context, pod backends.Pod, changes ...killswitch.Change) error {
	if err := m.lock(ctx, pod); err != nil {
		return err
	}
	defer m.mu.Unlock()
	for _, c := range changes {
		h := m.history[pod]
		if len(h) == 0 || c.Seq > h[len(h)-1].Seq {
			m.history[pod] = append(h, c)
		}
	}
	return nil
}

// History implements killswitch.ControlStore.
func (m *Memory) History(ctx context.Context, pod backends.Pod, before uint64, limit int) ([]killswitch.Change, error) {
	if err := m.lock(ctx, pod); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	h := m.history[pod]
	if before > 0 {
		n, _ := slices.BinarySearchFunc(h, before, func(c killswitch.Change, seq uint64) int { return cmp.Compare(c.Seq, seq) })
		h = h[:n]
	}
	limit = max(0, min(limit, killswitch.MaxHistoryPage, len(h)))
	return slices.Clone(h[len(h)-limit:]), nil
}

// Acknowledge implements killswitch.ControlStore.
func (m *Memory) Acknowledge(ctx context.Context, a killswitch.Ack) error {
	if a.Proxy == "" {
		return errors.New("an acknowledgement has to name its proxy")
	}
	if err := m.lock(ctx, a.Pod); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.acks[a.Pod] == nil {
		m.acks[a.Pod] = map[string]killswitch.Ack{}
	}
	m.acks[a.Pod][a.Proxy] = a
	for len(m.acks[a.Pod]) > killswitch.MaxAcks {
		oldest := a
		for _, o := range m.acks[a.Pod] {
			if o.At.Before(oldest.At) {
				oldest = o
			}
		}
		delete(m.acks[a.Pod], oldest.Proxy)
	}
	return nil
}

// Acks implements killswitch.ControlStore.
func (m *Memory) Acks(ctx context.Context, pod backends.Pod) ([]killswitch.Ack, error) {
	if err := m.lock(ctx, pod); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var out []killswitch.Ack
	for _, a := range m.acks[pod] {
		out = append(out, a)
	}
	slices.SortFunc(out, func(x, y killswitch.Ack) int { return strings.Compare(x.Proxy, y.Proxy) })
	return out, nil
}

// Close implements killswitch.ControlStore. Registrations made without a Handle have to be left.
func (m *Memory) Close() error { return nil }
