package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

const (
	// lookEvery is the pause between looks while a stage is waited for.
	lookEvery = 250 * time.Millisecond
	// maxWait bounds such a wait.
	maxWait = 24 * time.Hour
)

func statusCmd(g *globals) *cobra.Command {
	var watch bool
	var stage string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "status [pod]", Short: "Show what a pod is doing", Args: args(cobra.MaximumNArgs(1)),
		Long: "Shows the stage and epoch of a pod as recorded and as each store's fence says, an open switch, what is\nleft to do, and which proxies serve which epoch. Without a pod: all of them.\n\n" +
			"With --for STAGE it waits until the pod serves that stage and every proxy that is heard of has acknowledged it.\n" +
			"Exit code 0: it does; 3: not within --timeout, and the last line says what is missing; 5: no proxy answers.",
		Example: "  crossfade status pod-1 --watch\n  crossfade status pod-1 --for live --timeout 60s && echo moved",
		RunE: func(cmd *cobra.Command, a []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			if stage != "" {
				return waitFor(cmd.Context(), g, c, a, stage, timeout)
			}
			once := func(ctx context.Context) error {
				var all []killswitch.Status
				if len(a) == 1 {
					st, err := c.Status(ctx, a[0])
					if err != nil {
						return err
					}
					all = []killswitch.Status{st}
				} else if all, err = c.Pods(ctx); err != nil {
					return err
				}
				if g.json {
					if len(a) == 1 {
						return g.printJSON(all[0])
					}
					return g.printJSON(all)
				}
				for i := range all {
					if err := killswitch.RenderStatus(g.out, all[i]); err != nil {
						return err
					}
				}
				return nil
			}
			if !watch {
				return once(cmd.Context())
			}
			return watching(cmd.Context(), g, once)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, refreshHelp)
	cmd.Flags().StringVar(&stage, "for", "", "wait until the pod serves this stage")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for it at most, 1s to 24h")
	cmd.MarkFlagsMutuallyExclusive("watch", "for")
	return cmd
}

// waitFor waits until a pod serves a stage, and prints its status as it is then.
func waitFor(ctx context.Context, g *globals, c *admin.Client, pods []string, name string, timeout time.Duration) error {
	stage, err := backends.ParseStage(name)
	switch {
	case err != nil:
		return &usageError{err}
	case len(pods) != 1:
		return &usageError{errors.New("--for waits for one pod: name it")}
	case timeout < time.Second || timeout > maxWait:
		return &usageError{&backends.FieldError{Field: "timeout", Value: timeout.String(), Bound: "1s to 24h", Next: "write it like 60s"}}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	var last killswitch.Status
	var missing string
	for {
		st, err := c.Status(ctx, pods[0])
		ok := false
		switch {
		case err == nil:
			last = st
			missing, ok = st.Serves(stage)
		case exitCode(err) == exitUsage:
			return err
		case ctx.Err() == nil:
			missing = err.Error()
		}
		if !ok && ctx.Err() == nil {
			select {
			case <-t.C:
				continue
			case <-ctx.Done():
			}
		}
		return waited(g, last, ok, fmt.Sprintf("pod %s does not serve %s after %s: %s", pods[0], stage, timeout, missing))
	}
}

// waited prints the last status that was seen, and ends with what has become of the wait.
func waited(g *globals, last killswitch.Status, ok bool, text string) error {
	if last.Pod == "" {
		return &gapError{text}
	}
	show := func() error { return killswitch.RenderStatus(g.out, last) }
	if g.json {
		show = func() error { return g.printJSON(last) }
	}
	if err := show(); err != nil || ok {
		return err
	}
	return &foundError{text}
}
