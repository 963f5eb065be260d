package lab

import (
	"os/exec"
	"strings"
	"testing"
)

func TestIdentifyTwemproxy(t *testing.T) {
	k, v, err := identify("This is nutcracker-0.5.0\nasync event backend: epoll\n")
	if err != nil || k != Twemproxy || v != (Version{0, 5, 0}) {
		t.Fatalf("%s %s %v", k, v, err)
	}
}

// TestTwemproxyIsNoServer: what `lab up` may be asked for stays the four servers.
func TestTwemproxyIsNoServer(t *testing.T) {
	if k, err := ParseKind(string(Twemproxy)); err == nil {
		t.Fatalf("ParseKind gives %s", k)
	}
	if _, err := Start(t.Context(), Twemproxy, Options{}); err == nil || !strings.Contains(err.Error(), "unknown kind") {
		t.Fatal(err)
	}
	if _, err := Find(t.Context(), "postgres", Options{}); err == nil {
		t.Fatal("a program that nothing is known of was looked for")
	}
}

func TestAttach(t *testing.T) {
	p, err := Attach(exec.Command("sleep", "60"))
	if err != nil {
		t.Fatal(err)
	}
	if !p.Alive() || p.PID() == 0 {
		t.Fatalf("alive %t, pid %d", p.Alive(), p.PID())
	}
	for range 2 {
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if p.Alive() {
		t.Fatal("it was killed and lives")
	}
}
