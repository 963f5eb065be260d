package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/comparator"
)

func apologiesCmd(g *globals) *cobra.Command {
	var states []string
	var limit int
	var after, format string
	var all bool
	cmd := &cobra.Command{
		Use: "apologies <pod>", Short: "List the promises that have no stock behind them, and acknowledge them", Args: args(cobra.ExactArgs(1)),
		Long: "Lists what was claimed although its units were gone, oldest first, with the reason: the shop has to find the\n" +
			"units, or to tell the customer. What both stores filed of one claim, around a kill, is one promise.\n" +
			"Exit code 5 when the pod's MySQL, which keeps the list, or Redis does not answer: then it may not have all.",
		Example: "  crossfade apologies pod-1\n  crossfade apologies pod-1 --state all --all --format csv > apologies.csv\n" +
			"  crossfade apologies ack pod-1 5d2c… --why 'customer 1234 has got a voucher'",
		RunE: func(cmd *cobra.Command, a []string) error {
			f, err := g.format(format)
			if err != nil {
				return err
			}
			if states, limit, err = checkApologies(states, limit, all); err != nil {
				return &usageError{err}
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			l, err := c.Apologies(cmd.Context(), a[0], states, limit, after)
			for err == nil && all && l.Next != "" {
				var more comparator.ApologyList
				more, err = c.Apologies(cmd.Context(), a[0], states, limit, l.Next)
				more.Apologies = append(l.Apologies, more.Apologies...)
				l = more
			}
			if err != nil {
				return err
			}
			l.Asked = "in every state"
			if len(states) > 0 {
				l.Asked = strings.Join(states, " or ")
			}
			if err := l.Write(g.out, f); err != nil {
				return err
			}
			if len(l.Problems) > 0 {
				return &gapError{fmt.Sprintf("the list of pod %s may not be complete: %s", a[0], strings.Join(l.Problems, "; "))}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&states, "state", []string{admin.ApologyOpen}, "open, acknowledged or all")
	f.IntVar(&limit, "limit", admin.DefaultPage, fmt.Sprintf("how many to list, 1 to %d", admin.MaxPage))
	f.StringVar(&after, "after", "", "what comes behind a page: the text that the page ends with")
	f.BoolVar(&all, "all", false, "list all of them, page after page")
	f.StringVarP(&format, "format", "f", "table", "table, json or csv")
	cmd.AddCommand(apologiesAckCmd(g))
	return cmd
}

// checkApologies refuses what the proxy would refuse too, in the words of the flags.
func checkApologies(states []string, limit int, all bool) ([]string, int, error) {
	if slices.Contains(states, allStates) {
		states = nil
	}
	for _, s := range states {
		if s != admin.ApologyOpen && s != admin.ApologyAcked {
			return nil, 0, &backends.FieldError{Field: "state", Value: fmt.Sprintf("%.80q", s), Bound: "open, acknowledged or all", Next: "choose one"}
		}
	}
	if limit < 1 || limit > admin.MaxPage {
		return nil, 0, &backends.FieldError{Field: "limit", Value: fmt.Sprint(limit), Bound: fmt.Sprintf("1 to %d", admin.MaxPage), Next: "give --all for all of them"}
	}
	if all {
		limit = admin.MaxPage
	}
	return states, limit, nil
}

func apologiesAckCmd(g *globals) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "ack <pod> <id> --why …", Short: "Acknowledge an apology: the shop has seen to it", Args: args(cobra.ExactArgs(2)),
		Long: "Acknowledges one promise with all of its units. Twice is once: whoever comes second is told by whom, and changes\n" +
			"nothing. If a store files more units of it later, it is open again. Who (the name of your token), when and why are kept\n" +
			"with it. Exit code 5 when the pod's MySQL does not answer.",
		Example: "  crossfade apologies ack pod-1 5d2c4f0a9be1437c86d0a1b2c3d4e5f6 --why 'customer 1234 has got a voucher'",
		RunE: func(cmd *cobra.Command, a []string) error {
			if err := comparator.CheckFindingID(a[1]); err != nil {
				return &usageError{err}
			}
			if err := comparator.CheckWhy(why); err != nil {
				return &usageError{err}
			}
			f, err := g.format("table")
			if err != nil {
				return err
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			rec, changed, err := c.AcknowledgeApology(cmd.Context(), a[0], a[1], why)
			if err != nil {
				return err
			}
			out := comparator.AckedApology{ApologyRecord: rec, Changed: changed}
			return out.Write(g.out, f)
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "kept with the apology (required)")
	return cmd
}
