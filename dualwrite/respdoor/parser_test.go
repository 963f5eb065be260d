package respdoor

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// small bounds, so that a fuzzer meets them.
func smallParser() *parser {
	return &parser{maxArgs: 40, maxBulk: 300, maxFrame: 4096, bulk: -1}
}

// feed gives the bytes in pieces of the size, as a connection does, and answers the commands and
// the error; capacity is the most that the buffer took.
func feed(p *parser, data []byte, size int) (commands []string, perr *protocolError, capacity int) {
	for {
		for {
			args, err := p.next()
			if err != nil {
				return commands, err, max(capacity, cap(p.buf))
			}
			if args == nil {
				break
			}
			commands = append(commands, fmt.Sprintf("%q", args))
		}
		capacity = max(capacity, cap(p.buf))
		p.idle()
		if len(data) == 0 {
			return commands, nil, capacity
		}
		if more := p.makeRoom(); more > 0 {
			p.grow(more)
		}
		n := min(size, len(data), cap(p.buf)-len(p.buf))
		p.buf = append(p.buf, data[:n]...)
		data = data[n:]
	}
}

func TestParser(t *testing.T) {
	for _, row := range []struct {
		name, in string
		want     string
		err      string
	}{
		{"a frame", "*2\r\n$4\r\nDECR\r\n$1\r\nk\r\n", `["DECR" "k"]`, ""},
		{"words", "DECR k\r\n", `["DECR" "k"]`, ""},
		{"both", "DECR k\n*1\r\n$4\r\nPING\r\nPING\r\n", `["DECR" "k"]["PING"]["PING"]`, ""},
		{"nothing", "*0\r\n\r\n*-5\r\n", "", ""},
		{"half", "*2\r\n$4\r\nDECR\r\n$1\r\nk\r", "", ""},
		{"an empty argument", "*2\r\n$4\r\nPING\r\n$0\r\n\r\n", `["PING" ""]`, ""},
		{"bytes of any kind", "*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\x00\xff\r\n", `["ECHO" "\r\n\x00\xff"]`, ""},
		{"length below zero, where redcon would index", "*1\r\n$-5\r\nabcdefgh\r\n", "", "invalid bulk length"},
		{"too many arguments", "*41\r\n", "", "invalid multibulk length"},
		{"too long an argument", "*1\r\n$301\r\n", "", "invalid bulk length"},
		{"too long a frame", "*40\r\n" + strings.Repeat("$300\r\n"+strings.Repeat("x", 300)+"\r\n", 40), "", "frame is longer than 4096 bytes"},
		{"not a bulk", "*1\r\n+PING\r\n", "", "expected '$', got '+'"},
		{"quotes", `PING "a b" 'c d' x\y "\x41\n\q"` + "\n", `["PING" "a b" "c d" "x\\y" "A\nq"]`, ""},
		{"open quotes", "PING \"a\n", "", "unbalanced quotes in request"},
		{"after the error", "PING\r\n*1\r\n:", `["PING"]`, ""},
	} {
		for _, size := range []int{1, 3, 7, 1 << 20} {
			got, err, _ := feed(smallParser(), []byte(row.in), size)
			text := ""
			if err != nil {
				text = err.text
			}
			if strings.Join(got, "") != row.want || text != row.err {
				t.Errorf("%s, in pieces of %d: %s %q, want %s %q", row.name, size, got, text, row.want, row.err)
			}
		}
	}
}

func TestParserBeforeAuth(t *testing.T) {
	for in, want := range map[string]string{
		"*11\r\n":                         "unauthenticated multibulk length",
		"*1\r\n$16385\r\n":                "unauthenticated bulk length",
		"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n": "",
	} {
		p := &parser{maxArgs: 100, maxBulk: 20_000, maxFrame: 1 << 20, bulk: -1, locked: true}
		_, err, _ := feed(p, []byte(in), 100)
		text := ""
		if err != nil {
			text = err.text
		}
		if text != want {
			t.Errorf("%q: %q, want %q", in, text, want)
		}
	}
}

// TestParserKeepsNothingForPromises: announced lengths take no memory.
func TestParserKeepsNothingForPromises(t *testing.T) {
	p := &parser{maxArgs: 1 << 30, maxBulk: 1 << 30, maxFrame: 1 << 30, bulk: -1}
	in := []byte("*1000000000\r\n$999999999\r\nabc")
	const runs = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		*p = parser{maxArgs: p.maxArgs, maxBulk: p.maxBulk, maxFrame: p.maxFrame, bulk: -1}
		feed(p, in, len(in))
	}
	runtime.ReadMemStats(&after)
	allocated := (after.TotalAlloc - before.TotalAlloc) / runs
	if allocated > 2*baseBuffer {
		t.Errorf("%d bytes for a promise", allocated)
	}
}

// FuzzParser: no input makes it panic or grow beyond its bound, and how the bytes are cut makes
// no difference.
func FuzzParser(f *testing.F) {
	for _, s := range []string{
		"*2\r\n$4\r\nDECR\r\n$1\r\nk\r\n", "PING\r\nDECR k\n", "*1\r\n$-1\r\n", "*-1\r\n*0\r\n", "*1\r\n$4\r\nPING\r\nx",
		"*99999999999\r\n", "$5 hello\r\n", "PING \"\\x4", "*3\r\n$1\r\na\r\n$0\r\n\r\n$2\r\n\r\n\r\n", "*\r\n", "\r\n\r\n",
		"*1\n$4\nPING\n", "*1\r\n$2147483648\r\n", "PING 'it\\'s' \"\\\"\"\r\n", "*2\r\n$1\r\n\x00\r\n$1\r\n\xff\r\n", "POST / HTTP/1.1\r\nHost: x\r\n",
		strings.Repeat("*1\r\n$4\r\nPING\r\n", 50), strings.Repeat("a", 70_000), "*40\r\n" + strings.Repeat("$0\r\n\r\n", 40),
	} {
		f.Add([]byte(s), uint16(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		whole, werr, wcap := feed(smallParser(), data, len(data)+1)
		cut, cerr, ccap := feed(smallParser(), data, int(size)+1)
		if fmt.Sprint(whole) != fmt.Sprint(cut) {
			t.Errorf("cut by %d:\n%q\n%q", size, whole, cut)
		}
		// An endless line is noticed only once it is too long, which may be before or after
		// its end comes.
		if (werr == nil) != (cerr == nil) && len(data) <= maxLine {
			t.Errorf("cut by %d: %v, %v", size, werr, cerr)
		}
		const most = 4 * maxLine // an endless line, doubled
		if wcap > most || ccap > most {
			t.Errorf("buffer of %d, %d", wcap, ccap)
		}
	})
}

func TestParseInt64(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "7": 7, "-7": -7, "9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63} {
		if got, ok := parseInt64([]byte(in)); !ok || got != want {
			t.Errorf("%q: %d, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "-", "+1", "01", "-0", "-01", "00", " 1", "1 ", "1.0", "x", "0x1", "9223372036854775808", "-9223372036854775809", "99999999999999999999", "18446744073709551617", "184467440737095516150"} {
		if got, ok := parseInt64([]byte(in)); ok {
			t.Errorf("%q was read as %d", in, got)
		}
	}
}

// TestIdleGivesBack: what a large frame took is freed when it is done, and accounted for.
func TestIdleGivesBack(t *testing.T) {
	p := &parser{maxArgs: 10, maxBulk: 1 << 20, maxFrame: 1 << 20, bulk: -1}
	in := bytes.Repeat([]byte("x"), 200_000)
	commands, err, capacity := feed(p, append([]byte("*1\r\n$200000\r\n"), append(in, "\r\n"...)...), 5000)
	if err != nil || len(commands) != 1 || capacity < len(in) || capacity > 4*len(in) {
		t.Fatalf("%d commands, %v, capacity %d", len(commands), err, capacity)
	}
	if cap(p.buf) != baseBuffer {
		t.Errorf("it keeps %d bytes", cap(p.buf))
	}
}
