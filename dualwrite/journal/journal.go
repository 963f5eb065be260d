package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"sync"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// DefaultMaxBytes bounds the file: some million holds.
	DefaultMaxBytes = 1 << 30
	// maxLine bounds one state: a cart of 1,000 lines has some 200 kB.
	maxLine = 4 << 20
	// crcLen is the length of the checksum and its space.
	crcLen = 9
)

// Errors of a journal.
var (
	// ErrInUse: another process has the file open.
	ErrInUse = errors.New("the journal is in use by another process; give each proxy a data_dir or a proxy_id of its own")
	// ErrFull: nothing more can be kept, so nothing more may be answered without Redis.
	ErrFull = errors.New("the journal of answers without Redis is full")
	errGone = errors.New("the journal is closed")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Kept is one line.
type Kept struct {
	Run   string         `json:"run"`
	Epoch uint64         `json:"epoch"`
	Entry backends.Entry `json:"entry"`
}

// Journal is an open one.
type Journal struct {
	run string
	max int64

	mu      sync.Mutex
	file    *os.File // nil once closed
	size    int64    // bytes that are on the disk
	next    *group   // what waits for the next sync; nil when nothing does
	syncing bool
}

// group is what shares one sync.
type group struct {
	text []byte
	done chan struct{}
	err  error
}

// Open opens or makes the file for the process run, and cuts off a torn line. maxBytes 0 means DefaultMaxBytes.
func Open(path, run string, maxBytes int64) (*Journal, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxBytes
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the folder
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	j := &Journal{run: run, max: maxBytes, file: f}
	if err := j.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the journal %s: %w", path, err), f.Close())
	}
	return j, nil
}

func (j *Journal) prepare() error {
	if err := lockFile(j.file); err != nil {
		return err
	}
	whole, err := j.scan(0, func(Kept) error { return nil })
	if err != nil {
		return err
	}
	if err := j.file.Truncate(whole); err != nil {
		return err
	}
	j.size = whole
	return j.file.Sync()
}

// Append keeps states. It returns when they are on the disk; on an error they may be there or not.
func (j *Journal) Append(epoch uint64, es []backends.Entry) error {
	if len(es) == 0 {
		return nil
	}
	text, err := j.lines(epoch, es)
	if err != nil {
		return err
	}
	j.mu.Lock()
	if j.file == nil {
		j.mu.Unlock()
		return errGone
	}
	g := j.next
	if g == nil {
		g = &group{done: make(chan struct{})}
		j.next = g
	}
	if j.size+int64(len(g.text)+len(text)) > j.max {
		j.mu.Unlock()
		return ErrFull
	}
	g.text = append(g.text, text...)
	if j.syncing { // whoever syncs takes this group next
		j.mu.Unlock()
		<-g.done
		return g.err
	}
	j.syncing = true
	j.flush()
	if j.next != nil {
		go j.drain() // this caller is done, and must not write for all who come after him
	} else {
		j.syncing = false
	}
	j.mu.Unlock()
	return g.err
}

// drain writes groups until nothing waits.
func (j *Journal) drain() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.next != nil {
		j.flush()
	}
	j.syncing = false
}

// flush writes the next group. The caller has the lock, and gives it up meanwhile.
func (j *Journal) flush() {
	g, f, at := j.next, j.file, j.size
	j.next = nil
	if f == nil {
		g.err = errGone
		close(g.done)
		return
	}
	j.mu.Unlock()
	_, err := f.WriteAt(g.text, at)
	if err == nil {
		err = f.Sync()
	}
	j.mu.Lock()
	if err == nil {
		j.size = at + int64(len(g.text))
	}
	g.err = err
	close(g.done)
}

func (j *Journal) lines(epoch uint64, es []backends.Entry) ([]byte, error) {
	var out []byte
	for _, e := range es {
		b, err := json.Marshal(Kept{Run: j.run, Epoch: epoch, Entry: e})
		if err != nil {
			return nil, err
		}
		if len(b) > maxLine {
			return nil, fmt.Errorf("a state of %d bytes cannot be kept in the journal", len(b))
		}
		out = fmt.Appendf(out, "%08x %s\n", crc32.Checksum(b, castagnoli), b)
	}
	return out, nil
}

// Each calls do for every state from an offset on, and answers the offset behind the last. What is appended meanwhile may
// be missed.
func (j *Journal) Each(from int64, do func(Kept) error) (next int64, err error) {
	return j.scan(from, do)
}

// scan reads whole lines, to the first that is torn, or to what is on the disk.
func (j *Journal) scan(from int64, do func(Kept) error) (int64, error) {
	j.mu.Lock()
	f, end := j.file, j.size
	j.mu.Unlock()
	if f == nil {
		return from, errGone
	}
	if end == 0 { // while it is being opened
		info, err := f.Stat()
		if err != nil {
			return from, err
		}
		end = info.Size()
	}
	r := bufio.NewReaderSize(io.NewSectionReader(f, from, end-from), 64<<10)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return from, nil
		}
		if err != nil {
			return from, err
		}
		k, ok := parse(line)
		if !ok {
			return from, nil
		}
		if err := do(k); err != nil {
			return from, err
		}
		from += int64(len(line))
	}
}

func parse(line []byte) (k Kept, ok bool) {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	if len(line) < crcLen || len(line) > maxLine+crcLen {
		return k, false
	}
	sum, err := strconv.ParseUint(string(line[:crcLen-1]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[crcLen:], castagnoli) {
		return k, false
	}
	return k, json.Unmarshal(line[crcLen:], &k) == nil
}

// Size is how many bytes are kept.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size
}

// Empty drops everything that was there when it had size bytes: nothing, if more has come.
func (j *Journal) Empty(size int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil || j.size != size || j.syncing || size == 0 {
		return nil
	}
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	j.size = 0
	return j.file.Sync()
}

// Close closes the file; twice is once.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	f := j.file
	j.file = nil
	return f.Close()
}
