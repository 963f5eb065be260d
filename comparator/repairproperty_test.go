package comparator_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
)

// corrector is a shadow around whose corrections things happen.
type corrector struct {
	*memstore.Store
	before func()
	after  func() error
}

func (c *corrector) Correct(ctx context.Context, t backends.Token, asOf backends.Instant, q *backends.Correction) (bool, error) {
	if f := c.before; f != nil {
		c.before = nil
		f()
	}
	done, err := c.Store.Correct(ctx, t, asOf, q)
	if f := c.after; err == nil && f != nil {
		c.after = nil
		return done, f()
	}
	return done, err
}

// with puts a shadow of its own into a repair's hands.
func (p *pod) with(c *corrector) func(*comparator.RepairInput) {
	return func(in *comparator.RepairInput) {
		hands := in.Hands
		in.Hands = func() (comparator.RepairHands, error) {
			h, err := hands()
			h.Shadow = c
			return h, err
		}
	}
}

// drifted is a pod whose shadow has five units too few.
func drifted(t *testing.T) *pod {
	p := newPod(t, backends.Live)
	p.stock("mug", 20)
	p.mirror(nil)
	p.shadow.Bypass(key("mug", "A"), -5)
	return p
}

// Two repairs that have seen the same gap correct it once, wherever the other one comes in.
func TestRepairTwiceAtATimeIsOnce(t *testing.T) {
	p := drifted(t)
	store := memfindings.New()
	other := func() {
		r, err := p.repair(store, func(in *comparator.RepairInput) { in.By = "bob" })
		if p.must(nil, err); !r.Clean() {
			t.Fatalf("%+v", rows(r))
		}
	}
	r, err := p.repair(store, p.with(&corrector{Store: p.shadow, before: other}))
	if p.must(nil, err); !r.Clean() || r.Outcomes[comparator.RepairAgrees] != 1 {
		t.Fatalf("%+v", rows(r))
	}
	p.clean()
	p.conserved()
	// The same again is another drift, and is corrected like the first.
	for range 3 {
		p.shadow.Bypass(key("mug", "A"), -5)
		if r, err := p.repair(store, nil); err != nil || r.Outcomes[comparator.RepairDone] != 1 || !r.Clean() {
			t.Fatalf("%+v %v", rows(r), err)
		}
		p.clean()
	}
}

// A correction whose answer was lost is made once; a repair that was stopped behind it is finished by the next.
func TestRepairThatIsStopped(t *testing.T) {
	p := drifted(t)
	store := memfindings.New()
	lost := func() error { return fmt.Errorf("%w: the connection broke", backends.ErrAmbiguous) }
	r, err := p.repair(store, p.with(&corrector{Store: p.shadow, after: lost}))
	if p.must(nil, err); !r.Clean() || r.Recorded != 1 {
		t.Fatalf("%+v", rows(r))
	}
	p.clean()

	p = drifted(t)
	store = memfindings.New()
	res, err := p.audit(nil)
	p.must(nil, err)
	p.must(nil, store.SaveFindings(ctx, res.Findings))
	stopped := errors.New("stopped")
	if _, err := p.repair(store, p.with(&corrector{Store: p.shadow, after: func() error { return stopped }})); !errors.Is(err, stopped) {
		t.Fatal(err)
	}
	if f, err := store.Finding(ctx, "one", res.Findings[0].ID); err != nil || f.Life != comparator.LifeOpen {
		t.Fatalf("%+v %v", f, err)
	}
	r, err = p.repair(store, nil)
	if p.must(nil, err); r.Outcomes[comparator.RepairAgrees] != 1 || r.Recorded != 1 || !r.Clean() {
		t.Fatalf("%+v, recorded %d", rows(r), r.Recorded)
	}
	p.clean()
	p.conserved()
}

// A gap that is gone at the second look was traffic, and is not corrected.
func TestRepairCorrectsNothingThatPasses(t *testing.T) {
	p := drifted(t)
	p.onWait = func() {
		if p.waited == 2 { // the audit has found it; it is gone before the plan's second look
			p.shadow.Bypass(key("mug", "A"), 5)
		}
	}
	if _, err := p.repair(memfindings.New(), nil); err != nil {
		t.Fatal(err)
	}
	p.clean()
	p.conserved()
}

// Whatever has happened to the states on their way and to the shadow's levels, one repair sets it right, and the next
// has nothing to do.
func TestRepairProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPod(t, rapid.SampledFrom([]backends.Stage{backends.Shadow, backends.Live}).Draw(rt, "stage"))
		items := []string{"mug", "cup"}
		for _, i := range items {
			p.stock(i, 30)
		}
		p.mirror(nil)
		for n := range rapid.IntRange(1, 12).Draw(rt, "steps") {
			p.step(rt, n, items)
		}
		p.mirror(nil)
		store := memfindings.New()
		r, err := p.repair(store, func(in *comparator.RepairInput) { in.CorrectLedger = true })
		p.must(nil, err)
		if r.Outcomes[comparator.RepairDiffers]+r.Outcomes[comparator.RepairUndetermined]+r.Outcomes[comparator.RepairByHand] > 0 {
			rt.Fatalf("%+v", rows(r))
		}
		p.clean()
		p.conserved()
		if again, err := p.repair(store, nil); err != nil || len(again.Steps) != 0 {
			rt.Fatalf("again: %+v %v", rows(again), err)
		}
	})
}

// step is one operation, with what becomes of its state on the way.
func (p *pod) step(rt *rapid.T, n int, items []string) {
	item := rapid.SampledFrom(items).Draw(rt, "item")
	id := fmt.Sprintf("h%d", rapid.IntRange(0, 5).Draw(rt, "hold"))
	hold := backends.HoldID(id)
	switch rapid.IntRange(0, 6).Draw(rt, "operation") {
	case 0, 1:
		_, _ = p.truth.Reserve(ctx, p.token, &backends.ReserveRequest{ID: hold, Shop: "s", Lines: []backends.Line{line(int64(n%3+1), item, "A")}, TTL: 1 << 40})
	case 2:
		_, _ = p.truth.Release(ctx, p.token, &backends.ReleaseRequest{ID: hold})
	case 3:
		_, _ = p.truth.Claim(ctx, p.token, &backends.ClaimRequest{ID: hold})
	case 4:
		p.must(p.truth.Count(ctx, p.token, &backends.CountRequest{OpID: backends.OpID(fmt.Sprint("c", n)), Key: key(item, "A"), Delta: int64(n%5) - 2}))
	case 5:
		p.must(p.truth.Restock(ctx, p.token, &backends.RestockRequest{OpID: backends.OpID(fmt.Sprint("r", n)), Key: key(item, "A"), Amount: 3}))
	case 6:
		p.shadow.Bypass(key(item, "A"), int64(rapid.IntRange(-4, 4).Draw(rt, "bypass")))
	}
	switch rapid.IntRange(0, 3).Draw(rt, "on its way") {
	case 0:
		p.mirror(nil)
	case 1: // lost
		p.mirror(nil, "h0", "h1", "h2", "h3", "h4", "h5")
	case 2: // wrong, under the right version
		p.mirror(func(e *backends.Entry) {
			switch {
			case e.Hold != nil && e.Hold.State == backends.Held && len(e.Hold.Allocs) > 0:
				e.Hold.Lines[0].Quantity++
				e.Hold.Allocs[0].Quantity++
				e.Hold.ExpiresAt += 7
			case e.Level != nil && e.Level.Version != (backends.Version{}):
				e.Level.Taken += 2
			case e.Level != nil:
				e.Level.OnHandDelta--
			}
		})
	}
}
