package sim

import (
	"context"

	"github.com/crossfade-proxy/crossfade/backends"
)

// switching spawns a kill in some schedules.
func (w *world) switching() {
	rng := w.s.rng
	if rng.IntN(2) == 0 {
		return
	}
	w.s.spawn(nil, "kill", func() {
		w.sleep(rng.IntN(150))
		ctx := context.Background()
		f, _ := w.redis.Fence(ctx)
		if f.Stage == backends.Live && f.Filled {
			w.kills++
			_, _ = w.redis.Raise(ctx, backends.Fence{Epoch: f.Epoch + 1, Stage: backends.Shadow, Open: true}, f.Epoch)
			w.mutated()
		}
	})
}
