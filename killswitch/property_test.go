package killswitch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// actor is a process with, at times, a switch in its hand.
type actor struct {
	*process
	run *killswitch.Run
}

// drop lets go of a switch that is over.
func (a *actor) drop() {
	a.run.Close()
	a.run = nil
}

// machine plays switches by two processes, kills, crashes, lost answers with late effects, stores and
// control stores that are away, and callers that believe in fences of any age. World checks P1
// at every change of a fence; at the end the pod comes to rest with nothing acknowledged lost.
type machine struct {
	w      *world
	actors []*actor
	seen   []backends.Fence
}

func newMachine(t *rapid.T) *machine {
	w := newWorld(t)
	w.begin(nothing{}, rapid.SampledFrom(allStages).Draw(t, "first stage"))
	return &machine{w: w, actors: []*actor{{process: w.process()}, {process: w.process()}}}
}

// nothing is a testing.TB for set-up that cannot fail.
type nothing struct{ testing.TB }

func (nothing) Helper()           {}
func (nothing) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (m *machine) actor(t *rapid.T) *actor { return rapid.SampledFrom(m.actors).Draw(t, "process") }

// trouble is drawn for one call, and goes by after it.
func (m *machine) trouble(t *rapid.T, a *actor) (over func()) {
	switch rapid.SampledFrom([]string{"none", "none", "none", "lost answer", "lost for good", "killed at raise", "no redis", "no mysql", "no control"}).Draw(t, "trouble") {
	case "lost answer":
		a.loseNext = true
	case "lost for good":
		a.loseAt = 1
	case "killed at raise":
		a.atRaise = func() {
			a.atRaise = nil
			_, _ = m.w.kill(m.w.process())
		}
	case "no redis":
		a.down[backends.SideRedis] = true
	case "no mysql":
		a.down[backends.SideMySQL] = true
	case "no control":
		a.noControl = true
	}
	return func() {
		a.loseNext, a.noControl, a.loseAt, a.atRaise = false, false, 0, nil
		clear(a.down)
	}
}

func (m *machine) begin(t *rapid.T) {
	a := m.actor(t)
	to := rapid.SampledFrom(allStages).Draw(t, "to")
	defer m.trouble(t, a)()
	if a.run == nil {
		a.run, _ = a.Begin(context.Background(), request(to))
	}
}

func (m *machine) next(t *rapid.T) {
	a := m.actor(t)
	defer m.trouble(t, a)()
	if a.run == nil {
		return
	}
	done, err := a.run.Next(context.Background())
	var se *killswitch.SupersededError
	if done || errors.As(err, &se) {
		a.drop()
	}
}

func (m *machine) takeOver(t *rapid.T) {
	a := m.actor(t)
	defer m.trouble(t, a)()
	if a.run == nil {
		a.run, _ = a.TakeOver(context.Background(), pod)
	}
}

func (m *machine) work(t *rapid.T) {
	a := m.actor(t)
	defer m.trouble(t, a)()
	if a.run == nil {
		_, _ = a.Work(context.Background(), pod, nil)
	}
}

func (m *machine) crash(t *rapid.T) {
	i := rapid.IntRange(0, len(m.actors)-1).Draw(t, "process")
	m.actors[i] = &actor{process: m.w.process()}
}

func (m *machine) kill(t *rapid.T) {
	a := &actor{process: m.w.process()}
	defer m.trouble(t, a)()
	_, _ = m.w.kill(a.process)
}

// land lets the effect of a call happen whose answer was lost.
func (m *machine) land(t *rapid.T) {
	if n := len(m.w.late); n > 0 {
		i := rapid.IntRange(0, n-1).Draw(t, "late effect")
		f := m.w.late[i]
		m.w.late = append(m.w.late[:i:i], m.w.late[i+1:]...)
		f()
	}
}

func (m *machine) reserve(t *rapid.T) {
	if len(m.seen) == 0 {
		return
	}
	// Mostly by what was seen last.
	back := min(rapid.IntRange(0, 5).Draw(t, "believes in"), len(m.seen)-1)
	var between func()
	switch rapid.SampledFrom([]string{"nothing", "kill", "next", "land"}).Draw(t, "between") {
	case "kill":
		between = func() { m.kill(t) }
	case "next":
		between = func() { m.next(t) }
	case "land":
		between = func() { m.land(t) }
	}
	m.w.reserve(m.seen[len(m.seen)-1-back], between)
}

// look notes fences for callers to believe in.
func (m *machine) look(*rapid.T) {
	r, my := m.w.fences()
	for _, f := range []backends.Fence{my, r} {
		if n := len(m.seen); n == 0 || m.seen[n-1] != f {
			m.seen = append(m.seen, f)
		}
	}
}

func play(t *rapid.T) {
	m := newMachine(t)
	t.Repeat(map[string]func(*rapid.T){
		"begin": m.begin, "next": m.next, "next again": m.next, "and again": m.next, "take over": m.takeOver,
		"work": m.work, "work again": m.work, "crash": m.crash, "kill": m.kill, "land": m.land, "reserve": m.reserve, "reserve again": m.reserve,
		"time": func(*rapid.T) { elapse(killswitch.DefaultTakeover) },
		"":     m.look,
	})
	m.w.settleDown()
}

// inBubble hides the deadline, which cannot be asked for in a bubble.
type inBubble struct{ *testing.T }

func TestInterleavings(t *testing.T) {
	rounds := 10 // of 100 schedules each; long forms play more
	if os.Getenv("CROSSFADE_LONG") != "" {
		rounds = 300
	}
	for i := range rounds {
		t.Run(fmt.Sprint(i), virtually(func(t *testing.T) { rapid.Check(inBubble{t}, play) }))
		if t.Failed() {
			return
		}
	}
}
