package selftest

import (
	"errors"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/comparator"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		bad  string // part of the error; "" for none
	}{
		{"defaults", Options{}, ""},
		{"a stage with one store", Options{Stages: []backends.Stage{backends.RedisOnly}}, "--stage is redis-only"},
		{"an injection that there is not", Options{Only: []string{"lost-wirte"}}, `--only is "lost-wirte"`},
		{"too many at once", Options{Parallel: 33}, "1 to 32"},
		{"none at once", Options{Parallel: -1}, "1 to 32"},
	} {
		o, err := c.o.complete()
		if c.bad == "" && (err != nil || len(o.Pairs) != 1 || len(o.Stages) != 2 || o.Parallel != DefaultParallel) {
			t.Errorf("%s: %+v, %v", c.name, o, err)
		}
		if c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestPairsOf(t *testing.T) {
	got, err := PairsOf([]lab.Kind{lab.MySQL, lab.Redis, lab.MariaDB, lab.Valkey})
	if err != nil || len(got) != 2 || got[0] != (Pair{lab.MySQL, lab.Redis}) || got[1] != (Pair{lab.MariaDB, lab.Valkey}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, ks := range [][]lab.Kind{nil, {lab.MySQL}, {lab.Redis, lab.Valkey, lab.MySQL}} {
		var fe *backends.FieldError
		if _, err := PairsOf(ks); !errors.As(err, &fe) || fe.Field != "--servers" {
			t.Errorf("%v: %v", ks, err)
		}
	}
}

// A row passes only for exactly what is wanted.
func TestJudge(t *testing.T) {
	p := &pod{name: "one"}
	k := key(victimItem)
	w := want{class: comparator.LevelDrift, key: k, units: 4, found: []string{byAudit}}
	right := comparator.Finding{ID: comparator.FindingID("one", comparator.LevelDrift, "", k), Class: comparator.LevelDrift, TotalUnits: 4, Count: 1, Units: []backends.Units{{Key: k, Quantity: 4}}}
	other := comparator.Finding{ID: "x", Class: comparator.OrphanHold, Hold: "h", TotalUnits: 1, Count: 1}
	with := func(change func(*comparator.Finding)) comparator.Finding {
		f := right
		change(&f)
		return f
	}
	for _, c := range []struct {
		name  string
		ws    []want
		found []comparator.Finding
		by    string
		bad   string // part of the only problem; "" for none
	}{
		{"as wanted", []want{w}, []comparator.Finding{right}, byAudit, ""},
		{"nothing, as wanted", nil, nil, byAudit, ""},
		{"nothing", []want{w}, nil, byAudit, "no level_drift of"},
		{"other units", []want{w}, []comparator.Finding{with(func(f *comparator.Finding) { f.TotalUnits = 5 })}, byAudit, "has 5 units, not 4"},
		{"counted twice", []want{w}, []comparator.Finding{with(func(f *comparator.Finding) { f.Count = 2 })}, byAudit, "seen 2 times, not 1"},
		{"by another check", []want{w}, []comparator.Finding{right}, byDecision, "found by decision, not by audit"},
		{"one more", []want{w}, []comparator.Finding{right, other}, byAudit, "orphan_hold of hold h, 1 units, found by audit, though nothing"},
		{"something where nothing was done", nil, []comparator.Finding{right}, byAudit, "though nothing of it was done"},
	} {
		g := &play{row: &Row{}}
		fs, by := map[string]comparator.Finding{}, map[string][]string{}
		for _, f := range c.found {
			fs[f.ID], by[f.ID] = f, []string{c.by}
		}
		g.judge(p, c.ws, fs, by)
		switch n := len(g.row.Problems); {
		case c.bad == "" && (n != 0 || g.row.Seen != g.row.Expected):
			t.Errorf("%s: %q, %s and %s", c.name, g.row.Problems, g.row.Seen, g.row.Expected)
		case c.bad != "" && (n != 1 || !strings.Contains(g.row.Problems[0], c.bad)):
			t.Errorf("%s: %q", c.name, g.row.Problems)
		}
	}
}

func TestReport(t *testing.T) {
	r := &Report{Servers: []Server{{"mysql", "1"}, {"redis", "2"}}, Seed: 7, Rows: []Row{
		{Injection: "lost-write", Stage: "shadow", Expected: Figure{Class: "missing_hold", Count: 1, Units: 2, Sights: 1, Found: byAudit}, Repaired: "yes", Passed: true, Decisions: 9},
		{Injection: "a-a", Stage: "live", Servers: "mysql and redis", Expected: Figure{Class: "none"}, Problems: []string{"something was found"}},
	}, Failed: 1}
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil || r.Passed() {
		t.Fatal(err, r.Passed())
	}
	for _, want := range []string{"mysql 1, redis 2: 2 rows, seed 7", "missing_hold 1, 2 units, 1 sight", "FAILED  a-a", "FAILED: a-a, live, mysql and redis: something was found", "1 of 2 rows failed."} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if r.Failed, r.Rows = 0, r.Rows[:1]; !r.Passed() {
		t.Error("a report whose rows all passed has not")
	}
	if (&Report{}).Passed() {
		t.Error("a report without rows has passed")
	}
}
