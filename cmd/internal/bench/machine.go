package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Machine is where the run took place.
type Machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel,omitempty"`
	CPU    string `json:"cpu,omitempty"`
	CPUs   int    `json:"cpus"`
	Memory string `json:"memory,omitempty"`
	Load   string `json:"load_before,omitempty"` // of one, five and fifteen minutes, before the run
	Go     string `json:"go"`
}

func thisMachine() Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version()}
	m.Kernel = strings.TrimSpace(readIfThere("/proc/sys/kernel/osrelease"))
	m.CPU = fieldOf(readIfThere("/proc/cpuinfo"), "model name")
	m.Memory = fieldOf(readIfThere("/proc/meminfo"), "MemTotal")
	if f := strings.Fields(readIfThere("/proc/loadavg")); len(f) >= 3 {
		m.Load = strings.Join(f[:3], " ")
	}
	return m
}

// readIfThere is for what only some systems have.
func readIfThere(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

// fieldOf finds "name : value" in a text of such lines.
func fieldOf(text, name string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// Fsync is what one write to the disk takes, on the file system of the servers' data.
type Fsync struct {
	MedianMS float64 `json:"median_ms"`
	P99MS    float64 `json:"p99_ms"`
	Rate     float64 `json:"per_second"` // one after the other, as the median goes
	Samples  int     `json:"samples"`
}

const (
	fsyncFor   = time.Second
	fsyncBlock = 4096
	fsyncFile  = 16 << 20 // bytes over which the writes go round, as in a log
)

// measureFsync writes blocks of 4 KiB and flushes each, for a while.
func measureFsync(dir string, d time.Duration) (Fsync, error) {
	path := filepath.Join(dir, fmt.Sprintf("fsync-%d", os.Getpid()))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return Fsync{}, fmt.Errorf("measuring fsync: %w", err)
	}
	defer os.Remove(path)
	defer f.Close()
	block := make([]byte, fsyncBlock)
	if err := f.Truncate(fsyncFile); err != nil {
		return Fsync{}, err
	}
	var took []float64
	for start := time.Now(); time.Since(start) < d; {
		began := time.Now()
		if _, err := f.WriteAt(block, int64(len(took))*fsyncBlock%fsyncFile); err != nil {
			return Fsync{}, err
		}
		if err := flush(f); err != nil {
			return Fsync{}, fmt.Errorf("measuring fsync: %w", err)
		}
		took = append(took, time.Since(began).Seconds())
	}
	slices.Sort(took)
	const percent = 100
	out := Fsync{Samples: len(took), MedianMS: median(took) * 1000, P99MS: took[len(took)*99/percent] * 1000}
	out.Rate = 1000 / out.MedianMS
	return out, nil
}
