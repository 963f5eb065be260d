package main

import (
	"fmt"
	"strings"

	"github.com/crossfade-proxy/crossfade/comparator"
)

// The verdicts give a check its exit code, once its page is printed. What was found comes before what could
// not be read: nothing that is still unread takes a finding back. The reverse does not hold, so a page with
// gaps never ends in 0.

func reportVerdict(r *comparator.Report) error {
	switch {
	case r.Open > 0:
		return &foundError{fmt.Sprintf("%s open in pod %s", plural(int(r.Open), "finding"), r.Pod)}
	case r.Coverage.Check() != nil:
		return &foundError{fmt.Sprintf("the account of pod %s is out of balance; see the problems in the report", r.Pod)}
	case r.Incomplete:
		return &gapError{fmt.Sprintf("the report of pod %s is not complete: %s", r.Pod, strings.Join(r.Problems, "; "))}
	}
	return nil
}

func auditVerdict(r *comparator.AuditResult) error {
	if r.Clean() {
		return nil
	}
	return &foundError{fmt.Sprintf("the audit of pod %s found %d differences and left %d undetermined", r.Pod, r.FindingsTotal, r.UndeterminedTotal)}
}

func conservationVerdict(c *comparator.Conservation) error {
	var gap error
	for i := range c.Stores {
		s := &c.Stores[i]
		if s.BrokenTotal > 0 {
			return &foundError{fmt.Sprintf("%s out of balance in %s", plural(s.BrokenTotal, "level"), s.Store)}
		}
		if s.Error != "" && gap == nil {
			gap = &gapError{fmt.Sprintf("%s could not be checked: %s", s.Store, s.Error)}
		}
	}
	return gap
}
