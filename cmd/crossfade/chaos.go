package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/chaos"
)

func chaosCmd(g *globals) *cobra.Command {
	var o chaos.Options
	cmd := &cobra.Command{
		Use: "chaos", Short: "Switch and kill a pod of three proxies under load, with faults, and check that nothing is sold twice or lost", Args: args(cobra.NoArgs),
		Long: "Runs three proxies as processes, private servers from the lab and a checkout load on few items, and breaks one thing\n" +
			"after the other: proxies stopped and killed, stores and control store killed, stopped, slow and out of reach, switches\n" +
			"whose driver dies at each step, kills. What every client was told is compared with both stores, and the history of each\n" +
			"item has to have an order. It prints what was tried, what was survived, and the worst figure. Exit code 3 when a promise\n" +
			"was broken; the histories in question and the proxies' logs are then kept in a folder that is named.\n\n" +
			"Scenarios: " + strings.Join(chaos.Names(), ", ") + ".",
		Example: "  crossfade chaos                                  # everything, twenty trials of each\n  crossfade chaos --scenario kill,driver --trials 3 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Binary, err = os.Executable(); err != nil {
				return fmt.Errorf("finding this program, to start it as a proxy: %w", err)
			}
			if !g.json {
				o.Progress = g.err
			}
			r, err := chaos.Run(cmd.Context(), o)
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
	f.StringSliceVar(&o.Scenarios, "scenario", nil, "scenarios to play, with commas between (default: all)")
	f.IntVar(&o.Trials, "trials", chaos.DefaultTrials, "trials of each fault; of the switches, how many")
	f.DurationVar(&o.For, "for", chaos.DefaultFor, "bound of the run: no trial begins after that")
	f.IntVar(&o.Rate, "rate", chaos.DefaultRate, "reserves in a second that the buyers ask for")
	f.IntVar(&o.Buyers, "buyers", chaos.DefaultBuyers, "buyers at the same time")
	f.StringVar(&o.Keep, "keep", "", "folder for the histories and logs of what was broken (default: a new one)")
	f.StringVar(&o.Control, "control", chaos.ControlEtcd, "control store: etcd (three members) or file (a shared folder)")
	f.BoolVar(&o.Fast, "fast", false, "servers without durability against a crash of the machine")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of what the buyers want")
	return cmd
}
