package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// drift makes the ledger and MySQL's level of an item n units larger than Redis's, past Crossfade: P2 holds in
// MySQL, and the stores differ.
func (r *rig) drift(item string, n int) {
	r.t.Helper()
	where := fmt.Sprintf(" WHERE pod = '%s' AND item = '%s'", podName, item)
	r.neighbour("START TRANSACTION", fmt.Sprintf("UPDATE crossfade_ledger SET on_hand = on_hand + %d", n)+where,
		fmt.Sprintf("UPDATE crossfade_levels SET unmaterialised = unmaterialised + %d", n)+where, "COMMIT")
}

// audited runs an audit, which is to find so many differences.
func (r *rig) audited(want int64) {
	r.t.Helper()
	a, err := jsonOf[comparator.AuditResult](r.proxies[0], "audit", podName)
	if err != nil || a.FindingsTotal != want || a.UndeterminedTotal != 0 {
		r.t.Fatalf("the audit found %d, left %d open: %v", a.FindingsTotal, a.UndeterminedTotal, err)
	}
}

func (p *proxyProc) findings(args ...string) comparator.FindingList {
	p.r.t.Helper()
	l, err := jsonOf[comparator.FindingList](p, append([]string{"findings", podName}, args...)...)
	if err != nil {
		p.r.t.Fatal(err)
	}
	return l
}

// gates are what the gates of the move to live say, by their names. The exit code is that of a refusal when one stands
// in the way.
func (p *proxyProc) gates() map[string]killswitch.GateResult {
	p.r.t.Helper()
	out, err := p.run("stage", podName, "live", "--dry-run", "--why", "test", "--json")
	var res killswitch.Result
	if jerr := json.Unmarshal(out, &res); jerr != nil {
		p.r.t.Fatal(err, jerr)
	}
	stands := false
	gates := map[string]killswitch.GateResult{}
	for _, g := range res.Change.Gates {
		gates[g.Name] = g
		stands = stands || g.Stands()
	}
	want := 0
	if stands {
		want = 4
	}
	if code := exitOf(err); code != want || !res.DryRun || len(res.Plan) == 0 || stands != (res.Refused != "") {
		p.r.t.Fatalf("exit code %d, want %d: %v\n%s", code, want, err, out)
	}
	return gates
}

// gate is what one of them says.
func (p *proxyProc) gate(name string) killswitch.GateResult {
	p.r.t.Helper()
	g, there := p.gates()[name]
	if !there {
		p.r.t.Fatalf("no gate %s", name)
	}
	return g
}

// exitOf is a command's exit code; -1 when it was not run.
func exitOf(err error) int {
	var ee *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ee):
		return ee.ExitCode()
	default:
		return -1
	}
}

// TestFindingsLife follows a finding through its life over two proxies: an open one holds up the move to live, an
// acknowledged one does not, one that is seen again does, and a MySQL that is away changes nothing.
func TestFindingsLife(t *testing.T) {
	r := newRig(t, 2)
	one, two := r.proxies[0], r.proxies[1]
	r.stage("shadow")
	c := one.client()
	for _, item := range []string{"mug", "cup"} {
		do(t, c, "XF.RESTOCK", shop, item, "5", "OPID", "s-"+item, "MODE", "ONHAND")
	}
	do(t, c, "XF.RESERVE", shop, "h1", "TTL", "600000", "CALLER", "checkout", "LINE", "mug", "1")
	r.drained(20 * time.Second)
	if g := one.gate("findings"); !g.Pass {
		t.Fatalf("before anything was broken: %+v", g)
	}
	r.drift("mug", 2)
	r.audited(1)
	if g := two.gate("findings"); g.Pass {
		t.Fatalf("an open finding does not hold up the move: %+v", g)
	}
	l := two.findings()
	if len(l.Findings) != 1 || l.Findings[0].Class != comparator.LevelDrift || l.Findings[0].TotalUnits != 2 || l.Next != "" {
		t.Fatalf("%+v", l)
	}
	id := l.Findings[0].ID
	for _, c := range []struct {
		args []string
		n    int
	}{{[]string{"--item", "mug"}, 1}, {[]string{"--item", "cup"}, 0}, {[]string{"--class", "oversell_risk"}, 0}, {[]string{"--since", "1h", "--class", "oversell_risk,level_drift"}, 1}} {
		if got := two.findings(c.args...); len(got.Findings) != c.n {
			t.Errorf("%q lists %d, want %d", c.args, len(got.Findings), c.n)
		}
	}
	two.page("Do not advance this pod", "finding-"+id, "2 units counted differently")
	r.acknowledge(two, id)
	if g := one.gate("findings"); !g.Pass {
		t.Fatalf("an acknowledged finding holds up the move: %+v", g)
	}
	if rep, err := one.run("report", podName); exitOf(err) != 0 {
		t.Errorf("the report says %v\n%s", err, rep)
	}

	r.audited(1) // it is still there
	f := r.finding(one, id)
	if n := len(f.History); f.Life != comparator.LifeOpen || n != 2 || f.History[n-1].By != "" || !strings.Contains(f.History[n-1].Why, "acknowledged by test") {
		t.Fatalf("seen again: %+v", f)
	}
	if g := one.gate("findings"); g.Pass {
		t.Fatalf("a finding that was seen again does not hold up the move: %+v", g)
	}
	r.reviewersAtOnce(id)
	r.findingsWithoutMySQL(id)
}

func (r *rig) finding(p *proxyProc, id string) comparator.FindingDetail {
	r.t.Helper()
	d, err := jsonOf[comparator.FindingDetail](p, "findings", "show", podName, id)
	if err != nil || d.ID != id || d.Meaning == "" || len(d.Next) == 0 {
		r.t.Fatalf("%+v, %v", d, err)
	}
	return d
}

// acknowledge does so twice, which is once, and refuses what is wrong as a whole.
func (r *rig) acknowledge(p *proxyProc, id string) {
	r.t.Helper()
	none := strings.Repeat("0", 32)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"findings", "ack", podName, id, none, "--why", "x"}, 2, "no finding of this pod has that id"},
		{[]string{"findings", "ack", "pod-2", id, "--why", "x"}, 2, "crossfade pods"},
		{[]string{"findings", "show", podName, none}, 2, "no finding of this pod has that id"},
	} {
		if _, err := p.run(c.args...); exitOf(err) != c.code || !strings.Contains(err.Error(), c.want) {
			r.t.Errorf("%q: %v, want %d and %q", c.args, err, c.code, c.want)
		}
	}
	if f := r.finding(p, id); f.Life != comparator.LifeOpen || len(f.History) != 0 {
		r.t.Fatalf("a change of two of which one is not there has changed the other: %+v", f)
	}
	for i, changed := range []int{1, 0} {
		m, err := jsonOf[comparator.MovedFindings](p, "findings", "ack", podName, id, "--why", fmt.Sprint("recounted ", i))
		if err != nil || m.Changed != changed || len(m.Findings) != 1 || m.Findings[0].By != "test" || m.Findings[0].Why != "recounted 0" {
			r.t.Fatalf("%+v, %v", m, err)
		}
	}
	if f := r.finding(p, id); f.Life != comparator.LifeAcknowledged || len(f.History) != 1 || f.History[0].By != "test" || f.History[0].Why != "recounted 0" {
		r.t.Fatalf("%+v", f)
	}
}

// reviewersAtOnce has people acknowledge and reopen one finding through both proxies at the same time: what was
// changed is what the history has.
func (r *rig) reviewersAtOnce(id string) {
	r.t.Helper()
	before := len(r.finding(r.proxies[0], id).History)
	var wg sync.WaitGroup
	var mu sync.Mutex
	changed := 0
	for i := range 6 {
		wg.Go(func() {
			verb := []string{"ack", "reopen"}[i%2]
			m, err := jsonOf[comparator.MovedFindings](r.proxies[i/2%2], "findings", verb, podName, id, "--why", fmt.Sprint("by ", i))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.t.Error(err)
			}
			changed += m.Changed
		})
	}
	wg.Wait()
	f := r.finding(r.proxies[1], id)
	if n := len(f.History) - before; n != changed || n == 0 {
		r.t.Errorf("%d changes were made, %d recorded: %+v", changed, n, f.History)
	}
	for i := 1; i < len(f.History); i++ {
		if f.History[i].From != f.History[i-1].To {
			r.t.Errorf("the history breaks at %d: %+v", i, f.History)
		}
	}
}

// findingsWithoutMySQL: with MySQL stopped each command says so, with exit code 5, and nothing is half done.
func (r *rig) findingsWithoutMySQL(id string) {
	r.t.Helper()
	p := r.proxies[0]
	before := r.finding(p, id)
	if err := r.sql.Kill(); err != nil {
		r.t.Fatal(err)
	}
	other := []string{"ack", "reopen"}[b2i(before.Life == comparator.LifeAcknowledged)]
	for _, args := range [][]string{{"findings", podName}, {"findings", "show", podName, id}, {"findings", other, podName, id, "--why", "away"}} {
		if _, err := p.run(args...); exitOf(err) != 5 || !strings.Contains(err.Error(), "pod's MySQL") {
			r.t.Errorf("%q: %v", args, err)
		}
	}
	if err := r.sql.Restart(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.eventually(30*time.Second, "the finding is there again", func() error {
		d, err := jsonOf[comparator.FindingDetail](p, "findings", "show", podName, id)
		if err == nil && (d.Life != before.Life || len(d.History) != len(before.History)) {
			r.t.Fatalf("it was half changed: %+v, was %+v", d, before)
		}
		return err
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestExcuses: a difference that an excuse covers is counted apart and holds up no move, without a restart of the
// proxies; when the excuse has run out, the next sight is a finding, and the report names the excuse.
func TestExcuses(t *testing.T) {
	r := newRig(t, 1)
	p := r.proxies[0]
	r.stage("shadow")
	do(t, p.client(), "XF.RESTOCK", shop, "mug", "5", "OPID", "s1", "MODE", "ONHAND")
	r.drained(20 * time.Second)
	today := time.Now().UTC().Format(time.DateOnly)
	yesterday := time.Now().UTC().Add(-24 * time.Hour).Format(time.DateOnly)
	write := func(until string) {
		r.excuse("excuses:\n  - {name: recount, owner: ann, why: ticket 7, from: " + time.Now().UTC().Add(-48*time.Hour).Format(time.DateOnly) + ", until: " + until + ", classes: [level_drift], items: [mug]}\n")
	}
	write(time.Now().UTC().Add(48 * time.Hour).Format(time.DateOnly))
	r.excuseIs(comparator.ExcuseHolds)
	if next := strings.Join(p.report().Next, " "); !strings.Contains(next, "recount of ann has matched nothing") {
		t.Errorf("an excuse that matches nothing is not named: %s", next)
	}
	r.drift("mug", 2)
	a, err := jsonOf[comparator.AuditResult](p, "audit", podName)
	if err != nil || a.FindingsTotal != 0 || a.ExcusedTotal != 1 || a.ExcusedUnits != 2 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := p.run("audit", podName); exitOf(err) != 0 {
		t.Errorf("an audit that found nothing else ends with %v", err)
	}
	if l := p.findings("--state", "excused"); len(l.Findings) != 1 || l.Findings[0].Excuse != "recount" || l.Findings[0].Count != 2 {
		t.Errorf("%+v", l)
	}
	if l := p.findings(); len(l.Findings) != 0 {
		t.Errorf("it is listed as open: %+v", l)
	}
	if g := p.gate("findings"); !g.Pass {
		t.Errorf("it holds up the move: %+v", g)
	}
	if e := r.excuseIs(comparator.ExcuseHolds); e.Findings != 1 || e.Units != 2 {
		t.Errorf("the report says %+v", e)
	}
	write("yesterday") // a mistake: what was read before stays in force
	r.eventually(20*time.Second, "the report names the mistake", func() error {
		if rep := p.report(); len(rep.Problems) == 0 || !strings.Contains(rep.Problems[0], "file of excuses") || rep.Excuses[0].State != comparator.ExcuseHolds {
			return fmt.Errorf("problems: %q", rep.Problems)
		}
		return nil
	})
	write(yesterday)
	r.excuseIs(comparator.ExcuseRunOut)
	if next := strings.Join(p.report().Next, " "); !strings.Contains(next, "recount of ann ran out on "+yesterday) || strings.Contains(next, "ran out on "+today) {
		t.Errorf("an excuse that has run out is not named: %s", next)
	}
	r.audited(1)
	if g := p.gate("findings"); g.Pass {
		t.Errorf("what an excuse covered that has run out does not hold up the move: %+v", g)
	}
}

// excuseIs waits until the report shows the one excuse in a state.
func (r *rig) excuseIs(state comparator.ExcuseState) (e comparator.ExcuseReport) {
	r.t.Helper()
	r.eventually(20*time.Second, "the excuse is "+string(state), func() error {
		rep := r.proxies[0].report()
		if len(rep.Excuses) != 1 || rep.Excuses[0].State != state || len(rep.Problems) > 0 {
			return fmt.Errorf("excuses %+v, problems %q", rep.Excuses, rep.Problems)
		}
		e = rep.Excuses[0]
		return nil
	})
	return e
}
