package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// pollEvery is how often a condition outside this process is looked at again:
// short beside the second that a server takes to start, long beside the look.
const pollEvery = 15 * time.Millisecond

// poll calls ready until it says true or fails, or ctx ends.
func poll(ctx context.Context, ready func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// fileLock is an flock: the kernel gives it back when its holder dies.
type fileLock struct{ f *os.File }

// tryLock returns nil without error if somebody else holds the lock.
func tryLock(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return &fileLock{f}, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("locking %s: %w", path, err)
}

// lock waits for the lock; waiting is called once if it has to.
func lock(ctx context.Context, path string, waiting func()) (*fileLock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	var got *fileLock
	told := false
	err := poll(ctx, func() (bool, error) {
		l, err := tryLock(path)
		if got = l; l == nil && err == nil && !told && waiting != nil {
			told = true
			waiting()
		}
		return l != nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for the lock %s: %w", path, err)
	}
	return got, nil
}

func (l *fileLock) unlock() {
	if l != nil {
		l.f.Close() // closing the only descriptor of it gives an flock back
	}
}

// buildDir makes the folder final by build, which gets a folder beside it; final
// appears complete or not at all. The caller holds the lock that guards final.
func buildDir(final string, build func(dir string) error) error {
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return err
	}
	removeLeftovers(final)
	tmp, err := os.MkdirTemp(filepath.Dir(final), partialPrefix+filepath.Base(final)+"-")
	if err != nil {
		return err
	}
	if err := build(tmp); err != nil {
		os.RemoveAll(tmp)
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	// What is there under that name, the caller found to be of no use.
	if err := os.RemoveAll(final); err != nil {
		return err
	}
	return os.Rename(tmp, final)
}

const partialPrefix = ".partial-"

// removeLeftovers of builders that died: the lock is ours, so nobody uses them.
func removeLeftovers(final string) {
	stale, _ := filepath.Glob(filepath.Join(filepath.Dir(final), partialPrefix+filepath.Base(final)+"-*"))
	for _, dir := range stale {
		os.RemoveAll(dir)
	}
}

// copyTree copies folders and plain files; skip leaves out what it says, by base
// name. Data folders of servers hold nothing else.
func copyTree(src, dst string, skip func(name string) bool) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		switch to := filepath.Join(dst, rel); {
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case d.Type().IsRegular() && !skip(d.Name()):
			return copySparse(path, to)
		}
		return nil
	})
}

// copySparse leaves holes where the source has zeros: a fresh data folder is
// mostly zeros, and copying it is most of what a test's server costs the disk.
func copySparse(src, dst string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	var zero, buf [64 << 10]byte
	for at := int64(0); ; {
		n, rerr := io.ReadFull(in, buf[:])
		if n > 0 && buf != zero {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return err
			}
			clear(buf[:])
		}
		at += int64(n)
		if errors.Is(rerr, io.EOF) || errors.Is(rerr, io.ErrUnexpectedEOF) {
			return out.Truncate(at)
		}
		if rerr != nil {
			return rerr
		}
	}
}

// tail is the end of a log, for an error message; start skips what an earlier
// run of the server wrote to the same file.
func tail(path string, start int64) string {
	const most = 2000 // bytes: some twenty lines, enough for the reason of a failed start
	f, err := os.Open(path)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size()-start > most {
		start = info.Size() - most
	}
	text, err := io.ReadAll(io.NewSectionReader(f, start, most))
	if err != nil {
		return "(log unreadable: " + err.Error() + ")"
	}
	return strings.TrimSpace(string(text))
}

// writeFile replaces a file whole or not at all.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}
