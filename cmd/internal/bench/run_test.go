package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// TestShortForm measures some metrics of each kind on real, durable servers, for moments: that what is
// printed came from a measurement, not that it is good.
func TestShortForm(t *testing.T) {
	var progress bytes.Buffer
	rep, err := Run(t.Context(), Options{
		Only:  []string{"pool.flash", "resp.relay", "resp.pipelined"},
		Quick: true, Duration: 200 * time.Millisecond, Pairs: 1, Binary: program, Progress: &progress,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	values := map[string]Value{}
	for _, v := range rep.Metrics {
		values[v.Name] = v
		if v.Verdict == Broken || v.Verdict == NotMeasured {
			t.Errorf("%s is %s: %s", v.Name, v.Verdict, v.Reason)
		}
	}
	for _, name := range []string{"pool.flash", "pool.flash.lock_waits", "resp.relay", "resp.pipelined"} {
		if values[name].Value == nil {
			t.Errorf("%s has no value", name)
		}
	}
	if v := values["pool.flash"]; v.Value != nil && *v.Value != flashUnits {
		t.Errorf("of %d units %g were granted", flashUnits, *v.Value)
	}
	if v := values["resp.relay"]; v.A == nil || v.A.Figures["rate"] <= 0 || v.B.Figures["p99_ms"] <= 0 || len(v.Beside) != 1 {
		t.Errorf("%+v", v)
	}
	if rep.Conclusive || rep.Fsync.Samples == 0 || len(rep.Servers) != 2 || len(rep.Baselines) != 2 {
		t.Errorf("%+v", rep)
	}
	for _, s := range rep.Servers {
		if s.Name == "mysql" && (s.grade != gradeEachSync || s.Durability["sync_binlog"] != "1") {
			t.Errorf("%+v", s)
		}
	}
	var table bytes.Buffer
	if err := rep.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NOT CONCLUSIVE", "pool.flash.lock_waits", "sync_binlog=1", "appendfsync=everysec", "BASELINES"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, table.String())
		}
	}
	if _, err := json.Marshal(rep); err != nil {
		t.Error(err)
	}
	t.Log(table.String())
}

// TestAuditInShort measures an audit of some holds on real servers: that it reads all of them beside a load, interrupted and gone on
// with, and finds nothing.
func TestAuditInShort(t *testing.T) {
	var progress bytes.Buffer
	rep := &Report{}
	o, err := Options{Quick: true, Duration: 300 * time.Millisecond, Pairs: 2, Binary: program, Progress: &progress}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEnv(o, rep)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	m := metricAudit()
	if err := e.runAudit(t.Context(), m, auditSize{holds: 3000, warm: time.Second, least: o.Duration}); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	if len(rep.Metrics) != len(m.rows) {
		t.Fatalf("%d values of %d", len(rep.Metrics), len(m.rows))
	}
	for _, v := range rep.Metrics {
		if v.Value == nil {
			t.Errorf("%s has no value: %s", v.Name, v.Reason)
		}
	}
	if v := rep.Metrics[0]; v.A == nil || v.A.Figures["p99_ms"] <= 0 || v.B.Figures["p99_ms"] <= 0 || v.A.Figures["peak_mib"] <= 0 {
		t.Errorf("%+v", v)
	}
	t.Log(progress.String())
}

// TestEveryMetricSaysWhatItIs: the table of the documentation is made of this.
func TestEveryMetricSaysWhatItIs(t *testing.T) {
	infos, err := List(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range metrics() {
		if m.what == "" || m.a == "" || m.run == nil || len(m.rows) == 0 || len(infos[i].Targets) == 0 {
			t.Errorf("%s: %+v", m.name, infos[i])
		}
	}
}

// TestTheDocumentationHasEveryTarget: a target that is changed here is changed there.
func TestTheDocumentationHasEveryTarget(t *testing.T) {
	text, err := os.ReadFile("../../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metrics() {
		for _, r := range m.rows {
			name, bound := "`"+m.name+r.suffix+"`", strings.Replace(r.goal.String(), "1000", "1,000", 1)
			found := false
			for line := range strings.Lines(string(text)) {
				found = found || strings.HasPrefix(line, "| `") && strings.Contains(line, name) && strings.Contains(line, strings.TrimPrefix(bound, "≤ "))
			}
			if !found {
				t.Errorf("docs/benchmarks.md has no row with %s and %q", name, bound)
			}
		}
	}
}
