//go:build clients

package clienttest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
)

// addressVar names a running proxy to test instead of a door of our own. Its default pod must take
// keys stock:{shop}:{item}, with a constant location, for the shop "clients".
const addressVar = "CROSSFADE_RESP_ADDR"

const (
	clientPatience = 2 * time.Minute
	npmPatience    = 5 * time.Minute
	// ioredisPackage is what npm installs.
	ioredisPackage = "ioredis@5"
)

//go:embed ioredis_test.mjs
var ioredisScript []byte

// target is the address under test.
func target(t *testing.T) string {
	t.Helper()
	if addr := os.Getenv(addressVar); addr != "" {
		return addr
	}
	return door(t, respdoor.Config{})
}

// stocked is a fresh stock key with so many units.
func stocked(t *testing.T, addr string, units int) (item, key string) {
	t.Helper()
	item = fmt.Sprintf("c%x", rand.Uint64())
	key = "stock:clients:" + item
	if got := talk(t, addr, cmds(fmt.Sprintf("INCRBY %s %d", key, units))); got != fmt.Sprintf(":%d\r\n", units) {
		t.Fatalf("stock: %q", got)
	}
	return item, key
}

func left(t *testing.T, addr, key string) int {
	t.Helper()
	got := strings.Split(talk(t, addr, cmds("GET "+key)), "\r\n")
	if len(got) < 2 {
		t.Fatalf("GET: %q", got)
	}
	n, err := strconv.Atoi(got[1])
	if err != nil {
		t.Fatalf("GET: %q", got)
	}
	return n
}

// run runs one of Redis's own tools against the address.
func run(t *testing.T, s *lab.Server, addr, tool, input string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clientPatience)
	defer cancel()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := s.Tool(ctx, tool, append([]string{"-h", host, "-p", port}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", tool, args, err, out)
	}
	return string(out)
}

func TestRedisCLI(t *testing.T) {
	addr, s := target(t), lab.ForTest(t, lab.Redis)
	for _, proto := range []string{"-2", "-3"} {
		t.Run("RESP"+proto[1:], func(t *testing.T) {
			item, key := stocked(t, addr, 10)
			cli := func(args ...string) string {
				return strings.TrimSpace(run(t, s, addr, "redis-cli", "", append([]string{proto}, args...)...))
			}
			for _, row := range []struct{ args, want string }{
				{"PING", "PONG"},
				{"DECR " + key, "9"},
				{"GET " + key, "9"},
				{"DECRBY " + key + " x", "ERR value is not an integer or out of range"},
				{"NOSUCH", "ERR unknown command 'NOSUCH', with args beginning with:"},
				{"CONFIG GET save", "save"},
			} {
				if got := cli(strings.Fields(row.args)...); got != row.want {
					t.Errorf("%s: %q, want %q", row.args, got, row.want)
				}
			}
			hold := "cli" + item + proto
			if got := cli("XF.RESERVE", "clients", hold, "TTL", "60000", "LINE", item, "4"); !strings.HasPrefix(got, "status\ngranted\nhold\n"+hold+"\nstate\nheld") && !strings.HasPrefix(got, "status granted") {
				t.Errorf("reserve: %q", got)
			}
			if got := cli("XF.RELEASE", "clients", hold); !strings.Contains(got, "released") {
				t.Errorf("release: %q", got)
			}
			// A pipeline of words, and one of frames, as for mass insertion.
			if got := run(t, s, addr, "redis-cli", strings.Repeat("DECR "+key+"\n", 4), proto); got != "8\n7\n6\n5\n" {
				t.Errorf("words: %q", got)
			}
			if got := run(t, s, addr, "redis-cli", strings.Repeat(cmds("DECR "+key), 1000), proto, "--pipe"); !strings.Contains(got, "errors: 0, replies: 1000") {
				t.Errorf("frames: %q", got)
			}
			if n := left(t, addr, key); n != 5-1000 {
				t.Errorf("%d left", n)
			}
		})
	}
}

func TestRedisBenchmark(t *testing.T) {
	addr, s := target(t), lab.ForTest(t, lab.Redis)
	const requests = 20_000
	perSecond := regexp.MustCompile(`[0-9.]+ requests per second`)
	for _, args := range [][]string{{"-P", "1"}, {"-P", "16"}, {"-3", "-P", "16"}, {"--threads", "2", "-P", "4"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			_, key := stocked(t, addr, requests+7)
			out := run(t, s, addr, "redis-benchmark", "", append(args, "-q", "-c", "50", "-n", strconv.Itoa(requests), "DECR", key)...)
			rate := perSecond.FindAllString(out, -1)
			if len(rate) == 0 || strings.Contains(out, "rror") {
				t.Fatalf("%q", out)
			}
			t.Logf("DECR %v: %s", args, rate[len(rate)-1])
			// It sends whole pipelines, so a few more than it was told.
			if n := left(t, addr, key); n > 7 || n < 7-50*16 {
				t.Errorf("%d left", n)
			}
		})
	}
}

// TestIORedis runs ioredis_test.mjs, which says what it did in one line of JSON.
func TestIORedis(t *testing.T) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v; install Node.js with npm (on Debian and Ubuntu: apt install nodejs npm)", err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "test.mjs"), ioredisScript, 0o600); err != nil {
		t.Fatal(err)
	}
	install, cancel := context.WithTimeout(context.Background(), npmPatience)
	defer cancel()
	npm := exec.CommandContext(install, "npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", ioredisPackage)
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm install %s: %v\n%s", ioredisPackage, err, out)
	}
	addr := target(t)
	for _, auto := range []bool{false, true} {
		t.Run(fmt.Sprintf("autopipelining=%v", auto), func(t *testing.T) {
			item, key := stocked(t, addr, 500)
			ctx, cancel := context.WithTimeout(context.Background(), clientPatience)
			defer cancel()
			node := exec.CommandContext(ctx, "node", "test.mjs", addr, key, item, strconv.FormatBool(auto))
			node.Dir = dir
			var stderr bytes.Buffer
			node.Stderr = &stderr
			out, err := node.Output()
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, &stderr)
			}
			var did struct {
				Sold, Refused int
				Problems      []string
			}
			if err := json.Unmarshal(out, &did); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if did.Sold != 500 || did.Refused == 0 || len(did.Problems) > 0 {
				t.Errorf("%+v", did)
			}
			if n := left(t, addr, key); n != 0 {
				t.Errorf("%d left", n)
			}
		})
	}
}

// TestGoRedisClients: the legacy loop under 64 clients leaves the stock as it should be.
func TestGoRedisClients(t *testing.T) {
	addr := target(t)
	for _, proto := range []int{2, 3} {
		for _, pipelined := range []bool{false, true} {
			t.Run(fmt.Sprintf("RESP%d,pipelined=%v", proto, pipelined), func(t *testing.T) {
				_, key := stocked(t, addr, 1000)
				rdb := redis.NewClient(&redis.Options{Addr: addr, Protocol: proto, PoolSize: 64, MaxRetries: -1})
				t.Cleanup(func() { rdb.Close() })
				if sold := legacyLoop(t, rdb, key, pipelined); sold != 1000 {
					t.Errorf("%d sold", sold)
				}
				if n := left(t, addr, key); n != 0 {
					t.Errorf("%d left", n)
				}
			})
		}
	}
}
