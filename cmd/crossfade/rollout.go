package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/killswitch/rollout"
)

func rolloutCmd(g *globals) *cobra.Command {
	cmd := group(&cobra.Command{
		Use: "rollout", Short: "Move many pods to a stage, in waves",
		Long: "A rollout moves pods one by one, the one with the lowest traffic first, in waves, and watches each wave for a while before\n" +
			"the next. It halts by itself when a gate fails, a switch is undone, a pod is killed, or one that was moved is not well\n" +
			"for half a minute. Any proxy that serves all of its pods carries it on. There is one at a time.",
	})
	cmd.AddCommand(rolloutStartCmd(g), rolloutStatusCmd(g),
		rolloutChangeCmd(g, admin.PauseRollout, "Move no further pod until it is resumed", "  crossfade rollout pause --why 'until tomorrow morning'"),
		rolloutChangeCmd(g, admin.ResumeRollout, "Let a rollout go on that was paused or has halted", "  crossfade rollout resume --skip pod-7 --why 'pod-7 has to wait for its audit'"),
		rolloutChangeCmd(g, admin.AbortRollout, "End a rollout; pods that were moved stay", "  crossfade rollout abort --why 'next week'"))
	return cmd
}

func rolloutStartCmd(g *globals) *cobra.Command {
	var r rollout.Request
	var to, order string
	var dry bool
	cmd := &cobra.Command{
		Use: "start --pods … --why …", Short: "Plan a rollout and begin it", Args: args(cobra.NoArgs),
		Long: "Chooses the pods by the labels in the configuration (pods[].labels), measures their traffic (decisions of the last 24 hours), and\n" +
			"puts them into waves: each size is a number of pods or a share of all; what is left is the last wave. All pods have to\n" +
			"stand in one stage, next to the one that they go to; those that are there already are left out. No gate is forced.\n" +
			"With --dry-run it prints the plan and does nothing.",
		Example: "  crossfade rollout start --pods region=eu --to live --wave 1,5,25% --soak 30m --dry-run --why 'summer'\n" +
			"  crossfade rollout start --pods all --to shadow --order name --wave 10% --soak 1h --why 'begin comparing'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if r.To, err = backends.ParseStage(to); err != nil {
				return &usageError{err}
			}
			r.Order = rollout.Order(order)
			c, err := g.client()
			if err != nil {
				return err
			}
			s, err := c.StartRollout(cmd.Context(), r, dry)
			if err != nil {
				return err
			}
			if dry && !g.json {
				g.say("A dry run: nothing was begun.\n")
			}
			return g.printResult(s)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&r.Select, "pods", "", "all, or conditions with commas between: key=value, key!=value, key; the key name is the pod's name (required)")
	fl.StringVar(&to, "to", backends.Live.String(), "the stage that the pods go to")
	fl.StringVar(&order, "order", string(rollout.ByTraffic), "traffic (lowest first) or name")
	fl.StringVar(&r.Waves, "wave", "1,5,25%", "sizes of the waves: numbers of pods, or shares of all in percent")
	fl.DurationVar(&r.Soak, "soak", 30*time.Minute, "how long each wave is watched")
	fl.StringVar(&r.Why, "why", "", "kept in the history (required)")
	fl.BoolVar(&dry, "dry-run", false, "print the plan, do nothing")
	return cmd
}

func rolloutStatusCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the present rollout, or the last one", Args: args(cobra.NoArgs),
		Long:    "Shows each pod's wave and place, what happened last, and the rollouts before.\nExit code 0, also when it has halted: the phase is in the output, and in --json.",
		Example: "  crossfade rollout status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			o, err := c.Rollout(cmd.Context())
			if err != nil {
				return err
			}
			return g.printResult(o)
		},
	}
}

func rolloutChangeCmd(g *globals, change, short, example string) *cobra.Command {
	q := admin.RolloutChange{Change: change}
	var skip []string
	cmd := &cobra.Command{
		Use: change + " --why …", Short: short, Args: args(cobra.NoArgs), Example: example,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range skip {
				q.Skip = append(q.Skip, backends.Pod(s))
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			s, err := c.ChangeRollout(cmd.Context(), q)
			if err != nil {
				return err
			}
			return g.printResult(s)
		},
	}
	cmd.Flags().StringVar(&q.Why, "why", "", "kept in the record (required)")
	if change == admin.ResumeRollout {
		cmd.Flags().StringSliceVar(&skip, "skip", nil, "pods to leave out, with commas between or given again")
	}
	return cmd
}
