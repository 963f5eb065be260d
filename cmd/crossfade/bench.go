package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/bench"
)

func benchCmd(g *globals) *cobra.Command {
	var o bench.Options
	var list bool
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure Crossfade against its opponents, side by side", Args: args(cobra.NoArgs),
		Long: "Starts durable servers of its own and runs each metric as pairs: ours, then the opponent, then the other way\n" +
			"round. The value is the median of the pairs' ratios with its interval; a target is missed when the whole\n" +
			"interval misses it. Opponents are tuned in the same run, and one that is far below its known figure on this\n" +
			"disk is called unhealthy. All of it takes about 40 minutes; docs/benchmarks.md says what each metric is.\n" +
			"Exit code 3 when a target is missed, a baseline is unhealthy or a measurement failed.",
		Example: "  crossfade bench\n  crossfade bench --quick\n  crossfade bench --only pool.hot,resp --pairs 9 --json\n  crossfade bench --list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				return g.listBench(o.Only)
			}
			var err error
			if o.Binary, err = os.Executable(); err != nil {
				return err
			}
			o.Progress = g.err
			rep, err := bench.Run(cmd.Context(), o)
			if rep == nil {
				return benchUsage(err)
			}
			perr := g.printResult(rep)
			if c := rep.Complaint(); err == nil && c != "" {
				err = &foundError{c}
			}
			return errors.Join(err, perr)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Only, "only", nil, "names of metrics, or beginnings of names, with commas between (default: all)")
	f.BoolVar(&o.Quick, "quick", false, "the short form, some minutes; not conclusive")
	f.DurationVar(&o.Duration, "duration", 0, "how long a side is under load in one pair (default 3s; 700ms with --quick)")
	f.IntVar(&o.Pairs, "pairs", 0, "pairs of runs (default 5; 3 with --quick)")
	f.BoolVar(&list, "list", false, "list the metrics with their targets, and measure nothing")
	cmd.AddCommand(benchRelayCmd(g))
	return cmd
}

func benchUsage(err error) error {
	if backends.IsRejection(err) {
		return &usageError{err}
	}
	return err
}

func (g *globals) listBench(only []string) error {
	infos, err := bench.List(only)
	if err != nil {
		return benchUsage(err)
	}
	if g.json {
		return g.printJSON(infos)
	}
	for _, i := range infos {
		g.say("%s: %s\n", i.Name, i.What)
		for _, t := range i.Targets {
			g.say("  target %s\n", t)
		}
		g.say("  A: %s\n", i.A)
		if i.B != "" {
			g.say("  B: %s\n", i.B)
		}
	}
	return nil
}

// benchRelayCmd is an opponent that has to be a process of its own, as the proxy is.
func benchRelayCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "relay ADDR", Short: "Pass bytes on to ADDR and do nothing else: the benchmark's bare relay", Args: args(cobra.ExactArgs(1)), Hidden: true,
		Long:    "Listens on a free loopback port, prints it, and relays every connection to ADDR until it is ended.",
		Example: "  crossfade bench relay 127.0.0.1:6379",
		RunE: func(cmd *cobra.Command, a []string) error {
			return bench.Relay(cmd.Context(), a[0], g.out)
		},
	}
}
