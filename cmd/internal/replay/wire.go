package replay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Bounds of a reply. The largest is that of a cart at its limits: a thousand allocations.
const (
	maxReplyDepth = 8
	maxReplyItems = 100_000
	maxReplyLine  = 64 << 10
	maxReplyBulk  = 1 << 20
)

// errReply: what came was no reply of the protocol. The connection is of no more use.
var errReply = errors.New("the answer is not RESP")

// value is a reply.
type value struct {
	kind  byte // '+', '-', ':', '$', '*', or '_' for null
	text  string
	n     int64
	items []value
}

// conn is one connection to a door. It is used by one client.
type conn struct {
	nc  net.Conn
	br  *bufio.Reader
	out []byte
}

// dial connects and authenticates.
func dial(ctx context.Context, addr, user, password string) (*conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{nc: nc, br: bufio.NewReaderSize(nc, maxReplyLine)}
	if password == "" {
		return c, nil
	}
	auth := []string{"AUTH", password}
	if user != "" {
		auth = []string{"AUTH", user, password}
	}
	v, err := c.do(ctx, dialTimeout, auth)
	if err == nil && v.kind == '-' {
		err = &authError{v.text}
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// authError: the door does not take the password. Trying again does not help.
type authError struct{ text string }

func (e *authError) Error() string { return "the door refused the password: " + e.text }

func (c *conn) close() { c.nc.Close() }

// do sends one command and reads its reply. After an error the connection must not be used again,
// and whether the command took effect is not known.
func (c *conn) do(ctx context.Context, timeout time.Duration, args []string) (value, error) {
	if err := c.nc.SetDeadline(time.Now().Add(timeout)); err != nil {
		return value{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)) }) // a closed one needs none
	defer stop()
	c.out = appendCommand(c.out[:0], args)
	if _, err := c.nc.Write(c.out); err != nil {
		return value{}, err
	}
	items := 0
	return readValue(c.br, 0, &items)
}

func appendCommand(b []byte, args []string) []byte {
	b = append(b, '*')
	b = strconv.AppendInt(b, int64(len(args)), 10)
	for _, a := range args {
		b = append(b, "\r\n$"...)
		b = strconv.AppendInt(b, int64(len(a)), 10)
		b = append(b, "\r\n"...)
		b = append(b, a...)
	}
	return append(b, "\r\n"...)
}

// readValue reads one reply of RESP2.
func readValue(br *bufio.Reader, depth int, items *int) (value, error) {
	if *items++; *items > maxReplyItems || depth > maxReplyDepth {
		return value{}, fmt.Errorf("%w: larger than any answer of a door", errReply)
	}
	line, err := br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return value{}, fmt.Errorf("%w: a line without end", errReply)
	}
	if err != nil {
		return value{}, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return value{}, fmt.Errorf("%w: %.60q", errReply, line)
	}
	v := value{kind: line[0], text: string(line[1 : len(line)-2])}
	switch v.kind {
	case '+', '-':
		return v, nil
	case ':', '$', '*':
	default:
		return value{}, fmt.Errorf("%w: %.60q", errReply, line)
	}
	if v.n, err = strconv.ParseInt(v.text, 10, 64); err != nil {
		return value{}, fmt.Errorf("%w: %.60q", errReply, v.text)
	}
	switch {
	case v.kind == ':':
		return v, nil
	case v.n == -1:
		return value{kind: '_'}, nil
	case v.kind == '$':
		return readBulk(br, v.n)
	case v.n < 0 || v.n > maxReplyItems:
		return value{}, fmt.Errorf("%w: an array of %d", errReply, v.n)
	}
	v.text = ""
	for range v.n {
		item, err := readValue(br, depth+1, items)
		if err != nil {
			return value{}, err
		}
		v.items = append(v.items, item)
	}
	return v, nil
}

func readBulk(br *bufio.Reader, n int64) (value, error) {
	if n < 0 || n > maxReplyBulk {
		return value{}, fmt.Errorf("%w: a string of %d bytes", errReply, n)
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(br, b); err != nil {
		return value{}, err
	}
	if string(b[n:]) != "\r\n" {
		return value{}, fmt.Errorf("%w: a string without end", errReply)
	}
	return value{kind: '$', text: string(b[:n])}, nil
}

// field finds the value of a name in a map, which RESP2 writes as a flat array.
func (v *value) field(name string) *value {
	if v.kind != '*' {
		return nil
	}
	for i := 0; i+1 < len(v.items); i += 2 {
		if v.items[i].text == name {
			return &v.items[i+1]
		}
	}
	return nil
}

func (v *value) textOf(name string) string {
	if f := v.field(name); f != nil {
		return f.text
	}
	return ""
}

func (v *value) numberOf(name string) int64 {
	if f := v.field(name); f != nil && f.kind == ':' {
		return f.n
	}
	return 0
}
