package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// talk gives both ends of a connection.
func talk(t *testing.T) (ours *respConn, theirs net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return &respConn{nc: a, br: bufio.NewReaderSize(a, respBuffer)}, b
}

func TestRESPReplies(t *testing.T) {
	hold := "*4\r\n$6\r\nstatus\r\n$7\r\ngranted\r\n$4\r\nmore\r\n*2\r\n:1\r\n$-1\r\n"
	for _, c := range []struct {
		name, reply, want string
		n                 int
		wrong             string
	}{
		{"an integer", ":41\r\n", "", 1, ""},
		{"a pipeline", ":1\r\n+OK\r\n$-1\r\n", "", 3, ""},
		{"a verdict", hold, "granted", 1, ""},
		{"two verdicts", hold + hold, "granted", 2, ""},
		{"another verdict", strings.Replace(hold, "$7\r\ngranted", "$8\r\nsold_out", 1), "granted", 1, "sold_out"},
		{"no verdict after one", hold + ":1\r\n", "granted", 2, `got ""`},
		{"an error", "-XFBUSY later\r\n", "", 1, "XFBUSY"},
		{"not RESP", "HTTP/1.1 200\r\n", "", 1, "not RESP"},
		{"a length that is none", "$x\r\n", "", 1, "not RESP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, theirs := talk(t)
			go func() {
				_, _ = io.ReadFull(theirs, make([]byte, 4))
				_, _ = theirs.Write([]byte(c.reply))
			}()
			err := ours.exchange([]byte("send"), c.n, c.want)
			if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
				t.Fatal(err)
			}
		})
	}
}

// TestRequestsAreNumberedInPlace: each command of a pipeline has its own number, in all of its marks.
func TestRequestsAreNumberedInPlace(t *testing.T) {
	r := newRequest(2, "EVAL", "k:"+mark, "x", mark)
	r.number(41)
	want := string(command("EVAL", "k:000000000041", "x", "000000000041")) + string(command("EVAL", "k:000000000042", "x", "000000000042"))
	if string(r.bytes) != want {
		t.Fatalf("%q", r.bytes)
	}
	if n := testing.AllocsPerRun(100, func() { r.number(7) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

func TestMonitorLines(t *testing.T) {
	got, err := monitored(`1700000000.123456 [0 127.0.0.1:4000] "EVALSHA" "ab" "2" "k \"1\"" "\x01\n\\" "" `)
	if err != nil || !slices.Equal(got, []string{"EVALSHA", "ab", "2", `k "1"`, "\x01\n\\", ""}) {
		t.Fatalf("%q %v", got, err)
	}
	if got, err := monitored("OK"); got != nil || err != nil {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := monitored(`1.0 [0 x] "EVAL`); err == nil {
		t.Fatal("half a line")
	}
}

func TestRelayPassesBothWays(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Relay(ctx, echo.Addr().String(), w) }()
	addr, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", strings.TrimSpace(addr))
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789"), 10_000)
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatal("what came back is not what was sent", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(got); err == nil {
		t.Fatal("the relay has ended and its connection lives")
	}
	c.Close()
}

// pgMessage is one of the server's.
func pgMessage(kind byte, body string) string {
	return string(kind) + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))) + body
}

func TestPostgresMessages(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	c := &pgConn{nc: a, br: bufio.NewReader(a)}
	answer := func(messages ...string) {
		buf := make([]byte, 4096)
		go func() {
			_, _ = b.Read(buf)
			_, _ = b.Write([]byte(strings.Join(messages, "")))
		}()
	}
	ready := pgMessage('Z', "I")
	answer(pgMessage('2', ""), pgMessage('C', "UPDATE 1\x00"), ready)
	if n, err := c.execute(); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	answer(pgMessage('2', ""), pgMessage('C', "UPDATE 0\x00"), ready)
	if n, err := c.execute(); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	answer(pgMessage('E', "SERROR\x00C55P03\x00Mlock not available\x00\x00"), ready)
	var e *pgError
	if _, err := c.execute(); !errors.As(err, &e) || e.code != "55P03" || e.text != "lock not available" {
		t.Fatal(err)
	}
	answer(pgMessage('T', "\x00\x01x"), pgMessage('D', "\x00\x01\x00\x00\x00\x02on"), pgMessage('C', "SHOW\x00"), ready)
	var got string
	if err := c.query("SHOW fsync", func(v string) { got = v }); err != nil || got != "on" {
		t.Fatal(got, err)
	}
}
