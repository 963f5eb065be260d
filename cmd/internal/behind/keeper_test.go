package behind_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/behind"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/dualwrite/journal"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/controltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pod backends.Pod = "pod"

var (
	key  = backends.Key{Shop: "s", Item: "a", Location: "l"}
	live = backends.Fence{Epoch: 3, Stage: backends.Live, Open: true, Filled: true, Alone: true}
)

// awayStore is a Redis that can be taken away.
type awayStore struct {
	*memstore.Store
	away atomic.Bool
}

var errAway = errors.Join(backends.ErrUnavailable, errors.New("away"))

func (s *awayStore) Apply(ctx context.Context, t backends.Token, asOf backends.Instant, es []backends.Entry) ([]backends.Applied, error) {
	if s.away.Load() {
		return nil, errAway
	}
	return s.Store.Apply(ctx, t, asOf, es)
}

func (s *awayStore) Admitted(ctx context.Context, t backends.Token, m bool) error {
	if s.away.Load() {
		return errAway
	}
	return s.Store.Admitted(ctx, t, m)
}

// rig is one pod of one proxy, without its loops.
type rig struct {
	t       *testing.T
	dir     string
	redis   *awayStore
	mysql   *memstore.Store
	control *controltest.Memory
	pod     *dualwrite.Pod
	keeper  *behind.Keeper
	journal *journal.Journal
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigWith(t, 0)
}

// newRigWith bounds MySQL's outbox.
func newRigWith(t *testing.T, outbox int) *rig {
	t.Helper()
	now := func() backends.Instant { return backends.Instant(time.Now().UnixMilli()) }
	r := &rig{
		t: t, dir: t.TempDir(), control: controltest.NewMemory(),
		redis: &awayStore{Store: memstore.New(memstore.Options{Side: backends.SideRedis, Clock: now})},
		mysql: memstore.New(memstore.Options{Side: backends.SideMySQL, Clock: now, OutboxMax: outbox}),
	}
	ctx := t.Context()
	for _, f := range []backends.Fence{{Epoch: 2, Stage: backends.Shadow, Open: true}, live} {
		for _, s := range []backends.Store{r.redis, r.mysql} {
			if _, err := s.Raise(ctx, f, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := r.control.CompareAndSet(ctx, pod, 0, killswitch.PodState{Pod: pod, Stage: live.Stage, Epoch: live.Epoch, Filled: true, Alone: true, Phase: killswitch.Serving}); err != nil {
		t.Fatal(err)
	}
	r.start("one")
	if _, err := r.pod.Restock(ctx, &backends.RestockRequest{OpID: "s", Key: key, Amount: 10}); err != nil {
		t.Fatal(err)
	}
	r.sweep()
	return r
}

// start is a start of the proxy's process, on the same disk.
func (r *rig) start(run string) {
	r.t.Helper()
	if r.journal != nil {
		if err := r.journal.Close(); err != nil {
			r.t.Fatal(err)
		}
	}
	var err error
	if r.journal, err = journal.Open(filepath.Join(r.dir, "journal"), run, 0); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.journal.Close() })
	r.keeper, err = behind.New(behind.Options{
		Pod: pod, Control: r.control, Clock: killswitch.SystemClock{}, Proxy: "p", Run: run, Lease: 100 * time.Millisecond, Calm: time.Millisecond, Answers: true, Journal: r.journal,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.pod = dualwrite.NewPod(pod, dualwrite.Stores{Redis: r.redis, MySQL: r.mysql}, dualwrite.Options{Lone: r.keeper, OpTimeout: time.Second})
	r.keeper.Bind(r.pod)
	if err := r.pod.Refresh(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) sweep() {
	r.t.Helper()
	if _, _, err := r.pod.SweepNow(r.t.Context(), 0); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) reserve(id string) error {
	d, err := r.pod.Reserve(r.t.Context(), &backends.ReserveRequest{ID: backends.HoldID(id), Shop: "s", TTL: time.Hour, Lines: []backends.Line{{Item: "a", Quantity: 1, Locations: []backends.Location{"l"}}}})
	if err == nil && d.Outcome != backends.OutcomeGranted {
		r.t.Fatalf("%s: %s", id, d.Outcome)
	}
	return err
}

// step lets the keeper step until the mark is as asked for, or a while has passed.
func (r *rig) step(want killswitch.Mark, within time.Duration) killswitch.Mark {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(within); ; <-tick.C {
		_ = r.keeper.Step(r.t.Context())
		st, _, err := r.control.Get(r.t.Context(), pod)
		if err != nil {
			r.t.Fatal(err)
		}
		r.keeper.Saw(st)
		have := killswitch.MarkUnknown
		if b := st.Behind(live.Epoch); b != nil {
			have = b.Mark
		}
		if have == want || time.Now().After(end) {
			return have
		}
	}
}

func (r *rig) inRedis(id string) bool {
	h, err := r.redis.Get(r.t.Context(), backends.HoldID(id))
	if err != nil {
		r.t.Fatal(err)
	}
	return h != nil
}

// TestAwayAndBack: what is answered without Redis is in the journal, and in Redis before the proxy leaves; then the journal is
// emptied.
func TestAwayAndBack(t *testing.T) {
	r := newRig(t)
	r.redis.away.Store(true)
	if err := r.reserve("h1"); err != nil {
		t.Fatal(err)
	}
	if r.keeper.Answered() != 1 || r.journal.Size() == 0 || !r.keeper.Away() {
		t.Fatalf("%d answers, %d bytes", r.keeper.Answered(), r.journal.Size())
	}
	if m := r.step(killswitch.Marked, time.Second); m != killswitch.Marked {
		t.Fatal(m)
	}
	r.redis.away.Store(false)
	if m := r.step(killswitch.MarkEnding, 5*time.Second); m != killswitch.MarkEnding || !r.inRedis("h1") {
		t.Fatalf("%s, in Redis: %v", m, r.inRedis("h1"))
	}
	// The entry is still in MySQL's outbox: the mark stays until a sweep has taken it.
	if m := r.step(killswitch.MarkUnknown, 200*time.Millisecond); m != killswitch.MarkEnding {
		t.Fatal("the mark is gone before MySQL's outbox was brought to Redis")
	}
	r.sweep()
	if m := r.step(killswitch.MarkUnknown, 5*time.Second); m != killswitch.MarkUnknown {
		t.Fatal(m)
	}
	if err := r.keeper.Step(t.Context()); err != nil || r.journal.Size() != 0 {
		t.Fatalf("%v, %d bytes", err, r.journal.Size())
	}
}

// TestNothingBeyondTheOutbox: what MySQL's full outbox has dropped is not answered without Redis, nor when it is asked for again:
// nobody would bring it there.
func TestNothingBeyondTheOutbox(t *testing.T) {
	r := newRigWith(t, 1)
	r.redis.away.Store(true)
	if err := r.reserve("h1"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds the hold
		if err := r.reserve("h2"); !errors.Is(err, backends.ErrUnavailable) {
			t.Fatalf("answered: %v", err)
		}
	}
	if r.keeper.Answered() != 1 {
		t.Errorf("%d answers", r.keeper.Answered())
	}
	r.redis.away.Store(false)
	if m := r.step(killswitch.MarkUnknown, 300*time.Millisecond); m != killswitch.MarkEnding {
		t.Errorf("the mark is %s although MySQL's outbox has dropped something", m)
	}
}

// TestBarred: a kill's bar ends answers at once. The proxy brings its journal to Redis, or says what Redis does not have.
func TestBarred(t *testing.T) {
	for _, away := range []bool{false, true} {
		r := newRig(t)
		r.redis.away.Store(true)
		if err := r.reserve("h1"); err != nil {
			t.Fatal(err)
		}
		r.redis.away.Store(away)
		ctx := t.Context()
		st, rev, err := r.control.Get(ctx, pod)
		if err != nil {
			t.Fatal(err)
		}
		st.RedisBehind.Mark, st.RedisBehind.Turn = killswitch.MarkBarred, rev
		if _, err := r.control.CompareAndSet(ctx, pod, rev, st); err != nil {
			t.Fatal(err)
		}
		if err := r.keeper.Step(ctx); err != nil {
			t.Fatal(err)
		}
		st, _, err = r.control.Get(ctx, pod)
		if b := st.Behind(live.Epoch); err != nil || b.Wait() != 0 || len(b.Holders) != 1 {
			t.Fatalf("it has not left: %+v, %v", b, err)
		}
		m, err := killswitch.ReadMissed(ctx, r.control, pod, live.Epoch, "one")
		switch {
		case err != nil:
			t.Fatal(err)
		case away && (m.Count != 1 || m.Units != 1 || m.States[0].Hold != "h1"):
			t.Errorf("it says %+v", m)
		case !away && (m.Count != 0 || !r.inRedis("h1")):
			t.Errorf("%+v, in Redis: %v", m, r.inRedis("h1"))
		}
		r.redis.away.Store(true)
		if err := r.reserve("h2"); !errors.Is(err, backends.ErrUnavailable) || r.keeper.Answered() != 1 {
			t.Errorf("answered although it is barred: %v", err)
		}
	}
}

// TestNextStartLeavesForTheLast: a process that has died with its permission is waited for by nobody once the next one has
// its journal.
func TestNextStartLeavesForTheLast(t *testing.T) {
	r := newRig(t)
	r.redis.away.Store(true)
	if err := r.reserve("h1"); err != nil {
		t.Fatal(err)
	}
	r.redis.away.Store(false)
	r.start("two")
	st, _, err := r.control.Get(t.Context(), pod)
	if err != nil || !st.Behind(live.Epoch).Holds("one") {
		t.Fatalf("%+v, %v", st, err)
	}
	r.keeper.Saw(st)
	if m := r.step(killswitch.MarkEnding, 5*time.Second); m != killswitch.MarkEnding || !r.inRedis("h1") {
		t.Fatalf("%s, in Redis: %v", m, r.inRedis("h1"))
	}
	if st, _, _ = r.control.Get(t.Context(), pod); st.Behind(live.Epoch).Wait() != 0 {
		t.Errorf("%+v", st.RedisBehind)
	}
}

// TestFencedIsNotAway: who is refused by Redis's fence is never answered without it, and one broken call marks nothing.
func TestFencedIsNotAway(t *testing.T) {
	r := newRig(t)
	if _, err := r.redis.Raise(t.Context(), backends.Fence{Epoch: 4, Stage: backends.Shadow, Open: true}, live.Epoch); err != nil {
		t.Fatal(err)
	}
	if err := r.reserve("h1"); err != nil {
		t.Fatal(err)
	}
	if r.keeper.Answered() != 0 || !r.inRedis("h1") {
		t.Error("a killed pod was answered by MySQL")
	}
	r = newRig(t)
	if err := r.keeper.Answer(t.Context(), live, nil); !errors.Is(err, backends.ErrUnavailable) || r.keeper.Away() {
		t.Errorf("Redis is there: %v", err)
	}
}
