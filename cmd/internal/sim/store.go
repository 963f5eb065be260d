package sim

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/crossfade-proxy/crossfade/backends"
)

// link is one proxy's connection to one store: each call gives way before and after, and may be
// lost, late or doubled.
type link struct {
	backends.Store
	w    *world
	g    *group
	side backends.Side
	down func() bool // unreachable at present
}

// call does one step of the store through the network of the simulation. again tells whether the
// network may deliver it once more later (every write is safe against that).
func call[T any](l *link, name string, again bool, do func() (T, error)) (T, error) {
	var zero T
	s := l.w.s
	l.w.touched(l, name)
	s.pause()
	if l.down != nil && l.down() {
		return zero, fmt.Errorf("%w: %s is cut off", backends.ErrUnavailable, l.side)
	}
	fault := faultNone
	if l.w.faults {
		fault = l.w.draw()
	}
	switch fault {
	case faultRefused:
		return zero, fmt.Errorf("%w: connection refused", backends.ErrUnavailable)
	case faultLostRequest:
		s.pause()
		return zero, fmt.Errorf("%w: the connection broke", backends.ErrAmbiguous)
	case faultLate:
		if again {
			s.spawn(nil, "ghost "+name, func() {
				l.w.ghostSleep()
				v, err := do()
				l.w.mutated()
				l.w.tell(func() string { return fmt.Sprintf("%s %s late -> %s %v", l.side, name, show(v), err) })
			})
		}
		return zero, fmt.Errorf("%w: the connection broke", backends.ErrAmbiguous)
	case faultTwice:
		if again {
			s.spawn(nil, "double "+name, func() {
				l.w.ghostSleep()
				v, err := do()
				l.w.mutated()
				l.w.tell(func() string { return fmt.Sprintf("%s %s again -> %s %v", l.side, name, show(v), err) })
			})
		}
	default:
	}
	v, err := do()
	if again || name == "raise" {
		l.w.mutated()
	}
	l.w.tell(func() string { return fmt.Sprintf("%s %s fault=%d -> %s %v", l.side, name, fault, show(v), err) })
	s.pause()
	if fault == faultLostAnswer {
		return zero, fmt.Errorf("%w: the connection broke", backends.ErrAmbiguous)
	}
	return v, err
}

// show renders an answer for a trace.
func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

type fault uint8

const (
	faultNone fault = iota
	faultRefused
	faultLostRequest
	faultLostAnswer
	faultLate
	faultTwice
)

func (l *link) Reserve(ctx context.Context, t backends.Token, r *backends.ReserveRequest) (*backends.Decision, error) {
	return call(l, "reserve", true, func() (*backends.Decision, error) { return l.Store.Reserve(ctx, t, r) })
}

func (l *link) Claim(ctx context.Context, t backends.Token, r *backends.ClaimRequest) (*backends.Decision, error) {
	return call(l, "claim", true, func() (*backends.Decision, error) { return l.Store.Claim(ctx, t, r) })
}

func (l *link) Release(ctx context.Context, t backends.Token, r *backends.ReleaseRequest) (*backends.Decision, error) {
	return call(l, "release", true, func() (*backends.Decision, error) { return l.Store.Release(ctx, t, r) })
}

func (l *link) Extend(ctx context.Context, t backends.Token, r *backends.ExtendRequest) (*backends.Decision, error) {
	return call(l, "extend", true, func() (*backends.Decision, error) { return l.Store.Extend(ctx, t, r) })
}

func (l *link) Restock(ctx context.Context, t backends.Token, r *backends.RestockRequest) (*backends.Decision, error) {
	return call(l, "restock", true, func() (*backends.Decision, error) { return l.Store.Restock(ctx, t, r) })
}

func (l *link) Count(ctx context.Context, t backends.Token, r *backends.CountRequest) (*backends.CountResult, error) {
	return call(l, "count", true, func() (*backends.CountResult, error) { return l.Store.Count(ctx, t, r) })
}

func (l *link) Expire(ctx context.Context, t backends.Token, n int) ([]*backends.Decision, error) {
	return call(l, "expire", true, func() ([]*backends.Decision, error) { return l.Store.Expire(ctx, t, n) })
}

func (l *link) Admitted(ctx context.Context, t backends.Token, m bool) error {
	_, err := call(l, "admitted", false, func() (struct{}, error) { return struct{}{}, l.Store.Admitted(ctx, t, m) })
	return err
}

func (l *link) Now(ctx context.Context) (backends.Instant, error) {
	return call(l, "now", false, func() (backends.Instant, error) { return l.Store.Now(ctx) })
}

func (l *link) Apply(ctx context.Context, t backends.Token, asOf backends.Instant, es []backends.Entry) ([]backends.Applied, error) {
	return call(l, "apply", true, func() ([]backends.Applied, error) { return l.Store.Apply(ctx, t, asOf, es) })
}

func (l *link) Probe(ctx context.Context, r *backends.ReserveRequest) (*backends.OwnDecision, error) {
	return call(l, "probe", false, func() (*backends.OwnDecision, error) { return l.Store.Probe(ctx, r) })
}

func (l *link) Pending(ctx context.Context, after string, age int64, n int) ([]backends.Entry, error) {
	return call(l, "pending", false, func() ([]backends.Entry, error) { return l.Store.Pending(ctx, after, age, n) })
}

func (l *link) Done(ctx context.Context, seqs []string) ([]string, error) {
	return call(l, "done", true, func() ([]string, error) { return l.Store.Done(ctx, seqs) })
}

func (l *link) OutboxStats(ctx context.Context) (backends.OutboxStats, error) {
	return call(l, "outbox", false, func() (backends.OutboxStats, error) { return l.Store.OutboxStats(ctx) })
}

func (l *link) Fence(ctx context.Context) (backends.Fence, error) {
	return call(l, "fence", false, func() (backends.Fence, error) { return l.Store.Fence(ctx) })
}

func (l *link) Raise(ctx context.Context, f backends.Fence, if0 uint64) (backends.Fence, error) {
	l.w.murder(l.w.s.cur)
	defer l.w.murder(l.w.s.cur)
	return call(l, "raise", false, func() (backends.Fence, error) {
		have, err := l.Store.Raise(ctx, f, if0)
		if err == nil && l.side == backends.SideRedis {
			l.w.raised()
		}
		return have, err
	})
}

func (l *link) Reemit(ctx context.Context, t backends.Token, ids []backends.HoldID) (int, error) {
	return call(l, "reemit", true, func() (int, error) { return l.Store.Reemit(ctx, t, ids) })
}

func (l *link) SettleOp(ctx context.Context, t backends.Token, k backends.Key, id backends.OpID) (bool, error) {
	return call(l, "settle operation", true, func() (bool, error) { return l.Store.SettleOp(ctx, t, k, id) })
}

func (l *link) ReemitLevels(ctx context.Context, t backends.Token, ks []backends.Key) (int, error) {
	return call(l, "reemit levels", true, func() (int, error) { return l.Store.ReemitLevels(ctx, t, ks) })
}

func (l *link) RestateHolds(ctx context.Context, t backends.Token, hs []backends.HoldAbove) (int, error) {
	return call(l, "restate", true, func() (int, error) { return l.Store.RestateHolds(ctx, t, hs) })
}

func (l *link) RestateTaken(ctx context.Context, t backends.Token, ks []backends.LevelAbove) (int, error) {
	return call(l, "restate taken", true, func() (int, error) { return l.Store.RestateTaken(ctx, t, ks) })
}

func (l *link) Correct(ctx context.Context, t backends.Token, asOf backends.Instant, c *backends.Correction) (bool, error) {
	return call(l, "correct", true, func() (bool, error) { return l.Store.Correct(ctx, t, asOf, c) })
}

// Restore implements backends.Restorer.
func (l *link) Restore(ctx context.Context, t backends.Token, asOf backends.Instant, es []backends.Entry) ([]backends.Applied, error) {
	return call(l, "restore", true, func() ([]backends.Applied, error) { return l.restorer().Restore(ctx, t, asOf, es) })
}

// RestoreLevel implements backends.Restorer.
func (l *link) RestoreLevel(ctx context.Context, t backends.Token, asOf backends.Instant, c *backends.Correction) (bool, error) {
	return call(l, "restore level", true, func() (bool, error) { return l.restorer().RestoreLevel(ctx, t, asOf, c) })
}

func (l *link) restorer() backends.Restorer { return l.w.store(l.side) }

func (l *link) EndBackfill(ctx context.Context, t backends.Token, dropped int64) error {
	_, err := call(l, "end backfill", true, func() (struct{}, error) { return struct{}{}, l.Store.EndBackfill(ctx, t, dropped) })
	return err
}

func (l *link) Get(ctx context.Context, id backends.HoldID) (*backends.Hold, error) {
	return call(l, "get", false, func() (*backends.Hold, error) { return l.Store.Get(ctx, id) })
}

func (l *link) GetMany(ctx context.Context, ids []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) {
	return call(l, "get many", false, func() (map[backends.HoldID]*backends.Hold, error) { return l.Store.GetMany(ctx, ids) })
}

func (l *link) KnowsOp(ctx context.Context, id backends.OpID) (bool, error) {
	return call(l, "knows op", false, func() (bool, error) { return l.Store.KnowsOp(ctx, id) })
}

type page[T any] struct {
	items []T
	next  string
}

func (l *link) ScanHolds(ctx context.Context, cur string, n int, open bool) ([]*backends.Hold, string, error) {
	p, err := call(l, "scan holds", false, func() (page[*backends.Hold], error) {
		hs, next, err := l.Store.ScanHolds(ctx, cur, n, open)
		return page[*backends.Hold]{hs, next}, err
	})
	return p.items, p.next, err
}

func (l *link) ScanLevels(ctx context.Context, cur string, n int) ([]backends.Level, string, error) {
	p, err := call(l, "scan levels", false, func() (page[backends.Level], error) {
		ls, next, err := l.Store.ScanLevels(ctx, cur, n)
		return page[backends.Level]{ls, next}, err
	})
	return p.items, p.next, err
}
