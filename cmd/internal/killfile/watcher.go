package killfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/filestore"
)

const (
	// LookEvery is the pause between looks at the folder. A file is acted on at the second look that finds it the same.
	LookEvery = 200 * time.Millisecond
	// TakenFor is how long a watcher sees a file in another's hands before it takes it over: longer than a kill takes
	// whose Redis answers slowly.
	TakenFor = 15 * time.Second
	// killWithin bounds one kill: see killswitch.Kill.
	killWithin = 5*time.Second + killswitch.MaxKillWait
	// maxNames bounds what is read of the folder at a look.
	maxNames = 1000
)

// Watcher watches a folder. All fields but Now are required.
type Watcher struct {
	Dir   string
	Proxy string
	Pods  []backends.Pod
	// Kill makes a kill, or says what it would do.
	Kill func(context.Context, killswitch.KillRequest) (killswitch.KillResult, error)
	Log  *slog.Logger
	// Now is the local clock, for the names of answers and for how long a file has been taken.
	Now func() time.Time

	seen     map[string]sight
	troubles map[string]string // what cannot be done → the last error, which is told once
}

// sight is how a file looked, and since when.
type sight struct {
	size  int64
	mod   time.Time
	since time.Time
}

// Prepare makes the folder, and makes sure that this process may rename in it.
func Prepare(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, ".probe-"); err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	if err != nil {
		return &backends.FieldError{Field: "kill.dir", Value: fmt.Sprintf("%.200q (%v)", dir, err), Bound: "a folder that the proxy may write", Next: "give it the rights, or name another folder; without kill.dir no files are watched"}
	}
	return nil
}

// Run looks until the context ends.
func (w *Watcher) Run(ctx context.Context) {
	t := time.NewTicker(LookEvery)
	defer t.Stop()
	for {
		w.Look(ctx)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// Look looks once, and makes the kills that are asked for. It is for one goroutine.
func (w *Watcher) Look(ctx context.Context) {
	names, err := w.names()
	w.tell("read", err)
	now, seen := w.now(), map[string]sight{}
	for _, name := range names {
		pod, isTaken, ok := podOf(name, w.Pods)
		if !ok {
			continue
		}
		info, err := os.Stat(filepath.Join(w.Dir, name))
		if err != nil || !info.Mode().IsRegular() {
			continue // another has taken it, or it is none
		}
		s := sight{size: info.Size(), mod: info.ModTime(), since: now}
		old, known := w.seen[name]
		if same := known && old.size == s.size && old.mod.Equal(s.mod); same {
			s.since = old.since
			if !isTaken || now.Sub(old.since) >= TakenFor {
				w.act(ctx, name, pod)
				continue
			}
		}
		seen[name] = s
	}
	w.seen = seen
}

func (w *Watcher) now() time.Time {
	if w.Now != nil {
		return w.Now()
	}
	return time.Now()
}

// names lists the files that may be meant.
func (w *Watcher) names() ([]string, error) {
	d, err := os.Open(w.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	var out []string
	for {
		all, err := d.Readdirnames(maxNames)
		for _, n := range all {
			if strings.HasPrefix(n, prefix) && len(out) < maxNames {
				out = append(out, n)
			}
		}
		switch {
		case errors.Is(err, io.EOF) || len(all) == 0:
			return out, nil
		case err != nil:
			return out, err
		}
	}
}

// act takes a file, kills, and leaves the answer.
func (w *Watcher) act(ctx context.Context, name string, pod backends.Pod) {
	base := prefix + filestore.FileName(pod)
	mine := filepath.Join(w.Dir, base+taken+filestore.FileName(backends.Pod(w.Proxy)))
	if err := os.Rename(filepath.Join(w.Dir, name), mine); err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // else another proxy was faster
			w.tell("take", fmt.Errorf("%s asks for a kill and cannot be taken: %w", name, err))
		}
		return
	}
	w.tell("take", nil)
	var b bytes.Buffer
	res, err := w.kill(ctx, mine, pod, base)
	how := ".done-"
	switch {
	case err != nil:
		how = ".failed-"
		fmt.Fprintf(&b, "The kill of pod %s was not made, or it is not known whether it was: %v\n", pod, err)
		w.Log.Error("a file asked for a kill", "pod", string(pod), "file", name, "error", err)
	default:
		if res.DryRun {
			how = ".dry-run-"
		}
		w.Log.Warn("a file asked for a kill", "pod", string(pod), "file", name, "verdict", res.Verdict.String(), "from", res.From.String(), "to", res.To.String())
	}
	if len(res.Steps) > 0 && (err == nil || res.Verdict != killswitch.KillUnknown) {
		_ = killswitch.RenderKill(&b, res) // into memory
	}
	w.tell("answer", w.answer(mine, base+how+w.now().UTC().Format("20060102T150405.000Z")+"-"+filestore.FileName(backends.Pod(w.Proxy)), b.Bytes()))
}

// kill makes what the file asks for. What it is about to kill is in the file before it does.
func (w *Watcher) kill(ctx context.Context, path string, pod backends.Pod, name string) (killswitch.KillResult, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWithin) // a proxy that stops finishes what it has taken
	defer cancel()
	text, err := readSome(path)
	if err != nil {
		return killswitch.KillResult{}, err
	}
	r, err := parse(text)
	if err != nil {
		return killswitch.KillResult{}, err
	}
	q := killswitch.KillRequest{Pod: pod, Who: fmt.Sprintf("file %.200s at %s", name, w.Proxy), Why: r.why, Expect: r.from, ExpectEpoch: r.epoch, DryRun: true}
	res, err := w.Kill(ctx, q)
	if err != nil || r.dry || res.Verdict != killswitch.KillGo {
		res.DryRun = r.dry // there was nothing to do, and that is the answer
		return res, err
	}
	if !r.bound {
		if err := replace(path, bind(res.From)+text); err != nil {
			return killswitch.KillResult{}, err
		}
	}
	q.DryRun, q.Expect, q.ExpectEpoch = false, res.From.Stage, res.From.Epoch
	return w.Kill(ctx, q)
}

func readSome(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // in the folder that the operator has named
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	return string(b), err
}

// replace writes a file anew, durably: all of it or nothing.
func replace(path, text string) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))     // which asks for nothing
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // in the folder that the operator has named
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// answer puts what became of a file before what was in it, under a name that asks for nothing.
func (w *Watcher) answer(path, name string, text []byte) error {
	was, err := readSome(path)
	if err != nil {
		return err
	}
	if err := replace(path, string(text)+"\nasked for:\n"+was); err != nil {
		return err
	}
	return os.Rename(path, filepath.Join(w.Dir, name))
}

// tell logs a trouble once, and again when it is another.
func (w *Watcher) tell(what string, err error) {
	if w.troubles == nil {
		w.troubles = map[string]string{}
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == w.troubles[what] {
		return
	}
	if w.troubles[what] = text; err != nil {
		w.Log.Error("the folder of kills cannot be used", "folder", w.Dir, "to", what, "error", err)
	}
}
