package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

const pgUser = "bench"

// postgres is a throw-away PostgreSQL: of the machine's programs, on loopback, durable. As root it runs as
// another user, since it refuses to be root's.
type postgres struct {
	proc *lab.Process
	dir  string
	addr string
	Server
}

// postgresPrograms are folders with a postgres and an initdb, the newest version last.
func postgresPrograms() []string {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is good
	if bin, err := exec.LookPath("postgres"); err == nil {
		if bin, err = filepath.EvalSymlinks(bin); err == nil {
			dirs = append(dirs, filepath.Dir(bin))
		}
	}
	dirs = slices.DeleteFunc(dirs, func(d string) bool {
		for _, name := range []string{"postgres", "initdb"} {
			if info, err := os.Stat(filepath.Join(d, name)); err != nil || info.Mode()&0o111 == 0 {
				return true
			}
		}
		return false
	})
	version := func(d string) int {
		n, err := strconv.Atoi(filepath.Base(filepath.Dir(d)))
		if err != nil {
			return 0
		}
		return n
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return version(a) - version(b) })
	return dirs
}

// otherUser is whom PostgreSQL runs as: nil for ourselves, when we are not root.
func otherUser() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else is an answer
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if uerr == nil && gerr == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: false}, nil
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")
}

// startPostgres has one, or says why not.
func (e *env) startPostgres(ctx context.Context) (*postgres, error) {
	const next = "install PostgreSQL 15 or newer (Debian: postgresql-15), or run the benchmark where it is"
	dirs := postgresPrograms()
	if len(dirs) == 0 {
		return nil, &unmeasuredError{"no PostgreSQL on this machine: no postgres with its initdb on the PATH or in /usr/lib/postgresql", next}
	}
	as, err := otherUser()
	if err != nil {
		return nil, &unmeasuredError{err.Error(), "run the benchmark as another user than root"}
	}
	bin := dirs[len(dirs)-1]
	p := &postgres{}
	if p.dir, err = os.MkdirTemp("", "crossfade-bench-pg-"); err != nil {
		return nil, err
	}
	if err := p.start(ctx, bin, as); err != nil {
		_ = p.close() // the first error counts
		return nil, &unmeasuredError{"PostgreSQL of " + bin + " does not run here: " + err.Error(), next}
	}
	return p, nil
}

func (p *postgres) start(ctx context.Context, bin string, as *syscall.Credential) error {
	if as != nil {
		if err := os.Chown(p.dir, int(as.Uid), int(as.Gid)); err != nil {
			return err
		}
	}
	data := filepath.Join(p.dir, "data")
	command := func(program string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(bin, program), args...)
		cmd.Dir, cmd.Env = p.dir, []string{"LC_ALL=C", "TZ=UTC", "HOME=" + p.dir, "PATH=" + os.Getenv("PATH")}
		if as != nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		}
		return cmd
	}
	if out, err := command("initdb", "-D", data, "-U", pgUser, "--auth=trust", "--no-sync", "--encoding=UTF8").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %.500s", err, out)
	}
	addrs, err := freeAddrs(1)
	if err != nil {
		return err
	}
	p.addr = addrs[0]
	_, port, _ := strings.Cut(p.addr, ":")
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := command("postgres", "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "max_connections=200", "-c", "shared_buffers=256MB", "-c", "max_wal_size=2GB")
	cmd.Stdout, cmd.Stderr = log, log
	if p.proc, err = lab.Attach(cmd); err != nil {
		return err
	}
	return p.await(ctx)
}

// await waits until it serves, and reads back what it says of its durability.
func (p *postgres) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, serveWithin)
	defer cancel()
	for {
		c, err := dialPG(ctx, p.addr, pgUser, "postgres")
		if err == nil {
			defer c.close()
			return p.describe(c)
		}
		if !p.proc.Alive() || ctx.Err() != nil {
			return fmt.Errorf("%w: %s", err, tailOf(filepath.Join(p.dir, "log")))
		}
		select {
		case <-ctx.Done():
		case <-time.After(servePoll):
		}
	}
}

func (p *postgres) describe(c *pgConn) error {
	settings := map[string]string{}
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "server_version"} {
		if err := c.query("SHOW "+name, func(v string) { settings[name] = v }); err != nil {
			return err
		}
	}
	version := settings["server_version"]
	delete(settings, "server_version")
	g := postgresGrade(settings)
	p.Server = Server{Name: "postgres", Version: version, Origin: "found on this machine", Durability: settings, Grade: g.String(), grade: g}
	return nil
}

func (p *postgres) close() error {
	var err error
	if p.proc != nil {
		err = p.proc.Kill()
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// The recipe of the flash-sale articles: one statement, which takes a unit only if it gets the item's
// advisory lock at once. An attempt that does not get it changes no row.
const (
	pgTables = `CREATE TABLE stock (id INT PRIMARY KEY, cnt BIGINT NOT NULL) WITH (fillfactor = 10); INSERT INTO stock VALUES (1, 100000000000)`
	pgTake   = `UPDATE stock SET cnt = cnt - 1 WHERE id = 1 AND cnt >= 1 AND pg_try_advisory_xact_lock(1)`
	pgPlain  = `UPDATE stock SET cnt = cnt - 1 WHERE id = 1 AND cnt >= 1`
	pgConns  = 32
)

func metricPoolVsAdvisory() *metric {
	return &metric{
		name: "pool.vs_advisory", what: "real deductions: combined over PostgreSQL's advisory-lock recipe, one item",
		a: oursIs + ", 128 in flight",
		b: "UPDATE … WHERE id = 1 AND cnt >= 1 AND pg_try_advisory_xact_lock(1) on the machine's PostgreSQL, durable, prepared, 32 connections; only attempts " +
			"that changed the row count; no hold, no fence, no outbox. Beside it, the plain UPDATE",
		rows: []row{{figure: "rate", unit: "x", goal: target{atLeast, 6}}},
		run:  runPoolVsAdvisory,
	}
}

func runPoolVsAdvisory(ctx context.Context, e *env, m *metric) error {
	pg, err := e.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = pg.close() }() // it is ended by force
	e.rep.Servers = append(e.rep.Servers, pg.Server)
	srv, err := e.mysql(ctx, "mysql")
	if err != nil {
		return err
	}
	if err := e.fair("mysql", "postgres", false); err != nil {
		return err
	}
	c, err := dialPG(ctx, pg.addr, pgUser, "postgres")
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.query(pgTables, nil); err != nil {
		return err
	}
	a := newAssortment(1, false)
	ours, err := e.newPool(ctx, srv, nil)
	if err != nil {
		return err
	}
	defer ours.close()
	if err := ours.stock(ctx, a, plenty); err != nil {
		return err
	}
	// What the recipe leaves behind in its one page is vacuumed before each run, as autovacuum would.
	vacuum := func(context.Context) error { return c.query("VACUUM stock", nil) }
	pairs, err := e.compare(ctx, m,
		ours.side(asDefault, inFlight, ours.reserving(a, 1, 1)),
		side{what: "advisory", before: vacuum, run: pg.taking(pgTake)},
		side{what: "plain UPDATE", before: vacuum, run: pg.taking(pgPlain)})
	if err == nil {
		e.sound(baseAdvisory, medians(pairs, 1)["rate"])
	}
	return err
}

// taking runs a statement over and over; the rate is that of the rows which it changed.
func (p *postgres) taking(statement string) func(ctx context.Context, d time.Duration) (figures, error) {
	return func(ctx context.Context, d time.Duration) (figures, error) {
		var attempts atomic.Int64
		s, err := closed(ctx, pgConns, d, func(int) (op, func(), error) {
			c, err := dialPG(ctx, p.addr, pgUser, "postgres")
			if err != nil {
				return nil, nil, err
			}
			if err := c.prepare(statement); err != nil {
				c.close()
				return nil, nil, err
			}
			return func(context.Context) (int, error) {
				n, err := c.execute()
				attempts.Add(1)
				return int(n), err
			}, c.close, nil
		})
		if err != nil {
			return nil, err
		}
		f := s.figures() // an attempt that took nothing counts for nothing, and its latency neither
		f["attempts"] = float64(attempts.Load()) / s.elapsed.Seconds()
		return f, nil
	}
}
