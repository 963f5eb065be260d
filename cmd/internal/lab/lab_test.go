package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// helperVariable makes the test binary play another process of the lab's: its
// value is the role, and what the role works on follows after a colon.
const helperVariable = "CROSSFADE_LAB_TEST_HELPER"

func TestMain(m *testing.M) {
	if role, arg, ok := strings.Cut(os.Getenv(helperVariable), ":"); ok {
		if err := helper(role, arg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(Wrap(m))
}

func helper(role, arg string) error {
	ctx := context.Background()
	switch role {
	case "attached": // starts servers, tells of them, and waits to be killed
		for _, k := range []Kind{MySQL, Redis} {
			s, err := Start(ctx, k, Options{Fast: true, Own: true, Progress: os.Stderr})
			if err != nil {
				return err
			}
			fmt.Println(s.PID(), s.Dir)
		}
		fmt.Println("ready")
		select {}
	case "detached": // as `lab up` in another terminal
		l, err := Up(ctx, UpOptions{Options: Options{Dir: arg, Own: true, Detached: true}, Kinds: []Kind{Redis}})
		if err != nil {
			return err
		}
		fmt.Println(l.Server(Redis).PID())
		return nil
	case "fetch": // as a test process on a cold cache
		in, reasons, err := fetched(ctx, arg, Redis, Options{Progress: os.Stdout})
		if err != nil || in.Bin == "" {
			return fmt.Errorf("%v %w", reasons, err)
		}
		fmt.Println("have", in.Bin)
		return nil
	}
	return fmt.Errorf("no role %q", role)
}

func helperCommand(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), helperVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// within polls until ready, and fails the test when that takes too long.
func within(t *testing.T, d time.Duration, what string, ready func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := poll(ctx, func() (bool, error) { return ready(), nil }); err != nil {
		t.Fatalf("%s: not within %s", what, d)
	}
}

func running(id identity) bool {
	now, err := processIdentity(id.PID)
	return err == nil && now == id
}

// A test binary that is killed with SIGKILL leaves no server, and its folders go
// with the next start.
func TestNoServerOutlivesAKilledParent(t *testing.T) {
	cmd := helperCommand(t, "attached:")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var ids []identity
	var dirs []string
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "ready"; {
		text, dir, _ := strings.Cut(lines.Text(), " ")
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("helper says %q", lines.Text())
		}
		id, err := processIdentity(pid)
		if err != nil {
			t.Fatalf("server %d does not run: %v", pid, err)
		}
		ids, dirs = append(ids, id), append(dirs, dir)
	}
	if len(ids) != 2 {
		t.Fatalf("helper started %d servers, want 2", len(ids))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		within(t, 10*time.Second, "the orphan is gone", func() bool { return !running(id) })
	}
	_ = cmd.Wait() // its servers die with its thread; its file locks go with the process, a little later
	Private(t, Redis)
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("the next start left the folder %s of a dead process", dir)
		}
	}
}

// A lab of `lab up` outlives the command, and `down` of another ends it.
func TestDetachedLabOutlivesItsCommand(t *testing.T) {
	dir := t.TempDir()
	out, err := helperCommand(t, "detached:"+dir).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatalf("helper says %q", out)
	}
	id, err := processIdentity(pid)
	if err != nil {
		t.Fatalf("the server did not outlive its command: %v", err)
	}
	all, err := StatusOf(t.Context(), dir)
	if err != nil || len(all) != 1 || !all[0].Answers || all[0].PID != pid {
		t.Errorf("status %+v, %v; want one that answers, pid %d", all, err, pid)
	}
	if err := Down(t.Context(), dir, true); err != nil {
		t.Fatal(err)
	}
	if running(id) {
		t.Error("the server runs after down")
	}
}

// Two processes on a cold cache: one fetches, the other waits for it and takes
// the same tree.
func TestColdCacheIsFetchedOnce(t *testing.T) {
	cache := t.TempDir()
	if _, err := archives(cache, Options{}); err != nil {
		return // no usable apt: nothing is fetched on such a machine, so there is nothing to guard
	}
	var outs [2]string
	var cmds [2]*exec.Cmd
	var pipes [2]io.Reader
	for i := range cmds {
		cmds[i] = helperCommand(t, "fetch:"+cache)
		var err error
		if pipes[i], err = cmds[i].StdoutPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range cmds {
		text, _ := io.ReadAll(pipes[i])
		outs[i] = string(text)
		if err := cmds[i].Wait(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	both := outs[0] + outs[1]
	if n := strings.Count(both, "fetching redis-server "); n != 1 {
		t.Errorf("fetched %d times, want once:\n%s", n, both)
	}
	if n := strings.Count(both, "have "); n != 2 {
		t.Errorf("%d of 2 have it:\n%s", n, both)
	}
}
