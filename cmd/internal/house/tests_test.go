package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// evasions lists the calls in a file of tests that let a test pass without having tested.
func evasions(f textFile) ([]string, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, f.path, f.text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []string
	ast.Inspect(tree, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		of := ""
		if id, ok := sel.X.(*ast.Ident); ok {
			of = id.Name
		}
		why := ""
		switch name := sel.Sel.Name; {
		case name == "Skip" || name == "Skipf" || name == "SkipNow":
			why = "a skipped test proves nothing; a server that cannot be had is a failure, and a draw that does not fit is filtered"
		case of == "time" && name == "Sleep":
			why = "a sleep is a race on a busy machine; wait for the condition, with a deadline"
		case of == "testing" && name == "Short":
			why = "the short form is the default here; what is long reads CROSSFADE_LONG and does more, never less"
		default:
			return true
		}
		found = append(found, fmt.Sprintf("%s: %s.%s: %s", fset.Position(sel.Pos()), of, sel.Sel.Name, why))
		return true
	})
	return found, nil
}

// isTestCode: files of tests, and suites that tests call.
func isTestCode(f textFile) bool {
	return strings.HasSuffix(f.path, "_test.go") || strings.Contains(f.text, "\t\"testing\"\n")
}

func TestNoTestEvades(t *testing.T) {
	n := 0
	for _, f := range files(t, ".go") {
		if !isTestCode(f) {
			continue
		}
		n++
		found, err := evasions(f)
		if err != nil {
			t.Error(err)
		}
		for _, e := range found {
			t.Error(e)
		}
	}
	if n < 5 {
		t.Errorf("only %d files of tests were read", n)
	}
}

func TestEvasionsAreSeen(t *testing.T) {
	const head = "package x\nimport (\"testing\"; \"time\")\nfunc TestX(t *testing.T) { "
	for _, c := range []struct {
		body string
		want int
	}{
		{"t.Skip()", 1},
		{"t.Run(``, func(tt *testing.T) { tt.Skipf(`no server`) })", 1},
		{"time.Sleep(time.Second)", 1},
		{"wait := time.Sleep; wait(1)", 1},
		{"if testing.Short() { return }", 1},
		{"// t.Skip() is not called\n", 0},
		{"t.Log(`time.Sleep(1)`)", 0},
	} {
		got, err := evasions(textFile{"x_test.go", head + c.body + "}"})
		if err != nil || len(got) != c.want {
			t.Errorf("%s: %d complaints, want %d: %q, %v", c.body, len(got), c.want, got, err)
		}
	}
}
