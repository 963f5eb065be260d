package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// withoutControl takes the folder of the control store away, for everybody.
func (r *rig) withoutControl() (back func()) {
	r.t.Helper()
	dir := filepath.Join(r.dir, "control")
	if err := errors.Join(os.Rename(dir, dir+".away"), os.WriteFile(dir, nil, 0o600)); err != nil {
		r.t.Fatal(err)
	}
	return func() {
		r.t.Helper()
		if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// answered waits for the answer to a file that asked for a kill.
func (r *rig) answered(how string) string {
	r.t.Helper()
	var text []byte
	r.eventually(20*time.Second, "the kill is answered", func() error {
		names, err := filepath.Glob(filepath.Join(r.dir, "kill", "kill."+podName+"*"))
		if err != nil || len(names) != 1 || !strings.HasPrefix(filepath.Base(names[0]), "kill."+podName+how) {
			return fmt.Errorf("%q, %w", names, err)
		}
		text, err = os.ReadFile(names[0])
		return errors.Join(err, os.Remove(names[0]))
	})
	return string(text)
}

// reserves waits until a reserve is granted, and says how long after start that was.
func (r *rig) reserves(p *proxyProc, id string, start time.Time) time.Duration {
	r.t.Helper()
	if got := do(r.t, p.client(), "XF.RESERVE", shop, id, "TTL", longTTL, "LINE", "mug", "1"); got["status"] != "granted" {
		r.t.Fatalf("%v", got)
	}
	return time.Since(start)
}

// TestKillWithNothingButRedis kills by a file and by one HTTP POST, while MySQL is stopped and the control store is gone. Two
// proxies watch one folder, and the kill is made once; when all is back the history knows who and why.
func TestKillWithNothingButRedis(t *testing.T) {
	r := newRig(t, 2)
	one, two := r.proxies[0], r.proxies[1]
	r.stage("shadow")
	do(t, one.client(), "XF.RESTOCK", shop, "mug", "50", "OPID", "s1", "MODE", "ONHAND")
	do(t, one.client(), "XF.RESERVE", shop, "h1", "TTL", longTTL, "LINE", "mug", "1")
	r.drained(30 * time.Second)
	r.stage("live")
	if _, err := one.run("status", podName, "--for", "live", "--timeout", "20s"); err != nil {
		t.Fatal(err)
	}
	if _, err := one.run("status", podName, "--for", "shadow", "--timeout", "1s"); exitOf(err) != 3 || !strings.Contains(err.Error(), "it is in live") {
		t.Errorf("a stage that does not come: %v", err)
	}

	back := r.withoutControl()
	if err := syscall.Kill(r.sql.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(r.sql.PID(), syscall.SIGCONT) })
	start := time.Now()
	if err := os.WriteFile(filepath.Join(r.dir, "kill", "kill."+podName), []byte("MySQL hangs\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := r.answered(".done-")
	took := time.Since(start)
	t.Logf("the file was answered after %s, and Redis granted after %s:\n%s", took.Round(time.Millisecond), r.reserves(two, "h2", start).Round(time.Millisecond), text)
	if !strings.Contains(text, "was killed from live to shadow") || !strings.Contains(text, "not recorded yet") || !strings.Contains(text, "compare-and-set Redis's fence") {
		t.Errorf("%s", text)
	}

	res := killHTTP(t, two, `{"why": "to be sure", "from": "shadow", "dry_run": true}`)
	if res.Verdict != killswitch.KillGo || !res.DryRun {
		t.Errorf("%+v", res)
	}
	start = time.Now()
	res = killHTTP(t, two, `{"why": "to be sure", "from": "shadow"}`)
	t.Logf("the POST took %s: %+v", time.Since(start).Round(time.Millisecond), res.Steps)
	if res.Verdict != killswitch.KillGo || res.To.Stage != backends.RedisOnly || len(res.Steps) != 3 || res.Recorded {
		t.Errorf("%+v", res)
	}
	r.reserves(one, "h3", start)

	if err := syscall.Kill(r.sql.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	back()
	r.settled()
	r.historyKnows(two)
}

// killHTTP sends a kill by a plain client of HTTP.
func killHTTP(t *testing.T, p *proxyProc, body string) (res killswitch.KillResult) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.admin+"/v1/kill/"+podName, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer 0123456789abcdef")
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	a, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err = errors.Join(err, json.Unmarshal(b, &res)); err != nil || a.StatusCode != http.StatusOK {
		t.Fatalf("%d %s, %v", a.StatusCode, b, err)
	}
	return res
}

// historyKnows: all that was done is listed, in pages too, with who and why.
func (r *rig) historyKnows(p *proxyProc) {
	r.t.Helper()
	var l killswitch.HistoryList
	r.eventually(20*time.Second, "the history knows of the kill by HTTP", func() (err error) {
		if l, err = jsonOf[killswitch.HistoryList](p, "history", podName); err == nil && (len(l.Changes) < 4 || l.Changes[0].Who != "test" || l.Changes[0].Why != "to be sure") {
			err = fmt.Errorf("%+v", l)
		}
		return err
	})
	var live *killswitch.HistoryLine
	for i := range l.Changes {
		if l.Changes[i].To == backends.Live {
			live = &l.Changes[i]
		}
	}
	if live == nil || live.Who != "test" || live.Why != "test" || len(live.Gates) != len(killswitch.GatesFor(backends.Shadow, backends.Live)) || len(live.Steps) < 4 {
		r.t.Fatalf("%+v", l)
	}
	paged, err := jsonOf[killswitch.HistoryList](p, "history", podName, "--limit", "2")
	if err != nil || len(paged.Changes) != 2 || paged.Next != paged.Changes[1].Seq {
		r.t.Fatalf("%+v, %v", paged, err)
	}
	for _, format := range []string{"csv", "jsonl", "table"} {
		out, err := p.run("history", "--all", "--format", format)
		lines := strings.Count(string(out), "\n")
		if err != nil || !strings.Contains(string(out), "to be sure") || format == "csv" && lines != len(l.Changes)+1 || format == "jsonl" && lines != len(l.Changes) {
			r.t.Errorf("%s: %d lines, %v:\n%s", format, lines, err, out)
		}
		if format == "table" {
			r.t.Logf("\n%s", out)
		}
	}
}
