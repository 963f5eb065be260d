package mysqlstore_test

import (
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// TestConfirmedChain: more is asked for than there is, all of it in one step: each hold is decided on what those before
// it left, those for whom there is no free row by one transaction, and what was decided stays with the hold when its next state is in the same chain.
func TestConfirmedChain(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := shadowed(t, srv.NewDatabase(t))
		r.mirrored(t, loaded(2, "mug"))
		es := heldUnits("fight", 4, "mug") // two of them find a unit
		next := func(i int, op backends.Op, change func(*backends.Hold)) {
			h := es[i].Hold.Clone()
			h.Version.N++
			change(h)
			es = append(es, backends.Entry{Seq: "next-" + string(h.ID), Op: op, At: es[i].At, Hold: h})
		}
		next(0, backends.OpRelease, func(h *backends.Hold) { h.State, h.EndedAt = backends.Released, h.CreatedAt })
		next(3, backends.OpExtend, func(h *backends.Hold) { h.ExpiresAt = h.ExpiresAt.Add(time.Hour) })
		es = append(es, heldUnits("late", 1, "mug")...)
		before := r.s.Stats().Confirmed
		as := r.apply(t, es)
		for i, want := range []struct {
			granted bool
			debt    int64
		}{{true, 0}, {true, 0}, {false, 1}, {false, 2}, {false, 1}, {false, 1}, {false, 2}} {
			a := as[i]
			if a.Err != nil || !a.Changed || len(a.Debt) > 0 != (want.debt > 0) || want.debt > 0 && a.Debt[0].Quantity != want.debt {
				t.Errorf("entry %s: %+v, want a debt of %d", a.Seq, a, want.debt)
			}
			if es[i].Op == backends.OpReserve && (a.Own == nil || (a.Own.Outcome == backends.OutcomeGranted) != want.granted || !want.granted && len(a.Own.Seen) != 1) {
				t.Errorf("entry %s was decided as %+v", a.Seq, a.Own)
			}
		}
		if n := r.s.Stats().Confirmed - before; n != 3 {
			t.Errorf("%d were decided in the chain, of the three without a free row", n)
		}
		for _, again := range r.apply(t, es[2:4]) {
			if again.Err != nil || again.Changed || again.Own == nil || again.Own.Outcome != backends.OutcomeSoldOut {
				t.Errorf("sent again, entry %s: %+v", again.Seq, again)
			}
		}
		r.conserved(t)
	})
}

// TestConfirmedChainDrawsOnce: the first of a step is not served as the truth served it, so that all are decided in one chain;
// there are units for each, and each takes its own.
func TestConfirmedChainDrawsOnce(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		r := shadowed(t, srv.NewDatabase(t))
		r.mirrored(t, loaded(6, "mug"))
		es := heldUnits("each", 5, "mug")
		es[0].Hold.Lines[0].Locations = []backends.Location{west, east} // there is none in the west
		before := r.s.Stats().Confirmed
		for i, a := range r.apply(t, es) {
			if a.Err != nil || !a.Changed || a.Own == nil || a.Own.Outcome != backends.OutcomeGranted || len(a.Debt) > 0 {
				t.Errorf("entry %s: %+v", es[i].Seq, a)
			}
		}
		if n := r.s.Stats().Confirmed - before; n != 5 {
			t.Errorf("%d were decided in the chain, of five", n)
		}
		if l := r.level(t, key("mug")); l.Sellable() != 1 || l.Held != 5 {
			t.Errorf("%+v", l)
		}
		r.conserved(t)
	})
}
