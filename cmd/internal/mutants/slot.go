package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Bounds of what a child process may take. The tests' own timeout comes first, so that a
// test that hangs is named.
const (
	gitTimeout  = 30 * time.Second
	testTimeout = 5 * time.Minute
	simTimeout  = 15 * time.Minute // under a mutant every schedule may be a slow one
	grace       = 30 * time.Second // compiling aside, go test itself ends within this
	buildTime   = 5 * time.Minute  // a cold cache on two cores
)

// slot is a copy of the tree.
type slot struct{ dir string }

// newSlot copies what git has, or would have, of the tree.
func newSlot(ctx context.Context, tree, under string, n int) (*slot, error) {
	s := &slot{filepath.Join(under, "slot"+strconv.Itoa(n))}
	list, err := command(ctx, gitTimeout, tree, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Split(strings.TrimSuffix(list, "\x00"), "\x00") {
		if err := copyFile(filepath.Join(tree, name), filepath.Join(s.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return s, nil
}

func copyFile(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// apply changes the slot by a patch, and answers how to take it back.
func (s *slot) apply(ctx context.Context, patch string) (undo func() error, err error) {
	if _, err := s.git(ctx, "apply", "--whitespace=nowarn", patch); err != nil {
		return nil, err
	}
	return func() error {
		// The undo has to run also when the work was cancelled: the slot is used again.
		_, err := s.git(context.WithoutCancel(ctx), "apply", "--whitespace=nowarn", "-R", patch)
		return err
	}, nil
}

// git runs in the slot, which is not a repository and must not be taken for a part of one above.
func (s *slot) git(ctx context.Context, args ...string) (string, error) {
	env := append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(s.dir))
	return command(ctx, gitTimeout, s.dir, env, "git", args...)
}

// test runs one set of tests. Without a mutant a cached success is as good as a new one.
func (s *slot) test(ctx context.Context, set testSet) (outcome, error) {
	return s.goTest(ctx, set, testTimeout, nil)
}

// simulation is what a mutant with `sim: yes` must fail.
var simulation = testSet{packages: []string{"./cmd/internal/sim"}, run: "^TestSchedules$"}

func (s *slot) simulate(ctx context.Context, schedules int) (outcome, error) {
	return s.goTest(ctx, simulation, simTimeout, []string{"CROSSFADE_SCHEDULES=" + strconv.Itoa(schedules)})
}

func (s *slot) goTest(ctx context.Context, set testSet, timeout time.Duration, env []string) (outcome, error) {
	// -vet=off: a mutant may look wrong, that is its point. -failfast: one failure is enough.
	args := []string{"test", "-json", "-vet=off", "-failfast", "-timeout", timeout.String()}
	if set.run != "" {
		args = append(args, "-run", set.run)
	}
	if set.tags != "" {
		args = append(args, "-tags", set.tags)
	}
	out, err := command(ctx, buildTime+timeout+grace, s.dir, append(os.Environ(), env...), "go", append(args, set.packages...)...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return outcome{}, err
	}
	return readEvents(strings.NewReader(out))
}

// command runs a child process with a deadline. Its output is given also when it fails.
func command(ctx context.Context, timeout time.Duration, dir string, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, env, grace
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		return out.String(), fmt.Errorf("%s %s: %w", name, args[0], ctx.Err())
	}
	if err != nil {
		return out.String() + errs.String(), fmt.Errorf("%s %s: %w: %s", name, args[0], err, tail(strings.TrimSpace(errs.String()), maxOutput))
	}
	return out.String(), nil
}
