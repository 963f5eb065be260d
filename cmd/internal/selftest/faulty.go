package selftest

import (
	"context"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// faulty stands between a pod and its shadow. Without a fault it passes everything on.
type faulty struct {
	backends.Store

	mu sync.Mutex
	// edit says what reaches the shadow of an entry; false: nothing does, and the pod is told otherwise.
	edit func(backends.Entry) (backends.Entry, bool)
	// delay is how long a mirror step is held up.
	delay func([]backends.Entry) time.Duration
	// silent is open while the shadow answers nothing at all.
	silent chan struct{}

	slow int64 // grants in steps that were held up
	late int64 // and their units
}

func (f *faulty) set(change func(*faulty)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// hush makes the shadow silent until the function that it answers is called, once.
func (f *faulty) hush() (speak func()) {
	ch := make(chan struct{})
	f.set(func(f *faulty) { f.silent = ch })
	return sync.OnceFunc(func() {
		f.set(func(f *faulty) { f.silent = nil })
		close(ch)
	})
}

// heard calls do, once the shadow answers.
func heard[T any](ctx context.Context, f *faulty, do func() (T, error)) (T, error) {
	f.mu.Lock()
	silent := f.silent
	f.mu.Unlock()
	if silent != nil {
		select {
		case <-silent:
		case <-ctx.Done():
			var none T
			return none, backends.ErrAmbiguous
		}
	}
	return do()
}

// Apply implements backends.Mirror.
func (f *faulty) Apply(ctx context.Context, t backends.Token, asOf backends.Instant, entries []backends.Entry) ([]backends.Applied, error) {
	return heard(ctx, f, func() ([]backends.Applied, error) {
		if err := f.holdUp(ctx, entries); err != nil {
			return nil, err
		}
		f.mu.Lock()
		edit := f.edit
		f.mu.Unlock()
		if edit == nil {
			return f.Store.Apply(ctx, t, asOf, entries)
		}
		return f.applyEdited(ctx, t, asOf, entries, edit)
	})
}

func (f *faulty) holdUp(ctx context.Context, entries []backends.Entry) error {
	f.mu.Lock()
	var d time.Duration
	if f.delay != nil {
		d = f.delay(entries)
	}
	if d > 0 {
		for i := range entries {
			if e := &entries[i]; e.Op == backends.OpReserve && e.Hold != nil {
				f.slow++
				f.late += unitsOf(e.Hold)
			}
		}
	}
	f.mu.Unlock()
	if d <= 0 {
		return nil
	}
	return wait(ctx, d)
}

// applyEdited applies what the fault leaves of the entries, and answers for all of them.
func (f *faulty) applyEdited(ctx context.Context, t backends.Token, asOf backends.Instant, entries []backends.Entry, edit func(backends.Entry) (backends.Entry, bool)) ([]backends.Applied, error) {
	out := make([]backends.Applied, len(entries))
	var kept []backends.Entry
	var whose []int
	for i, e := range entries {
		out[i] = backends.Applied{Seq: e.Seq, Changed: true}
		if e, keep := edit(e); keep {
			kept, whose = append(kept, e), append(whose, i)
			continue
		}
		if h := e.Hold; h != nil && e.Op == backends.OpReserve { // what was lost had been decided
			own, err := f.Store.Probe(ctx, &backends.ReserveRequest{ID: h.ID, Shop: h.Shop, Lines: h.Lines})
			if err != nil {
				return nil, err
			}
			out[i].Own = own
		}
	}
	if len(kept) == 0 {
		return out, nil
	}
	res, err := f.Store.Apply(ctx, t, asOf, kept)
	if err != nil {
		return nil, err
	}
	for n, i := range whose {
		out[i] = res[n]
	}
	return out, nil
}

// What follows only listens whether the shadow answers.

// Now implements backends.Mirror.
func (f *faulty) Now(ctx context.Context) (backends.Instant, error) {
	return heard(ctx, f, func() (backends.Instant, error) { return f.Store.Now(ctx) })
}

// Probe implements backends.Mirror.
func (f *faulty) Probe(ctx context.Context, r *backends.ReserveRequest) (*backends.OwnDecision, error) {
	return heard(ctx, f, func() (*backends.OwnDecision, error) { return f.Store.Probe(ctx, r) })
}

// Admitted implements backends.Truth.
func (f *faulty) Admitted(ctx context.Context, t backends.Token, asMirror bool) error {
	_, err := heard(ctx, f, func() (struct{}, error) { return struct{}{}, f.Store.Admitted(ctx, t, asMirror) })
	return err
}

// Fence implements backends.Fencer.
func (f *faulty) Fence(ctx context.Context) (backends.Fence, error) {
	return heard(ctx, f, func() (backends.Fence, error) { return f.Store.Fence(ctx) })
}

// Levels implements backends.Inspector.
func (f *faulty) Levels(ctx context.Context, keys []backends.Key) ([]backends.Level, error) {
	return heard(ctx, f, func() ([]backends.Level, error) { return f.Store.Levels(ctx, keys) })
}

// GetMany implements backends.Inspector.
func (f *faulty) GetMany(ctx context.Context, ids []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) {
	return heard(ctx, f, func() (map[backends.HoldID]*backends.Hold, error) { return f.Store.GetMany(ctx, ids) })
}

// Maintain implements backends.Keeper.
func (f *faulty) Maintain(ctx context.Context, t backends.Token) (bool, error) {
	return heard(ctx, f, func() (bool, error) { return f.Store.Maintain(ctx, t) })
}

// Pending implements backends.Outbox.
func (f *faulty) Pending(ctx context.Context, after string, minAgeMillis int64, limit int) ([]backends.Entry, error) {
	return heard(ctx, f, func() ([]backends.Entry, error) { return f.Store.Pending(ctx, after, minAgeMillis, limit) })
}

func unitsOf(h *backends.Hold) (n int64) {
	for _, l := range h.Lines {
		n += l.Quantity
	}
	return n
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// otherSide plays the other side's part, so that a pod may have two stores of one kind: its fence stands at the stage in which its
// kind takes mirrors.
type otherSide struct {
	backends.Store
}

// Side implements backends.Store.
func (s otherSide) Side() backends.Side { return s.Store.Side().Other() }

func (s otherSide) turned(f backends.Fence) backends.Fence {
	if turned, known := map[backends.Stage]backends.Stage{backends.Shadow: backends.Live, backends.Live: backends.Shadow}[f.Stage]; known {
		f.Stage = turned
	}
	return f
}

// Fence implements backends.Fencer.
func (s otherSide) Fence(ctx context.Context) (backends.Fence, error) {
	f, err := s.Store.Fence(ctx)
	return s.turned(f), err
}

// Raise implements backends.Fencer. Not filled: of the order of takes the other kind of store knows nothing.
func (s otherSide) Raise(ctx context.Context, f backends.Fence, ifEpoch uint64) (backends.Fence, error) {
	f = s.turned(f)
	f.Filled, f.Alone = false, false
	have, err := s.Store.Raise(ctx, f, ifEpoch)
	return s.turned(have), err
}
