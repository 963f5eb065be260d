package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

const (
	// patience bounds the wait for anything that a step waits for.
	patience = time.Minute
	// pollEvery is how often it looks.
	pollEvery = 100 * time.Millisecond
	// progressEvery is how often a line is written while checkouts play.
	progressEvery = 3 * time.Second
	// leaveWithin bounds the end: checkouts finish their carts, servers stop.
	leaveWithin = time.Minute
	who         = "demo"
)

// Options of a demo.
type Options struct {
	// Short takes about fifteen seconds instead of a minute.
	Short bool
	// Dir and Keep are for the servers: see Setup. With a Dir, the checkouts' logs are kept there.
	Dir  string
	Keep bool
	// Open opens the system on real servers; nil plays on the memory model.
	Open OpenFunc
	// Progress gets what happens as it happens; nil discards it.
	Progress io.Writer
}

// pace is how long the parts of a demo take.
type pace struct {
	shadow, live, after time.Duration
	orders              int     // of each shop's book: for several times as long as the demo should take
	items               int     // on each shop's shelf
	rate                float64 // orders a second and shop
	clients             int     // of each shop
	hold                time.Duration
	stock               float64 // fraction of the book's demand: enough for most, as not all of it is played
}

func (o Options) pace() pace {
	if o.Short {
		return pace{shadow: 3 * time.Second, live: 2 * time.Second, after: time.Second, orders: 900, items: 200, rate: 15, clients: 8, hold: 150 * time.Millisecond, stock: 0.25}
	}
	return pace{shadow: 18 * time.Second, live: 14 * time.Second, after: 6 * time.Second, orders: 2400, items: 400, rate: 15, clients: 16, hold: 300 * time.Millisecond, stock: 0.25}
}

// show is one demo under way.
type show struct {
	o     Options
	pace  pace
	sys   System
	sum   Summary
	start time.Time
	logs  string // folder of the checkouts' logs
	shops []*checkout
	found []string // by the step at hand
}

// Run plays the demo. The summary tells what happened as far as it went. The error is that of a
// step that could not be taken, or a *WrongError when the demo went to its end and something was not as
// it should be.
func Run(ctx context.Context, o Options) (Summary, error) { return run(ctx, o, o.pace()) }

func run(ctx context.Context, o Options, p pace) (Summary, error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	s := &show{o: o, pace: p, start: time.Now()}
	s.sum.Steps, s.sum.Wrong, s.sum.Pods = []Step{}, []string{}, map[backends.Pod]*PodSummary{PodOne: {}, PodTwo: {}}
	length := "about a minute"
	if o.Short {
		length = "about fifteen seconds"
	}
	s.say("Crossfade demo: two shops move from Redis counters to a MySQL unit pool while they sell (%s).", length)
	err := s.run(ctx)
	s.sum.TookMS = s.elapsed().Milliseconds()
	s.sum.OK = err == nil && len(s.sum.Wrong) == 0
	if err == nil && !s.sum.OK {
		err = &WrongError{s.sum.Wrong}
	}
	return s.sum, err
}

func (s *show) run(ctx context.Context) (err error) {
	if err := s.folder(); err != nil {
		return err
	}
	if s.o.Dir == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(s.logs)) }()
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	defer func() {
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
		defer cancel()
		s.leave(leave)
		if serr := s.sys.Stop(leave); serr != nil {
			err = errors.Join(err, fmt.Errorf("stopping: %w", serr))
		}
	}()
	for i, st := range s.steps() {
		if err := s.step(ctx, i+1, st); err != nil {
			return err
		}
	}
	return nil
}

// folder is where the logs go.
func (s *show) folder() (err error) {
	if s.o.Dir == "" {
		s.logs, err = os.MkdirTemp("", "crossfade-demo-logs-")
		return err
	}
	s.logs = filepath.Join(s.o.Dir, "logs")
	return os.MkdirAll(s.logs, 0o755)
}

// open has the servers, or the memory model in their place.
func (s *show) open(ctx context.Context) (err error) {
	start := time.Now()
	if s.o.Open == nil {
		s.onMemory("")
	} else {
		s.say("Starting servers …")
		s.sys, err = s.o.Open(ctx, Setup{Dir: s.o.Dir, Keep: s.o.Keep, Progress: indented{s.o.Progress}})
		var none *lab.UnavailableError
		switch {
		case errors.As(err, &none):
			s.onMemory(none.Error())
		case err != nil:
			return fmt.Errorf("starting: %w", err)
		}
	}
	if s.sum.Memory {
		if s.sys, err = OpenMemory(ctx); err != nil {
			return fmt.Errorf("starting: %w", err)
		}
	}
	s.sum.System = s.sys.About()
	for _, line := range s.sum.System {
		s.say("    %s", line)
	}
	s.sum.StartMS = time.Since(start).Milliseconds()
	return nil
}

// onMemory says clearly that there are no servers.
func (s *show) onMemory(why string) {
	s.sum.Memory, s.sum.Install = true, lab.Missing()
	s.say("%s", memoryNotice)
	if why != "" {
		fmt.Fprintf(indented{s.o.Progress}, "%s\n", why)
	}
	s.say("    %s", s.sum.Install)
}

const memoryNotice = "*** NO SERVERS: this demo runs on the MEMORY MODEL. It shows the steps, not Redis and not MySQL. ***"

func (s *show) elapsed() time.Duration { return time.Since(s.start) }

// say writes a line with the time since the start.
func (s *show) say(format string, args ...any) {
	fmt.Fprintf(s.o.Progress, "[%5.1fs] %s\n", s.elapsed().Seconds(), fmt.Sprintf(format, args...))
}

func (s *show) wrong(format string, args ...any) {
	w := fmt.Sprintf(format, args...)
	s.sum.Wrong = append(s.sum.Wrong, w)
	s.say("    WRONG: %s", w)
}

// step takes one step and writes down what it found.
func (s *show) step(ctx context.Context, number int, st step) error {
	s.say("%d. %s", number, st.title)
	start := time.Now()
	s.found = []string{}
	if err := st.do(ctx); err != nil {
		return fmt.Errorf("step %d (%s): %w", number, st.name, err)
	}
	s.sum.Steps = append(s.sum.Steps, Step{Name: st.name, Title: st.title, Found: s.found, TookMS: time.Since(start).Milliseconds()})
	return nil
}

// note is what the step at hand has found: said at once, and kept for the summary.
func (s *show) note(format string, args ...any) {
	n := fmt.Sprintf(format, args...)
	s.found = append(s.found, n)
	s.say("    %s", n)
}

// leave ends the checkouts, if they are not ended yet.
func (s *show) leave(ctx context.Context) {
	for _, c := range s.shops {
		c.end()
	}
	for _, c := range s.shops {
		c.wait(ctx)
	}
}

// waitFor looks again and again until done says so. What it lacks is said now and then, and when it
// takes too long.
func (s *show) waitFor(ctx context.Context, what string, done func(context.Context) (ok bool, lacks string, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	lacks := ""
	last := time.Now()
	for {
		ok, l, err := done(ctx)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("waiting until %s: %w", what, err)
		}
		if ok {
			return nil
		}
		if l != "" {
			lacks = l
		}
		if time.Since(last) > progressEvery {
			last = time.Now()
			s.say("    waiting until %s (%s)", what, lacks)
		}
		if pause(ctx, pollEvery) != nil {
			return fmt.Errorf("waited for %s until %s, in vain (%s): %w", patience, what, lacks, context.Cause(ctx))
		}
	}
}

// again is for what done of waitFor could not find out this time: it is asked again.
func again(err error) (ok bool, lacks string, fatal error) { return false, err.Error(), nil }

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
