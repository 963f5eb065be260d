package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
)

func metricPoolVsRedis() *metric {
	return &metric{
		name: "pool.vs_redis", what: "combined durable MySQL over the Redis script, both with fence and outbox, one item, 128 in flight",
		a: oursIs,
		b: "the least script with fence, hold, expiry and outbox entry (lua/reserve.lua), sent straight to Redis by a lean client over " +
			"128 connections, one call at a time each; append-only file flushed each second. Beside it redisstore's own script sent likewise",
		rows: []row{{figure: "rate", unit: "x", goal: target{atLeast, 0.3}}},
		run:  runPoolVsRedis,
	}
}

func runPoolVsRedis(ctx context.Context, e *env, m *metric) error {
	srv, err := e.mysql(ctx, "mysql")
	if err != nil {
		return err
	}
	kv, err := e.redis(ctx)
	if err != nil {
		return err
	}
	// MySQL keeps every commit, Redis all but the last second: to our disadvantage.
	if err := e.fair("mysql", "redis", true); err != nil {
		return err
	}
	a := newAssortment(1, false)
	ours, err := e.newPool(ctx, srv, nil)
	if err != nil {
		return err
	}
	defer ours.close()
	if err := ours.stock(ctx, a, plenty); err != nil {
		return err
	}
	s, err := e.newRedisStore(ctx, kv.Addr(), backends.Shadow, a)
	if err != nil {
		return err
	}
	defer s.Close()
	call, err := reserveCall(ctx, kv.Addr(), s, a.items[0])
	if err != nil {
		return err
	}
	lean, err := e.leanCall(ctx, kv.Addr(), leanReserve, true)
	if err != nil {
		return err
	}
	pairs, err := e.compare(ctx, m,
		ours.side(asDefault, inFlight, ours.reserving(a, 1, 1)),
		overSockets("Redis script", inFlight, overRESP(ctx, kv.Addr(), 1, "", e.numbers(), lean...)),
		overSockets("redisstore's script", inFlight, overRESP(ctx, kv.Addr(), 1, "", e.numbers(), call...)))
	if err == nil {
		e.sound(baseRedisScript, medians(pairs, 1)["rate"])
	}
	return err
}

// newRedisStore opens a stocked Redis store under a prefix of its own.
func (e *env) newRedisStore(ctx context.Context, addr string, stage backends.Stage, a *assortment) (*redisstore.Store, error) {
	prefix := fmt.Sprintf("bench%d:", e.next())
	tpl, err := backends.ParseKeyTemplate(prefix+"stock:{shop}:{item}", "", benchPlace)
	if err != nil {
		return nil, err
	}
	s, err := redisstore.Open(ctx, redisstore.Config{Pod: "bench", Addr: addr, Prefix: prefix + "xf:", Template: tpl, OutboxMax: plenty})
	if err != nil {
		return nil, err
	}
	if _, err := s.Raise(ctx, backends.Fence{Epoch: benchEpoch, Stage: stage, Open: true, Filled: true}, 0); err != nil {
		return nil, err
	}
	return s, together(ctx, len(a.items), func(ctx context.Context, i int) error {
		k := backends.Key{Shop: benchShop, Item: a.items[i], Location: benchPlace}
		_, err := s.Restock(ctx, benchToken, &backends.RestockRequest{OpID: backends.OpID("stock-" + string(k.Item)), Key: k, Amount: plenty})
		return err
	})
}

// numbers gives new numbers, so many at a time.
func (*env) numbers() func(n int) int64 {
	var last atomic.Int64
	return func(n int) int64 { return last.Add(int64(n)) - int64(n) + 1 }
}

// overSockets is a side in a closed loop whose workers have nothing to prepare.
func overSockets(what string, conns int, mk maker) side {
	return side{what: what, run: func(ctx context.Context, d time.Duration) (figures, error) {
		s, err := closed(ctx, conns, d, mk)
		if err != nil {
			return nil, err
		}
		return s.figures(), nil
	}}
}
