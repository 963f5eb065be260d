package killswitch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	markPod   backends.Pod = "pod"
	markLease              = 10 * time.Second
)

// handClock moves only when it is told to. A tick comes at once.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *handClock) Tick(d time.Duration) (<-chan time.Time, func()) {
	c.pass(d)
	ch := make(chan time.Time, 1)
	ch <- c.Now()
	return ch, func() {}
}

// slowControl is a record whose answers take their time, and may be lost although they were written.
type slowControl struct {
	ControlStore
	clock *handClock
	state PodState
	rev   Revision
	// answer is how long each answer is under way; lose loses the next, late leaves the next compare-and-set for later.
	answer     time.Duration
	lose, late bool
	ghost      func()
}

var errLost = errors.New("the answer was lost")

func (c *slowControl) Get(context.Context, backends.Pod) (PodState, Revision, error) {
	st, rev := c.state.Clone(), c.rev
	c.clock.pass(c.answer)
	if c.lose {
		c.lose = false
		return PodState{}, 0, errLost
	}
	return st, rev, nil
}

func (c *slowControl) CompareAndSet(_ context.Context, _ backends.Pod, rev Revision, next PodState) (Revision, error) {
	do := func() error {
		if rev != c.rev {
			return ErrConflict
		}
		c.state, c.rev = next.Clone(), rev+1
		return nil
	}
	if c.late {
		c.late = false
		c.ghost = func() { _ = do() }
		return 0, errLost
	}
	err := do()
	at := c.rev
	c.clock.pass(c.answer)
	if c.lose {
		c.lose = false
		return 0, errLost
	}
	return at, err
}

func (c *slowControl) AppendHistory(context.Context, backends.Pod, ...Change) error { return nil }

func newMarks(answer time.Duration) *slowControl {
	c := &slowControl{clock: &handClock{now: time.Unix(1_000_000, 0)}, rev: 1, answer: answer}
	c.state = PodState{Pod: markPod, Stage: backends.Live, Epoch: 5, Filled: true, Alone: true, Phase: Serving}
	return c
}

func (c *slowControl) permit(run string) *Permit {
	return NewPermit(PermitOptions{Pod: markPod, Control: c, Clock: c.clock, Proxy: "proxy-" + run, Run: run, Lease: markLease})
}

// TestPermissionCountsFromSending: a permission is over a lease after the request was sent that it rests on, however long the
// answer took.
func TestPermissionCountsFromSending(t *testing.T) {
	c := newMarks(3 * time.Second)
	p := c.permit("a")
	sent := c.clock.Now()
	if err := p.Obtain(t.Context(), 5); err != nil || !p.Valid(5) || p.Valid(4) {
		t.Fatalf("%v, %v", err, p.Valid(5))
	}
	c.clock.pass(sent.Add(markLease).Sub(c.clock.Now()) - time.Nanosecond)
	if !p.Valid(5) {
		t.Error("it was over too soon")
	}
	c.clock.pass(time.Nanosecond)
	if p.Valid(5) {
		t.Error("a permission by Obtain outlives its lease")
	}
	sent = c.clock.Now()
	if _, err := p.Renew(t.Context()); err != nil || !p.Valid(5) {
		t.Fatalf("%v", err)
	}
	c.clock.pass(sent.Add(markLease).Sub(c.clock.Now()))
	if p.Valid(5) {
		t.Error("a permission by Renew outlives its lease")
	}
}

// TestMarkIsRefused names each reason.
func TestMarkIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*PodState){
		"a switch is open":                  func(s *PodState) { s.Switch = &Switch{} },
		"the pod is at epoch 6":             func(s *PodState) { s.Epoch = 6 },
		"this epoch does not allow it":      func(s *PodState) { s.Alone = false },
		"a kill has barred it until":        func(s *PodState) { s.RedisBehind = &RedisBehind{Epoch: 5, Mark: MarkBarred} },
		"this epoch does not allow it (ii)": func(s *PodState) { s.Filled = false },
	} {
		c := newMarks(0)
		spoil(&c.state)
		p := c.permit("a")
		err := p.Obtain(t.Context(), 5)
		var me *MarkError
		if !errors.As(err, &me) || !errors.Is(err, backends.ErrUnavailable) || p.Valid(5) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBarOfALostRecord: a record that does not lead to the epoch may have lost a mark, so a kill waits for the longest lease.
func TestBarOfALostRecord(t *testing.T) {
	for name, v := range map[string]struct {
		st   PodState
		wait bool
	}{
		"the epoch's own record":     {PodState{Epoch: 5}, false},
		"no record":                  {PodState{}, true},
		"an old record":              {PodState{Epoch: 3}, true},
		"a switch that leads there":  {PodState{Epoch: 4, Switch: &Switch{Epoch: 5}}, false},
		"a switch that was undone":   {PodState{Epoch: 3, Switch: &Switch{Epoch: 4, UndoEpoch: 5}}, false},
		"a switch to somewhere else": {PodState{Epoch: 2, Switch: &Switch{Epoch: 3}}, true},
	} {
		if err := v.st.bar(5, "me", 7, time.Unix(0, 0)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b := v.st.Behind(5)
		if b.Mark != MarkBarred || b.Turn != 7 || v.wait != (b.Wait() > MaxLease) || v.wait != b.Answered {
			t.Errorf("%s: %+v", name, b)
		}
	}
	st := PodState{Pod: markPod, Epoch: 6}
	if err := st.bar(5, "me", 7, time.Unix(0, 0)); !errors.Is(err, ErrConflict) {
		t.Errorf("a kill of an epoch that is over: %v", err)
	}
}

// TestLeavingThatLandsLater: whoever asks again after a leaving whose outcome is not known enters anew, so that the leaving
// cannot take effect behind him.
func TestLeavingThatLandsLater(t *testing.T) {
	c := newMarks(0)
	p := c.permit("a")
	none := func(context.Context) error { return nil }
	if err := p.Obtain(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	c.late = true
	if err := p.Leave(t.Context(), 5, "a", none); !errors.Is(err, errLost) || p.Valid(5) {
		t.Fatalf("%v", err)
	}
	if _, err := p.Renew(t.Context()); err != nil || p.Valid(5) {
		t.Fatalf("who may have left renews: %v", err)
	}
	if err := p.Obtain(t.Context(), 5); err != nil || !p.Valid(5) {
		t.Fatal(err)
	}
	c.ghost()
	if b := c.state.Behind(5); !b.Holds("a") {
		t.Errorf("it has a permission, and is not among the holders: %+v", b)
	}
}

// TestNoPermissionBehindAMark: what reads that the mark is ending or barred, or that it is not among the holders, has no
// permission any more.
func TestNoPermissionBehindAMark(t *testing.T) {
	for name, change := range map[string]func(*PodState){
		"ending":   func(s *PodState) { s.RedisBehind.Mark = MarkEnding },
		"barred":   func(s *PodState) { s.RedisBehind.Mark = MarkBarred },
		"gone":     func(s *PodState) { s.RedisBehind = nil },
		"left":     func(s *PodState) { s.leave(5, "a") },
		"moved on": func(s *PodState) { s.Epoch = 6 },
	} {
		c := newMarks(0)
		p := c.permit("a")
		if err := p.Obtain(t.Context(), 5); err != nil || !p.Valid(5) {
			t.Fatal(err)
		}
		change(&c.state)
		if _, err := p.Renew(t.Context()); err != nil || p.Valid(5) {
			t.Errorf("%s: it has a permission (%v)", name, err)
		}
	}
}

// fakeCarry is MySQL as a kill reaches it.
type fakeCarry struct {
	stay             Missing
	outbox, list     error
	missing, missed  Missing
	passes, listings int
}

func (c *fakeCarry) Outbox(context.Context, backends.Fence) (Missing, error) {
	c.passes++
	return c.stay, c.outbox
}

func (c *fakeCarry) Outstanding(context.Context) (Missing, error) {
	c.listings++
	return c.missing, c.list
}

func (c *fakeCarry) Missed(context.Context, uint64, Holder) (Missing, error) { return c.missed, nil }

// aloneRedis is a fence.
type aloneRedis struct {
	f      backends.Fence
	raised func()
}

func (r *aloneRedis) Fence(context.Context) (backends.Fence, error) { return r.f, nil }

func (r *aloneRedis) Raise(_ context.Context, f backends.Fence, _ uint64) (backends.Fence, error) {
	if r.raised != nil {
		r.raised()
	}
	r.f = f
	return f, nil
}

// TestKillOfAMarkedPod: it waits for those who do not leave, says what Redis does not have, and claims completeness only when
// Redis has taken what MySQL's outbox had.
func TestKillOfAMarkedPod(t *testing.T) {
	away := errors.New("MySQL is away")
	one := func(id backends.HoldID) (m Missing) {
		m.Add(MissingState{Hold: id, State: backends.Held, Units: []backends.Units{{Quantity: 2}}})
		return m
	}
	for name, v := range map[string]struct {
		carry    fakeCarry
		complete bool
		missing  Missing
		why      bool
	}{
		"all is brought":                 {fakeCarry{}, true, Missing{}, false},
		"some stay":                      {fakeCarry{stay: one("h")}, false, one("h"), false},
		"not to the end, but listed":     {fakeCarry{outbox: away, missing: one("h")}, false, one("h"), false},
		"MySQL is away, its holders say": {fakeCarry{outbox: away, list: away, missed: one("j")}, false, one("j"), true},
	} {
		c := newMarks(0)
		p := c.permit("a")
		if err := p.Obtain(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
		redis := &aloneRedis{f: c.state.Fence()}
		redis.raised = func() {
			if p.Valid(5) {
				t.Errorf("%s: Redis decides while a proxy has a permission", name)
			}
		}
		began := c.clock.Now()
		res, err := Kill(t.Context(), redis, c, c.clock, KillRequest{Pod: markPod, Who: "me", Why: "test", Carry: &v.carry})
		b := res.Behind
		if err != nil || b == nil || !b.Marked || b.Complete != v.complete || b.Why != "" != v.why || len(b.NotAsked) != 1 || res.To.Alone == v.complete || res.To.Stage != backends.Shadow {
			t.Fatalf("%s: %v, %+v, %+v", name, err, res, b)
		}
		if diff := fmt.Sprint(b.Missing) != fmt.Sprint(v.missing); diff {
			t.Errorf("%s: missing %+v", name, b.Missing)
		}
		if waited := c.clock.Now().Sub(began); waited < markLease || waited > markLease+time.Second {
			t.Errorf("%s: it waited %s", name, waited)
		}
		if c.state.RedisBehind != nil || c.state.Stage != backends.Shadow || c.state.Alone == v.complete {
			t.Errorf("%s: the record is %+v", name, c.state)
		}
	}
}

// TestKillThatNeedNotWait: of a pod that is not marked, and of one all of whose holders have left. A dry run says so and does
// nothing; without the control store it is refused.
func TestKillThatNeedNotWait(t *testing.T) {
	c := newMarks(0)
	redis := &aloneRedis{f: c.state.Fence()}
	r := KillRequest{Pod: markPod, Who: "me", Why: "test", DryRun: true, Carry: &fakeCarry{}}
	began := c.clock.Now()
	res, err := Kill(t.Context(), redis, c, c.clock, r)
	if err != nil || res.Behind == nil || res.Behind.Marked || c.rev != 1 || redis.f.Epoch != 5 {
		t.Fatalf("dry run: %+v, %v", res, err)
	}
	p := c.permit("a")
	if err := p.Obtain(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	res, err = Kill(t.Context(), redis, c, c.clock, r)
	if err != nil || !res.Behind.Marked || res.Behind.WaitMillis < 10_000 || !p.Valid(5) || redis.f.Epoch != 5 {
		t.Fatalf("dry run of a marked pod: %+v, %v", res, err)
	}
	r.DryRun = false
	var refused *KillRefusedError
	if _, err = Kill(t.Context(), redis, nil, c.clock, r); !errors.As(err, &refused) || redis.f.Epoch != 5 {
		t.Fatalf("without a control store: %v", err)
	}
	if err := p.Leave(t.Context(), 5, "a", func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	res, err = Kill(t.Context(), redis, c, c.clock, r)
	if err != nil || !res.Behind.Complete || redis.f.Epoch != 6 || c.clock.Now().Sub(began) > time.Second {
		t.Fatalf("%+v, %v", res, err)
	}
}

// TestNobodyHasAPermission plays marks, leavings, ends and kills in any order, with answers that are lost and writes that land
// late. Whoever may conclude that nobody has a permission is right.
func TestNobodyHasAPermission(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		c := newMarks(time.Duration(rapid.IntRange(0, 4000).Draw(t, "answer")) * time.Millisecond)
		ps := map[string]*Permit{"a": c.permit("a"), "b": c.permit("b"), "c": c.permit("c")}
		some := func() (string, *Permit) {
			n := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "who")
			return n, ps[n]
		}
		// sighting: since when the record was seen without permissions to be had.
		type sight struct {
			turn Revision
			at   time.Time
		}
		seen := map[string]sight{}
		nobody := func(why string) {
			for n, p := range ps {
				if p.Valid(5) {
					t.Fatalf("%s has a permission although %s: %+v", n, why, c.state.RedisBehind)
				}
			}
		}
		conclude := func(by string) {
			st, _, err := c.Get(ctx, markPod)
			b := st.Behind(5)
			if err != nil || b == nil || b.Mark == Marked {
				delete(seen, by)
				return
			}
			if s := seen[by]; s.turn != b.Turn {
				seen[by] = sight{b.Turn, c.clock.Now()}
			}
			if c.clock.Now().Sub(seen[by].at) >= b.Wait() && c.state.Behind(5) != nil && c.state.Behind(5).Turn == b.Turn {
				nobody(fmt.Sprintf("%s has waited %s", by, b.Wait()))
				if b.Mark == MarkEnding && rapid.Bool().Draw(t, "unmark") {
					_, _ = Unmark(ctx, c, markPod, 5, b.Turn)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"obtain": func(*rapid.T) { _, p := some(); _ = p.Obtain(ctx, 5) },
			"renew":  func(*rapid.T) { _, p := some(); _, _ = p.Renew(ctx) },
			"leave": func(*rapid.T) {
				n, p := some()
				_ = p.Leave(ctx, 5, n, func(context.Context) error { return nil })
			},
			"end": func(*rapid.T) {
				if b := c.state.Behind(5); b != nil {
					_, _ = EndMark(ctx, c, markPod, 5, b.Turn, func(Holder) bool { return false })
				}
			},
			"bar": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "seldom") == 0 {
					_, _ = revise(ctx, c, markPod, func(s *PodState, rev Revision) (bool, error) { return true, s.bar(5, "k", rev, c.clock.Now()) })
				}
			},
			"look":  func(*rapid.T) { conclude("x") },
			"look2": func(*rapid.T) { conclude("y") },
			"pass":  func(t *rapid.T) { c.clock.pass(time.Duration(rapid.IntRange(0, 12).Draw(t, "s")) * time.Second) },
			"lose":  func(*rapid.T) { c.lose = true },
			"late":  func(*rapid.T) { c.late = true },
			"ghost": func(*rapid.T) {
				if c.ghost != nil {
					c.ghost()
					c.ghost = nil
				}
			},
			"": func(*rapid.T) {
				for n, p := range ps {
					if b := c.state.Behind(5); p.Valid(5) && !b.Holds(n) {
						t.Fatalf("%s has a permission and is not among the holders: %+v", n, b)
					}
				}
			},
		})
	})
}
