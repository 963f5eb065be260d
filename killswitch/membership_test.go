package killswitch_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// slowRegistrar answers each renewal after took, with err. The renewals are made by a goroutine of the registration's own.
type slowRegistrar struct {
	mu      sync.Mutex
	took    time.Duration
	err     error
	sent    []time.Time
	removed int
}

func (r *slowRegistrar) Renew(ctx context.Context) error {
	r.mu.Lock()
	r.sent = append(r.sent, time.Now())
	took := r.took
	r.mu.Unlock()
	select {
	case <-time.After(took):
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *slowRegistrar) Remove(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removed++
	return nil
}

// set changes what the next answers are, and after how long they come.
func (r *slowRegistrar) set(took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took, r.err = took, err
}

// saw tells when the last renewal was sent, how many were, and how often it was removed.
func (r *slowRegistrar) saw() (last time.Time, sent, removed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[len(r.sent)-1], len(r.sent), r.removed
}

func (r *slowRegistrar) count() int   { _, n, _ := r.saw(); return n }
func (r *slowRegistrar) removes() int { _, _, n := r.saw(); return n }

// A lease counts from the sending: what the answer took has gone by already.
func TestLeaseCountsFromSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl, took = 4 * time.Second, 500 * time.Millisecond
		r := &slowRegistrar{took: took}
		m, err := killswitch.Register(t.Context(), killswitch.SystemClock{}, ttl, r)
		if err != nil {
			t.Fatal(err)
		}
		elapse(3 * took / 2) // the instants of looking are between an answer and the next sending
		for range 3 {
			last, _, _ := r.saw()
			if want := last.Add(ttl); !m.ValidUntil().Equal(want) {
				t.Errorf("valid until %s, want a lease after the sending, %s", m.ValidUntil(), want)
			}
			elapse(ttl / killswitch.RenewShare)
		}
		if err := m.Leave(t.Context()); err != nil || r.removes() != 1 || !m.ValidUntil().IsZero() {
			t.Errorf("left: %v, removed %d times, valid until %s", err, r.removes(), m.ValidUntil())
		}
	})
}

// While renewals fail the lease runs out, and the first that succeeds brings it back.
func TestLeaseComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 4 * time.Second
		r := &slowRegistrar{}
		m, err := killswitch.Register(t.Context(), killswitch.SystemClock{}, ttl, r)
		if err != nil {
			t.Fatal(err)
		}
		until := m.ValidUntil()
		r.set(0, killswitch.ErrControlUnavailable)
		elapse(2 * ttl)
		synctest.Wait()
		if !m.ValidUntil().Equal(until) {
			t.Errorf("renewals that failed moved the end of the lease from %s to %s", until, m.ValidUntil())
		}
		r.set(0, nil)
		elapse(ttl)
		synctest.Wait()
		if !m.ValidUntil().After(time.Now()) {
			t.Errorf("valid until %s at %s, although renewals succeed again", m.ValidUntil(), time.Now())
		}
		r.set(time.Hour, nil) // a control store that has stalled
		n := r.count()
		elapse(ttl)
		synctest.Wait()
		if r.count() < n+2 {
			t.Errorf("%d renewals were tried in a lease in which none was answered", r.count()-n)
		}
		m.Abandon()
		if r.removes() != 0 || !m.ValidUntil().IsZero() {
			t.Errorf("abandoned: removed %d times, valid until %s", r.removes(), m.ValidUntil())
		}
	})
}

func TestLeaseLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &slowRegistrar{}
		m, err := killswitch.Register(t.Context(), killswitch.SystemClock{}, time.Second, r)
		if err != nil {
			t.Fatal(err)
		}
		r.set(0, killswitch.ErrReplaced)
		<-m.Lost()
		n := r.count()
		elapse(10 * time.Second)
		if !m.ValidUntil().IsZero() || r.count() != n {
			t.Errorf("after the loss: valid until %s, %d more renewals", m.ValidUntil(), r.count()-n)
		}
		if err := m.Leave(t.Context()); err != nil || r.removes() != 0 {
			t.Errorf("leaving what another has: %v, removed %d times", err, r.removes())
		}
	})
	r := &slowRegistrar{err: killswitch.ErrControlUnavailable}
	if _, err := killswitch.Register(t.Context(), killswitch.SystemClock{}, time.Second, r); !errors.Is(err, killswitch.ErrControlUnavailable) {
		t.Errorf("the first renewal failed: %v", err)
	}
}

// Status shows who has registered for the pod, whether or not he has acknowledged an epoch.
func TestStatusShowsRegistered(t *testing.T) {
	at := backends.Fence{Epoch: 5, Stage: backends.Live, Filled: true, Open: true}
	view := killswitch.View{Known: true, Fence: at}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	st := killswitch.PodState{Pod: "p", Stage: backends.Live, Epoch: 5, Filled: true, Phase: killswitch.Serving}
	f := killswitch.Fleet{
		Acks: []killswitch.Ack{{Proxy: "b", Pod: "p", Epoch: 5, Stage: backends.Live, At: now}, {Proxy: "d", Pod: "p", Epoch: 4, Stage: backends.Shadow, At: now}},
		Members: []killswitch.Member{
			{Proxy: "a", Pods: []backends.Pod{"o", "p"}}, {Proxy: "b", Addr: "h:1", Pods: []backends.Pod{"p"}}, {Proxy: "c", Pods: []backends.Pod{"o"}},
		},
	}
	s := killswitch.BuildStatus("p", killswitch.Seen{State: st, Redis: view, MySQL: view}, nil, f, now)
	var got []string
	for _, p := range s.Proxies {
		got = append(got, p.Proxy)
	}
	if want := []string{"a", "b", "d"}; !slices.Equal(got, want) {
		t.Fatalf("proxies %q, want %q", got, want)
	}
	a, b, d := s.Proxies[0], s.Proxies[1], s.Proxies[2]
	if !a.Registered || a.Current || a.Silent || a.Epoch != 0 {
		t.Errorf("registered without an acknowledgement: %+v", a)
	}
	if !b.Registered || !b.Current || b.Addr != "h:1" {
		t.Errorf("registered, with one: %+v", b)
	}
	if d.Registered || d.Current {
		t.Errorf("acknowledged, not registered: %+v", d)
	}
	if want := "2 of 3 proxies have not acknowledged epoch 5"; !slices.Contains(s.Notes, want) {
		t.Errorf("notes %q, want %q among them", s.Notes, want)
	}
}
