package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

func historyCmd(g *globals) *cobra.Command {
	var before uint64
	var limit int
	var all bool
	var format string
	cmd := &cobra.Command{
		Use: "history [pod]", Short: "List the changes of a pod: who, why, gates and steps", Args: args(cobra.MaximumNArgs(1)),
		Long: "Lists what changed a pod, the newest first: moves, kills, re-issues and what was found in the fences, with who did it\n" +
			"(the name of the token), why, from and to, the epochs, what the gates had found, and how long each step took. It\n" +
			"is kept in the control store and never changed. Without a pod: of all pods. --format csv or jsonl with --all is\n" +
			"the export. Exit code 5 when the control store does not answer.",
		Example: "  crossfade history pod-1\n  crossfade history pod-1 --limit 20 --before 180\n  crossfade history --all --format jsonl > history.jsonl",
		RunE: func(cmd *cobra.Command, a []string) error {
			if g.json {
				format = "json"
			}
			f, err := killswitch.ParseHistoryFormat(format)
			if err != nil {
				return &usageError{err}
			}
			if err := checkHistory(a, before, limit); err != nil {
				return &usageError{err}
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			if all {
				limit = 0
			}
			l, err := histories(cmd.Context(), c, a, before, limit)
			if err != nil {
				return err
			}
			return l.Write(g.out, f)
		},
	}
	fl := cmd.Flags()
	fl.Uint64Var(&before, "before", 0, "only changes with a lower number: what comes behind a page")
	fl.IntVar(&limit, "limit", admin.DefaultPage, "how many to list")
	fl.BoolVar(&all, "all", false, "list all of them")
	fl.StringVarP(&format, "format", "f", "table", "table, json, jsonl or csv")
	return cmd
}

func checkHistory(pods []string, before uint64, limit int) error {
	switch {
	case limit < 1:
		return &backends.FieldError{Field: "limit", Value: fmt.Sprint(limit), Bound: "at least 1", Next: "give --all for all of them"}
	case before > 0 && len(pods) == 0:
		return &backends.FieldError{Field: "before", Value: fmt.Sprint(before), Bound: "one pod, whose changes have these numbers", Next: "name the pod"}
	}
	return nil
}

// histories reads as many pages as it takes; a limit of 0 is none. Of several pods it is for all of them together.
func histories(ctx context.Context, c *admin.Client, pods []string, before uint64, limit int) (killswitch.HistoryList, error) {
	out := killswitch.HistoryList{Changes: []killswitch.HistoryLine{}}
	several := len(pods) == 0
	if several {
		sts, err := c.Pods(ctx)
		if err != nil {
			return out, err
		}
		for _, st := range sts {
			pods = append(pods, string(st.Pod))
		}
	}
	for _, pod := range pods {
		l, err := historyOf(ctx, c, pod, before, limit)
		if err != nil {
			return out, err
		}
		out.Changes, out.Next = append(out.Changes, l.Changes...), l.Next
	}
	if several {
		out.Next = 0
		slices.SortStableFunc(out.Changes, func(a, b killswitch.HistoryLine) int { return b.At.Compare(a.At) })
		if limit > 0 && len(out.Changes) > limit {
			out.Changes = out.Changes[:limit]
		}
	}
	return out, nil
}

func historyOf(ctx context.Context, c *admin.Client, pod string, before uint64, limit int) (out killswitch.HistoryList, err error) {
	for {
		ask := killswitch.MaxHistoryPage
		if limit > 0 {
			ask = min(ask, limit-len(out.Changes))
		}
		l, err := c.History(ctx, pod, before, ask)
		if err != nil {
			return out, err
		}
		out.Changes, out.Next = append(out.Changes, l.Changes...), l.Next
		if l.Next == 0 || limit > 0 && len(out.Changes) >= limit {
			return out, nil
		}
		before = l.Next
	}
}
