package spool

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/crossfade-proxy/crossfade/comparator"
)

const (
	// DefaultMaxBytes bounds the file: days of an absent store at the comparator's pace, or some
	// ten thousand findings.
	DefaultMaxBytes = 64 << 20
	// maxLine bounds one batch, and so the memory of a replay.
	maxLine = 16 << 20
	// crcLen is the length of the checksum and its space.
	crcLen = 9
)

// ErrInUse: another process has the file open.
var ErrInUse = errors.New("the spool file is in use by another process; give each proxy a spool of its own")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Spool is an open spool file.
type Spool struct {
	path string
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
	s := &Spool{path: path, max: maxBytes, file: f}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the spool %s: %w", path, err), f.Close())
	}
	return s, nil
}

func (s *Spool) prepare() error {
	if err := lockFile(s.file); err != nil {
		return err
	}
	whole, err := wholeLines(s.file)
	if err != nil {
		return err
	}
	if err := s.cut(whole); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.path))
}

// cut makes the file end at size, durably.
func (s *Spool) cut(size int64) error {
	if err := s.file.Truncate(size); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	s.size.Store(size)
	return nil
}

// wholeLines is the length of the file up to its last line feed.
func wholeLines(f *os.File) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	const block = 64 << 10
	buf := make([]byte, block)
	for end := size; end > 0; {
		start := max(0, end-block)
		part := buf[:end-start]
		if _, err := f.ReadAt(part, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Append implements [comparator.Spool]. Besides ErrSpoolFull and ErrSpoolClosed it answers the file
// system's errors; then nothing of b is kept.
func (s *Spool) Append(b comparator.Batch) error {
	line, err := encode(b)
	if err != nil {
		return err
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

func encode(b comparator.Batch) ([]byte, error) {
	body, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("writing to the spool: %w", err)
	}
	line := make([]byte, 0, crcLen+len(body)+1)
	line = fmt.Appendf(line, "%08x ", crc32.Checksum(body, castagnoli))
	line = append(line, body...)
	return append(line, '\n'), nil
}

// decode answers false for a damaged line. Its line feed is gone already.
func decode(line []byte) (b comparator.Batch, ok bool) {
	if len(line) < crcLen || line[crcLen-1] != ' ' {
		return b, false
	}
	sum, err := strconv.ParseUint(string(line[:crcLen-1]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[crcLen:], castagnoli) {
		return b, false
	}
	return b, json.Unmarshal(line[crcLen:], &b) == nil
}

// Replay implements [comparator.Spool]. What save has taken before it failed is not handed out again
// by this process. Append waits meanwhile.
func (s *Spool) Replay(ctx context.Context, save func(context.Context, comparator.Batch) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return comparator.ErrSpoolClosed
	}
	r := bufio.NewReader(io.NewSectionReader(s.file, s.done, s.size.Load()-s.done))
	for {
		line, err := readLine(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading the spool: %w", err)
		}
		if b, ok := decode(bytes.TrimSuffix(line, []byte("\n"))); !ok {
			s.bad.Add(1)
		} else if err := save(ctx, b); err != nil {
			return err
		}
		s.done += int64(len(line))
	}
	if err := s.cut(0); err != nil {
		return fmt.Errorf("emptying the spool: %w", err)
	}
	s.done = 0
	return nil
}

// readLine reads one line with its line feed. One that is longer than any of ours is damage: it is
// answered in pieces, each of which fails its checksum.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(line) < maxLine:
			continue
		case errors.Is(err, bufio.ErrBufferFull), errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		default:
			return line, err
		}
	}
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
