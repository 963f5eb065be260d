package filestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// Bounds of the file store.
const (
	// DefaultPoll is how often watches look at the folder. It bounds how late a proxy learns of an
	// announced switch; the fences stop it in any case.
	DefaultPoll = 50 * time.Millisecond
	// MaxPoll bounds what may be asked for.
	MaxPoll = 100 * time.Millisecond
	// LockWait bounds the wait for the folder's lock, which is held for a few fsyncs.
	LockWait = 5 * time.Second
	// lockPause is between tries for it: flock has no bound of its own.
	lockPause = 2 * time.Millisecond
	// MaxFile bounds a record or acks file, in bytes. A record is some 10 kB with a full history.
	MaxFile = 4 << 20
	// format is that of the files; a higher one is of a newer version of Crossfade.
	format = 1
)

// Options of the store. Zero fields have defaults.
type Options struct {
	Clock killswitch.Clock
	Poll  time.Duration
}

// Store is the control store in a folder.
type Store struct {
	dir   string
	clock killswitch.Clock
	poll  time.Duration

	mu         sync.Mutex
	registered []*killswitch.Registration
}

var (
	_ killswitch.ControlStore = (*Store)(nil)
	_ killswitch.Documents    = (*Store)(nil)
)

// Open makes the folder where it is missing, and the store over it.
func Open(dir string, o Options) (*Store, error) {
	if o.Clock == nil {
		o.Clock = killswitch.SystemClock{}
	}
	if o.Poll <= 0 {
		o.Poll = DefaultPoll
	}
	o.Poll = min(o.Poll, MaxPoll)
	for _, sub := range []string{"pods", "history", "acks", "documents", "members"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("control store: %w; give a folder that this process may write", err)
		}
	}
	for _, d := range []string{dir, filepath.Dir(filepath.Clean(dir))} {
		if err := syncDir(d); err != nil {
			return nil, err
		}
	}
	return &Store{dir: dir, clock: o.Clock, poll: o.Poll}, nil
}

// file is what is in a record or acks file.
type file struct {
	Format   int                 `json:"format"`
	Revision killswitch.Revision `json:"revision"`
	// Sum is the SHA-256 of Body, so that a damaged file is not taken for a record.
	Sum  string          `json:"sum"`
	Body json.RawMessage `json:"body"`
}

func sum(body []byte) string {
	h := sha256.Sum256(body)
	return hex.EncodeToString(h[:])
}

func (s *Store) path(kind string, pod backends.Pod, ext string) string {
	return filepath.Join(s.dir, kind, escape(pod)+ext)
}

// escape makes a file name of a pod's name: one to one, and without regard to case.
func escape(pod backends.Pod) string {
	var b strings.Builder
	for i := range len(pod) {
		c := pod[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// unescape gives the pod of a file name.
func unescape(name string) (backends.Pod, bool) {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '%' {
			b.WriteByte(name[i])
			continue
		}
		if i+2 >= len(name) {
			return "", false
		}
		c, err := hex.DecodeString(name[i+1 : i+3])
		if err != nil {
			return "", false
		}
		b.Write(c)
		i += 2
	}
	pod := backends.Pod(b.String())
	return pod, escape(pod) == name
}

// damaged is the error for a file that is there and is not what this package writes.
func damaged(path, what string) error {
	return fmt.Errorf("%w: %s: %s; restore it from a copy, or move it away and let the pod be set up again: its stage is then taken from the stores' fences", killswitch.ErrControlDamaged, path, what)
}

// read gives the body of a record or acks file; revision 0 where there is none.
func read(path string) (json.RawMessage, killswitch.Revision, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, unavailable(err)
	}
	if info.Size() > MaxFile {
		return nil, 0, damaged(path, fmt.Sprintf("it has %d bytes (at most %d)", info.Size(), MaxFile))
	}
	b, err := os.ReadFile(path) //nolint:gosec // the path is made by this package
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, unavailable(err)
	}
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, 0, damaged(path, "it is not the JSON that was written: "+err.Error())
	}
	switch {
	case f.Format > format:
		return nil, 0, fmt.Errorf("%w: %s has format %d, and this version of Crossfade knows formats up to %d; use a newer version", killswitch.ErrControlDamaged, path, f.Format, format)
	case f.Format < 1 || f.Revision < 1:
		return nil, 0, damaged(path, "it has no format or no revision")
	case f.Sum != sum(f.Body):
		return nil, 0, damaged(path, "its checksum is wrong")
	}
	return f.Body, f.Revision, nil
}

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", killswitch.ErrControlUnavailable, err)
}

// write replaces a file as a whole. The caller has the lock.
func write(path string, rev killswitch.Revision, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("control store: %w", err)
	}
	b, err := json.Marshal(file{Format: format, Revision: rev, Sum: sum(raw), Body: raw})
	if err != nil {
		return fmt.Errorf("control store: %w", err)
	}
	if len(b) > MaxFile {
		return fmt.Errorf("control store: %s would have %d bytes (at most %d)", path, len(b), MaxFile)
	}
	// One name for the temporary file, under the lock: what a crash leaves is written over.
	tmp := path + ".tmp"
	if err := writeFile(tmp, b); err != nil {
		return unavailable(err)
	}
	if err := later(path, tmp); err != nil {
		return unavailable(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return unavailable(err)
	}
	return syncDir(filepath.Dir(path))
}

func writeFile(path string, b []byte) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // made by this package
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}

// later makes the modification time of tmp later than that of the file that it will replace.
func later(path, tmp string) error {
	old, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now, err := os.Stat(tmp)
	if err != nil {
		return err
	}
	if now.ModTime().After(old.ModTime()) {
		return nil
	}
	t := old.ModTime().Add(time.Microsecond)
	return os.Chtimes(tmp, t, t)
}

func syncDir(dir string) (err error) {
	d, err := os.Open(dir) //nolint:gosec // a folder of this package
	if err != nil {
		return unavailable(err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Sync(); err != nil {
		return unavailable(err)
	}
	return nil
}

// locked runs do while no other process and no other goroutine writes.
func (s *Store) locked(ctx context.Context, do func() error) (err error) {
	path := filepath.Join(s.dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // made by this package
	if err != nil {
		return unavailable(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }() // which frees the lock
	ctx, cancel := context.WithTimeout(ctx, LockWait)
	defer cancel()
	if err := s.flock(ctx, f); err != nil {
		return fmt.Errorf("%w: the lock %s could not be had: %w", killswitch.ErrControlUnavailable, path, err)
	}
	return do()
}

func (s *Store) flock(ctx context.Context, f *os.File) error {
	tick, stop := s.clock.Tick(lockPause)
	defer stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:gosec // a file descriptor is small
		if err == nil {
			return ctx.Err()
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick:
		}
	}
}

// Get implements killswitch.ControlStore.
func (s *Store) Get(ctx context.Context, pod backends.Pod) (killswitch.PodState, killswitch.Revision, error) {
	var st killswitch.PodState
	if err := check(ctx, pod); err != nil {
		return st, 0, err
	}
	path := s.path("pods", pod, ".json")
	body, rev, err := read(path)
	if err != nil || rev == 0 {
		return st, 0, err
	}
	if err := json.Unmarshal(body, &st); err != nil {
		return killswitch.PodState{}, 0, damaged(path, err.Error())
	}
	if st.Pod != pod {
		return killswitch.PodState{}, 0, damaged(path, fmt.Sprintf("it is the record of pod %q", st.Pod))
	}
	return st, rev, nil
}

func check(ctx context.Context, pod backends.Pod) error {
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	return backends.CheckID("pod", string(pod))
}

// CompareAndSet implements killswitch.ControlStore.
func (s *Store) CompareAndSet(ctx context.Context, pod backends.Pod, rev killswitch.Revision, next killswitch.PodState) (killswitch.Revision, error) {
	if err := check(ctx, pod); err != nil {
		return 0, err
	}
	next.Pod = pod
	var at killswitch.Revision
	err := s.locked(ctx, func() error {
		path := s.path("pods", pod, ".json")
		_, have, err := read(path)
		if err != nil {
			return err
		}
		if have != rev {
			return fmt.Errorf("pod %s is at revision %d, not %d: %w", pod, have, rev, killswitch.ErrConflict)
		}
		if have == 0 {
			if err := s.room(); err != nil {
				return err
			}
		}
		at = have + 1
		return write(path, at, next)
	})
	return at, err
}

func (s *Store) room() error {
	pods, err := s.pods()
	if err == nil && len(pods) >= killswitch.MaxPods {
		err = fmt.Errorf("control store %s: it has %d pods, and cannot have more", s.dir, len(pods))
	}
	return err
}

// pods lists the pods that have a record.
func (s *Store) pods() ([]backends.Pod, error) { return s.named("pods") }

// named lists the names that have a file of the kind, in their order.
func (s *Store) named(kind string) ([]backends.Pod, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, kind))
	if err != nil {
		return nil, unavailable(err)
	}
	var out []backends.Pod
	for _, e := range entries {
		name, isRecord := strings.CutSuffix(e.Name(), ".json")
		if pod, ok := unescape(name); isRecord && ok {
			out = append(out, pod)
		}
	}
	slices.Sort(out)
	return out, nil
}

// List implements killswitch.ControlStore.
func (s *Store) List(ctx context.Context) ([]killswitch.Record, error) {
	pods, err := s.pods()
	if err != nil {
		return nil, err
	}
	out := make([]killswitch.Record, 0, len(pods))
	for _, pod := range pods {
		st, rev, err := s.Get(ctx, pod)
		if err != nil {
			return nil, err
		}
		if rev > 0 {
			out = append(out, killswitch.Record{State: st, Revision: rev})
		}
	}
	return out, nil
}
