package dualwrite_test

import (
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

func (r *rig) sellable(l *link, item backends.Item) int64 {
	r.t.Helper()
	ls, err := l.Store.Levels(r.ctx, []backends.Key{key(item)})
	if err != nil || len(ls) != 1 {
		r.t.Fatalf("%+v, %v", ls, err)
	}
	return ls[0].Sellable()
}

func take(id backends.OpID, n int64) *backends.CountRequest {
	return &backends.CountRequest{OpID: id, Key: key("mug"), Delta: -n}
}

// TestFullOutboxInLive: Redis was away until the outbox was full, and is back. A count that finds no room is
// not acknowledged, and not done either: after a kill Redis has what was acknowledged, and nothing else.
func TestFullOutboxInLive(t *testing.T) {
	for name, count := range map[string]func(r *rig, c *backends.CountRequest) error{
		"alone": func(r *rig, c *backends.CountRequest) error {
			_, err := r.Count(r.ctx, c)
			return err
		},
		"together": func(r *rig, c *backends.CountRequest) error {
			return r.Counts(r.ctx, []*backends.CountRequest{c})[0].Err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRigOn(t, backends.Live, smallOutbox)
			fillAway(r)
			if err := count(r, take("over", 2)); !errors.Is(err, backends.ErrOutboxFull) || backends.IsAmbiguous(err) {
				t.Errorf("a count without room in the outbox was answered %v", err)
			}
			if got := r.sellable(r.mysql, "mug"); got != 9 {
				t.Errorf("MySQL has %d for sale after a refused count, want 9", got)
			}
			r.sweep(0)
			if err := count(r, take("over", 2)); err != nil {
				t.Errorf("with room again it was answered %v", err)
			}
			r.kill()
			if got := r.sellable(r.redis, "mug"); got != 7 {
				t.Errorf("after a kill Redis has %d for sale, want 7", got)
			}
			if err := r.Refresh(r.ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Settle(r.ctx); err != nil {
				t.Fatal(err)
			}
			r.sweep(0)
			r.agree()
		})
	}
}

// TestBackfillAfterAFullOutboxInLive: a count that was left out of the outbox would leave a gap in the order of
// its key, which no later count could pass, nor could a backfill.
func TestBackfillAfterAFullOutboxInLive(t *testing.T) {
	r := newRigOn(t, backends.Live, smallOutbox)
	fillAway(r)
	_, _ = r.Count(r.ctx, take("over", 2)) // it is not what this is about
	r.sweep(0)
	if _, err := r.Count(r.ctx, take("next", 1)); err != nil {
		t.Errorf("a count behind a full outbox was answered %v", err)
	}
	if err := r.Backfill(r.ctx, nil); err != nil {
		t.Fatal(err)
	}
	r.waiting(r.mysql, 0)
	r.agree()
}

// fillAway has a count decided while Redis is away, which fills the outbox, and brings Redis back.
func fillAway(r *rig) {
	r.t.Helper()
	r.redis.before = func(string) error { return backends.ErrUnavailable }
	if _, err := r.Count(r.ctx, take("away", 1)); !backends.IsAmbiguous(err) {
		r.t.Errorf("a count that Redis has not accepted was answered %v; it may yet take effect", err)
	}
	r.redis.before = nil
	r.waiting(r.mysql, 1)
}
