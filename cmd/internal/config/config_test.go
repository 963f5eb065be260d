package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
)

const good = `
pods:
  - name: pod-1
    shops: [a, b]
    redis: {addr: "127.0.0.1:6379"}
    mysql: {dsn: "root@tcp(127.0.0.1:3306)/x"}
`

// TestBadConfigurations: each names the field, what is allowed and what to do.
func TestBadConfigurations(t *testing.T) {
	pod := func(extra string) string { return good + extra }
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "reddis: 1\n" + good, "reddis"},
		{"unknown key in a pod", pod("    colour: red\n"), "colour"},
		{"no pods", "proxy_id: p\n", "pods is 0"},
		{"pod without a redis", "pods: [{name: p, mysql: {dsn: \"root@tcp(h:1)/x\"}}]", "redis.addr"},
		{"pod without a mysql", "pods: [{name: p, redis: {addr: \"h:1\"}}]", "mysql.dsn"},
		{"unreadable dsn", "pods: [{name: p, redis: {addr: \"h:1\"}, mysql: {dsn: nonsense}}]", "mysql.dsn"},
		{"address without a port", "pods: [{name: p, redis: {addr: h}, mysql: {dsn: \"root@tcp(h:1)/x\"}}]", "host:port"},
		{"pod twice", good + strings.TrimPrefix(good, "\npods:\n"), "twice"},
		{"shop in two pods", good + "  - name: pod-2\n    shops: [b]\n    redis: {addr: \"h:1\"}\n    mysql: {dsn: \"root@tcp(h:1)/x\"}\n", `"b" in pods pod-1 and pod-2`},
		{"overlapping prefixes", good + "  - {name: \"pod-1:x\", shops: [c], redis: {addr: \"127.0.0.1:6379\"}, mysql: {dsn: \"root@tcp(h:1)/x\"}}\n", "prefixes"},
		{"one counter in two pods", strings.Replace(good, "shops: [a, b]", "shops: [a]\n    key_template: \"stock:{item}\"\n    shop: a", 1) +
			"  - {name: pod-2, shops: [c], shop: c, key_template: \"stock:{item}\", redis: {addr: \"127.0.0.1:6379\"}, mysql: {dsn: \"root@tcp(h:1)/x\"}}\n", "share no counter"},
		{"one pod's counters among another's", good +
			"  - {name: pod-2, shops: [c], shop: c, key_template: \"stock:{item}\", redis: {addr: \"127.0.0.1:6379\"}, mysql: {dsn: \"root@tcp(h:1)/x\"}}\n", "share no counter"},
		{"constant shop of nobody", strings.Replace(good, "shops: [a, b]", "shops: [a]\n    key_template: \"stock:{item}\"\n    shop: c", 1), "nobody's"},
		{"two defaults", pod("    default: true\n") + "  - name: pod-2\n    default: true\n    redis: {addr: \"h:1\"}\n    mysql: {dsn: \"root@tcp(h:1)/x\"}\n", "one default"},
		{"template without an item", pod("    key_template: \"stock:{shop}\"\n"), "{item}"},
		{"template and constant shop", pod("    shop: a\n"), "constant shop"},
		{"readiness of no stratum", pod("    readiness: {last: 0.1}\n"), "last_units"},
		{"readiness that is no rate", pod("    readiness: {last_units: 0}\n"), "above 0 and at most 1"},
		{"probe share", pod("    probe_share: 2\n"), "0 to 1"},
		{"short retain", pod("    retain: 3s\n"), "at least 1m0s"},
		{"duration without a unit", pod("    retain: 3\n"), "500ms"},
		{"small outbox", pod("    outbox_max: 5\n"), "at least 1000"},
		{"pool cap", strings.Replace(good, `/x"}`, `/x", pool_cap: -1}`, 1), "pool_cap"},
		{"batch", strings.Replace(good, `/x"}`, `/x", combine: 513}`, 1), "combine"},
		{"lanes", strings.Replace(good, `/x"}`, `/x", lanes: 9}`, 1), "lanes"},
		{"cap of an item", strings.Replace(good, `/x"}`, `/x", pool_caps: [{shop: s, item: i, cap: 0}]}`, 1), "pool_caps[0] cap"},
		{"cap of nobody", strings.Replace(good, `/x"}`, `/x", pool_caps: [{shop: s, cap: 5}]}`, 1), "pool_caps[0] item"},
		{"two caps", strings.Replace(good, `/x"}`, `/x", pool_caps: [{shop: s, item: i, cap: 5}, {shop: s, item: i, cap: 6}]}`, 1), "pool_caps[1]"},
		{"short token", "admin: {tokens: {me: abc}}\n" + good, "at least 16"},
		{"open admin without a token", "admin: {listen: \"0.0.0.0:6390\"}\n" + good, "loopback"},
		{"certificate without a key", "resp: {tls_cert: x.pem}\n" + good, "both or none"},
		{"pass-through to nobody", "resp: {passthrough: nobody}\n" + good, "name of a pod"},
		{"two control stores", "control: {dir: x, etcd: {endpoints: [\"h:1\"]}}\n" + good, "exactly one"},
		{"one host with etcd", "control: {one_host: true, etcd: {endpoints: [\"h:1\"]}}\n" + good, "control.one_host"},
		{"answers without redis by a folder", pod("    redis_away: answer\n"), "one_host"},
		{"etcd without members", "control: {etcd: {prefix: /x/}}\n" + good, "control.etcd endpoints"},
		{"etcd without a port", "control: {etcd: {endpoints: [h]}}\n" + good, "control.etcd.endpoints"},
		{"etcd by another protocol", "control: {etcd: {endpoints: [\"ftp://h:1\"]}}\n" + good, "http or https"},
		{"etcd prefix", "control: {etcd: {endpoints: [\"h:1\"], prefix: x}}\n" + good, "slash"},
		{"etcd user without a password", "control: {etcd: {endpoints: [\"h:1\"], username: u}}\n" + good, "both or none"},
		{"etcd password twice", "control: {etcd: {endpoints: [\"h:1\"], username: u, password: p, password_file: f}}\n" + good, "one of them at most"},
		{"etcd certificate without a key", "control: {etcd: {endpoints: [\"h:1\"], tls_cert: x}}\n" + good, "both or none"},
		{"short lease", "control: {lease: 500ms}\n" + good, "control.lease"},
		{"pod name", strings.Replace(good, "pod-1", `""`, 1), "name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := config.Parse([]byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v; want something about %q", err, c.want)
			}
		})
	}
}

// TestPodsMayShareARedis: with templates that tell their counters apart.
func TestPodsMayShareARedis(t *testing.T) {
	for _, second := range []string{
		"shops: [c], ",
		"default: true, ",
		"shops: [c], shop: c, key_template: \"other:{item}\", ",
		"shops: [c], key_template: \"stock:{shop}:{item}:{location}\", ",
	} {
		text := good + "  - {name: pod-2, " + second + "redis: {addr: \"127.0.0.1:6379\"}, mysql: {dsn: \"root@tcp(h:1)/x\"}}\n"
		if _, err := config.Parse([]byte(text)); err != nil {
			t.Errorf("%s: %v", second, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	c, err := config.Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	p := c.Pods[0]
	if p.Redis.Prefix != "xf:pod-1:" || p.Location != "main" || p.KeyTemplate != "stock:{shop}:{item}" || p.MySQL.PoolCap != 1000 {
		t.Fatalf("%+v", p)
	}
	if c.RESP.Listen != "127.0.0.1:6380" || c.Admin.Listen != "127.0.0.1:6390" {
		t.Fatalf("%+v", c)
	}
}

func TestPathsStartAtTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "crossfade.yaml")
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Path("data"); got != filepath.Join(dir, "data") {
		t.Fatal(got)
	}
	if _, err := config.Load(filepath.Join(dir, "none.yaml")); err == nil || !strings.Contains(err.Error(), "lab up") {
		t.Fatalf("%v", err)
	}
}

func TestPoolCapFor(t *testing.T) {
	if f := (&config.MySQL{}).PoolCapFor(); f != nil {
		t.Error("without caps there is a rule")
	}
	f := (&config.MySQL{PoolCaps: []config.PoolCap{{Shop: "s", Item: "hot", Cap: 5000}}}).PoolCapFor()
	if got := f(backends.Key{Shop: "s", Item: "hot", Location: "east"}); got != 5000 {
		t.Errorf("the hot item's cap is %d", got)
	}
	if got := f(backends.Key{Shop: "t", Item: "hot", Location: "east"}); got != 0 {
		t.Errorf("another shop's cap is %d, want none of its own", got)
	}
}

// TestAnswersAlone: answers without Redis need a control store that is known to be shared.
func TestAnswersAlone(t *testing.T) {
	for _, control := range []string{"{one_host: true}", "{etcd: {endpoints: [\"h:1\"]}}"} {
		path := filepath.Join(t.TempDir(), "crossfade.yaml")
		if err := os.WriteFile(path, []byte("control: "+control+"\n"+good+"    redis_away: answer\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := config.Load(path); err != nil || !c.Pods[0].AnswersAlone() {
			t.Errorf("with %s: %v", control, err)
		}
	}
}

// TestControl: a folder unless there is an etcd, whose files are found beside the configuration.
func TestControl(t *testing.T) {
	c, err := config.Parse([]byte(good))
	if err != nil || c.Control.Dir != "control" || c.Control.Etcd.Used() {
		t.Fatalf("by default: %+v, %v", c.Control, err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	load := func(etcd string) *config.Config {
		t.Helper()
		c, err := config.Load(write("crossfade.yaml", "control: {etcd: {endpoints: [\"h:1\", \"https://h:2\"], "+etcd+"}}\n"+good))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	write("secret", " word\n")
	c = load("username: u, password_file: secret")
	o, err := c.Control.Etcd.Options(c)
	if err != nil || o.Password != "word" || o.TLS == nil || c.Control.Dir != "" {
		t.Errorf("%+v of %+v, %v", o, c.Control, err)
	}
	write("empty", "\n")
	for etcd, want := range map[string]string{
		"username: u, password_file: absent": "control.etcd.password_file", "username: u, password_file: empty": "control.etcd.password_file",
		"tls_ca: secret": "control.etcd.tls_ca", "tls_cert: secret, tls_key: secret": "control.etcd.tls_cert",
	} {
		c := load(etcd)
		if _, err := c.Control.Etcd.Options(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want something about %s", etcd, err, want)
		}
	}
}
