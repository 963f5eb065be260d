package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

const (
	// respBuffer holds a pipeline's replies.
	respBuffer = 16 << 10
	// respPatience bounds one exchange; a server that says nothing for so long is gone.
	respPatience = 20 * time.Second
	// respDepth bounds nested replies.
	respDepth = 8
)

// respConn is one connection of a lean RESP client: no allocation for a request that was made before, or
// for a reply that is only looked at.
type respConn struct {
	nc net.Conn
	br *bufio.Reader
	// status is the second text of the last reply that was an array: the verdict of a hold command.
	status [16]byte
	said   int // its bytes
	seen   int // texts of this reply so far
}

// respValue is a reply that is kept, for set-up.
type respValue struct {
	kind  byte
	text  string
	items []respValue
}

// respError is an error reply.
type respError struct{ text string }

func (e *respError) Error() string { return "the server answered: " + e.text }

var errNotRESP = errors.New("the answer is not RESP")

func dialRESP(ctx context.Context, addr string) (*respConn, error) {
	nc, err := (&net.Dialer{Timeout: respPatience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &respConn{nc: nc, br: bufio.NewReaderSize(nc, respBuffer)}, nil
}

func (c *respConn) close() { c.nc.Close() }

// command is a command as it travels.
func command(args ...string) []byte {
	b := []byte{'*'}
	b = strconv.AppendInt(b, int64(len(args)), 10)
	for _, a := range args {
		b = append(b, "\r\n$"...)
		b = strconv.AppendInt(b, int64(len(a)), 10)
		b = append(b, "\r\n"...)
		b = append(b, a...)
	}
	return append(b, "\r\n"...)
}

// exchange writes a prepared request and reads n replies. want, if given, is the status that each reply
// has to have.
func (c *respConn) exchange(req []byte, n int, want string) error {
	if _, err := c.nc.Write(req); err != nil {
		return err
	}
	for range n {
		if err := c.reply(); err != nil {
			return err
		}
		if want != "" && string(c.status[:c.said]) != want {
			return fmt.Errorf("wanted %s, got %q", want, c.status[:c.said])
		}
	}
	return nil
}

// reply reads one reply and keeps its status only.
func (c *respConn) reply() error {
	c.seen, c.said = 0, 0
	return c.skip(0)
}

func (c *respConn) skip(depth int) error {
	line, err := c.line()
	if err != nil {
		return err
	}
	switch line[0] {
	case '+', ':':
		return nil
	case '-':
		return &respError{string(line[1:])}
	case '$', '*':
	default:
		return fmt.Errorf("%w: %.40q", errNotRESP, line)
	}
	n, ok := plainInt(line[1:])
	switch {
	case !ok || depth > respDepth:
		return fmt.Errorf("%w: %.40q", errNotRESP, line)
	case n < 0:
		return nil
	case line[0] == '$':
		return c.text(n)
	}
	for range n {
		if err := c.skip(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// text passes over a string of n bytes; the second one of a reply is its status.
func (c *respConn) text(n int) error {
	c.seen++
	if c.seen == 2 && n <= len(c.status) {
		b, err := c.br.Peek(n)
		if err != nil {
			return err
		}
		c.said = copy(c.status[:], b)
	}
	_, err := c.br.Discard(n + 2)
	return err
}

// line is the next line without its end; it is valid until the next read.
func (c *respConn) line() ([]byte, error) {
	line, err := c.br.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, fmt.Errorf("%w: %.40q", errNotRESP, line)
	}
	return line[:len(line)-2], nil
}

// plainInt reads a whole number without allocating.
func plainInt(b []byte) (n int, ok bool) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	for _, d := range b {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + int(d-'0')
	}
	if neg {
		n = -n
	}
	return n, true
}

// ask sends one command and keeps its reply: for set-up.
func (c *respConn) ask(args ...string) (respValue, error) {
	if err := c.nc.SetDeadline(time.Now().Add(respPatience)); err != nil {
		return respValue{}, err
	}
	if _, err := c.nc.Write(command(args...)); err != nil {
		return respValue{}, err
	}
	v, err := c.value(0)
	if err == nil && v.kind == '-' {
		err = &respError{v.text}
	}
	if err != nil {
		return v, err
	}
	return v, c.nc.SetDeadline(time.Time{})
}

func (c *respConn) value(depth int) (respValue, error) {
	line, err := c.line()
	if err != nil {
		return respValue{}, err
	}
	v := respValue{kind: line[0], text: string(line[1:])}
	switch v.kind {
	case '+', '-', ':':
		return v, nil
	case '$', '*':
	default:
		return v, fmt.Errorf("%w: %.40q", errNotRESP, line)
	}
	n, ok := plainInt(line[1:])
	switch {
	case !ok || depth > respDepth:
		return v, fmt.Errorf("%w: %.40q", errNotRESP, line)
	case n < 0:
		return respValue{kind: '_'}, nil
	case v.kind == '$':
		b := make([]byte, n+2)
		if _, err := io.ReadFull(c.br, b); err != nil {
			return v, err
		}
		v.text = string(b[:n])
		return v, nil
	}
	v.text = ""
	for range n {
		item, err := c.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.items = append(v.items, item)
	}
	return v, nil
}

// idWidth is how many digits a number in a request has.
const idWidth = 12

// request is a pipeline of one command, made once. Where mark stands in an argument, each command gets a
// number of its own, written in place.
type request struct {
	bytes []byte
	at    []int // where the numbers are
	n     int   // commands
}

// mark is replaced by a number of idWidth digits.
const mark = "000000000000"

func newRequest(n int, args ...string) *request {
	r := &request{n: n}
	for range n {
		one := command(args...)
		for from := 0; ; {
			i := bytes.Index(one[from:], []byte(mark))
			if i < 0 {
				break
			}
			r.at = append(r.at, len(r.bytes)+from+i)
			from += i + idWidth
		}
		r.bytes = append(r.bytes, one...)
	}
	return r
}

// number gives the marks their numbers: those of one command the same, of each command the next one.
func (r *request) number(first int64) {
	each := len(r.at) / r.n
	for i, at := range r.at {
		v := first + int64(i/each)
		for d := at + idWidth - 1; d >= at; d-- {
			r.bytes[d] = byte('0' + v%10)
			v /= 10
		}
	}
}

// overRESP makes workers with a connection each, which send the request again and again. next, if given,
// gives so many new numbers, and the first of them.
func overRESP(ctx context.Context, addr string, pipeline int, want string, next func(n int) int64, args ...string) maker {
	return func(int) (op, func(), error) {
		c, err := dialRESP(ctx, addr)
		if err != nil {
			return nil, nil, err
		}
		req := newRequest(pipeline, args...)
		return func(ctx context.Context) (int, error) {
			if next != nil {
				req.number(next(pipeline))
			}
			err := c.exchange(req.bytes, pipeline, want)
			if err != nil && ctx.Err() == nil {
				c.redial(ctx, addr)
			}
			return pipeline, err
		}, func() { c.close() }, nil
	}
}

// redial makes a new connection after an error; if it does not come about, the next use fails again.
func (c *respConn) redial(ctx context.Context, addr string) {
	fresh, err := dialRESP(ctx, addr)
	if err != nil {
		return
	}
	c.close()
	c.nc, c.br = fresh.nc, fresh.br
}
