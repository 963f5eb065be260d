package storetest

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
)

var propertyParts = []part{
	{"as truth it answers as the reference does", propertyTruth},
	{"as mirror it ends where the truth is", propertyMirror},
}

// How many steps a sequence has: enough for stock, a few holds, and what becomes of them.
const minSteps, maxSteps = 10, 40

// reference is a memory model with a clock that moves by hand.
func (e *env) reference(t *testing.T, side backends.Side) (*rig, *backends.Instant) {
	t.Helper()
	clock := new(backends.Instant)
	*clock = 1_700_000_000_000
	s := memstore.New(memstore.Options{Side: side, Clock: func() backends.Instant { return *clock }})
	ctx := t.Context()
	return &rig{t: t, test: t, ctx: ctx, s: s, env: &env{h: e.h, side: side}}, clock
}

// duo is a store beside the reference, both the truth.
type duo struct {
	w     *world
	ref   *rig
	clock *backends.Instant
	got   *rig
}

// propertyTruth does random operations to both and wants equal answers, levels, holds and
// outboxes.
func propertyTruth(t *testing.T, e *env) {
	ref, clock := e.reference(t, e.side)
	got := e.bare(t, Options{})
	worlds, epoch := 0, uint64(firstEpoch)
	rapid.Check(t, func(rt *rapid.T) {
		worlds++
		m := &duo{w: newWorld(worlds), clock: clock, ref: ref.within(rt, t), got: got.within(rt, t)}
		turn := func() {
			epoch++
			stage := rapid.SampledFrom([]backends.Stage{e.dual(), e.dual(), e.alone()}).Draw(rt, "stage")
			for _, r := range []*rig{m.ref, m.got} {
				r.raise(backends.Fence{Epoch: epoch, Stage: stage, Open: true, Filled: true})
			}
		}
		turn()
		m.ref.drain()
		m.got.drain()
		for range rapid.IntRange(minSteps, maxSteps).Draw(rt, "steps") {
			switch rapid.IntRange(0, 19).Draw(rt, "step") {
			case 15:
				turn()
			case 16:
				m.lapse()
			case 17:
				m.got.settle()
			case 18:
				m.reemit(rt)
			default:
				m.both(m.w.draw(rt))
			}
		}
		m.compare()
	})
	got = got.within(t, t)
	got.conserved()
}

// within lets a rig report to another, with a context of its own: a property takes longer than a
// test.
func (r *rig) within(to fataler, t *testing.T) *rig {
	c := *r
	c.t, c.ctx = to, t.Context()
	return &c
}

// both does an action to both stores.
func (m *duo) both(a action) {
	m.got.t.Helper()
	want, got := a.run(m.ref), a.run(m.got)
	m.got.same("the answer to a "+a.name, want, got)
}

// lapse lets the short holds of both stores expire.
func (m *duo) lapse() {
	m.got.t.Helper()
	hs, err := m.got.s.GetMany(m.got.ctx, m.w.ids)
	m.got.ok(err, "GetMany")
	due := backends.Instant(0)
	for _, h := range hs {
		if h.State.Open() && h.ExpiresAt.Sub(m.got.now()) < longTTL/2 {
			due = max(due, h.ExpiresAt)
		}
	}
	m.got.pass(due)
	*m.clock = m.clock.Add(2 * brief)
	m.got.same("what expired", m.swept(m.ref), m.swept(m.got))
}

// swept expires what is due, and gives the decisions on this world.
func (m *duo) swept(r *rig) answer {
	r.t.Helper()
	ds := slices.DeleteFunc(r.expire(), func(d *backends.Decision) bool { return d.Hold.Shop != m.w.shop })
	return answer{Decisions: byID(ds)}.plain()
}

// reemit writes states again, where there is a shadow to read them.
func (m *duo) reemit(rt *rapid.T) {
	f, err := m.ref.s.Fence(m.ref.ctx)
	m.ref.ok(err, "Fence")
	if !f.Stage.Dual() {
		return
	}
	id := rapid.SampledFrom(m.w.ids).Draw(rt, "id")
	key := m.w.key(rt)
	m.both(action{"reemit", func(r *rig) (a answer, err error) {
		if a.N, err = r.s.Reemit(r.ctx, r.tok, []backends.HoldID{id}); err != nil {
			return a, err
		}
		// A key that is not there may be written or not: the reference does not.
		if ls, err := r.s.Levels(r.ctx, []backends.Key{key}); err != nil || len(ls) == 0 {
			return a, err
		}
		n, err := r.s.ReemitLevels(r.ctx, r.tok, []backends.Key{key})
		a.N += n
		return a, err
	}})
}

// stand is where a store stands at the end of a sequence.
type stand struct {
	Levels []backends.Level
	Holds  map[backends.HoldID]*backends.Hold
	Outbox []*backends.Entry
}

func (m *duo) stand(r *rig) stand {
	r.t.Helper()
	ls, err := r.s.Levels(r.ctx, m.w.keys)
	r.ok(err, "Levels")
	st := stand{Levels: sortedLevels(ls)}
	for _, l := range ls {
		if l.Imbalance() != 0 || l.Available < 0 || l.Unmaterialised < 0 && l.Available != 0 {
			r.t.Fatalf("level %+v breaks P2", l)
		}
	}
	st.Holds, err = r.s.GetMany(r.ctx, m.w.ids)
	r.ok(err, "GetMany")
	for id, h := range st.Holds {
		st.Holds[id] = plainHold(h)
	}
	for _, e := range r.drain() {
		if p := plainEntry(&e); p != nil && m.w.about(&e) {
			st.Outbox = append(st.Outbox, p)
		}
	}
	return st
}

// compare wants both stores to stand alike.
func (m *duo) compare() {
	m.got.t.Helper()
	want, got := m.stand(m.ref), m.stand(m.got)
	for _, st := range []*stand{&want, &got} {
		// A sweep ends holds in the order of their expiry, which the clocks of two stores may
		// see differently; the entries of one hold or key keep their order.
		slices.SortStableFunc(st.Outbox, func(a, b *backends.Entry) int { return compareSubject(a, b) })
	}
	m.got.same("where it stands", want, got)
}

func compareSubject(a, b *backends.Entry) int {
	x, y := subject(a), subject(b)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	default:
		return 0
	}
}

// subject names what an entry is about.
func subject(e *backends.Entry) string {
	if e.Hold != nil {
		return "hold " + string(e.Hold.ID)
	}
	return "level " + e.Level.Key.String()
}

// trio is a truth, the store under test as its mirror, and the reference as its mirror.
type trio struct {
	w      *world
	truth  *rig
	ref    *rig
	got    *rig
	unsent []backends.Entry
}

// propertyMirror lets a truth decide at random, delivers its entries in any order, some of them
// twice, and wants the mirror to answer as the reference does and to end where the truth is.
func propertyMirror(t *testing.T, e *env) {
	truth, clock := e.reference(t, e.side.Other())
	ref, refClock := e.reference(t, e.side)
	got := e.bare(t, Options{})
	worlds, epoch := 0, uint64(firstEpoch)
	rapid.Check(t, func(rt *rapid.T) {
		worlds++
		m := &trio{w: newWorld(worlds), truth: truth.within(rt, t), ref: ref.within(rt, t), got: got.within(rt, t)}
		turn := func() {
			epoch++
			for _, r := range []*rig{m.truth, m.ref, m.got} {
				r.raise(backends.Fence{Epoch: epoch, Stage: e.following(), Open: true, Filled: true})
			}
		}
		turn()
		m.truth.drain()
		for range rapid.IntRange(minSteps, maxSteps).Draw(rt, "steps") {
			switch rapid.IntRange(0, 19).Draw(rt, "step") {
			case 15:
				turn()
			case 16:
				*clock = clock.Add(2 * brief)
				m.truth.expire()
			case 8, 17, 18, 19:
				m.deliver(rt)
			default:
				m.w.draw(rt).run(m.truth)
			}
			*refClock = refClock.Add(time.Millisecond)
		}
		m.finish(rt)
	})
	got = got.within(t, t)
	got.conserved()
}

// deliver sends some of what is not sent yet to both mirrors, in any order.
func (m *trio) deliver(rt *rapid.T) {
	for _, e := range m.truth.drain() {
		if m.w.about(&e) {
			m.unsent = append(m.unsent, e)
		}
	}
	if len(m.unsent) == 0 {
		return
	}
	order := rapid.Permutation(m.unsent).Draw(rt, "order")
	n := rapid.IntRange(1, len(order)).Draw(rt, "entries")
	failed := m.send(order[:n])
	m.unsent = append(failed, order[n:]...)
	if again := rapid.IntRange(0, n).Draw(rt, "twice"); again > 0 {
		m.send(order[:again])
	}
}

// send applies a batch to both mirrors and gives the entries that must wait for an earlier one.
func (m *trio) send(batch []backends.Entry) (failed []backends.Entry) {
	m.got.t.Helper()
	results := [2][]backends.Applied{}
	for i, r := range []*rig{m.ref, m.got} {
		out, err := r.s.Apply(r.ctx, r.tok, r.now(), batch)
		r.ok(err, "Apply")
		results[i] = out
	}
	for i := range batch {
		want, got := plainApplied(results[0][i]), plainApplied(results[1][i])
		m.got.same("what became of "+batch[i].Op.String()+" of "+subject(&batch[i]), want, got)
		if want.Err != nil {
			failed = append(failed, batch[i])
		}
	}
	return failed
}

func plainApplied(a backends.Applied) backends.Applied {
	a.Own = plainOwn(a.Own)
	if !a.Changed {
		a.Debt = nil
	}
	return a
}

// finish sends the rest and compares with the truth.
func (m *trio) finish(rt *rapid.T) {
	m.got.t.Helper()
	m.deliver(rt)
	for rounds := 0; len(m.unsent) > 0; rounds++ {
		if rounds > worldHolds*len(kinds)*10 {
			m.got.t.Fatalf("%d entries are refused for ever: %+v", len(m.unsent), m.unsent)
		}
		m.unsent = m.send(rapid.Permutation(m.unsent).Draw(rt, "rest"))
	}
	m.agree()
}

// agree wants the mirror to be where the truth is.
func (m *trio) agree() {
	m.got.t.Helper()
	var levels [2][]backends.Level
	var holds [2]map[backends.HoldID]*backends.Hold
	for i, r := range []*rig{m.truth, m.got} {
		ls, err := r.s.Levels(r.ctx, m.w.keys)
		r.ok(err, "Levels")
		levels[i] = sortedLevels(ls)
		holds[i], err = r.s.GetMany(r.ctx, m.w.ids)
		r.ok(err, "GetMany")
	}
	m.got.same("levels of truth (-) and mirror (+)", levels[0], levels[1])
	m.got.same("holds of truth (-) and mirror (+)", holds[0], holds[1])
}
