package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// identity tells a process from a later one with the same pid.
type identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks from boot, from /proc/PID/stat
	Boot  string `json:"boot"`  // the boot that Start counts from
}

// process is a server that we started, in this process or (detached) an earlier.
type process struct {
	id   identity
	done chan struct{} // closed once waited for; nil if it is not our child
	err  error         // how it ended; read after done
}

// spawn starts cmd and returns when it runs. An attached process dies with us.
func spawn(cmd *exec.Cmd, detached bool) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error, 1)
	go supervise(p, cmd, detached, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	return p, nil
}

// supervise starts the process and waits for it, on one thread: the kernel's
// parent-death signal comes when the thread ends that started the child, and Go
// ends idle threads as it likes.
func supervise(p *process, cmd *exec.Cmd, detached bool, started chan<- error) {
	defer close(p.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attributes := processAttributes(detached)
	if cmd.SysProcAttr != nil && attributes != nil {
		// Go changes the user before it asks for the parent-death signal, so that is kept.
		attributes.Credential = cmd.SysProcAttr.Credential
	}
	cmd.SysProcAttr = attributes
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	id, err := processIdentity(cmd.Process.Pid)
	if err != nil { // without an identity we could never signal it again
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		started <- err
		return
	}
	p.id = id
	started <- nil
	p.err = cmd.Wait()
}

// SupervisorFunction is the goroutine that waits for a running server, for
// goleak.IgnoreAnyFunction in packages that check for leaks while one runs.
const SupervisorFunction = "github.com/crossfade-proxy/crossfade/cmd/internal/lab.supervise"

// alive is false when the process is gone, or has become somebody else's pid.
func (p *process) alive() bool {
	if p == nil {
		return false
	}
	if p.done != nil {
		select {
		case <-p.done:
			return false
		default:
		}
	}
	now, err := processIdentity(p.id.PID)
	return err == nil && now == p.id
}

// signal sends sig to the process that we started, and to no other: the handle
// is opened first (it stays with the process it was opened on), then checked.
func (p *process) signal(sig syscall.Signal) error {
	if p == nil {
		return os.ErrProcessDone
	}
	handle, err := os.FindProcess(p.id.PID)
	if err != nil {
		return os.ErrProcessDone
	}
	defer func() { _ = handle.Release() }()
	if !p.alive() {
		return os.ErrProcessDone
	}
	return handle.Signal(sig)
}

// wait returns when the process is gone.
func (p *process) wait(ctx context.Context) error {
	if p.done != nil {
		select {
		case <-p.done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return poll(ctx, func() (bool, error) { return !p.alive(), nil })
}

// kill ends the process without asking it, and waits until it is gone.
func (p *process) kill(ctx context.Context) error {
	if err := p.signal(syscall.SIGKILL); errors.Is(err, os.ErrProcessDone) {
		return nil
	} else if err != nil {
		return err
	}
	return p.wait(ctx)
}
