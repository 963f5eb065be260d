package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Names that most tests use.
const (
	shop  backends.Shop     = "shop-1"
	mug   backends.Item     = "mug"
	lamp  backends.Item     = "lamp"
	east  backends.Location = "east"
	west  backends.Location = "west"
	north backends.Location = "north"
	// firstEpoch is the epoch of a fresh rig; not 1, so that an adapter cannot get by with it.
	firstEpoch = 5
	// longTTL is for holds that are not to expire within a test, shortTTL for those that are.
	longTTL  = time.Hour
	shortTTL = 20 * time.Millisecond
)

// fataler is what a rig reports to: a test, or one random sequence of a property.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
	Fatal(args ...any)
}

// rig is a store with an open fence.
type rig struct {
	t    fataler
	test *testing.T
	ctx  context.Context
	s    backends.Store
	tok  backends.Token
	env  *env
	ops  int
}

// open gives a rig in a stage.
func (e *env) open(t *testing.T, stage backends.Stage, opts Options) *rig {
	t.Helper()
	r := e.bare(t, opts)
	r.raise(backends.Fence{Epoch: firstEpoch, Stage: stage, Open: true, Filled: true})
	return r
}

// truth gives a rig that decides, in the dual stage of its side.
func (e *env) truth(t *testing.T) *rig {
	t.Helper()
	return e.open(t, e.dual(), Options{})
}

// mirror gives a rig that follows.
func (e *env) mirror(t *testing.T) *rig {
	t.Helper()
	return e.open(t, e.following(), Options{})
}

// bare gives a rig whose fence is missing.
func (e *env) bare(t *testing.T, opts Options) *rig {
	t.Helper()
	s := e.h.Open(t, e.side, opts)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	if got := s.Side(); got != e.side {
		t.Fatalf("Open gave a store of side %s, asked for %s", got, e.side)
	}
	return &rig{t: t, test: t, ctx: testContext(t), s: s, env: e}
}

// second gives another handle on the same data.
func (r *rig) second() *rig {
	r.t.Helper()
	o := r.env.bare(r.test, Options{Same: r.s})
	o.tok = r.tok
	return o
}

// raise moves the fence and serves under it.
func (r *rig) raise(f backends.Fence) {
	r.t.Helper()
	got, err := r.s.Raise(r.ctx, f, 0)
	r.ok(err, "Raise(%s)", f)
	if got != f {
		r.t.Fatalf("Raise(%s) answered %s", f, got)
	}
	r.tok = backends.Token{Epoch: f.Epoch}
}

// turn goes to the next epoch, in another stage.
func (r *rig) turn(stage backends.Stage) {
	r.t.Helper()
	r.raise(backends.Fence{Epoch: r.tok.Epoch + 1, Stage: stage, Open: true, Filled: true})
}

// ok fails the test on an error.
func (r *rig) ok(err error, what string, args ...any) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%s: %v", fmt.Sprintf(what, args...), err)
	}
}

// op gives a fresh operation id.
func (r *rig) op() backends.OpID {
	r.ops++
	return backends.OpID(fmt.Sprintf("op-%d", r.ops))
}

func key(item backends.Item, loc backends.Location) backends.Key {
	return backends.Key{Shop: shop, Item: item, Location: loc}
}

// line wants units of an item from locations (east when none is given).
func line(item backends.Item, quantity int64, locs ...backends.Location) backends.Line {
	if len(locs) == 0 {
		locs = []backends.Location{east}
	}
	return backends.Line{Item: item, Quantity: quantity, Locations: locs}
}

func splitLine(item backends.Item, quantity int64, locs ...backends.Location) backends.Line {
	l := line(item, quantity, locs...)
	l.Split = true
	return l
}

func request(id backends.HoldID, lines ...backends.Line) *backends.ReserveRequest {
	return &backends.ReserveRequest{ID: id, Shop: shop, Lines: lines, TTL: longTTL, Caller: "storetest"}
}

// stock sets the units on hand, through the truth or, on a mirror, by an entry.
func (r *rig) stock(item backends.Item, loc backends.Location, units int64) {
	r.t.Helper()
	f, err := r.s.Fence(r.ctx)
	r.ok(err, "Fence")
	if f.AdmitsMirror(r.tok, r.env.side) {
		r.apply(backends.Entry{Op: backends.OpRestock, Level: &backends.LevelChange{Key: key(item, loc), OpID: r.op(), OnHandDelta: units}})
		return
	}
	r.restock(&backends.RestockRequest{OpID: r.op(), Key: key(item, loc), Amount: units, Caller: "storetest"})
}

func (r *rig) restock(q *backends.RestockRequest) *backends.Decision {
	r.t.Helper()
	d, err := r.s.Restock(r.ctx, r.tok, q)
	r.ok(err, "Restock(%+v)", *q)
	r.outcome(d, backends.OpRestock, backends.OutcomeRestocked)
	return d
}

func (r *rig) outcome(d *backends.Decision, op backends.Op, want backends.Outcome) {
	r.t.Helper()
	switch {
	case d == nil:
		r.t.Fatalf("%s answered no decision and no error", op)
	case d.Op != op:
		r.t.Fatalf("the decision's Op is %s, want %s", d.Op, op)
	case d.Outcome != want:
		r.t.Fatalf("%s answered %s (short %+v), want %s", op, d.Outcome, d.Short, want)
	}
}

// reserve sends a request and wants the outcome.
func (r *rig) reserve(want backends.Outcome, q *backends.ReserveRequest) *backends.Decision {
	r.t.Helper()
	d, err := r.s.Reserve(r.ctx, r.tok, q)
	r.ok(err, "Reserve(%s)", q.ID)
	r.outcome(d, backends.OpReserve, want)
	return d
}

// grant reserves and wants it granted.
func (r *rig) grant(id backends.HoldID, lines ...backends.Line) *backends.Decision {
	r.t.Helper()
	return r.reserve(backends.OutcomeGranted, request(id, lines...))
}

func (r *rig) claim(want backends.Outcome, id backends.HoldID, lines ...backends.Line) *backends.Decision {
	r.t.Helper()
	d, err := r.s.Claim(r.ctx, r.tok, &backends.ClaimRequest{ID: id, Shop: shop, Lines: lines, Caller: "storetest"})
	r.ok(err, "Claim(%s)", id)
	r.outcome(d, backends.OpClaim, want)
	return d
}

func (r *rig) release(want backends.Outcome, id backends.HoldID) *backends.Decision {
	r.t.Helper()
	d, err := r.s.Release(r.ctx, r.tok, &backends.ReleaseRequest{ID: id, Caller: "storetest"})
	r.ok(err, "Release(%s)", id)
	r.outcome(d, backends.OpRelease, want)
	return d
}

func (r *rig) extend(want backends.Outcome, id backends.HoldID, ttl time.Duration) *backends.Decision {
	r.t.Helper()
	d, err := r.s.Extend(r.ctx, r.tok, &backends.ExtendRequest{ID: id, TTL: ttl, Caller: "storetest"})
	r.ok(err, "Extend(%s)", id)
	r.outcome(d, backends.OpExtend, want)
	return d
}

func (r *rig) count(item backends.Item, loc backends.Location, delta int64) *backends.CountResult {
	r.t.Helper()
	return r.countAs(r.op(), item, loc, delta)
}

func (r *rig) countAs(op backends.OpID, item backends.Item, loc backends.Location, delta int64) *backends.CountResult {
	r.t.Helper()
	res, err := r.s.Count(r.ctx, r.tok, &backends.CountRequest{OpID: op, Key: key(item, loc), Delta: delta, Caller: "storetest"})
	r.ok(err, "Count(%s, %+d)", item, delta)
	return res
}

func (r *rig) now() backends.Instant {
	r.t.Helper()
	now, err := r.s.Now(r.ctx)
	r.ok(err, "Now")
	return now
}

// pass waits until the store's clock is past an instant.
func (r *rig) pass(when backends.Instant) {
	r.t.Helper()
	r.until(fmt.Sprintf("the store's clock to pass %d", when), func() bool { return r.now() > when })
}

// until waits for a condition.
func (r *rig) until(what string, met func() bool) {
	r.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-r.ctx.Done():
			r.t.Fatalf("gave up waiting for %s", what)
		case <-tick.C:
		}
	}
}

// expire runs the sweeper until no hold is due.
func (r *rig) expire() []*backends.Decision {
	r.t.Helper()
	var all []*backends.Decision
	for {
		ds, err := r.s.Expire(r.ctx, r.tok, 100)
		r.ok(err, "Expire")
		all = append(all, ds...)
		if len(ds) < 100 {
			return all
		}
	}
}

// apply mirrors entries and wants each accepted.
func (r *rig) apply(entries ...backends.Entry) []backends.Applied {
	r.t.Helper()
	out, err := r.s.Apply(r.ctx, r.tok, r.now(), entries)
	r.ok(err, "Apply of %d entries", len(entries))
	if len(out) != len(entries) {
		r.t.Fatalf("Apply of %d entries answered %d results", len(entries), len(out))
	}
	for i := range out {
		r.ok(out[i].Err, "Apply of entry %d (%s)", i, entries[i].Op)
		if out[i].Seq != entries[i].Seq {
			r.t.Fatalf("result %d is about entry %q, want %q", i, out[i].Seq, entries[i].Seq)
		}
	}
	return out
}

func (r *rig) get(id backends.HoldID) *backends.Hold {
	r.t.Helper()
	h, err := r.s.Get(r.ctx, id)
	r.ok(err, "Get(%s)", id)
	return h
}

// state wants a hold to be there in a state.
func (r *rig) state(id backends.HoldID, want backends.State) *backends.Hold {
	r.t.Helper()
	h := r.get(id)
	if h == nil {
		r.t.Fatalf("hold %q is not there, want it %s", id, want)
	}
	if h.ID != id || h.State != want {
		r.t.Fatalf("hold %q is %s, want hold %q %s", h.ID, h.State, id, want)
	}
	return h
}

// pending lists the whole outbox.
func (r *rig) pending() []backends.Entry {
	r.t.Helper()
	const page = 500
	var all []backends.Entry
	after := ""
	for {
		es, err := r.s.Pending(r.ctx, after, 0, page)
		r.ok(err, "Pending after %q", after)
		all = append(all, es...)
		if len(es) < page {
			return all
		}
		after = es[len(es)-1].Seq
	}
}

// drain empties the outbox and answers what was in it.
func (r *rig) drain() []backends.Entry {
	r.t.Helper()
	es := r.pending()
	seqs := make([]string, len(es))
	for i, e := range es {
		seqs[i] = e.Seq
	}
	if len(seqs) == 0 {
		return nil
	}
	removed, err := r.s.Done(r.ctx, seqs)
	r.ok(err, "Done")
	if len(removed) != len(seqs) {
		r.t.Fatalf("Done removed %d of %d entries", len(removed), len(seqs))
	}
	return es
}

func (r *rig) stats() backends.OutboxStats {
	r.t.Helper()
	st, err := r.s.OutboxStats(r.ctx)
	r.ok(err, "OutboxStats")
	return st
}

// units is what a test says of a level; Sellable is what a reserve may draw on.
type units struct{ OnHand, Sellable, Held, Taken, Owed int64 }

// level reads one level, which must be there and balanced.
func (r *rig) level(k backends.Key) backends.Level {
	r.t.Helper()
	ls, err := r.s.Levels(r.ctx, []backends.Key{k})
	r.ok(err, "Levels(%s)", k)
	if len(ls) != 1 || ls[0].Key != k {
		r.t.Fatalf("Levels(%s) answered %+v, want that one level", k, ls)
	}
	l := ls[0]
	switch {
	case l.Imbalance() != 0:
		r.t.Fatalf("level %+v is out of balance by %d (P2)", l, l.Imbalance())
	case l.Available < 0:
		r.t.Fatalf("level %+v has a negative Available", l)
	case l.Unmaterialised < 0 && l.Available != 0:
		r.t.Fatalf("level %+v has debt and available units at once", l)
	}
	return l
}

// levelIs compares one level.
func (r *rig) levelIs(item backends.Item, loc backends.Location, want units) {
	r.t.Helper()
	l := r.level(key(item, loc))
	got := units{l.OnHand, l.Sellable(), l.Held, l.Taken, l.Owed}
	if d := cmp.Diff(want, got); d != "" {
		r.t.Fatalf("level %s (-want +got):\n%s", l.Key, d)
	}
}

// noLevel wants a key to be unknown.
func (r *rig) noLevel(k backends.Key) {
	r.t.Helper()
	ls, err := r.s.Levels(r.ctx, []backends.Key{k})
	r.ok(err, "Levels(%s)", k)
	if len(ls) != 0 {
		r.t.Fatalf("Levels(%s) answered %+v, want nothing", k, ls)
	}
}

// conserved wants P2 at every key.
func (r *rig) conserved() {
	r.t.Helper()
	broken, _, err := r.s.Conservation(r.ctx)
	r.ok(err, "Conservation")
	if len(broken) != 0 {
		r.t.Fatalf("P2 is broken at %+v", broken)
	}
}

// same compares values; nil and empty lists are one.
func (r *rig) same(what string, want, got any) {
	r.t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateErrors()); d != "" {
		r.t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}
