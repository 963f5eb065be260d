package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// tempRoot holds the throw-away folders and the port locks of one user.
func tempRoot() (string, error) {
	root := filepath.Join(os.TempDir(), fmt.Sprintf("crossfade-lab-%d", os.Getuid()))
	for _, dir := range []string{root, filepath.Join(root, "ports")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
	}
	return root, nil
}

// place is where one server lives: a folder and a port, both held by locks.
type place struct {
	dir       string
	throwAway bool
	held      *fileLock // of a throw-away folder: tells sweepers that we live
	port      int
	portHeld  *fileLock
	also      *place // whose port belongs to this one as well
}

const (
	holderFile = "held"  // the lock file in a throw-away folder
	sweepLock  = "sweep" // makes "new folder, then its lock" one step
	runPrefix  = "run-"
)

// newPlace makes the folder and takes a port.
func newPlace(ctx context.Context, k Kind, opts Options) (_ *place, err error) {
	root, err := tempRoot()
	if err != nil {
		return nil, fmt.Errorf("folder for throw-away servers: %w; set TMPDIR to a folder that can be written", err)
	}
	p := &place{dir: opts.Dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.leave())
		}
	}()
	if p.dir == "" {
		if err = p.throwAwayDir(ctx, root, k); err != nil {
			return nil, err
		}
	}
	if p.dir, err = filepath.Abs(p.dir); err != nil {
		return nil, err
	}
	if err = os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	return p, p.takePort(root, opts.Port)
}

// throwAwayDir makes a folder, and removes those whose owners are gone.
func (p *place) throwAwayDir(ctx context.Context, root string, k Kind) error {
	guard, err := lock(ctx, filepath.Join(root, sweepLock), nil)
	if err != nil {
		return err
	}
	defer guard.unlock()
	if old, err := filepath.Glob(filepath.Join(root, runPrefix+"*")); err == nil {
		for _, dir := range old {
			sweep(dir)
		}
	}
	if p.dir, err = os.MkdirTemp(root, runPrefix+string(k)+"-"); err != nil {
		return err
	}
	p.throwAway = true
	p.held, err = tryLock(filepath.Join(p.dir, holderFile))
	return err
}

func sweep(dir string) {
	held, err := tryLock(filepath.Join(dir, holderFile))
	if err == nil && held == nil {
		return // its owner lives
	}
	os.RemoveAll(dir)
	held.unlock()
}

// takePort finds a port that nobody listens on and no other lab has taken.
func (p *place) takePort(root string, want int) error {
	const attempts = 500 // a machine with so many busy ports is in other trouble
	low, high := portRange(ephemeralPorts())
	for range attempts {
		port := want
		if want = 0; port == 0 {
			port = low + rand.IntN(high-low)
		}
		held, err := tryLock(filepath.Join(root, "ports", strconv.Itoa(port)))
		if err != nil {
			return err
		}
		if held == nil {
			continue
		}
		if portFree(port) {
			p.port, p.portHeld = port, held
			return nil
		}
		held.unlock()
	}
	return fmt.Errorf("no free port on 127.0.0.1 between %d and %d", low, high)
}

// HoldAddr is a loopback address for a program that is started by other means, and may be stopped and started
// again there; see [FreeAddr]. It is held until free is called.
func HoldAddr() (addr string, free func(), err error) {
	root, err := tempRoot()
	if err != nil {
		return "", nil, err
	}
	var p place
	if err := p.takePort(root, 0); err != nil {
		return "", nil, err
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)), p.portHeld.unlock, nil
}

// portRange is outside the ephemeral ports: below them, where there is room.
func portRange(ephemeralLow, ephemeralHigh int) (low, high int) {
	const lowest, room = 10240, 2000
	switch {
	case ephemeralLow-lowest >= room:
		return lowest, ephemeralLow
	case 65536-ephemeralHigh >= room:
		return ephemeralHigh + 1, 65536
	}
	return lowest, 65536
}

func portFree(port int) bool {
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// leave gives port and folder back; a throw-away folder is removed.
func (p *place) leave() error {
	var err error
	if p.throwAway {
		err = os.RemoveAll(p.dir)
	}
	p.held.unlock()
	p.portHeld.unlock()
	if p.also != nil {
		p.also.portHeld.unlock()
	}
	p.held, p.portHeld, p.also = nil, nil, nil
	return err
}

// template has the data folder that build makes, from the cache if it is there.
func template(ctx context.Context, cache, name string, opts Options, build func(dir string) error) (string, error) {
	final := filepath.Join(cache, "templates", name)
	ready := func() bool {
		_, err := os.Stat(final)
		return err == nil
	}
	if ready() {
		return final, nil
	}
	guard, err := lock(ctx, filepath.Join(cache, "locks", name+".lock"), func() {
		opts.say("waiting for another process that is preparing %s …", name)
	})
	if err != nil {
		return "", err
	}
	defer guard.unlock()
	if ready() {
		return final, nil
	}
	opts.say("preparing an empty data folder (%s), once …", name)
	if err := buildDir(final, build); err != nil {
		return "", fmt.Errorf("preparing an empty data folder: %w", err)
	}
	return final, nil
}

// templateName is for one program at one version: two builds of a version may
// write different data folders, so the program's size and date are in it too.
func templateName(in install) (string, error) {
	info, err := os.Stat(in.Bin)
	if err != nil {
		return "", err
	}
	return strings.Join([]string{
		string(in.Kind), in.Version.String(), templateFormat,
		strconv.FormatInt(info.Size(), 36), strconv.FormatInt(info.ModTime().Unix(), 36),
	}, "-"), nil
}

// templateFormat changes when the way changes in which templates are made.
const templateFormat = "1"

// errExited: the server ended before it was ready.
var errExited = errors.New("the server ended before it was ready")
