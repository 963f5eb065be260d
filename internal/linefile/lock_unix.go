//go:build unix

package linefile

import (
	"errors"
	"os"
	"syscall"
)

// lockFile keeps other processes (and other openings in this one) out until the file is closed. The
// kernel lets go of it when the process dies.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}
