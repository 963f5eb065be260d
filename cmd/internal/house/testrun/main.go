// Command testrun is what `make test` and `make test-all` run: it has the servers that the tests
// want, by the ways of package lab, says what it fetched and started, and then runs `go test`.
//
// Each package of tests starts servers of its own from what is then in the cache, so that no
// package sees another's traffic. Where a kind of server cannot be had, the packages that want
// servers are left out, all others run, and the run fails, once, with what to install.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// serverPatience bounds having one server, its fetch over a slow line included.
const serverPatience = 5 * time.Minute

// stopGrace is what go test gets to end after an interrupt.
const stopGrace = 20 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\n"+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("testrun", flag.ContinueOnError)
	servers := fs.String("servers", "mysql,redis,etcd", "the kinds of servers that the tests want")
	race := fs.String("race", "auto", "the race detector: on, or auto (where there is a C compiler)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	kinds, err := parseKinds(*servers)
	if err != nil {
		return err
	}
	raceFlags, err := raceDetector(ctx, *race)
	if err != nil {
		return err
	}
	missing := haveServers(ctx, kinds, os.Stdout)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	pkgs, err := list(ctx)
	if err != nil {
		return err
	}
	chosen := names(pkgs)
	if missing != nil {
		var left []string
		chosen, left = withoutServers(pkgs)
		fmt.Printf("left out, for want of a server: %s\n", strings.Join(left, " "))
	}
	began := time.Now()
	// One package more than processors at once: tests on servers wait about half of their time.
	goArgs := slices.Concat([]string{"test", fmt.Sprintf("-p=%d", runtime.GOMAXPROCS(0)+1)}, raceFlags, fs.Args(), longestFirst(chosen))
	cmd := exec.CommandContext(ctx, "go", goArgs...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, stopGrace
	testErr := cmd.Run()
	if testErr != nil {
		testErr = fmt.Errorf("FAIL: go test: %w", testErr)
	}
	fmt.Printf("go test: %d packages in %s\n", len(chosen), time.Since(began).Round(time.Second))
	if missing != nil {
		return errors.Join(testErr, fmt.Errorf("FAIL: tests were left out: %w", missing))
	}
	return testErr
}

func parseKinds(text string) ([]lab.Kind, error) {
	var kinds []lab.Kind
	for _, name := range strings.Split(text, ",") {
		k, err := lab.ParseKind(name)
		if name == string(lab.Etcd) {
			k, err = lab.Etcd, nil
		}
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}

// raceDetector answers the flag for it. It wants cgo and a C compiler.
func raceDetector(ctx context.Context, want string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "CGO_ENABLED", "CC").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	enabled, cc, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	has := enabled == "1"
	if has {
		compiler, _, _ := strings.Cut(cc, " ")
		_, err := exec.LookPath(compiler)
		has = err == nil
	}
	switch {
	case has && (want == "on" || want == "auto"):
		fmt.Println("race detector: on")
		return []string{"-race"}, nil
	case want == "auto":
		fmt.Println("race detector: off, for want of a C compiler (install gcc to have it)")
		return nil, nil
	case want == "on":
		return nil, errors.New("the race detector wants a C compiler and cgo; install gcc, and do not set CGO_ENABLED=0")
	default:
		return nil, fmt.Errorf("-race is %q; allowed: on, auto", want)
	}
}

// haveServers starts a server of each kind and stops it: after that the cache has all that the
// tests need. All kinds are had at once: a build needs the processors while a fetch needs the line. The
// error says, for all kinds together, what could not be had.
func haveServers(ctx context.Context, kinds []lab.Kind, w io.Writer) error {
	errs := make([]error, len(kinds))
	out := &oneAtATime{w: w}
	var wg sync.WaitGroup
	for i, k := range kinds {
		wg.Go(func() {
			if errs[i] = haveServer(ctx, k, out); errs[i] != nil {
				fmt.Fprintf(out, "%s: cannot be had\n", k)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// oneAtATime keeps lines of several writers apart.
type oneAtATime struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *oneAtATime) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(b)
}

func haveServer(ctx context.Context, k lab.Kind, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, serverPatience)
	defer cancel()
	began := time.Now()
	s, err := lab.Start(ctx, k, lab.Options{Fast: true, Progress: w})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s %s: started on %s in %.1f s (%s)\n", k, s.Version(), s.Addr(), time.Since(began).Seconds(), s.Origin)
	return s.Stop(ctx)
}

// pkg is what `go list` tells of a package, as far as it matters here.
type pkg struct {
	ImportPath   string
	Name         string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func list(ctx context.Context) ([]pkg, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-json=ImportPath,Name,Imports,TestImports,XTestImports", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

func names(pkgs []pkg) []string {
	var all []string
	for _, p := range pkgs {
		all = append(all, p.ImportPath)
	}
	return all
}
