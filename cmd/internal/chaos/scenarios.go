package chaos

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const switchesName = "switches"

// scenarios are all that there are, in the order in which they are played.
func scenarios() []scenario {
	return []scenario{
		{switchesName, []faultCase{{
			name: "back-and-forth", says: "switches between shadow and live, back and forth", stage: backends.Shadow, once: true,
			figure: "longest reserve that met a switch", play: backAndForth,
		}}},
		{"stopped", stoppedCases()},
		{"cut", cutCases()},
		{"control", controlCases()},
		{"driver", driverCases()},
		{"kill", killCases()},
		{"failover", failoverCases()},
		{clockName, clockCases()},
		{"behind", behindCases()},
	}
}

// casesOf are the names of a scenario's cases.
func casesOf(scenario string) (out []string) {
	for _, s := range scenarios() {
		for i := range s.cases {
			if s.name == scenario {
				out = append(out, s.cases[i].name)
			}
		}
	}
	return out
}

// other is where a pod goes from shadow, and from live.
func other(s backends.Stage) backends.Stage {
	if s == backends.Shadow {
		return backends.Live
	}
	return backends.Shadow
}

// backAndForth switches the pod as often as trials are asked for, each time through the next proxy.
func backAndForth(ctx context.Context, t *trial) error {
	const between = 500 // reserves: about a second
	at := backends.Shadow
	t.switching = true
	for n := range t.o.Trials {
		if _, err := t.settled(ctx); err != nil {
			return err
		}
		if err := t.load.warm(ctx, between); err != nil {
			return err
		}
		if err := t.move(ctx, n%fleet, other(at)); err != nil {
			return err
		}
		at = other(at)
		t.tell("switch %d of %d: %s", n+1, t.o.Trials, at)
	}
	_, err := t.settled(ctx)
	return err
}

// move switches through one proxy and measures those who met it. A gate that does not pass yet is asked again.
func (t *trial) move(ctx context.Context, by int, to backends.Stage) error {
	return eventually(ctx, settleWithin, "the pod can go to "+to.String(), func() error {
		t.mark()
		res, err := t.stage(ctx, by, to)
		if err != nil {
			t.note("to %s: %v", to, err)
			return err
		}
		t.mark()
		end := time.Now()
		took := time.Duration(res.HeldMillis * float64(time.Millisecond))
		t.held = append(t.held, took)
		t.longest = longer(t.longest, &Held{To: to.String(), MS: res.HeldMillis, Steps: res.Change.Steps})
		if t.steps == nil {
			t.steps = map[string][]time.Duration{}
		}
		for _, x := range res.Change.Steps {
			name := "to " + to.String() + ": " + x.Name
			t.steps[name] = append(t.steps[name], time.Duration(x.TookMillis*float64(time.Millisecond)))
		}
		t.met(end.Add(-took), end)
		return nil
	})
}

// note keeps what is worth knowing, once.
func (t *trial) note(format string, args ...any) {
	const most = 10
	if n := fmt.Sprintf(format, args...); len(t.notes) < most && !slices.Contains(t.notes, n) {
		t.notes = append(t.notes, n)
	}
}

// met keeps the waits of reserves that overlap a span of time. They may still be under way: those are looked at later.
func (t *trial) met(from, to time.Time) { t.spans = append(t.spans, [2]time.Time{from, to}) }

// measure fills in the waits, once the load has ended.
func (t *trial) measure() {
	l := t.load
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.waits {
		for _, s := range t.spans {
			if w.began.Before(s[1]) && w.end.After(s[0]) {
				t.waits = append(t.waits, w.end.Sub(w.began))
				break
			}
		}
	}
	if !t.switching {
		return
	}
	for _, w := range t.waits {
		t.figure(w)
	}
}
