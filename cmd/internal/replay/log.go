package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// syncEvery is how often the log is forced to disk. A killed player loses nothing by that: what was
// written is the kernel's. A crashed machine loses that much.
const syncEvery = 250 * time.Millisecond

// The events of a log.
const (
	eventRun    = "run"    // the first line: which run
	eventSent   = "sent"   // a claim, release or restock is about to be sent for the first time
	eventAnswer = "answer" // a verdict
	eventGaveUp = "gave up"
)

// event is one line of a log.
type event struct {
	At      time.Time       `json:"at"`
	Event   string          `json:"event"`
	Run     string          `json:"run,omitempty"`
	Shop    backends.Shop   `json:"shop,omitempty"`
	Op      string          `json:"op,omitempty"`
	Hold    backends.HoldID `json:"hold,omitempty"`
	OpID    backends.OpID   `json:"op_id,omitempty"`
	Verdict string          `json:"verdict,omitempty"`
	// State is the hold's as the answer gave it.
	State    string `json:"state,omitempty"`
	Replayed bool   `json:"replayed,omitempty"`
	// Units that were asked for.
	Units     int64   `json:"units,omitempty"`
	Short     int64   `json:"short_lines,omitempty"`
	Apologies int64   `json:"apology_units,omitempty"`
	Tries     int     `json:"tries,omitempty"`
	Uncertain bool    `json:"uncertain,omitempty"` // an earlier try may have had an effect
	TookMS    float64 `json:"took_ms,omitempty"`
	Error     string  `json:"error,omitempty"`
}

// playLog writes a log. A nil one writes nothing.
type playLog struct {
	mu   sync.Mutex
	f    *os.File
	err  error // the first one: from then on nothing is written
	stop chan struct{}
	done chan struct{}
}

// openLog makes the file, which must not exist, and starts syncing it until close.
func openLog(path string) (*playLog, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("replay log: %w; every run has a log of its own", err)
	}
	if err != nil {
		return nil, fmt.Errorf("replay log: %w", err)
	}
	l := &playLog{f: f, stop: make(chan struct{}), done: make(chan struct{})}
	go l.sync()
	return l, nil
}

func (l *playLog) sync() {
	defer close(l.done)
	t := time.NewTicker(syncEvery)
	defer t.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-t.C:
			l.keep(l.f.Sync())
		}
	}
}

func (l *playLog) keep(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil && err != nil {
		l.err = fmt.Errorf("replay log: %w", err)
	}
}

// write adds a line, by one write. The error is that of the log from its first failure on.
func (l *playLog) write(e event) error {
	if l == nil {
		return nil
	}
	e.At = time.Now().UTC()
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		if _, err := l.f.Write(append(line, '\n')); err != nil {
			l.err = fmt.Errorf("replay log: %w", err)
		}
	}
	return l.err
}

// close forces the rest to disk.
func (l *playLog) close() error {
	if l == nil {
		return nil
	}
	close(l.stop)
	<-l.done
	l.keep(l.f.Sync())
	l.keep(l.f.Close())
	return l.err
}
