package clienttest

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/redcon"

	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
)

// pipe is a Passthrough over one connection.
type pipe struct {
	mu sync.Mutex
	nc net.Conn
}

func newPipe(t testing.TB, addr string) *pipe {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { nc.Close() })
	return &pipe{nc: nc}
}

func (p *pipe) Do(_ context.Context, args [][]byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = string(a)
	}
	if err := p.nc.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(p.nc, frame(words...)); err != nil {
		return nil, err
	}
	var got []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := p.nc.Read(buf)
		if err != nil {
			return nil, err
		}
		got = append(got, buf[:n]...)
		if size, _ := redcon.ReadNextRESP(got); size > 0 {
			return got, nil
		}
	}
}

// TestSameBytesPassedThrough: other keys, and both kinds in one command.
func TestSameBytesPassedThrough(t *testing.T) {
	redis := realRedis(t)
	behind := realRedis(t)
	ours := door(t, respdoor.Config{Passthrough: newPipe(t, behind)})
	for n, row := range []struct{ name, stream string }{
		{"strings", cmds("SET a 1", "GET a", "APPEND a 23", "GET a", "DECR a", "INCRBY a x", "STRLEN a", "GETSET a 5", "DEL a a", "GET a", "SET a", "SETEX a 100 x", "TTL a", "DEL a")},
		{"counters on other keys", cmds("DECR n", "DECRBY n 9223372036854775807", "DECRBY n 1", "DECR n", "DECR n", "GET n", "INCR n x", "DEL n")},
		{"other types", cmds("HSET h f 1", "HGETALL h", "LPUSH l a b c", "LRANGE l 0 -1", "SADD s x", "SMEMBERS s", "ZADD z 1 m", "ZRANGE z 0 -1 WITHSCORES", "XADD st 1-1 f v", "XRANGE st - +", "XGROUP CREATE st g 0", "XINFO GROUPS st", "OBJECT ENCODING h", "GET h", "TYPE h", "XREAD COUNT 1 STREAMS st 0", "ZUNIONSTORE zz 1 z", "DEL h l s z zz st")},
		{"without keys", cmds("DBSIZE", "SCAN 0", "KEYS nothing*", "RANDOMKEY")},
		{"both kinds", cmds("DECR KEY", "SET o 7", "MGET o KEY nosuch KEY2 o", "EXISTS o KEY nosuch KEY2 o", "TOUCH KEY o", "DEL o", "MGET o KEY")},
		{"both kinds, one wrong", cmds("DECR KEY", "LPUSH o 7", "MGET o KEY", "DEL o")},
		{"nothing in RESP3", cmds("HELLO 3", "GET nosuch", "MGET nosuch KEY", "LPOP nosuch")},
		{"a value that looks like a key", cmds("SET v KEY2", "GET v", "SADD s KEY", "DEL v s")},
	} {
		t.Run(row.name, func(t *testing.T) {
			stream := withKeys(row.stream, n)
			want := plain(talk(t, redis, stream))
			if got := plain(talk(t, ours, stream)); got != want {
				t.Errorf("\nredis %q\n door %q", clip(want), clip(got))
			}
		})
	}
	if got := talk(t, behind, cmds("KEYS stock:*")); got != "*0\r\n" {
		t.Errorf("stock keys went to Redis: %q", got)
	}
}

type broken struct {
	reply []byte
	err   error
}

func (b broken) Do(context.Context, [][]byte) ([]byte, error) { return b.reply, b.err }

func TestPassthroughRefusals(t *testing.T) {
	redis := realRedis(t)
	behind := respdoor.Config{Passthrough: newPipe(t, redis), Reserved: []string{"xf:"}}
	fails := func(reply string, err error) respdoor.Config {
		return respdoor.Config{Passthrough: broken{[]byte(reply), err}}
	}
	for _, row := range []struct {
		cfg          respdoor.Config
		stream, want string
	}{
		{behind, cmds("DEL xf:fence"), "-ERR the key belongs to the proxy itself: 'xf:fence'"},
		{behind, cmds("SORT a STORE xf:fence"), "-ERR the key belongs to the proxy itself"},
		{behind, cmds("MGET KEY xf:fence"), "-ERR the key belongs to the proxy itself"},
		{behind, cmds("XREAD BLOCK 0 STREAMS s $"), "-ERR commands that block are not passed through"},
		{behind, cmds("XINFO STREAM KEY"), "-ERR XINFO is refused on stock key"},
		{fails("", errors.New("gone")), cmds("SET a 1"), "-XFUNKNOWN the command may or may not have taken effect"},
		{fails("", nil), cmds("SET a 1"), "-XFUNKNOWN the command may or may not have taken effect"},
		{fails(":1\r\n", nil), cmds("MGET KEY a"), "-XFUNAVAILABLE redis gave a reply that does not fit"},
		{fails("*1\r\n:1\r\n", nil), cmds("MGET KEY a b"), "-XFUNAVAILABLE redis gave a reply that does not fit"},
		{fails("$"+strings.Repeat("1", respdoor.MaxPassthroughReply), nil), cmds("GET a"), "-ERR the reply is longer than this proxy passes through"},
	} {
		got := talk(t, door(t, row.cfg), withKeys(row.stream, 1))
		if !strings.HasPrefix(got, row.want) {
			t.Errorf("%q: %q, want %q…", row.stream, clip(got), row.want)
		}
	}
}
