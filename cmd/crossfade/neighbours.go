package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/cmd/internal/neighbours"
)

func connectionsCmd(g *globals) *cobra.Command {
	var last, every time.Duration
	cmd := &cobra.Command{
		Use: "connections <pod>", Short: "Show who holds the connections of a pod's MySQL", Args: args(cobra.ExactArgs(1)),
		Long: "Looks for a while at all sessions of the server, Crossfade's and everybody else's, and says whose they are (by\n" +
			"the conn_tag of their statements, else user@host), how much connection time each holds, and how many threads\n" +
			"run and wait, with the server's CPU where it can be seen. It takes no lock and one connection, not of those\n" +
			"that serve reservations.",
		Example: "  crossfade connections pod-1\n  crossfade connections pod-1 --for 60s --every 100ms --json",
		RunE: func(cmd *cobra.Command, a []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			start, told := time.Now(), time.Now()
			res, err := c.Connections(cmd.Context(), a[0], last, every, func(n int64) {
				if !g.json && time.Since(told) > 2*time.Second {
					told = time.Now()
					g.tell("  %d samples, %s of %s\n", n, time.Since(start).Round(time.Second), last)
				}
			})
			if err != nil {
				return err
			}
			if g.json {
				return g.printJSON(res)
			}
			return neighbours.RenderConnections(g.out, res)
		},
	}
	cmd.Flags().DurationVar(&last, "for", neighbours.DefaultFor, "how long to look, 100ms to 5m")
	cmd.Flags().DurationVar(&every, "every", neighbours.DefaultEvery, "how often, 10ms to 10s; MariaDB is asked every 250ms at most")
	return cmd
}

func locksCmd(g *globals) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "locks <pod>", Short: "Show the locks of a pod's MySQL, who waits for whom, and the oldest snapshot", Args: args(cobra.ExactArgs(1)),
		Long: "Shows what InnoDB knows at this moment, of all sessions of the server: who waits for whose lock and since when,\n" +
			"which rows are locked by which business process (conn_tag, else user@host), and which transaction keeps the\n" +
			"oldest snapshot, which holds back the purge of old rows. On MariaDB only locks that somebody waits for are known.",
		Example: "  crossfade locks pod-1 --watch\n  crossfade locks pod-1 --json",
		RunE: func(cmd *cobra.Command, a []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			once := func(ctx context.Context) error {
				v, err := c.Locks(ctx, a[0])
				if err != nil {
					return err
				}
				if g.json {
					return g.printJSON(v)
				}
				return neighbours.RenderLocks(g.out, v)
			}
			if !watch {
				return once(cmd.Context())
			}
			return watching(cmd.Context(), g, once)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, refreshHelp)
	return cmd
}
