//go:build !linux

package lab

import (
	"errors"
	"syscall"
)

// Elsewhere the lab uses given addresses only: the kernel does not end a server
// with its parent, and there is no /proc to tell processes apart.

func processAttributes(bool) *syscall.SysProcAttr { return nil }

func processIdentity(int) (identity, error) {
	return identity{}, errors.New("the lab starts servers on Linux only; give addresses of running ones")
}

func ephemeralPorts() (low, high int) { return 49152, 65535 }
