package mysqlstore_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// fate is what a relay does to a COMMIT.
type fate int32

const (
	passes      fate = iota
	lostRequest      // the server never gets it; its session stays, as behind a dead line
	lostReply        // the server has done it, and nobody learns of it
)

// relay stands between store and server, and understands just enough of the protocol to lose a
// COMMIT.
type relay struct {
	listener net.Listener
	server   string
	fate     atomic.Int32 // of the next COMMIT; others pass
	shut     atomic.Bool  // no new connection gets through
	alone    atomic.Bool  // whoever loses a COMMIT has first seen all other connections cut
	lost     atomic.Int32
	slow     atomic.Pointer[slowReply]
	served   sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

// slowReply keeps back what the server answers to the first packet that contains a text.
type slowReply struct {
	text  string
	asked atomic.Bool
	once  sync.Once
	ready chan struct{} // the server has answered
	let   chan struct{}
	pass  func() // lets the answer, and all behind it, be heard
}

func newSlowReply(t *testing.T, text string) *slowReply {
	s := &slowReply{text: text, ready: make(chan struct{}), let: make(chan struct{})}
	s.pass = sync.OnceFunc(func() { close(s.let) })
	t.Cleanup(s.pass)
	return s
}

// newRelay gives a DSN that goes through a relay.
func newRelay(t *testing.T, dsn string) (*relay, string) {
	t.Helper()
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, server: c.Addr}
	r.served.Go(r.serve)
	t.Cleanup(r.close)
	c.Addr = l.Addr().String()
	return r, c.FormatDSN()
}

func (r *relay) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.served.Wait()
}

func (r *relay) keep(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, c)
}

func (r *relay) cutOthers(mine ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		if !slices.Contains(mine, c) {
			_ = c.Close()
		}
	}
}

func (r *relay) serve() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.keep(client)
		if r.shut.Load() {
			_ = client.Close()
			continue
		}
		server, err := (&net.Dialer{}).Dial("tcp", r.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		r.keep(server)
		silent := &atomic.Bool{} // what the server says is not passed on any more
		slow := &atomic.Pointer[slowReply]{}
		r.served.Go(func() { r.requests(client, server, silent, slow) })
		r.served.Go(func() { replies(client, server, silent, slow) })
	}
}

// replies passes on what the server says.
func replies(client, server net.Conn, silent *atomic.Bool, slow *atomic.Pointer[slowReply]) {
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if s := slow.Load(); s != nil && n > 0 {
			s.once.Do(func() { close(s.ready) })
			<-s.let
		}
		if silent.Load() {
			swallow(io.MultiReader(bytes.NewReader(buf[:n]), server))
			_ = client.Close()
			return
		}
		if n > 0 {
			if _, werr := client.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			_ = client.Close()
			return
		}
	}
}

// swallow reads what the server says up to its answer to a COMMIT, or to the end. Nobody may learn of a loss before
// the COMMIT is done: who does ends the session, and there was none then.
func swallow(said io.Reader) {
	const moreResults = 0x08
	from := bufio.NewReader(said)
	for {
		packet, err := readPacket(from)
		if err != nil {
			return
		}
		// A COMMIT is answered by an OK without rows or an id (three zeros), then the status; what comes before it in
		// its packet has more results behind it, unless it fails.
		switch p := packet[4:]; {
		case len(p) >= 5 && p[0] == 0 && p[1] == 0 && p[2] == 0 && p[3]&moreResults == 0, len(p) > 0 && p[0] == 0xff:
			return
		}
	}
}

// readPacket reads one packet with its head.
func readPacket(from io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return nil, err
	}
	size := int(binary.LittleEndian.Uint32(append(head[:3:3], 0)))
	packet := append(head[:], make([]byte, size)...)
	_, err := io.ReadFull(from, packet[4:])
	return packet, err
}

// requests passes on what the client says, packet by packet.
func (r *relay) requests(client, server net.Conn, silent *atomic.Bool, slow *atomic.Pointer[slowReply]) {
	from := bufio.NewReader(client)
	for {
		packet, err := readPacket(from)
		if err != nil {
			_ = server.Close()
			return
		}
		if len(packet) > 4 && packet[4] == 3 && strings.HasSuffix(string(packet[5:]), " COMMIT") {
			switch fate(r.fate.Swap(int32(passes))) {
			case lostRequest:
				r.lost.Add(1)
				_ = client.Close() // the server's side stays open
				return
			case lostReply:
				r.lost.Add(1)
				silent.Store(true)
				if r.alone.Load() {
					r.cutOthers(client, server)
				}
			case passes:
			}
		}
		if s := r.slow.Load(); s != nil && strings.Contains(string(packet), s.text) && !s.asked.Swap(true) {
			slow.Store(s)
		}
		if _, err := server.Write(packet); err != nil {
			_ = client.Close()
			return
		}
	}
}
