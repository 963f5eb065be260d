package linefile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// crcLen is the length of the checksum and its space.
const crcLen = 9

// ErrInUse: somebody else has the file open.
var ErrInUse = errors.New("the file is in use by another process")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Begin locks a file that was opened for reading and writing, cuts off a torn last line, and answers its length. Errors: ErrInUse,
// and those of the file system.
func Begin(f *os.File) (size int64, err error) {
	if err := lockFile(f); err != nil {
		return 0, err
	}
	if size, err = whole(f); err != nil {
		return 0, err
	}
	if err := Cut(f, size); err != nil {
		return 0, err
	}
	return size, syncDir(filepath.Dir(f.Name()))
}

// Cut makes the file end at size, durably.
func Cut(f *os.File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

// whole is the length of the file up to its last line feed.
func whole(f *os.File) (int64, error) {
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
	d, err := os.Open(dir) //nolint:gosec // of a file that the operator has named
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Append appends v to text as a line.
func Append(text []byte, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return text, err
	}
	text = append(appendSum(text, body), ' ')
	return append(append(text, body...), '\n'), nil
}

// Decode reads a line, with its line feed or without, into v; false: it is damaged.
func Decode(line []byte, v any) bool {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	if len(line) < crcLen || line[crcLen-1] != ' ' {
		return false
	}
	sum, body := line[:crcLen-1], line[crcLen:]
	return bytes.Equal(sum, appendSum(nil, body)) && json.Unmarshal(body, v) == nil
}

// appendSum writes the checksum of body as lines have it. It is compared as text: a reading of digits takes some for others, as of
// either case, and damage to them would go unseen.
func appendSum(text, body []byte) []byte {
	return fmt.Appendf(text, "%08x", crc32.Checksum(body, castagnoli))
}

// Lines reads what is in f between two offsets: each line with its line feed. A line of more than most bytes is
// damage: it comes in pieces, each of which fails its checksum.
func Lines(f *os.File, from, to int64, most int, do func(line []byte) error) error {
	r := bufio.NewReader(io.NewSectionReader(f, from, to-from))
	for {
		line, err := next(r, most)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(line); err != nil {
			return err
		}
	}
}

func next(r *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(line) < most:
			continue
		case errors.Is(err, bufio.ErrBufferFull), errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		default:
			return line, err
		}
	}
}
