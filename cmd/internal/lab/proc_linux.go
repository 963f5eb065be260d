package lab

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// processAttributes: an attached server gets a process group of its own, so that
// a Ctrl-C at the terminal is for us alone and we end it in order; a detached one
// a session of its own. The parent-death signal survives exec, but not a change
// of user: the servers are started as the user that they run as.
func processAttributes(detached bool) *syscall.SysProcAttr {
	if detached {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// processIdentity reads the identity of a live process; a zombie is not alive.
func processIdentity(pid int) (identity, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return identity{}, os.ErrProcessDone
	}
	start, err := startTime(stat)
	if err != nil {
		return identity{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return identity{}, err
	}
	return identity{PID: pid, Start: start, Boot: strings.TrimSpace(string(boot))}, nil
}

// startTime is field 22 of /proc/PID/stat. Field 2, the program's name, is in
// parentheses and may hold anything, so fields are counted from its end.
func startTime(stat []byte) (uint64, error) {
	const state, start = 3, 22
	at := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[at+1:]))
	if at < 0 || len(fields) <= start-state {
		return 0, fmt.Errorf("unreadable process status %q", clip(string(stat), 80))
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return 0, os.ErrProcessDone
	}
	return strconv.ParseUint(fields[start-state], 10, 64)
}

// ephemeralPorts is the range from which the kernel takes ports for outgoing
// connections.
func ephemeralPorts() (low, high int) {
	low, high = 32768, 60999 // Linux's default
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		var a, b int
		if n, err := fmt.Sscan(string(text), &a, &b); err == nil && n == 2 {
			low, high = a, b
		}
	}
	return low, high
}
