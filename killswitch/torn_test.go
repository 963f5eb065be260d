package killswitch_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// reading is a store one of whose readings is awaited.
type reading struct {
	killswitch.StorePort
	before, after func()
}

func (r reading) Fence(ctx context.Context) (backends.Fence, error) {
	r.before()
	defer r.after()
	return r.StorePort.Fence(ctx)
}

// A kill between the readings of Redis's fence and of MySQL's, which has followed it by then, looks like two fences that
// disagree. Taken for that, each kill could be followed by a realignment, for which callers wait.
func TestKillBetweenTwoReadings(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		p, at := w.process(), w.state().Fence()
		read := make(chan struct{})
		seen := sync.OnceFunc(func() { close(read) })
		kill := sync.OnceFunc(func() {
			f := backends.Fence{Epoch: at.Epoch + 1, Stage: backends.Shadow, Open: true}
			for _, s := range []interface {
				Raise(context.Context, backends.Fence, uint64) (backends.Fence, error)
			}{w.redis, w.mysql} {
				if _, err := s.Raise(context.Background(), f, at.Epoch); err != nil {
					t.Error(err)
				}
			}
		})
		p.stores.Redis = reading{p.stores.Redis, func() {}, seen}
		p.stores.MySQL = reading{p.stores.MySQL, func() { <-read; kill() }, func() {}}
		done, err := p.Work(t.Context(), pod, nil)
		if err != nil || slices.Contains(done, killswitch.WorkRealign) {
			t.Errorf("done: %v, %v", done, err)
		}
		if r, m := w.fences(); r.Epoch != at.Epoch+1 || m.Epoch != at.Epoch+1 {
			t.Errorf("the fences are at %s and %s", r, m)
		}
	})(t)
}
