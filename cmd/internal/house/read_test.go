package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// module is the path that all of our imports begin with.
const module = "github.com/crossfade-proxy/crossfade"

// goPackage is what `go list` tells of a package, as far as the rules need it.
type goPackage struct {
	ImportPath   string
	Dir          string
	Name         string
	Doc          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// rel is the package's path below the module; "." for the module's own folder.
func (p goPackage) rel() string { return relative(p.ImportPath) }

func relative(importPath string) string {
	rest, ours := strings.CutPrefix(importPath, module)
	switch {
	case !ours:
		return importPath
	case rest == "":
		return "."
	default:
		return strings.TrimPrefix(rest, "/")
	}
}

// root is the folder of go.mod.
var root = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", errors.New("the tests run outside the module")
	}
	return filepath.Dir(mod), nil
})

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// packages are all packages of the module, those behind build tags too.
func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-tags", "clients", "-json=ImportPath,Dir,Name,Doc,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = moduleRoot(t)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, errs.String())
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found %d packages: that is not this module", len(all))
	}
	return all
}

// textFile is a file of the tree, tracked or about to be.
type textFile struct {
	path string // below the module, with slashes
	text string
}

// generated tells whether the file says that a tool wrote it.
func (f textFile) generated() bool {
	head, _, _ := strings.Cut(f.text, "\npackage ")
	return strings.Contains(head, "// Code generated ") && strings.Contains(head, " DO NOT EDIT.")
}

// files are the tree's files with one of these endings.
func files(t *testing.T, endings ...string) []textFile {
	t.Helper()
	dir := moduleRoot(t)
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var found []textFile
	for _, path := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if !hasEnding(path, endings) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, and not yet committed so
		}
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, textFile{path, string(text)})
	}
	if len(found) == 0 {
		t.Fatalf("the tree has no file that ends in any of %q", endings)
	}
	return found
}

func hasEnding(path string, endings []string) bool {
	for _, e := range endings {
		if strings.HasSuffix(path, e) {
			return true
		}
	}
	return false
}
