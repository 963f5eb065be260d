package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/comparator"
)

// evidence waits until the report of a proxy counts so many compared decisions in these strata together, of all
// proxies: each saves its counts every ten seconds. Grants whose stock nobody told are of plentiful or last_units.
func (r *rig) evidence(want int64, of ...comparator.Stratum) {
	r.t.Helper()
	r.eventually(pick(40*time.Second, 80*time.Second), fmt.Sprintf("%d decisions are counted as %v", want, of), func() error {
		var n, k int64
		rep := r.proxies[0].report()
		if slices.Contains(of, comparator.Plentiful) {
			n = rep.Readiness.NotSeen
		}
		for _, s := range rep.Readiness.Strata {
			for _, name := range of {
				if s.Stratum == name {
					n, k = n+s.Compared, k+s.Findings
				}
			}
		}
		if n != want || k != 0 {
			return fmt.Errorf("%d with %d findings in the strata: %+v", n, k, rep.Readiness)
		}
		return nil
	})
}

// page reads the report as HTML: it has to name what is in it.
func (p *proxyProc) page(want ...string) {
	p.r.t.Helper()
	out, err := p.run("report", podName, "--format", "html")
	if code := exitOf(err); code != 0 && code != 3 {
		p.r.t.Fatal(err)
	}
	for _, w := range append(want, "<!doctype html>", "</html>", "stratum-last_units") {
		if !strings.Contains(string(out), w) {
			p.r.t.Errorf("the page lacks %q", w)
		}
	}
}
