package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/filestore"
)

// control is the control store of the fleet, and what can be done to it.
type control interface {
	// name for reports.
	name() string
	// stanza is what proxy n has under control in its configuration.
	stanza(n int) string
	// cut takes the store away from proxy n, heal gives it back.
	cut(n int) error
	heal(n int) error
	// store reads it past all faults.
	// lose takes it away from everybody by its own death, or as near to that as its kind can come; regain brings it back.
	lose() error
	regain(ctx context.Context) error
	store() killswitch.ControlStore
	close() error
}

// newFileControl makes a control store in a folder.
func newFileControl(dir string) (control, error) {
	c := &fileControl{dir: dir}
	if err := os.MkdirAll(c.shared(), 0o700); err != nil {
		return nil, err
	}
	// What a proxy without its control store finds: a file where a folder has to be, which is an error to every call.
	if err := os.WriteFile(c.nowhere(), nil, 0o600); err != nil {
		return nil, err
	}
	for n := range fleet {
		if err := c.point(n, c.shared()); err != nil {
			return nil, err
		}
	}
	fs, err := filestore.Open(c.shared(), filestore.Options{})
	c.fs = fs
	return c, err
}

// fileControl is a folder that every proxy reaches by a link of its own.
type fileControl struct {
	dir string
	fs  *filestore.Store
}

func (c *fileControl) shared() string      { return filepath.Join(c.dir, "control") }
func (c *fileControl) nowhere() string     { return filepath.Join(c.dir, "no-folder") }
func (c *fileControl) linkOf(n int) string { return filepath.Join(c.dir, fmt.Sprintf("control-%d", n)) }
func (c *fileControl) name() string        { return "a folder" }
func (c *fileControl) stanza(n int) string {
	return fmt.Sprintf("{dir: %q, one_host: true}", c.linkOf(n))
}
func (c *fileControl) cut(n int) error                { return c.point(n, c.nowhere()) }
func (c *fileControl) heal(n int) error               { return c.point(n, c.shared()) }
func (c *fileControl) close() error                   { return c.fs.Close() }
func (c *fileControl) store() killswitch.ControlStore { return c.fs }

// lose is what a file system that went away looks like to all proxies: a folder has no quorum.
func (c *fileControl) lose() error {
	var errs []error
	for n := range fleet {
		errs = append(errs, c.cut(n))
	}
	return errors.Join(errs...)
}

func (c *fileControl) regain(context.Context) error {
	var errs []error
	for n := range fleet {
		errs = append(errs, c.heal(n))
	}
	return errors.Join(errs...)
}

// point replaces a link in one step.
func (c *fileControl) point(n int, to string) error {
	link := c.linkOf(n)
	if err := os.Remove(link + ".new"); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Symlink(to, link+".new"); err != nil {
		return err
	}
	return os.Rename(link+".new", link)
}
