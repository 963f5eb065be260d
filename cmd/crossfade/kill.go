package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

func killCmd(g *globals) *cobra.Command {
	var why, from string
	var dry bool
	cmd := &cobra.Command{
		Use: "kill <pod> --why …", Short: "Take a pod back to Redis, now", Args: args(cobra.ExactArgs(1)),
		Long: "From live to shadow, from shadow to redis-only, by one compare-and-set in Redis. It needs neither MySQL\n" +
			"nor the control store, and asks no gate. In redis-only there is nothing to do; in mysql-only it is refused,\n" +
			"with the way back.\n\n" +
			"A pod with redis_away: answer leaves live only with the control store. Where its proxies answer without\n" +
			"Redis, a kill takes up to a lease and a second, and lists what Redis does not have.\n\n" +
			"The same kill given again is made once: a pod in shadow that a kill has led there is left alone, and the\n" +
			"command says since when, with exit code 0. To go on to redis-only, say --from shadow. With --from a kill\n" +
			"from another stage is refused (exit code 4), and no record is asked.",
		Example: "  crossfade kill pod-1 --why 'MySQL is slow'\n  crossfade kill pod-1 --from shadow --why 'nothing is to be written to MySQL'",
		RunE: func(cmd *cobra.Command, a []string) error {
			stage, err := killable(from)
			if err != nil {
				return err
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			start := time.Now()
			res, err := c.Kill(cmd.Context(), a[0], why, stage, dry, func(f backends.Fence) {
				g.tell("killing pod %s from %s, epoch %d\n", a[0], f.Stage, f.Epoch)
			})
			if err != nil {
				return err
			}
			if g.json {
				return g.printJSON(res)
			}
			if err := killswitch.RenderKill(g.out, res); err != nil {
				return err
			}
			g.say("The command took %d ms.\n", time.Since(start).Milliseconds())
			return nil
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "kept in the history (required)")
	cmd.Flags().StringVar(&from, "from", "", "stage that the kill is to leave: live or shadow")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would be done, do nothing")
	return cmd
}

// killable reads the stage that a kill is to leave; none is unknown.
func killable(from string) (backends.Stage, error) {
	switch from {
	case "":
		return backends.StageUnknown, nil
	case backends.Live.String():
		return backends.Live, nil
	case backends.Shadow.String():
		return backends.Shadow, nil
	}
	return backends.StageUnknown, &backends.FieldError{Field: "from", Value: from, Bound: "live or shadow", Next: "name the stage that the kill is to leave, or leave --from out"}
}
