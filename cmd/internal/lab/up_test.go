package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func render(l *Lab) ([]byte, error) {
	return fmt.Appendf(nil, "mysql: %s\nredis: %s\n", l.Server(MySQL).DSN("crossfade"), l.Server(Redis).Addr()), nil
}

// Up, look, crash, up again, down: as a person does with `crossfade lab`.
func TestLabUpAndDown(t *testing.T) {
	dir := t.TempDir()
	o := UpOptions{Options: Options{Dir: dir, Own: true, Fast: true, Detached: true}, Config: render}
	if err := Down(t.Context(), dir, false); !errors.Is(err, ErrNoLab) {
		t.Errorf("down without a lab: %v", err)
	}
	l, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Down(t.Context(), dir, true) })
	config, err := os.ReadFile(l.ConfigPath())
	if err != nil || !strings.Contains(string(config), l.Server(Redis).Addr()) {
		t.Errorf("configuration %q, %v", config, err)
	}
	if err := query(t, l.Server(MySQL).DSN("crossfade"), "SELECT DATABASE()", "crossfade"); err != nil {
		t.Error(err)
	}
	env, err := EnvOf(dir)
	if err != nil || !slices.Contains(env, "CROSSFADE_REDIS_ADDR="+l.Server(Redis).Addr()) || !slices.Equal(env, l.Env()) {
		t.Errorf("env %q, %v", env, err)
	}
	pid, port := l.Server(MySQL).PID(), l.Server(Redis).Addr()
	if err := l.Server(Redis).Kill(); err != nil {
		t.Fatal(err)
	}
	all, err := StatusOf(t.Context(), dir)
	if err != nil || len(all) != 2 || !all[0].Answers || all[1].Answers || all[1].PID != 0 || all[1].Error == "" {
		t.Errorf("status %+v, %v; want MySQL that answers and Redis that does not run", all, err)
	}
	again, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if again.Server(MySQL).PID() != pid || again.Server(Redis).Addr() != port || again.Server(Redis).PID() == 0 {
		t.Errorf("up again: MySQL pid %d (was %d), Redis %s (was %s)", again.Server(MySQL).PID(), pid, again.Server(Redis).Addr(), port)
	}
	if err := Down(t.Context(), dir, false); err != nil {
		t.Fatal(err)
	}
	if again.Server(MySQL).PID() != 0 || again.Server(Redis).PID() != 0 {
		t.Error("servers run after down")
	}
	if err := Down(t.Context(), dir, true); err != nil {
		t.Errorf("down again, to remove: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mysql")); err == nil {
		t.Error("down left data that it was to remove")
	}
}

// A person's own configuration is not overwritten.
func TestConfigChangedByHandIsKept(t *testing.T) {
	l := &Lab{Dir: t.TempDir()}
	write := func(s string) string {
		t.Helper()
		if err := l.writeConfig([]byte(s), UpOptions{}); err != nil {
			t.Fatal(err)
		}
		now, _ := os.ReadFile(l.ConfigPath())
		return string(now)
	}
	if got := write("one"); got != "one" {
		t.Errorf("new: %q", got)
	}
	if got := write("two"); got != "two" {
		t.Errorf("ours is replaced: %q", got)
	}
	if err := os.WriteFile(l.ConfigPath(), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := write("three"); got != "mine" {
		t.Errorf("a person's is kept: %q", got)
	}
}

// The record of a server that is gone may name a pid that is somebody else's now.
func TestOnlyOurOwnProcessIsSignalled(t *testing.T) {
	me, err := processIdentity(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []identity{
		{PID: me.PID, Start: me.Start + 1, Boot: me.Boot},
		{PID: me.PID, Start: me.Start, Boot: "another boot"},
		{PID: 0, Start: me.Start, Boot: me.Boot},
	} {
		p := &process{id: id}
		if err := p.signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) || p.alive() {
			t.Errorf("%+v: %v, alive %v", id, err, p.alive())
		}
	}
	if p := (&process{id: me}); !p.alive() {
		t.Error("this process is not alive")
	}
}

func TestThrowAwayLabIsRemoved(t *testing.T) {
	l, err := Up(t.Context(), UpOptions{Options: Options{Own: true, Fast: true}, Kinds: []Kind{Valkey}})
	if err != nil {
		t.Fatal(err)
	}
	pid := l.Server(Valkey).PID()
	if err := l.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.Dir); err == nil || pid == 0 || l.Server(Valkey).PID() != 0 {
		t.Errorf("left behind: %s or pid %d", l.Dir, pid)
	}
}

func TestShellEnv(t *testing.T) {
	got := ShellEnv([]string{"A=root@tcp(1:2)/x?y=1&z", "B=it's"})
	if want := "export A='root@tcp(1:2)/x?y=1&z'\nexport B='it'\\''s'\n"; got != want {
		t.Errorf("got %s want %s", got, want)
	}
}
