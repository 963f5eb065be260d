package mysqlstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
)

// The epoch, shop and location of every test here.
const (
	epoch = 3
	shop  = backends.Shop("shop-1")
	east  = backends.Location("east")
	west  = backends.Location("west")
)

var token = backends.Token{Epoch: epoch}

// rig is a store under test.
type rig struct {
	s   *mysqlstore.Store
	ctx context.Context
}

// live gives a store that is the truth, on a database of its own.
func live(t *testing.T, dsn string, change ...func(*mysqlstore.Config)) rig {
	t.Helper()
	r := rig{open(t, dsn, change...), testContext(t)}
	r.raise(t, backends.Live)
	return r
}

func (r rig) raise(tb testing.TB, stage backends.Stage) {
	tb.Helper()
	if _, err := r.s.Raise(r.ctx, backends.Fence{Epoch: epoch, Stage: stage, Open: true, Filled: true}, 0); err != nil {
		tb.Fatal(err)
	}
}

func key(item backends.Item) backends.Key {
	return backends.Key{Shop: shop, Item: item, Location: east}
}

func line(item backends.Item, n int64, locs ...backends.Location) backends.Line {
	if len(locs) == 0 {
		locs = []backends.Location{east}
	}
	return backends.Line{Item: item, Quantity: n, Locations: locs}
}

func cart(id string, lines ...backends.Line) *backends.ReserveRequest {
	return &backends.ReserveRequest{ID: backends.HoldID(id), Shop: shop, Lines: lines, TTL: time.Hour, Caller: "checkout"}
}

func (r rig) stock(tb testing.TB, item backends.Item, n int64) {
	tb.Helper()
	r.stockAt(tb, key(item), n)
}

func (r rig) stockAt(tb testing.TB, k backends.Key, n int64) {
	tb.Helper()
	op := backends.OpID("stock " + k.String())
	if _, err := r.s.Restock(r.ctx, token, &backends.RestockRequest{OpID: op[:min(len(op), backends.MaxIDLen)], Key: k, Amount: n}); err != nil {
		tb.Fatal(err)
	}
}

// grant reserves and wants it granted.
func (r rig) grant(tb testing.TB, q *backends.ReserveRequest) *backends.Decision {
	tb.Helper()
	d, err := r.s.Reserve(r.ctx, token, q)
	if err != nil || d.Outcome != backends.OutcomeGranted {
		tb.Fatalf("reserve %s answered %+v, %v", q.ID, d, err)
	}
	return d
}

func (r rig) level(tb testing.TB, k backends.Key) backends.Level {
	tb.Helper()
	ls, err := r.s.Levels(r.ctx, []backends.Key{k})
	if err != nil || len(ls) != 1 {
		tb.Fatalf("Levels(%s): %+v, %v", k, ls, err)
	}
	return ls[0]
}

// conserved wants P2 at every key, and no debt beside a pool.
func (r rig) conserved(tb testing.TB) {
	tb.Helper()
	broken, _, err := r.s.Conservation(r.ctx)
	if err != nil || len(broken) != 0 {
		tb.Fatalf("P2 is broken: %+v, %v", broken, err)
	}
}

// until waits for a condition.
func until(tb testing.TB, ctx context.Context, what string, met func() bool) { //nolint:revive // tb is first as everywhere here
	tb.Helper()
	// Not more often than InnoDB renews its tables of transactions, when nobody asks for 0.1 s.
	tick := time.NewTicker(120 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-ctx.Done():
			tb.Fatalf("gave up waiting for %s", what)
		case <-tick.C:
		}
	}
}
