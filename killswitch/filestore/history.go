package filestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

const (
	// tailBytes is how much of a history's end is read: MaxHistoryPage lines of some kB at most.
	tailBytes = 8 << 20
)

// AppendHistory implements killswitch.ControlStore.
func (s *Store) AppendHistory(ctx context.Context, pod backends.Pod, changes ...killswitch.Change) error {
	if err := check(ctx, pod); err != nil || len(changes) == 0 {
		return err
	}
	return s.locked(ctx, func() error {
		path := s.path("history", pod, ".jsonl")
		have, torn, err := tail(path, 1)
		if err != nil {
			return err
		}
		var newest uint64
		if len(have) > 0 {
			newest = have[0].Seq
		}
		var b bytes.Buffer
		if torn {
			b.WriteByte('\n') // the line that a crash cut off stays apart from the next one
		}
		for _, c := range changes {
			if c.Seq <= newest {
				continue
			}
			line, err := json.Marshal(c)
			if err != nil {
				return fmt.Errorf("control store: %w", err)
			}
			b.Write(append(line, '\n'))
		}
		if b.Len() == 0 {
			return nil
		}
		return s.append(path, b.Bytes())
	})
}

func (s *Store) append(path string, b []byte) (err error) {
	_, missing := os.Stat(path)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // made by this package
	if err != nil {
		return unavailable(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(b); err != nil {
		return unavailable(err)
	}
	if err := f.Sync(); err != nil {
		return unavailable(err)
	}
	if errors.Is(missing, fs.ErrNotExist) {
		return syncDir(s.dir + "/history")
	}
	return nil
}

// History implements killswitch.ControlStore.
func (s *Store) History(ctx context.Context, pod backends.Pod, limit int) ([]killswitch.Change, error) {
	if err := check(ctx, pod); err != nil || limit <= 0 {
		return nil, err
	}
	out, _, err := tail(s.path("history", pod, ".jsonl"), min(limit, killswitch.MaxHistoryPage))
	return out, err
}

// tail reads the newest changes of a history, oldest first. Torn tells that its last line has no end.
func tail(path string, limit int) (out []killswitch.Change, torn bool, err error) {
	f, err := os.Open(path) //nolint:gosec // made by this package
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, unavailable(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, false, unavailable(err)
	}
	from := max(0, info.Size()-tailBytes)
	b := make([]byte, info.Size()-from)
	if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
		return nil, false, unavailable(err)
	}
	torn = len(b) > 0 && b[len(b)-1] != '\n'
	lines := bytes.Split(b, []byte{'\n'})
	for i := len(lines) - 1; i >= 0 && len(out) < limit; i-- {
		var c killswitch.Change
		// A line that is not one was cut off by a crash, or by where this reading begins.
		if json.Unmarshal(lines[i], &c) == nil && c.Seq > 0 {
			out = append(out, c)
		}
	}
	slices.Reverse(out)
	return out, torn, nil
}

// Acknowledge implements killswitch.ControlStore.
func (s *Store) Acknowledge(ctx context.Context, a killswitch.Ack) error {
	if err := check(ctx, a.Pod); err != nil {
		return err
	}
	if err := backends.CheckID("proxy", a.Proxy); err != nil {
		return err
	}
	return s.locked(ctx, func() error {
		path := s.path("acks", a.Pod, ".json")
		acks, rev, err := readAcks(path)
		if err != nil {
			return err
		}
		acks = slices.DeleteFunc(acks, func(o killswitch.Ack) bool { return o.Proxy == a.Proxy })
		if len(acks) >= killswitch.MaxAcks {
			slices.SortFunc(acks, func(x, y killswitch.Ack) int { return x.At.Compare(y.At) })
			acks = acks[len(acks)-killswitch.MaxAcks+1:]
		}
		return write(path, rev+1, append(acks, a))
	})
}

// Acks implements killswitch.ControlStore.
func (s *Store) Acks(ctx context.Context, pod backends.Pod) ([]killswitch.Ack, error) {
	if err := check(ctx, pod); err != nil {
		return nil, err
	}
	acks, _, err := readAcks(s.path("acks", pod, ".json"))
	slices.SortFunc(acks, func(x, y killswitch.Ack) int { return bytes.Compare([]byte(x.Proxy), []byte(y.Proxy)) })
	return acks, err
}

func readAcks(path string) ([]killswitch.Ack, killswitch.Revision, error) {
	body, rev, err := read(path)
	if err != nil || rev == 0 {
		return nil, rev, err
	}
	var acks []killswitch.Ack
	if err := json.Unmarshal(body, &acks); err != nil {
		return nil, 0, damaged(path, err.Error())
	}
	return acks, rev, nil
}
