package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// options of the command.
type options struct {
	only      *regexp.Regexp
	jobs      int
	schedules int
}

// maxJobs bounds the slots: each builds and runs servers of its own.
const maxJobs = 16

func parseOptions(args []string, w io.Writer) (options, error) {
	fs := flag.NewFlagSet("mutants", flag.ContinueOnError)
	fs.SetOutput(w)
	only := fs.String("run", ".", "run the mutants whose name matches this `regexp`")
	jobs := fs.Int("j", 1, "run this many at a time")
	schedules := fs.Int("schedules", 100_000, "schedules of the simulation that a mutant with 'sim: yes' must not get through")
	if err := fs.Parse(args); err != nil {
		return options{}, err
	}
	re, err := regexp.Compile(*only)
	if err != nil {
		return options{}, fmt.Errorf("-run: %w", err)
	}
	if *jobs < 1 || *jobs > maxJobs {
		return options{}, fmt.Errorf("-j is %d; allowed: 1 to %d", *jobs, maxJobs)
	}
	if *schedules < 1 {
		return options{}, fmt.Errorf("-schedules is %d; it has to be positive", *schedules)
	}
	return options{re, *jobs, *schedules}, nil
}

func run(ctx context.Context, args []string, w io.Writer) error {
	o, err := parseOptions(args, w)
	if err != nil {
		return err
	}
	tree, err := command(ctx, gitTimeout, ".", nil, "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	tree = strings.TrimSpace(tree)
	all, err := readMutants(filepath.Join(tree, "testdata", "mutants"))
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(m mutant) bool { return !o.only.MatchString(m.name) })
	var lacking []string
	if len(chosen) == len(all) {
		lacking = unbroken(all)
	}
	under, err := os.MkdirTemp("", "crossfade-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(under)
	results, err := runAll(ctx, o, tree, under, chosen, w)
	if err != nil {
		return err
	}
	printTable(w, results)
	return verdictOn(results, lacking)
}

// runAll checks the baseline, then runs the mutants on as many slots as are asked for.
func runAll(ctx context.Context, o options, tree, under string, chosen []mutant, w io.Writer) ([]result, error) {
	slots := make([]*slot, min(o.jobs, max(1, len(chosen))))
	for i := range slots {
		var err error
		if slots[i], err = newSlot(ctx, tree, under, i); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(w, "%d mutants; first the tests without any of them\n", len(chosen))
	unfit, err := baseline(ctx, slots[0], chosen, o.schedules, w)
	if err != nil {
		return nil, err
	}
	results := make([]result, len(chosen))
	errs := make([]error, len(slots))
	next := make(chan int)
	var wg sync.WaitGroup
	var printing sync.Mutex
	for i, s := range slots {
		wg.Go(func() {
			for n := range next {
				if errs[i] != nil {
					continue // the slot is not to be trusted; run down the list
				}
				results[n], errs[i] = runOne(ctx, s, chosen[n], unfit, o.schedules)
				printing.Lock()
				fmt.Fprintf(w, "%-16s %s (%.0f s)\n", results[n].verdict, chosen[n].name, results[n].seconds)
				printing.Unlock()
			}
		})
	}
	for n := range chosen {
		next <- n
	}
	close(next)
	wg.Wait()
	return results, errors.Join(errs...)
}

// baseline runs each set of tests once on the tree as it is. It answers, by set, what is wrong.
func baseline(ctx context.Context, s *slot, chosen []mutant, schedules int, w io.Writer) (map[string]string, error) {
	unfit := map[string]string{}
	done := map[string]bool{}
	check := func(name string, o outcome, err error) error {
		if err != nil {
			return err
		}
		if v := judge(o); v != survived {
			unfit[name] = fmt.Sprintf("without a mutant: %s: %s\n%s", name, describe(v, o), o.output)
			fmt.Fprintln(w, unfit[name])
		}
		return nil
	}
	for _, m := range chosen {
		for _, set := range m.tests {
			if name := set.String(); !done[name] {
				done[name] = true
				o, err := s.test(ctx, set)
				if err := check(name, o, err); err != nil {
					return nil, err
				}
			}
		}
		if name := simulation.String(); m.sim && !done[name+" (all schedules)"] {
			done[name+" (all schedules)"] = true
			o, err := s.simulate(ctx, schedules)
			if err := check(simName, o, err); err != nil {
				return nil, err
			}
		}
	}
	return unfit, nil
}

// simName is how the simulation is called in tables.
const simName = "simulation"

func describe(v verdict, o outcome) string {
	if v == killed {
		return "fails in " + o.killer()
	}
	return strings.ToLower(v.String())
}

// runOne applies, tests and takes back one mutant. The error is about the slot, not the mutant.
func runOne(ctx context.Context, s *slot, m mutant, unfit map[string]string, schedules int) (r result, err error) {
	began := time.Now()
	r.mutant = m
	defer func() { r.seconds = time.Since(began).Seconds() }()
	undo, err := s.apply(ctx, m.patch)
	if err != nil {
		r.add(stale, "", err.Error())
		return r, ctx.Err()
	}
	defer func() { err = errors.Join(err, undo()) }()
	for _, set := range m.tests {
		o, err := s.test(ctx, set)
		if err != nil {
			return r, err
		}
		r.take(set.String(), o, unfit)
	}
	if m.sim {
		o, err := s.simulate(ctx, schedules)
		if err != nil {
			return r, err
		}
		r.take(simName, o, unfit)
	}
	return r, nil
}

// take adds what one set of tests has shown.
func (r *result) take(name string, o outcome, unfit map[string]string) {
	switch v := judge(o); {
	case unfit[name] != "":
		r.add(unsound, name, "")
	case v == killed && name == simName:
		r.add(v, simName+seedOf(o.output), "")
	case v == killed:
		r.add(v, o.killer(), "")
	case v == survived:
		r.add(v, fmt.Sprintf("%s (%d tests pass)", name, o.ran), "")
	default:
		r.add(v, name, fmt.Sprintf("%s: %s\n%s", name, v, o.output))
	}
}

var failingSeed = regexp.MustCompile(`\bseed (\d+)\b`)

// seedOf is the seed of the schedule that failed, to replay it.
func seedOf(output string) string {
	if m := failingSeed.FindStringSubmatch(output); m != nil {
		return " (seed " + m[1] + ")"
	}
	return ""
}

func printTable(w io.Writer, results []result) {
	for _, r := range results {
		if r.verdict != killed && r.detail != "" {
			fmt.Fprintf(w, "\n--- %s: %s\n%s\n", r.mutant.name, r.verdict, r.detail)
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nmutant\tpromise\tverdict\tby\tseconds\n")
	dead := 0
	for _, r := range results {
		if r.verdict == killed {
			dead++
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.1f\n", r.mutant.name, r.mutant.promise, r.verdict, strings.Join(r.by, "; "), r.seconds)
	}
	t.Flush()
	fmt.Fprintf(w, "\n%d of %d mutants killed\n", dead, len(results))
}
