package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/cmd/internal/soak"
)

func soakCmd(g *globals) *cobra.Command {
	var o soak.Options
	var dialect string
	cmd := &cobra.Command{
		Use: "soak", Short: "Run the unit pool for minutes, and check its promises while traffic goes on", Args: args(cobra.NoArgs),
		Long: "Plays carts, claims, releases, extensions, expiries, restocks and refills over a few hot and many cold items on a\n" +
			"private, durable MySQL or MariaDB from the lab. At every sample it checks that all units are accounted for, in one\n" +
			"snapshot under traffic; that no item that cannot run out was refused; and that some order explains every answer\n" +
			"about items of a few units. It prints throughput, latencies, the store's counters and InnoDB's own.\n" +
			"Exit code 3 when a promise was broken.",
		Example: "  crossfade soak                              # ten minutes on MySQL\n  crossfade soak --for 1m --dialect mariadb --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Dialect, err = lab.ParseKind(dialect); err != nil {
				return &usageError{err}
			}
			if !g.json {
				o.Progress = g.err
			}
			r, err := soak.Run(cmd.Context(), o)
			if r == nil || err != nil && backends.IsRejection(err) {
				return err
			}
			perr := g.printResult(r)
			if err == nil && !r.Kept() {
				err = &foundError{"a promise was broken, or could not be checked; see above"}
			}
			return errors.Join(err, perr)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.For, "for", soak.DefaultFor, "length of the run")
	f.DurationVar(&o.Sample, "sample", 0, "time between two samples (default 5s)")
	f.StringVar(&dialect, "dialect", "mysql", "mysql or mariadb")
	f.IntVar(&o.Workers, "workers", soak.DefaultWorkers, "buyers at the same time")
	f.IntVar(&o.Connections, "connections", soak.DefaultConnections, "connections of the store")
	f.IntVar(&o.Combine, "combine", 0, "most requests that share a transaction (default: the store's own; 1: none do)")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of what the buyers want")
	return cmd
}
