package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/cmd/internal/selftest"
)

func selftestCmd(g *globals) *cobra.Command {
	var o selftest.Options
	var kinds, stages []string
	cmd := &cobra.Command{
		Use: "selftest", Short: "Break pods on purpose, and check that the comparison tells of it", Args: args(cobra.NoArgs),
		Long: "Starts private, throw-away servers from the lab, and puts one fault into each of many pods while honest buyers go on:\n" +
			"writes that are lost, doubled or altered on their way to the shadow, writes past the proxy, a slow, a silent and a\n" +
			"mistaken shadow, a comparator that panics. It passes only if each is found, in the right class, with its units, and\n" +
			"repaired, and if nothing is found where nothing was done. No proxy and no configuration is needed or touched.\n" +
			"Injections: " + strings.Join(selftest.Names(), ", ") + ".\n" +
			"Exit code 3 when a row failed, 5 when a server cannot be had. See docs/selftest.md.",
		Example: "  crossfade selftest                                      # shadow and live, on MySQL and Redis\n" +
			"  crossfade selftest --servers mysql,redis,mariadb,valkey # the full matrix\n" +
			"  crossfade selftest --only lost-write,a-a --stage shadow --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := selftestOptions(&o, kinds, stages); err != nil {
				return &usageError{err}
			}
			o.Progress = g.err
			r, err := selftest.Run(cmd.Context(), o)
			var away *lab.UnavailableError
			if errors.As(err, &away) {
				return &gapError{err.Error()}
			}
			if r == nil {
				return err
			}
			perr := g.printResult(r)
			if err == nil && !r.Passed() {
				err = &foundError{"the comparison cannot be trusted on these servers; see the rows that failed"}
			}
			return errors.Join(err, perr)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&kinds, "servers", []string{"mysql", "redis"}, "pairs of servers: mysql or mariadb with redis or valkey")
	f.StringSliceVar(&stages, "stage", []string{"shadow", "live"}, "stages to play: shadow, live")
	f.StringSliceVar(&o.Only, "only", nil, "injections to play (default: all)")
	f.IntVar(&o.Parallel, "parallel", selftest.DefaultParallel, "pods at the same time")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of what the buyers want")
	return cmd
}

func selftestOptions(o *selftest.Options, kinds, stages []string) (err error) {
	var ks []lab.Kind
	for _, k := range kinds {
		kind, err := lab.ParseKind(k)
		if err != nil {
			return err
		}
		ks = append(ks, kind)
	}
	if o.Pairs, err = selftest.PairsOf(ks); err != nil {
		return err
	}
	for _, s := range stages {
		stage, err := backends.ParseStage(s)
		if err != nil {
			return err
		}
		o.Stages = append(o.Stages, stage)
	}
	return nil
}
