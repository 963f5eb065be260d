package selftest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// auditPause is between two looks at a difference; nothing is on its way any more.
const auditPause = 120 * time.Millisecond

// play is one row being played.
type play struct {
	row  *Row
	seed uint64
}

func (g *play) problem(format string, args ...any) {
	g.row.Problems = append(g.row.Problems, fmt.Sprintf(format, args...))
}

// run plays the injection on a pod of its own.
func (g *play) run(ctx context.Context, b *bench, name backends.Pod, stage backends.Stage, in *injection) error {
	p, err := b.open(ctx, name, stage, in.build)
	if err != nil {
		return err
	}
	err = g.played(ctx, p, in)
	return errors.Join(err, p.close())
}

func (g *play) played(ctx context.Context, p *pod, in *injection) error {
	if in.build.sameStore { // there is nothing to start
		return in.play(ctx, p, g)
	}
	if err := backends.Apart(ctx, p.stores.Redis, p.stores.MySQL); err != nil {
		return err
	}
	if err := p.stock(ctx); err != nil {
		return err
	}
	err := g.broken(ctx, p, in)
	g.accounted(p)
	return err
}

func (g *play) broken(ctx context.Context, p *pod, in *injection) error {
	if in.play != nil {
		return in.play(ctx, p, g)
	}
	c := p.crowd(ctx, "buyer", g.seed)
	err := c.decided(ctx, before)
	var ws []want
	if err == nil {
		ws, err = in.inject(ctx, p)
	}
	if err == nil {
		err = c.decided(ctx, after)
	}
	if err = errors.Join(err, c.leave()); err != nil {
		return err
	}
	if err := p.rest(ctx); err != nil {
		return err
	}
	if err := g.detect(ctx, p, ws); err != nil {
		return err
	}
	return g.mend(ctx, p, in, ws)
}

// honest lets buyers in for a while, and waits until everything is at rest.
func (g *play) honest(ctx context.Context, p *pod, name string) error {
	c := p.crowd(ctx, name, g.seed)
	err := errors.Join(c.decided(ctx, before), c.leave())
	if err == nil {
		err = p.rest(ctx)
	}
	return err
}

// accounted checks that each decision is in one column, and none too many.
func (g *play) accounted(p *pod) {
	c := p.comparator.Snapshot()
	g.row.Decisions, g.row.Explained, g.row.Undetermined = c.Decisions, c.Explained, c.Undetermined
	if err := p.comparator.Check(); err != nil {
		g.problem("the account: %v", err)
	}
	if told := p.book.decisions.Load(); told != c.Decisions {
		g.problem("the account has %d decisions; buyers were told of %d", c.Decisions, told)
	}
}

// confirmed reads the open findings.
func (p *pod) confirmed(ctx context.Context) (map[string]comparator.Finding, error) {
	if err := p.comparator.Flush(ctx); err != nil {
		return nil, err
	}
	fs, err := p.findings.ListFindings(ctx, comparator.FindingQuery{Pod: p.name, Lives: []comparator.Life{comparator.LifeOpen}})
	out := make(map[string]comparator.Finding, len(fs))
	for _, f := range fs {
		out[f.ID] = f
	}
	return out, err
}

// audit is what a proxy does for 'crossfade audit'.
func (p *pod) audit(ctx context.Context) (*comparator.AuditResult, error) {
	return comparator.Audit(ctx, comparator.AuditInput{Pod: p.name, Epoch: epoch, Pair: p.pair, Pause: auditPause, Found: p.comparator.Record})
}

// conservation is what a proxy does for 'crossfade conservation'.
func (p *pod) conservation(ctx context.Context) *comparator.Conservation {
	c := comparator.CheckConservation(ctx, p.name, []comparator.NamedStore{
		{Name: backends.SideRedis.String(), Store: p.stores.Redis}, {Name: backends.SideMySQL.String(), Store: p.stores.MySQL},
	}, time.Now)
	for _, f := range c.Findings(p.stage, epoch) {
		p.comparator.Record(f)
	}
	return c
}

// detect runs the checks, and compares what they found with what is wanted.
func (g *play) detect(ctx context.Context, p *pod, ws []want) error {
	by := map[string][]string{}
	fs, err := p.confirmed(ctx)
	if err != nil {
		return err
	}
	for id := range fs {
		by[id] = append(by[id], byDecision)
	}
	a, err := p.audit(ctx)
	if err != nil {
		return err
	}
	for _, f := range a.Findings {
		by[f.ID] = append(by[f.ID], byAudit)
	}
	if a.UndeterminedTotal > 0 {
		g.problem("the audit left %d differences open: %+v", a.UndeterminedTotal, a.Undetermined)
	}
	c := p.conservation(ctx)
	for _, f := range c.Findings(p.stage, epoch) {
		by[f.ID] = append(by[f.ID], byConservation)
	}
	for _, s := range c.Stores {
		if s.Error != "" {
			g.problem("conservation of %s: %s", s.Store, s.Error)
		}
	}
	if fs, err = p.confirmed(ctx); err != nil {
		return err
	}
	g.judge(p, ws, fs, by)
	return nil
}

// judge compares findings with what is wanted, one by one.
func (g *play) judge(p *pod, ws []want, fs map[string]comparator.Finding, by map[string][]string) {
	g.row.Expected, g.row.Seen = Figure{Class: "none"}, Figure{Class: "none"}
	missing := map[string]bool{}
	for i := range ws {
		w := &ws[i]
		id := comparator.FindingID(p.name, w.class, w.hold, w.key)
		missing[id] = true
		sights := max(w.sights, int64(len(w.found)))
		g.row.Expected.add(w.class.String(), w.units, sights, w.found)
		f, found := fs[id]
		switch {
		case !found:
			g.problem("no %s of %s", w.class, subject(w.hold, w.key))
		case f.TotalUnits != w.units:
			g.problem("%s of %s has %d units, not %d", w.class, subject(w.hold, w.key), f.TotalUnits, w.units)
		case f.Count != sights:
			g.problem("%s of %s was seen %d times, not %d", w.class, subject(w.hold, w.key), f.Count, sights)
		case !slices.Equal(by[id], w.found):
			g.problem("%s of %s was found by %s, not by %s", w.class, subject(w.hold, w.key), strings.Join(by[id], ", "), strings.Join(w.found, ", "))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(fs)) {
		f := fs[id]
		g.row.Seen.add(f.Class.String(), f.TotalUnits, f.Count, by[id])
		if !missing[id] {
			var k backends.Key
			if len(f.Units) > 0 {
				k = f.Units[0].Key
			}
			g.problem("%s of %s, %d units, found by %s, though nothing of it was done: %s", f.Class, subject(f.Hold, k), f.TotalUnits, strings.Join(by[id], ", "), f.Proof)
		}
	}
}

func subject(h backends.HoldID, k backends.Key) string {
	switch {
	case h != "":
		return "hold " + string(h)
	case k != backends.Key{}:
		return k.String()
	default:
		return "the pod"
	}
}

// add sums up one finding.
func (f *Figure) add(class string, units, sights int64, found []string) {
	switch {
	case f.Class == "none":
		f.Class = class
	case !strings.Contains(f.Class, class):
		f.Class += " and " + class
	}
	f.Count, f.Units, f.Sights = f.Count+1, f.Units+units, f.Sights+sights
	for _, by := range found {
		if f.Found == "" {
			f.Found = by
		} else if !strings.Contains(f.Found, by) {
			f.Found += ", " + by
		}
	}
}

// clean demands that audit and conservation find nothing.
func (g *play) clean(ctx context.Context, p *pod) error {
	a, err := p.audit(ctx)
	if err != nil {
		return err
	}
	if !a.Clean() || a.HoldsTruth == 0 || a.LevelsTruth == 0 {
		g.problem("an audit afterwards: %d findings, %d open, of %d holds and %d levels: %v", a.FindingsTotal, a.UndeterminedTotal, a.HoldsTruth, a.LevelsTruth, a.Summary)
	}
	c := p.conservation(ctx)
	if !c.Clean() {
		g.problem("conservation afterwards: %+v", c.Stores)
	}
	return nil
}

// mend takes the fault away, repairs the pod, and looks whether it is whole.
func (g *play) mend(ctx context.Context, p *pod, in *injection, ws []want) error {
	p.fault.set(func(f *faulty) { f.edit, f.delay = nil, nil })
	if len(ws) == 0 {
		g.row.Repaired = "nothing to do"
		return g.clean(ctx, p)
	}
	var m mending
	if in.mended != nil {
		m = in.mended(p.stage)
	}
	how, err := g.repaired(ctx, p, m)
	if err != nil {
		return err
	}
	if err := g.clean(ctx, p); err != nil {
		return err
	}
	left, err := p.confirmed(ctx)
	if err != nil {
		return err
	}
	for _, f := range left {
		g.problem("%s of hold %q, %d units, is open after the repair: %s", f.Class, f.Hold, f.TotalUnits, f.Why)
	}
	for i := range ws {
		w := &ws[i]
		f, err := p.findings.Finding(ctx, p.name, comparator.FindingID(p.name, w.class, w.hold, w.key))
		if err != nil {
			return err
		}
		if life := m.life(); f.Life != life {
			g.problem("%s of %s is %s after the repair, not %s", w.class, subject(w.hold, w.key), f.Life, life)
		}
	}
	g.row.Repaired = how
	return nil
}

// life is what becomes of the findings.
func (m *mending) life() comparator.Life {
	if m.acknowledge {
		return comparator.LifeAcknowledged
	}
	return comparator.LifeRepaired
}

// repaired repairs, and does what is left to a person.
func (g *play) repaired(ctx context.Context, p *pod, m mending) (how string, err error) {
	res, err := p.repair(ctx, false)
	if err != nil {
		return "", err
	}
	byHand := m.ledger || m.hand != nil || m.acknowledge
	if said := res.Outcomes[comparator.RepairByHand] > 0; said != byHand || !said && !res.Clean() {
		g.problem("the repair said %v, problems %q: %s", res.Outcomes, res.Problems, steps(res))
		return "", nil
	}
	switch {
	case m.acknowledge:
		return "acknowledged", p.acknowledge(ctx)
	case m.hand != nil:
		if err := m.hand(ctx, p); err != nil {
			return "", err
		}
		how = m.how
	case m.ledger:
		how = "yes, --correct-ledger"
	default:
		return "yes", nil
	}
	if res, err = p.repair(ctx, m.ledger); err == nil && !res.Clean() {
		g.problem("the repair after what it asked for said %v, problems %q: %s", res.Outcomes, res.Problems, steps(res))
	}
	return how, err
}

func steps(res *comparator.RepairResult) string {
	var out []string
	for i := range res.Steps {
		s := &res.Steps[i]
		out = append(out, fmt.Sprintf("%s: %s, %s", s.Class, s.Outcome, s.Why))
	}
	return strings.Join(out, "; ")
}

// repair is what a proxy does for 'crossfade repair --apply'.
func (p *pod) repair(ctx context.Context, ledger bool) (*comparator.RepairResult, error) {
	res, err := comparator.Repair(ctx, comparator.RepairInput{
		Pod: p.name, Pair: p.pair, Store: p.findings, Record: p.comparator.Record, Flush: p.comparator.Flush,
		Hands: func() (comparator.RepairHands, error) {
			shadow := p.stores.Of(p.stage.Truth().Other())
			return comparator.RepairHands{Stage: p.stage, Token: backends.Token{Epoch: epoch}, Truth: p.truth, Shadow: shadow, Deliver: p.writer.Deliver}, nil
		},
		CorrectLedger: ledger, Apply: true, By: "selftest", Why: "the self-test's own fault", Pause: auditPause,
	})
	if err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	return res, nil
}

// acknowledge moves all open findings.
func (p *pod) acknowledge(ctx context.Context) error {
	fs, err := p.confirmed(ctx)
	if err != nil {
		return err
	}
	ids := slices.Sorted(maps.Keys(fs))
	_, err = p.findings.SetLife(ctx, p.name, ids, comparator.LifeChange{To: comparator.LifeAcknowledged, By: "selftest", Why: "the self-test's own fault", At: time.Now()})
	return err
}
