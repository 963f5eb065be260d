package killswitch_test

import (
	"context"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// TestRecordChangesMeanwhile: while the gates are judged the record changes under the switch. What whoever
// asked for the switch has nothing to decide about does not fail it, and what has is told.
func TestRecordChangesMeanwhile(t *testing.T) {
	change := func(w *world, fn func(*killswitch.PodState)) {
		ctx := context.Background()
		st, rev, _ := w.control.Get(ctx, pod)
		fn(&st)
		if _, err := w.control.CompareAndSet(ctx, pod, rev, st); err != nil {
			w.tb.Errorf("the change of the record: %v", err)
		}
	}
	for _, c := range []struct {
		name      string
		meanwhile func(w *world, look int)
		looks     int
		wants     backends.Stage
	}{
		{"nothing", func(*world, int) {}, 1, backends.Live},
		{"a worker goes on with its work", func(w *world, _ int) {
			change(w, func(st *killswitch.PodState) { st.Worker.Beat++ })
		}, 1, backends.Live},
		{"a worker ends its work", func(w *world, look int) {
			if look == 1 {
				change(w, func(st *killswitch.PodState) { st.Worker = nil })
			}
		}, 2, backends.Live},
		{"another one begins", func(w *world, look int) {
			if look == 1 {
				change(w, func(st *killswitch.PodState) { st.Worker = &killswitch.Lead{Driver: "another", Beat: 1} })
			}
		}, 2, backends.Live},
		{"a kill", func(w *world, _ int) {
			if _, err := w.kill(w.process()); err != nil {
				w.tb.Errorf("the kill: %v", err)
			}
		}, 1, backends.RedisOnly},
		{"a kill, and back", func(w *world, look int) {
			if look > 1 {
				return
			}
			if _, err := w.kill(w.process()); err != nil {
				w.tb.Errorf("the kill: %v", err)
			}
			change(w, func(st *killswitch.PodState) { st.Worker = nil })
			w.settleDown()
			if _, err := w.process().Switch(context.Background(), request(backends.Shadow)); err != nil {
				w.tb.Errorf("the way back: %v", err)
			}
			w.settleDown()
		}, 2, backends.Shadow},
		{"there and further", func(w *world, look int) {
			if look > 1 {
				return
			}
			change(w, func(st *killswitch.PodState) { st.Worker = nil })
			for _, to := range []backends.Stage{backends.Live, backends.MySQLOnly} {
				if _, err := w.process().Switch(context.Background(), request(to)); err != nil {
					w.tb.Errorf("on to %s: %v", to, err)
				}
				w.settleDown()
			}
		}, 2, backends.MySQLOnly},
	} {
		t.Run(c.name, virtually(func(t *testing.T) {
			w := newWorld(t)
			w.begin(t, backends.Shadow)
			change(w, func(st *killswitch.PodState) { st.Worker = &killswitch.Lead{Driver: "worker", Beat: 1} })
			r, looks := request(backends.Live), 0
			r.Evidence = func(ctx context.Context, n killswitch.Need) killswitch.Evidence {
				looks++
				c.meanwhile(w, looks)
				return fine(ctx, n)
			}
			_, err := w.process().Switch(t.Context(), r)
			if (err == nil) != (c.wants == backends.Live) || looks != c.looks || w.state().Stage != c.wants {
				t.Errorf("%v after %d looks, the pod is in %s; want %d looks and %s", err, looks, w.state().Stage, c.looks, c.wants)
			}
		}))
	}
}
