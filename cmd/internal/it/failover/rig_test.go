package failover_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/cmd/internal/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(m)) }

const (
	podName = "pod-1"
	shop    = "shop-one"
	fleet   = 2
	// longTTL is a hold's life where it must not end during the test, in milliseconds.
	longTTL = "3600000"
	within  = time.Minute
)

// rig is a primary with a replica, MySQL, and proxies in this process, so that the race detector sees them.
type rig struct {
	t                    *testing.T
	sql, primary, backup *lab.Server
	link                 *relay
	dsn                  string
	doors                []*redis.Client
	admins               []*admin.Client
}

func newRig(t *testing.T) *rig {
	t.Helper()
	now := func(o *lab.Options) { o.Args = append(o.Args, "--repl-diskless-sync-delay", "0") }
	r := &rig{t: t, sql: lab.Private(t, lab.MySQL), primary: lab.Private(t, lab.Redis, now)}
	host, port, err := net.SplitHostPort(r.primary.Addr())
	r.ok(err)
	r.backup = lab.Private(t, lab.Redis, now, func(o *lab.Options) { o.Args = append(o.Args, "--replicaof", host+" "+port) })
	r.dsn = r.sql.NewDatabase(t)
	r.link = newRelay(t, r.primary.Addr())
	dir := t.TempDir()
	for n := range fleet {
		cfg, err := config.Parse(fmt.Appendf(nil, `proxy_id: proxy-%d
data_dir: %s
resp: {listen: "127.0.0.1:0"}
admin: {listen: "127.0.0.1:0"}
control: {dir: %s}
pods:
  - name: pod-1
    shops: [shop-one]
    redis: {addr: %q, prefix: "xf:"}
    mysql: {dsn: %q}
    sweep_age: 1s
    gates: {off: [readiness, shadow-p99]}
`, n+1, filepath.Join(dir, "data"), filepath.Join(dir, "control"), r.link.addr(), r.dsn))
		r.ok(err)
		p, err := proxy.Start(t.Context(), cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
		r.ok(err)
		c := redis.NewClient(&redis.Options{Addr: p.RESPAddr(), MaxRetries: -1})
		t.Cleanup(func() {
			_ = c.Close()
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
		})
		r.doors, r.admins = append(r.doors, c), append(r.admins, admin.NewClient(p.AdminAddr(), ""))
	}
	r.settled()
	r.inSync()
	return r
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// eventually waits for a condition with a deadline.
func (r *rig) eventually(what string, ok func() error) {
	r.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			r.t.Fatalf("%s: not within %s: %v", what, within, err)
		case <-tick.C:
		}
	}
}

// settled waits until the pod serves with nothing left to do, on every proxy.
func (r *rig) settled() {
	r.t.Helper()
	for _, a := range r.admins {
		r.eventually("the pod is settled", func() error {
			st, err := a.Status(r.t.Context(), podName)
			if err == nil && (!st.Serving || st.Switch != nil || len(st.Work) > 0) {
				err = fmt.Errorf("serving %v, work %v", st.Serving, st.Work)
			}
			for _, p := range st.Proxies {
				if err == nil && !p.Current {
					err = fmt.Errorf("proxy %s has not acknowledged epoch %d", p.Proxy, st.Actual.Epoch)
				}
			}
			return err
		})
	}
}

func (r *rig) stage(to string) {
	r.t.Helper()
	r.eventually("the pod goes to "+to, func() error {
		_, err := r.admins[0].SetStage(r.t.Context(), podName, to, "test", nil, false, func(string, time.Duration) {})
		return err
	})
	r.settled()
}

// inSync waits until the replica has all that the primary has.
func (r *rig) inSync() {
	r.t.Helper()
	p, b := r.raw(r.primary), r.raw(r.backup)
	r.eventually("the replica has what the primary has", func() error {
		n, err := p.Do(r.t.Context(), "WAIT", 1, 50).Int()
		info, err2 := b.Info(r.t.Context(), "replication").Result()
		if err = errors.Join(err, err2); err == nil && (n != 1 || !strings.Contains(info, "master_link_status:up")) {
			err = fmt.Errorf("%d replicas confirm", n)
		}
		return err
	})
}

func (r *rig) raw(s *lab.Server) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.Addr()})
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// detach has the replica miss everything from now on.
func (r *rig) detach() {
	r.t.Helper()
	r.inSync()
	r.ok(r.raw(r.backup).Do(r.t.Context(), "REPLICAOF", "NO", "ONE").Err())
}

// promote puts the replica in the place of the primary, which is dead.
func (r *rig) promote() {
	r.t.Helper()
	r.ok(r.primary.Kill())
	r.link.point(r.backup.Addr())
}

// do sends a command through a proxy and wants its outcome.
func (r *rig) do(n int, want string, args ...any) {
	r.t.Helper()
	m, err := r.doors[n].Do(r.t.Context(), args...).Result()
	if err != nil {
		r.t.Fatalf("%v: %v", args, err)
	}
	got, _ := m.(map[any]any)
	if got["status"] != want {
		r.t.Fatalf("%v: %v, want %s", args, m, want)
	}
}

func (r *rig) reserve(n int, id, item string, units int) {
	r.t.Helper()
	r.do(n, "granted", "XF.RESERVE", shop, id, "TTL", longTTL, "LINE", item, units)
}

func (r *rig) restock(n int, op, item string, units int) {
	r.t.Helper()
	r.do(n, "restocked", "XF.RESTOCK", shop, item, units, "OPID", op)
}

// silent wants every proxy to answer writes with one of words, and to refuse a kill: the replica may have lost what was acknowledged.
func (r *rig) silent(item string, words ...string) {
	r.t.Helper()
	for n, c := range r.doors {
		err := c.Do(r.t.Context(), "XF.RESERVE", shop, fmt.Sprint("silent", n), "TTL", longTTL, "LINE", item, 1).Err()
		if word, _, _ := strings.Cut(fmt.Sprint(err), " "); !slices.Contains(words, word) {
			r.t.Errorf("proxy %d decides at a replica that nobody has let go on: %v", n+1, err)
		}
		if _, err := r.admins[n].Kill(r.t.Context(), podName, "test", backends.StageUnknown, false, func(backends.Fence) {}); err == nil {
			r.t.Errorf("proxy %d kills a pod whose Redis was replaced", n+1)
		}
	}
}

// reissue has a proxy let the pod go on, and answers what the restore notes.
func (r *rig) reissue(n int) (note string) {
	r.t.Helper()
	r.eventually("the fence can be re-issued", func() error {
		res, err := r.admins[n].Reissue(r.t.Context(), podName, "test")
		for _, s := range res.Change.Steps {
			if strings.HasPrefix(s.Name, "restore") {
				note = s.Note
			}
		}
		return err
	})
	r.t.Log(note)
	return note
}

// stores opens both stores beside the proxies, Redis as it is now.
func (r *rig) stores() map[string]backends.Store {
	r.t.Helper()
	tpl, err := backends.ParseKeyTemplate(backends.DefaultKeyTemplate, "", backends.DefaultLocation)
	r.ok(err)
	rs, err := redisstore.Open(r.t.Context(), redisstore.Config{Pod: podName, Addr: r.backup.Addr(), Prefix: "xf:", Template: tpl})
	r.ok(err)
	r.t.Cleanup(func() { _ = rs.Close() })
	ms, err := mysqlstore.Open(r.t.Context(), mysqlstore.Config{Pod: podName, DSN: r.dsn})
	r.ok(err)
	r.t.Cleanup(func() { _ = ms.Close() })
	return map[string]backends.Store{"redis": rs, "mysql": ms}
}

// have waits until both stores have the holds and levels that are wanted, and audit and conservation find nothing.
func (r *rig) have(holds map[backends.HoldID]backends.State, levels map[backends.Item][3]int64) {
	r.t.Helper()
	for name, s := range r.stores() {
		r.eventually(name+" has everything", func() error {
			var errs []error
			for id, want := range holds {
				h, err := s.Get(r.t.Context(), id)
				if err == nil && (h == nil || h.State != want) {
					err = fmt.Errorf("%s: %+v, want %s", id, h, want)
				}
				errs = append(errs, err)
			}
			for i, want := range levels {
				ls, err := s.Levels(r.t.Context(), []backends.Key{{Shop: shop, Item: i, Location: backends.DefaultLocation}})
				if err == nil && (len(ls) != 1 || [3]int64{ls[0].OnHand, ls[0].Held, ls[0].Sellable()} != want) {
					err = fmt.Errorf("level of %s: %+v, want %d on hand, held, to sell", i, ls, want)
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		})
	}
	a, err := r.admins[0].Audit(r.t.Context(), podName, func(string, int64, int64) {})
	r.ok(err)
	c, err := r.admins[0].Conservation(r.t.Context(), podName)
	r.ok(err)
	if !a.Clean() || a.HoldsTruth == 0 || !c.Clean() {
		r.t.Errorf("audit: %+v; conservation: %+v", a, c)
	}
}

// drained waits until the outbox is empty.
func (r *rig) drained() {
	r.t.Helper()
	r.eventually("the outbox is empty", func() error {
		rep, err := r.admins[0].Report(r.t.Context(), podName, time.Hour)
		if err == nil && (rep.Outbox == nil || rep.Outbox.Entries > 0) {
			err = fmt.Errorf("outbox %+v", rep.Outbox)
		}
		return err
	})
}
