// Spec checks the specification in docs/spec with Spin, which the lab finds or fetches: each configuration
// exhaustively, in bounded time and memory, and then each rule of the protocol broken on purpose, which has to be found.
// It needs a C compiler: Spin writes its search as a program in C.
//
// The model and this program's table of configurations are read together: a variation is a -D of the model.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// Bounds of one search. What does not end within them has not been checked, and is a failure.
const (
	searchTime   = 4 * time.Minute
	searchMemory = 2500 // MB
	searchDepth  = 200_000
	// searchesAtOnce bounds the memory of all.
	searchesAtOnce = 4
)

// config is one search.
type config struct {
	name string
	// first is the stage in which the pod begins: 0 redis-only to 3 mysql-only.
	first, moves, kills, fails, deaths int
	breaks                             string // the rule that is broken; empty: none is
}

// configs are the searches; those that break a rule are as small as what they break allows.
var configs = []config{
	{name: "from redis-only", first: 0, moves: 1, kills: 1, deaths: 1},
	{name: "from shadow", first: 1, moves: 1, kills: 1, deaths: 1},
	{name: "from live", first: 2, moves: 1, kills: 1, deaths: 1},
	{name: "from mysql-only", first: 3, moves: 1, kills: 1, deaths: 1},
	{name: "Redis replaced in shadow", first: 1, kills: 1, fails: 1},
	{name: "Redis replaced in a switch", first: 1, moves: 1, fails: 1},
	{name: "Redis replaced in live", first: 2, kills: 1, fails: 1},
	{name: "Redis decides under any epoch", first: 1, moves: 1, breaks: "BREAK_REDIS_IGNORES_EPOCH"},
	{name: "MySQL decides under any epoch", first: 3, moves: 1, kills: 1, breaks: "BREAK_MYSQL_IGNORES_EPOCH"},
	{name: "live answers without Redis", first: 2, kills: 1, breaks: "BREAK_LIVE_WITHOUT_REDIS"},
	{name: "a kill while Redis is filled", first: 3, moves: 1, kills: 1, breaks: "BREAK_KILL_IN_FILLING"},
	{name: "a kill opens a replaced Redis", first: 1, kills: 1, fails: 1, breaks: "BREAK_KILL_REVIVES"},
	{name: "a switch without compare", first: 2, moves: 1, kills: 1, deaths: 1, breaks: "BREAK_RAISE_WITHOUT_COMPARE"},
	{name: "a switch without drain", first: 1, moves: 1, breaks: "BREAK_NO_DRAIN"},
	{name: "a re-issue without restoring", first: 1, fails: 1, breaks: "BREAK_NO_RESTORE"},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "spec:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir := flag.String("dir", "docs/spec", "folder of the model")
	only := flag.String("run", "", "only searches whose names match this regular expression")
	flag.Parse()
	which, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	spin, err := lab.Find(ctx, lab.Spin, lab.Options{})
	if err != nil {
		return err
	}
	var chosen []config
	for _, c := range configs {
		if which.MatchString(c.name) {
			chosen = append(chosen, c)
		}
	}
	failed, turns := make([]error, len(chosen)), make(chan struct{}, min(searchesAtOnce, runtime.NumCPU()))
	var mu sync.Mutex // of out
	var all sync.WaitGroup
	for i, c := range chosen {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			start := time.Now()
			states, verdict, err := c.check(ctx, spin, *dir)
			failed[i] = err
			mu.Lock()
			defer mu.Unlock()
			_, _ = fmt.Fprintf(out, "%-32s %12s states %6.1f s  %s\n", c.name, states, time.Since(start).Seconds(), verdict)
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// check searches, and says whether the outcome is what it has to be.
func (c config) check(ctx context.Context, spin *lab.Program, dir string) (states, verdict string, err error) {
	found, states, err := c.search(ctx, spin, dir)
	switch {
	case err != nil:
	case found != "" && c.breaks == "":
		err = errors.New(found)
	case found == "" && c.breaks != "":
		err = fmt.Errorf("%s breaks no assertion: the model does not need that rule, or this search is too small", c.breaks)
	case c.breaks != "":
		return states, "found, as it has to be", nil
	default:
		return states, "holds", nil
	}
	return states, "FAILED: " + err.Error(), fmt.Errorf("%s: %w", c.name, err)
}

var (
	stored    = regexp.MustCompile(`(\S+) states, stored`)
	errorLine = regexp.MustCompile(`errors: (\d+)`)
	pan       = regexp.MustCompile(`(?m)^pan:\d+: (.*)$`)
)

// search answers what was found ("" for nothing) and how many states there are.
func (c config) search(ctx context.Context, spin *lab.Program, model string) (found, states string, err error) {
	dir, err := os.MkdirTemp("", "crossfade-spec")
	if err != nil {
		return "", "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.CopyFS(dir, os.DirFS(model)); err != nil {
		return "", "", err
	}
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	args := []string{
		fmt.Sprintf("-DFIRST=%d", c.first), fmt.Sprintf("-DMOVES=%d", c.moves), fmt.Sprintf("-DKILLS=%d", c.kills),
		fmt.Sprintf("-DFAILS=%d", c.fails), fmt.Sprintf("-DDEATHS=%d", c.deaths),
	}
	if c.breaks != "" {
		args = append(args, "-D"+c.breaks)
	}
	// Unoptimised: the compiler would take ten times as long as most searches do.
	steps := []*exec.Cmd{
		spin.Command(ctx, append(args, "-a", "switching.pml")...),
		exec.CommandContext(ctx, "cc", "-O0", "-w", "-DSAFETY", fmt.Sprintf("-DMEMLIM=%d", searchMemory), "-o", "pan", "pan.c"),
		exec.CommandContext(ctx, filepath.Join(dir, "pan"), fmt.Sprintf("-m%d", searchDepth), "-w24"), //nolint:gosec // made here
	}
	var out []byte
	for _, cmd := range steps {
		cmd.Dir = dir
		if out, err = cmd.CombinedOutput(); err != nil {
			return "", "", fmt.Errorf("%s: %w: %.400s", filepath.Base(cmd.Path), errors.Join(err, ctx.Err()), out)
		}
	}
	return judged(string(out))
}

// judged reads what a search has printed. One that was cut short, for want of depth or memory, is no answer.
func judged(out string) (found, states string, err error) {
	n, e := stored.FindStringSubmatch(out), errorLine.FindStringSubmatch(out)
	switch {
	case n == nil || e == nil, strings.Contains(out, "Search not completed") && e[1] == "0",
		strings.Contains(out, "max search depth too small"), strings.Contains(out, "reached -DMEMLIM"):
		return "", "", fmt.Errorf("the search did not come to its end: %.600s", out)
	case e[1] == "0":
		return "", n[1], nil
	}
	if m := pan.FindStringSubmatch(out); m != nil {
		return m[1], n[1], nil
	}
	return "an error that the search does not name", n[1], nil
}
