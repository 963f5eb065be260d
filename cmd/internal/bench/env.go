package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

const (
	// warmShare: before the first pair each side runs for duration/warmShare, uncounted.
	warmShare = 2
	// stopWithin bounds the end of all servers.
	stopWithin = 30 * time.Second
)

// sqlTuning is what an operator of a loaded MySQL sets besides the lab's own: the data of a metric fit into
// memory, and no checkpoint is forced within a run.
var sqlTuning = []string{"--innodb-buffer-pool-size=1G", "--innodb-redo-log-capacity=2G", "--table-open-cache=2000"}

// side is one side of a comparison.
type side struct {
	what   string                          // for the report
	before func(ctx context.Context) error // before each run, uncounted; may be nil
	run    func(ctx context.Context, d time.Duration) (figures, error)
}

// env is what the metrics of one run share.
type env struct {
	o       Options
	rep     *Report
	servers map[string]*lab.Server
	dir     string // throw-away
	serial  int    // of databases and runs, so that no name comes twice
	health  map[string]bool
}

func newEnv(o Options, rep *Report) (*env, error) {
	dir, err := os.MkdirTemp("", "crossfade-bench-")
	if err != nil {
		return nil, fmt.Errorf("a folder for the run: %w; set TMPDIR to a folder that can be written", err)
	}
	return &env{o: o, rep: rep, servers: map[string]*lab.Server{}, dir: dir, health: map[string]bool{}}, nil
}

func (e *env) say(format string, a ...any) { fmt.Fprintf(e.o.Progress, format+"\n", a...) }

func (e *env) next() int {
	e.serial++
	return e.serial
}

// close ends the servers and removes what they left.
func (e *env) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	var errs []error
	for _, s := range e.servers {
		errs = append(errs, s.Resume(), s.Stop(ctx))
	}
	return errors.Join(append(errs, os.RemoveAll(e.dir))...)
}

// server has the server of a name, started once.
func (e *env) server(ctx context.Context, name string, k lab.Kind, args ...string) (*lab.Server, error) {
	if s := e.servers[name]; s != nil {
		return s, nil
	}
	s, err := lab.Start(ctx, k, lab.Options{Own: true, Args: args, CacheDir: e.o.CacheDir, Progress: e.o.Progress})
	if err != nil {
		return nil, err
	}
	e.servers[name] = s
	return s, nil
}

// mysql is the MySQL of the run; name tells several apart.
func (e *env) mysql(ctx context.Context, name string) (*lab.Server, error) {
	if s := e.servers[name]; s != nil {
		return s, nil
	}
	s, err := e.server(ctx, name, lab.MySQL, sqlTuning...)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("mysql", s.DSN(""))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	settings, g, err := askSQLDurability(ctx, db)
	if err != nil {
		return nil, err
	}
	d := describe(s, settings, g)
	d.Name = name
	e.rep.Servers = append(e.rep.Servers, d)
	return s, nil
}

// redis is the Redis of the run.
func (e *env) redis(ctx context.Context) (*lab.Server, error) {
	const name = "redis"
	if s := e.servers[name]; s != nil {
		return s, nil
	}
	// Rewriting the append-only file forks in the middle of a run, by its size: the same for both sides,
	// but not at the same time.
	s, err := e.server(ctx, name, lab.Redis, "--auto-aof-rewrite-percentage", "0")
	if err != nil {
		return nil, err
	}
	settings, err := redisSettings(ctx, s.Addr())
	if err != nil {
		return nil, err
	}
	e.rep.Servers = append(e.rep.Servers, describe(s, settings, redisGrade(settings)))
	return s, nil
}

// record of a server that has been started.
func (e *env) record(name string) Server {
	for _, s := range e.rep.Servers {
		if s.Name == name {
			return s
		}
	}
	return Server{Name: name}
}

// fair refuses servers of different durability.
func (e *env) fair(a, b string, aMayBeMore bool) error {
	return equallyDurable(e.record(a), e.record(b), aMayBeMore)
}

// once is one run of a side.
func (e *env) once(ctx context.Context, s side, d time.Duration) (figures, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.before != nil {
		if err := s.before(ctx); err != nil {
			return nil, fmt.Errorf("preparing %s: %w", s.what, err)
		}
	}
	f, err := s.run(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.what, err)
	}
	return f, nil
}

// alternate runs the sides in pairs, after a warm-up of each. In every other pair the order is
// the reverse.
func (e *env) alternate(ctx context.Context, m *metric, sides ...side) ([]pair, error) {
	for _, s := range sides {
		if _, err := e.once(ctx, s, e.o.Duration/warmShare); err != nil && !errors.Is(err, errIdle) {
			return nil, fmt.Errorf("warming up: %w", err)
		}
	}
	return e.paired(ctx, m, sides...)
}

// paired is alternate without a warm-up.
func (e *env) paired(ctx context.Context, m *metric, sides ...side) ([]pair, error) {
	var pairs []pair
	for i := range e.o.Pairs {
		p := make(pair, len(sides))
		for j := range sides {
			at := j
			if i%2 == 1 {
				at = len(sides) - 1 - j
			}
			f, err := e.once(ctx, sides[at], e.o.Duration)
			if err != nil {
				return nil, err
			}
			p[at] = f
		}
		pairs = append(pairs, p)
		line := fmt.Sprintf("%-18s pair %d of %d:", m.name, i+1, e.o.Pairs)
		for j, s := range sides {
			line += fmt.Sprintf("  %s: %s;", s.what, p[j].short())
		}
		e.say("%s", line[:len(line)-1])
	}
	return pairs, nil
}

// compare is alternate, and all rows of the metric from it.
func (e *env) compare(ctx context.Context, m *metric, sides ...side) ([]pair, error) {
	pairs, err := e.alternate(ctx, m, sides...)
	if err != nil {
		return nil, err
	}
	for _, r := range m.rows {
		e.rep.add(m.compared(r, pairs, sides))
	}
	return pairs, nil
}

// sound notes the health of a baseline.
func (e *env) sound(b baseline, measured float64) {
	h := b.health(measured, e.rep.Fsync.Rate)
	e.rep.Baselines = append(e.rep.Baselines, h)
	if !h.Healthy {
		e.say("a baseline is unhealthy: %s", h)
	}
}

// best tries each number of connections for a short while, and gives the one with the highest rate.
func (e *env) best(ctx context.Context, what string, counts []int, run func(ctx context.Context, conns int, d time.Duration) (figures, error)) (int, error) {
	const share, least = 4, 150 * time.Millisecond
	d := max(e.o.Duration/share, least)
	n, rate := 0, 0.0
	for _, c := range counts {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		f, err := run(ctx, c, d)
		if err != nil && !errors.Is(err, errIdle) {
			return 0, fmt.Errorf("%s with %d connections: %w", what, c, err)
		}
		if f["rate"] > rate {
			n, rate = c, f["rate"]
		}
	}
	if n == 0 {
		return 0, fmt.Errorf("%s: %w", what, errIdle)
	}
	e.say("%s: best with %d connections of %v (%.0f/s)", what, n, counts, rate)
	return n, nil
}

// database makes an empty database on a server and opens a pool of n connections to it. The driver's
// settings are those of a careful application: arguments in the text, several statements in a packet,
// as many idle connections as open ones.
func (e *env) database(ctx context.Context, s *lab.Server, n int) (db *sql.DB, drop func(), err error) {
	name := fmt.Sprintf("bench_%d", e.next())
	if err := s.CreateDatabase(ctx, name); err != nil {
		return nil, nil, err
	}
	db, err = openSQL(s.DSN(name), n)
	return db, func() {
		if db != nil {
			_ = db.Close() // nothing is under way
		}
		_ = s.DropDatabase(context.WithoutCancel(ctx), name) // the server goes as a whole
	}, err
}

// openSQL opens a pool of n connections in READ COMMITTED.
func openSQL(dsn string, n int) (*sql.DB, error) {
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	c.InterpolateParams, c.MultiStatements = true, true
	c.Params = map[string]string{"transaction_isolation": "'READ-COMMITTED'"}
	c.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}
