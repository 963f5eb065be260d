package bench

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/backends"
)

func TestMedianInterval(t *testing.T) {
	for _, c := range []struct {
		name   string
		vs     []float64
		want   [3]float64 // value, low, high
		covers float64
	}{
		{"five pairs: the least to the largest", []float64{5, 1, 4, 2, 3}, [3]float64{3, 1, 5}, 0.9375},
		{"eight still want them", []float64{1, 2, 3, 4, 5, 6, 7, 80}, [3]float64{4.5, 1, 80}, 0.9921875},
		{"nine give up an outlier on each side", []float64{1, 2, 3, 4, 5, 6, 7, 8, 900}, [3]float64{5, 2, 8}, 0.9609375},
		{"three say how little they cover", []float64{3, 1, 2}, [3]float64{2, 1, 3}, 0.75},
		{"one covers nothing", []float64{7}, [3]float64{7, 7, 7}, 0},
	} {
		got := medianInterval(c.vs)
		if [3]float64{got.value, got.low, got.high} != c.want || math.Abs(got.covers-c.covers) > 1e-9 {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	if got := medianInterval(nil); !math.IsNaN(got.value) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestJudge(t *testing.T) {
	iv := func(v, l, h float64) interval { return interval{value: v, low: l, high: h} }
	for _, c := range []struct {
		name string
		iv   interval
		goal target
		want Verdict
	}{
		{"missed when all of the interval misses", iv(5, 4, 5.9), target{atLeast, 6}, Missed},
		{"within noise when the median misses and the interval does not", iv(5, 4, 6.1), target{atLeast, 6}, WithinNoise},
		{"within noise when the median meets and the interval does not", iv(7, 5, 8), target{atLeast, 6}, WithinNoise},
		{"met when all of it meets", iv(7, 6, 8), target{atLeast, 6}, Met},
		{"at most: missed", iv(2, 1.3, 3), target{atMost, 1.25}, Missed},
		{"at most: met", iv(1, 0.9, 1.25), target{atMost, 1.25}, Met},
		{"exactly", iv(100, 100, 100), target{exactly, 100}, Met},
		{"nearly", iv(101, 101, 101), target{exactly, 100}, Missed},
		{"exactly, in between", iv(100, 99, 101), target{exactly, 100}, WithinNoise},
		{"no target", iv(1, 1, 1), target{}, Printed},
		{"no value is no pass", iv(math.NaN(), math.NaN(), math.NaN()), target{atLeast, 6}, Broken},
	} {
		if got := judge(c.iv, c.goal); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

// TestWhatWasNotMeasuredDoesNotPass, in the report and in JSON.
func TestWhatWasNotMeasuredDoesNotPass(t *testing.T) {
	m := metricPoolVsAdvisory()
	v := m.unmeasured(NotMeasured, "no PostgreSQL", "install it")[0]
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"pass":null`, `"value":null`, `"verdict":"not measured"`, `"reason":"no PostgreSQL"`, `"next":"install it"`, `"target":"≥ 6"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	if v := m.unmeasured(Broken, "x", "y")[0]; v.Pass == nil || *v.Pass {
		t.Errorf("a broken measurement passes: %+v", v)
	}
	if c := (&Report{Metrics: []Value{v}}).Complaint(); c != "" {
		t.Errorf("what is not at hand is a complaint: %s", c)
	}
}

func TestComparedTakesRatiosPairByPair(t *testing.T) {
	m := metricPoolSpread()
	// The machine becomes slower and slower: the ratio of the medians would be the same, the pairs know better.
	pairs := []pair{{{"rate": 800}, {"rate": 200}}, {{"rate": 400}, {"rate": 100}}, {{"rate": 40}, {"rate": 10}}}
	v := m.compared(m.rows[0], pairs, []side{{what: "a"}, {what: "b"}})
	if *v.Value != 4 || *v.Low != 4 || *v.High != 4 || v.Verdict != Met || !slices.Equal(v.Ratios, []float64{4, 4, 4}) {
		t.Fatalf("%+v", v)
	}
	if v.A.Figures["rate"] != 400 || v.B.Figures["rate"] != 100 {
		t.Fatalf("%+v %+v", v.A, v.B)
	}
	if v := m.compared(m.rows[0], []pair{{{"rate": 1}, {}}}, []side{{what: "a"}, {what: "b"}}); v.Verdict != Broken || *v.Pass {
		t.Fatalf("a side without a figure: %+v", v)
	}
}

func TestHealth(t *testing.T) {
	for _, c := range []struct {
		name     string
		b        baseline
		measured float64
		fsyncs   float64
		want     bool
	}{
		{"half of the reference on the reference's disk", baseTransaction, 875, referenceFsync, true},
		{"less is not healthy", baseTransaction, 870, referenceFsync, false},
		{"a disk of a tenth expects a tenth", baseTransaction, 90, referenceFsync / 10, true},
		{"a faster disk expects no more", baseTransaction, 875, referenceFsync * 10, true},
		{"what does not commit does not depend on the disk", baseRelay, 10_000, referenceFsync / 10, false},
	} {
		if got := c.b.health(c.measured, c.fsyncs); got.Healthy != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	rep := &Report{Baselines: []Health{{Baseline: "x"}}}
	if c := rep.Complaint(); !strings.Contains(c, "unhealthy: x") {
		t.Errorf("%q", c)
	}
}

func TestUnequalDurabilityIsRefused(t *testing.T) {
	durable := map[string]string{"innodb_flush_log_at_trx_commit": "1", "sync_binlog": "1", "log_bin": "1", "innodb_doublewrite": "ON", "innodb_flush_method": "O_DIRECT"}
	with := func(name, value string) map[string]string {
		m := map[string]string{}
		for k, v := range durable {
			m[k] = v
		}
		m[name] = value
		return m
	}
	for _, c := range []struct {
		name string
		got  grade
		want grade
	}{
		{"every commit", sqlGrade(durable), gradeEachSync},
		{"no binary log needs no flush of it", sqlGrade(with("log_bin", "0")), gradeEachSync},
		{"log flushed each second", sqlGrade(with("innodb_flush_log_at_trx_commit", "2")), gradeSeconds},
		{"binary log left to the system", sqlGrade(with("sync_binlog", "0")), gradeSeconds},
		{"nosync", sqlGrade(with("innodb_flush_method", "nosync")), gradeSeconds},
		{"torn pages", sqlGrade(with("innodb_doublewrite", "OFF")), gradeSeconds},
		{"Redis, each second", redisGrade(map[string]string{"appendonly": "yes", "appendfsync": "everysec"}), gradeSeconds},
		{"Redis, always", redisGrade(map[string]string{"appendonly": "yes", "appendfsync": "always"}), gradeEachSync},
		{"PostgreSQL", postgresGrade(map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}), gradeEachSync},
		{"PostgreSQL, asynchronous", postgresGrade(map[string]string{"fsync": "on", "synchronous_commit": "off", "full_page_writes": "on"}), gradeSeconds},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s", c.name, c.got)
		}
	}
	each, seconds := Server{Name: "a", grade: gradeEachSync}, Server{Name: "b", grade: gradeSeconds}
	var unequal *UnequalError
	for _, c := range []struct {
		a, b   Server
		more   bool
		refuse bool
	}{
		{each, each, false, false}, {each, seconds, false, true}, {each, seconds, true, false},
		{seconds, each, true, true}, {Server{}, Server{}, true, true},
	} {
		if err := equallyDurable(c.a, c.b, c.more); errors.As(err, &unequal) != c.refuse {
			t.Errorf("%s, %s, more %t: %v", c.a.grade, c.b.grade, c.more, err)
		}
	}
}

func TestChosen(t *testing.T) {
	names := func(only ...string) string {
		ms, err := chosen(metrics(), only)
		if err != nil {
			return err.Error()
		}
		var out []string
		for _, m := range ms {
			out = append(out, m.name)
		}
		return strings.Join(out, " ")
	}
	if all := names(); strings.Count(all, " ") != 20 {
		t.Errorf("not twenty-one metrics: %s", all)
	}
	for only, want := range map[string]string{
		"resp.r,pool.hot": "pool.hot resp.relay", // a whole name is that one, in the order of the table
		"pool.vs":         "pool.vs_row pool.vs_redis pool.vs_advisory",
		"memory":          "memory.holds",
	} {
		if got := names(strings.Split(only, ",")...); got != want {
			t.Errorf("%s: %s", only, got)
		}
	}
	_, err := chosen(metrics(), []string{"poool"})
	var field *backends.FieldError
	if !errors.As(err, &field) || !strings.Contains(err.Error(), "--list") {
		t.Error(err)
	}
}

func TestOptionsHaveBounds(t *testing.T) {
	for _, o := range []Options{{Duration: 1}, {Duration: MaxDuration + 1}, {Pairs: -1}, {Pairs: MaxPairs + 1}} {
		if _, err := o.withDefaults(); !backends.IsRejection(err) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	full, _ := Options{}.withDefaults()
	quick, _ := Options{Quick: true}.withDefaults()
	few, _ := Options{Pairs: 4}.withDefaults()
	if !full.conclusive() || quick.conclusive() || few.conclusive() || quick.Duration >= full.Duration {
		t.Errorf("%+v %+v %+v", full, quick, few)
	}
}

func TestZipf(t *testing.T) {
	a := newAssortment(1000, true)
	if got := a.share(0) / a.share(9); math.Abs(got-10) > 1e-6 {
		t.Errorf("the first is drawn %.2f times as often as the tenth, want 10", got)
	}
	r := seeded(1, 1)
	first := 0
	const draws = 20_000
	for range draws {
		if a.draw(r) == 0 {
			first++
		}
	}
	if got := float64(first) / draws; math.Abs(got-a.share(0)) > 0.02 {
		t.Errorf("the first came in %.3f of the draws, want %.3f", got, a.share(0))
	}
	some := a.some(r, 20)
	slices.Sort(some)
	if len(slices.Compact(some)) != 20 {
		t.Errorf("a cart names an item twice: %v", some)
	}
	if got := newAssortment(3, false).some(r, 9); len(got) != 3 {
		t.Errorf("more items than there are: %v", got)
	}
}
