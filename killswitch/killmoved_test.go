package killswitch_test

import (
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

// A kill decides by the fence that it has read. A switch closes that fence before the compare-and-set
// comes, under the epoch that the kill would install: by rank alone the kill would open it.
func TestKillOfAFenceThatHasMoved(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Shadow)
		moved := backends.Fence{Epoch: 3, Stage: backends.Shadow}
		p := w.process()
		p.atRaise = func() { _, _ = w.redis.Raise(t.Context(), moved, 0) }
		var fe *backends.FencedError
		res, err := w.kill(p)
		if !errors.As(err, &fe) || backends.IsAmbiguous(err) {
			t.Errorf("answered %+v, %v", res, err)
		}
		if r, _ := w.fences(); r != moved {
			t.Errorf("Redis is at %s, want %s", r, moved)
		}
	})(t)
}
