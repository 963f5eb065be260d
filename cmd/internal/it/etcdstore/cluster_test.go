package etcdstore_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/etcdstore"
)

func podName(i int) backends.Pod { return backends.Pod(fmt.Sprintf("pod-%04d", i)) }

// refuses checks that every call fails with ErrControlUnavailable in the time that it has.
func refuses(t *testing.T, s *etcdstore.Store, has time.Duration) {
	t.Helper()
	const slack = 500 * time.Millisecond // a busy machine
	var wg sync.WaitGroup
	for name, call := range map[string]func() error{
		"get":         func() error { _, _, err := s.Get(within(t, has), "p"); return err },
		"set":         func() error { _, err := s.CompareAndSet(within(t, has), "p", 1<<40, killswitch.PodState{}); return err },
		"list":        func() error { _, err := s.List(within(t, has)); return err },
		"append":      func() error { return s.AppendHistory(within(t, has), "p", killswitch.Change{Seq: 1}) },
		"history":     func() error { _, err := s.History(within(t, has), "p", 0, 10); return err },
		"acknowledge": func() error { return s.Acknowledge(within(t, has), killswitch.Ack{Proxy: "other", Pod: "p"}) },
		"acks":        func() error { _, err := s.Acks(within(t, has), "p"); return err },
		"members":     func() error { _, err := s.Members(within(t, has)); return err },
		"join": func() error {
			_, err := s.Join(within(t, has), killswitch.Member{Proxy: "other"}, killswitch.MinLease)
			return err
		},
	} {
		wg.Go(func() {
			began := time.Now()
			err := call()
			if took := time.Since(began); !errors.Is(err, killswitch.ErrControlUnavailable) || took > has+slack {
				t.Errorf("%s: %v after %s; want ErrControlUnavailable within %s", name, err, took, has)
			}
		})
	}
	wg.Wait()
}

// A cluster loses its leader in several ways. The store goes on, and its watch and registration with it.
func TestLeaderIsLost(t *testing.T) {
	c := lab.Cluster(t, 3)
	s := open(t, "", c.Endpoints()...)
	m, err := s.Join(within(t, patience), killswitch.Member{Proxy: "x", Pods: []backends.Pod{"p"}}, killswitch.DefaultLease)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := s.Watch(within(t, 4*patience))
	if err != nil {
		t.Fatal(err)
	}
	rev := set(t, s, "p", 0, 1)
	epoch := uint64(1)
	await(t, ch, "p")
	for _, f := range []struct {
		name       string
		harm, heal func(*lab.Server) error
	}{
		{"killed", (*lab.Server).Kill, func(s *lab.Server) error { return s.Restart(within(t, patience)) }},
		{"paused", (*lab.Server).Pause, (*lab.Server).Resume},
	} {
		leader, err := c.AwaitLeader(within(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.harm(c.Members[leader]); err != nil {
			t.Fatal(err)
		}
		took := eventually(t, "a writing after the leader was "+f.name, func() bool {
			epoch++
			got, err := s.CompareAndSet(within(t, patience), "p", rev, killswitch.PodState{Epoch: epoch})
			switch {
			case err == nil:
				rev = got
			case errors.Is(err, killswitch.ErrConflict):
				t.Fatalf("nobody else writes, and it is a conflict: %v", err)
			case errors.Is(err, killswitch.ErrControlUnavailable):
				if _, at, gerr := s.Get(within(t, patience), "p"); gerr == nil {
					rev = at
				}
			default:
				t.Fatal(err)
			}
			return err == nil
		})
		t.Logf("leader %s: written again after %s", f.name, took.Round(time.Millisecond))
		await(t, ch, "p")
		set(t, s, backends.Pod("after "+f.name), 0, 1)
		await(t, ch, backends.Pod("after "+f.name))
		if err := f.heal(c.Members[leader]); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the registration after the leader was "+f.name, func() bool {
			ms, err := s.Members(within(t, patience))
			return err == nil && len(ms) == 1 && m.ValidUntil().After(time.Now())
		})
	}
	if st, at, err := s.Get(within(t, patience), "p"); err != nil || at != rev || st.Epoch != epoch {
		t.Errorf("epoch %d at %d, %v; want %d at %d", st.Epoch, at, err, epoch, rev)
	}
}

// Without a quorum nothing is answered, in time; with it again everything goes on where it was.
func TestQuorumIsLost(t *testing.T) {
	c := lab.Cluster(t, 3)
	s := open(t, "", c.Endpoints()...)
	m, err := s.Join(within(t, patience), killswitch.Member{Proxy: "x"}, killswitch.MinLease)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := s.Watch(within(t, 4*patience))
	if err != nil {
		t.Fatal(err)
	}
	rev := set(t, s, "p", 0, 1)
	await(t, ch, "p")
	for _, i := range []int{0, 1} {
		if err := c.Members[i].Kill(); err != nil {
			t.Fatal(err)
		}
	}
	refuses(t, s, time.Second)
	eventually(t, "the end of the lease", func() bool { return !m.ValidUntil().After(time.Now()) })
	if err := c.Members[0].Restart(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AwaitLeader(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an answer", func() bool {
		_, _, err := s.Get(within(t, patience), "p")
		return err == nil
	})
	set(t, s, "p", rev, 2)
	await(t, ch, "p")
	eventually(t, "the registration", func() bool {
		ms, err := s.Members(within(t, patience))
		return err == nil && len(ms) == 1 && m.ValidUntil().After(time.Now())
	})
	if err := c.Members[1].Restart(within(t, patience)); err != nil {
		t.Fatal(err)
	}
}
