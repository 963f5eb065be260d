package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asCommand in the environment makes the test's binary the command itself.
const asCommand = "CROSSFADE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

var adminAt = regexp.MustCompile(`msg=listening .*admin=(\S+)`)

// TestSecondInterrupt: an orderly stop waits for what is under way, and a second interrupt does not.
func TestSecondInterrupt(t *testing.T) {
	const patience = 8 * time.Second // shorter than an orderly stop may take
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-c", configFile(t, "resp: {listen: \"127.0.0.1:0\"}\nadmin: {listen: \"127.0.0.1:0\"}"), "serve")
	cmd.Env = append(os.Environ(), asCommand+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	until := func(what func(string) bool) string {
		for lines.Scan() {
			if what(lines.Text()) {
				return lines.Text()
			}
		}
		t.Fatalf("the proxy ended: %v", lines.Err())
		return ""
	}
	addr := adminAt.FindStringSubmatch(until(adminAt.MatchString))[1]
	hangOn(t, addr)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	until(func(l string) bool { return strings.Contains(l, "stopping") })
	begun := time.Now()
	ended := make(chan struct{})
	go func() { // until one of them has come after the first was taken in
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for cmd.Process.Signal(os.Interrupt) == nil {
			select {
			case <-tick.C:
			case <-ended:
				return
			}
		}
	}()
	_, _ = io.Copy(io.Discard, stderr) // to its end, which is that of the process
	err = cmd.Wait()
	close(ended)
	ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() || ws.Signal() != syscall.SIGINT || time.Since(begun) > patience { //nolint:misspell // as syscall spells it
		t.Errorf("it ended with %v after %s; want it ended by the second interrupt", err, time.Since(begun))
	}
}

// hangOn begins a call to the admin service, and never ends it.
func hangOn(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, "POST /crossfade.admin.v1.AdminService/ListPods HTTP/1.1\r\nHost: "+addr+
		"\r\nContent-Type: application/json\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if l, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(l, "100") {
		t.Fatalf("%q, %v; want the call to be under way", l, err)
	}
}
