package main

import (
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/cmd/internal/sim"
)

// simReplay plays one schedule; its calls are told as they come, beside the JSON.
func (g *globals) simReplay(seed uint64) error {
	tell := g.say
	if g.json {
		tell = g.tell
	}
	r := sim.Replay(seed, func(line string) { tell("%s\n", line) })
	if g.json {
		if err := g.printJSON(map[string]any{"seed": seed, "steps": r.Steps, "failure": r.Failure}); err != nil {
			return err
		}
	}
	if r.Failure != "" {
		return &foundError{fmt.Sprintf("seed %d: %s", seed, r.Failure)}
	}
	tell("seed %d: every promise held in %d steps.\n", seed, r.Steps)
	return nil
}

func simCmd(g *globals) *cobra.Command {
	var n int
	var first, seed uint64
	cmd := &cobra.Command{
		Use: "sim", Short: "Play random schedules over memory stores and check the promises", Args: args(cobra.NoArgs),
		Long:    "Runs the steps of Writer, mirror, sweeper, expiry, claim, settle, switch and kill under a seeded scheduler that\ncrashes, delays, doubles and reorders. Stops at the first schedule that breaks a promise, and prints its seed.",
		Example: "  crossfade sim --schedules 100000\n  crossfade sim --seed 4711        # replay one, call by call",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("seed") {
				return g.simReplay(seed)
			}
			if n < 1 {
				return &usageError{fmt.Errorf("--schedules is %d; at least 1", n)}
			}
			start := time.Now()
			s := sim.RunMany(cmd.Context(), first, n, runtime.NumCPU(), func(played int) {
				if !g.json && played%10_000 == 0 {
					g.tell("  %d schedules, %s\n", played, time.Since(start).Round(time.Second))
				}
			})
			if g.json {
				if err := g.printJSON(s); err != nil {
					return err
				}
			} else {
				g.say("%d schedules, %d operations, %d steps, %d crashes, %d kills, %d switches, %d answers without Redis and %d kills of pods marked so in %s.\n", s.Schedules, s.Operations, s.Steps, s.Crashes, s.Kills, s.Switches, s.Alone, s.Behind, time.Since(start).Round(time.Second))
			}
			if s.Failed != nil {
				return &foundError{fmt.Sprintf("seed %d: %s", s.Failed.Seed, s.Failed.Failure)}
			}
			if s.Schedules < n {
				return cmd.Context().Err()
			}
			if !g.json {
				g.say("Every promise held.\n")
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&n, "schedules", 100_000, "how many")
	cmd.Flags().Uint64Var(&first, "from", 0, "the first seed")
	cmd.Flags().Uint64Var(&seed, "seed", 0, "replay this seed only")
	return cmd
}
