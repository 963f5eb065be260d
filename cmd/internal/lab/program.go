package lab

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// Twemproxy is a proxy for Redis that others run in front of theirs (package nutcracker). The lab has its
// program for the benchmark; it is no server of the lab's, and not one of [Kinds].
const Twemproxy Kind = "twemproxy"

// Spin checks models (package spin). The lab has it for the specification in docs/spec.
const Spin Kind = "spin"

// Program is a program that was found on the machine or fetched, as servers are.
type Program struct {
	Version Version
	Origin  string
	in      install
}

// Find has the program of a kind, by the same ways as a server. The error is an *UnavailableError when
// no way leads to it.
func Find(ctx context.Context, k Kind, opts Options) (*Program, error) {
	if _, known := kindFacts[k]; !known {
		return nil, fmt.Errorf("lab: nothing is known of a program of kind %q", k)
	}
	found, tried := onMachine(ctx, k)
	if len(found) > 0 {
		return &Program{Version: found[0].Version, Origin: found[0].Origin, in: found[0]}, nil
	}
	if len(tried) == 0 {
		tried = append(tried, "found on this machine: none")
	}
	cache, err := opts.cacheDir()
	if err != nil {
		return nil, err
	}
	in, reasons, err := fetched(ctx, cache, k, opts)
	if err != nil {
		return nil, err
	}
	if in.Bin == "" {
		return nil, &UnavailableError{Kind: k, Tried: append(tried, reasons...), Hint: "Install " + k.facts().install + "."}
	}
	return &Program{Version: in.Version, Origin: in.Origin, in: in}, nil
}

// Command runs the program.
func (p *Program) Command(ctx context.Context, args ...string) *exec.Cmd {
	return p.in.command(ctx, args...)
}

// Process is a program that runs attached: it ends with this process, whatever ends that.
type Process struct{ p *process }

// Attach starts a command. A user to run it as may be set in cmd.SysProcAttr.Credential; the other
// attributes are the lab's.
func Attach(cmd *exec.Cmd) (*Process, error) {
	p, err := spawn(cmd, false)
	if err != nil {
		return nil, err
	}
	return &Process{p: p}, nil
}

// PID of the process.
func (p *Process) PID() int { return p.p.id.PID }

// Alive tells whether it still runs.
func (p *Process) Alive() bool { return p.p.alive() }

// Signal sends sig to it, and to no other process that has its number by now.
func (p *Process) Signal(sig syscall.Signal) error { return p.p.signal(sig) }

// Kill ends it, and waits until it is gone. Twice is once.
func (p *Process) Kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), killPatience)
	defer cancel()
	return p.p.kill(ctx)
}

// twemproxyLine is what nutcracker prints for --version.
const twemproxyLine = "This is nutcracker-"

// identifyTwemproxy reads a line of nutcracker's own.
func identifyTwemproxy(line string) (Version, bool) {
	rest, is := strings.CutPrefix(line, twemproxyLine)
	if !is {
		return Version{}, false
	}
	return ParseVersion(rest)
}
