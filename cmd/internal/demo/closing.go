package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// audit closes the shops and holds everything against everything.
func (s *show) audit(ctx context.Context) error {
	s.leave(ctx)
	for _, c := range s.shops {
		if c.err != nil {
			return fmt.Errorf("the checkout of pod %s: %w", c.pod, c.err)
		}
		if err := s.auditPod(ctx, c); err != nil {
			return fmt.Errorf("pod %s: %w", c.pod, err)
		}
	}
	return nil
}

func (s *show) auditPod(ctx context.Context, c *checkout) error {
	p := s.sum.Pods[c.pod]
	p.Traffic = c.sum
	if !c.sum.Clean() {
		s.wrong("not every cart of pod %s ended as it should: %q", c.pod, c.sum.Problems)
	}
	report, err := s.atRest(ctx, c.pod)
	if err != nil {
		return err
	}
	p.Stage, p.Parity, p.Coverage, p.OpenFindings = report.Stage.String(), report.Parity, report.Coverage, report.Open
	log, err := c.checkLog(ctx)
	if err != nil {
		return err
	}
	p.Log = log
	if !log.Ok() {
		s.wrong("pod %s: %d of the answers that buyers had do not stand, such as: %s", c.pod, log.ViolationsTotal, log.Violations[0])
	}
	last := time.Now()
	res, err := s.sys.Audit(ctx, c.pod, func(a comparator.AuditProgress) {
		if time.Since(last) > progressEvery {
			last = time.Now()
			s.say("    audit of pod %s: %s, %d holds, %d levels, %d being looked at again", c.pod, a.Phase, a.Holds, a.Levels, a.Checking)
		}
	})
	if err != nil {
		return err
	}
	cons, err := s.sys.Conservation(ctx, c.pod)
	if err != nil {
		return err
	}
	p.Audit = AuditSummary{Holds: res.HoldsTruth, Levels: res.LevelsTruth, Findings: res.FindingsTotal, Units: res.UnitsTotal, Undetermined: res.UndeterminedTotal}
	for _, st := range cons.Stores {
		p.OutOfBalance += st.BrokenTotal
	}
	s.judge(c.pod, res, cons)
	s.note("pod %s, in %s: %d carts granted, %d sold out, %d sent again; longest reserve %.0f ms", c.pod, p.Stage, c.sum.Granted, c.sum.SoldOut, c.sum.Retries, c.sum.Reserve.MaxMS)
	s.note("    %s", parityOf(&report))
	s.note("    audit of %d holds and %d levels: %s", res.HoldsTruth, res.LevelsTruth, differences(res))
	s.note("    %d answers that buyers were given: %d of them do not stand", log.Holds, log.ViolationsTotal)
	return nil
}

func differences(res *comparator.AuditResult) string {
	if res.Clean() {
		return "no difference"
	}
	return fmt.Sprintf("%s, %s, %d undetermined", count(res.FindingsTotal, "finding"), count(res.UnitsTotal, "unit"), res.UndeterminedTotal)
}

// judge holds the result against what was done to the pod: nothing to pod one, one unit lost in the
// MySQL of pod two.
func (s *show) judge(pod backends.Pod, res *comparator.AuditResult, cons *comparator.Conservation) {
	if res.UndeterminedTotal > 0 {
		s.wrong("the audit of pod %s left %d differences undetermined", pod, res.UndeterminedTotal)
	}
	if pod == PodOne {
		if res.FindingsTotal > 0 {
			s.wrong("the audit of pod one has %d findings, such as %s: %s", res.FindingsTotal, res.Findings[0].Class, res.Findings[0].Diff)
		}
		if !cons.Clean() {
			s.wrong("a store of pod one is out of balance")
		}
		return
	}
	if res.FindingsTotal == 0 {
		s.wrong("the audit of pod two has not found the lost unit")
	}
	for i := range res.Findings {
		if !about(&res.Findings[i]) {
			s.wrong("the audit of pod two has a finding that is not of the lost unit: %s, %s", res.Findings[i].Class, res.Findings[i].Diff)
		}
	}
	for _, st := range cons.Stores {
		if st.Error != "" {
			s.wrong("the conservation of pod two could not be checked in %s: %s", st.Store, st.Error)
		}
		for i := range st.Broken {
			if st.Broken[i].Key.Item != faultItem {
				s.wrong("pod two is out of balance at %s in %s", st.Broken[i].Key, st.Store)
			}
		}
	}
}

// atRest waits until the shadow of a pod has everything, and every decision its column.
func (s *show) atRest(ctx context.Context, pod backends.Pod) (r comparator.Report, err error) {
	if err := s.settled(ctx, pod); err != nil {
		return r, err
	}
	err = s.waitFor(ctx, fmt.Sprintf("pod %s is at rest", pod), func(ctx context.Context) (bool, string, error) {
		if r, err = s.sys.Report(ctx, pod, time.Time{}); err != nil {
			return again(err)
		}
		if r.Outbox == nil {
			return false, "the outbox could not be read", nil
		}
		lacks := fmt.Sprintf("%d entries in the outbox, %d decisions pending, %d settling", r.Outbox.Entries, r.Coverage.Pending, r.Coverage.Settling)
		return r.Outbox.Entries == 0 && r.Coverage.Settling == 0 && r.Coverage.Pending <= 0, lacks, nil
	})
	return r, err
}
