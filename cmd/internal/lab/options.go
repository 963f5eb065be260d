package lab

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Options of Start and Up. The zero value is a durable, attached server in a
// throw-away folder.
type Options struct {
	// Dir keeps the server's data, log and all else; it is not removed at Stop,
	// and a server started there again has the data of the last. Empty: a
	// throw-away folder, removed at Stop.
	Dir string
	// Fast gives up what only a crash of the machine would need (fsync, the
	// doublewrite buffer, the binary log). Data still survive SIGKILL of the server.
	Fast bool
	// Own never takes a given address: for callers that kill, pause or restart.
	Own bool
	// Detached lets the server outlive this process. It wants a Dir.
	Detached bool
	// Port is taken if it is free. 0, or a port in use: a free one is found.
	Port int
	// Address of a running server (a DSN for MySQL and MariaDB); empty: from the
	// environment variable of the kind.
	Address string
	// Args are added to the server's command line, after ours.
	Args []string
	// Zone is the server's own time zone, as TZ has it; empty: UTC.
	Zone string
	// CacheDir holds trees and templates; empty: $CROSSFADE_CACHE, else
	// crossfade/servers in the user's cache folder.
	CacheDir string
	// Progress gets a line for whatever takes longer than a blink; may be nil.
	Progress io.Writer

	discard bool                // the Dir goes as a whole, soon: Stop need not be orderly
	spawned func(*Server) error // called once the process exists, before it is ready
}

func (o Options) say(format string, args ...any) {
	if o.Progress != nil {
		fmt.Fprintf(o.Progress, format+"\n", args...)
	}
}

// cacheDir is absolute, and exists when it returns without error.
func (o Options) cacheDir() (string, error) {
	dir := o.CacheDir
	if dir == "" {
		dir = os.Getenv("CROSSFADE_CACHE")
	}
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no cache folder for servers: %w; set CROSSFADE_CACHE to a folder", err)
		}
		dir = filepath.Join(user, "crossfade", "servers")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cache folder for servers: %w; set CROSSFADE_CACHE to a folder that can be written", err)
	}
	return dir, nil
}

// address is the given one, if any.
func (o Options) address(k Kind) string {
	if o.Address != "" || k.facts().env == "" {
		return o.Address
	}
	return os.Getenv(k.facts().env)
}
