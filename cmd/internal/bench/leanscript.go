package bench

import (
	"context"
	_ "embed"
	"fmt"
)

var (
	//go:embed lua/reserve.lua
	leanReserve string
	//go:embed lua/count.lua
	leanCount string
)

// leanCall loads a script of the opponent's and gives its call, with a mark where each call has a number of
// its own.
func (e *env) leanCall(ctx context.Context, addr, text string, reserve bool) ([]string, error) {
	c, err := dialRESP(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer c.close()
	v, err := c.ask("SCRIPT", "LOAD", text)
	if err != nil {
		return nil, fmt.Errorf("loading the opponent's script: %w", err)
	}
	p := fmt.Sprintf("lean%d:", e.next())
	if _, err := c.ask("HSET", p+"fence", "epoch", "1"); err != nil {
		return nil, err
	}
	if _, err := c.ask("SET", p+"stock", fmt.Sprint(int64(manyUnits))); err != nil {
		return nil, err
	}
	if reserve {
		return []string{"EVALSHA", v.text, "5", p + "fence", p + "stock", p + "hold:" + mark, p + "expiry", p + "out", "1", "h-" + mark, "3600000"}, nil
	}
	return []string{"EVALSHA", v.text, "3", p + "fence", p + "stock", p + "op:" + mark, "1", "1"}, nil
}
