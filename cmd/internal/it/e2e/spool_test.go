package e2e_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/comparator"
)

// spooled is the file in which a proxy keeps what the pod's MySQL did not take.
func (p *proxyProc) spooled() string {
	return filepath.Join(p.r.dir, "data", fmt.Sprintf("proxy-%d", p.n), podName+".spool")
}

func (p *proxyProc) spool() []byte {
	p.r.t.Helper()
	text, err := os.ReadFile(p.spooled())
	if err != nil {
		p.r.t.Fatal(err)
	}
	return text
}

// counts gives how often each finding was seen, by item; each item has to be there once.
func (p *proxyProc) counts() map[string]int64 {
	p.r.t.Helper()
	got := map[string]int64{}
	for _, f := range p.findings("--state", "open,acknowledged").Findings {
		item := string(f.Units[0].Key.Item)
		if _, twice := got[item]; twice || f.Class != comparator.LevelDrift {
			p.r.t.Fatalf("finding %s of %s is there besides another one", f.ID, item)
		}
		got[item] = f.Count
	}
	return got
}

// replayed waits until the spool is empty and the findings are there as often as they were seen.
func (p *proxyProc) replayed(want map[string]int64) {
	p.r.t.Helper()
	p.r.eventually(time.Minute, "the spool is replayed", func() error {
		if n := len(p.spool()); n > 0 {
			return fmt.Errorf("%d bytes are in the spool", n)
		}
		return nil
	})
	if got := p.counts(); !maps.Equal(got, want) {
		p.r.t.Fatalf("the findings were seen %v times, want %v", got, want)
	}
}

// TestFindingsOfAKilledProxy: findings that MySQL did not take wait in the spool of a proxy. MySQL is stopped,
// and the proxy is killed, twice. With MySQL back each finding is there once, seen as often as it was; and once
// only, too, when the proxy died between saving and emptying the spool.
func TestFindingsOfAKilledProxy(t *testing.T) {
	r := newRig(t, 1)
	p := r.proxies[0]
	r.stage("shadow")
	c := p.client()
	for _, item := range []string{"mug", "cup", "pan"} {
		do(t, c, "XF.RESTOCK", shop, item, "5", "OPID", "s-"+item, "MODE", "ONHAND")
	}
	do(t, c, "XF.RESERVE", shop, "h1", "TTL", "600000", "CALLER", "checkout", "LINE", "pan", "1")
	before := r.drainedOf(20*time.Second, 1).Coverage
	r.drift("mug", 2)
	r.audited(1)
	p.replayed(map[string]int64{"mug": 1})

	// Another application holds the table of findings: the stores can be compared, and nothing can be saved.
	r.neighbour("LOCK TABLES crossfade_findings WRITE")
	r.drift("cup", 1)
	r.audited(2) // one seen again, one new
	waiting := p.spool()
	if !bytes.Contains(waiting, []byte(`"cup"`)) || !bytes.Contains(waiting, []byte(`"mug"`)) {
		t.Fatalf("the spool has not what was found: %.300s", waiting)
	}
	if err := r.sql.Kill(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and it outlives a start that finds no MySQL
		p.kill()
		p.start()
		p.awaitServing()
		if got := p.spool(); !bytes.HasPrefix(got, waiting) {
			t.Fatalf("the spool had %d bytes and has %d", len(waiting), len(got))
		}
	}
	waiting = p.spool()
	if err := r.sql.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"mug": 2, "cup": 1}
	p.replayed(want)

	// Killed between the last save and the emptying: the file is as it was, and everything in it is in MySQL. What
	// somebody has acknowledged in the meantime stays so, since the sight is an old one.
	id := p.findings("--item", "cup").Findings[0].ID
	if _, err := p.run("findings", "ack", podName, id, "--why", "recounted"); err != nil {
		t.Fatal(err)
	}
	p.kill()
	if err := os.WriteFile(p.spooled(), waiting, 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.awaitServing()
	p.replayed(want)
	if f := r.finding(p, id); f.Life != comparator.LifeAcknowledged || len(f.History) != 1 || f.TotalUnits != 1 {
		t.Errorf("replayed once more it is %+v", f)
	}
	after := r.drainedOf(20*time.Second, 1).Coverage
	if after.Decisions != before.Decisions || after.Counts != before.Counts {
		t.Errorf("the account was %+v and is %+v", before, after)
	}
	p.linked("cup", "mug")
}

var anchor = regexp.MustCompile(`<article id="finding-([0-9a-f]+)"`)

// linked wants the page to have one finding of each item under an address that has its id, and that id to be
// good for everything: it is shown, exported in both formats, acknowledged and reopened.
func (p *proxyProc) linked(items ...string) {
	t := p.r.t
	t.Helper()
	page, err := p.run("report", podName, "--format", "html")
	if code := exitOf(err); code != 0 && code != 3 {
		t.Fatal(err)
	}
	csv, err := p.run("findings", podName, "--state", "all", "--all", "--format", "csv")
	if err != nil {
		t.Fatal(err)
	}
	list, err := jsonOf[comparator.FindingList](p, "findings", podName, "--state", "all", "--all")
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, m := range anchor.FindAllSubmatch(page, -1) {
		id := string(m[1])
		f := p.r.finding(p, id)
		seen = append(seen, string(f.Units[0].Key.Item))
		if !bytes.Contains(page, []byte(`href="#finding-`+id+`"`)) || !bytes.Contains(csv, []byte(id)) ||
			!slices.ContainsFunc(list.Findings, func(f comparator.Finding) bool { return f.ID == id }) {
			t.Errorf("finding %s is not linked to, or not exported", id)
		}
		for _, verb := range []string{"reopen", "ack", "reopen"} {
			if _, err := p.run("findings", verb, podName, id, "--why", "by its link"); err != nil {
				t.Error(err)
			}
		}
		if f := p.r.finding(p, id); f.Life != comparator.LifeOpen || f.Why != "by its link" {
			t.Errorf("reopened by its link it is %+v", f)
		}
	}
	slices.Sort(seen)
	if !slices.Equal(seen, items) || len(list.Findings) != len(items) {
		t.Errorf("the page has findings of %q, the list %d; want those of %q", seen, len(list.Findings), items)
	}
}
