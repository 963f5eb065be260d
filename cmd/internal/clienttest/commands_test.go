package clienttest

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
)

// parse reads one reply of a raw stream.
func parse(t testing.TB, r *bufio.Reader) any {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("reply ends early: %v", err)
	}
	body := strings.TrimSuffix(line[1:], "\r\n")
	n, numErr := strconv.Atoi(body)
	switch line[0] {
	case '+', '-':
		return line[:1] + body
	case '*', '~', '%':
		if numErr != nil || n < 0 {
			return nil
		}
		if line[0] == '%' {
			n *= 2
		}
		out := make([]any, n)
		for i := range out {
			out[i] = parse(t, r)
		}
		return out
	case '$':
		if n < 0 {
			return nil
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatalf("reply ends early: %v", err)
		}
		return string(b[:n])
	default:
		return body
	}
}

// TestCommandRows: COMMAND INFO of every command that the door shares with Redis. Left out are the
// notes of key specs and the subcommands of containers. With a newer server than the table is of,
// only where the keys are is compared.
func TestCommandRows(t *testing.T) {
	redis, ours := realServer(t), door(t, respdoor.Config{})
	list := parse(t, bufio.NewReader(strings.NewReader(talk(t, ours, cmds("COMMAND LIST"))))).([]any)
	ask := []string{"COMMAND", "INFO"}
	for _, name := range list {
		if s := name.(string); !strings.HasPrefix(s, "xf.") {
			ask = append(ask, s)
		}
	}
	const atLeast = 150
	if len(ask) < atLeast {
		t.Fatalf("only %d commands", len(ask))
	}
	rows := func(addr string) []any {
		return parse(t, bufio.NewReader(strings.NewReader(talk(t, addr, frame(ask...))))).([]any)
	}
	want, got := rows(redis.Addr()), rows(ours)
	for i, name := range ask[2:] {
		row := want[i].([]any)
		if !redis.Version().Less(redis72) {
			if d := cmp.Diff(row[3:6], got[i].([]any)[3:6]); d != "" {
				t.Errorf("%s, keys (-redis +door):\n%s", name, d)
			}
			continue
		}
		row[8] = withoutNotes(row[8].([]any))
		row[9] = []any{}
		if d := cmp.Diff(row, got[i]); d != "" {
			t.Errorf("%s (-redis +door):\n%s", name, d)
		}
	}
}

func withoutNotes(specs []any) []any {
	out := make([]any, len(specs))
	for i, s := range specs {
		fields := s.([]any)
		if fields[0] == "notes" {
			fields = fields[2:]
		}
		out[i] = fields
	}
	return out
}

// TestCommandDocs: the door's own commands explain themselves in both protocols.
func TestCommandDocs(t *testing.T) {
	ours := door(t, respdoor.Config{})
	for _, proto := range []string{"2", "3"} {
		raw := talk(t, ours, cmds("HELLO "+proto, "COMMAND DOCS xf.reserve nosuch", "COMMAND COUNT", "COMMAND INFO xf.reserve"))
		r := bufio.NewReader(strings.NewReader(raw))
		parse(t, r)
		docs := fmt.Sprint(parse(t, r))
		if !strings.Contains(docs, "[xf.reserve [summary Reserve a cart") {
			t.Errorf("docs: %s", docs)
		}
		if n, err := strconv.Atoi(parse(t, r).(string)); err != nil || n < 150 {
			t.Errorf("%d commands, %v", n, err)
		}
		if info := fmt.Sprint(parse(t, r)); !strings.HasPrefix(info, "[[xf.reserve -8 [+write +denyoom] 0 0 0") {
			t.Errorf("info: %s", info)
		}
	}
}
