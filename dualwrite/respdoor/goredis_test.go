package respdoor_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
)

// TestGoRedis: a stock client with its default options, in both protocols.
func TestGoRedis(t *testing.T) {
	for _, proto := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", proto), func(t *testing.T) {
			addr, _, svc := shop(t, respdoor.Config{User: "checkout", Password: "secret"}, map[string]int64{"mug": 200, "cup": 7})
			rdb := redis.NewClient(&redis.Options{Addr: addr, Protocol: proto, Username: "checkout", Password: "secret", ClientName: "web-1"})
			t.Cleanup(func() { rdb.Close() })
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			goRedisReads(ctx, t, rdb)
			goRedisHolds(ctx, t, rdb)
			goRedisLoop(ctx, t, rdb, svc.Levels)
		})
	}
}

func goRedisReads(ctx context.Context, t *testing.T, rdb *redis.Client) {
	t.Helper()
	if v, err := rdb.MGet(ctx, "stock:s:mug", "stock:s:none", "stock:s:cup").Result(); err != nil || fmt.Sprint(v) != "[200 <nil> 7]" {
		t.Errorf("MGET: %v %v", v, err)
	}
	if err := rdb.Get(ctx, "stock:s:none").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("GET of nothing: %v", err)
	}
	if v, err := rdb.ClientGetName(ctx).Result(); err != nil || v != "web-1" {
		t.Errorf("name: %q %v", v, err)
	}
	if err := rdb.DecrBy(ctx, "stock:s:mug", 0).Err(); err != nil {
		t.Errorf("DECRBY: %v", err)
	}
	rows, err := rdb.Command(ctx).Result()
	if err != nil || rows["decr"] == nil || rows["decr"].FirstKeyPos != 1 || rows["mget"].LastKeyPos != -1 {
		t.Errorf("COMMAND: %v", err)
	}
	if err := rdb.Set(ctx, "stock:s:mug", 1, 0).Err(); err == nil {
		t.Error("SET was not refused")
	}
}

func goRedisHolds(ctx context.Context, t *testing.T, rdb *redis.Client) {
	t.Helper()
	pipe := rdb.Pipeline()
	granted := pipe.Do(ctx, "XF.RESERVE", "s", "h1", "TTL", 60000, "LINE", "cup", 5)
	sold := pipe.Do(ctx, "XF.RESERVE", "s", "h2", "TTL", 60000, "LINE", "cup", 5)
	claimed := pipe.Do(ctx, "XF.CLAIM", "s", "h1")
	wrong := pipe.Do(ctx, "XF.RESERVE", "s", "h3", "TTL", 1, "LINE", "cup", 5)
	if _, err := pipe.Exec(ctx); err == nil {
		t.Error("the wrong one was not an error")
	}
	for _, row := range []struct {
		cmd  *redis.Cmd
		want string
	}{{granted, "granted"}, {sold, "sold_out"}, {claimed, "claimed"}} {
		v, err := row.cmd.Result()
		if err != nil || field(v, "status") != row.want {
			t.Errorf("%v: %v %v", row.cmd.Args(), v, err)
		}
	}
	if err := wrong.Err(); !redis.HasErrorPrefix(err, respdoor.CodeInvalid) {
		t.Errorf("%v", err)
	}
}

// field finds a value in a map, or in a flat list of names and values.
func field(v any, name string) any {
	switch v := v.(type) {
	case map[any]any:
		return v[name]
	case []any:
		for i := 0; i+1 < len(v); i += 2 {
			if v[i] == name {
				return v[i+1]
			}
		}
	}
	return nil
}

// goRedisLoop is the legacy checkout: DECR, and when that is below zero, INCR; one by one and in
// pipelines.
func goRedisLoop(ctx context.Context, t *testing.T, rdb *redis.Client, levels func(context.Context, []backends.Key) ([]backends.Level, error)) {
	t.Helper()
	const clients, loops = 16, 25
	var sold atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for range loops {
				if c%2 == 0 {
					n, err := rdb.Decr(ctx, "stock:s:mug").Result()
					sold.Add(took(ctx, t, rdb, n, err))
					continue
				}
				var cmds [3]*redis.IntCmd
				_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
					for i := range cmds {
						cmds[i] = p.Decr(ctx, "stock:s:mug")
					}
					return nil
				})
				for _, cmd := range cmds {
					sold.Add(took(ctx, t, rdb, cmd.Val(), err))
				}
			}
		})
	}
	wg.Wait()
	ls, err := levels(ctx, []backends.Key{{Shop: "s", Item: "mug", Location: "main"}})
	if err != nil || len(ls) != 1 || sold.Load() != 200 || ls[0].Taken != 200 || ls[0].Sellable() != 0 || ls[0].Imbalance() != 0 {
		t.Errorf("%d sold, %+v, %v", sold.Load(), ls, err)
	}
}

func took(ctx context.Context, t *testing.T, rdb *redis.Client, left int64, err error) int64 {
	if err != nil {
		t.Errorf("DECR: %v", err)
		return 0
	}
	if left >= 0 {
		return 1
	}
	if err := rdb.Incr(ctx, "stock:s:mug").Err(); err != nil {
		t.Errorf("INCR: %v", err)
	}
	return 0
}
