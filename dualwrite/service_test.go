package dualwrite_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite"
)

// fast is a service's pod: loops need a clock that does not run by itself.
func fast(o *dualwrite.Options) {
	o.Clock, o.SweepAge = dualwrite.SystemClock{}, 10*time.Millisecond
}

// TestService: the loops mirror, sweep what a dead proxy has left, expire, and settle after a kill.
func TestService(t *testing.T) {
	r := newRig(t, backends.Shadow, fast)
	r.grant("of a lane", "mug", 1)
	dead := r.proxy()
	if _, err := dead.Reserve(r.ctx, cart("of a dead proxy", "mug", 1)); err != nil {
		t.Fatal(err)
	}
	r.clock.pass(time.Second) // by the stores' clock
	s := dualwrite.NewService(r.Pod, nil)
	s.Start(r.ctx)
	s.Start(r.ctx)
	defer s.Stop()
	empty := func(l *link) func() bool {
		return func() bool {
			st, err := l.OutboxStats(r.ctx)
			return err == nil && st.Entries == 0
		}
	}
	until(t, "the outbox to be empty", empty(r.redis))
	r.states("of a lane", backends.Held, backends.Held)
	r.states("of a dead proxy", backends.Held, backends.Held)
	r.clock.pass(2 * time.Minute)
	until(t, "the holds to expire", func() bool { return r.state(r.mysql, "of a dead proxy") == backends.Expired })
	until(t, "the outbox to be empty again", empty(r.redis))

	r.fences(backends.Live)
	r.grant("of live", "mug", 1)
	if _, err := r.mysql.Store.Reserve(r.ctx, r.tok(), cart("unheard of", "mug", 1)); err != nil {
		t.Fatal(err)
	}
	r.kill()
	until(t, "MySQL's outbox to be settled", empty(r.mysql))
	r.clock.pass(time.Second)
	until(t, "Redis's to be empty", empty(r.redis))
	r.states("of live", backends.Held, backends.Held)
	if st := r.state(r.mysql, "unheard of"); st.Open() {
		t.Errorf("a hold that nobody was told of is %s", st)
	}
	s.Stop()
	s.Stop()
	r.agree()
}

// TestServiceReports: a failing task is reported, and its recovery too.
func TestServiceReports(t *testing.T) {
	dualwrite.NewService(newRig(t, backends.Shadow).Pod, nil).Stop() // never started

	r := newRig(t, backends.Shadow, fast)
	var mu sync.Mutex
	away := true
	broken := errors.New("broken")
	r.redis.fence = func() error {
		mu.Lock()
		defer mu.Unlock()
		if away {
			return broken
		}
		return nil
	}
	failed, well := make(chan struct{}), make(chan struct{})
	var once, onceWell sync.Once
	s := dualwrite.NewService(r.Pod, func(task string, err error) {
		switch {
		case task != "refresh":
		case errors.Is(err, broken):
			once.Do(func() { close(failed) })
		case err == nil:
			onceWell.Do(func() { close(well) })
		}
	})
	s.Start(r.ctx)
	defer s.Stop()
	for _, c := range []chan struct{}{failed, well} {
		select {
		case <-c:
		case <-time.After(patience):
			t.Fatal("nothing was reported")
		}
		mu.Lock()
		away = false
		mu.Unlock()
	}
}
