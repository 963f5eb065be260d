package controltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// lease is what the suite registers for.
const lease = killswitch.MinLease

func someone(proxy string) killswitch.Member {
	return killswitch.Member{Proxy: proxy, Addr: "127.0.0.1:6390", Pods: []backends.Pod{"a/b", "p"}, Since: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)}
}

func joined(t *testing.T, c killswitch.ControlStore, m killswitch.Member, ttl time.Duration) killswitch.Membership {
	t.Helper()
	got, err := c.Join(within(t), m, ttl)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = got.Leave(ctx) // the test may have closed its store
	})
	return got
}

func present(t *testing.T, c killswitch.ControlStore, proxy string) bool {
	t.Helper()
	ms, err := c.Members(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(ms, func(m killswitch.Member) bool { return m.Proxy == proxy })
}

func members(t *testing.T, open Open) {
	ctx, a, b := within(t), open(t), open(t)
	if ms, err := a.Members(ctx); err != nil || len(ms) != 0 {
		t.Fatalf("an empty store has members %v, %v", ms, err)
	}
	before := time.Now()
	y := joined(t, a, someone("y"), lease)
	if until := y.ValidUntil(); until.Before(before.Add(lease)) || until.After(time.Now().Add(lease)) {
		t.Errorf("valid until %s after joining with a lease of %s", until.Sub(before), lease)
	}
	joined(t, b, someone("x/1"), killswitch.MaxLease)
	for _, c := range []killswitch.ControlStore{a, b, open(t)} {
		ms, err := c.Members(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]killswitch.Member{someone("x/1"), someone("y")}, ms); d != "" {
			t.Errorf("members (-want +got):\n%s", d)
		}
	}
	var fe *backends.FieldError
	for _, m := range []killswitch.Member{{}, {Proxy: "é"}, {Proxy: "z", Pods: []backends.Pod{"b", "a"}}, {Proxy: "z", Pods: []backends.Pod{""}}, {Proxy: "z", Addr: string(make([]byte, killswitch.MaxAddr+1))}} {
		if _, err := a.Join(ctx, m, lease); !errors.As(err, &fe) {
			t.Errorf("joining as %+v: %v, want a FieldError", m, err)
		}
	}
	for _, ttl := range []time.Duration{0, lease - 1, killswitch.MaxLease + 1} {
		if _, err := a.Join(ctx, someone("z"), ttl); !errors.As(err, &fe) {
			t.Errorf("a lease of %s: %v, want a FieldError", ttl, err)
		}
	}
}

// renews stays registered for longer than its lease is long, and is gone at once when it leaves.
func renews(t *testing.T, open Open) {
	c, other := open(t), open(t)
	m := joined(t, c, someone("x"), lease)
	first := m.ValidUntil()
	until(t, "another lease", func() bool {
		if !present(t, other, "x") {
			t.Fatal("a registration that renews itself is gone")
		}
		return m.ValidUntil().After(first.Add(lease))
	})
	if err := m.Leave(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := m.Leave(within(t)); err != nil {
		t.Errorf("leaving twice: %v", err)
	}
	if present(t, other, "x") || !m.ValidUntil().IsZero() {
		t.Errorf("after leaving: present %t, valid until %s", present(t, other, "x"), m.ValidUntil())
	}
	select {
	case <-m.Lost():
		t.Error("leaving was taken for being replaced")
	default:
	}
	joined(t, c, someone("x"), lease)
	if !present(t, other, "x") {
		t.Error("who has left cannot join again")
	}
}

// expires stops the renewals as the death of the process would. The others have to see the proxy for as long as it could
// take itself for registered, and not for ever.
func expires(t *testing.T, open Open) {
	dying, other := open(t), open(t)
	m := joined(t, dying, someone("x"), lease)
	valid := m.ValidUntil()
	if err := dying.Close(); err != nil {
		t.Fatal(err)
	}
	if !m.ValidUntil().IsZero() {
		t.Error("a registration that is no longer renewed says that it is valid")
	}
	// It renewed once more between the two calls at most.
	until(t, "the end of the lease", func() bool {
		is := present(t, other, "x")
		asked := time.Now() // after the answer: earlier would not show that it came too soon
		if !is && asked.Before(valid) {
			t.Fatalf("gone %s before the process had to know", valid.Sub(asked))
		}
		return !is
	})
}

// until looks again and again, within patience.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	const pause = 20 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	end := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s did not come within %s", what, patience)
		}
	}
}

func twins(t *testing.T, open Open) {
	a, b := open(t), open(t)
	older := joined(t, a, someone("x"), lease)
	as := someone("x")
	as.Addr = "127.0.0.1:1"
	newer := joined(t, b, as, lease)
	select {
	case <-older.Lost():
	case <-time.After(patience):
		t.Fatal("the older of two processes of one name was not told")
	}
	if !older.ValidUntil().IsZero() {
		t.Error("the older still takes itself for registered")
	}
	if err := older.Leave(within(t)); err != nil {
		t.Error(err)
	}
	first := newer.ValidUntil()
	until(t, "another lease", func() bool {
		ms, err := a.Members(within(t))
		if err != nil || len(ms) != 1 || ms[0].Addr != as.Addr {
			t.Fatalf("members %v, %v; want the newer alone", ms, err)
		}
		return newer.ValidUntil().After(first.Add(lease))
	})
	select {
	case <-newer.Lost():
		t.Error("the newer was replaced by the older")
	default:
	}
}

// acksAreBounded gives more proxies' words than are kept.
func acksAreBounded(t *testing.T, open Open) {
	ctx, c := within(t), open(t)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range killswitch.MaxAcks + 2 {
		// The oldest are in the middle of the names, and come first.
		name := fmt.Sprintf("proxy-%03d", (i+killswitch.MaxAcks/2)%(killswitch.MaxAcks+2))
		if err := c.Acknowledge(ctx, killswitch.Ack{Proxy: name, Pod: "p", Epoch: 1, At: at.Add(time.Duration(i) * time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.Acks(ctx, "p")
	if err != nil || len(got) != killswitch.MaxAcks {
		t.Fatalf("%d acknowledgements, %v; want %d", len(got), err, killswitch.MaxAcks)
	}
	for _, a := range got {
		if a.At.Before(at.Add(2 * time.Second)) {
			t.Errorf("%s was kept and a newer one was not", a.Proxy)
		}
	}
}
