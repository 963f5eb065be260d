package mysqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/go-sql-driver/mysql"
	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
)

// plea is what the combiner of these tests takes: a number in the order of arrival, and what decides
// who may travel together.
type plea struct {
	n, kind, weight int
	name            backends.HoldID
	err             error
	done            int // how often it was answered
}

func (p *plea) fail(err error) { p.err = err }

// hall is a combiner whose batches end when they are told to.
type hall struct {
	*combiner[*plea]
	mu     sync.Mutex
	under  [][]*plea // batches under way
	ended  [][]*plea
	most   int // batches under way at once
	end    chan struct{}
	flight []context.Context
}

func newHall(lanes, most, room int) *hall {
	h := &hall{end: make(chan struct{})}
	h.combiner = (&combiner[*plea]{
		lanes: lanes, most: most, room: room,
		alike:  func(a, b *plea) bool { return a.kind == b.kind },
		name:   func(p *plea) backends.HoldID { return p.name },
		weight: func(p *plea) int { return p.weight },
		run:    h.serve,
		left:   leftWriting,
	}).init()
	return h
}

func (h *hall) serve(ctx context.Context, ps []*plea) {
	h.mu.Lock()
	h.under = append(h.under, ps)
	h.flight = append(h.flight, ctx)
	h.most = max(h.most, len(h.under))
	h.mu.Unlock()
	select {
	case <-h.end:
	case <-ctx.Done():
	case <-h.ctx.Done(): // a closed store answers at once
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.under, func(b []*plea) bool { return &b[0] == &ps[0] })
	h.under = slices.Delete(h.under, i, i+1)
	h.ended = append(h.ended, ps)
	for _, p := range ps {
		p.done++
		p.err = errors.Join(ctx.Err(), h.ctx.Err())
	}
}

func (h *hall) underWay() [][]*plea {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.under)
}

// drawPlea draws one of few names, so that twins are common.
func drawPlea(rt *rapid.T, n int) *plea {
	return &plea{
		n: n, kind: rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(rt, "kind"), weight: rapid.IntRange(1, 6).Draw(rt, "weight"),
		name: backends.HoldID(fmt.Sprint(rapid.IntRange(0, 20).Draw(rt, "name"))),
	}
}

// expected is the next batch by the rule in words: the oldest who waits, and then each in the order of
// arrival who is alike, is no twin of one who comes along, and for whom there is still room.
func expected(queue []*plea, most, room int) (batch []*plea) {
	weight := 0
	for _, p := range queue {
		fits := len(batch) < most && weight+p.weight <= room && p.kind == queue[0].kind
		if len(batch) == 0 || fits && !slices.ContainsFunc(batch, func(q *plea) bool { return q.name == p.name }) {
			batch = append(batch, p)
			weight += p.weight
		}
	}
	return batch
}

// TestBatches: who waits goes in the order of arrival, in batches that keep to their bounds; twins and
// unlike ones never travel together; everybody is answered once, and no goroutine stays.
func TestBatches(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lanes, most, room := rapid.IntRange(1, 3).Draw(rt, "lanes"), rapid.IntRange(2, 6).Draw(rt, "most"), rapid.IntRange(4, 12).Draw(rt, "room")
		var ps []*plea
		for n := range rapid.IntRange(1, 40).Draw(rt, "asks") {
			ps = append(ps, drawPlea(rt, n))
		}
		var wrong error
		synctest.Test(t, func(t *testing.T) { wrong = playBatches(t, ps, lanes, most, room) })
		if wrong != nil {
			rt.Fatal(wrong)
		}
	})
}

func playBatches(t *testing.T, ps []*plea, lanes, most, room int) error {
	h := newHall(lanes, most, room)
	var callers sync.WaitGroup
	errs := make([]error, len(ps))
	for i, p := range ps {
		callers.Go(func() { errs[i] = h.do(t.Context(), p) })
		synctest.Wait() // so that they arrive in this order
	}
	// The first ones found a free lane each, and went alone.
	waiting := ps[min(lanes, len(ps)):]
	for i, b := range h.underWay() {
		if len(b) != 1 || b[0] != ps[i] {
			return fmt.Errorf("caller %d, who found a lane free, did not go alone and at once", i)
		}
	}
	for len(h.underWay()) > 0 {
		if n := int(h.queued()); n != len(waiting) {
			return fmt.Errorf("%d wait, want %d", n, len(waiting))
		}
		h.end <- struct{}{}
		synctest.Wait()
		if len(waiting) == 0 {
			continue
		}
		want := expected(waiting, most, room)
		b := h.underWay()
		if got := b[len(b)-1]; !slices.Equal(got, want) {
			return fmt.Errorf("of %s went %s, want %s", pleas(waiting), pleas(got), pleas(want))
		}
		waiting = slices.DeleteFunc(slices.Clone(waiting), func(p *plea) bool { return slices.Contains(want, p) })
	}
	callers.Wait()
	for _, p := range ps {
		if p.done != 1 {
			return fmt.Errorf("caller %d was answered %d times", p.n, p.done)
		}
	}
	if h.most > lanes {
		return fmt.Errorf("%d batches at once on %d lanes", h.most, lanes)
	}
	if b, m := h.batches.Load(), h.members.Load(); b != int64(len(h.ended)) || m != int64(len(ps)) {
		return fmt.Errorf("counted %d batches of %d, there were %d of %d", b, m, len(h.ended), len(ps))
	}
	h.close()
	return errors.Join(errs...)
}

func pleas(ps []*plea) (out string) {
	for _, p := range ps {
		out += fmt.Sprintf(" %d(name %s, kind %d, weight %d)", p.n, p.name, p.kind, p.weight)
	}
	return out
}

// TestLeaving: who goes away while he waits is not served, and changed nothing; who goes away under way
// may have been served, and the others of his batch go on until the last of them has left.
func TestLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(1, 10, 100)
		ctx := make([]context.Context, 4)
		leave := make([]context.CancelFunc, 4)
		errs := make([]error, 4)
		ps := make([]*plea, 4)
		var callers sync.WaitGroup
		for i := range ps {
			ps[i] = &plea{n: i, name: backends.HoldID(fmt.Sprint(i)), weight: 1}
			ctx[i], leave[i] = context.WithCancel(t.Context())
			callers.Go(func() { errs[i] = h.do(ctx[i], ps[i]) })
			synctest.Wait()
		}
		leave[2]() // 0 is under way, the others wait
		synctest.Wait()
		if !errors.Is(errs[2], backends.ErrUnavailable) || backends.IsAmbiguous(errs[2]) || !errors.Is(errs[2], context.Canceled) {
			t.Errorf("who left the queue is told %v", errs[2])
		}
		h.end <- struct{}{}
		synctest.Wait()
		if got := h.underWay(); len(got) != 1 || !slices.Equal(got[0], []*plea{ps[1], ps[3]}) {
			t.Fatalf("under way is %v", got)
		}
		leave[1]()
		synctest.Wait()
		if !backends.IsAmbiguous(errs[1]) || h.flight[1].Err() != nil {
			t.Errorf("who left under way is told %v; the flight of the other: %v", errs[1], h.flight[1].Err())
		}
		leave[3]()
		synctest.Wait()
		if !backends.IsAmbiguous(errs[3]) || h.flight[1].Err() == nil {
			t.Errorf("the last one is told %v, and the flight goes on", errs[3])
		}
		leave[0]() // long answered
		callers.Wait()
		if errs[0] != nil || ps[2].done != 0 {
			t.Errorf("the first is told %v; who left the queue was served %d times", errs[0], ps[2].done)
		}
		if err := h.do(ctx[0], &plea{}); !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("who comes with an ended context is told %v", err)
		}
		h.close()
	})
}

// TestClosing: everybody who waits or is under way is answered when the store is closed, and so is who
// comes later; then no lane is left.
func TestClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(2, 4, 100)
		ps := make([]*plea, 20)
		var callers sync.WaitGroup
		for i := range ps {
			ps[i] = &plea{n: i, name: backends.HoldID(fmt.Sprint(i % 3)), weight: 1}
			callers.Go(func() { _ = h.do(t.Context(), ps[i]) })
		}
		synctest.Wait()
		h.close()
		if n := len(h.underWay()); n != 0 {
			t.Errorf("%d batches are under way in a closed combiner", n)
		}
		callers.Wait()
		for i, p := range ps {
			if p.done != 1 || p.err == nil {
				t.Errorf("%d was answered %d times, with %v", i, p.done, p.err)
			}
		}
		late := &plea{}
		if err := h.do(t.Context(), late); err != nil || late.done != 1 || late.err == nil {
			t.Errorf("who came late was answered %d times, with %v, %v", late.done, late.err, err)
		}
	})
}

// failing stands in for the store's transactions: it fails for some members, as a server would.
type failing struct {
	mu       sync.Mutex
	bad      map[int]error
	whole    []error // answers to the next calls, whoever is in them
	calls    int
	waits    int // calls that met a lock
	answered map[int]int
}

func (f *failing) run(_ context.Context, ps []*plea) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	for _, p := range ps {
		p.err = nil
	}
	if len(f.whole) > 0 {
		err := f.whole[0]
		f.whole = f.whole[1:]
		return err
	}
	for _, p := range ps {
		if err := f.bad[p.n]; err != nil {
			if errors.Is(err, backends.ErrBusy) {
				f.waits++
			}
			return err
		}
	}
	for _, p := range ps {
		f.answered[p.n]++
	}
	return nil
}

var (
	errLocked    = fmt.Errorf("%w: lock wait", backends.ErrBusy)
	errTaken     = again(&mysql.MySQLError{Number: erDupEntry})
	errDamaged   = fmt.Errorf("%w: a row", backends.ErrDamaged)
	errDeadlock  = again(&mysql.MySQLError{Number: erLockDeadlock})
	errCut       = &againError{broken: true, cause: mysql.ErrInvalidConn}
	errFenced    = &backends.FencedError{Side: backends.SideMySQL}
	errAmbiguous = fmt.Errorf("%w: COMMIT", backends.ErrAmbiguous)
)

func newPleas(n int) []*plea {
	ps := make([]*plea, n)
	for i := range ps {
		ps[i] = &plea{n: i}
	}
	return ps
}

// TestHalves: of a batch that fails for some of its members exactly these fail, and the others are
// answered once. A lock that is not had is waited for with the batch, and then alone by whom it
// concerns; only after maxLocked of them are others asked to come again.
func TestHalves(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 130).Draw(rt, "members")
		f := &failing{bad: map[int]error{}, answered: map[int]int{}}
		locked := 0
		for range rapid.IntRange(0, 6).Draw(rt, "bad") {
			err := rapid.SampledFrom([]error{errLocked, errDamaged, errMoved}).Draw(rt, "error")
			f.bad[rapid.IntRange(0, n-1).Draw(rt, "who")] = err
		}
		for _, err := range f.bad {
			if errors.Is(err, backends.ErrBusy) {
				locked++
			}
		}
		ps := newPleas(n)
		var wrong error
		synctest.Test(t, func(t *testing.T) { wrong = f.play(t, ps, locked) })
		if wrong != nil {
			rt.Fatal(wrong)
		}
	})
}

func (f *failing) play(t *testing.T, ps []*plea, locked int) error {
	together(t.Context(), &Store{}, ps, f.run)
	for _, p := range ps {
		want := f.bad[p.n]
		if locked >= maxLocked && errors.Is(p.err, backends.ErrBusy) {
			continue
		}
		if (want == nil) != (p.err == nil) || !errors.Is(p.err, want) {
			wants := fmt.Sprintf("%v (bad: %v)", want, f.bad)
			return fmt.Errorf("member %d of %d should have been told %s: %w", p.n, len(ps), wants, p.err)
		}
		if want == nil && f.answered[p.n] != 1 {
			return fmt.Errorf("member %d was answered %d times", p.n, f.answered[p.n])
		}
	}
	const levels = 8 // of halves of 130
	if most := 1 + len(ps) + 2*levels*len(f.bad); f.calls > most {
		return fmt.Errorf("%d transactions for %d members of whom %d fail, want at most %d", f.calls, len(ps), len(f.bad), most)
	}
	// A lock can be met once more in each half that a member of another fault has cut off.
	if others := len(f.bad) - locked; f.waits > 2*locked+2*levels*min(others, 1)*locked {
		return fmt.Errorf("%d waits for %d locks", f.waits, locked)
	}
	return nil
}

// TestBlame: what is nobody's fault is tried again for all, and what concerns everybody is told to
// everybody, without trying each.
func TestBlame(t *testing.T) {
	for _, c := range []struct {
		name  string
		whole []error
		want  error // nil: all are answered
		calls int
	}{
		{"nothing is wrong", nil, nil, 1},
		{"a deadlock", []error{errDeadlock}, nil, 2},
		{"a connection that was dead", []error{errCut}, nil, 2},
		{"a COMMIT that turned out not to have happened", []error{again(errors.Join(errUndone, mysql.ErrInvalidConn))}, nil, 2},
		{"the connection is lost each time", []error{errCut, errCut}, backends.ErrUnavailable, 2},
		{"the fence", []error{errFenced}, errFenced, 1},
		{"the server is away", []error{undone(mysql.ErrInvalidConn)}, backends.ErrUnavailable, 1},
		{"a COMMIT in doubt", []error{errAmbiguous}, backends.ErrAmbiguous, 1},
		{"deadlock after deadlock", []error{errDeadlock, errDeadlock}, nil, 4}, // then in halves
		{"an id that was taken meanwhile", []error{errTaken}, nil, 3},          // halves, which see who has it
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &failing{whole: c.whole, answered: map[int]int{}}
			ps := newPleas(6)
			together(t.Context(), &Store{}, ps, f.run)
			for _, p := range ps {
				if !errors.Is(p.err, c.want) || (c.want == nil) != (p.err == nil) || c.want == nil && f.answered[p.n] != 1 {
					t.Errorf("%s: member %d was told %v (answered %d times), want %v", c.name, p.n, p.err, f.answered[p.n], c.want)
				}
				var ag *againError
				if errors.As(p.err, &ag) {
					t.Errorf("%s: a caller is asked to begin again: %v", c.name, p.err)
				}
			}
			if f.calls != c.calls {
				t.Errorf("%s: %d transactions, want %d", c.name, f.calls, c.calls)
			}
		})
	}
}

// TestClosedBetweenTries: a batch that waits to try again when the store is closed says that the store is
// away, in the port's words.
func TestClosedBetweenTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := &failing{answered: map[int]int{}}
		ps := newPleas(3)
		together(ctx, &Store{}, ps, func(ctx context.Context, ps []*plea) error {
			defer cancel()
			_ = f.run(ctx, ps)
			return errDeadlock
		})
		for _, p := range ps {
			if !errors.Is(p.err, backends.ErrUnavailable) {
				t.Errorf("told %v", p.err)
			}
		}
	})
}
