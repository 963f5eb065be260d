package proxy

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
)

const excusesOf = "excuses:\n"

func excuseText(name string) string {
	return "  - {name: " + name + ", owner: ann, why: known, from: 2026-05-01, until: 2026-05-02, items: [mug]}\n"
}

// TestExcusesFollowTheirFile: a change is taken over once it was found twice, so that a file that is being
// written is not; a file that is wrong is named, and what was read before stays.
func TestExcusesFollowTheirFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "excuses.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfgFile := filepath.Join(dir, "crossfade.yaml")
	if err := os.WriteFile(cfgFile, []byte("excuses: excuses.yaml\npods: [{name: p, redis: {addr: \"h:1\"}, mysql: {dsn: \"root@tcp(h:1)/x\"}}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(cfgFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loadExcuses(cfg, nil); err == nil {
		t.Fatal("a proxy would start without the file that it names")
	}
	if err := Check(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "excuses") {
		t.Fatalf("the check says %v", err)
	}
	write(excusesOf + excuseText("one"))
	e, err := loadExcuses(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	want := func(what string, problem bool, names ...string) {
		t.Helper()
		_, err := e.look()
		var have []string
		for _, x := range e.current() {
			have = append(have, x.Name)
		}
		if strings.Join(have, " ") != strings.Join(names, " ") || (e.problem() != "") != problem || (err != nil) != problem {
			t.Errorf("%s: %q, %q, %v; want %q", what, have, e.problem(), err, names)
		}
	}
	want("as it was", false, "one")
	write(excusesOf + excuseText("one") + excuseText("two"))
	want("changed", false, "one")
	want("changed, and found the same", false, "one", "two")
	write(excusesOf)
	want("half written", false, "one", "two")
	write(excusesOf + excuseText("three"))
	want("written", false, "one", "two")
	want("and found the same", false, "three")
	write(excusesOf + excuseText("four") + "  - {}\n")
	want("wrong", false, "three")
	want("and found the same", true, "three")
	want("and again", true, "three")
	if !strings.Contains(e.problem(), "excuses[1]") || !strings.Contains(e.problem(), "the 1 that were read before") {
		t.Errorf("the problem says %q", e.problem())
	}
	write(excusesOf + excuseText("three"))
	want("mended", false, "three")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	want("gone", true, "three")
	write(excusesOf + excuseText("five"))
	want("there again", true, "three")
	want("and found the same", false, "five")
}
