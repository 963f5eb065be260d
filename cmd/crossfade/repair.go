package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/comparator"
)

func repairCmd(g *globals) *cobra.Command {
	var q admin.RepairAsked
	var format string
	cmd := &cobra.Command{
		Use: "repair <pod>", Short: "Plan, and with --apply make, what brings the shadow in line with the truth", Args: args(cobra.ExactArgs(1)),
		Long: "Prints a plan for the open findings, or those named: what both stores have, and the commands and rows that would be\n" +
			"written. Nothing is written without --apply. Holds are restated by the truth under a version above the shadow's; levels\n" +
			"of the shadow are corrected by what they differ, once. Before levels are planned all holds are compared, as an audit\n" +
			"does. With --apply it waits until the shadow has everything, looks again, and marks the findings as repaired. It may\n" +
			"be stopped and run again. What it may not write is told: in stages with Redis as truth the ledger is written only with\n" +
			"--correct-ledger, which says that somebody has counted and Redis is right.\n" +
			"Exit code 0 when nothing is left to do, 3 when steps are planned, by hand, or still differ, 4 when the pod moved meanwhile.",
		Example: "  crossfade repair pod-1\n  crossfade repair pod-1 --finding 8b1f0c6de2a94b7f5d03a1c29e8f7b64\n" +
			"  crossfade repair pod-1 --apply --why 'lost writes of the outage of 4 May'",
		RunE: func(cmd *cobra.Command, a []string) error {
			f, err := g.format(format)
			if err != nil {
				return err
			}
			q.Pod = backends.Pod(a[0])
			if err := checkRepair(&q); err != nil {
				return &usageError{err}
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			var last time.Time
			res, err := c.Repair(cmd.Context(), q, func(phase string, done, total int64) {
				if f == comparator.FormatTable && time.Since(last) > time.Second {
					last = time.Now()
					g.tell("  %s: %s\n", phase, progressOf(done, total))
				}
			})
			if res == nil {
				return err
			}
			return errors.Join(err, res.Write(g.out, f), repairVerdict(res, err))
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&q.IDs, "finding", nil, "only these findings, with commas between or given again (default: all that are open)")
	fl.BoolVar(&q.Apply, "apply", false, "execute the plan")
	fl.StringVar(&q.Why, "why", "", "kept in the findings' history; required with --apply")
	fl.BoolVar(&q.CorrectLedger, "correct-ledger", false, "the truth's units on hand are right: correct the ledger in MySQL as well")
	fl.StringVarP(&format, "format", "f", "table", "table, json or csv")
	return cmd
}

func progressOf(done, total int64) string {
	if total > 0 {
		return fmt.Sprintf("%d of %d", done, total)
	}
	return fmt.Sprint(done)
}

// checkRepair refuses what the proxy would refuse too, in the words of the flags.
func checkRepair(q *admin.RepairAsked) error {
	slices.Sort(q.IDs)
	q.IDs = slices.Compact(q.IDs)
	for _, id := range q.IDs {
		if err := comparator.CheckFindingID(id); err != nil {
			return err
		}
	}
	if len(q.IDs) > admin.MaxRepairIDs {
		return &backends.FieldError{Field: "finding", Value: fmt.Sprint(len(q.IDs)) + " ids", Bound: fmt.Sprintf("at most %d", admin.MaxRepairIDs), Next: "name fewer, or none for all that are open"}
	}
	if q.Apply {
		return comparator.CheckWhy(q.Why)
	}
	return nil
}

// repairVerdict gives the command its exit code; one that ended early has another already.
func repairVerdict(r *comparator.RepairResult, err error) error {
	if r.Clean() || err != nil {
		return nil
	}
	if len(r.Problems) > 0 {
		return &foundError{fmt.Sprintf("the repair of pod %s is not complete: %s", r.Pod, r.Problems[0])}
	}
	return &foundError{fmt.Sprintf("%s of the repair of pod %s left", plural(len(r.Steps)-r.Outcomes[comparator.RepairDone]-r.Outcomes[comparator.RepairAgrees], "step"), r.Pod)}
}
