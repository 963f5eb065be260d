package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/comparator"
)

// auditing has the proxies audit at a crawl, so that a kill finds them at it; none begins by itself.
func (r *rig) auditing() {
	r.t.Helper()
	for _, p := range r.proxies {
		p.kill()
		f, err := os.OpenFile(p.config, os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := f.WriteString("    audit: {every: 0s, share: 0.005}\n"); err != nil {
			r.t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			r.t.Fatal(err)
		}
		p.start()
	}
	for _, p := range r.proxies {
		p.awaitServing()
	}
	r.settled()
}

// TestAuditSurvivesAKilledProxy: the proxy that audits is killed by SIGKILL; another one is refused the audit until the first's
// time is over, then goes on where it had stopped, and finds what is wrong.
func TestAuditSurvivesAKilledProxy(t *testing.T) {
	r := newRig(t, 2)
	one, two := r.proxies[0], r.proxies[1]
	r.auditing()
	r.stage("shadow")
	c := two.client()
	do(t, c, "XF.RESTOCK", shop, "mug", "5000", "OPID", "s-mug", "MODE", "ONHAND")
	const holds = 700
	for i := range holds {
		do(t, c, "XF.RESERVE", shop, fmt.Sprint("h", i), "TTL", "3600000", "CALLER", "checkout", "LINE", "mug", "1")
	}
	r.drained(20 * time.Second)
	r.drift("mug", 3)
	if rep := two.report(); rep.Audit == nil || rep.Audit.Last != nil || rep.Audit.Present != nil {
		t.Fatalf("before any audit: %+v", rep.Audit)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := one.run("audit", podName, "--resume", "--json")
		ended <- err
	}()
	r.eventually(30*time.Second, "the audit has saved how far it is", func() error {
		if a := two.report().Audit; a == nil || a.Present == nil || !a.Present.Running || a.Present.Holds == 0 || !strings.Contains(a.Present.Holder, "proxy-1") {
			return fmt.Errorf("%+v", a)
		}
		return nil
	})
	one.kill()
	if err := <-ended; err == nil {
		t.Error("the audit of a killed proxy has ended well")
	}
	if _, err := two.run("audit", podName, "--resume"); exitOf(err) != 4 || !strings.Contains(err.Error(), "proxy-1") {
		t.Errorf("while it may still be the other's: %v", err)
	}
	r.neighbour(fmt.Sprintf("UPDATE crossfade_audits SET until = until - 60000000 WHERE pod = '%s'", podName)) // a minute passes
	var res comparator.AuditResult
	r.eventually(time.Minute, "the other proxy goes on", func() (err error) {
		res, err = jsonOf[comparator.AuditResult](two, "audit", podName, "--resume")
		return err
	})
	if res.Resumed != 1 || res.HoldsTruth != holds || res.HoldsShadow != holds || res.FindingsTotal != 1 || res.UndeterminedTotal != 0 {
		t.Errorf("%+v", res)
	}
	rep := two.report()
	if a := rep.Audit; a == nil || a.Last == nil || a.Last.Findings != 1 || a.Last.Holds != holds || a.Present != nil || !a.Current {
		t.Errorf("%+v", rep.Audit)
	}
	if rep.Open != 1 {
		t.Errorf("%d findings are open", rep.Open)
	}
}
