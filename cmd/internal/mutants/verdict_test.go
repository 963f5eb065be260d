package main

import (
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	const run = `{"Action":"run","Package":"p","Test":"TestA"}` + "\n"
	for _, c := range []struct {
		name, events string
		want         verdict
		by           string
	}{
		{"a test fails", run + `{"Action":"fail","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"fail","Package":"p"}`, killed, "TestA"},
		{"all pass", run + `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"pass","Package":"p"}`, survived, ""},
		{"no test matches", `{"Action":"output","Package":"p","Output":"ok [no tests to run]\n"}` + "\n" + `{"Action":"pass","Package":"p"}`, nothingRan, ""},
		{"nothing was printed", "", nothingRan, ""},
		{"it does not build", `{"ImportPath":"p","Action":"build-output","Output":"x.go:1: undefined\n"}` + "\n" + `{"ImportPath":"p","Action":"build-fail"}` + "\n" + `{"Action":"fail","Package":"p","FailedBuild":"p"}`, unbuilt, ""},
		{
			"one package fails, another does not build", run + `{"Action":"fail","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"fail","Package":"q","FailedBuild":"q"}`,
			unbuilt, "TestA",
		},
		{"tests hang", run + `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: test timed out after 5m0s\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestA"}`, hung, "TestA"},
		{"a goroutine is left", run + `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"fail","Package":"p"}`, killed, "p"},
		{"subtests are named, not their parents", run + `{"Action":"fail","Package":"p","Test":"TestA/x"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestA"}`, killed, "TestA/x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := readEvents(strings.NewReader(c.events))
			if err != nil {
				t.Fatal(err)
			}
			if got := judge(o); got != c.want || o.killer() != c.by {
				t.Errorf("%s by %q, want %s by %q", got, o.killer(), c.want, c.by)
			}
		})
	}
}

func TestMutantIsAsBadAsItsWorstSet(t *testing.T) {
	fails := outcome{ran: 1, failed: []string{"TestA"}}
	passes := outcome{ran: 1}
	for _, c := range []struct {
		name  string
		sets  []outcome
		unfit map[string]string
		want  verdict
	}{
		{"each fails", []outcome{fails, fails}, nil, killed},
		{"one passes", []outcome{fails, passes}, nil, survived},
		{"one passes first", []outcome{passes, fails}, nil, survived},
		{"it fails without the mutant too", []outcome{fails}, map[string]string{"set": "why"}, unsound},
		{"no set", nil, nil, unknown},
	} {
		var r result
		for _, o := range c.sets {
			r.take("set", o, c.unfit)
		}
		if r.verdict != c.want {
			t.Errorf("%s: %s, want %s", c.name, r.verdict, c.want)
		}
	}
}

func TestVerdictOnAll(t *testing.T) {
	dead := result{verdict: killed}
	for _, c := range []struct {
		name    string
		results []result
		lacking []string
		ok      bool
	}{
		{"all dead", []result{dead, dead}, nil, true},
		{"one lives", []result{dead, {verdict: survived}}, nil, false},
		{"one was not reached", []result{dead, {}}, nil, false},
		{"a promise lacks mutants", []result{dead}, []string{"P1 has 1 of at least 2 mutants"}, false},
		{"none", nil, nil, false},
	} {
		if err := verdictOn(c.results, c.lacking); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
