package chaos

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// tryWithin is how long a checkout waits for one answer before it asks another proxy. It is above what a request
// may wait at the gate.
const tryWithin = 4 * time.Second

// quiet: that a proxy does not answer is what is played here.
func quiet() { logging.Disable() }

func newClient(addr string, conns int) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, DialerRetries: 1, PoolSize: conns, Protocol: 2, DisableIdentity: true,
		DialTimeout: tryWithin, ReadTimeout: tryWithin, WriteTimeout: tryWithin, PoolTimeout: tryWithin,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// answer is what one try brought.
type answer struct {
	status string // granted, sold_out, claimed, …; empty: no verdict
	had    int64  // of a refusal: the units that it speaks of
	code   string // of an error: its first word, or what happened to the connection
	// nothing: the try is known to have changed nothing.
	nothing bool
	// wrong: an error that no retry mends.
	wrong bool
}

// ask sends a command once.
func ask(ctx context.Context, c *redis.Client, args []any) answer {
	v, err := c.Do(ctx, args...).Result()
	var net1 *net.OpError
	var said redis.Error
	switch {
	case err == nil:
		return understand(v)
	case errors.As(err, &said):
		code, _, _ := strings.Cut(said.Error(), " ")
		switch code {
		case "XFBUSY", "XFUNAVAILABLE":
			return answer{code: code, nothing: true}
		case "XFUNKNOWN":
			return answer{code: code}
		}
		return answer{code: said.Error(), wrong: true}
	case errors.As(err, &net1) && net1.Op == "dial":
		return answer{code: "no connection", nothing: true}
	case errors.Is(err, context.Canceled):
		return answer{code: "ended"}
	}
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return answer{code: "no answer in time"}
	}
	return answer{code: "connection broken"}
}

// understand reads a map, which RESP2 writes as a flat array.
func understand(v any) (a answer) {
	f := fields(v)
	a.status, _ = f["status"].(string)
	if a.status == "" {
		return answer{code: "no verdict in the answer", wrong: true}
	}
	if short, ok := f["short"].([]any); ok && len(short) > 0 {
		a.had, _ = fields(short[0])["available"].(int64)
	}
	return a
}

func fields(v any) map[string]any {
	list, _ := v.([]any)
	out := make(map[string]any, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		if name, ok := list[i].(string); ok {
			out[name] = list[i+1]
		}
	}
	return out
}
