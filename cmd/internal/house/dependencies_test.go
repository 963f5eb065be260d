package house

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const dependenciesDoc = "docs/dependencies.md"

// entry of the document: a table's row that begins with a module or tool in code quotes, and has
// a reason in its second column.
var entry = regexp.MustCompile("(?m)^\\|\\s*`([^`]+)`\\s*\\|\\s*(.*?)\\s*\\|")

// unexplained compares what go.mod and tools/go.mod name with what the document explains.
func unexplained(direct []string, doc string) []string {
	var wrong []string
	explained := map[string]bool{}
	for _, m := range entry.FindAllStringSubmatch(doc, -1) {
		explained[m[1]] = true
		if len(m[2]) < 20 {
			wrong = append(wrong, fmt.Sprintf("%s gives no reason for %s", dependenciesDoc, m[1]))
		}
		if !slices.Contains(direct, m[1]) {
			wrong = append(wrong, fmt.Sprintf("%s explains %s, which no go.mod asks for directly", dependenciesDoc, m[1]))
		}
	}
	for _, d := range direct {
		if !explained[d] {
			wrong = append(wrong, fmt.Sprintf("%s has no row for %s: say what it is for, and what would be done without it", dependenciesDoc, d))
		}
	}
	return wrong
}

// modFile is what `go mod edit -json` tells.
type modFile struct {
	Require []struct {
		Path     string
		Indirect bool
	}
	Tool []struct{ Path string }
}

func readMod(t *testing.T, dir string) modFile {
	t.Helper()
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod modFile
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	return mod
}

func TestDependenciesHaveReasons(t *testing.T) {
	dir := moduleRoot(t)
	var direct []string
	for _, r := range readMod(t, dir).Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	if len(direct) == 0 {
		t.Fatal("go.mod has no direct requirement; run go mod tidy")
	}
	for _, tool := range readMod(t, filepath.Join(dir, "tools")).Tool {
		direct = append(direct, tool.Path)
	}
	doc, err := os.ReadFile(filepath.Join(dir, dependenciesDoc))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range unexplained(direct, string(doc)) {
		t.Error(w)
	}
}

func TestUnexplainedDependenciesAreSeen(t *testing.T) {
	doc := "| module | for |\n| --- | --- |\n| `a.org/a` | a reason that is long enough |\n| `a.org/short` | because |\n"
	got := unexplained([]string{"a.org/a", "a.org/short", "a.org/new"}, doc)
	if want := []string{"no reason for a.org/short", "no row for a.org/new"}; len(got) != 2 ||
		!strings.Contains(got[0], want[0]) || !strings.Contains(got[1], want[1]) {
		t.Errorf("want complaints with %q, got %q", want, got)
	}
	if got := unexplained([]string{"a.org/a"}, doc); len(got) != 2 {
		t.Errorf("a row for what nobody asks for is not seen: %q", got)
	}
}
