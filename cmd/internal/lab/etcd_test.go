package lab

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestIdentifyEtcd(t *testing.T) {
	k, v, err := identify("etcd Version: 3.7.3\nGit SHA: Not provided\nGo Version: go1.26.8\n")
	if err != nil || k != Etcd || v != (Version{3, 7, 3}) {
		t.Fatalf("%s %s %v", k, v, err)
	}
	if err := checkMinimum(Etcd, Version{3, 4, 30}); err == nil {
		t.Error("an etcd of 2020 is taken")
	}
}

// TestEtcdSource: the version that the lab names is the one that the embedded module asks for.
func TestEtcdSource(t *testing.T) {
	text, err := etcdSource.ReadFile("etcdserver/go.mod.txt")
	if err != nil || !strings.Contains(string(text), "go.etcd.io/etcd/server/v3 v"+etcdBuilt+"\n") {
		t.Errorf("go.mod.txt does not ask for etcd %s (%v)", etcdBuilt, err)
	}
}

// TestEtcdCluster: a leader that is killed has a successor, a majority that is killed has none, and who comes back has its data.
func TestEtcdCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), startPatience)
	defer cancel()
	c := Cluster(t, 3)
	leader, err := c.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := etcdPost(ctx, c.Endpoints()[leader], "/v3/kv/put", `{"key":"a2V5","value":"dmFsdWU="}`); err != nil {
		t.Fatal(err)
	}
	if err := c.Members[leader].Kill(); err != nil {
		t.Fatal(err)
	}
	next, err := c.AwaitLeader(ctx)
	if err != nil || next == leader {
		t.Fatalf("after member %d was killed member %d leads, %v", leader, next, err)
	}
	if err := c.Members[next].Pause(); err != nil {
		t.Fatal(err)
	}
	if i, err := c.Leader(ctx); err == nil && i == next {
		t.Errorf("a paused member is said to lead")
	}
	for _, heal := range []func() error{func() error { return c.Members[leader].Restart(ctx) }, c.Members[next].Resume} {
		if err := heal(); err != nil {
			t.Fatal(err)
		}
	}
	now, err := c.AwaitLeader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got, err := etcdPost(ctx, c.Endpoints()[now], "/v3/kv/range", `{"key":"a2V5"}`)
	if err != nil || !strings.Contains(string(got), "dmFsdWU=") {
		t.Errorf("what was written is %s, %v", got, err)
	}
	for _, m := range c.Members {
		if err := m.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if i, err := c.Leader(ctx); !errors.Is(err, ErrNoLeader) {
		t.Errorf("nobody runs and member %d leads (%v)", i, err)
	}
}

func TestEtcdOptions(t *testing.T) {
	for n, o := range map[int]Options{0: {}, maxEtcd + 1: {}, 1: {Detached: true, Dir: "x"}, 3: {Dir: "x"}} {
		if c, err := StartEtcd(t.Context(), n, o); err == nil {
			t.Errorf("%d members with %+v were started: %v", n, o, c.Endpoints())
		}
	}
}
