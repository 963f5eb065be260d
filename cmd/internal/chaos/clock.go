package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// skew is by how much one proxy's clock is wrong.
const skew = 30 * time.Second

// clockCases give one proxy a clock that is wrong, and then kill, switch and let holds expire.
func clockCases() (out []faultCase) {
	for _, by := range []time.Duration{-skew, skew} {
		name := "ahead"
		if by < 0 {
			name = "behind"
		}
		out = append(out, faultCase{
			name: name, says: fmt.Sprintf("one proxy's clock is 30 s %s: switches through it and through another, a kill", name), stage: backends.Shadow,
			figure: "from the command to Redis's grants through every proxy", bound: KillWithin,
			// A build of several minutes under load made a hundred times the holds that a trial has, and the gates read them all.
			prepare: func(ctx context.Context, r *rig) error { _, err := r.skewed(ctx, by); return err },
			play:    func(ctx context.Context, t *trial) error { return t.wrongClock(ctx, by) },
		})
	}
	return out
}

// buildable tells whether a proxy can be built here, before anything is played.
func buildable(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "list", programPath).CombinedOutput()
	if err == nil {
		return nil
	}
	return &backends.FieldError{
		Field: "--scenario", Value: clockName, Bound: fmt.Sprintf("the project's folder, with Go: the proxy is built anew with a wrong clock (%s)", killswitch.Clip(fmt.Sprintf("%v: %s", err, bytes.TrimSpace(out)))),
		Next: "run it there, or name the other scenarios",
	}
}

const (
	clockName   = "clock"
	programPath = "github.com/crossfade-proxy/crossfade/cmd/crossfade"
)

func (t *trial) wrongClock(ctx context.Context, by time.Duration) error {
	v := t.no % fleet
	p := t.proxies[v]
	binary, err := t.skewed(ctx, by)
	if err != nil {
		return err
	}
	over := t.load.excuse(v, "it is started anew with another clock")
	if err := p.restart(ctx, binary); err != nil {
		return err
	}
	defer func() { p.binary = t.o.Binary }() // the next start has the right time again
	if err := t.serving(ctx, p); err != nil {
		return err
	}
	rest(ctx, shyFor)
	over()
	if err := t.isSkewed(ctx, v, by); err != nil {
		return err
	}
	for _, m := range []struct {
		by int
		to backends.Stage
	}{{v, backends.Live}, {(v + 1) % fleet, backends.Shadow}, {(v + 1) % fleet, backends.Live}} {
		if err := t.move(ctx, m.by, m.to); err != nil {
			return err
		}
		if _, err := t.settled(ctx); err != nil {
			return err
		}
	}
	if err := t.killPod(ctx, v); err != nil {
		return err
	}
	rest(ctx, 2*shortLife) // holds expire while it is there
	over = t.load.excuse(v, "it is started anew with the right clock")
	defer over()
	if err := p.restart(ctx, t.o.Binary); err != nil {
		return err
	}
	err = t.serving(ctx, p)
	rest(ctx, shyFor)
	return err
}

func (p *proxy) restart(ctx context.Context, binary string) error {
	if err := p.kill(); err != nil {
		return err
	}
	p.binary = binary
	return p.start(ctx)
}

// isSkewed makes sure that the proxy has the clock that it should have: its word in the control store carries its time.
func (t *trial) isSkewed(ctx context.Context, n int, by time.Duration) error {
	const within, near = 20 * time.Second, 10 * time.Second
	return eventually(ctx, within, "the proxy says another time", func() error {
		acks, err := t.control.store().Acks(ctx, podName)
		if err != nil {
			return err
		}
		for _, a := range acks {
			if a.Proxy != fmt.Sprintf("proxy-%d", n) {
				continue
			}
			if off := time.Until(a.At) - by; off > -near && off < near {
				return nil
			}
			return fmt.Errorf("it says %s", a.At)
		}
		return errors.New("it has said nothing")
	})
}

// clockLine is where package time reads the wall clock, in the standard library's own source.
const clockLine = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n\t\treturn Time{uint64(nsec), sec + unixToInternal, Local}"

// skewed builds the program against a standard library whose wall clock is wrong, by the compiler's overlay: the
// program's own source is the same, and every clock reading in it is wrong.
func (r *rig) skewed(ctx context.Context, by time.Duration) (string, error) {
	binary := filepath.Join(r.dir, fmt.Sprintf("crossfade%+d", int(by.Seconds())))
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	r.tell("building a proxy whose clock is wrong by %s", by)
	source, changed, err := wrongTime(ctx, by)
	if err != nil {
		return "", err
	}
	other := filepath.Join(r.dir, fmt.Sprintf("time%+d.go", int(by.Seconds())))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: other}})
	if err != nil {
		return "", err
	}
	list := other + ".json"
	if err := errors.Join(os.WriteFile(other, changed, 0o600), os.WriteFile(list, overlay, 0o600)); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-overlay", list, "-o", binary, programPath).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building a proxy with a wrong clock, in the project's folder: %w: %s", err, out)
	}
	return binary, nil
}

// wrongTime is package time's own source, and the same with a wall clock that is wrong.
func wrongTime(ctx context.Context, by time.Duration) (source string, changed []byte, err error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", nil, fmt.Errorf("the clock of a proxy is made wrong by building it anew, which needs Go: %w", err)
	}
	source = filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(source) //nolint:gosec // the toolchain's own
	if err != nil {
		return "", nil, err
	}
	wrong := strings.Replace(clockLine, "\n", fmt.Sprintf("\n\tsec += %d\n", int(by.Seconds())), 1)
	if strings.Count(string(text), clockLine) != 1 {
		return "", nil, fmt.Errorf("%s does not read the clock as this harness knows it; see clockLine in cmd/internal/chaos", source)
	}
	return source, []byte(strings.Replace(string(text), clockLine, wrong, 1)), nil
}
