package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

func podsCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "pods", Short: "List the pods with their stages", Args: args(cobra.NoArgs),
		Example: "  crossfade pods --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			pods, err := c.Pods(cmd.Context())
			if err != nil {
				return err
			}
			if g.json {
				return g.printJSON(pods)
			}
			return killswitch.RenderPods(g.out, pods)
		},
	}
}

func stageCmd(g *globals) *cobra.Command {
	var why string
	var force []string
	var dry bool
	cmd := &cobra.Command{
		Use: "stage <pod> <stage> --why …", Short: "Move a pod by one stage", Args: args(cobra.ExactArgs(2)),
		Long: "Moves a pod by one stage: redis-only ⇄ shadow ⇄ live ⇄ mysql-only. Checkout's operations on that pod wait\n" +
			"for at most two seconds where the truth changes; other pods do not notice. Gates are checked first; what\n" +
			"fails is named, with what was found and what is asked for. --force passes by gates that are named, and the\n" +
			"history keeps which, with what they had found. A switch that cannot drain in its bound goes back by itself.\n\n" +
			"With --dry-run it prints the gates and the steps, and does nothing. Exit code 0: done, or nothing would stand in\n" +
			"the way; 4: a gate does, the pod is busy, or the switch was taken back; 5: no proxy or store answers.",
		Example: "  crossfade stage pod-1 shadow --why 'start comparing'\n  crossfade stage pod-1 live --dry-run --why 'what would happen'",
		RunE: func(cmd *cobra.Command, a []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			res, err := c.SetStage(cmd.Context(), a[0], a[1], why, force, dry, func(string, time.Duration) {})
			if res.Refused == "" && err != nil {
				return err
			}
			show := func() error { return killswitch.RenderResult(g.out, res) }
			if g.json {
				show = func() error { return g.printJSON(res) }
			}
			if err := show(); err != nil {
				return err
			}
			return refusal(res, err)
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "kept in the history (required)")
	cmd.Flags().StringSliceVar(&force, "force", nil, "names of gates to pass by although they fail")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print gates and steps, do nothing")
	return cmd
}

// refusal ends a move that gates have refused. What they found is printed already.
func refusal(res killswitch.Result, err error) error {
	var remote *admin.RemoteError
	if res.Refused == "" || !errors.As(err, &remote) {
		return err
	}
	var names []string
	for _, g := range res.Change.Gates {
		if g.Stands() {
			names = append(names, g.Name)
		}
	}
	return &admin.RemoteError{Code: remote.Code, Text: fmt.Sprintf("pod %s may not go to %s: %d of %d gates stand in the way: %s", res.Pod, res.Change.To, len(names), len(res.Change.Gates), strings.Join(names, ", "))}
}

func reissueCmd(g *globals) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "reissue <pod> --why …", Short: "Let a pod go on after its Redis was restarted or replaced", Args: args(cobra.ExactArgs(1)),
		Long: "After a restart of Redis nobody writes to the pod: what Redis lost is not known. Look at its data first\n" +
			"('crossfade audit'), then re-issue the fences under a new epoch; in shadow and live a backfill follows.",
		Example: "  crossfade reissue pod-1 --why 'Redis was restarted, its append-only file is whole'",
		RunE: func(cmd *cobra.Command, a []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			res, err := c.Reissue(cmd.Context(), a[0], why)
			if err != nil {
				return err
			}
			if g.json {
				return g.printJSON(res)
			}
			return killswitch.RenderResult(g.out, res)
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "kept in the history (required)")
	return cmd
}

// page is what a check prints.
type page interface {
	Write(w io.Writer, f comparator.Format) error
}

// checking makes cmd a check: it asks for a page about the pod, prints it, and ends with the page's verdict.
func checking[P page](g *globals, cmd *cobra.Command, ask func(context.Context, *admin.Client, string, comparator.Format) (P, error), verdict func(P) error) *cobra.Command {
	format := cmd.Flags().StringP("format", "f", "table", "table, json or csv")
	return checkingIn(g, cmd, format, comparator.ParseFormat, ask, verdict)
}

// checkingIn is checking with formats of its own.
func checkingIn[P page](g *globals, cmd *cobra.Command, format *string, parse func(string) (comparator.Format, error),
	ask func(context.Context, *admin.Client, string, comparator.Format) (P, error), verdict func(P) error) *cobra.Command {
	cmd.Args = args(cobra.ExactArgs(1))
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if g.json {
			*format = "json"
		}
		f, err := parse(*format)
		if err != nil {
			return &usageError{err}
		}
		c, err := g.client()
		if err != nil {
			return err
		}
		p, err := ask(cmd.Context(), c, a[0], f)
		if err != nil {
			return err
		}
		if err := p.Write(g.out, f); err != nil {
			return err
		}
		return verdict(p)
	}
	return cmd
}

func reportCmd(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "report <pod>", Short: "Print the mismatch report",
		Long: "Prints how many decisions were compared, what differed, what concurrency explains, whether there is evidence\n" +
			"enough for each kind of decision, and what to do next. As HTML it is one file without any other, with charts.\n" +
			"Exit code 3 when findings are open, 5 when something could not be read: then the page does not know of all.",
		Example: "  crossfade report pod-1 --since 24h\n  crossfade report pod-1 --format html > pod-1.html\n  crossfade report pod-1 --format csv > findings.csv",
	}
	format := cmd.Flags().StringP("format", "f", "table", "table, json, csv or html")
	since := cmd.Flags().Duration("since", 0, "only the last so long, like 24h (default: all that is kept)")
	return checkingIn(g, cmd, format, comparator.ParseReportFormat, func(ctx context.Context, c *admin.Client, pod string, _ comparator.Format) (*comparator.Report, error) {
		r, err := c.Report(ctx, pod, *since)
		return &r, err
	}, reportVerdict)
}

func auditCmd(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit <pod>", Short: "Compare all holds and levels of both stores",
		Long: "Reads every hold and level of both stores, under traffic and without locks. A difference counts only when it\nstays after everything in the outbox has been delivered. " +
			"It reads a small share of the time, and\nless while a store is slower than usual; proxies do it by themselves as well, see pods[].audit in the\nconfiguration. " +
			"With --resume it goes on where the pod's audit was interrupted, and refuses while somebody is\nat it. Exit code 3 when something is found.",
		Example: "  crossfade audit pod-1\n  crossfade audit pod-1 --resume",
	}
	resume := cmd.Flags().Bool("resume", false, "go on where the pod's audit was interrupted")
	return checking(g, cmd, func(ctx context.Context, c *admin.Client, pod string, f comparator.Format) (*comparator.AuditResult, error) {
		var last time.Time
		audit := c.Audit
		if *resume {
			audit = c.ResumeAudit
		}
		return audit(ctx, pod, func(phase string, holds, levels int64) {
			if f == comparator.FormatTable && time.Since(last) > time.Second {
				last = time.Now()
				g.tell("  %s: %d holds, %d levels\n", phase, holds, levels)
			}
		})
	}, auditVerdict)
}

func conservationCmd(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "conservation <pod>", Short: "Check that no unit is lost or doubled inside each store",
		Long:    "Checks, for every item and location of each store against its own holds: units on hand = available + held +\ntaken + unmaterialised. Exit code 3 when a level is out of balance, 5 when a store could not be checked.",
		Example: "  crossfade conservation pod-1",
	}
	return checking(g, cmd, func(ctx context.Context, c *admin.Client, pod string, _ comparator.Format) (*comparator.Conservation, error) {
		return c.Conservation(ctx, pod)
	}, conservationVerdict)
}

func backfillCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "backfill <pod>", Short: "Make the shadow complete again, under traffic", Args: args(cobra.ExactArgs(1)),
		Long:    "The truth emits every level and open hold once more into its outbox, and settles holds that only the shadow\nhas. It runs by itself when a pod enters shadow or live; by hand it is for a shadow that was declared lost.",
		Example: "  crossfade backfill pod-1",
		RunE: func(cmd *cobra.Command, a []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			var levels, holds, voided int64
			var last time.Time
			err = c.Backfill(cmd.Context(), a[0], func(phase string, l, h, v, waiting int64) {
				levels, holds, voided = l, h, v
				if !g.json && time.Since(last) > time.Second {
					last = time.Now()
					g.tell("  %s: %d levels, %d holds, %d settled, %d waiting\n", phase, l, h, v, waiting)
				}
			})
			if err != nil {
				return err
			}
			if g.json {
				return g.printJSON(map[string]int64{"levels": levels, "holds": holds, "settled": voided})
			}
			g.say("The shadow of %s is complete: %d levels and %d open holds emitted, %d settled that only the shadow had.\n", a[0], levels, holds, voided)
			return nil
		},
	}
}
