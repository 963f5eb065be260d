package etcdstore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/controltest"
	"github.com/crossfade-proxy/crossfade/killswitch/etcdstore"
)

func TestConformance(t *testing.T) {
	controltest.Run(t, func(t *testing.T) controltest.Open {
		e := lab.ForTest(t, lab.Etcd)
		prefix := "/" + e.NewPrefix(t) + "/"
		return func(tb testing.TB) killswitch.ControlStore { return open(tb, prefix, e.Addr()) }
	})
}

// raw is a client beside the store.
func raw(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// An acknowledgement of a registered proxy goes with its registration; others stay.
func TestAcknowledgementsHangOnTheLease(t *testing.T) {
	e := lab.ForTest(t, lab.Etcd)
	prefix := "/" + e.NewPrefix(t) + "/"
	a, other := open(t, prefix, e.Addr()), open(t, prefix, e.Addr())
	ctx := within(t, patience)
	m, err := a.Join(ctx, killswitch.Member{Proxy: "x"}, killswitch.MinLease)
	if err != nil {
		t.Fatal(err)
	}
	for proxy, by := range map[string]killswitch.ControlStore{"x": a, "y": a, "z": other} {
		if err := by.Acknowledge(ctx, killswitch.Ack{Proxy: proxy, Pod: "p", Epoch: 1}); err != nil {
			t.Fatal(err)
		}
	}
	acked := func() string {
		acks, err := other.Acks(within(t, patience), "p")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, k := range acks {
			names = append(names, k.Proxy)
		}
		return strings.Join(names, " ")
	}
	if got := acked(); got != "x y z" {
		t.Fatalf("acknowledged by %q", got)
	}
	if err := m.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	if got := acked(); got != "y z" {
		t.Errorf("after x has left: acknowledged by %q", got)
	}
	if _, err := a.Join(ctx, killswitch.Member{Proxy: "x"}, killswitch.MinLease); err != nil {
		t.Fatal(err)
	}
	if err := a.Acknowledge(ctx, killswitch.Ack{Proxy: "x", Pod: "p", Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil { // as if it had died
		t.Fatal(err)
	}
	eventually(t, "the end of the dead proxy's acknowledgement", func() bool { return acked() == "y z" })
}

// Whoever was replaced acknowledges nothing any more: it would be taken for the word of the other.
func TestReplacedDoesNotAcknowledge(t *testing.T) {
	e := lab.ForTest(t, lab.Etcd)
	prefix := "/" + e.NewPrefix(t) + "/"
	a, b := open(t, prefix, e.Addr()), open(t, prefix, e.Addr())
	ctx := within(t, patience)
	older, err := a.Join(ctx, killswitch.Member{Proxy: "x"}, killswitch.MinLease)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Join(ctx, killswitch.Member{Proxy: "x"}, killswitch.MinLease); err != nil {
		t.Fatal(err)
	}
	<-older.Lost()
	if err := a.Acknowledge(ctx, killswitch.Ack{Proxy: "x", Pod: "p", Epoch: 1}); !errors.Is(err, killswitch.ErrReplaced) {
		t.Errorf("the replaced one acknowledges: %v", err)
	}
	if err := b.Acknowledge(ctx, killswitch.Ack{Proxy: "x", Pod: "p", Epoch: 2}); err != nil {
		t.Error(err)
	}
}

// A lease that somebody has revoked, or that ran out unseen: the registration comes back by itself.
func TestComesBackAfterItsLeaseIsGone(t *testing.T) {
	e := lab.ForTest(t, lab.Etcd)
	prefix := "/" + e.NewPrefix(t) + "/"
	s, ctx := open(t, prefix, e.Addr()), within(t, patience)
	if _, err := s.Join(ctx, killswitch.Member{Proxy: "x"}, killswitch.MinLease); err != nil {
		t.Fatal(err)
	}
	c := raw(t, e.Addr())
	key := prefix + "members/x"
	for what, harm := range map[string]func(lease clientv3.LeaseID) error{
		"revoked lease": func(id clientv3.LeaseID) error { _, err := c.Revoke(ctx, id); return err },
		"deleted key":   func(clientv3.LeaseID) error { _, err := c.Delete(ctx, key); return err },
	} {
		r, err := c.Get(ctx, key)
		if err != nil || len(r.Kvs) != 1 {
			t.Fatalf("%v, %v", r, err)
		}
		if err := harm(clientv3.LeaseID(r.Kvs[0].Lease)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the registration after a "+what, func() bool {
			ms, err := s.Members(ctx)
			return err == nil && len(ms) == 1
		})
		eventually(t, "an acknowledgement after a "+what, func() bool {
			return s.Acknowledge(ctx, killswitch.Ack{Proxy: "x", Pod: "p", Epoch: 1}) == nil
		})
	}
}

// Many append the same changes at the same time: each line is there once, in order.
func TestAppendersDoNotDouble(t *testing.T) {
	e := lab.ForTest(t, lab.Etcd)
	prefix := "/" + e.NewPrefix(t) + "/"
	const writers, lines = 6, 300
	var wg sync.WaitGroup
	for range writers {
		s := open(t, prefix, e.Addr())
		wg.Go(func() {
			for seq := uint64(1); seq <= lines; seq += 10 {
				var cs []killswitch.Change
				for i := range uint64(10) {
					cs = append(cs, killswitch.Change{Seq: seq + i})
				}
				if err := s.AppendHistory(within(t, patience), "a", cs...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s := open(t, prefix, e.Addr())
	if err := s.AppendHistory(within(t, patience), "a/b", killswitch.Change{Seq: 7}); err != nil {
		t.Fatal(err)
	}
	h, err := s.History(within(t, patience), "a", 0, killswitch.MaxHistoryPage)
	if err != nil || len(h) != lines {
		t.Fatalf("%d lines, %v; want %d", len(h), err, lines)
	}
	for i, c := range h {
		if c.Seq != uint64(i+1) { //nolint:gosec // small
			t.Fatalf("line %d has number %d", i, c.Seq)
		}
	}
	r, err := raw(t, e.Addr()).Get(within(t, patience), prefix+"history/a/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		if kv.Version != 1 {
			t.Fatalf("%s was written %d times", kv.Key, kv.Version)
		}
	}
}

// A list of many pages is of one revision, in the order of pods.
func TestListIsWhole(t *testing.T) {
	s := single(t)
	const pods = 600
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := w; i < pods; i += 6 {
				name := podName(i)
				if _, err := s.CompareAndSet(within(t, patience), name, 0, killswitch.PodState{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	rs, err := s.List(within(t, patience))
	if err != nil || len(rs) != pods {
		t.Fatalf("%d records, %v; want %d", len(rs), err, pods)
	}
	for i, r := range rs {
		if r.State.Pod != podName(i) {
			t.Fatalf("record %d is of %s", i, r.State.Pod)
		}
	}
}

// Compaction takes the revisions away that a watch would have to tell: it finds out by itself.
func TestCompactionUnderAWatch(t *testing.T) {
	e := lab.ForTest(t, lab.Etcd)
	prefix := "/" + e.NewPrefix(t) + "/"
	relay := newRelay(t, e.Addr())
	s, direct := open(t, prefix, relay.addr()), open(t, prefix, e.Addr())
	ch, err := s.Watch(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	rev := set(t, direct, "p", 0, 1)
	await(t, ch, "p")
	relay.shut(true)
	for i := range uint64(5) {
		rev = set(t, direct, "p", rev, i+2)
	}
	set(t, direct, "q", 0, 1)
	c := raw(t, e.Addr())
	if _, err := c.Compact(within(t, patience), int64(rev)+1); err != nil {
		t.Fatal(err)
	}
	relay.shut(false)
	seen := map[string]bool{}
	for len(seen) < 2 {
		select {
		case p, ok := <-ch:
			if !ok {
				t.Fatalf("the watch was closed when %v were reported after the compaction", seen)
			}
			seen[string(p)] = true
		case <-time.After(patience):
			t.Fatalf("only %v were reported after the compaction", seen)
		}
	}
	set(t, direct, "r", 0, 1)
	await(t, ch, "r")
}

// What etcd refuses is told with the next step.
func TestUsers(t *testing.T) {
	e := lab.Cluster(t, 1)
	addr := e.Endpoints()[0]
	c, ctx := raw(t, addr), within(t, patience)
	do := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(c.UserAdd(ctx, "root", "r00t"))
	do(c.UserGrantRole(ctx, "root", "root"))
	do(c.UserAdd(ctx, "proxy", "secret"))
	do(c.RoleAdd(ctx, "proxies"))
	do(c.RoleGrantPermission(ctx, "proxies", "/mine/", clientv3.GetPrefixRangeEnd("/mine/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	do(c.UserGrantRole(ctx, "proxy", "proxies"))
	do(c.AuthEnable(ctx))
	for _, w := range []struct{ user, password, prefix, says string }{
		{"", "", "/mine/", "control.etcd.username"},
		{"proxy", "wrong", "/mine/", "control.etcd.username"},
		{"proxy", "secret", "/theirs/", "control.etcd.prefix"},
	} {
		s, err := etcdstore.Open(etcdstore.Options{Endpoints: []string{addr}, Prefix: w.prefix, Username: w.user, Password: w.password})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err = s.Get(ctx, "p"); !errors.Is(err, killswitch.ErrControlUnavailable) || !strings.Contains(err.Error(), w.says) {
			t.Errorf("%+v: %v", w, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	controltest.Run(t, func(t *testing.T) controltest.Open {
		prefix := "/mine/" + t.Name() + "/"
		return func(tb testing.TB) killswitch.ControlStore {
			s, err := etcdstore.Open(etcdstore.Options{Endpoints: []string{addr}, Prefix: prefix, Username: "proxy", Password: "secret"})
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { _ = s.Close() })
			return s
		}
	})
	if err := context.Cause(ctx); err != nil {
		t.Error(err)
	}
}
