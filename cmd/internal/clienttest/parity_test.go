package clienttest

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
)

// cmds makes a stream of frames, one for each line of words ("" for an empty word).
func cmds(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		var args []string
		for _, w := range strings.Split(l, " ") {
			args = append(args, strings.ReplaceAll(w, `""`, ""))
		}
		b.WriteString(frame(args...))
	}
	return b.String()
}

// same are streams that must be answered byte for byte as Redis answers them. KEY stands for a
// stock key that does not exist yet, KEY2 for another.
var same = []struct{ name, stream string }{
	{"decr and incr from nothing", cmds("DECR KEY", "DECR KEY", "INCR KEY", "GET KEY", "INCR KEY", "INCR KEY", "GET KEY")},
	{"the legacy loop", cmds("INCRBY KEY 2", "DECR KEY", "DECR KEY", "DECR KEY", "INCR KEY", "GET KEY")},
	{"decrby and incrby", cmds("INCRBY KEY 100", "DECRBY KEY 30", "DECRBY KEY -5", "INCRBY KEY -75", "GET KEY")},
	{"by nothing", cmds("INCRBY KEY 0", "EXISTS KEY", "GET KEY", "DECRBY KEY2 0", "TYPE KEY2")},
	{"case of the command", cmds("dEcR KEY", "gEt KEY")},
	{"arity", cmds("DECR", "DECR KEY x", "DECRBY KEY", "DECRBY KEY 1 2", "INCR", "INCRBY KEY", "GET", "GET KEY KEY", "MGET", "EXISTS", "TYPE", "STRLEN", "TTL", "ECHO", "SELECT", "AUTH", "CLIENT", "CLIENT ID x", "CLIENT GETNAME x", "CLIENT SETNAME", "CONFIG", "CONFIG GET", "TIME x", "PING a b", "RESET x", "DBSIZE x", "COMMAND COUNT x", "CLIENT REPLY", "CLIENT NO-EVICT", "SET KEY")},
	{"not a number", cmds("DECRBY KEY x", "DECRBY KEY 1.5", "INCRBY KEY +1", "INCRBY KEY 01", "INCRBY KEY -0", `INCRBY KEY ""`, "DECRBY KEY 9223372036854775808", "INCRBY KEY -9223372036854775809", "INCRBY KEY 99999999999999999999999", "DECRBY KEY 0x10", "EXISTS KEY") + frame("DECRBY", "KEY", " 1") + frame("DECRBY", "KEY", "1 ")},
	{"decrement would overflow", cmds("DECRBY KEY -9223372036854775808", "EXISTS KEY")},
	{"reads of nothing", cmds("GET KEY", "MGET KEY KEY2", "EXISTS KEY KEY2 KEY", "TYPE KEY", "STRLEN KEY", "TTL KEY", "PTTL KEY", "EXPIRETIME KEY", "PEXPIRETIME KEY", "TOUCH KEY")},
	{"reads of something", cmds("DECRBY KEY 17", "INCRBY KEY2 1000000", "GET KEY", "MGET KEY KEY2 KEY", "EXISTS KEY KEY2 KEY", "TYPE KEY", "STRLEN KEY", "STRLEN KEY2", "TTL KEY", "PTTL KEY", "EXPIRETIME KEY", "PEXPIRETIME KEY", "TOUCH KEY KEY2 KEY")},
	{"reads in RESP3", cmds("HELLO 3", "GET KEY", "DECR KEY", "MGET KEY KEY2", "GET KEY2")},
	{"unknown commands", cmds("NOSUCH", "NOSUCH a b c", "no-such "+strings.Repeat("a ", 100)+"b", strings.Repeat("n", 200)+" x", "NOSUCH "+strings.Repeat("y", 300)) + frame("", "x") + frame("a\r\nb", "c\nd") + frame("nul\x00nul", "a\x00b")},
	{"unknown subcommands", cmds("CLIENT NOSUCH", "client nosuch a b", "CONFIG NOSUCH", "COMMAND NOSUCH") + frame("CLIENT", "a\r\nb")},
	{"ping and echo", cmds("PING", "PING hello", "ECHO x") + frame("PING", "") + frame("ECHO", "a\r\nb\x00c")},
	{"hello", cmds("HELLO", "HELLO 3", "HELLO 2", "HELLO 3 AUTH default x SETNAME web", "CLIENT GETNAME", "hello 2 setname y auth default z", "CLIENT GETNAME")},
	{"select", cmds("SELECT 0", "SELECT 1", "SELECT -1", "SELECT x", "SELECT 99999999999", `SELECT ""`)},
	{"auth without a password", cmds("AUTH secret", "AUTH default secret", "AUTH nobody secret", "AUTH a b c")},
	{"hello errors", cmds("HELLO x", "HELLO 1", "HELLO 4", "HELLO 2 NOSUCH", "HELLO 2 AUTH a", "HELLO 2 SETNAME", "HELLO 2 AUTH nobody secret", "HELLO 99999999999999999999") + frame("HELLO", "2", "SETNAME", "a b") + cmds("CLIENT GETNAME")},
	{"names", cmds("CLIENT GETNAME", "CLIENT SETNAME web-1", "CLIENT GETNAME") + frame("CLIENT", "SETNAME", "a b") + frame("CLIENT", "SETNAME", "a\nb") + frame("CLIENT", "SETNAME", "é") + cmds("CLIENT GETNAME", `CLIENT SETNAME ""`, "CLIENT GETNAME")},
	{"client switches", cmds("CLIENT NO-EVICT on", "CLIENT NO-EVICT off", "CLIENT NO-EVICT maybe", "CLIENT REPLY maybe", "CLIENT REPLY ON", "CLIENT GETREDIR", "CLIENT TRACKING off")},
	{"no replies", cmds("CLIENT REPLY OFF", "PING", "NOSUCH", "INCR KEY", "CLIENT REPLY SKIP", "PING", "CLIENT REPLY ON", "GET KEY")},
	{"a skipped reply", cmds("CLIENT REPLY SKIP", "PING a", "PING b", "CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "PING c", "PING d")},
	{"transactions alone", cmds("EXEC", "DISCARD", "UNWATCH")},
	{"reset", cmds("CLIENT SETNAME x", "HELLO 3", "RESET", "CLIENT GETNAME", "GET KEY")},
	{"quit", cmds("PING", "QUIT", "PING")},
	{"quit in words", "PING\r\nQUIT now please\r\nPING\r\n"},
	{"role", cmds("ROLE")},
	{"config get", cmds("CONFIG GET save", "CONFIG GET databases", "CONFIG GET nosuch", "CONFIG GET MAXMEMORY-policy") + cmds("HELLO 3", "CONFIG GET save")},
	{"command keys", cmds("COMMAND GETKEYS mget a b", "COMMAND GETKEYS mset a 1 b 2", "COMMAND GETKEYS nosuch a", "COMMAND GETKEYS get", "COMMAND GETKEYS bitop and d a b", "COMMAND GETKEYS ping")},
	{"command info of nothing", cmds("COMMAND INFO nosuch", "HELLO 3", "COMMAND INFO nosuch")},
	{"empty frames", "*0\r\n*-1\r\n\r\n  \r\n\n*1\r\n$4\r\nPING\r\n"},
	{"words", "PING\r\nping hello\r\n  PING   a  \r\nINCRBY KEY 3\nGET KEY\r\nPING \"a b\"\r\nPING 'a b'\r\nPING \"\\x41\\n\\t\\\"\\q\\\\\"\r\nPING 'it\\'s'\r\nPING a\"b c\"\r\nPING \"\"\r\nPING\ta\r\n"},
	{"words and frames", "PING\r\n" + frame("PING", "x") + "PING y\n" + frame("DECR", "KEY")},
	{"unbalanced quotes", "PING\r\nPING \"abc\r\n"},
	{"words after a quote", "PING \"abc\"def\r\n"},
	{"a lone quote", "PING '\r\n"},
	{"a browser", "POST / HTTP/1.1\r\nHost: localhost\r\n\r\nPING\r\n"},
	{"a browser's header", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\nPING\r\n"},
	{"count that is no number", "*x\r\n"},
	{"count that is empty", "*\r\nPING\r\n"},
	{"count with a sign", "*+1\r\n$4\r\nPING\r\n"},
	{"count with a zero", "*01\r\n$4\r\nPING\r\n"},
	{"count that is huge", "*2147483648\r\n"},
	{"count beyond 64 bits", "*99999999999999999999\r\n"},
	{"count with blanks", "* 1\r\n$4\r\nPING\r\n"},
	{"not a bulk", "*1\r\n:4\r\nPING\r\n"},
	{"not a bulk: a line break", "*1\r\n\r\nPING\r\n"},
	{"not a bulk: a high byte", "*1\r\n\xff4\r\nPING\r\n"},
	{"length that is no number", "*1\r\n$x\r\n"},
	{"length below zero", "*1\r\n$-1\r\n"},
	{"length far below zero", "*2\r\n$-5\r\nPING\r\n$1\r\na\r\n"},
	{"length beyond the limit", "*2\r\n$4\r\nPING\r\n$536870913\r\n"},
	{"length beyond 64 bits", "*1\r\n$99999999999999999999\r\n"},
	{"an argument longer than its length", "*2\r\n$4\r\nPING\r\n$1\r\nab\r\n*1\r\n$4\r\nPING\r\n"},
	{"count line without end", "*" + strings.Repeat("1", 200_000)},
	{"length line without end", "*1\r\n$" + strings.Repeat("1", 200_000)},
	{"words without end", strings.Repeat("a", 200_000)},
	{"replies before the error", cmds("INCR KEY", "PING") + "*x\r\n" + cmds("PING")},
	{"a long pipeline", strings.Repeat(cmds("DECR KEY"), 5000)},
	{"a long answer", cmds("INCR KEY") + cmds("MGET"+strings.Repeat(" KEY KEY2", 3000))},
}

// withKeys puts keys of its own into a stream, of the length of the words that they replace.
func withKeys(stream string, n int) string {
	// Frames announce lengths, so they are built again from their words.
	key, key2 := fmt.Sprintf("stock:s:i%d", n), fmt.Sprintf("stock:s:j%d", n)
	for _, r := range []struct{ old, new string }{{"KEY2", key2}, {"KEY", key}} {
		stream = strings.ReplaceAll(stream, fmt.Sprintf("$%d\r\n%s\r\n", len(r.old), r.old), fmt.Sprintf("$%d\r\n%s\r\n", len(r.new), r.new))
		stream = strings.ReplaceAll(stream, " "+r.old, " "+r.new)
	}
	return stream
}

func TestSameBytesAsRedis(t *testing.T) {
	redis, ours := realRedis(t), door(t, respdoor.Config{})
	for n, row := range same {
		t.Run(row.name, func(t *testing.T) {
			stream := withKeys(row.stream, n)
			want := plain(talk(t, redis, stream))
			if got := plain(talk(t, ours, stream)); got != want {
				t.Errorf("\nredis %q\n door %q", clip(want), clip(got))
			}
		})
	}
}

// What HELLO says of itself is the server's own.
var (
	helloVersion = regexp.MustCompile(`\$7\r\nversion\r\n\$[0-9]+\r\n[0-9.]+\r\n`)
	helloID      = regexp.MustCompile(`\$2\r\nid\r\n:[0-9]+\r\n`)
)

func plain(s string) string {
	s = strings.ReplaceAll(s, "the HELLO <proto> AUTH", "the HELLO AUTH") // since 7.2
	return helloID.ReplaceAllString(helloVersion.ReplaceAllString(s, "(version)"), "(id)")
}

func clip(s string) string {
	if len(s) > 1500 {
		return s[:1500] + "…"
	}
	return s
}

// TestSameBytesWithPassword: what may be said before AUTH.
func TestSameBytesWithPassword(t *testing.T) {
	redis, ours := realRedis(t), door(t, respdoor.Config{Password: "secret"})
	if got := talk(t, redis, cmds("CONFIG SET requirepass secret")); got != "+OK\r\n" {
		t.Fatalf("setting a password: %q", got)
	}
	for n, row := range []struct{ name, stream string }{
		{"before", cmds("PING", "GET KEY", "NOSUCH", "GET", "CLIENT ID", "SELECT 0", "CLIENT NOSUCH", "COMMAND", "ECHO x")},
		{"auth", cmds("AUTH wrong", "PING", "AUTH secret", "PING", "AUTH wrong", "PING")},
		{"auth with a name", cmds("AUTH nobody secret", "AUTH default wrong", "AUTH default secret", "INCR KEY")},
		{"hello", cmds("HELLO", "HELLO 3", "HELLO 2 AUTH default wrong", "HELLO 3 AUTH default wrong SETNAME x", "PING")},
		{"hello refused leaves RESP2", cmds("HELLO 3", "AUTH secret", "GET KEY")},
		{"reset forgets", cmds("AUTH secret", "PING", "RESET", "PING")},
		{"quit", cmds("QUIT", "PING")},
		{"many arguments", cmds("PING" + strings.Repeat(" x", 10))},
		{"ten arguments", cmds("NOSUCH" + strings.Repeat(" x", 9))},
		{"a long argument", frame("PING", strings.Repeat("x", 16385))},
		{"not so long an argument", frame("PING", strings.Repeat("x", 16384))},
	} {
		t.Run(row.name, func(t *testing.T) {
			stream := withKeys(row.stream, n)
			stream += cmds("AUTH secret") // so that the last word is heard
			want := plain(talk(t, redis, stream))
			if got := plain(talk(t, ours, stream)); got != want {
				t.Errorf("\nredis %q\n door %q", clip(want), clip(got))
			}
		})
	}
}

// TestSameBytesOfRandomStreams mixes counters, errors, words and frames, cut at random places.
func TestSameBytesOfRandomStreams(t *testing.T) {
	redis, ours := realRedis(t), door(t, respdoor.Config{})
	const streams, length = 150, 60
	for seed := range uint64(streams) {
		r := rand.New(rand.NewPCG(seed, 7))
		stream := randomStream(r, seed, length)
		want := talk(t, redis, stream)
		var pieces []string
		for rest := stream; rest != ""; {
			n := 1 + r.IntN(min(len(rest), 200))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		if got := talk(t, ours, pieces...); got != want {
			t.Fatalf("seed %d\nstream %q\nredis %q\n door %q", seed, clip(stream), clip(want), clip(got))
		}
	}
}

func randomStream(r *rand.Rand, seed uint64, length int) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	key := func() string { return fmt.Sprintf("stock:r%d:%c", seed, 'a'+r.IntN(3)) }
	amount := func() string {
		return pick("0", "1", "-1", "7", "1000", "-1000", "999999", "x", "", "-", "+5", "05", "5 ", "-9223372036854775808", "9223372036854775808")
	}
	var b strings.Builder
	for range length {
		var args []string
		switch r.IntN(9) {
		case 0, 1:
			args = []string{pick("DECR", "decr", "INCR"), key()}
		case 2, 3:
			args = []string{pick("DECRBY", "INCRBY", "incrby"), key(), amount()}
			if args[2] == "-9223372036854775808" {
				args[0] = "DECRBY" // INCRBY of it is a named relaxation
			}
		case 4:
			args = []string{"GET", key()}
		case 5:
			args = []string{"MGET", key(), key(), key()}
		case 6:
			args = []string{pick("EXISTS", "TOUCH"), key(), key()}
		case 7:
			args = []string{pick("TYPE", "STRLEN", "TTL", "PTTL"), key()}
		default:
			args = []string{pick("PING", "DECR", "NOSUCH", "INCRBY", "CLIENT", "SELECT"), pick("0", "x")}
			if args[0] == "DECR" {
				args = args[:1]
			}
		}
		plain := r.IntN(4) == 0
		for _, a := range args {
			plain = plain && a != "" && !strings.Contains(a, " ")
		}
		if plain {
			b.WriteString(strings.Join(args, " ") + pick("\r\n", "\n"))
		} else {
			b.WriteString(frame(args...))
		}
	}
	return b.String()
}
