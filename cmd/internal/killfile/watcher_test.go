package killfile

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/filestore"
)

// scene is a folder, a Redis without a control store, and a clock.
type scene struct {
	*testing.T
	dir   string
	redis *memstore.Store
	now   time.Time
	kills atomic.Int64 // that were made, dry ones apart
	last  killswitch.KillRequest
	away  error
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{T: t, dir: t.TempDir(), redis: memstore.New(memstore.Options{Side: backends.SideRedis}), now: time.Unix(1_000_000, 0)}
	s.raise(live(5))
	return s
}

func live(epoch uint64) backends.Fence {
	return backends.Fence{Epoch: epoch, Stage: backends.Live, Open: true, Filled: true}
}

func (s *scene) raise(f backends.Fence) {
	s.Helper()
	if _, err := s.redis.Raise(s.Context(), f, 0); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) at(want uint64, stage backends.Stage) {
	s.Helper()
	if f, err := s.redis.Fence(s.Context()); err != nil || f.Epoch != want || f.Stage != stage {
		s.Errorf("Redis is at %s, %v; want epoch %d %s", f, err, want, stage)
	}
}

func (s *scene) watcher(proxy string, pods ...backends.Pod) *Watcher {
	if len(pods) == 0 {
		pods = []backends.Pod{"pod-1"}
	}
	return &Watcher{Dir: s.dir, Proxy: proxy, Pods: pods, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return s.now },
		Kill: func(ctx context.Context, q killswitch.KillRequest) (killswitch.KillResult, error) {
			if s.away != nil {
				return killswitch.KillResult{}, s.away
			}
			s.last = q
			res, err := killswitch.Kill(ctx, s.redis, nil, killswitch.SystemClock{}, q)
			if err == nil && !q.DryRun && res.Verdict == killswitch.KillGo {
				s.kills.Add(1)
			}
			return res, err
		}}
}

func (s *scene) write(name, text string) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

// only demands that one file is in the folder, whose name begins so, and gives what is in it.
func (s *scene) only(prefix string) string {
	s.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(s.dir, ".*"))
	if names = append(names, hidden...); err != nil || len(names) != 1 || !strings.HasPrefix(filepath.Base(names[0]), prefix) {
		s.Fatalf("the folder has %q, %v; want one %s…", names, err, prefix)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		s.Fatal(err)
	}
	return string(b)
}

// look lets each watcher look, rounds times, LookEvery apart.
func (s *scene) look(rounds int, ws ...*Watcher) {
	for range rounds {
		for _, w := range ws {
			w.Look(s.Context())
		}
		s.now = s.now.Add(LookEvery)
	}
}

// TestKillByFile: a file in a folder that two proxies watch takes the pod back, once, and the answer says what was done.
func TestKillByFile(t *testing.T) {
	s := newScene(t)
	one, two := s.watcher("proxy/1"), s.watcher("proxy-2")
	s.look(3, one, two)
	s.write("kill.pod-1", "MySQL is slow\n")
	s.write("kill.pod-1", "MySQL is slow, says ann\n") // still being written
	s.look(1, one, two)
	s.at(5, backends.Live)
	s.look(1, one, two)
	s.at(6, backends.Shadow)
	s.look(200, one, two)
	if s.at(6, backends.Shadow); s.kills.Load() != 1 {
		t.Errorf("%d kills", s.kills.Load())
	}
	if s.last.Why != "MySQL is slow, says ann" || s.last.Who != "file kill.pod-1 at proxy/1" || s.last.Expect != backends.Live || s.last.ExpectEpoch != 5 {
		t.Errorf("%+v", s.last)
	}
	text := s.only("kill.pod-1.done-1970")
	for _, want := range []string{"was killed from live to shadow, epoch 6", "compare-and-set Redis's fence", " ms", "asked for:\nkills: live 5\nMySQL is slow, says ann"} {
		if !strings.Contains(text, want) {
			t.Errorf("the answer lacks %q:\n%s", want, text)
		}
	}
}

// TestTakenFile: a proxy that died with a file in its hands is followed by another, which makes the kill that was meant, or
// finds that it was made, whatever has become of the pod since.
func TestTakenFile(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		fence  backends.Fence
		epoch  uint64
		stage  backends.Stage
		answer string
	}{
		"nothing was written down":   {"slow", live(5), 6, backends.Shadow, "kill.pod-1.done-"},
		"written down, and not made": {"kills: live 5\nslow", live(5), 6, backends.Shadow, "kill.pod-1.done-"},
		"made":                       {"kills: live 5\nslow", backends.Fence{Epoch: 6, Stage: backends.Shadow, Open: true}, 6, backends.Shadow, "kill.pod-1.done-"},
		"made, and moved on since":   {"kills: live 5\nslow", live(8), 8, backends.Live, "kill.pod-1.failed-"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.raise(c.fence)
			s.write("kill.pod-1.taken-proxy-9", c.text)
			w := s.watcher("proxy-1")
			s.look(int(TakenFor/LookEvery), w)
			if s.kills.Load() != 0 {
				t.Error("it was taken over in haste")
			}
			s.look(2, w)
			s.at(c.epoch, c.stage)
			s.only(c.answer)
		})
	}
}

// TestOddNames: pods are named as they are, or as the control store's folder names them.
func TestOddNames(t *testing.T) {
	odd := backends.Pod("A/b.taken-c %")
	for _, c := range []struct {
		file string
		mine []backends.Pod
		kill bool
	}{
		{"kill." + filestore.FileName(odd), []backends.Pod{odd}, true},
		{"kill.Pod.1", []backends.Pod{"Pod.1"}, true},
		{"kill." + filestore.FileName("Pod.1"), []backends.Pod{"Pod.1"}, true},
		{"kill.p.taken-x", []backends.Pod{"p.taken-x"}, true},
		{"kill.pod-2", []backends.Pod{"pod-1"}, false},
		{"kill.pod-1.done-1970-proxy-1", []backends.Pod{"pod-1"}, false},
		{"skill.pod-1", []backends.Pod{"pod-1"}, false},
		{"kill.", []backends.Pod{"pod-1"}, false},
	} {
		s := newScene(t)
		s.write(c.file, "why")
		s.look(2, s.watcher("proxy-1", c.mine...))
		if got := s.kills.Load() == 1; got != c.kill {
			t.Errorf("%s for %q: killed %v", c.file, c.mine, got)
		}
		if _, err := os.Stat(filepath.Join(s.dir, c.file)); (err != nil) != c.kill {
			t.Errorf("%s: %v", c.file, err)
		}
	}
}

// TestWhatFilesSay: what is asked for is done, refused or answered, and said.
func TestWhatFilesSay(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		away   error
		epoch  uint64
		answer string
		says   string
	}{
		"a dry run":       {"dry-run: yes\nwhat would happen", nil, 5, "kill.pod-1.dry-run-", "would go from live to shadow, epoch 6"},
		"from live":       {"from: live\nslow: very", nil, 6, "kill.pod-1.done-", "was killed from live to shadow"},
		"from elsewhere":  {"from: shadow\nslow", nil, 5, "kill.pod-1.failed-", "it is not in shadow"},
		"no such stage":   {"from: nowhere\nslow", nil, 5, "kill.pod-1.failed-", "nowhere"},
		"nothing":         {"", nil, 6, "kill.pod-1.done-", "was killed"},
		"a long reason":   {strings.Repeat("é", 2000), nil, 6, "kill.pod-1.done-", "was killed"},
		"Redis is away":   {"slow", backends.ErrUnavailable, 5, "kill.pod-1.failed-", "it is not known whether it was"},
		"a colon in why":  {"note: slow", nil, 6, "kill.pod-1.done-", "note: slow"},
		"a broken record": {"kills: live many\nslow", nil, 5, "kill.pod-1.failed-", "a stage and an epoch"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.away = c.away
			s.write("kill.pod-1", c.text)
			s.look(2, s.watcher("proxy-1"))
			f, err := s.redis.Fence(t.Context())
			if text := s.only(c.answer); err != nil || f.Epoch != c.epoch || !strings.Contains(text, c.says) {
				t.Errorf("at %s:\n%s", f, text)
			}
			if len(s.last.Why) > killswitch.MaxText {
				t.Errorf("%d bytes of reason", len(s.last.Why))
			}
		})
	}
}

// TestFolder: a folder that cannot be written is refused at the start, one that goes away later is told of once.
func TestFolder(t *testing.T) {
	s := newScene(t)
	file := filepath.Join(s.dir, "file")
	s.write("file", "")
	if err := Prepare(file); !backends.IsRejection(err) {
		t.Errorf("%v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := Prepare(filepath.Join(s.dir, "new")); err != nil {
		t.Error(err)
	}
	var lines countLines
	w := s.watcher("proxy-1")
	w.Dir, w.Log = filepath.Join(s.dir, "gone"), slog.New(slog.NewTextHandler(&lines, nil))
	s.look(5, w)
	if lines != 1 {
		t.Errorf("%d lines are logged", lines)
	}
	if got, err := os.ReadDir(filepath.Join(s.dir, "new")); err != nil || slices.ContainsFunc(got, func(os.DirEntry) bool { return true }) {
		t.Errorf("what was tried is left behind: %v, %v", got, err)
	}
}

type countLines int

func (c *countLines) Write(b []byte) (int, error) { *c++; return len(b), nil }
