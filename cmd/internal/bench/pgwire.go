package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// pgConn is a lean client for PostgreSQL's protocol, version 3: no password, statements prepared once. It
// does what the benchmark needs and no more.
type pgConn struct {
	nc  net.Conn
	br  *bufio.Reader
	out []byte
}

const (
	pgProtocol = 3 << 16
	// pgLongest bounds one message of the server.
	pgLongest = 1 << 20
)

var errPG = errors.New("PostgreSQL answered out of turn")

// pgError is an error of the server, with its SQLSTATE.
type pgError struct{ code, text string }

func (e *pgError) Error() string { return "PostgreSQL " + e.code + ": " + e.text }

func dialPG(ctx context.Context, addr, user, database string) (*pgConn, error) {
	nc, err := (&net.Dialer{Timeout: respPatience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &pgConn{nc: nc, br: bufio.NewReaderSize(nc, respBuffer)}
	body := binary.BigEndian.AppendUint32(nil, pgProtocol)
	for _, s := range []string{"user", user, "database", database} {
		body = append(append(body, s...), 0)
	}
	body = append(body, 0)
	c.out = append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...) //nolint:gosec // some hundred bytes
	if _, err = nc.Write(c.out); err == nil {
		_, err = c.untilReady(nil)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *pgConn) close() { c.nc.Close() }

// message appends one message of the client's.
func (c *pgConn) message(kind byte, parts ...string) {
	c.out = append(c.out, kind)
	at := len(c.out)
	c.out = append(c.out, 0, 0, 0, 0)
	for _, p := range parts {
		c.out = append(c.out, p...)
	}
	binary.BigEndian.PutUint32(c.out[at:], uint32(len(c.out)-at)) //nolint:gosec // some hundred bytes
}

// query runs statements by the simple protocol; row is told the first column of each row.
func (c *pgConn) query(text string, row func(value string)) error {
	c.out = c.out[:0]
	c.message('Q', text, "\x00")
	if _, err := c.nc.Write(c.out); err != nil {
		return err
	}
	_, err := c.untilReady(row)
	return err
}

// pgPrepared is the name of a connection's one prepared statement.
const pgPrepared = "take"

// prepare makes the connection's statement, which has no parameters.
func (c *pgConn) prepare(text string) error {
	c.out = c.out[:0]
	c.message('P', pgPrepared, "\x00", text, "\x00\x00\x00")
	c.message('S')
	if _, err := c.nc.Write(c.out); err != nil {
		return err
	}
	_, err := c.untilReady(nil)
	return err
}

// execute runs the prepared statement in a transaction of its own, and answers how many rows it changed.
func (c *pgConn) execute() (changed int64, err error) {
	c.out = c.out[:0]
	c.message('B', "\x00", pgPrepared, "\x00", "\x00\x00\x00\x00\x00\x00") // no formats, no parameters
	c.message('E', "\x00", "\x00\x00\x00\x00")
	c.message('S')
	if _, err := c.nc.Write(c.out); err != nil {
		return 0, err
	}
	return c.untilReady(nil)
}

// untilReady reads the server's messages to the end of its turn.
func (c *pgConn) untilReady(row func(string)) (changed int64, err error) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(c.br, head[:]); err != nil {
			return 0, err
		}
		n := int(binary.BigEndian.Uint32(head[1:])) - 4
		if n < 0 || n > pgLongest {
			return 0, fmt.Errorf("%w: %q with %d bytes", errPG, head[0], n)
		}
		switch head[0] {
		case 'C', 'E', 'D', 'R':
		default: // parameters, notices, column descriptions, the ready sign
			if _, err := c.br.Discard(n); err != nil {
				return 0, err
			}
			if head[0] == 'Z' {
				return changed, err
			}
			continue
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(c.br, body); err != nil {
			return 0, err
		}
		switch {
		case head[0] == 'C':
			changed = changedBy(string(body))
		case head[0] == 'E':
			err = pgErrorOf(body)
			if c.fatal(err) {
				return 0, err
			}
		case head[0] == 'R' && binary.BigEndian.Uint32(body) != 0:
			return 0, fmt.Errorf("%w: it wants a password", errPG)
		case head[0] == 'D' && row != nil:
			row(firstColumn(body))
		}
	}
}

// fatal errors end the connection: no ready sign follows.
func (c *pgConn) fatal(err error) bool {
	var e *pgError
	return !errors.As(err, &e) || strings.HasPrefix(e.code, "28") || strings.HasPrefix(e.code, "57P") || strings.HasPrefix(e.code, "3D")
}

// changedBy reads a command's tag: "UPDATE 1".
func changedBy(tag string) int64 {
	tag = strings.TrimRight(tag, "\x00")
	n, err := strconv.ParseInt(tag[strings.LastIndexByte(tag, ' ')+1:], 10, 64)
	if err != nil {
		return 0 // BEGIN, COMMIT
	}
	return n
}

func pgErrorOf(body []byte) error {
	e := &pgError{}
	for _, field := range strings.Split(string(body), "\x00") {
		switch {
		case strings.HasPrefix(field, "C"):
			e.code = field[1:]
		case strings.HasPrefix(field, "M"):
			e.text = field[1:]
		}
	}
	return e
}

// firstColumn of a row in text form.
func firstColumn(body []byte) string {
	const head = 6 // columns, length
	if len(body) < head {
		return ""
	}
	n := int(int32(binary.BigEndian.Uint32(body[2:]))) //nolint:gosec // −1 is null
	if n < 0 || head+n > len(body) {
		return ""
	}
	return string(body[head : head+n])
}
