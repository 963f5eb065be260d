package main

import (
	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/contend"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

func contendCmd(g *globals) *cobra.Command {
	var o contend.Options
	var stage, dialect, redis string
	cmd := &cobra.Command{
		Use: "contend", Short: "Let buyers fight for the last units through several proxies, and check what the comparator makes of it", Args: args(cobra.NoArgs),
		Long: "Plays sales of a few items with a few units each, one after the other, through several proxies of one pod on private servers\n" +
			"from the lab. Without --lose nothing may be found, and next to nothing stay undetermined. With --lose the shadow confirms\n" +
			"one write in each sale and does not keep it; each of these has to be found, once, by its class and with its units.\n" +
			"Exit code 3 when something else came out.",
		Example: "  crossfade contend                                    # a million decisions in shadow\n  crossfade contend --stage live --decisions 100000 --lose --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Stage, err = backends.ParseStage(stage); err != nil {
				return &usageError{err}
			}
			if o.SQL, err = lab.ParseKind(dialect); err != nil {
				return &usageError{err}
			}
			if o.Redis, err = lab.ParseKind(redis); err != nil {
				return &usageError{err}
			}
			if !g.json {
				o.Progress = g.err
			}
			r, err := contend.Run(cmd.Context(), o)
			if r == nil || err != nil {
				return err
			}
			if perr := g.printResult(r); perr != nil || r.Kept() {
				return perr
			}
			return &foundError{"something came out that should not; see above"}
		},
	}
	f := cmd.Flags()
	f.Int64Var(&o.Decisions, "decisions", contend.DefaultDecisions, "how many reserves the buyers ask for")
	f.StringVar(&stage, "stage", backends.Shadow.String(), "shadow or live")
	f.BoolVar(&o.Lose, "lose", false, "lose one write in each sale")
	f.Int64Var(&o.Sale, "sale", contend.DefaultSale, "length of a sale in decisions")
	f.IntVar(&o.Proxies, "proxies", contend.DefaultProxies, "proxies of the pod")
	f.IntVar(&o.Buyers, "buyers", contend.DefaultBuyers, "buyers at the same time")
	f.StringVar(&dialect, "dialect", "mysql", "mysql or mariadb")
	f.StringVar(&redis, "redis", "redis", "redis or valkey")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of what the buyers want")
	return cmd
}
