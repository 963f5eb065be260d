package respdoor

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// After the last reply what the client is still sending is read and thrown away for a
	// while: closing at once would reset the connection, and the reply could be lost with it.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20
)

// conn is one client. All but info, last, stop and the methods nudge and abort belong to its goroutine.
type conn struct {
	srv   *Server
	id    int64
	began time.Time
	sink  *sink
	nc    net.Conn // sink, or TLS over it
	p     parser
	out   []byte // replies that are not written yet
	// counts have been read and are neither done nor answered.
	counts []*backends.CountRequest
	// before is where the replies to the present command begin in out.
	before int

	proto   int // 2 or 3
	authed  bool
	closing bool // after the replies so far
	mute    muteState
	// opCtx is the context of operations; it is shared by those that follow closely.
	opCtx    context.Context
	opCancel context.CancelFunc
	opMade   time.Time

	readAt     time.Time // of the last bytes
	waitAt     time.Time // when the connection began to wait for more; kept where IdleTimeout wants it
	armed      time.Time // the read deadline as it is set
	frameBegan time.Time // when the first bytes of a partial frame were seen; zero without one
	frameStart int64     // where that frame begins in all that was received
	ran        int64     // commands since the last count

	info atomic.Pointer[clientInfo] // read by CLIENT LIST of others
	last atomic.Int64               // unix milliseconds of the last batch
	stop atomic.Bool
}

// clientInfo is what a client has said about itself.
type clientInfo struct {
	name, libName, libVersion string
	caller                    string // the name, when it is a legal tag
	user                      string
}

// muteState is CLIENT REPLY.
type muteState uint8

const (
	muteNever muteState = iota
	muteAlways
	muteNext // the command after this one
	muteThis
)

func (c *conn) run() {
	defer func() {
		c.endOp()
		c.srv.budget.give(cap(c.p.buf) - baseBuffer)
		c.nc.Close()
		c.sink.Close()
	}()
	c.readAt = c.began
	c.last.Store(c.began.UnixMilli())
	if !c.handshake() {
		return
	}
	for {
		perr := c.batch()
		if perr != nil {
			c.srv.count.malformed.Add(1)
			if perr.text != "" {
				c.fail("ERR Protocol error: " + perr.text)
			} else {
				c.out = c.out[:0] // a browser gets nothing, as from Redis
			}
			c.closing = true
		}
		if err := c.flush(); err != nil {
			return
		}
		if c.closing || c.stop.Load() {
			c.linger()
			return
		}
		if !c.read() {
			return
		}
	}
}

func (c *conn) handshake() bool {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(c.srv.base, c.srv.cfg.FrameTimeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		c.srv.cfg.Log.Debug("resp door: TLS handshake failed", "client", c.nc.RemoteAddr(), "error", err)
		return false
	}
	return true
}

// batch runs every command that is complete.
func (c *conn) batch() *protocolError {
	defer func() {
		c.srv.count.commands.Add(c.ran)
		c.ran = 0
	}()
	for {
		args, err := c.p.next()
		if err != nil || args == nil {
			c.settle()
			return err
		}
		c.ran++
		c.execute(args)
		if c.closing {
			return nil
		}
		c.p.locked = !c.authed
		if len(c.out) >= flushAt && c.flush() != nil {
			c.closing = true
			return nil
		}
	}
}

// execute runs one command. A panic is answered and ends the connection, not the proxy: its
// outcome is unknown like that of any other call that broke.
func (c *conn) execute(args [][]byte) {
	c.before = len(c.out)
	if c.mute == muteNext {
		c.mute = muteThis
	}
	defer func() {
		if c.mute == muteAlways || c.mute == muteThis {
			c.out = c.out[:c.before]
		}
		if c.mute == muteThis {
			c.mute = muteNever
		}
	}()
	defer c.recovered(1)
	c.dispatch(args)
}

// recovered ends a connection whose command has panicked, after an answer to it. It is deferred.
func (c *conn) recovered(commands int) {
	r := recover()
	if r == nil {
		return
	}
	c.srv.count.panics.Add(1)
	c.srv.cfg.Log.Error("resp door: panic in a command", "panic", r, "stack", string(debug.Stack()))
	c.out = c.out[:c.before]
	for range commands {
		c.fail(CodeUnknown + " internal error; retry under the same id")
	}
	c.closing = true
}

// read waits for more bytes; false when there will be none.
func (c *conn) read() bool {
	if c.p.partial() {
		// Another frame than at the last read has its own time, even if there was no moment
		// without one.
		if at := c.p.offset(); c.frameBegan.IsZero() || at != c.frameStart {
			c.frameBegan, c.frameStart = time.Now(), at
		}
	} else {
		c.frameBegan = time.Time{}
		c.srv.budget.give(c.p.idle())
	}
	if more := c.p.makeRoom(); more > 0 {
		if !c.srv.budget.take(more) {
			c.fail(errBuffers)
			_ = c.flush() // it is closed either way
			c.linger()
			return false
		}
		c.p.grow(more)
	}
	n, err := c.readSome()
	c.p.buf = c.p.buf[:len(c.p.buf)+n]
	if n > 0 {
		return true // an error comes again
	}
	if errors.Is(err, errStopping) {
		_ = c.sink.settle() // the connection is closed either way
		return false
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.stop.Load() && !c.frameBegan.IsZero() {
		c.srv.count.malformed.Add(1)
		c.fail(errHalfFrame)
		err = c.flush()
	}
	switch {
	case err == nil, c.stop.Load() && c.p.partial():
		c.linger()
	case c.stop.Load():
		_ = c.sink.settle() // nothing is on its way here, so closing loses nothing
	}
	return false
}

// errStopping: the server stops, and nothing was read.
var errStopping = errors.New("stopping")

// readSome reads once. An idle time that was set for earlier bytes is not set anew for later ones; when it
// comes, it is seen whether it has really passed.
func (c *conn) readSome() (int, error) {
	if c.srv.cfg.IdleTimeout > 0 {
		c.waitAt = time.Now()
	}
	for {
		if due := c.deadline(); !c.armed.Equal(due) && (due.IsZero() || c.armed.IsZero() || !c.frameBegan.IsZero() || due.Before(c.armed)) {
			if err := c.nc.SetReadDeadline(due); err != nil {
				return 0, err
			}
			c.armed = due
		}
		if c.stop.Load() { // asked after the deadline was set: it may have been overwritten
			return 0, errStopping
		}
		n, err := c.nc.Read(c.p.buf[len(c.p.buf):cap(c.p.buf)])
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || c.stop.Load() {
			c.readAt = time.Now()
			c.last.Store(c.readAt.UnixMilli())
			return n, err
		}
		if due := c.deadline(); due.IsZero() || time.Now().Before(due) {
			c.armed = time.Time{}
			continue
		}
		return 0, err
	}
}

// deadline is when the next bytes must have come. Half a frame has a time as a whole, so that
// one byte now and then does not keep it.
func (c *conn) deadline() time.Time {
	switch {
	case !c.frameBegan.IsZero():
		return c.frameBegan.Add(c.srv.cfg.FrameTimeout)
	case c.srv.cfg.IdleTimeout > 0:
		return c.waitAt.Add(c.srv.cfg.IdleTimeout)
	default:
		return time.Time{}
	}
}

func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	if cap(c.out) > keepOutput {
		c.out = make([]byte, 0, 512)
	}
	return err
}

// linger ends a connection so that the last reply arrives.
func (c *conn) linger() {
	if c.sink.settle() != nil {
		return
	}
	w, ok := c.nc.(interface{ CloseWrite() error }) // TLS
	if !ok {
		w, ok = c.sink.Conn.(interface{ CloseWrite() error })
	}
	if !ok || w.CloseWrite() != nil {
		return
	}
	if c.nc.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, c.nc, lingerBytes) // whatever it is
	}
}

// op gives the context of one operation: bounded, and not the client's to cancel. Operations that
// follow each other closely share one, which has at least seven eighths of the time left.
func (c *conn) op() context.Context {
	const share = 8
	now := c.readAt
	if c.ran > 1 {
		now = time.Now() // those before it took their time
	}
	timeout := c.srv.cfg.RequestTimeout
	if c.opCtx == nil || now.Sub(c.opMade) > timeout/share {
		c.endOp()
		c.opCtx, c.opCancel = context.WithTimeout(c.srv.base, timeout)
		c.opMade = now
	}
	return c.opCtx
}

func (c *conn) endOp() {
	if c.opCancel != nil {
		c.opCancel()
		c.opCtx, c.opCancel = nil, nil
	}
}

// nudge asks the connection to end once it has answered what it has read.
func (c *conn) nudge() {
	c.stop.Store(true)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // a connection that is closed needs no waking
}

// abort cuts the connection.
func (c *conn) abort() { _ = c.sink.Conn.Close() }
