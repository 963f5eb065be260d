package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/cmd/internal/demo"
)

func demoCmd(g *globals) *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use: "demo", Short: "See all of it on private, throw-away servers", Args: args(cobra.NoArgs),
		Long: "Starts private servers and a proxy with two pods, sells from two shops, takes one pod to shadow and live,\n" +
			"breaks something in the shadow and lets the report find it, and kills a pod back to Redis. Where no server\n" +
			"can be had it plays on the memory model, and says so. Exit code 3 when something was not as it should be.",
		Example: "  crossfade demo\n  crossfade demo --short --json\n  crossfade demo --keep --dir demo-lab",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Open, o.Progress = openDemo, g.err
			if !g.json {
				o.Progress = g.out
			}
			sum, err := demo.Run(cmd.Context(), o)
			var wrong *demo.WrongError
			if err != nil && !errors.As(err, &wrong) {
				return err
			}
			var perr error
			if g.json {
				perr = g.printJSON(sum)
			} else {
				perr = sum.WriteText(g.out)
			}
			if err != nil {
				return errors.Join(&foundError{err.Error()}, perr)
			}
			return perr
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Short, "short", false, "about fifteen seconds instead of a minute")
	f.StringVar(&o.Dir, "dir", "", "keep the servers' data and the checkouts' logs in this folder (default: throw-away)")
	f.BoolVar(&o.Keep, "keep", false, "leave servers and data behind, to look at; end them with 'crossfade lab down'")
	return cmd
}
