package journal

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/internal/linefile"
)

const (
	// DefaultMaxBytes bounds the file: some million holds.
	DefaultMaxBytes = 1 << 30
	// maxLine bounds one state: a cart of 1,000 lines has some 200 kB.
	maxLine = 4 << 20
)

// Errors of a journal.
var (
	// ErrInUse: another process has the file open.
	ErrInUse = errors.New("the journal is in use by another process; give each proxy a data_dir or a proxy_id of its own")
	// ErrFull: nothing more can be kept, so nothing more may be answered without Redis.
	ErrFull = errors.New("the journal of answers without Redis is full")
	errGone = errors.New("the journal is closed")
)

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
	bad atomic.Int64

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

func (j *Journal) prepare() (err error) {
	j.size, err = linefile.Begin(j.file)
	if errors.Is(err, linefile.ErrInUse) {
		return ErrInUse
	}
	return err
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
	if err != nil { // what is there of it would stand behind a shorter line
		err = errors.Join(err, f.Truncate(at))
	}
	j.mu.Lock()
	if err == nil {
		j.size = at + int64(len(g.text))
	}
	g.err = err
	close(g.done)
}

func (j *Journal) lines(epoch uint64, es []backends.Entry) (out []byte, err error) {
	for _, e := range es {
		before := len(out)
		if out, err = linefile.Append(out, Kept{Run: j.run, Epoch: epoch, Entry: e}); err != nil {
			return nil, err
		}
		if n := len(out) - before; n > maxLine {
			return nil, fmt.Errorf("a state of %d bytes cannot be kept in the journal", n)
		}
	}
	return out, nil
}

// Each calls do for every state from an offset on, and answers the offset behind the last. What is appended meanwhile may
// be missed. A damaged line is left out, and counted by Damaged.
func (j *Journal) Each(from int64, do func(Kept) error) (next int64, err error) {
	j.mu.Lock()
	f, end := j.file, j.size
	j.mu.Unlock()
	if f == nil {
		return from, errGone
	}
	err = linefile.Lines(f, from, end, maxLine, func(line []byte) error {
		var k Kept
		if !linefile.Decode(line, &k) {
			j.bad.Add(1)
		} else if err := do(k); err != nil {
			return err
		}
		from += int64(len(line))
		return nil
	})
	return from, err
}

// Damaged is how often a damaged line was left out since the journal was opened or emptied: more than 0, and what it had is not
// known here.
func (j *Journal) Damaged() int64 { return j.bad.Load() }

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
	j.bad.Store(0)
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
