package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// biteMost is how long a fault lasts at most before it is answered: a kill, a switch.
const biteMost = 600 * time.Millisecond

// bite lets a fault last for some time, another in each trial.
func (t *trial) bite(ctx context.Context) {
	const steps = 7 // another share of the longest in each trial, whatever the number of trials
	rest(ctx, biteMost*time.Duration(t.no%steps)/steps)
}

// command runs the command line against one proxy, as an operator would.
func (t *trial) command(ctx context.Context, by int, out any, args ...string) error {
	const within = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.o.Binary, append([]string{"-c", t.proxies[by].config, "--json"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("crossfade %v: %w: %s", args, err, stderr.String())
	}
	return json.Unmarshal(stdout.Bytes(), out)
}

// killPod gives the command, and measures from there to Redis's first grant through every proxy.
func (t *trial) killPod(ctx context.Context, by int) error {
	_, err := t.killBut(ctx, by, -1)
	return err
}

// killBut is killPod while one proxy is stopped.
func (t *trial) killBut(ctx context.Context, by, stopped int) (res killswitch.KillResult, err error) {
	t.mark()
	began := time.Now()
	if err := t.command(ctx, by, &res, "kill", podName, "--from", "live", "--why", "chaos"); err != nil {
		return res, err
	}
	t.mark()
	if res.Verdict != killswitch.KillGo {
		return res, fmt.Errorf("the kill's verdict is %s", res.Verdict)
	}
	worst, err := t.grantsBut(ctx, stopped, res.To.Epoch, began)
	if err == nil {
		t.figure(worst)
	}
	return res, err
}

// mysqlFault is what happens to MySQL before a kill.
type mysqlFault struct {
	name, says string
	do         func(t *trial) error
	only       bool // it is so for one proxy only
}

func mysqlFaults() []mysqlFault {
	const slowness = 2 * time.Second
	return []mysqlFault{
		{name: "mysql-killed", says: "MySQL killed", do: func(t *trial) error { return t.sql.Kill() }},
		{name: "mysql-stopped", says: "MySQL stopped (SIGSTOP)", do: func(t *trial) error { return t.sql.Pause() }},
		{name: "mysql-unreachable", says: "MySQL out of reach of one proxy", only: true, do: func(t *trial) error {
			t.proxies[t.no%fleet].mysql.set(away(t.no), 0)
			return nil
		}},
		{name: "mysql-slow", says: "MySQL slow, 2 s for each statement", do: func(t *trial) error {
			for _, p := range t.proxies {
				p.mysql.set(slow, slowness)
			}
			return nil
		}},
	}
}

// away is a server out of reach: connections that break in one trial, silence in the next.
func away(no int) mode {
	if no%2 == 0 {
		return stall
	}
	return cut
}

func killCases() (out []faultCase) {
	for _, f := range mysqlFaults() {
		out = append(out, faultCase{
			name: f.name, says: "kill in live: " + f.says, stage: backends.Live,
			figure: "from the command to Redis's grants through every proxy", bound: KillWithin,
			play: func(ctx context.Context, t *trial) error {
				who := -1
				if f.only {
					who = t.no % fleet
				}
				over := t.load.excuse(who, f.says)
				if err := f.do(t); err != nil {
					return err
				}
				t.bite(ctx)
				if err := t.killPod(ctx, (t.no+t.no/fleet)%fleet); err != nil {
					return err
				}
				rest(ctx, KillWithin)
				over()
				return nil
			},
		})
	}
	return out
}

// driverCases kill the process that drives a switch at each step.
func driverCases() (out []faultCase) {
	for _, from := range []backends.Stage{backends.Shadow, backends.Live} {
		sw := killswitch.Switch{Kind: killswitch.KindMove, From: from, To: other(from), FromFilled: from == backends.Live}
		for k, s := range killswitch.Steps(sw) {
			out = append(out, faultCase{
				name: fmt.Sprintf("%s-to-%s-step-%d", from, other(from), k+1), stage: from,
				says:   fmt.Sprintf("%s → %s, its driver killed at step %d: %s", from, other(from), k+1, s.Name),
				figure: "from its death until every other proxy answers", bound: ServeWithin,
				play: func(ctx context.Context, t *trial) error { return t.killDriver(ctx, from, k) },
			})
		}
	}
	return out
}

// errMissed: the switch had gone on before it was looked at.
var errMissed = errors.New("the step was over before the record was read")

func (t *trial) killDriver(ctx context.Context, from backends.Stage, step int) error {
	const tries = 10
	by := t.no % fleet
	for n := range tries {
		died, err := t.dieAt(ctx, by, from, step)
		if errors.Is(err, errMissed) && n < tries-1 {
			if err := errors.Join(t.serving(ctx, t.proxies[by]), t.begin(ctx, from)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		return t.afterDeath(ctx, by, died)
	}
	return nil
}

// dieAt begins a switch through a proxy and kills that as soon as the record shows the step.
func (t *trial) dieAt(ctx context.Context, by int, from backends.Stage, step int) (died time.Time, err error) {
	const within, every = 20 * time.Second, 200 * time.Microsecond
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	t.load.excuse(by, "it is killed")
	answered := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_, err := t.stage(ctx, by, other(from))
		answered <- err
	})
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case err := <-answered:
			return died, errors.Join(errMissed, err)
		case <-ctx.Done():
			return died, ctx.Err()
		case <-tick.C:
		}
		st, _, err := t.control.store().Get(ctx, podName)
		if err != nil {
			return died, err
		}
		sw := st.Switch
		if sw == nil || sw.Undo || sw.Step < step {
			continue
		}
		if sw.Step > step {
			return died, errMissed
		}
		t.mark()
		t.load.excuse(-1, "nobody drives the switch")
		died = time.Now()
		return died, t.proxies[by].kill()
	}
}

// afterDeath waits until the others serve again, and starts the dead one anew.
func (t *trial) afterDeath(ctx context.Context, by int, died time.Time) error {
	const within = 30 * time.Second
	survivor := t.proxies[(by+1)%fleet]
	err := eventually(ctx, within, "somebody finishes or undoes the switch", func() error {
		st, err := survivor.status(ctx)
		if err == nil && (st.Switch != nil || !st.Serving) {
			err = fmt.Errorf("serving %v, switch open %v", st.Serving, st.Switch != nil)
		}
		return err
	})
	t.mark()
	if err != nil {
		return err
	}
	rest(ctx, time.Second) // for probes that have waited to be answered, and some behind them
	t.load.closeExcuses(died.Add(ServeWithin))
	for n := range fleet {
		if n == by {
			continue
		}
		d, err := t.load.servedAfter(n, died)
		if err != nil {
			return err
		}
		t.figure(d)
	}
	p := t.proxies[by]
	if err := errors.Join(p.start(ctx), t.serving(ctx, p)); err != nil {
		return err
	}
	t.load.closeExcusesOf(by, time.Now().Add(shyFor))
	return nil
}

// stopTrap stops a proxy at a truth write of its own.
type stopTrap struct {
	proxy   *proxy
	where   string // before, in, after
	marks   [][]byte
	caught  chan error
	release chan struct{}

	mu   sync.Mutex
	link any
	done bool
}

func (s *stopTrap) sees(link any, direction int, piece []byte) <-chan struct{} {
	if direction != toServer {
		return nil
	}
	for _, m := range s.marks {
		if !bytes.Contains(piece, m) {
			return nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.done || s.link != nil:
		return nil
	case s.where == "after":
		s.link = link
		return nil
	}
	s.done = true
	s.caught <- s.proxy.signal(syscall.SIGSTOP)
	if s.where == "before" {
		return s.release
	}
	return nil
}

func (s *stopTrap) passed(link any, direction int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if direction == toProxy && s.link == link && !s.done {
		s.done = true
		s.caught <- s.proxy.signal(syscall.SIGSTOP)
	}
}

// stoppedCases stop a proxy at a truth write, switch, and wake it.
func stoppedCases() (out []faultCase) {
	for _, from := range []backends.Stage{backends.Shadow, backends.Live} {
		for _, where := range []string{"before", "in", "after"} {
			out = append(out, faultCase{
				name: fmt.Sprintf("%s-a-write-%s-to-%s", where, from, other(from)), stage: from,
				says:   fmt.Sprintf("a proxy stopped %s a write of %s, woken after the switch to %s", where, from.Truth(), other(from)),
				figure: "longest reserve through another proxy",
				play:   func(ctx context.Context, t *trial) error { return t.stopProxy(ctx, from, where) },
			})
		}
	}
	return out
}

func (t *trial) stopProxy(ctx context.Context, from backends.Stage, where string) error {
	const within = 20 * time.Second
	v := t.no % fleet
	p := t.proxies[v]
	over := t.load.excuse(v, "it is stopped")
	trap := &stopTrap{proxy: p, where: where, marks: [][]byte{[]byte(t.load.name + "-")}, caught: make(chan error, 1), release: make(chan struct{})}
	free := sync.OnceFunc(func() { close(trap.release) })
	defer free()
	at := p.redis
	if from.Truth() == backends.SideMySQL {
		at, trap.marks = p.mysql, append(trap.marks, []byte("INSERT INTO crossfade_holds"))
	} else {
		trap.marks = append(trap.marks, []byte("EVALSHA"))
	}
	at.lay(trap)
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case err := <-trap.caught:
		if err != nil {
			return err
		}
	case <-late.C:
		return errors.New("no write of that proxy was seen")
	case <-ctx.Done():
		return ctx.Err()
	}
	began := time.Now()
	t.bite(ctx)
	if err := t.move(ctx, (v+1)%fleet, other(from)); err != nil {
		return err
	}
	t.bite(ctx)
	at.lay(nil)
	t.mark()
	free()
	if err := p.signal(syscall.SIGCONT); err != nil {
		return err
	}
	err := t.serving(ctx, p)
	t.mark()
	rest(ctx, shyFor)
	over()
	for n := range fleet {
		if n == v {
			continue
		}
		for _, q := range t.load.probesOf(n, began) {
			t.figure(q.end.Sub(q.began))
		}
	}
	return err
}
