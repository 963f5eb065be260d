package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
)

// capturePatience bounds the wait for the server's word of a command.
const capturePatience = 5 * time.Second

// capture gives the first call of a script that the server sees while do runs, word for word, as the
// server's MONITOR tells it. So the opponent "the script straight to Redis" is the very script that the
// store sends, whatever it is.
func capture(ctx context.Context, addr string, do func() error) ([]string, error) {
	c, err := dialRESP(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if _, err := c.ask("MONITOR"); err != nil {
		return nil, err
	}
	if err := do(); err != nil {
		return nil, err
	}
	if err := c.nc.SetReadDeadline(time.Now().Add(capturePatience)); err != nil {
		return nil, err
	}
	for {
		v, err := c.value(0)
		if err != nil {
			return nil, fmt.Errorf("waiting for the server to tell of a script: %w", err)
		}
		args, err := monitored(v.text)
		if err != nil {
			return nil, err
		}
		if len(args) > 2 && strings.EqualFold(args[0], "EVALSHA") {
			return args, nil
		}
	}
}

// monitored reads a line of MONITOR: time, database and client, then each argument in quotes, with
// escapes that Go knows too.
func monitored(line string) ([]string, error) {
	_, rest, ok := strings.Cut(line, "] ")
	if !ok {
		return nil, nil // "OK"
	}
	var args []string
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimLeft(rest, " ") {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return nil, fmt.Errorf("MONITOR answered %.80q: %w", line, err)
		}
		arg, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("MONITOR answered %.80q: %w", line, err)
		}
		args = append(args, arg)
		rest = rest[len(quoted):]
	}
	return args, nil
}

// reserveCall is the call of the script by which a store reserves one unit of an item. The hold id has a
// mark, to be numbered.
func reserveCall(ctx context.Context, addr string, s *redisstore.Store, item backends.Item) ([]string, error) {
	return capture(ctx, addr, func() error {
		d, err := s.Reserve(ctx, benchToken, &backends.ReserveRequest{
			ID: "h-" + mark, Shop: benchShop, TTL: holdTTL, Caller: "checkout",
			Lines: []backends.Line{{Item: item, Quantity: 1, Locations: []backends.Location{benchPlace}}},
		})
		return granted(d, err)
	})
}

// countCall is the call of the script by which a store takes one unit from a counter for the door, whose
// operation ids are fresh. Operation id and call id have a mark, to be numbered.
func countCall(ctx context.Context, addr string, s *redisstore.Store, item backends.Item) ([]string, error) {
	const callID = 3 // from the end: place of the level, amount
	args, err := capture(ctx, addr, func() error {
		k := backends.Key{Shop: benchShop, Item: item, Location: benchPlace}
		_, err := s.Count(ctx, benchToken, &backends.CountRequest{OpID: "op-" + mark, Key: k, Delta: -1, Caller: "checkout", Fresh: true})
		return err
	})
	if err == nil {
		args[len(args)-callID] = "call-" + mark
	}
	return args, err
}
