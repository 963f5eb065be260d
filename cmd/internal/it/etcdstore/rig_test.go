package etcdstore_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/etcdstore"
)

// patience bounds every wait for something that must come.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(m)) }

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func open(tb testing.TB, prefix string, endpoints ...string) *etcdstore.Store {
	tb.Helper()
	s, err := etcdstore.Open(etcdstore.Options{Endpoints: endpoints, Prefix: prefix})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// single is a store on the etcd that the tests share, under a prefix of the test's own.
func single(t *testing.T) *etcdstore.Store {
	t.Helper()
	e := lab.ForTest(t, lab.Etcd)
	return open(t, "/"+e.NewPrefix(t)+"/", e.Addr())
}

func set(t *testing.T, s killswitch.ControlStore, pod backends.Pod, rev killswitch.Revision, epoch uint64) killswitch.Revision {
	t.Helper()
	got, err := s.CompareAndSet(within(t, patience), pod, rev, killswitch.PodState{Pod: pod, Epoch: epoch})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// eventually looks again and again until done.
func eventually(t *testing.T, what string, done func() bool) time.Duration {
	t.Helper()
	const pause = 10 * time.Millisecond
	began := time.Now()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !done() {
		if time.Since(began) > patience {
			t.Fatalf("%s did not come within %s", what, patience)
		}
		<-tick.C
	}
	return time.Since(began)
}

// await returns when the watch reports the pod.
func await(t *testing.T, ch <-chan backends.Pod, pod backends.Pod) {
	t.Helper()
	end := time.After(patience)
	for {
		select {
		case p, ok := <-ch:
			if !ok {
				t.Fatal("the watch was closed")
			}
			if p == pod {
				return
			}
		case <-end:
			t.Fatalf("a change of %s was not reported within %s", pod, patience)
		}
	}
}
