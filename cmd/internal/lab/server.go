package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	startPatience = 90 * time.Second // two busy cores, a crash recovery
	stopPatience  = 30 * time.Second // then it is killed
	killPatience  = 10 * time.Second // for the kernel to be done with it
	startAttempts = 5                // somebody may take a port in between
)

// Server is one running server. Its methods may be called at the same time.
type Server struct {
	Kind   Kind
	Dir    string // data, log and all else; empty when given by address
	Origin string // where the program comes from, or "given by …"

	version  Version
	addr     string
	base     *mysql.Config // SQL kinds only
	external bool
	opts     Options
	in       install
	place    *place
	member   *etcdMember // etcd only

	mu    sync.Mutex // guards what follows, and serialises start, stop and signals
	proc  *process
	ended bool // Stop gave the place back
}

// Version is the server's own version.
func (s *Server) Version() Version { return s.version }

// Addr is host:port.
func (s *Server) Addr() string { return s.addr }

// External servers were given by address: the lab will not signal them.
func (s *Server) External() bool { return s.external }

// DSN for go-sql-driver/mysql, with db as the database (empty: none). It panics
// for a Redis, which has none.
func (s *Server) DSN(db string) string {
	if s.base == nil {
		panic("lab: DSN of a " + string(s.Kind) + " server")
	}
	if db == "" {
		db = s.base.DBName
	}
	return sqlDSN(s.base, db)
}

// PID of the server's process; 0 when it does not run or is not ours.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.proc.alive() {
		return 0
	}
	return s.proc.id.PID
}

// LogFile is where the server's own words go.
func (s *Server) LogFile() string { return filepath.Join(s.Dir, "log") }

// Start has a running server of the kind, by the first way that leads to one; see
// the package's description. The error is an *UnavailableError when none does.
func Start(ctx context.Context, k Kind, opts Options) (*Server, error) {
	if k == Etcd {
		c, err := StartEtcd(ctx, 1, opts)
		if err != nil {
			return nil, err
		}
		return c.Members[0], nil
	}
	if _, err := ParseKind(string(k)); err != nil {
		return nil, err
	}
	if opts.Detached && opts.Dir == "" {
		return nil, errors.New("lab: a detached server wants a Dir")
	}
	if addr := opts.address(k); addr != "" && !opts.Own {
		// An address that was given is meant: no other server stands in for it.
		s, err := attach(ctx, k, addr)
		if err != nil {
			return nil, &UnavailableError{Kind: k, Tried: []string{fmt.Sprintf("the given address: %v", err)},
				Hint: "Start that server, or unset " + k.facts().env + " to let the lab run one of its own."}
		}
		return s, nil
	}
	return startOwn(ctx, k, opts)
}

// startOwn tries installs until one runs: a found program may be barred from our
// folders (AppArmor profiles do that), and the next may not.
func startOwn(ctx context.Context, k Kind, opts Options) (*Server, error) {
	found, tried := onMachine(ctx, k)
	for _, in := range found {
		s, err := startInstall(ctx, in, opts)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		tried = append(tried, fmt.Sprintf("%s: %v", in.Bin, err))
	}
	if len(tried) == 0 {
		tried = append(tried, "found on this machine: none")
	}
	cache, err := opts.cacheDir()
	if err != nil {
		return nil, err
	}
	in, reasons, err := fetched(ctx, cache, k, opts)
	if err != nil {
		return nil, err
	}
	if in.Bin == "" {
		return nil, &UnavailableError{Kind: k, Tried: append(tried, reasons...), Hint: Missing(k)}
	}
	s, err := startInstall(ctx, in, opts)
	if err != nil && ctx.Err() == nil {
		tried = append(append(tried, reasons...), fmt.Sprintf("%s: %v", in.Origin, err))
		return nil, &UnavailableError{Kind: k, Tried: tried,
			Hint: Missing(k) + " If a fetched program is damaged, remove " + filepath.Join(cache, "trees") + "."}
	}
	return s, err
}

// attach uses a server that runs already.
func attach(ctx context.Context, k Kind, addr string) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s := &Server{Kind: k, addr: addr, external: true, Origin: "given by address"}
	if k.SQL() {
		config, err := mysql.ParseDSN(addr)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", k.facts().env, clip(addr, 40), err)
		}
		config.InterpolateParams = true
		s.base, s.addr = config, config.Addr
	}
	kind, v, err := s.ask(ctx)
	if err == nil && kind != k {
		err = fmt.Errorf("it is %s %s, not %s", kind.facts().title, v, k.facts().title)
	}
	if err == nil {
		err = checkMinimum(k, v)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.addr, err)
	}
	s.version = v
	return s, nil
}

// ask the running server what it is: the proof that it is ready, too.
func (s *Server) ask(ctx context.Context) (Kind, Version, error) {
	if s.member != nil {
		return Etcd, s.version, s.member.listens(ctx)
	}
	if s.base != nil {
		return sqlVersion(ctx, s.base)
	}
	return redisVersion(ctx, s.addr)
}

func startInstall(ctx context.Context, in install, opts Options) (*Server, error) {
	for attempt := 1; ; attempt++ {
		p, err := newPlace(ctx, in.Kind, opts)
		if err != nil {
			return nil, err
		}
		s := &Server{
			Kind: in.Kind, Dir: p.dir, Origin: in.Origin, version: in.Version,
			addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)), opts: opts, in: in, place: p,
		}
		if in.Kind.SQL() {
			s.base = localSQL(s.addr)
		}
		s.mu.Lock()
		err = s.start(ctx)
		s.mu.Unlock()
		if err == nil {
			if opts.Detached { // its port is held by its listening on it; it outlives our lock
				p.portHeld.unlock()
				p.portHeld = nil
			}
			return s, nil
		}
		// Somebody who keeps no port locks may have listened first; a Redis in cluster mode listens
		// on a second port, which follows from the first.
		retry := errors.Is(err, errExited) && attempt < startAttempts &&
			(!portFree(p.port) || strings.Contains(err.Error(), "Address already in use"))
		if lerr := p.leave(); !retry {
			return nil, errors.Join(err, lerr)
		}
		opts.Port = 0
	}
}

// start the program at its place, and return when it serves. s.mu is held.
func (s *Server) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience,
		fmt.Errorf("%s was not ready within %s", s.Kind.facts().title, startPatience))
	defer cancel()
	args, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	var before int64
	if info, err := log.Stat(); err == nil {
		before = info.Size()
	}
	// Not ctx: the server's life is not that of the call which starts it.
	cmd := s.in.command(context.WithoutCancel(ctx), append(args, s.opts.Args...)...)
	if s.opts.Zone != "" {
		cmd.Env = append(cmd.Env, "TZ="+s.opts.Zone) // the last of a name counts
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, log, log
	if s.proc, err = spawn(cmd, s.opts.Detached); err != nil {
		return err
	}
	if s.opts.spawned != nil {
		err = s.opts.spawned(s)
	}
	if err == nil {
		err = s.awaitReady(ctx)
	}
	if err != nil {
		err = fmt.Errorf("starting %s %s on %s: %w; the end of its log:\n%s",
			s.Kind.facts().title, s.version, s.addr, err, tail(s.LogFile(), before))
		killCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killPatience)
		defer cancel()
		return errors.Join(err, s.proc.kill(killCtx))
	}
	return nil
}

// awaitReady returns when the server answers.
func (s *Server) awaitReady(ctx context.Context) error {
	err := poll(ctx, func() (bool, error) {
		if !s.proc.alive() {
			return false, errExited
		}
		_, _, err := s.ask(ctx)
		return err == nil, nil
	})
	// Another server on our port would have answered as well as ours.
	if err == nil && !s.proc.alive() {
		err = errExited
	}
	return err
}

// prepare the folder and the command line.
func (s *Server) prepare(ctx context.Context) ([]string, error) {
	if s.Kind.SQL() {
		if err := prepareSQL(ctx, s.in, s.Dir, s.opts); err != nil {
			return nil, err
		}
		return sqlServeArgs(s.in, s.Dir, s.place.port, s.opts.Fast)
	}
	if s.member != nil {
		return s.member.serveArgs(s), nil
	}
	return redisServeArgs(s.Dir, s.place.port, s.opts.Fast), os.MkdirAll(filepath.Join(s.Dir, "data"), 0o700)
}

// Kill ends the server as a crash would: SIGKILL, and it is gone on return. Port
// and data are kept for Restart.
func (s *Server) Kill() error {
	if s.external {
		return ErrNotOurs
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.killLocked()
}

func (s *Server) killLocked() error {
	ctx, cancel := context.WithTimeout(context.Background(), killPatience)
	defer cancel()
	return s.proc.kill(ctx)
}

// Pause stops the server's process where it is: connections stay, nothing is
// answered.
func (s *Server) Pause() error { return s.send(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() error { return s.send(syscall.SIGCONT) }

func (s *Server) send(sig syscall.Signal) error {
	if s.external {
		return ErrNotOurs
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.signal(sig)
}

// Restart starts the server again on its port and data: after Kill, or, if it
// runs, after an orderly stop.
func (s *Server) Restart(ctx context.Context) error {
	if s.external {
		return ErrNotOurs
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errors.New("lab: the server was stopped for good; start a new one")
	}
	if err := s.halt(ctx); err != nil {
		return err
	}
	return s.start(ctx)
}

// Stop ends the server and gives its place back. A throw-away server is not
// asked to write down what nobody will read. Safe to call twice.
func (s *Server) Stop(ctx context.Context) error {
	if s.external {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	var err error
	if s.place.throwAway || s.opts.discard {
		err = s.killLocked()
	} else {
		err = s.halt(ctx)
	}
	if s.proc.alive() {
		return err
	}
	s.ended = true
	return errors.Join(err, s.place.leave())
}

// halt ends the process in order, and when it does not obey, by SIGKILL. s.mu is
// held.
func (s *Server) halt(ctx context.Context) error {
	if !s.proc.alive() {
		return nil
	}
	orderly, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	// A paused process would keep the request for later.
	err := errors.Join(s.proc.signal(syscall.SIGTERM), s.proc.signal(syscall.SIGCONT))
	if err == nil && s.proc.wait(orderly) == nil {
		return nil
	}
	return s.killLocked()
}

// CreateDatabase makes an empty database; one that is there is left as it is.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	return s.exec(ctx, "CREATE DATABASE IF NOT EXISTS "+quoteName(name))
}

// DropDatabase removes a database and all in it.
func (s *Server) DropDatabase(ctx context.Context, name string) error {
	return s.exec(ctx, "DROP DATABASE IF EXISTS "+quoteName(name))
}

func (s *Server) exec(ctx context.Context, query string) error {
	if s.base == nil {
		return fmt.Errorf("lab: %s has no databases to name", s.Kind)
	}
	return withSQL(s.base, "", func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, query)
		return err
	})
}
