package proxy

import (
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// adoption is a pod in redis-only over memory stores.
type adoption struct {
	*testing.T
	p          *podRuntime
	redis, sql *memstore.Store
	fence      backends.Fence
}

func newAdoption(t *testing.T, epoch uint64) *adoption {
	t.Helper()
	a := &adoption{T: t, redis: memstore.New(memstore.Options{Side: backends.SideRedis}), sql: memstore.New(memstore.Options{Side: backends.SideMySQL})}
	stores := dualwrite.Stores{Redis: a.redis, MySQL: a.sql}
	a.p = &podRuntime{stores: stores, pod: dualwrite.NewPod("pod-1", stores, dualwrite.Options{})}
	a.raise(epoch)
	return a
}

func (a *adoption) raise(epoch uint64) {
	a.Helper()
	a.fence = backends.Fence{Epoch: epoch, Stage: backends.RedisOnly, Open: true}
	for _, s := range []*memstore.Store{a.redis, a.sql} {
		if _, err := s.Raise(a.Context(), a.fence, 0); err != nil {
			a.Fatal(err)
		}
	}
	a.p.pod.Gate().Adopt(a.fence)
}

func (a *adoption) restock(op backends.OpID, n int64) {
	a.Helper()
	q := &backends.RestockRequest{OpID: op, Key: adoptedKey, Amount: n}
	if _, err := a.redis.Restock(a.Context(), backends.Token{Epoch: a.fence.Epoch}, q); err != nil {
		a.Fatal(err)
	}
}

// lose takes everything out of the outbox, as if it had been written before there was one: the level is
// then one that a checkout has had for years.
func (a *adoption) lose() {
	a.Helper()
	es, err := a.redis.Pending(a.Context(), "", 0, 100)
	if err != nil {
		a.Fatal(err)
	}
	for _, e := range es {
		if _, err := a.redis.Done(a.Context(), []string{e.Seq}); err != nil {
			a.Fatal(err)
		}
	}
}

func (a *adoption) adopt() admin.AdoptResult {
	a.Helper()
	ls, err := a.redis.Levels(a.Context(), []backends.Key{adoptedKey})
	if err != nil {
		a.Fatal(err)
	}
	var res admin.AdoptResult
	if err := a.p.tellLedger(a.Context(), backends.Token{Epoch: a.fence.Epoch}, ls, &res); err != nil {
		a.Fatal(err)
	}
	return res
}

// want delivers what is on its way, and then demands that both stores have n units.
func (a *adoption) want(n int64) {
	a.Helper()
	if _, _, err := a.p.pod.SweepNow(a.Context(), 0); err != nil {
		a.Fatal(err)
	}
	for _, s := range []*memstore.Store{a.redis, a.sql} {
		ls, err := s.Levels(a.Context(), []backends.Key{adoptedKey})
		if err != nil || len(ls) != 1 || ls[0].OnHand != n {
			a.Fatalf("%+v, %v; want %d on hand in both stores", ls, err, n)
		}
	}
}

var adoptedKey = backends.Key{Shop: "shop", Item: "mug", Location: "main"}

// TestAdoptBesidePending: what is on its way to the ledger is in Redis's quantity already; it is not told
// a second time.
func TestAdoptBesidePending(t *testing.T) {
	a := newAdoption(t, 1)
	a.restock("on its way", 10)
	a.adopt()
	a.want(10)

	a = newAdoption(t, 1)
	a.restock("for years", 10)
	a.lose()
	reserve := &backends.ReserveRequest{ID: "h", Shop: "shop", TTL: time.Hour, Lines: []backends.Line{{Item: "mug", Quantity: 3, Locations: []backends.Location{"main"}}}}
	if _, err := a.redis.Reserve(t.Context(), backends.Token{Epoch: 1}, reserve); err != nil {
		t.Fatal(err)
	}
	if res := a.adopt(); res.Ledger != 1 {
		t.Fatalf("%+v", res)
	}
	if _, err := a.redis.Claim(t.Context(), backends.Token{Epoch: 1}, &backends.ClaimRequest{ID: "h"}); err != nil {
		t.Fatal(err)
	}
	if res := a.adopt(); res.Same != 1 || res.DifferTotal != 0 {
		t.Fatalf("a claim on its way is taken for a difference: %+v", res)
	}
	a.want(7)
}

// TestAdoptAgainLater: a pod that comes back to redis-only has a key that the ledger has none of again. It
// is told what there is, and not the difference to what it was told the first time.
func TestAdoptAgainLater(t *testing.T) {
	a := newAdoption(t, 1)
	a.restock("for years", 5)
	a.lose()
	a.adopt()
	a.restock("sold", -5)
	a.want(0)
	a.raise(4)
	a.restock("counted anew, behind our back", 8)
	a.lose()
	if res := a.adopt(); res.Ledger != 1 {
		t.Fatalf("%+v", res)
	}
	a.want(8)
}
