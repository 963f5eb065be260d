package chaos

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// mode is what a relay does with bytes.
type mode int

const (
	pass  mode = iota
	cut        // connections are closed, and new ones too
	stall      // nothing goes through, and nobody is told
	slow       // what the proxy sends arrives late
)

const (
	// relayBuffer is more than a transaction's last packet has at the load that is played.
	relayBuffer  = 256 << 10
	relayDial    = 2 * time.Second
	relayBacklog = 1024 // connections at once, far above all pools together
)

// toServer and toProxy are the directions of a relay.
const (
	toServer = iota
	toProxy
)

// trap looks at what passes before it does, and may keep it for a while.
type trap interface {
	// sees is called with each piece; what it returns is waited for before the piece goes on, when not nil.
	sees(link any, direction int, piece []byte) <-chan struct{}
	// passed is called after a piece has gone on.
	passed(link any, direction int)
}

// relay stands between one proxy and one server.
type relay struct {
	ln  net.Listener
	ctx context.Context
	end context.CancelFunc
	wg  sync.WaitGroup

	mu      sync.Mutex
	to      string
	mode    mode
	delay   time.Duration
	changed chan struct{} // closed and replaced at every change of what is above
	trap    trap
	links   map[*link]struct{}
}

type link struct{ near, far net.Conn }

func newRelay(ctx context.Context, to string) (*relay, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{ln: ln, to: to, changed: make(chan struct{}), links: map[*link]struct{}{}}
	r.ctx, r.end = context.WithCancel(context.WithoutCancel(ctx))
	r.wg.Go(r.accept)
	return r, nil
}

func (r *relay) addr() string { return r.ln.Addr().String() }

func (r *relay) accept() {
	for {
		c, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.serve(c) })
	}
}

// set changes what the relay does. Cutting closes what is open.
func (r *relay) set(m mode, delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mode, r.delay = m, delay
	r.change()
	if m == cut {
		r.closeLinks()
	}
}

// point sends what comes from now on to another server; what is open is closed.
func (r *relay) point(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
	r.change()
	r.closeLinks()
}

func (r *relay) lay(t trap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trap = t
}

func (r *relay) change() { close(r.changed); r.changed = make(chan struct{}) }

func (r *relay) closeLinks() {
	for l := range r.links {
		_ = l.near.Close()
		_ = l.far.Close()
	}
}

func (r *relay) state() (mode, time.Duration, string, <-chan struct{}, trap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mode, r.delay, r.to, r.changed, r.trap
}

// close ends all that passes and waits until it has ended.
func (r *relay) close() {
	_ = r.ln.Close()
	r.end()
	r.mu.Lock()
	r.closeLinks()
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *relay) serve(near net.Conn) {
	defer near.Close()
	m, _, to, changed, _ := r.state()
	for ; m == stall; m, _, to, changed, _ = r.state() {
		select { // a connection to where nobody answers
		case <-changed:
		case <-r.ctx.Done():
			return
		}
	}
	if m == cut {
		return
	}
	far, err := (&net.Dialer{Timeout: relayDial}).DialContext(r.ctx, "tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	l := &link{near, far}
	if !r.keep(l, to) {
		return
	}
	defer r.drop(l)
	var both sync.WaitGroup
	both.Go(func() { r.pump(l, toServer, far, near) })
	r.pump(l, toProxy, near, far)
	both.Wait()
}

// keep counts a link in, unless the relay has changed meanwhile.
func (r *relay) keep(l *link, to string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mode == cut || r.to != to || r.ctx.Err() != nil || len(r.links) >= relayBacklog {
		return false
	}
	r.links[l] = struct{}{}
	return true
}

func (r *relay) drop(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.links, l)
}

// pump copies one direction until either end is gone, then ends both.
func (r *relay) pump(l *link, direction int, to, from net.Conn) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, relayBuffer)
	for {
		n, err := from.Read(b)
		if n > 0 && (r.hold(l, direction, b[:n]) != nil || r.write(l, direction, to, b[:n]) != nil) {
			return
		}
		if err != nil {
			// Across a broken wire nobody learns that the other end is gone.
			_ = r.unstalled()
			return
		}
	}
}

func (r *relay) write(l *link, direction int, to io.Writer, b []byte) error {
	if _, err := to.Write(b); err != nil {
		return err
	}
	if _, _, _, _, t := r.state(); t != nil {
		t.passed(l, direction)
	}
	return nil
}

var errEnded = errors.New("the relay has ended")

// hold returns when a piece may go on.
func (r *relay) hold(l *link, direction int, b []byte) error {
	m, delay, _, changed, t := r.state()
	if t != nil {
		if until := t.sees(l, direction, b); until != nil {
			select {
			case <-until:
			case <-r.ctx.Done():
				return errEnded
			}
		}
	}
	if m == slow && direction == toServer {
		late := time.NewTimer(delay)
		defer late.Stop()
		select {
		case <-late.C:
		case <-changed: // it is fast again: what is on its way arrives
		case <-r.ctx.Done():
			return errEnded
		}
	}
	return r.unstalled()
}

// unstalled returns when the relay does not stall.
func (r *relay) unstalled() error {
	for m, _, _, changed, _ := r.state(); m == stall; m, _, _, changed, _ = r.state() {
		select {
		case <-changed:
		case <-r.ctx.Done():
			return errEnded
		}
	}
	return nil
}
