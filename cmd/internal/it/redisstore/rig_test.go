package redisstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// rig is a store that serves, and a look behind it.
type rig struct {
	*testing.T
	ctx    context.Context
	s      *redisstore.Store
	raw    *redis.Client
	prefix string // of the test; the pod's own keys are under prefix + "xf:"
	tok    backends.Token
	ops    int
}

// newRig opens a store on a server of the test's own, or a shared one, and raises its fence.
func newRig(t *testing.T, srv *lab.Server, stage backends.Stage, change ...func(*redisstore.Config)) *rig {
	t.Helper()
	prefix := srv.NewPrefix(t)
	r := &rig{T: t, ctx: testContext(t), s: open(t, srv.Addr(), prefix, change...), raw: raw(t, srv.Addr()), prefix: prefix}
	r.raise(backends.Fence{Epoch: 1, Stage: stage, Open: true, Filled: true})
	return r
}

func (r *rig) raise(f backends.Fence) {
	r.Helper()
	got, err := r.s.Raise(r.ctx, f, 0)
	if err != nil || got != f {
		r.Fatalf("Raise(%s): %s, %v", f, got, err)
	}
	r.tok = backends.Token{Epoch: f.Epoch}
}

func item(i backends.Item) backends.Key { return backends.Key{Shop: "s", Item: i, Location: "l"} }

func cart(id backends.HoldID, i backends.Item, n int64) *backends.ReserveRequest {
	return &backends.ReserveRequest{ID: id, Shop: "s", TTL: time.Hour, Lines: []backends.Line{{Item: i, Quantity: n, Locations: []backends.Location{"l"}}}}
}

func (r *rig) own(key string) string { return r.prefix + "xf:" + key }

func (r *rig) counter(i backends.Item) string { return r.prefix + "stock:s:" + string(i) + ":l" }

func (r *rig) op() backends.OpID {
	r.ops++
	return backends.OpID("op-" + time.Duration(r.ops).String())
}

func (r *rig) restock(i backends.Item, n int64) {
	r.Helper()
	_, err := r.s.Restock(r.ctx, r.tok, &backends.RestockRequest{OpID: r.op(), Key: item(i), Amount: n})
	r.ok(err)
}

func (r *rig) reserve(q *backends.ReserveRequest) *backends.Decision {
	r.Helper()
	d, err := r.s.Reserve(r.ctx, r.tok, q)
	r.ok(err)
	if d.Outcome != backends.OutcomeGranted {
		r.Fatalf("reserve %s: %s", q.ID, d.Outcome)
	}
	return d
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// level wants a level to be there.
func (r *rig) level(i backends.Item) backends.Level {
	r.Helper()
	ls, err := r.s.Levels(r.ctx, []backends.Key{item(i)})
	r.ok(err)
	if len(ls) != 1 {
		r.Fatalf("levels of %s: %+v", i, ls)
	}
	return ls[0]
}

// dump is everything that the test's keys hold, but for what moves by itself.
func (r *rig) dump() map[string]string {
	r.Helper()
	out := map[string]string{}
	it := r.raw.Scan(r.ctx, 0, r.prefix+"*", 1000).Iterator()
	for it.Next(r.ctx) {
		d, err := r.raw.Dump(r.ctx, it.Val()).Result()
		r.ok(err)
		out[it.Val()] = d
	}
	r.ok(it.Err())
	return out
}

// conserved wants P2 to hold everywhere.
func (r *rig) conserved() {
	r.Helper()
	broken, _, err := r.s.Conservation(r.ctx)
	r.ok(err)
	if len(broken) > 0 {
		r.Fatalf("out of balance: %+v", broken)
	}
}

func (r *rig) until(what string, met func() bool) {
	r.Helper()
	until(r.T, what, met)
}

// until waits for a condition.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	ctx := testContext(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-ctx.Done():
			t.Fatalf("gave up waiting for %s", what)
		case <-tick.C:
		}
	}
}
