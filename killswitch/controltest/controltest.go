package controltest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// patience bounds every wait for something that must come.
const patience = 20 * time.Second

// Open gives a handle on the same, at first empty, control store: two of them are two processes.
type Open func(tb testing.TB) killswitch.ControlStore

// Run checks a control store. fresh makes an empty one and answers how to open it.
func Run(t *testing.T, fresh func(t *testing.T) Open) {
	t.Helper()
	for _, c := range []struct {
		name string
		do   func(*testing.T, Open)
	}{
		{"round trip", roundTrip},
		{"compare and set", compareAndSet},
		{"one of many wins", contended},
		{"names", names},
		{"list", list},
		{"watch", watch},
		{"watch coalesces", watchCoalesces},
		{"history", history},
		{"acknowledgements", acks},
		{"acknowledgements are bounded", acksAreBounded},
		{"members", members},
		{"members renew and leave", renews},
		{"members expire", expires},
		{"members of one name", twins},
		{"documents", documents},
		{"cancelled", cancelled},
	} {
		t.Run(c.name, func(t *testing.T) { c.do(t, fresh(t)) })
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// Sample is a record with every field set, so that a store that drops one is found out.
func Sample(pod backends.Pod) killswitch.PodState {
	at := time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	gates := []killswitch.GateResult{{Name: "debt", Figure: "3", Bound: "at most 0", Forced: true}}
	steps := []killswitch.StepDone{{Name: "close Redis, shadow", TookMillis: 1.25, Note: "n"}}
	return killswitch.PodState{
		Pod: pod, Stage: backends.Shadow, Epoch: 7, Filled: true, Phase: killswitch.Switching, MaxEpoch: 9,
		Switch: &killswitch.Switch{
			ID: 8, Kind: killswitch.KindMove, From: backends.Shadow, To: backends.Live, FromEpoch: 7, FromFilled: true, Epoch: 8,
			RedisWas: backends.Fence{Epoch: 7, Stage: backends.Shadow, Open: true}, Step: 1, Name: "drain outbox of Redis",
			Undo: true, UndoEpoch: 9, UndoneAt: 1, Cause: "c", Lead: killswitch.Lead{Driver: "d#1", Beat: 4}, Started: at,
			Who: "ann", Why: "because", Gates: gates, Steps: steps,
		},
		Due: []killswitch.Work{killswitch.WorkSettle}, Worker: &killswitch.Lead{Driver: "d#2", Beat: 2},
		RedisBehind: &killswitch.RedisBehind{Epoch: 7, Since: at, Who: "bob"},
		Who:         "cid", Why: "x ≠ \"y\"", Since: at,
		History: []killswitch.Change{{
			Seq: 1, At: at, Kind: killswitch.KindKill, Outcome: killswitch.Done, From: backends.Live, To: backends.Shadow,
			FromEpoch: 6, Epoch: 7, Who: "w", Why: "y", Cause: "z", Gates: gates, Steps: steps,
		}},
	}
}

func roundTrip(t *testing.T, open Open) {
	ctx, a, b := within(t), open(t), open(t)
	st, rev, err := a.Get(ctx, "p")
	if err != nil || rev != 0 || !cmp.Equal(st, killswitch.PodState{}) {
		t.Fatalf("a pod without a record: %+v, %d, %v; want the zero state at 0", st, rev, err)
	}
	want := Sample("p")
	rev, err = a.CompareAndSet(ctx, "p", 0, want)
	if err != nil || rev <= 0 {
		t.Fatalf("creating: %d, %v", rev, err)
	}
	got, at, err := b.Get(ctx, "p")
	if err != nil || at != rev {
		t.Fatalf("through another handle: revision %d, %v; want %d", at, err, rev)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("a record came back changed (-want +got):\n%s", d)
	}
	got.Switch.Name, got.History[0].Who = "mine", "me"
	if again, _, _ := b.Get(ctx, "p"); again.Switch.Name == "mine" || again.History[0].Who == "me" {
		t.Fatal("what Get answers shares memory with the store")
	}
}

func compareAndSet(t *testing.T, open Open) {
	ctx, c := within(t), open(t)
	one, err := c.CompareAndSet(ctx, "p", 0, killswitch.PodState{Pod: "p", Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	two, err := c.CompareAndSet(ctx, "p", one, killswitch.PodState{Pod: "p", Epoch: 2})
	if err != nil || two <= one {
		t.Fatalf("second: revision %d after %d, %v", two, one, err)
	}
	for _, rev := range []killswitch.Revision{0, one, two + 1} {
		if _, err := c.CompareAndSet(ctx, "p", rev, killswitch.PodState{Pod: "p", Epoch: 99}); !errors.Is(err, killswitch.ErrConflict) {
			t.Errorf("at revision %d while at %d: %v, want ErrConflict", rev, two, err)
		}
	}
	if _, err := c.CompareAndSet(ctx, "q", 1, killswitch.PodState{}); !errors.Is(err, killswitch.ErrConflict) {
		t.Errorf("a pod without a record at revision 1: %v, want ErrConflict", err)
	}
	if st, rev, err := c.Get(ctx, "p"); err != nil || rev != two || st.Epoch != 2 {
		t.Errorf("after refused writes: epoch %d at %d, %v", st.Epoch, rev, err)
	}
}

func contended(t *testing.T, open Open) {
	ctx := within(t)
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for range writers {
		c := open(t)
		wg.Go(func() {
			for done := 0; done < each; {
				st, rev, err := c.Get(ctx, "p")
				if err != nil {
					t.Error(err)
					return
				}
				st.Pod = "p"
				st.Epoch++
				switch _, err := c.CompareAndSet(ctx, "p", rev, st); {
				case err == nil:
					done++
				case !errors.Is(err, killswitch.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if st, _, err := open(t).Get(ctx, "p"); err != nil || st.Epoch != writers*each {
		t.Fatalf("%d increments were kept of %d (%v)", st.Epoch, writers*each, err)
	}
}

func names(t *testing.T, open Open) {
	ctx, c := within(t), open(t)
	pods := []backends.Pod{"a", "A", "a/b", "..", ".", "%41", "a b", "a%2Fb", backends.Pod(strings.Repeat("~", backends.MaxIDLen))}
	for i, p := range pods {
		if _, err := c.CompareAndSet(ctx, p, 0, killswitch.PodState{Pod: p, Epoch: uint64(i + 1)}); err != nil { //nolint:gosec // small
			t.Fatalf("pod %q: %v", p, err)
		}
	}
	for i, p := range pods {
		if st, _, err := c.Get(ctx, p); err != nil || st.Pod != p || st.Epoch != uint64(i+1) { //nolint:gosec // small
			t.Errorf("pod %q came back as %q with epoch %d, %v", p, st.Pod, st.Epoch, err)
		}
	}
	var fe *backends.FieldError
	for _, p := range []backends.Pod{"", "é", backends.Pod(strings.Repeat("x", backends.MaxIDLen+1))} {
		if _, err := c.CompareAndSet(ctx, p, 0, killswitch.PodState{}); !errors.As(err, &fe) {
			t.Errorf("pod %q: %v, want a FieldError", p, err)
		}
	}
}

func list(t *testing.T, open Open) {
	ctx, c := within(t), open(t)
	if rs, err := c.List(ctx); err != nil || len(rs) != 0 {
		t.Fatalf("an empty store lists %v, %v", rs, err)
	}
	for _, p := range []backends.Pod{"b", "c", "a"} {
		if _, err := c.CompareAndSet(ctx, p, 0, killswitch.PodState{Pod: p}); err != nil {
			t.Fatal(err)
		}
	}
	rs, err := open(t).List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []backends.Pod
	for _, r := range rs {
		got = append(got, r.State.Pod)
		if r.Revision <= 0 {
			t.Errorf("pod %s is listed at revision %d", r.State.Pod, r.Revision)
		}
	}
	if d := cmp.Diff([]backends.Pod{"a", "b", "c"}, got); d != "" {
		t.Errorf("listed (-want +got):\n%s", d)
	}
}

func next(t *testing.T, ch <-chan backends.Pod) backends.Pod {
	t.Helper()
	select {
	case p, ok := <-ch:
		if !ok {
			t.Fatal("the watch was closed")
		}
		return p
	case <-time.After(patience):
		t.Fatal("the watch reported nothing")
	}
	return ""
}

func watch(t *testing.T, open Open) {
	ctx, c := within(t), open(t)
	rev, err := c.CompareAndSet(ctx, "old", 0, killswitch.PodState{Pod: "old"})
	if err != nil {
		t.Fatal(err)
	}
	wctx, stop := context.WithCancel(ctx)
	defer stop()
	ch, err := open(t).Watch(wctx)
	if err != nil {
		t.Fatal(err)
	}
	if p := next(t, ch); p != "old" {
		t.Fatalf("first report is of %q, want the pod that was there", p)
	}
	if _, err := c.CompareAndSet(ctx, "new", 0, killswitch.PodState{Pod: "new"}); err != nil {
		t.Fatal(err)
	}
	if p := next(t, ch); p != "new" {
		t.Fatalf("report of %q, want new", p)
	}
	if _, err := c.CompareAndSet(ctx, "old", rev, killswitch.PodState{Pod: "old", Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	if p := next(t, ch); p != "old" {
		t.Fatalf("report of %q, want old", p)
	}
	if err := c.Acknowledge(ctx, killswitch.Ack{Proxy: "x", Pod: "old", Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	stop()
	for range ch { //nolint:revive // until it is closed
		t.Error("an acknowledgement was reported as a change of the record")
	}
}

// watchCoalesces changes a pod many times while nobody receives; what is reported then is bounded, and
// the last change is among it.
func watchCoalesces(t *testing.T, open Open) {
	ctx, c := within(t), open(t)
	wctx, stop := context.WithCancel(ctx)
	defer stop()
	ch, err := open(t).Watch(wctx)
	if err != nil {
		t.Fatal(err)
	}
	const changes = 50
	var rev killswitch.Revision
	for i := range changes {
		if rev, err = c.CompareAndSet(ctx, "p", rev, killswitch.PodState{Pod: "p", Epoch: uint64(i + 1)}); err != nil { //nolint:gosec // small
			t.Fatal(err)
		}
	}
	reports := 0
	for {
		next(t, ch)
		reports++
		if st, _, err := c.Get(ctx, "p"); err != nil {
			t.Fatal(err)
		} else if st.Epoch == changes {
			break
		}
	}
	// One more may be on its way, of a change that was seen between the two.
	if rev, err = c.CompareAndSet(ctx, "q", 0, killswitch.PodState{Pod: "q"}); err != nil || rev <= 0 {
		t.Fatal(err)
	}
	for next(t, ch) != "q" {
		reports++
	}
	if reports > changes/2 {
		t.Errorf("%d reports of %d changes that nobody was receiving meanwhile", reports, changes)
	}
}

func history(t *testing.T, open Open) {
	ctx, c := within(t), open(t)
	change := func(seq uint64) killswitch.Change {
		ch := Sample("p").History[0]
		ch.Seq, ch.Why = seq, fmt.Sprintf("change %d", seq)
		return ch
	}
	if h, err := c.History(ctx, "p", 0, 10); err != nil || len(h) != 0 {
		t.Fatalf("a history that was never written: %v, %v", h, err)
	}
	for _, add := range [][]uint64{{1, 2}, {2, 3}, {1, 2, 3}, {5}} {
		var cs []killswitch.Change
		for _, s := range add {
			cs = append(cs, change(s))
		}
		if err := c.AppendHistory(ctx, "p", cs...); err != nil {
			t.Fatal(err)
		}
	}
	h, err := open(t).History(ctx, "p", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	want := []killswitch.Change{change(1), change(2), change(3), change(5)}
	if d := cmp.Diff(want, h); d != "" {
		t.Errorf("history (-want +got):\n%s", d)
	}
	if h, err = c.History(ctx, "p", 0, 2); err != nil || !cmp.Equal(h, want[2:]) {
		t.Errorf("the newest two are %v, %v", h, err)
	}
	if h, err = c.History(ctx, "p", 5, 2); err != nil || !cmp.Equal(h, want[1:3]) {
		t.Errorf("the two before change 5 are %v, %v", h, err)
	}
	if h, err = c.History(ctx, "p", 1, 2); err != nil || len(h) != 0 {
		t.Errorf("before the first: %v, %v", h, err)
	}
	if h, err = c.History(ctx, "other", 0, 2); err != nil || len(h) != 0 {
		t.Errorf("another pod's history: %v, %v", h, err)
	}
}

func acks(t *testing.T, open Open) {
	ctx, a, b := within(t), open(t), open(t)
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	put := func(c killswitch.ControlStore, proxy string, epoch uint64, age int) {
		t.Helper()
		err := c.Acknowledge(ctx, killswitch.Ack{Proxy: proxy, Pod: "p", Epoch: epoch, Stage: backends.Live, At: at.Add(-time.Duration(age) * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
	}
	put(a, "y", 1, 9)
	put(b, "x", 1, 8)
	put(b, "y", 2, 7)
	got, err := a.Acks(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	want := []killswitch.Ack{
		{Proxy: "x", Pod: "p", Epoch: 1, Stage: backends.Live, At: at.Add(-8 * time.Second)},
		{Proxy: "y", Pod: "p", Epoch: 2, Stage: backends.Live, At: at.Add(-7 * time.Second)},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("acknowledgements (-want +got):\n%s", d)
	}
	if err := a.Acknowledge(ctx, killswitch.Ack{Pod: "p"}); err == nil {
		t.Error("an acknowledgement of nobody was taken")
	}
}

func cancelled(t *testing.T, open Open) {
	c := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.CompareAndSet(ctx, "p", 0, killswitch.PodState{Pod: "p"}); err == nil {
		t.Error("a write under a cancelled context was done")
	}
	if _, _, err := c.Get(ctx, "p"); err == nil {
		t.Error("a read under a cancelled context was done")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

// documents are kept apart by name, replaced by compare-and-set alone, and bounded.
func documents(t *testing.T, open Open) {
	ctx := within(t)
	a, is := open(t).(killswitch.Documents)
	b, too := open(t).(killswitch.Documents)
	if !is || !too {
		t.Fatal("the control store keeps no documents")
	}
	body, rev, err := a.Document(ctx, "x")
	if err != nil || rev != 0 || len(body) != 0 {
		t.Fatalf("one that is not there: %q, %d, %v", body, rev, err)
	}
	one, err := a.SetDocument(ctx, "x", 0, []byte(`{"n":1,"s":"a"}`))
	if err != nil || one <= 0 {
		t.Fatalf("creating: %d, %v", one, err)
	}
	if body, rev, err = b.Document(ctx, "x"); err != nil || rev != one || string(body) != `{"n":1,"s":"a"}` {
		t.Fatalf("through another handle: %s, %d, %v", body, rev, err)
	}
	two, err := b.SetDocument(ctx, "x", one, []byte(`[2]`))
	if err != nil || two <= one {
		t.Fatalf("second: revision %d after %d, %v", two, one, err)
	}
	for _, old := range []killswitch.Revision{0, one, two + 1} {
		if _, err := a.SetDocument(ctx, "x", old, []byte(`[3]`)); !errors.Is(err, killswitch.ErrConflict) {
			t.Errorf("at revision %d while at %d: %v, want ErrConflict", old, two, err)
		}
	}
	if _, err := a.SetDocument(ctx, "X", 0, []byte(`4`)); err != nil {
		t.Errorf("another name: %v", err)
	}
	if body, rev, err = a.Document(ctx, "x"); err != nil || rev != two || string(body) != `[2]` {
		t.Errorf("afterwards: %s, %d, %v", body, rev, err)
	}
	var fe *backends.FieldError
	if _, _, err := a.Document(ctx, ""); !errors.As(err, &fe) {
		t.Errorf("a document without a name: %v", err)
	}
	if _, err := a.SetDocument(ctx, "x", two, []byte(`"`+strings.Repeat("x", killswitch.MaxDocument)+`"`)); !errors.As(err, &fe) {
		t.Errorf("one that is too large: %v", err)
	}
}
