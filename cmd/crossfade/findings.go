package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// allStates is what --state says for no restriction.
const allStates = "all"

func findingsCmd(g *globals) *cobra.Command {
	var q admin.FindingsAsked
	var format string
	var all bool
	cmd := &cobra.Command{
		Use: "findings <pod>", Short: "List what the comparison found; show, acknowledge and reopen it", Args: args(cobra.ExactArgs(1)),
		Long: "Lists findings, the last seen first: the open ones, unless --state says otherwise. --format csv or json with --all\n" +
			"is the export. A pod that is called like one of the commands below is named behind --.\n" +
			"Exit code 0, also when findings are listed; 5 when the pod's MySQL, which keeps them, does not answer.",
		Example: "  crossfade findings pod-1 --class oversell_risk --since 24h\n  crossfade findings pod-1 --state all --all --format csv > findings.csv\n" +
			"  crossfade findings show pod-1 8b1f…\n  crossfade findings ack pod-1 8b1f… 03c9… --why 'known since the stock take'",
		RunE: func(cmd *cobra.Command, a []string) error {
			f, err := g.format(format)
			if err != nil {
				return err
			}
			states, err := checkFindings(&q, all)
			if err != nil {
				return &usageError{err}
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			l, err := listFindings(cmd.Context(), c, a[0], q, all)
			if err != nil {
				return err
			}
			l.Asked = asked(q, states)
			return l.Write(g.out, f)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&q.Classes, "class", nil, "only these classes, with commas between")
	f.StringSliceVar(&q.States, "state", []string{comparator.LifeOpen.String()}, "only these states, with commas between; all for every one")
	f.StringVar(&q.Shop, "shop", "", "only findings with a key of this shop")
	f.StringVar(&q.Item, "item", "", "only findings with a key of this item")
	f.DurationVar(&q.Since, "since", 0, "only those seen in the last so long, like 24h (default: all that is kept)")
	f.IntVar(&q.Limit, "limit", admin.DefaultPage, fmt.Sprintf("how many to list, 1 to %d", admin.MaxPage))
	f.StringVar(&q.After, "after", "", "what comes behind a page: the text that the page ends with")
	f.BoolVar(&all, "all", false, "list all of them, page after page")
	f.StringVarP(&format, "format", "f", "table", "table, json or csv")
	cmd.AddCommand(findingsShowCmd(g), findingsMoveCmd(g, ackFindings), findingsMoveCmd(g, reopenFindings))
	return cmd
}

// format reads --format, which --json decides.
func (g *globals) format(name string) (comparator.Format, error) {
	if g.json {
		name = "json"
	}
	f, err := comparator.ParseFormat(name)
	if err != nil {
		return f, &usageError{err}
	}
	return f, nil
}

// checkFindings refuses what the proxy would refuse too, in the words of the flags. It answers the states
// that were asked for, none for all.
func checkFindings(q *admin.FindingsAsked, all bool) ([]string, error) {
	if slices.Contains(q.States, allStates) {
		q.States = nil
	}
	for _, s := range q.States {
		if _, err := comparator.ParseLife(s); err != nil {
			return nil, &backends.FieldError{Field: "state", Value: fmt.Sprintf("%.80q", s), Bound: "all, or some of " + lifeWords(), Next: "choose with commas between"}
		}
	}
	for _, c := range q.Classes {
		if _, err := comparator.ParseClass(c); err != nil {
			return nil, err
		}
	}
	switch {
	case q.Since != 0 && q.Since < time.Second:
		return nil, &backends.FieldError{Field: "since", Value: q.Since.String(), Bound: "at least 1s", Next: "write it like 24h, or leave it out for all that is kept"}
	case q.Limit < 1 || q.Limit > admin.MaxPage:
		return nil, &backends.FieldError{Field: "limit", Value: fmt.Sprint(q.Limit), Bound: fmt.Sprintf("1 to %d", admin.MaxPage), Next: "give --all for all of them"}
	}
	if all {
		q.Limit = admin.MaxPage
	}
	return q.States, nil
}

func lifeWords() string {
	var words []string
	for l := comparator.LifeOpen; l.String() != comparator.LifeUnknown.String(); l++ {
		words = append(words, l.String())
	}
	return strings.Join(words, ", ")
}

func listFindings(ctx context.Context, c *admin.Client, pod string, q admin.FindingsAsked, all bool) (comparator.FindingList, error) {
	l := comparator.FindingList{Pod: backends.Pod(pod), Findings: []comparator.Finding{}}
	for {
		fs, next, err := c.Findings(ctx, pod, q)
		if err != nil {
			return l, err
		}
		l.Findings = append(l.Findings, fs...)
		if !all || next == "" {
			l.Next = next
			return l, nil
		}
		q.After = next
	}
}

// asked says in words what is listed.
func asked(q admin.FindingsAsked, states []string) string {
	parts := []string{"in every state"}
	if len(states) > 0 {
		parts[0] = strings.Join(states, " or ")
	}
	for _, p := range []struct{ word, value string }{{"class", strings.Join(q.Classes, " or ")}, {"shop", q.Shop}, {"item", q.Item}} {
		if p.value != "" {
			parts = append(parts, p.word+" "+p.value)
		}
	}
	if q.Since > 0 {
		parts = append(parts, "seen in the last "+q.Since.String())
	}
	if q.After != "" {
		parts = append(parts, "from there on")
	}
	return strings.Join(parts, ", ")
}

func findingsShowCmd(g *globals) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "show <pod> <id>", Short: "Show one finding: difference, evidence, timeline, next step", Args: args(cobra.ExactArgs(2)),
		Long: "Shows everything that is kept of one finding: what each store said, the difference field by field, why no order\n" +
			"of operations explains it (or which one does), the units of each key, and who changed its state, when and why.",
		Example: "  crossfade findings show pod-1 8b1f0c6de2a94b7f5d03a1c29e8f7b64",
		RunE: func(cmd *cobra.Command, a []string) error {
			f, err := g.format(format)
			if err != nil {
				return err
			}
			if err := comparator.CheckFindingID(a[1]); err != nil {
				return &usageError{err}
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			one, err := c.Finding(cmd.Context(), a[0], a[1])
			if err != nil {
				return err
			}
			d := comparator.Detail(one)
			return d.Write(g.out, f)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "table", "table, json or csv")
	return cmd
}

// moveFindings is a change by hand.
type moveFindings struct {
	use, short, long, example string
	to                        comparator.Life
	do                        func(*admin.Client, context.Context, string, []string, string) ([]comparator.Moved, error)
}

var ackFindings = moveFindings{
	use: "ack <pod> <id>… --why …", short: "Acknowledge findings: somebody knows of them, and why",
	long: "An acknowledged finding no longer holds up a move. It covers what had been seen: a finding that is seen again\n" +
		"later is open again, and its history says so. For what is known to come again, write an excuse\n" +
		"(docs/operations.md). All of the ids or none; twice is once. Who (the name of your token), when and why are kept\n" +
		"in the finding's history. Exit code 4 for a finding that cannot be acknowledged, 5 when the pod's MySQL does not answer.",
	example: "  crossfade findings ack pod-1 8b1f0c6de2a94b7f5d03a1c29e8f7b64 --why 'the shelf was recounted, level corrected'",
	to:      comparator.LifeAcknowledged, do: (*admin.Client).AcknowledgeFindings,
}

var reopenFindings = moveFindings{
	use: "reopen <pod> <id>… --why …", short: "Open findings again that were acknowledged, explained or repaired",
	long: "All of the ids or none; twice is once. Who (the name of your token), when and why are kept in the finding's\n" +
		"history. Exit code 4 for a finding that cannot be opened again, 5 when the pod's MySQL does not answer.",
	example: "  crossfade findings reopen pod-1 8b1f0c6de2a94b7f5d03a1c29e8f7b64 --why 'it was another shelf'",
	to:      comparator.LifeOpen, do: (*admin.Client).ReopenFindings,
}

func findingsMoveCmd(g *globals, m moveFindings) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: m.use, Short: m.short, Long: m.long, Example: m.example, Args: args(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if _, err := comparator.CheckFindingIDs(a[1:]); err != nil {
				return &usageError{err}
			}
			if err := comparator.CheckWhy(why); err != nil {
				return &usageError{err}
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			ms, err := m.do(c, cmd.Context(), a[0], a[1:], why)
			if err != nil {
				return err
			}
			f, err := g.format("table")
			if err != nil {
				return err
			}
			out := comparator.NewMovedFindings(backends.Pod(a[0]), m.to, ms)
			return out.Write(g.out, f)
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "kept in the findings' history (required)")
	return cmd
}
