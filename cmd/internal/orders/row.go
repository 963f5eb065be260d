package orders

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/crossfade-proxy/crossfade/backends"
)

// maxJoined bounds the lines that one row may take up by line breaks inside quotes. A quote that
// is never closed then costs its own row, and not the rest of the file.
const maxJoined = 4

// lineReader gives the lines of a file, and takes some back.
type lineReader struct {
	r     *bufio.Reader
	back  [][]byte // lines taken back, the next one last
	spare []byte
	n     int // lines given out
}

// next gives a line without its end; long tells that it was over MaxRowBytes (its rest is dropped).
// The line is valid until the one after the next call.
func (l *lineReader) next() (line []byte, long bool, err error) {
	if k := len(l.back); k > 0 {
		line = l.back[k-1]
		l.back = l.back[:k-1]
		l.n++
		return line, false, nil
	}
	line, err = l.r.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		if !long {
			l.spare, long = append(l.spare[:0], line[:min(len(line), 128)]...), true
		}
		_, err = l.r.ReadSlice('\n')
	}
	if long {
		line = l.spare
	}
	if errors.Is(err, io.EOF) && (len(line) > 0 || long) {
		err = nil
	}
	if err != nil {
		return nil, false, err
	}
	l.n++
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), long, nil
}

// takeBack makes next give these lines again, in their order.
func (l *lineReader) takeBack(lines [][]byte) {
	for i := len(lines) - 1; i >= 0; i-- {
		l.back = append(l.back, lines[i])
	}
	l.n -= len(lines)
}

var (
	errQuoteOpen = errors.New("a quote that is not closed")
	errQuoteText = errors.New("text after a closing quote")
)

// split cuts a row into its fields, appended to fields. A field that begins with a quote ends with
// one, and has its own quotes doubled; a quote anywhere else is a character like any other.
func split(row []byte, fields []string) ([]string, error) {
	for {
		if len(row) == 0 || row[0] != '"' {
			i := bytes.IndexByte(row, ',')
			if i < 0 {
				return append(fields, string(row)), nil
			}
			fields = append(fields, string(row[:i]))
			row = row[i+1:]
			continue
		}
		field, rest, err := unquote(row[1:])
		if err != nil {
			return fields, err
		}
		fields = append(fields, field)
		if len(rest) == 0 {
			return fields, nil
		}
		row = rest[1:] // the comma
	}
}

// unquote reads what follows an opening quote; rest begins with a comma, or is empty.
func unquote(b []byte) (field string, rest []byte, err error) {
	var out []byte
	for {
		i := bytes.IndexByte(b, '"')
		if i < 0 {
			return "", nil, errQuoteOpen
		}
		out = append(out, b[:i]...)
		b = b[i+1:]
		switch {
		case len(b) == 0 || b[0] == ',':
			return string(out), b, nil
		case b[0] == '"':
			out = append(out, '"')
			b = b[1:]
		default:
			return "", nil, errQuoteText
		}
	}
}

// rowReader gives the rows of a file as fields.
type rowReader struct {
	lines  lineReader
	fields []string
	joined []byte
	width  int // columns of the header; 0 before it
}

// next gives the next row that is not empty and its number; a row that cannot be read as one is a
// *RowError, and the next call goes on behind it. The fields are valid until the next call.
func (r *rowReader) next() (fields []string, row int, err error) {
	for {
		line, long, err := r.lines.next()
		if err != nil {
			return nil, r.lines.n, err
		}
		row = r.lines.n
		switch {
		case long:
			return nil, row, broken(row, "row", clip(string(line)), fmt.Sprintf("at most %d bytes", MaxRowBytes), "see whether a line break is missing")
		case len(bytes.TrimSpace(line)) == 0:
			continue
		}
		fields, err = r.fit(line, row)
		return fields, row, err
	}
}

// fit splits a row, with further lines if a quote of it is still open.
func (r *rowReader) fit(line []byte, row int) ([]string, error) {
	var err error
	r.fields, err = split(line, r.fields[:0])
	if err == nil {
		return r.fields, r.checkWidth(row)
	}
	first := clip(string(line))
	if errors.Is(err, errQuoteOpen) {
		r.joined = append(r.joined[:0], line...)
		if r.join() {
			return r.fields, nil
		}
	}
	return nil, broken(row, "row", first, "quotes in pairs; found "+err.Error(), "double a quote that belongs to the text")
}

// join tries to close the quote with the lines that follow; if that gives no row, they are taken back.
func (r *rowReader) join() bool {
	var taken [][]byte
	for len(taken) < maxJoined {
		line, long, err := r.lines.next()
		if err != nil {
			break
		}
		taken = append(taken, bytes.Clone(line))
		if long {
			break
		}
		r.joined = append(append(r.joined, '\n'), line...)
		r.fields, err = split(r.joined, r.fields[:0])
		if err == nil && (r.width == 0 || len(r.fields) == r.width) {
			return true
		}
	}
	r.lines.takeBack(taken)
	return false
}

func (r *rowReader) checkWidth(row int) error {
	if r.width == 0 || len(r.fields) == r.width {
		return nil
	}
	return broken(row, "number of fields", strconv.Itoa(len(r.fields)), fmt.Sprintf("%d, as in the header", r.width), "quote a field that has a comma inside")
}

func broken(row int, field, value, bound, next string) *RowError {
	return &RowError{Row: row, Cause: &backends.FieldError{Field: field, Value: value, Bound: bound, Next: next}}
}

// clip quotes and bounds what is shown of a file.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
