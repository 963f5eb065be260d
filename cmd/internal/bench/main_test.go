package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// program is the crossfade program, built once for the tests that start a proxy.
var program string

type built struct{ m *testing.M }

func (b built) Run() int {
	dir, err := os.MkdirTemp("", "crossfade-bench-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "crossfade")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/crossfade-proxy/crossfade/cmd/crossfade").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the command: %v\n%s", err, out)
		return 1
	}
	return b.m.Run()
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(built{m})) }
