package storetest

import (
	"errors"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

var fenceParts = []part{
	{"a missing fence is closed", fenceMissing},
	{"who is admitted", fenceAdmits},
	{"a fenced write changes nothing", fenceChangesNothing},
	{"raise goes upwards only", fenceRaise},
	{"raise is compare-and-set when asked", fenceCompareAndSet},
	{"a new epoch numbers the states", fenceNewEpoch},
	{"the fence is one for all handles", fenceShared},
}

// write is one kind of write, tried against a fence.
type write struct {
	name   string
	mirror bool
	do     func(r *rig, t backends.Token) error
}

// writes lists every write of the port that carries a token. They are about a hold "open", a key
// of mugs, and ids that are not there.
var writes = []write{
	{"Reserve", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Reserve(r.ctx, t, request("new", line(mug, 1)))
		return err
	}},
	{"Reserve again", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Reserve(r.ctx, t, request("open", line(mug, 1)))
		return err
	}},
	{"Reserve too much", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Reserve(r.ctx, t, request("much", line(mug, 1000)))
		return err
	}},
	{"Reserve of unknown stock", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Reserve(r.ctx, t, request("ghost", line("ghost", 1)))
		return err
	}},
	{"Claim", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Claim(r.ctx, t, &backends.ClaimRequest{ID: "open", Shop: shop})
		return err
	}},
	{"Claim of the unknown", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Claim(r.ctx, t, &backends.ClaimRequest{ID: "lost", Shop: shop, Lines: []backends.Line{line(mug, 1)}})
		return err
	}},
	{"Release", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Release(r.ctx, t, &backends.ReleaseRequest{ID: "open"})
		return err
	}},
	{"Release of the unknown", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Release(r.ctx, t, &backends.ReleaseRequest{ID: "nobody"})
		return err
	}},
	{"Extend", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Extend(r.ctx, t, &backends.ExtendRequest{ID: "open", TTL: longTTL})
		return err
	}},
	{"Restock", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Restock(r.ctx, t, &backends.RestockRequest{OpID: "fenced", Key: key(mug, east), Amount: 5})
		return err
	}},
	{"Restock again", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Restock(r.ctx, t, &backends.RestockRequest{OpID: "op-1", Key: key(mug, east), Amount: 5})
		return err
	}},
	{"Count", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Count(r.ctx, t, &backends.CountRequest{OpID: "fenced", Key: key(mug, east), Delta: -1})
		return err
	}},
	{"Expire", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Expire(r.ctx, t, 10)
		return err
	}},
	{"Admitted", false, func(r *rig, t backends.Token) error { return r.s.Admitted(r.ctx, t, false) }},
	{"EndBackfill", false, func(r *rig, t backends.Token) error { return r.s.EndBackfill(r.ctx, t, 0) }},
	{"Reemit", false, func(r *rig, t backends.Token) error {
		_, err := r.s.Reemit(r.ctx, t, []backends.HoldID{"open", "nobody"})
		return err
	}},
	{"ReemitLevels", false, func(r *rig, t backends.Token) error {
		_, err := r.s.ReemitLevels(r.ctx, t, []backends.Key{key(mug, east)})
		return err
	}},
	{"RestateHolds", false, func(r *rig, t backends.Token) error {
		_, err := r.s.RestateHolds(r.ctx, t, []backends.HoldAbove{{ID: "open"}, {ID: "nobody"}})
		return err
	}},
	{"RestateHolds of none", false, func(r *rig, t backends.Token) error {
		_, err := r.s.RestateHolds(r.ctx, t, nil)
		return err
	}},
	{"RestateTaken", false, func(r *rig, t backends.Token) error {
		_, err := r.s.RestateTaken(r.ctx, t, []backends.LevelAbove{{Key: key(mug, east)}})
		return err
	}},
	{"SettleOp", false, func(r *rig, t backends.Token) error {
		_, err := r.s.SettleOp(r.ctx, t, key(mug, east), "fenced")
		return err
	}},
	{"Apply of a hold", true, func(r *rig, t backends.Token) error {
		_, err := r.s.Apply(r.ctx, t, r.now(), []backends.Entry{holdEntry(backends.OpReserve, heldHold("mirrored", line(mug, 1)))})
		return err
	}},
	{"Apply of a level", true, func(r *rig, t backends.Token) error {
		_, err := r.s.Apply(r.ctx, t, r.now(), []backends.Entry{levelEntry(backends.LevelChange{Key: key(mug, east), OpID: "fenced", OnHandDelta: 3})})
		return err
	}},
	{"Correct", true, func(r *rig, t backends.Token) error {
		_, err := r.s.Correct(r.ctx, t, r.now(), &backends.Correction{OpID: "fenced", Key: key(mug, east), Sellable: 1, OnHand: 1})
		return err
	}},
	{"Admitted as mirror", true, func(r *rig, t backends.Token) error { return r.s.Admitted(r.ctx, t, true) }},
}

// fenced wants a write to be refused for the fence as it is.
func (r *rig) fenced(w write, t backends.Token, have backends.Fence) {
	r.t.Helper()
	err := w.do(r, t)
	var fe *backends.FencedError
	if !errors.As(err, &fe) {
		r.t.Fatalf("%s under epoch %d with the fence at %s answered %v, want a FencedError", w.name, t.Epoch, have, err)
	}
	r.same(w.name+": the fenced error", backends.FencedError{Side: r.env.side, Have: have, Want: t}, *fe)
	if backends.IsAmbiguous(err) || backends.IsRejection(err) {
		r.t.Fatalf("%s: a fenced write is neither ambiguous nor the caller's fault: %v", w.name, err)
	}
}

func fenceMissing(t *testing.T, e *env) {
	r := e.bare(t, Options{})
	f, err := r.s.Fence(r.ctx)
	r.ok(err, "Fence")
	if f != (backends.Fence{}) {
		t.Fatalf("a missing fence reads as %s", f)
	}
	for _, w := range writes {
		for _, epoch := range []uint64{0, 1, firstEpoch} {
			r.fenced(w, backends.Token{Epoch: epoch}, backends.Fence{})
		}
	}
	for _, tok := range []backends.Token{{}, {Epoch: 1}} {
		if _, err := r.s.Maintain(r.ctx, tok); err == nil {
			t.Fatal("Maintain worked under a missing fence")
		}
	}
}

func fenceAdmits(t *testing.T, e *env) {
	r := e.bare(t, Options{})
	const at = firstEpoch
	epoch := uint64(at)
	for _, stage := range []backends.Stage{backends.RedisOnly, backends.Shadow, backends.Live, backends.MySQLOnly} {
		closed := backends.Fence{Epoch: epoch, Stage: stage}
		r.raise(closed)
		for _, w := range writes {
			r.fenced(w, r.tok, closed)
		}
		open := closed
		open.Open = true
		r.raise(open)
		for _, w := range writes {
			for _, tok := range []backends.Token{{}, {Epoch: epoch - 1}, {Epoch: epoch + 1}} {
				r.fenced(w, tok, open)
			}
			admitted := open.Admits(r.tok, e.side)
			if w.mirror {
				admitted = open.AdmitsMirror(r.tok, e.side)
			}
			if !admitted {
				r.fenced(w, r.tok, open)
			}
		}
		r.ok(admission(r.s.Admitted(r.ctx, r.tok, false), open.Admits(r.tok, e.side)), "as truth in %s", stage)
		r.ok(admission(r.s.Admitted(r.ctx, r.tok, true), open.AdmitsMirror(r.tok, e.side)), "as mirror in %s", stage)
		epoch++
	}
}

// admission turns what Admitted answered into an error where it is not what is wanted.
func admission(err error, want bool) error {
	if (err == nil) == want {
		return nil
	}
	if err == nil {
		return errors.New("admitted, which must not be")
	}
	return err
}

func fenceChangesNothing(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.pass(r.grantFor("open", shortTTL, line(mug, 3)).Hold.ExpiresAt) // due: Expire would find it
	r.count(mug, east, -2)
	keys := []backends.Key{key(mug, east), key("ghost", east)}
	ids := []backends.HoldID{"open", "new", "much", "lost", "ghost", "mirrored", "nobody"}
	before := r.book(keys, ids...)
	epoch := r.tok.Epoch
	for _, f := range []backends.Fence{
		{Epoch: epoch + 1, Stage: e.dual()},
		{Epoch: epoch + 2, Stage: e.dual(), Open: true},
		{Epoch: epoch + 3, Stage: e.following()},
		{Epoch: epoch + 4, Stage: e.following(), Open: true},
	} {
		r.raise(f)
		for _, w := range writes {
			for _, tok := range []backends.Token{{Epoch: epoch}, {Epoch: f.Epoch - 1}, {Epoch: f.Epoch + 1}} {
				r.fenced(w, tok, f)
			}
		}
		r.same("everything after fenced writes", before, r.book(keys, ids...))
	}
	r.conserved()
}

func fenceRaise(t *testing.T, e *env) {
	stage := e.dual()
	fence := func(epoch uint64, stage backends.Stage, open bool) backends.Fence {
		return backends.Fence{Epoch: epoch, Stage: stage, Open: open}
	}
	for _, c := range []struct {
		name     string
		from, to backends.Fence
		moves    bool
	}{
		{"the first", backends.Fence{}, fence(5, stage, false), true},
		{"the first, open at once", backends.Fence{}, fence(5, stage, true), true},
		{"a higher epoch", fence(5, stage, true), fence(6, stage, false), true},
		{"a much higher epoch", fence(5, stage, true), fence(5_000_000_000, stage, true), true},
		{"opening", fence(5, stage, false), fence(5, stage, true), true},
		{"a higher one over a closed one", fence(5, stage, false), fence(6, e.following(), true), true},
		{"closing the same epoch", fence(5, stage, true), fence(5, stage, false), false},
		{"a lower epoch", fence(5, stage, false), fence(4, stage, true), false},
		{"another stage of the same epoch", fence(5, stage, true), fence(5, e.following(), true), false},
		{"another closed stage of the same epoch", fence(5, stage, false), fence(5, e.following(), false), false},
		{"nothing", fence(5, stage, true), backends.Fence{}, false},
		{"live, filled", fence(5, stage, true), backends.Fence{Epoch: 6, Stage: backends.Live, Open: true, Filled: true}, true},
		{"live in which MySQL may answer alone", fence(5, stage, true), backends.Fence{Epoch: 6, Stage: backends.Live, Open: true, Filled: true, Alone: true}, true},
		{"a shadow after that", backends.Fence{Epoch: 6, Stage: backends.Live, Open: true, Filled: true, Alone: true}, backends.Fence{Epoch: 7, Stage: backends.Shadow, Open: true, Alone: true}, true},
		{"and the next one", backends.Fence{Epoch: 7, Stage: backends.Shadow, Open: true, Alone: true}, fence(8, backends.Shadow, true), true},
		{"alone in the same epoch", backends.Fence{Epoch: 6, Stage: backends.Live, Open: true, Filled: true}, backends.Fence{Epoch: 6, Stage: backends.Live, Open: true, Filled: true, Alone: true}, false},
	} {
		r := e.bare(t, Options{})
		if c.from != (backends.Fence{}) {
			r.raise(c.from)
			r.raise(c.from) // idempotent
		}
		got, err := r.s.Raise(r.ctx, c.to, 0)
		if c.moves {
			r.ok(err, "%s", c.name)
			r.same(c.name, c.to, got)
			r.raise(c.to)
			continue
		}
		r.refusedRaise(c.name, err, c.from, c.to)
		r.same(c.name, c.from, got)
	}
}

// refusedRaise wants a FencedError that tells the present fence, and the fence unmoved.
func (r *rig) refusedRaise(name string, err error, have, want backends.Fence) {
	r.t.Helper()
	var fe *backends.FencedError
	if !errors.As(err, &fe) || fe.Have != have || fe.Side != r.env.side || fe.Want.Epoch != want.Epoch {
		r.t.Fatalf("%s: Raise(%s) over %s answered %v", name, want, have, err)
	}
	now, err := r.s.Fence(r.ctx)
	r.ok(err, "Fence")
	r.same(name+": the fence", have, now)
}

func fenceCompareAndSet(t *testing.T, e *env) {
	r := e.open(t, e.dual(), Options{})
	at, err := r.s.Fence(r.ctx)
	r.ok(err, "Fence")
	next := backends.Fence{Epoch: at.Epoch + 1, Stage: e.alone(), Open: true}
	for _, wrong := range []uint64{at.Epoch - 1, at.Epoch + 1, 1} {
		got, err := r.s.Raise(r.ctx, next, wrong)
		r.refusedRaise("a wrong epoch expected", err, at, next)
		r.same("the answer", at, got)
	}
	got, err := r.s.Raise(r.ctx, next, at.Epoch)
	r.ok(err, "Raise if the epoch is %d", at.Epoch)
	r.same("the answer", next, got)
	// Sent again, it has happened already: that is success, though the epoch is no longer the one.
	got, err = r.s.Raise(r.ctx, next, at.Epoch)
	r.ok(err, "Raise sent again")
	r.same("the answer", next, got)
	// The one who wanted something else from the same epoch has lost.
	other := backends.Fence{Epoch: at.Epoch + 1, Stage: e.following(), Open: true}
	_, err = r.s.Raise(r.ctx, other, at.Epoch)
	r.refusedRaise("the loser", err, next, other)
}

func fenceNewEpoch(t *testing.T, e *env) {
	r := e.truth(t)
	r.stock(mug, east, 10)
	r.grant("a", line(mug, 1))
	r.grant("b", line(mug, 1))
	r.turn(e.dual())
	for _, c := range []struct {
		d *backends.Decision
		n uint64
	}{
		{r.extend(backends.OutcomeExtended, "a", longTTL), 2},
		{r.claim(backends.OutcomeClaimed, "a"), 3},
		{r.release(backends.OutcomeReleased, "b"), 2},
		{r.grant("c", line(mug, 1)), 1},
	} {
		r.same("the version after "+c.d.Op.String(), backends.Version{Epoch: firstEpoch + 1, N: c.n}, c.d.Hold.Version)
	}
	// A replay is not a new state.
	r.turn(e.dual())
	d := r.grant("c", line(mug, 1))
	r.same("the version of a replay", backends.Version{Epoch: firstEpoch + 1, N: 1}, d.Hold.Version)
}

func fenceShared(t *testing.T, e *env) {
	r := e.truth(t)
	o := r.second()
	r.stock(mug, east, 10)
	o.grant("a", line(mug, 1))
	r.same("the hold through the other handle", o.get("a"), r.get("a"))
	r.turn(e.dual())
	now, err := o.s.Fence(o.ctx)
	o.ok(err, "Fence")
	o.fenced(writes[0], o.tok, now)
	o.tok = r.tok
	o.grant("b", line(mug, 1))
	o.levelIs(mug, east, units{OnHand: 10, Sellable: 8, Held: 2})
	if got, want := len(r.pending()), len(o.pending()); got != want || got != 3 {
		t.Fatalf("two handles see %d and %d outbox entries, want 3", got, want)
	}
}
