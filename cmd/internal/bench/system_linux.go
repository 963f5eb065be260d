package bench

import (
	"os"
	"syscall"
	"time"
)

// nap sleeps on the thread itself. One that is woken early is called again by its caller's clock.
func nap(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil) // an interrupted nap is a short one
}

// flush is what servers do after each commit: data and size, not the times.
func flush(f *os.File) error {
	return syscall.Fdatasync(int(f.Fd()))
}
