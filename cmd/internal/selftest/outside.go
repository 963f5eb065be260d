package selftest

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/backends"
)

// What goes to a server past Crossfade, as another application would.

// driftRedis gives a level more units on hand and for sale, in one step: Redis's own books still balance.
var driftRedis = redis.NewScript(`
local raw = redis.call('HGET', KEYS[2], ARGV[1])
local onhand, rest = raw:match('^(%-?%d+)( .*)$')
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', onhand + ARGV[2]) .. rest)
return redis.call('INCRBY', KEYS[1], ARGV[2])`)

// drift moves units on hand and for sale in the shadow alone.
func (p *pod) drift(ctx context.Context, k backends.Key, n int64) error {
	if p.stage.Truth() == backends.SideMySQL {
		counter, err := p.template.Render(k)
		if err != nil {
			return err
		}
		levels := p.prefix + string(p.name) + ":xf:levels"
		field := fmt.Sprintf("%s\t%s\t%s", k.Shop, k.Item, k.Location)
		return driftRedis.Run(ctx, p.raw, []string{counter, levels}, field, n).Err()
	}
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, q := range []string{
		"UPDATE crossfade_levels SET unmaterialised = unmaterialised + ? WHERE pod = ? AND shop = ? AND item = ? AND location = ?",
		"UPDATE crossfade_ledger SET on_hand = on_hand + ? WHERE pod = ? AND shop = ? AND item = ? AND location = ?",
	} {
		if _, err := tx.ExecContext(ctx, q, n, p.name, k.Shop, k.Item, k.Location); err != nil {
			_ = tx.Rollback()
			return err
		}
	}
	return tx.Commit()
}

// bypass takes units where nobody asked Crossfade: a checkout that still does DECRBY at Redis itself, or somebody who corrects the ledger.
func (p *pod) bypass(ctx context.Context, side backends.Side, k backends.Key, n int64) error {
	if side == backends.SideRedis {
		counter, err := p.template.Render(k)
		if err != nil {
			return err
		}
		return p.raw.DecrBy(ctx, counter, n).Err()
	}
	_, err := p.db.ExecContext(ctx, "UPDATE crossfade_ledger SET on_hand = on_hand - ? WHERE pod = ? AND shop = ? AND item = ? AND location = ?", n, p.name, k.Shop, k.Item, k.Location)
	return err
}
