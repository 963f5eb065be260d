package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/internal/linefile"
)

const (
	// DefaultMaxBytes bounds the file: days of an absent store at the comparator's pace, or some
	// ten thousand findings.
	DefaultMaxBytes = 64 << 20
	// maxLine bounds one batch, and so the memory of a replay.
	maxLine = 16 << 20
)

// ErrInUse: another process has the file open.
var ErrInUse = errors.New("the spool file is in use by another process; give each proxy a spool of its own")

// Spool is an open spool file.
type Spool struct {
	max  int64
	size atomic.Int64 // bytes of whole lines
	bad  atomic.Int64

	mu   sync.Mutex
	file *os.File // nil once closed
	done int64    // bytes that this process has replayed already
}

var _ comparator.Spool = (*Spool)(nil)

// Open opens or makes the file, cuts off a torn last line, and locks it. maxBytes 0 means
// DefaultMaxBytes. Errors: ErrInUse, and those of the file system.
func Open(path string, maxBytes int64) (*Spool, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxBytes
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the spool: %w", err)
	}
	s := &Spool{max: maxBytes, file: f}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the spool %s: %w", path, err), f.Close())
	}
	return s, nil
}

func (s *Spool) prepare() error {
	size, err := linefile.Begin(s.file)
	if errors.Is(err, linefile.ErrInUse) {
		return ErrInUse
	}
	s.size.Store(size)
	return err
}

// cut makes the file end at size, durably.
func (s *Spool) cut(size int64) error {
	err := linefile.Cut(s.file, size)
	if err == nil {
		s.size.Store(size)
	}
	return err
}

// Append implements [comparator.Spool]. Besides ErrSpoolFull and ErrSpoolClosed it answers the file
// system's errors; then nothing of b is kept.
func (s *Spool) Append(b comparator.Batch) error {
	line, err := linefile.Append(nil, b)
	if err != nil {
		return fmt.Errorf("writing to the spool: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return comparator.ErrSpoolClosed
	}
	size := s.size.Load()
	if len(line) > maxLine || size+int64(len(line)) > s.max {
		return fmt.Errorf("%w: %d bytes of at most %d are in use", comparator.ErrSpoolFull, size, s.max)
	}
	_, err = s.file.WriteAt(line, size)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing to the spool: %w", err), s.cut(size))
	}
	s.size.Store(size + int64(len(line)))
	return nil
}

// Replay implements [comparator.Spool]. What save has taken before it failed is not handed out again
// by this process. Append waits meanwhile.
func (s *Spool) Replay(ctx context.Context, save func(context.Context, comparator.Batch) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return comparator.ErrSpoolClosed
	}
	var failed error
	err := linefile.Lines(s.file, s.done, s.size.Load(), maxLine, func(line []byte) error {
		var b comparator.Batch
		if !linefile.Decode(line, &b) {
			s.bad.Add(1)
		} else if failed = save(ctx, b); failed != nil {
			return failed
		}
		s.done += int64(len(line))
		return nil
	})
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return fmt.Errorf("reading the spool: %w", err)
	}
	if err := s.cut(0); err != nil {
		return fmt.Errorf("emptying the spool: %w", err)
	}
	s.done = 0
	return nil
}

// Size implements [comparator.Spool]. It does not wait.
func (s *Spool) Size() int64 { return s.size.Load() }

// Damaged is how many lines this process had to skip.
func (s *Spool) Damaged() int64 { return s.bad.Load() }

// Close closes the file; what is in it stays for the next Open. Twice is once.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}
