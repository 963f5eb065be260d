package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// promises that the design makes, each of which needs mutants.
var promises = []string{"P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8"}

// perPromise is the least number of ways in which each promise is broken.
const perPromise = 2

// testSet is what one `go test` is asked to run.
type testSet struct {
	packages []string // relative to the module: ./backends/memstore
	run      string   // regexp of -run; empty: all
	tags     string   // build tags; mostly empty
}

func (s testSet) String() string {
	text := strings.Join(s.packages, " ")
	if s.run != "" {
		text += " -run '" + s.run + "'"
	}
	if s.tags != "" {
		text += " -tags " + s.tags
	}
	return text
}

// mutant is one patch with its header.
type mutant struct {
	name    string // file name without .patch
	promise string
	breaks  string
	tests   []testSet
	sim     bool
	patch   string // absolute path
}

var (
	fileName   = regexp.MustCompile(`^(p[1-8])-[a-z0-9]+(-[a-z0-9]+)*$`)
	headerLine = regexp.MustCompile(`^#\s*([a-z]+):\s*(.*?)\s*$`)
	word       = regexp.MustCompile(`'[^']*'|[^\s']+`)
)

// parseMutant reads a patch's header. The header ends at the first line that is neither
// empty nor a comment; comments without a key are for people.
func parseMutant(name, text string) (mutant, error) {
	m := mutant{name: name}
	match := fileName.FindStringSubmatch(name)
	if match == nil {
		return m, fmt.Errorf("%s: a mutant's file is named <promise>-<slug>.patch, as in p3-hasty-refusal.patch", name)
	}
	sim, body := "", ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if trimmed != "" && !strings.HasPrefix(trimmed, "#") {
			_, body, _ = strings.Cut(text, line)
			body = line + body
			break
		}
		kv := headerLine.FindStringSubmatch(trimmed)
		if kv == nil {
			continue
		}
		switch kv[1] {
		case "promise":
			m.promise = kv[2]
		case "breaks":
			m.breaks = kv[2]
		case "tests":
			set, err := parseTests(kv[2])
			if err != nil {
				return m, fmt.Errorf("%s: %w", name, err)
			}
			m.tests = append(m.tests, set)
		case "sim":
			sim = kv[2]
		default:
			return m, fmt.Errorf("%s: unknown header %q; known: promise, breaks, tests, sim", name, kv[1])
		}
	}
	m.sim = sim == "yes"
	return m, errors.Join(
		must(strings.EqualFold(m.promise, match[1]), "%s: the header says promise %q", name, m.promise),
		must(m.promise == strings.ToUpper(m.promise), "%s: a promise is written as P1", name),
		must(m.breaks != "", "%s: no '# breaks:' line says what is broken", name),
		must(len(m.tests) > 0, "%s: no '# tests:' line says which tests must fail", name),
		must(sim == "yes" || sim == "no", "%s: '# sim:' is yes or no, and not %q", name, sim),
		must(strings.Contains(body, "\n+++ ") || strings.HasPrefix(body, "+++ "), "%s: no unified diff follows the header", name),
	)
}

func must(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// parseTests reads the packages and flags of a tests line; quotes keep a regexp together.
func parseTests(text string) (testSet, error) {
	var s testSet
	words := word.FindAllString(text, -1)
	for i := 0; i < len(words); i++ {
		w := strings.Trim(words[i], "'")
		switch {
		case w == "-run" || w == "-tags":
			if i++; i == len(words) {
				return s, fmt.Errorf("tests: %s wants a value", w)
			}
			value := strings.Trim(words[i], "'")
			if w == "-tags" {
				s.tags = value
				break
			}
			if _, err := regexp.Compile(value); err != nil {
				return s, fmt.Errorf("tests: -run: %w", err)
			}
			s.run = value
		case strings.HasPrefix(w, "./"):
			s.packages = append(s.packages, w)
		default:
			return s, fmt.Errorf("tests: %q is neither a package (./…) nor one of the flags -run and -tags", w)
		}
	}
	if len(s.packages) == 0 {
		return s, errors.New("tests: no package is named")
	}
	return s, nil
}

// readMutants reads all patches of a folder, in the order of their names. Broken headers are
// reported all at once.
func readMutants(dir string) ([]mutant, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	var all []mutant
	var errs []error
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		m, err := parseMutant(strings.TrimSuffix(filepath.Base(p), ".patch"), string(text))
		m.patch = p
		all, errs = append(all, m), append(errs, err)
	}
	return all, errors.Join(errs...)
}

// unbroken lists the promises that have too few mutants.
func unbroken(all []mutant) []string {
	count := map[string]int{}
	for _, m := range all {
		count[m.promise]++
	}
	var short []string
	for _, p := range promises {
		if n := count[p]; n < perPromise {
			short = append(short, fmt.Sprintf("%s has %d of at least %d mutants", p, n, perPromise))
		}
	}
	return short
}
