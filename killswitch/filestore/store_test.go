package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/controltest"
)

// The test binary runs itself as another process: these variables say as what.
const (
	envRole = "FILESTORE_TEST_ROLE"
	envDir  = "FILESTORE_TEST_DIR"
	// increments is how many each of the processes makes.
	increments = 25
)

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "":
		goleak.VerifyTestMain(m)
	case "increment":
		if err := increment(os.Getenv(envDir), increments); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "write for ever":
		// Killed by the parent at whatever instruction.
		fmt.Println("ready")
		fmt.Fprintln(os.Stderr, increment(os.Getenv(envDir), 1<<30))
		os.Exit(1)
	}
}

func increment(dir string, n int) error {
	s, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	ctx := context.Background()
	for done := 0; done < n; {
		st, rev, err := s.Get(ctx, "p")
		if err != nil {
			return err
		}
		st.Epoch++
		st.Why = strings.Repeat("x", int(st.Epoch%killswitch.MaxText)) //nolint:gosec // small
		_, err = s.CompareAndSet(ctx, "p", rev, st)
		switch {
		case err == nil:
			done++
		case !errors.Is(err, killswitch.ErrConflict):
			return err
		}
	}
	return nil
}

func open(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(dir, Options{Poll: 5 * time.Millisecond})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	controltest.Run(t, func(t *testing.T) controltest.Open {
		dir := filepath.Join(t.TempDir(), "made", "anew")
		return func(tb testing.TB) killswitch.ControlStore { return open(tb, dir) }
	})
}

func self(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envRole+"="+role, envDir+"="+dir)
	return cmd
}

func TestProcessesShareARecord(t *testing.T) {
	dir := t.TempDir()
	const processes = 4
	var cmds []*exec.Cmd
	var out [processes]bytes.Buffer
	for i := range processes {
		cmd := self(t, "increment", dir)
		cmd.Stderr = &out[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v: %s", i, err, out[i].String())
		}
	}
	st, rev, err := open(t, dir).Get(t.Context(), "p")
	if err != nil || st.Epoch != processes*increments || rev != processes*increments {
		t.Fatalf("epoch %d at revision %d (%v) after %d increments by %d processes", st.Epoch, rev, err, processes*increments, processes)
	}
}

func TestKilledWriterLeavesARecord(t *testing.T) {
	dir := t.TempDir()
	var last uint64
	for round := range 8 {
		cmd := self(t, "write for ever", dir)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := stdout.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir)
		deadline := time.Now().Add(20 * time.Second)
		for at := last; at < last+uint64(round)+2; { //nolint:gosec // small
			st, _, err := s.Get(t.Context(), "p")
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("while another process writes: epoch %d, %v", st.Epoch, err)
			}
			at = st.Epoch
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed: it says so
		st, rev, err := s.Get(t.Context(), "p")
		if err != nil || st.Epoch < last {
			t.Fatalf("after the writer was killed: epoch %d (before: %d), %v", st.Epoch, last, err)
		}
		last = st.Epoch
		if _, err := s.CompareAndSet(t.Context(), "p", rev, st); err != nil {
			t.Fatalf("the lock or the folder was left unusable: %v", err)
		}
	}
}

// A crash between the writing of the temporary file and its renaming leaves the old record.
func TestCrashBeforeRename(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	rev, err := s.CompareAndSet(t.Context(), "p", 0, killswitch.PodState{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, torn := range []string{"", "{", strings.Repeat("x", 100_000)} {
		if err := os.WriteFile(s.path("pods", "p", ".json")+".tmp", []byte(torn), 0o600); err != nil {
			t.Fatal(err)
		}
		st, at, err := s.Get(t.Context(), "p")
		if err != nil || at != rev || st.Epoch != uint64(rev) { //nolint:gosec // small
			t.Fatalf("epoch %d at %d, %v; want the old record", st.Epoch, at, err)
		}
		if rs, err := s.List(t.Context()); err != nil || len(rs) != 1 {
			t.Fatalf("listed %v, %v", rs, err)
		}
		st.Epoch++
		if rev, err = s.CompareAndSet(t.Context(), "p", rev, st); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamagedIsNamedAndKept(t *testing.T) {
	good := func(t *testing.T, s *Store) []byte {
		t.Helper()
		if _, err := s.CompareAndSet(t.Context(), "p", 0, controltest.Sample("p")); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(s.path("pods", "p", ".json"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"cut off", func(b []byte) []byte { return b[:len(b)/2] }},
		{"one letter", func(b []byte) []byte { return bytes.Replace(b, []byte("because"), []byte("Because"), 1) }},
		{"no revision", func(b []byte) []byte { return bytes.Replace(b, []byte(`"revision":1`), []byte(`"revision":0`), 1) }},
		{"newer version", func(b []byte) []byte { return bytes.Replace(b, []byte(`"format":1`), []byte(`"format":2`), 1) }},
		{"another pod", func([]byte) []byte {
			body := []byte(`{"pod":"q"}`)
			return []byte(fmt.Sprintf(`{"format":1,"revision":1,"sum":%q,"body":%s}`, sum(body), body))
		}},
		{"a stage that does not exist", func([]byte) []byte {
			body := []byte(`{"pod":"p","stage":"half-live"}`)
			return []byte(fmt.Sprintf(`{"format":1,"revision":1,"sum":%q,"body":%s}`, sum(body), body))
		}},
		{"far too large", func(b []byte) []byte { return append(b, make([]byte, MaxFile)...) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			bad := c.damage(good(t, s))
			path := s.path("pods", "p", ".json")
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			check := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, killswitch.ErrControlDamaged) || !strings.Contains(err.Error(), path) {
					t.Errorf("%s: %v; want ErrControlDamaged with the file's name", what, err)
				}
			}
			_, _, err := s.Get(t.Context(), "p")
			check("get", err)
			_, err = s.List(t.Context())
			check("list", err)
			if !strings.Contains(c.name, "pod") && !strings.Contains(c.name, "stage") {
				for _, rev := range []killswitch.Revision{0, 1} {
					_, err = s.CompareAndSet(t.Context(), "p", rev, killswitch.PodState{})
					check("compare and set", err)
				}
			} else if _, err = s.CompareAndSet(t.Context(), "p", 0, killswitch.PodState{}); err == nil {
				t.Error("a record that cannot be read was created anew")
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, bad) {
				t.Errorf("the damaged file was written over (%v)", err)
			}
			if _, err := s.CompareAndSet(t.Context(), "other", 0, killswitch.PodState{}); err != nil {
				t.Errorf("another pod suffers: %v", err)
			}
		})
	}
}

// Every version of a record is told from the one before by its stamp, however fast they follow, and
// whatever inode the file system gives them.
func TestStampsDiffer(t *testing.T) {
	s := open(t, t.TempDir())
	seen := map[backends.Pod]stamp{}
	var rev killswitch.Revision
	var last time.Time
	for i := range 200 {
		var err error
		if rev, err = s.CompareAndSet(t.Context(), "p", rev, killswitch.PodState{Epoch: 1}); err != nil {
			t.Fatal(err)
		}
		if got := s.changed(seen); len(got) != 1 {
			t.Fatalf("write %d was not seen", i)
		}
		now := time.Unix(0, seen["p"].nanos)
		if !now.After(last) {
			t.Fatalf("write %d has time %s after %s", i, now, last)
		}
		last = now
		if got := s.changed(seen); len(got) != 0 {
			t.Fatalf("a change was seen that was not made: %v", got)
		}
	}
}

// A clock that was set back does not make a change invisible.
func TestStampOfAClockSetBack(t *testing.T) {
	s := open(t, t.TempDir())
	rev, err := s.CompareAndSet(t.Context(), "p", 0, killswitch.PodState{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(s.path("pods", "p", ".json"), future, future); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CompareAndSet(t.Context(), "p", rev, killswitch.PodState{Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.path("pods", "p", ".json"))
	if err != nil || !info.ModTime().After(future) {
		t.Fatalf("modification time %s, %v; want after %s", info.ModTime(), err, future)
	}
}

func TestTornHistory(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	h := controltest.Sample("p").History
	if err := s.AppendHistory(ctx, "p", h...); err != nil {
		t.Fatal(err)
	}
	path := s.path("history", "p", ".jsonl")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":2,"at":"2026-`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := s.History(ctx, "p", 0, 10); err != nil || len(got) != 1 || got[0].Seq != 1 {
		t.Fatalf("history with a torn line: %v, %v", got, err)
	}
	two := h[0]
	two.Seq = 2
	if err := s.AppendHistory(ctx, "p", h[0], two); err != nil {
		t.Fatal(err)
	}
	if got, err := s.History(ctx, "p", 0, 10); err != nil || len(got) != 2 || got[1].Seq != 2 {
		t.Fatalf("history after the torn line: %v, %v", got, err)
	}
}

func TestAcksAreBounded(t *testing.T) {
	s := open(t, t.TempDir())
	acks := make([]killswitch.Ack, killswitch.MaxAcks)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range acks {
		acks[i] = killswitch.Ack{Proxy: fmt.Sprintf("proxy-%03d", i), Pod: "p", At: at.Add(time.Duration(i) * time.Second)}
	}
	if err := write(s.path("acks", "p", ".json"), 1, acks); err != nil {
		t.Fatal(err)
	}
	if err := s.Acknowledge(t.Context(), killswitch.Ack{Proxy: "new", Pod: "p", At: at.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Acks(t.Context(), "p")
	if err != nil || len(got) != killswitch.MaxAcks || got[0].Proxy != "new" || got[1].Proxy != "proxy-001" {
		t.Fatalf("%d acknowledgements, first %q and %q (%v); want the oldest gone", len(got), got[0].Proxy, got[1].Proxy, err)
	}
}

func TestLockThatIsHeld(t *testing.T) {
	s := open(t, t.TempDir())
	held, release := make(chan struct{}), make(chan struct{})
	result := make(chan error, 1)
	go func() {
		result <- s.locked(context.Background(), func() error {
			close(held)
			<-release
			return nil
		})
	}()
	<-held
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.CompareAndSet(ctx, "p", 0, killswitch.PodState{})
	if !errors.Is(err, killswitch.ErrControlUnavailable) || !strings.Contains(err.Error(), "lock") {
		t.Errorf("while the lock is held: %v", err)
	}
	if _, _, err := s.Get(t.Context(), "p"); err != nil {
		t.Errorf("reading while the lock is held: %v", err)
	}
	close(release)
	if err := <-result; err != nil {
		t.Error(err)
	}
	if _, err := s.CompareAndSet(t.Context(), "p", 0, killswitch.PodState{}); err != nil {
		t.Error(err)
	}
}

func TestEscape(t *testing.T) {
	for _, c := range []struct{ pod, want string }{
		{"eu-1", "eu-1"}, {"EU", "%45%55"}, {"a/b", "a%2Fb"}, {"..", "%2E%2E"}, {"%41", "%2541"}, {"a b", "a%20b"},
	} {
		if got := escape(backends.Pod(c.pod)); got != c.want {
			t.Errorf("escape(%q) = %q, want %q", c.pod, got, c.want)
		}
		if got, ok := unescape(c.want); !ok || string(got) != c.pod {
			t.Errorf("unescape(%q) = %q, %t", c.want, got, ok)
		}
	}
	for _, bad := range []string{"%4", "%zz", "EU", "%61", "a.b"} {
		if got, ok := unescape(bad); ok {
			t.Errorf("unescape(%q) = %q, want a refusal", bad, got)
		}
	}
}

// A history that is longer than what is read at a time comes back whole, in pages, and without what a crash has torn.
func TestLongHistory(t *testing.T) {
	s, ctx := open(t, t.TempDir()), t.Context()
	const n = 700
	var all []killswitch.Change
	for seq := uint64(1); seq <= n; seq++ {
		c := controltest.Sample("p").History[0]
		c.Seq, c.Why = seq, strings.Repeat("x", 4000)
		all = append(all, c)
	}
	if err := s.AppendHistory(ctx, "p", all...); err != nil {
		t.Fatal(err)
	}
	seen := uint64(n + 1)
	for before := uint64(0); ; {
		page, err := s.History(ctx, "p", before, 90)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for i := len(page) - 1; i >= 0; i-- {
			if page[i].Seq != seen-1 {
				t.Fatalf("change %d follows %d", page[i].Seq, seen)
			}
			seen--
		}
		before = page[0].Seq
	}
	if seen != 1 {
		t.Errorf("the pages end at change %d", seen)
	}
}
