package findingstest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// term is longer than the suite takes.
const term = time.Hour

type audits struct {
	comparator.AuditBook
	t   *testing.T
	ctx context.Context //nolint:containedctx // one test's
}

func (a *audits) row() comparator.AuditRow {
	a.t.Helper()
	row, err := a.AuditRow(a.ctx, "one")
	if err != nil {
		a.t.Fatal(err)
	}
	return row
}

func (a *audits) take(pod backends.Pod, holder string, want bool) uint64 {
	a.t.Helper()
	row, taken, err := a.TakeAudit(a.ctx, pod, holder, term)
	if err != nil || taken != want {
		a.t.Fatalf("%s: taken %v, %v; %+v", holder, taken, err, row)
	}
	if taken && (row.Holder != holder || row.Lease <= 0 || row.Lease > term) {
		a.t.Errorf("%s has taken it: %+v", holder, row)
	}
	return row.N
}

func (a *audits) save(n uint64, s comparator.AuditSave) {
	a.t.Helper()
	if err := a.SaveAudit(a.ctx, "one", n, s); err != nil {
		a.t.Fatal(err)
	}
}

// ExerciseAudits runs the suite of [comparator.AuditBook]. open gives a fresh, empty store.
func ExerciseAudits(t *testing.T, open func(testing.TB) comparator.AuditBook) {
	for _, c := range []struct {
		name string
		do   func(*testing.T, *audits)
	}{
		{"an audit, from its beginning to its end", wholeAudit},
		{"who was relieved writes nothing any more", relieved},
		{"failures are counted until an audit is complete", failures},
		{"of a crowd one has it", oneOfMany},
		{"bad calls", badAuditCalls},
	} {
		t.Run("audits/"+c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c.do(t, &audits{t: t, ctx: ctx, AuditBook: open(t)})
		})
	}
}

func wholeAudit(t *testing.T, a *audits) {
	if d := cmp.Diff(comparator.AuditRow{Pod: "one"}, a.row()); d != "" {
		t.Errorf("never audited: %s", d)
	}
	n := a.take("one", "p1", true)
	a.take("one", "p2", false)
	a.take("two", "p2", true) // each pod has its own
	a.take("One", "p3", true)
	a.save(n, comparator.AuditSave{Step: comparator.AuditBegins, Term: term})
	k := backends.Key{Shop: "Shop", Item: "mug", Location: "a"}
	state := &comparator.AuditState{Format: 1, Phase: 2, Cursor: "17\n\x1eh:\t", Read: true,
		Checking: []comparator.AuditOpen{{Hold: "h1", Why: "“so”"}, {Key: &k, Why: "it moved"}},
		Effects:  []comparator.AuditEffect{{Key: k, Gap: comparator.Gap{Sellable: -1, OnHand: 2}}},
		Result: comparator.AuditResult{Pod: "one", Stage: backends.Shadow, Epoch: 3, Started: noon, HoldsTruth: 1_000_000, FindingsTotal: 2,
			Summary: []comparator.ClassSummary{{Class: comparator.LostRelease, Life: comparator.LifeOpen, Findings: 2, Units: 5, LastSeen: noon}}}}
	a.save(n, comparator.AuditSave{Step: comparator.AuditGoesOn, State: state}) // and gives it back
	row := a.row()
	if d := cmp.Diff(state, row.State); d != "" || row.Lease != 0 || row.Begun <= 0 || row.Begun > patience || row.Last != nil {
		t.Errorf("%+v %s", row, d)
	}
	if m := a.take("one", "p2", true); m <= n {
		t.Errorf("its number went from %d to %d", n, m)
	} else {
		n = m
	}
	if row = a.row(); row.State == nil {
		t.Error("what was saved is not there for the next one")
	}
	last := comparator.AuditResult{Pod: "one", Stage: backends.Shadow, Epoch: 3, Started: noon, Ended: noon.Add(time.Minute), Scope: "all", FindingsTotal: 2,
		Findings: []comparator.Finding{finding("one", comparator.Quantity, "h1", 1, 1)}, Undetermined: []comparator.AuditOpen{{Hold: "h2", Why: "x"}}}
	a.save(n, comparator.AuditSave{Step: comparator.AuditEnds, Last: &last})
	row = a.row()
	if row.State != nil || row.Begun != 0 || row.Lease != 0 || row.LastBegun < row.LastEnded || row.LastEnded < 0 || row.LastBegun > patience {
		t.Errorf("at its end: %+v", row)
	}
	want := last
	want.Findings = nil // they are kept apart
	if d := cmp.Diff(&want, row.Last); d != "" {
		t.Error(d)
	}
	n = a.take("one", "p1", true)
	a.save(n, comparator.AuditSave{Step: comparator.AuditBegins, Term: term})
	a.save(n, comparator.AuditSave{Step: comparator.AuditGoesOn, State: state, Term: term})
	a.save(n, comparator.AuditSave{Step: comparator.AuditDrops})
	if row = a.row(); row.State != nil || row.Begun != 0 || row.Last == nil {
		t.Errorf("dropped: %+v", row)
	}
}

func relieved(t *testing.T, a *audits) {
	n := a.take("one", "p1", true)
	a.save(n, comparator.AuditSave{Step: comparator.AuditBegins}) // as if its term had ended
	m := a.take("one", "p2", true)
	for _, s := range []comparator.AuditSave{
		{}, {Step: comparator.AuditBegins}, {Step: comparator.AuditGoesOn, State: &comparator.AuditState{Format: 1}},
		{Step: comparator.AuditEnds, Last: &comparator.AuditResult{}}, {Step: comparator.AuditDrops}, {Step: comparator.AuditFails, Failure: "x"},
	} {
		before := a.row()
		if err := a.SaveAudit(a.ctx, "one", n, s); !errors.Is(err, comparator.ErrAuditTaken) {
			t.Errorf("step %d by who was relieved: %v", s.Step, err)
		}
		after := a.row()
		if after.Holder != "p2" || after.Lease <= 0 || after.Fails != before.Fails || after.State != nil || after.Last != nil {
			t.Errorf("step %d changed it: %+v", s.Step, after)
		}
	}
	a.save(m, comparator.AuditSave{Term: term})
	a.save(m, comparator.AuditSave{Term: term}) // also when nothing else changes
}

func failures(t *testing.T, a *audits) {
	n := a.take("one", "p1", true)
	a.save(n, comparator.AuditSave{Step: comparator.AuditBegins, Term: term})
	a.save(n, comparator.AuditSave{Step: comparator.AuditGoesOn, State: &comparator.AuditState{Format: 1}, Term: term})
	a.save(n, comparator.AuditSave{Step: comparator.AuditFails, Failure: "first"})
	n = a.take("one", "p1", true)
	a.save(n, comparator.AuditSave{Step: comparator.AuditFails, Failure: "“second” " + fmt.Sprintf("%2000d", 1)})
	row := a.row()
	if row.Fails != 2 || !strings.HasPrefix(row.Failure, "“second”") || len(row.Failure) > 1000 || row.Failed < 0 || row.Failed > patience || row.State == nil {
		t.Errorf("%+v", row)
	}
	n = a.take("one", "p1", true)
	a.save(n, comparator.AuditSave{Step: comparator.AuditEnds, Last: &comparator.AuditResult{Pod: "one"}})
	if row = a.row(); row.Fails != 0 || row.Failure != "" || row.Failed != 0 {
		t.Errorf("after a complete one: %+v", row)
	}
}

func oneOfMany(t *testing.T, a *audits) {
	const proxies = 6
	var wg sync.WaitGroup
	var won atomic.Int64
	for p := range proxies {
		wg.Go(func() {
			for a.ctx.Err() == nil {
				_, taken, err := a.TakeAudit(a.ctx, "one", fmt.Sprint("p", p), term)
				if taken {
					won.Add(1)
				}
				if err == nil {
					return // a deadlock of the first makers is legal, and tried again
				}
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of them have it", won.Load())
	}
}

func badAuditCalls(t *testing.T, a *audits) {
	n := a.take("one", "p1", true)
	for _, s := range []comparator.AuditSave{{Step: comparator.AuditGoesOn}, {Step: comparator.AuditEnds}, {Step: comparator.AuditFails + 1}} {
		if err := a.SaveAudit(a.ctx, "one", n, s); err == nil {
			t.Errorf("step %d without what it tells was taken", s.Step)
		}
	}
	if err := a.SaveAudit(a.ctx, "none", 1, comparator.AuditSave{}); !errors.Is(err, comparator.ErrAuditTaken) {
		t.Errorf("a pod that nobody audits: %v", err)
	}
	over, end := context.WithTimeout(a.ctx, -time.Second)
	defer end()
	if _, _, err := a.TakeAudit(over, "two", "p1", term); err == nil {
		t.Error("taken with a context that had ended")
	}
	if err := a.SaveAudit(over, "one", n, comparator.AuditSave{}); err == nil {
		t.Error("saved with a context that had ended")
	}
}
