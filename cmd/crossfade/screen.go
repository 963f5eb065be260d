package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// screenSize is how many lines and columns a terminal has; 0 when it does not tell.
func screenSize(f *os.File) (lines, columns int) {
	if f == nil {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ) //nolint:gosec // a descriptor is small
	if err != nil {
		return 0, 0
	}
	return int(size.Row), int(size.Col)
}
