package neighbours

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of /proc/<pid>/stat: Linux gives user space hundredths of a second on every
// architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// process is one of this machine, known by its start as well: pids are used again.
type process struct {
	pid   int
	start string
}

// The fields of /proc/<pid>/stat behind the name, counted from 0.
const (
	statUser, statSystem, statStart = 11, 12, 19
	statFields                      = 20
)

func stat(pid int) (start string, cpu time.Duration, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, err
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < statFields {
		return "", 0, errors.New("/proc has another form")
	}
	user, err1 := strconv.ParseInt(f[statUser], 10, 64)
	system, err2 := strconv.ParseInt(f[statSystem], 10, 64)
	return f[statStart], time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}

// cpu is the CPU time that it has used so far.
func (p process) cpu() (time.Duration, error) {
	start, cpu, err := stat(p.pid)
	if err == nil && start != p.start {
		err = errors.New("the process has ended")
	}
	return cpu, err
}

// findListener finds the MySQL or MariaDB server that listens on a port of this machine, among the
// processes that we may look into. What forwards a port, to a container say, is none.
func findListener(port string) (process, bool) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return process{}, false
	}
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue // without IPv6, say
		}
		for line := range strings.Lines(string(text)) {
			const local, state, inode, listening = 1, 3, 9, "0A"
			f := strings.Fields(line)
			if len(f) > inode && f[state] == listening && strings.HasSuffix(f[local], fmt.Sprintf(":%04X", n)) {
				sockets["socket:["+f[inode]+"]"] = true
			}
		}
	}
	if len(sockets) == 0 {
		return process{}, false
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
	for _, path := range commands {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || !isServer(path) || !hasSocket(pid, sockets) {
			continue
		}
		if start, _, err := stat(pid); err == nil {
			return process{pid, start}, true
		}
	}
	return process{}, false
}

func isServer(cmdline string) bool {
	text, err := os.ReadFile(cmdline)
	return err == nil && (bytes.Contains(text, []byte("mysqld")) || bytes.Contains(text, []byte("mariadbd")))
}

func hasSocket(pid int, sockets map[string]bool) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return false // somebody else's
	}
	for _, f := range files {
		if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && sockets[to] {
			return true
		}
	}
	return false
}
