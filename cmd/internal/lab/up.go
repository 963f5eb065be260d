package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// DefaultDir is where `crossfade lab` keeps its servers, in the working folder.
const DefaultDir = "crossfade-lab"

// ConfigFile is the name of the configuration that Up writes into the lab's folder.
const ConfigFile = "crossfade.yaml"

// ErrNoLab: there is no lab in that folder.
var ErrNoLab = errors.New("no lab there")

// UpOptions of a lab: several servers in one folder.
type UpOptions struct {
	// Options of each server. An empty Dir is a throw-away folder, for an attached
	// lab only. Port and Address are not used.
	Options
	// Kinds that are wanted; empty: MySQL and Redis.
	Kinds []Kind
	// Databases that each SQL server shall have; empty: "crossfade".
	Databases []string
	// Config renders crossfade.yaml once the servers run; may be nil.
	Config func(*Lab) ([]byte, error)
}

// Lab is a set of running servers in one folder.
type Lab struct {
	Dir       string
	Databases []string

	servers    map[Kind]*Server
	configHash string // of the configuration as Up wrote it
	place      *place // of a throw-away lab
}

// Server of a kind; nil if the lab has none.
func (l *Lab) Server(k Kind) *Server { return l.servers[k] }

// Servers in the order of [Kinds].
func (l *Lab) Servers() []*Server {
	var all []*Server
	for _, k := range Kinds {
		if s := l.servers[k]; s != nil {
			all = append(all, s)
		}
	}
	return all
}

// ConfigPath is where the lab's configuration is.
func (l *Lab) ConfigPath() string { return filepath.Join(l.Dir, ConfigFile) }

// Env are KEY=value lines with the addresses, by the names which the lab (and so
// every test) takes as given addresses. [ShellEnv] makes them fit for eval.
func (l *Lab) Env() []string {
	env := []string{"CROSSFADE_LAB=" + l.Dir}
	for _, s := range l.Servers() {
		value := s.Addr()
		if s.Kind.SQL() {
			value = s.DSN(l.Databases[0])
		}
		env = append(env, s.Kind.facts().env+"="+value)
	}
	return env
}

// ShellEnv quotes KEY=value lines for `eval "$(crossfade lab env)"`.
func ShellEnv(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "=")
		fmt.Fprintf(&b, "export %s='%s'\n", key, strings.ReplaceAll(value, "'", `'\''`))
	}
	return b.String()
}

// Up starts the wanted servers in the folder, or finds them running there: it may
// be repeated. Servers that ran there before keep data and port. When one cannot
// be had, those that this call started are stopped again.
func Up(ctx context.Context, o UpOptions) (_ *Lab, err error) {
	if len(o.Kinds) == 0 {
		o.Kinds = []Kind{MySQL, Redis}
	}
	if len(o.Databases) == 0 {
		o.Databases = []string{"crossfade"}
	}
	l, guard, err := openForUp(ctx, o)
	if err != nil {
		return nil, err
	}
	defer guard.unlock()
	var started []*Server
	defer func() {
		if err == nil {
			return
		}
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience+killPatience)
		defer cancel()
		for _, s := range started {
			err = errors.Join(err, s.Stop(stop))
		}
		if l.place != nil {
			err = errors.Join(err, l.place.leave())
		}
	}()
	for _, k := range o.Kinds {
		if old := l.servers[k]; old != nil && (old.external || old.PID() != 0) {
			o.say("%s %s runs on %s", k.facts().title, old.version, old.addr)
			continue
		}
		s, err := l.start(ctx, k, o)
		if err != nil {
			return nil, err
		}
		started = append(started, s)
		o.say("%s %s on %s (%s)", k.facts().title, s.version, s.addr, s.Origin)
	}
	if err := l.furnish(ctx, o); err != nil {
		return nil, err
	}
	return l, nil
}

// openForUp has the lab's folder, its lock, and what ran there before.
func openForUp(ctx context.Context, o UpOptions) (*Lab, *fileLock, error) {
	if o.Dir == "" {
		if o.Detached {
			return nil, nil, errors.New("lab: a detached lab wants a Dir")
		}
		root, err := tempRoot()
		if err != nil {
			return nil, nil, err
		}
		p := &place{}
		if err := p.throwAwayDir(ctx, root, "lab"); err != nil {
			return nil, nil, err
		}
		return &Lab{Dir: p.dir, Databases: o.Databases, servers: map[Kind]*Server{}, place: p}, nil, nil
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	guard, err := lockLab(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	l, err := readLab(dir)
	if errors.Is(err, ErrNoLab) {
		l, err = &Lab{Dir: dir, servers: map[Kind]*Server{}}, nil
	}
	if err != nil {
		guard.unlock()
		return nil, nil, err
	}
	l.Databases = o.Databases
	return l, guard, nil
}

// lockLab keeps two commands from working on one folder.
func lockLab(ctx context.Context, dir string) (*fileLock, error) {
	return lock(ctx, filepath.Join(dir, "lock"), nil)
}

// start one server in the lab's folder. It is on record before it is ready, so
// that `down` finds it if this process dies meanwhile.
func (l *Lab) start(ctx context.Context, k Kind, o UpOptions) (*Server, error) {
	opts := o.Options
	opts.Dir, opts.Address, opts.Port, opts.discard = filepath.Join(l.Dir, string(k)), "", 0, l.place != nil
	if old := l.servers[k]; old != nil && old.place != nil {
		opts.Port = old.place.port
	}
	opts.spawned = func(s *Server) error {
		l.servers[k] = s
		return l.write()
	}
	s, err := Start(ctx, k, opts)
	if err != nil {
		delete(l.servers, k)
		return nil, errors.Join(err, l.write())
	}
	l.servers[k] = s
	return s, nil
}

// furnish makes databases and the configuration, and writes the record.
func (l *Lab) furnish(ctx context.Context, o UpOptions) error {
	for _, s := range l.Servers() {
		if !s.Kind.SQL() || !slices.Contains(o.Kinds, s.Kind) {
			continue
		}
		for _, db := range o.Databases {
			if err := s.CreateDatabase(ctx, db); err != nil {
				return fmt.Errorf("making database %s on %s: %w", db, s.addr, err)
			}
		}
	}
	if o.Config != nil {
		text, err := o.Config(l)
		if err != nil {
			return fmt.Errorf("rendering %s: %w", ConfigFile, err)
		}
		if err := l.writeConfig(text, o); err != nil {
			return err
		}
	}
	return l.write()
}

// writeConfig replaces what an earlier Up wrote, not what a person did.
func (l *Lab) writeConfig(text []byte, o UpOptions) error {
	now, err := os.ReadFile(l.ConfigPath())
	if err == nil && hash(now) != l.configHash && !bytes.Equal(now, text) {
		o.say("%s was changed by hand and is left as it is; remove it to have a new one written", l.ConfigPath())
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.configHash = hash(text)
	return writeFile(l.ConfigPath(), text, 0o600)
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Stop ends all servers; a throw-away lab is removed.
func (l *Lab) Stop(ctx context.Context) error {
	var errs []error
	for _, s := range l.Servers() {
		errs = append(errs, s.Stop(ctx))
	}
	if l.place != nil {
		errs = append(errs, l.place.leave())
	}
	return errors.Join(errs...)
}

// Down stops the servers of a folder; remove takes their data away, too, and the
// record. Given addresses are left alone.
func Down(ctx context.Context, dir string, remove bool) error {
	if _, err := readLab(dir); err != nil {
		return err
	}
	guard, err := lockLab(ctx, dir)
	if err != nil {
		return err
	}
	defer guard.unlock()
	l, err := readLab(dir)
	if err != nil {
		return err
	}
	if err := l.Stop(ctx); err != nil || !remove {
		return err
	}
	var errs []error
	for _, s := range l.Servers() {
		if s.Dir != "" {
			errs = append(errs, os.RemoveAll(s.Dir))
		}
	}
	return errors.Join(append(errs, os.Remove(filepath.Join(l.Dir, recordFile)))...)
}

// Status of one server of a lab.
type Status struct {
	Kind    Kind    `json:"kind"`
	Version Version `json:"version"`
	Addr    string  `json:"addr"`
	PID     int     `json:"pid"` // 0: not running, or not ours
	Given   bool    `json:"given"`
	Answers bool    `json:"answers"`
	Error   string  `json:"error,omitempty"` // why it does not answer
	Origin  string  `json:"origin"`
	Log     string  `json:"log,omitempty"`
}

// StatusOf asks every server of the folder's lab.
func StatusOf(ctx context.Context, dir string) ([]Status, error) {
	const patience = 2 * time.Second // for one server; a paused one never answers
	l, err := readLab(dir)
	if err != nil {
		return nil, err
	}
	var all []Status
	for _, s := range l.Servers() {
		st := Status{Kind: s.Kind, Version: s.version, Addr: s.addr, PID: s.PID(), Given: s.external, Origin: s.Origin}
		if !s.external {
			st.Log = s.LogFile()
		}
		// Somebody else's server may have our port by now: only a live one is asked.
		err := errors.New("it does not run")
		if s.external || st.PID != 0 {
			ask, cancel := context.WithTimeout(ctx, patience)
			_, _, err = s.ask(ask)
			cancel()
		}
		if st.Answers = err == nil; err != nil {
			st.Error = err.Error()
		}
		all = append(all, st)
	}
	return all, nil
}

// EnvOf are the KEY=value lines of the folder's lab; see [Lab.Env].
func EnvOf(dir string) ([]string, error) {
	l, err := readLab(dir)
	if err != nil {
		return nil, err
	}
	return l.Env(), nil
}
