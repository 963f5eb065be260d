package bench

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	neighbourRows  = 20_000
	neighbourConns = 8
	neighbourRate  = 400 // point reads and updates a second together, half of each
	// burnStep is one portion of processor time without locks in the server, about what a transaction of a
	// batch takes there; burnOwn one in this process, about what one reserve takes: a longer one would
	// keep the neighbour's answers from being read.
	burnStep = 500 * time.Microsecond
	burnOwn  = 100 * time.Microsecond
	// burnTry is how much work the portions are measured with.
	burnTry = 20_000
)

func metricPoolNeighbour() *metric {
	return &metric{
		name: "pool.neighbour", what: "p99 of a neighbour's point reads and updates beside reservations at half of peak over beside the same CPU load without locks",
		a: "an open loop of 400 statements a second (half reads, half committed updates, by primary key, a table and connections of its own) beside combined reserves " +
			"of one item at half of their closed-loop peak, open loop",
		b:    "the same neighbour beside as much processor time, in mysqld (SELECT BENCHMARK) and in the generator (hashing), as the reservations were measured to take, without a lock or a write",
		rows: []row{{figure: "p99_ms", unit: "x", goal: target{atMost, 1.25}}},
		run:  runPoolNeighbour,
	}
}

func runPoolNeighbour(ctx context.Context, e *env, m *metric) error {
	srv, err := e.mysql(ctx, "mysql")
	if err != nil {
		return err
	}
	a := newAssortment(1, false)
	p, err := e.newPool(ctx, srv, nil)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.stock(ctx, a, plenty); err != nil {
		return err
	}
	db, drop, err := e.database(ctx, srv, neighbourConns)
	if err != nil {
		return err
	}
	defer drop()
	if err := makeNeighbour(ctx, db); err != nil {
		return err
	}
	peak, err := e.capacity(ctx, p.quiet, p.reserving(a, 1, 1))
	if err != nil {
		return err
	}
	rate := peak / halfOf
	alone := atRate("reservations alone", &rate, p.quiet, p.reserving(a, 1, 1))
	cost, err := e.processorTime(ctx, srv.PID(), alone)
	if err != nil {
		return err
	}
	e.say("%-18s peak %.0f/s; at %.0f/s reservations take %.2f of a processor in mysqld and %.2f here", m.name, peak, rate, cost.server, cost.own)
	// Its own connections: a neighbour that waits for them would be slow for another reason.
	burn, dropBurn, err := e.database(ctx, srv, neighbourConns)
	if err != nil {
		return err
	}
	defer dropBurn()
	b, err := newBurner(ctx, burn, cost)
	if err != nil {
		return err
	}
	beside := func(what string, load func(ctx context.Context, d time.Duration) error) side {
		return side{what: what, before: p.quiet, run: func(ctx context.Context, d time.Duration) (figures, error) {
			return besideLoad(ctx, db, srv.PID(), d, load)
		}}
	}
	_, err = e.compare(ctx, m,
		beside("reservations", func(ctx context.Context, d time.Duration) error {
			_, err := open(ctx, openWorkers, rate, d, p.reserving(a, 1, 1))
			return err
		}),
		beside("CPU load", b.run),
		beside("nothing", func(context.Context, time.Duration) error { return nil }))
	return err
}

func makeNeighbour(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, "CREATE TABLE neighbour (id INT PRIMARY KEY, v BIGINT NOT NULL, note VARCHAR(100) NOT NULL) ENGINE=InnoDB"); err != nil {
		return err
	}
	for from := 0; from < neighbourRows; from += rawBatch {
		var b strings.Builder
		for id := from; id < from+rawBatch; id++ {
			fmt.Fprintf(&b, ",(%d,0,'a row of somebody else who shares this server')", id)
		}
		if _, err := db.ExecContext(ctx, "INSERT INTO neighbour VALUES "+b.String()[1:]); err != nil { //nolint:gosec // numbers of our own
			return err
		}
	}
	return nil
}

// besideLoad runs the neighbour in its open loop while a load runs, and gives the neighbour's latencies.
func besideLoad(ctx context.Context, db *sql.DB, pid int, d time.Duration, load func(context.Context, time.Duration) error) (figures, error) {
	var wg sync.WaitGroup
	var loadErr error
	before, err := processors(pid)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	wg.Go(func() { loadErr = load(ctx, d) })
	s, err := open(ctx, neighbourConns, neighbourRate, d, each(func(w int) op {
		r := seeded(7, w)
		return func(ctx context.Context) (int, error) { return 1, pointOf(ctx, db, r) }
	}))
	wg.Wait()
	if err != nil {
		return nil, err
	}
	if loadErr != nil {
		return nil, loadErr
	}
	after, err := processors(pid)
	if err != nil {
		return nil, err
	}
	f := s.figures()
	used := after.since(before, time.Since(began))
	f["cpu_mysqld"], f["cpu_own"] = used.server, used.own
	return f, nil
}

// pointOf is one statement of the neighbour.
func pointOf(ctx context.Context, db *sql.DB, r *rand.Rand) error {
	id := r.IntN(neighbourRows)
	if r.IntN(2) == 0 {
		var v int64
		return db.QueryRowContext(ctx, "SELECT v FROM neighbour WHERE id = ?", id).Scan(&v)
	}
	_, err := db.ExecContext(ctx, "UPDATE neighbour SET v = v + 1 WHERE id = ?", id)
	return err
}

// processor time, in processors: of the database server, and of this process.
type cpu struct{ server, own float64 }

func (c cpu) since(before cpu, d time.Duration) cpu {
	return cpu{(c.server - before.server) / d.Seconds(), (c.own - before.own) / d.Seconds()}
}

// processors reads what both have used so far, in seconds.
func processors(pid int) (c cpu, err error) {
	if c.server, err = processorSeconds(pid); err != nil {
		return c, err
	}
	c.own, err = processorSeconds(os.Getpid())
	return c, err
}

// processorSeconds are fields 14 and 15 of /proc/PID/stat, in ticks of a hundredth.
func processorSeconds(pid int) (float64, error) {
	const perSecond, user, system, afterName = 100, 14, 15, 3
	text := readIfThere(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= system-afterName {
		return 0, &unmeasuredError{"there is no /proc with the processor time of processes", "run the benchmark on Linux"}
	}
	u, err := strconv.ParseFloat(fields[user-afterName], 64)
	if err != nil {
		return 0, err
	}
	s, err := strconv.ParseFloat(fields[system-afterName], 64)
	return (u + s) / perSecond, err
}

// processorTime measures what a side takes, in processors.
func (e *env) processorTime(ctx context.Context, pid int, s side) (cpu, error) {
	var used cpu
	measured := s
	measured.run = func(ctx context.Context, d time.Duration) (figures, error) {
		before, err := processors(pid)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		f, err := s.run(ctx, d)
		if err != nil {
			return nil, err
		}
		after, err := processors(pid)
		used = after.since(before, time.Since(began))
		return f, err
	}
	_, err := e.once(ctx, measured, e.o.Duration)
	return used, err
}

// burner uses processor time in portions, on a schedule, without a lock.
type burner struct {
	db     *sql.DB
	cost   cpu
	rounds int // of BENCHMARK in one portion
}

// newBurner measures how much work a portion is.
func newBurner(ctx context.Context, db *sql.DB, cost cpu) (*burner, error) {
	b := &burner{db: db, cost: cost}
	var n int
	const tries = 3
	took := time.Hour
	for range tries { // the fastest: the machine may have been busy with others
		began := time.Now()
		if err := db.QueryRowContext(ctx, "SELECT BENCHMARK(?, SHA2('crossfade', 256))", burnTry).Scan(&n); err != nil {
			return nil, err
		}
		took = min(took, time.Since(began))
	}
	b.rounds = max(1, int(burnTry*burnStep/took))
	return b, nil
}

// run burns for d, in the server and here.
func (b *burner) run(ctx context.Context, d time.Duration) error {
	var wg sync.WaitGroup
	var errs [2]error
	portions := func(i int, share float64, step time.Duration, f op) {
		if share*float64(time.Second) < float64(step) {
			return // less than one portion a second
		}
		wg.Go(func() {
			_, errs[i] = open(ctx, neighbourConns/2, share*float64(time.Second)/float64(step), d, each(func(int) op { return f }))
		})
	}
	portions(0, b.cost.server, burnStep, func(ctx context.Context) (int, error) {
		var n int
		return 1, b.db.QueryRowContext(ctx, "SELECT BENCHMARK(?, SHA2('crossfade', 256))", b.rounds).Scan(&n)
	})
	portions(1, b.cost.own, burnOwn, func(context.Context) (int, error) {
		var block [1024]byte
		for began := time.Now(); time.Since(began) < burnOwn; {
			sum := sha256.Sum256(block[:])
			copy(block[:], sum[:])
		}
		return 1, nil
	})
	wg.Wait()
	if errs[0] != nil {
		return errs[0]
	}
	return errs[1]
}
