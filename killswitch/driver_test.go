package killswitch_test

import (
	"errors"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// A driver that has stopped for a while writes nothing after another has taken over.
func TestOldDriverStops(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		move{backends.Shadow, backends.Live, false}.prepare(t, w)
		old, young := w.process(), w.process()
		run, err := old.Begin(t.Context(), request(backends.Live))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := run.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := young.Resume(t.Context(), pod); !errors.Is(err, killswitch.ErrDriverAlive) {
			t.Fatalf("a heartbeat seen for the first time: %v, want ErrDriverAlive", err)
		}
		elapse(killswitch.DefaultTakeover)
		taken, err := young.TakeOver(t.Context(), pod)
		if err != nil {
			t.Fatal(err)
		}
		var se *killswitch.SupersededError
		if _, err := run.Next(t.Context()); !errors.As(err, &se) {
			t.Fatalf("the old driver, while the new one is at it: %v, want a SupersededError", err)
		}
		for done := false; !done; {
			if done, err = taken.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if c := taken.State().History[0]; c.Outcome != killswitch.Undone {
			t.Fatalf("%+v; want it undone, since its gates were judged in another time", c)
		}
		if _, err := run.Next(t.Context()); !errors.As(err, &se) {
			t.Fatalf("the old driver: %v, want a SupersededError", err)
		}
		w.settleDown()
	})(t)
}

// A driver is judged by how long this process has seen its heartbeat stand still.
func TestTakeoverWaitsForTheHeartbeat(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		move{backends.Live, backends.Shadow, false}.prepare(t, w)
		dying := w.process()
		run, err := dying.Begin(t.Context(), request(backends.Shadow))
		if err != nil {
			t.Fatal(err)
		}
		p := w.process()
		look := func(want error) {
			t.Helper()
			if _, err := p.Resume(t.Context(), pod); !errors.Is(err, want) {
				t.Fatalf("%v, want %v", err, want)
			}
		}
		look(killswitch.ErrDriverAlive)
		elapse(killswitch.DefaultTakeover - time.Millisecond)
		look(killswitch.ErrDriverAlive)
		if _, err := run.Next(t.Context()); err != nil { // it lives after all
			t.Fatal(err)
		}
		elapse(time.Second)
		look(killswitch.ErrDriverAlive)
		elapse(killswitch.DefaultTakeover - time.Millisecond)
		look(killswitch.ErrDriverAlive)
		elapse(time.Millisecond)
		look(nil)
		if st := w.state(); st.Stage != backends.Shadow {
			t.Errorf("%+v", st)
		}
	})(t)
}

// The same driver's next switch begins with a heartbeat that nobody has seen before: one that stood still belongs to
// a switch that is over, and says nothing about this one.
func TestNextSwitchOfTheSameDriver(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		move{backends.Shadow, backends.Live, false}.prepare(t, w)
		driver, other := w.process(), w.process()
		for _, to := range []backends.Stage{backends.Live, backends.Shadow} {
			run, err := driver.Begin(t.Context(), request(to))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := other.Resume(t.Context(), pod); !errors.Is(err, killswitch.ErrDriverAlive) {
				t.Fatalf("the switch to %s, just begun: %v, want ErrDriverAlive", to, err)
			}
			for done := false; !done; {
				if done, err = run.Next(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			run.Close()
			elapse(killswitch.DefaultTakeover)
		}
		w.settleDown()
	})(t)
}

// A heartbeat goes on during a step that takes long, so that nobody takes over.
func TestHeartbeatDuringALongBackfill(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.RedisOnly)
		p, other := w.process(), w.process()
		if _, err := p.Switch(t.Context(), request(backends.Shadow)); err != nil {
			t.Fatal(err)
		}
		const pages = 20
		for range pages {
			p.carrier.pauses = append(p.carrier.pauses, time.Second)
		}
		done := make(chan error, 1)
		go func() {
			_, err := p.Work(t.Context(), pod, nil)
			done <- err
		}()
		for range pages - 1 {
			elapse(time.Second)
			if _, err := other.Work(t.Context(), pod, nil); !errors.Is(err, killswitch.ErrDriverAlive) {
				t.Fatalf("%v, want ErrDriverAlive", err)
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		w.settleDown()
	})(t)
}

// Work that needs both fences makes sure of them, also of one that could not be read before.
func TestWorkMakesSureOfTheFences(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		w.reserve(w.state().Fence(), nil)
		if _, err := w.kill(w.process()); err != nil {
			t.Fatal(err)
		}
		p := w.process()
		p.carrier.strict = true
		p.noFence = 1
		done, err := p.Work(t.Context(), pod, nil)
		if err != nil || len(done) != 2 {
			t.Errorf("%v, %v", done, err)
		}
		w.settleDown()
	})(t)
}

// MySQL is away after a kill: what is due stays in the record until it is back.
func TestWorkWaitsForMySQL(t *testing.T) {
	virtually(func(t *testing.T) {
		w := newWorld(t)
		w.begin(t, backends.Live)
		if _, err := w.kill(w.process()); err != nil {
			t.Fatal(err)
		}
		p := w.process()
		p.down[backends.SideMySQL] = true
		if done, err := p.Work(t.Context(), pod, nil); err == nil || len(done) != 0 {
			t.Errorf("%v, %v", done, err)
		}
		if st := w.state(); len(st.Due) != 2 || st.Worker != nil {
			t.Errorf("due %v, worker %v", st.Due, st.Worker)
		}
		w.settleDown()
	})(t)
}
