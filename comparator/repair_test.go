package comparator_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
)

// repair repairs in the pod's own time, what is delivered by mirror.
func (p *pod) repair(store comparator.Store, change func(*comparator.RepairInput)) (*comparator.RepairResult, error) {
	in := comparator.RepairInput{
		Pod: "one", Pair: p.pair, Store: store, Apply: true, By: "ann", Why: "the shelf was counted", Rounds: 12,
		Hands: func() (comparator.RepairHands, error) {
			return comparator.RepairHands{Stage: p.stage, Token: p.token, Truth: p.truth, Shadow: p.shadow, Deliver: func(context.Context) error {
				p.mirror(nil)
				return nil
			}}, nil
		},
		Now: func() time.Time { return p.now },
		Wait: func(_ context.Context, d time.Duration) error {
			p.now = p.now.Add(d)
			p.waited++
			if p.onWait != nil {
				p.onWait()
			}
			return nil
		},
	}
	if change != nil {
		change(&in)
	}
	return comparator.Repair(ctx, in)
}

// clean wants an audit to find nothing.
func (p *pod) clean() {
	p.t.Helper()
	r, err := p.audit(nil)
	p.must(nil, err)
	if !r.Clean() {
		p.t.Fatalf("the audit after a repair found %+v and left open %+v", summary(r), r.Undetermined)
	}
}

// conserved wants P2 in both stores.
func (p *pod) conserved() {
	p.t.Helper()
	for _, s := range []comparator.RepairTruth{p.redis, p.mysql} {
		broken, _, err := s.Conservation(ctx)
		if p.must(nil, err); len(broken) > 0 {
			p.t.Fatalf("P2 is broken at %+v", broken)
		}
	}
}

type stepRow struct {
	Class   comparator.Class
	Hold    backends.HoldID
	Key     backends.Key
	Action  comparator.RepairAction
	Outcome comparator.RepairOutcome
}

func rows(r *comparator.RepairResult) []stepRow {
	var out []stepRow
	for _, s := range r.Steps {
		row := stepRow{Class: s.Class, Hold: s.Hold, Action: s.Action, Outcome: s.Outcome}
		if s.Key != nil {
			row.Key = *s.Key
		}
		out = append(out, row)
	}
	return out
}

// Each fault of the audit's table: found, planned without a write, repaired, clean; again, it is nothing.
func TestRepairOfEachFaultOfTheAudit(t *testing.T) {
	for _, c := range auditCases {
		t.Run(c.name, func(t *testing.T) {
			p := newPod(t, c.stage)
			p.stock("mug", 20)
			p.stock("cup", 20)
			p.mirror(nil)
			c.do(p)
			store := memfindings.New()
			ledger := func(in *comparator.RepairInput) { in.CorrectLedger = true }
			plan, err := p.repair(store, func(in *comparator.RepairInput) { ledger(in); in.Apply = false })
			p.must(nil, err)
			if len(plan.Steps) != len(c.want) || plan.Outcomes[comparator.RepairPlanned] != len(c.want) || plan.Recorded != 0 {
				t.Fatalf("the plan is %+v, want %d steps", rows(plan), len(c.want))
			}
			before, err := p.audit(nil)
			p.must(nil, err)
			if d := cmp.Diff(c.want, summary(before)); d != "" {
				t.Fatalf("a plan has changed what differs:\n%s", d)
			}
			r, err := p.repair(store, ledger)
			p.must(nil, err)
			if r.Outcomes[comparator.RepairDone] != len(c.want) || !r.Clean() || r.Recorded != len(c.want) {
				t.Fatalf("the repair is %+v, recorded %d, problems %v", rows(r), r.Recorded, r.Problems)
			}
			p.clean()
			p.conserved()
			for _, f := range before.Findings {
				got, err := store.Finding(ctx, "one", f.ID)
				if p.must(nil, err); got.Life != comparator.LifeRepaired || got.By != "ann" {
					t.Errorf("finding %s is %s by %q (%s)", f.Class, got.Life, got.By, got.Why)
				}
			}
			again, err := p.repair(store, ledger)
			if p.must(nil, err); len(again.Steps) != 0 || !again.Clean() {
				t.Fatalf("a second repair has %+v", rows(again))
			}
		})
	}
}

// Without a person's word no ledger is written.
func TestRepairLeavesTheLedgerToAPerson(t *testing.T) {
	drift := func(p *pod) {
		p.must(p.truth.Restock(ctx, p.token, &backends.RestockRequest{OpID: "x", Key: key("mug", "A"), Amount: 7}))
		p.mirror(func(e *backends.Entry) { e.Level.OnHandDelta = 2 })
	}
	for _, c := range []struct {
		stage   backends.Stage
		correct bool
		want    comparator.RepairOutcome
	}{
		{backends.Shadow, false, comparator.RepairByHand},
		{backends.RedisOnly, false, comparator.RepairByHand},
		{backends.Shadow, true, comparator.RepairDone},
		{backends.RedisOnly, true, comparator.RepairDone},
		{backends.Live, false, comparator.RepairDone}, // the ledger is the truth's
	} {
		p := newPod(t, c.stage)
		drift(p)
		store := memfindings.New()
		r, err := p.repair(store, func(in *comparator.RepairInput) { in.CorrectLedger = c.correct })
		p.must(nil, err)
		if len(r.Steps) != 1 || r.Steps[0].Outcome != c.want || (r.Steps[0].ByHand != "") != (c.want == comparator.RepairByHand) {
			t.Fatalf("%s, %v: %+v", c.stage, c.correct, r.Steps)
		}
		f, err := store.Finding(ctx, "one", r.Steps[0].Findings[0])
		if p.must(nil, err); (f.Life == comparator.LifeRepaired) != (c.want == comparator.RepairDone) {
			t.Fatalf("%s, %v: the finding is %s", c.stage, c.correct, f.Life)
		}
	}
}

// A write past Crossfade: into the shadow it is taken back; into the truth it is for a person.
func TestRepairOfAWritePastCrossfade(t *testing.T) {
	for _, stage := range []backends.Stage{backends.Shadow, backends.Live} {
		p := newPod(t, stage)
		p.stock("mug", 20)
		p.reserve("h1", "mug", 3)
		p.mirror(nil)
		p.shadow.Bypass(key("mug", "A"), -4)
		r, err := p.repair(memfindings.New(), nil)
		p.must(nil, err)
		if d := cmp.Diff([]stepRow{{comparator.BypassWrite, "", key("mug", "A"), comparator.CorrectLevel, comparator.RepairDone}}, rows(r)); d != "" {
			t.Fatal(d)
		}
		p.clean()
		p.conserved()

		p.truth.Bypass(key("mug", "A"), -4)
		r, err = p.repair(memfindings.New(), nil)
		p.must(nil, err)
		if d := cmp.Diff([]stepRow{{comparator.BypassWrite, "", key("mug", "A"), comparator.ByHand, comparator.RepairByHand}}, rows(r)); d != "" {
			t.Fatal(d)
		}
		if ls, err := p.shadow.Levels(ctx, []backends.Key{key("mug", "A")}); err != nil || ls[0].Sellable() != 17 {
			t.Fatalf("the shadow's level is %+v, %v", ls, err)
		}
		p.truth.Bypass(key("mug", "A"), 4)
		p.clean()
	}
}

// A sum of takes that is wrong under the right version.
func TestRepairOfTakes(t *testing.T) {
	for _, stage := range []backends.Stage{backends.Shadow, backends.Live} {
		p := newPod(t, stage)
		p.stock("mug", 20)
		p.must(p.truth.Count(ctx, p.token, &backends.CountRequest{OpID: "c1", Key: key("mug", "A"), Delta: -5}))
		p.mirror(func(e *backends.Entry) {
			if e.Op == backends.OpCount {
				e.Level.Taken = 2
			}
		})
		p.shadow.Bypass(key("mug", "A"), 6) // and the level besides
		r, err := p.repair(memfindings.New(), nil)
		p.must(nil, err)
		if d := cmp.Diff([]stepRow{{comparator.BypassWrite, "", key("mug", "A"), comparator.RestateTaken, comparator.RepairDone}}, rows(r)); d != "" {
			t.Fatal(d)
		}
		p.must(p.truth.Count(ctx, p.token, &backends.CountRequest{OpID: "c2", Key: key("mug", "A"), Delta: -1}))
		p.mirror(nil)
		p.clean()
		p.conserved()
	}
}

// What a claim in the shadow says is never undone by a repair.
func TestRepairUndoesNoClaim(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.stock("mug", 20)
	p.reserve("h1", "mug", 3)
	p.mirror(func(e *backends.Entry) {
		if e.Hold != nil {
			e.Hold.State = backends.Claimed
		}
	})
	store := memfindings.New()
	r, err := p.repair(store, nil)
	p.must(nil, err)
	if d := cmp.Diff([]stepRow{{comparator.Quantity, "h1", backends.Key{}, comparator.ByHand, comparator.RepairByHand}}, rows(r)); d != "" {
		t.Fatal(d)
	}
	p.claim("h1") // what the step says
	p.mirror(nil)
	if r, err = p.repair(store, nil); err != nil || !r.Clean() || r.Recorded != 1 {
		t.Fatalf("%+v, recorded %d, %v", rows(r), r.Recorded, err)
	}
	p.clean()
	p.conserved()
}

// Only what is named is repaired, and a hold needs no audit.
func TestRepairOfOneFinding(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.stock("mug", 20)
	p.mirror(nil)
	p.reserve("h1", "mug", 3)
	p.reserve("h2", "mug", 2)
	p.mirror(nil, "h1", "h2")
	store := memfindings.New()
	_, err := p.repair(store, func(in *comparator.RepairInput) { in.Apply = false })
	p.must(nil, err)
	res, err := p.audit(nil)
	p.must(nil, err)
	p.must(nil, store.SaveFindings(ctx, res.Findings))
	id := comparator.FindingID("one", comparator.MissingHold, "h1", backends.Key{})
	r, err := p.repair(store, func(in *comparator.RepairInput) { in.IDs = []string{id} })
	p.must(nil, err)
	if d := cmp.Diff([]stepRow{{comparator.MissingHold, "h1", backends.Key{}, comparator.RestateHold, comparator.RepairDone}}, rows(r)); d != "" || r.Compared != nil {
		t.Fatal(d, r.Compared)
	}
	res, err = p.audit(nil)
	p.must(nil, err)
	if d := cmp.Diff([]found{{comparator.MissingHold, "h2", backends.Key{}, 2}}, summary(res)); d != "" {
		t.Fatal(d)
	}
	for _, bad := range []string{"x", comparator.FindingID("one", comparator.Quantity, "h9", backends.Key{})} {
		if _, err := p.repair(store, func(in *comparator.RepairInput) { in.IDs = []string{bad} }); err == nil {
			t.Errorf("finding %q was repaired", bad)
		}
	}
}

// A level is corrected by what no hold makes of it, also while those holds are left as they are.
func TestRepairOfALevelBesideAHoldThatDiffers(t *testing.T) {
	p := newPod(t, backends.Live)
	p.stock("mug", 20)
	p.mirror(nil)
	p.reserve("h1", "mug", 3)
	p.mirror(nil, "h1")
	p.shadow.Bypass(key("mug", "A"), -1)
	store := memfindings.New()
	res, err := p.audit(nil)
	p.must(nil, err)
	p.must(nil, store.SaveFindings(ctx, res.Findings))
	id := comparator.FindingID("one", comparator.BypassWrite, "", key("mug", "A"))
	r, err := p.repair(store, func(in *comparator.RepairInput) { in.IDs = []string{id} })
	p.must(nil, err)
	if len(r.Steps) != 1 || r.Steps[0].Outcome != comparator.RepairDone || *r.Steps[0].Gap != (comparator.Gap{Sellable: -1}) {
		t.Fatalf("%+v", r.Steps)
	}
	if r, err = p.repair(store, nil); err != nil || !r.Clean() {
		t.Fatalf("%+v %v", rows(r), err)
	}
	p.clean()
	p.conserved()
}

// What was found about a decision is repaired with its level, and is for a person where nothing differs.
func TestRepairOfDecisions(t *testing.T) {
	p := newPod(t, backends.Live)
	p.stock("mug", 20)
	p.mirror(nil)
	p.shadow.Bypass(key("mug", "A"), -5)
	store := memfindings.New()
	decision := func(hold backends.HoldID, at time.Time) comparator.Finding {
		return comparator.Finding{
			ID: comparator.FindingID("one", comparator.FalseSoldOut, hold, backends.Key{}), Pod: "one", Class: comparator.FalseSoldOut, Source: "probe", Hold: hold, Shop: "s",
			Units: []backends.Units{units(2, "mug", "A")}, TotalUnits: 2, Truth: comparator.Facts{Answer: &comparator.Answer{}}, Shadow: comparator.Facts{Answer: &comparator.Answer{}},
			FirstSeen: at, LastSeen: at, Count: 1, Life: comparator.LifeOpen,
		}
	}
	p.must(nil, store.SaveFindings(ctx, []comparator.Finding{decision("d1", p.now)}))
	r, err := p.repair(store, nil)
	p.must(nil, err)
	if r.Recorded != 2 || !r.Clean() {
		t.Fatalf("%+v, recorded %d", rows(r), r.Recorded)
	}
	// One from before that, which a repair that was stopped has not come to; and one from after it.
	p.must(nil, store.SaveFindings(ctx, []comparator.Finding{decision("d0", p.now.Add(-time.Minute)), decision("d2", p.now.Add(time.Minute))}))
	r, err = p.repair(store, nil)
	p.must(nil, err)
	if r.Recorded != 1 || r.Outcomes[comparator.RepairByHand] != 1 || r.Clean() {
		t.Fatalf("%+v, recorded %d", rows(r), r.Recorded)
	}
	p.clean()
}

// A pod that moves ends the repair.
func TestRepairEndsWhenThePodMoves(t *testing.T) {
	p := newPod(t, backends.Shadow)
	p.stock("mug", 20)
	p.mirror(nil)
	p.reserve("h1", "mug", 3)
	p.mirror(nil, "h1")
	_, err := p.repair(memfindings.New(), func(in *comparator.RepairInput) {
		in.Progress = func(g comparator.RepairProgress) {
			if g.Phase == "looking" {
				p.must(p.redis.Raise(ctx, backends.Fence{Epoch: 2, Stage: backends.Shadow, Open: true}, 0))
			}
		}
	})
	var fe *backends.FencedError
	if !errors.As(err, &fe) {
		t.Fatalf("the repair answered %v, want a FencedError", err)
	}
}
