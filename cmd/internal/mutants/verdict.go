package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// verdict is what became of a mutant, or of one set of tests under it.
type verdict uint8

// The zero value is unknown and is never success. Later ones are worse: the worst of a
// mutant's sets is its own.
const (
	unknown    verdict = iota
	killed             // a test ran, and failed
	survived           // tests ran, and all passed
	nothingRan         // no test matched
	hung               // tests were stopped at their deadline
	unbuilt            // the mutated tree, or a test in it, does not build
	stale              // the patch does not apply
	unsound            // the same tests fail without the mutant
)

func (v verdict) String() string {
	names := [...]string{"unknown", "killed", "SURVIVED", "NO TEST RAN", "HUNG", "DOES NOT BUILD", "DOES NOT APPLY", "FAILS WITHOUT IT"}
	if int(v) < len(names) {
		return names[v]
	}
	return "unknown"
}

// outcome is what one `go test -json` told.
type outcome struct {
	ran        int
	failed     []string // tests, or packages that failed as a whole
	buildBroke bool
	timedOut   bool
	output     string // the last of what was printed, for people
}

// maxOutput bounds what is kept of a run's output: enough for a compiler's complaint.
const maxOutput = 4000

// event is one line of `go test -json`.
type event struct {
	Action      string
	Package     string
	Test        string
	Output      string
	FailedBuild string
}

// readEvents turns the lines of `go test -json` into an outcome. Lines that are not JSON
// are kept as output.
func readEvents(r io.Reader) (outcome, error) {
	var o outcome
	data, err := io.ReadAll(r)
	if err != nil {
		return o, err
	}
	var out bytes.Buffer
	failedIn := map[string]bool{} // packages of which a test has failed
	for line := range bytes.Lines(data) {
		var e event
		if json.Unmarshal(line, &e) != nil {
			out.Write(line)
			continue
		}
		out.WriteString(e.Output)
		if strings.HasPrefix(e.Output, "panic: test timed out after ") {
			o.timedOut = true
		}
		switch {
		case e.Action == "build-fail" || e.FailedBuild != "":
			o.buildBroke = true
		case e.Action == "run" && e.Test != "":
			o.ran++
		case e.Action == "fail" && e.Test != "":
			failedIn[e.Package] = true
			o.failed = append(o.failed, e.Test)
		case e.Action == "fail" && !failedIn[e.Package]:
			// No test of it failed: a goroutine was left over, or the process died.
			o.failed = append(o.failed, e.Package)
		}
	}
	o.output = tail(out.String(), maxOutput)
	return o, nil
}

func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-n:], "")
}

// judge says what a set of tests has shown about a mutant.
func judge(o outcome) verdict {
	switch {
	case o.buildBroke:
		return unbuilt
	case o.timedOut:
		return hung
	case o.ran == 0:
		return nothingRan
	case len(o.failed) > 0:
		return killed
	default:
		return survived
	}
}

// killer names the tests that failed, without the parents of those that are named.
func (o outcome) killer() string {
	var leaves []string
	for _, name := range o.failed {
		isParent := slices.ContainsFunc(o.failed, func(other string) bool { return strings.HasPrefix(other, name+"/") })
		if !isParent && !slices.Contains(leaves, name) {
			leaves = append(leaves, name)
		}
	}
	switch len(leaves) {
	case 0:
		return ""
	case 1:
		return leaves[0]
	default:
		return fmt.Sprintf("%s and %d more", leaves[0], len(leaves)-1)
	}
}

// result of one mutant.
type result struct {
	mutant  mutant
	verdict verdict
	by      []string // what killed it, or what is wrong
	detail  string   // output, for those that were not killed
	seconds float64
}

// add takes the verdict of one more set of tests: the mutant is as bad as its worst.
func (r *result) add(v verdict, by, detail string) {
	r.verdict = max(r.verdict, v)
	if by != "" {
		r.by = append(r.by, by)
	}
	if v != killed {
		r.detail += detail
	}
}

// verdictOn is nil when all mutants were killed and, where all were asked for, no promise lacks mutants.
func verdictOn(results []result, lacking []string) error {
	var errs []error
	for _, r := range results {
		if r.verdict != killed {
			errs = append(errs, fmt.Errorf("%s: %s", r.mutant.name, r.verdict))
		}
	}
	for _, l := range lacking {
		errs = append(errs, errors.New(l))
	}
	if len(results) == 0 {
		errs = append(errs, errors.New("no mutant was run"))
	}
	return errors.Join(errs...)
}
