package respdoor_test

import (
	"context"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
)

// TestVoidedCount: a kill has voided a counter command; the door asks anew under another id, and if
// that goes on the client is told that nothing was done.
func TestVoidedCount(t *testing.T) {
	voids := 2
	ids := map[backends.OpID]bool{}
	addr, _ := counting(t, respdoor.Config{}, func(_ context.Context, r *backends.CountRequest) (*backends.CountResult, error) {
		ids[r.OpID] = true
		if len(ids) <= voids {
			return nil, backends.ErrVoid
		}
		return &backends.CountResult{Value: 7}, nil
	})
	c := dial(t, addr)
	if got := c.do("DECRBY", "stock:shop:mug", "2"); got != int64(7) || len(ids) != 3 {
		t.Errorf("after two voids it answered %v under %d ids; want 7 under the third", got, len(ids))
	}
	voids = 1000
	if got, ok := c.do("DECR", "stock:shop:mug").(redisError); !ok || !strings.HasPrefix(string(got), "XFUNAVAILABLE") || len(ids) > 20 {
		t.Errorf("voided again and again it answered %v after %d ids", got, len(ids))
	}
}
