package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// toy is a module with one promise and the mutants that a runner meets.
var toy = map[string]string{
	"go.mod":        "module toy\n\ngo 1.26\n",
	"x/x.go":        "package x\n\nfunc Sum(a, b int) int {\n\treturn a + b\n}\n\nfunc Name() string {\n\treturn \"x\"\n}\n",
	"x/x_test.go":   "package x\n\nimport \"testing\"\n\nfunc TestSum(t *testing.T) {\n\tif Sum(1, 2) != 3 {\n\t\tt.Fatal()\n\t}\n}\n\nfunc TestBroken(t *testing.T) { t.Fatal() }\n",
	"ignored/x.txt": "not copied",
	".gitignore":    "/ignored/\n",

	"cmd/internal/sim/sim.go":      "package sim\n\nfunc keeps() bool {\n\treturn true\n}\n",
	"cmd/internal/sim/sim_test.go": "package sim\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestSchedules(t *testing.T) {\n\tif !keeps() {\n\t\tt.Fatal(\"seed 17 of \" + os.Getenv(\"CROSSFADE_SCHEDULES\"))\n\t}\n}\n",

	"testdata/mutants/p1-minus.patch":     header("P1", "./x", "TestSum", "no") + minus,
	"testdata/mutants/p1-name.patch":      header("P1", "./x", "TestSum", "no") + change("x/x.go", 7, "func Name() string {", "\treturn \"x\"", "\treturn \"y\""),
	"testdata/mutants/p2-unbuilt.patch":   header("P2", "./x", "TestSum", "no") + change("x/x.go", 3, sumLine, "\treturn a + b", "\treturn a + c"),
	"testdata/mutants/p2-stale.patch":     header("P2", "./x", "TestSum", "no") + change("x/x.go", 3, sumLine, "\treturn a * b", "\treturn a - b"),
	"testdata/mutants/p3-unsound.patch":   header("P3", "./x", "TestBroken", "no") + minus,
	"testdata/mutants/p3-nothing.patch":   header("P3", "./x", "TestNoSuch", "no") + minus,
	"testdata/mutants/p4-simulated.patch": header("P4", "./cmd/internal/sim", "TestSchedules", "yes") + change("cmd/internal/sim/sim.go", 3, "func keeps() bool {", "\treturn true", "\treturn false"),
	"testdata/mutants/p4-unseen.patch":    header("P4", "./x", "TestSum", "yes") + minus,
}

const sumLine = "func Sum(a, b int) int {"

var minus = change("x/x.go", 3, sumLine, "\treturn a + b", "\treturn a - b")

func header(promise, pkg, test, sim string) string {
	return "# promise: " + promise + "\n# breaks: something\n# tests: " + pkg + " -run '^" + test + "$'\n# sim: " + sim + "\n"
}

// change replaces the one line of a function that begins at the given line.
func change(file string, line int, head, from, to string) string {
	return fmt.Sprintf("--- a/%s\n+++ b/%s\n@@ -%d,3 +%d,3 @@\n %s\n-%s\n+%s\n }\n", file, file, line, line, head, from, to)
}

// plant writes the toy into a repository of its own, which becomes the working folder.
func plant(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range toy {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v: %s", err, out)
	}
	t.Chdir(dir)
	return dir
}

func TestRunner(t *testing.T) {
	dir := plant(t)
	var out strings.Builder
	err := run(t.Context(), []string{"-schedules", "5", "-j", "2"}, &out)
	if err == nil {
		t.Fatalf("survivors, and no error:\n%s", out.String())
	}
	for name, want := range map[string]string{
		"p1-minus":     `P1 +killed +TestSum `,
		"p1-name":      `P1 +SURVIVED `,
		"p2-unbuilt":   `P2 +DOES NOT BUILD `,
		"p2-stale":     `P2 +DOES NOT APPLY `,
		"p3-unsound":   `P3 +FAILS WITHOUT IT `,
		"p3-nothing":   `P3 +FAILS WITHOUT IT `,
		"p4-simulated": `P4 +killed +TestSchedules; simulation \(seed 17\) `,
		"p4-unseen":    `P4 +SURVIVED `,
	} {
		if !regexp.MustCompile(`(?m)^` + name + ` +(` + want + `)`).MatchString(out.String()) {
			t.Errorf("%s: want %s", name, want)
		}
	}
	for _, want := range []string{"p1-name: SURVIVED", "P5 has 0 of at least 2 mutants"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q", want)
		}
	}
	if !strings.Contains(out.String(), "2 of 8 mutants killed") {
		t.Error("the count is wrong")
	}
	if t.Failed() {
		t.Logf("%v\n%s", err, out.String())
	}
	if text, err := os.ReadFile(filepath.Join(dir, "x/x.go")); err != nil || string(text) != toy["x/x.go"] {
		t.Errorf("the tree was changed: %v\n%s", err, text)
	}
}

func TestRunnerChoosesByName(t *testing.T) {
	plant(t)
	var out strings.Builder
	if err := run(t.Context(), []string{"-run", "^p1-minus$"}, &out); err != nil {
		t.Errorf("the only one that was chosen is killed, so all is well: %v\n%s", err, out.String())
	}
	if err := run(t.Context(), []string{"-run", "^nobody$"}, &out); err == nil {
		t.Error("none was chosen, and no error")
	}
	if err := run(t.Context(), []string{"-j", "0"}, &out); err == nil {
		t.Error("-j 0 is taken")
	}
}
