package chaos_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/cmd/internal/chaos"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(m)) }

// TestShort is the chaos in its short form: a few switches, and one trial of what has the most to it. How fast that
// is, is left to the long form, which has the machine for itself.
func TestShort(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "crossfade")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/crossfade-proxy/crossfade/cmd/crossfade").CombinedOutput(); err != nil {
		t.Fatalf("building the command: %v\n%s", err, out)
	}
	short := []string{"stopped/before-a-write-live-to-shadow", "driver/shadow-to-live-step-3", "kill/mysql-stopped"}
	want := len(short) + 1
	o := chaos.Options{Scenarios: append(short, "switches"), Trials: 1, Rate: 150, Buyers: 32, Seed: 1, Fast: true, Lenient: true, Binary: binary, Keep: t.TempDir()}
	if os.Getenv("CROSSFADE_LONG") != "" {
		o.Scenarios = append(short[:2:2], "switches", "control", "kill", "behind")
	}
	var progress, table bytes.Buffer
	o.Progress = &progress
	r, err := chaos.Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s\n%s", &progress, &table)
	if !r.Kept() {
		t.Error("a promise was broken, or could not be checked")
	}
	if len(r.Rows) < want {
		t.Errorf("%d faults were tried, of %d", len(r.Rows), want)
	}
	for _, row := range r.Rows {
		if row.Survived == 0 || row.Histories == 0 || row.Holds == 0 {
			t.Errorf("%s, %s: too little happened: %+v", row.Scenario, row.Case, row)
		}
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}
