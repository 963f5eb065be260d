package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// withExcuses is a configuration that names a file of excuses.
func withExcuses(t *testing.T) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte("excuses: excuses.yaml\n" + good))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const oneExcuse = `
excuses:
  - name: recount
    owner: ann
    why: the shelf is being recounted
    from: 2026-05-01
    until: 2026-05-08T18:00:00+02:00
    classes: [level_drift, ledger_short]
    pods: [pod-1]
    shops: [a]
    items: [85123A, 22423, 007, 1e3]
    callers: [web]
`

func TestExcuses(t *testing.T) {
	es, err := withExcuses(t).ParseExcuses([]byte(oneExcuse))
	if err != nil || len(es) != 1 {
		t.Fatalf("%+v, %v", es, err)
	}
	e := es[0]
	if !e.From.Equal(time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)) || !e.Until.Equal(time.Date(2026, 5, 8, 16, 0, 0, 0, time.UTC)) {
		t.Errorf("from %s until %s", e.From, e.Until)
	}
	if !slices.Equal(e.Classes, []comparator.Class{comparator.LevelDrift, comparator.LedgerShort}) || !slices.Equal(e.Items, []backends.Item{"85123A", "22423", "007", "1e3"}) || e.Callers[0] != "web" {
		t.Errorf("%+v", e)
	}
	if es, err := withExcuses(t).ParseExcuses([]byte("excuses: []\n")); err != nil || len(es) != 0 {
		t.Errorf("%+v, %v", es, err)
	}
}

// TestBadExcuses: each names the excuse, the field, what is allowed and what to do.
func TestBadExcuses(t *testing.T) {
	with := func(old, text string) string {
		if !strings.Contains(oneExcuse, old) {
			t.Fatalf("%q is not there", old)
		}
		return strings.Replace(oneExcuse, old, text, 1)
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", " \n", "an empty file"},
		{"no yaml", "excuses: [", "excuses.yaml"},
		{"unknown key", with("why:", "reason:"), "reason"},
		{"unknown key at the top", "excuse: []\n", "excuse"},
		{"no name", with("recount", `""`), `name is ""`},
		{"no owner", with("owner: ann", `owner: ""`), `owner is ""`},
		{"no reason", with("the shelf is being recounted", `" "`), "say why"},
		{"no end", with("    until: 2026-05-08T18:00:00+02:00\n", ""), "an excuse always ends"},
		{"no beginning", with("    from: 2026-05-01\n", ""), "from is empty"},
		{"what is no date", with("2026-05-01", "May"), "2026-05-01T18:00:00+02:00"},
		{"an end before the beginning", with("2026-05-08T18:00:00+02:00", "2026-04-01"), "later than from"},
		{"for ever", with("2026-05-08T18:00:00+02:00", "2036-05-01"), "at most 366 days"},
		{"a class that is not there", with("level_drift", "drift"), "one of oversell_risk"},
		{"a pod that is not there", with("[pod-1]", "[pod-9]"), "name one of pod-1"},
		{"a shop that is none", with("[a]", `["ä"]`), "shops[0]"},
		{"a caller that is none", with("[web]", `[""]`), "callers[0]"},
		{"twice", oneExcuse + strings.TrimPrefix(oneExcuse, "\nexcuses:\n"), `"recount" twice`},
		{"for everything", "excuses: [{name: all, owner: ann, why: x, from: 2026-05-01, until: 2026-05-02}]", "would hide everything"},
		{"too many", "excuses:" + strings.Repeat("\n  - {name: x}", comparator.MaxExcuses+1), "at most 1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			es, err := withExcuses(t).ParseExcuses([]byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) || es != nil {
				t.Errorf("%+v, %v; want %q", es, err, c.want)
			}
		})
	}
}

func TestReadExcuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "crossfade.yaml")
	if err := os.WriteFile(file, []byte("excuses: excuses.yaml\n"+good), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadExcuses(); err == nil || !strings.Contains(err.Error(), "excuses is not readable") {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "excuses.yaml"), []byte(strings.Repeat("#", config.MaxExcusesBytes+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadExcuses(); err == nil || !strings.Contains(err.Error(), "at most 1048576 bytes") {
		t.Errorf("a large file: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "excuses.yaml"), []byte(oneExcuse), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := c.ReadExcuses(); err != nil || string(b) != oneExcuse {
		t.Errorf("%q, %v", b, err)
	}
	c.Excuses = ""
	if b, err := c.ReadExcuses(); err != nil || b != nil {
		t.Errorf("no key: %q, %v", b, err)
	}
}
