package clienttest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor/doortest"
)

const patience = 30 * time.Second

// realRedis has one database, as the door has.
func realRedis(t testing.TB) string {
	t.Helper()
	return realServer(t).Addr()
}

func realServer(t testing.TB) *lab.Server {
	t.Helper()
	return lab.Private(t, lab.Redis, func(o *lab.Options) { o.Args = []string{"--databases", "1"} })
}

// redis72 changed some of what the door takes from 7.0.
var redis72 = lab.Version{7, 2}

// door over the memory model.
func door(t testing.TB, cfg respdoor.Config) string {
	t.Helper()
	svc := doortest.NewService(t, memstore.New(memstore.Options{Side: backends.SideRedis}))
	addr, _ := doortest.Serve(t, cfg, svc, doortest.NewRouter(t))
	return addr
}

// frame is a command on the wire.
func frame(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b.String()
}

const lastWord = "the-last-word"

// talk sends a stream in the given pieces and answers all that came back: up to the echo of a
// last word, which is added, or until the server closed.
func talk(t testing.TB, addr string, pieces ...string) string {
	t.Helper()
	return talkFor(t, patience, addr, append(pieces, frame("ECHO", lastWord))...)
}

// talkFor is talk without the last word, for at most so long.
func talkFor(t testing.TB, most time.Duration, addr string, pieces ...string) string {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(most)); err != nil {
		t.Fatalf("deadline: %v", err)
	}
	for _, p := range pieces {
		if _, err := nc.Write([]byte(p)); err != nil {
			break // closed in the middle: what it said is there to be read
		}
	}
	end := []byte(fmt.Sprintf("$%d\r\n%s\r\n", len(lastWord), lastWord))
	var got []byte
	buf := make([]byte, 64<<10)
	for !bytes.HasSuffix(got, end) {
		n, err := nc.Read(buf)
		got = append(got, buf[:n]...)
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return string(got) + "(closed)"
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return string(got) + "(silent)"
		}
		if err != nil {
			return fmt.Sprintf("%s(%v)", got, err)
		}
	}
	return string(bytes.TrimSuffix(got, end))
}
