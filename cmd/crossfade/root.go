package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
)

const rootHelp = `Crossfade moves a shop's inventory reservations from Redis counters to a MySQL unit pool,
pod by pod, and back in a second. A checkout points its Redis client at 'crossfade serve'.

Begin with:
  crossfade demo                 see all of it on private, throw-away servers (about a minute)
  crossfade lab up               private servers and a ready crossfade.yaml to play with
  crossfade serve                run the proxy that crossfade.yaml describes

Exit codes: 0 done; 1 it did not work; 2 wrong command or input; 3 a check found something;
4 a gate or rule refused; 5 no proxy, or a store that is needed, answers.`

// globals are the flags that every command has.
type globals struct {
	config string
	admin  string
	token  string
	as     string
	json   bool
	out    io.Writer
	err    io.Writer
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	g := &globals{out: stdout, err: stderr}
	root := &cobra.Command{
		Use: "crossfade", Short: "Dual-write proxy for inventory reservations", Long: rootHelp,
		SilenceErrors: true, SilenceUsage: true, Version: version(),
	}
	group(root)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	f := root.PersistentFlags()
	f.StringVarP(&g.config, "config", "c", envOr("CROSSFADE_CONFIG", "crossfade.yaml"), "configuration file")
	f.StringVar(&g.admin, "admin", os.Getenv("CROSSFADE_ADMIN"), "admin address of a proxy, host:port (default: from the configuration)")
	f.StringVar(&g.token, "token", os.Getenv("CROSSFADE_TOKEN"), "admin token (default: from the configuration)")
	f.StringVar(&g.as, "as", os.Getenv("CROSSFADE_AS"), "name of the token of the configuration to use, where it has several")
	f.BoolVar(&g.json, "json", false, "print JSON")
	root.AddCommand(
		serveCmd(g), podsCmd(g), statusCmd(g), stageCmd(g), killCmd(g), rolloutCmd(g), reissueCmd(g), historyCmd(g), reportCmd(g), findingsCmd(g), apologiesCmd(g), auditCmd(g), repairCmd(g), conservationCmd(g),
		backfillCmd(g), connectionsCmd(g), locksCmd(g), stockCmd(g), labCmd(g), demoCmd(g), replayCmd(g), simCmd(g), soakCmd(g), contendCmd(g), chaosCmd(g), selftestCmd(g), benchCmd(g), configCmd(g),
	)
	return root
}

func envOr(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}

func version() string {
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" {
		return bi.Main.Version
	}
	return "unknown"
}

// args wraps a cobra check so that its failure is a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, a []string) error {
		if err := check(c, a); err != nil {
			return &usageError{fmt.Errorf("%w; see '%s --help'", err, c.CommandPath())}
		}
		return nil
	}
}

// group makes a command of commands: by itself it helps, and a command that it does not have is a usage error.
func group(c *cobra.Command) *cobra.Command {
	c.Args = args(cobra.NoArgs)
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}

// client finds the proxy to ask: by flag or environment, else by the configuration.
func (g *globals) client() (*admin.Client, error) {
	addr, token := g.admin, g.token
	if g.as != "" && token != "" {
		return nil, &usageError{errors.New("both a token (--token or CROSSFADE_TOKEN) and the name of one (--as or CROSSFADE_AS) are given; give one of them")}
	}
	if addr == "" || token == "" {
		cfg, err := config.Load(g.config)
		switch {
		case err == nil:
			if addr == "" {
				addr = cfg.Admin.Listen
			}
			if token == "" {
				if token, err = tokenOf(cfg.Admin.Tokens, g.as); err != nil {
					return nil, &usageError{err}
				}
			}
		case addr == "" && errors.Is(err, os.ErrNotExist):
			return nil, &usageError{fmt.Errorf("%w; or name a proxy with --admin host:port", err)}
		case addr == "" || g.as != "":
			return nil, &usageError{err}
		}
	}
	return admin.NewClient(addr, token), nil
}

// tokenOf is the token of a name, or the only one. Of several none is guessed: its name goes into the
// history as who did it.
func tokenOf(tokens map[string]string, as string) (string, error) {
	names := slices.Sorted(maps.Keys(tokens))
	if as == "" && len(names) == 1 {
		as = names[0]
	}
	token, known := tokens[as]
	if len(names) == 0 && as == "" || known {
		return token, nil
	}
	list := strings.Join(names, ", ")
	switch {
	case len(names) == 0:
		list = "none: the configuration has no admin.tokens, and changes are made as local"
	case as == "":
		return "", &backends.FieldError{Field: "as", Value: `""`, Bound: "one of " + list, Next: "admin.tokens has several: say who you are with --as NAME or CROSSFADE_AS, or give --token; the name is kept in the history"}
	default:
		list = "one of " + list
	}
	return "", &backends.FieldError{Field: "as", Value: fmt.Sprintf("%.80q", as), Bound: list, Next: "name a token of admin.tokens, or leave --as and CROSSFADE_AS out"}
}

func (g *globals) printJSON(v any) error {
	e := json.NewEncoder(g.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// tabled is a result that people read as a table.
type tabled interface{ WriteTable(io.Writer) error }

// printResult prints a result as --json says.
func (g *globals) printResult(r tabled) error {
	if g.json {
		return g.printJSON(r)
	}
	return r.WriteTable(g.out)
}

func (g *globals) say(format string, a ...any) { _, _ = fmt.Fprintf(g.out, format, a...) }

// tell is progress: it goes to the error stream, so that the output stays clean.
func (g *globals) tell(format string, a ...any) { _, _ = fmt.Fprintf(g.err, format, a...) }
