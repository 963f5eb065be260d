package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const diff = "--- a/x.go\n+++ b/x.go\n@@ -1 +1 @@\n-a\n+b\n"

func TestParseMutant(t *testing.T) {
	const good = "# promise: P3\n# breaks: says sold out at once\n# tests: ./backends/memstore ./dualwrite -run 'TestA|TestB'\n# sim: yes\n"
	for _, c := range []struct {
		name, file, text string
		wrong            string // part of the error; empty: none
		tests            []testSet
		sim              bool
	}{
		{
			name: "a whole header", file: "p3-hasty-refusal", text: good + diff, sim: true,
			tests: []testSet{{packages: []string{"./backends/memstore", "./dualwrite"}, run: "TestA|TestB"}},
		},
		{
			name: "two sets, one with tags", file: "p3-x",
			text:  "# promise: P3\n#\n# For people.\n# breaks: b\n# tests: ./a\n# tests: -tags clients ./b -run ^TestC$\n# sim: no\n\n" + diff,
			tests: []testSet{{packages: []string{"./a"}}, {packages: []string{"./b"}, run: "^TestC$", tags: "clients"}},
		},
		{name: "a regexp with a space", file: "p3-x", text: strings.Replace(good, "TestA|TestB", "TestA/a b", 1) + diff, sim: true, tests: []testSet{{packages: []string{"./backends/memstore", "./dualwrite"}, run: "TestA/a b"}}},
		{name: "no such promise", file: "p9-x", text: good + diff, wrong: "is named"},
		{name: "a name without a slug", file: "p3", text: good + diff, wrong: "is named"},
		{name: "file and header disagree", file: "p4-x", text: good + diff, wrong: "says promise"},
		{name: "no reason", file: "p3-x", text: strings.Replace(good, "breaks", "tests: ./x\n# breaks", 1)[:20] + diff, wrong: "what is broken"},
		{name: "no tests", file: "p3-x", text: "# promise: P3\n# breaks: b\n# sim: no\n" + diff, wrong: "which tests"},
		{name: "sim is missing", file: "p3-x", text: strings.Replace(good, "# sim: yes\n", "", 1) + diff, wrong: "yes or no"},
		{name: "an unknown key", file: "p3-x", text: good + "# test: ./x\n" + diff, wrong: "unknown header"},
		{name: "no package", file: "p3-x", text: strings.Replace(good, "./backends/memstore ./dualwrite", "", 1) + diff, wrong: "no package"},
		{name: "a flag that hides failures", file: "p3-x", text: strings.Replace(good, "-run", "-short", 1) + diff, wrong: "neither a package"},
		{name: "a broken regexp", file: "p3-x", text: strings.Replace(good, "TestA|", "(", 1) + diff, wrong: "-run"},
		{name: "no diff", file: "p3-x", text: good, wrong: "no unified diff"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := parseMutant(c.file, c.text)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("want an error with %q, got %v", c.wrong, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.tests, m.tests, cmp.AllowUnexported(testSet{})); d != "" || m.sim != c.sim || m.promise != "P3" {
				t.Errorf("promise %s, sim %v, tests (-want +got):\n%s", m.promise, m.sim, d)
			}
		})
	}
}

func TestEveryPromiseIsBroken(t *testing.T) {
	var all []mutant
	for _, p := range promises {
		all = append(all, mutant{promise: p}, mutant{promise: p})
	}
	if got := unbroken(all); len(got) != 0 {
		t.Errorf("two of each are enough: %q", got)
	}
	if got := unbroken(all[1:]); len(got) != 1 || !strings.HasPrefix(got[0], "P1 has 1 ") {
		t.Errorf("P1 lacks one: %q", got)
	}
}
