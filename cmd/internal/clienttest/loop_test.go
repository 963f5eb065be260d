//go:build clients

package clienttest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
)

// legacyLoop is the checkout that Crossfade finds: DECR, and when that is below zero, INCR. It
// answers how many units it sold.
func legacyLoop(t *testing.T, rdb *redis.Client, key string, pipelined bool) int64 {
	t.Helper()
	const clients, loops, batch = 64, 10, 4
	ctx, cancel := context.WithTimeout(context.Background(), clientPatience)
	defer cancel()
	var sold atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range loops {
				cmds, err := decrs(ctx, rdb, key, batch, pipelined)
				if err != nil {
					t.Errorf("DECR: %v", err)
					return
				}
				for _, left := range cmds {
					if left >= 0 {
						sold.Add(1)
					} else if err := rdb.Incr(ctx, key).Err(); err != nil {
						t.Errorf("INCR: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	return sold.Load()
}

func decrs(ctx context.Context, rdb *redis.Client, key string, n int, pipelined bool) ([]int64, error) {
	out := make([]int64, n)
	if !pipelined {
		for i := range out {
			v, err := rdb.Decr(ctx, key).Result()
			if err != nil {
				return nil, err
			}
			out[i] = v
		}
		return out, nil
	}
	cmds := make([]*redis.IntCmd, n)
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range cmds {
			cmds[i] = p.Decr(ctx, key)
		}
		return nil
	})
	for i, cmd := range cmds {
		out[i] = cmd.Val()
	}
	return out, err
}
