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

// tailBytes is how much of a history is read at a time, from its end: some hundred lines of a few kB.
const tailBytes = 1 << 20

// AppendHistory implements killswitch.ControlStore.
func (s *Store) AppendHistory(ctx context.Context, pod backends.Pod, changes ...killswitch.Change) error {
	if err := check(ctx, pod); err != nil || len(changes) == 0 {
		return err
	}
	return s.locked(ctx, func() error {
		path := s.path("history", pod, ".jsonl")
		have, torn, err := tail(ctx, path, 0, 1)
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
func (s *Store) History(ctx context.Context, pod backends.Pod, before uint64, limit int) ([]killswitch.Change, error) {
	if err := check(ctx, pod); err != nil || limit <= 0 {
		return nil, err
	}
	out, _, err := tail(ctx, s.path("history", pod, ".jsonl"), before, min(limit, killswitch.MaxHistoryPage))
	return out, err
}

// tail reads the newest changes of a history that come before one, or of all for 0, oldest first. Torn tells that its last line
// has no end. It reads backwards, as far as it has to.
func tail(ctx context.Context, path string, before uint64, limit int) (out []killswitch.Change, torn bool, err error) {
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
	var rest []byte // the end of a line whose beginning is not read yet
	for at := info.Size(); at > 0 && len(out) < limit; {
		if err := ctx.Err(); err != nil {
			return nil, false, unavailable(err)
		}
		from := max(0, at-tailBytes)
		b := make([]byte, at-from, at-from+int64(len(rest)))
		if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
			return nil, false, unavailable(err)
		}
		torn = torn || at == info.Size() && b[len(b)-1] != '\n'
		b = append(b, rest...)
		if rest = nil; from > 0 {
			n := bytes.IndexByte(b, '\n') + 1 // 0: all of it is one line
			if n == 0 {
				n = len(b)
			}
			rest, b = b[:n], b[n:]
		}
		out = takeLines(out, b, before, limit)
		at = from
	}
	slices.Reverse(out)
	return out, torn, nil
}

// takeLines adds the changes of some lines, the last one first.
func takeLines(out []killswitch.Change, b []byte, before uint64, limit int) []killswitch.Change {
	lines := bytes.Split(b, []byte{'\n'})
	for i := len(lines) - 1; i >= 0 && len(out) < limit; i-- {
		var c killswitch.Change
		// A line that is not one was cut off by a crash.
		if json.Unmarshal(lines[i], &c) == nil && c.Seq > 0 && (before == 0 || c.Seq < before) {
			out = append(out, c)
		}
	}
	return out
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
