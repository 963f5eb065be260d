package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

const (
	// inFlight is how many callers wait for an answer at a time, unless a metric says otherwise.
	inFlight = 128
	// manyItems of the spread metrics, plenty units of each.
	manyItems = 1000
	plenty    = 100_000_000
	// maintainEvery is how often a proxy looks after a pool (dualwrite).
	maintainEvery = time.Second
	// quietHistory is a history list that InnoDB's purge has worked off, but for what is always there;
	// quietWithin bounds the wait for it before each run.
	quietHistory = 1_000
	quietWithin  = 3 * time.Second
	quietPoll    = 25 * time.Millisecond

	benchEpoch = 1
	benchShop  = backends.Shop("bench")
	benchPlace = backends.DefaultLocation
	holdTTL    = time.Hour
)

var benchToken = backends.Token{Epoch: benchEpoch}

// connCounts are the numbers of connections that are tried for an opponent.
var connCounts = []int{2, 4, 8, 16, 32, 64}

// pool is a store in a database of its own, with the upkeep that a proxy gives it.
type pool struct {
	s     *mysqlstore.Store
	db    *sql.DB // beside the store, to look and to tidy up
	drop  func()
	ids   atomic.Int64
	tag   string
	stop  context.CancelFunc
	ended sync.WaitGroup
}

// newPool opens a store on a new database; change alters its configuration.
func (e *env) newPool(ctx context.Context, srv *lab.Server, change func(*mysqlstore.Config)) (*pool, error) {
	const beside = 2
	name := fmt.Sprintf("bench_%d", e.next())
	if err := srv.CreateDatabase(ctx, name); err != nil {
		return nil, err
	}
	p := &pool{tag: name, drop: func() { _ = srv.DropDatabase(context.WithoutCancel(ctx), name) }} // the server goes as a whole
	var err error
	if p.db, err = openSQL(srv.DSN(name), beside); err != nil {
		return nil, err
	}
	return p, p.open(ctx, srv.DSN(name), change)
}

// open opens the store, or opens it again with another configuration.
func (p *pool) open(ctx context.Context, dsn string, change func(*mysqlstore.Config)) error {
	c := mysqlstore.Config{Pod: "bench", DSN: dsn}
	if change != nil {
		change(&c)
	}
	var err error
	if p.s, err = mysqlstore.Open(ctx, c); err != nil {
		return err
	}
	if err := p.s.Setup(ctx); err != nil {
		return err
	}
	f := backends.Fence{Epoch: benchEpoch, Stage: backends.Live, Open: true, Filled: true}
	if _, err := p.s.Raise(ctx, f, 0); err != nil {
		return err
	}
	ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	p.ended.Go(func() { p.upkeep(ctx) })
	return nil
}

// upkeep is what a proxy does for a pool, as often as it does.
func (p *pool) upkeep(ctx context.Context) {
	t := time.NewTicker(maintainEvery)
	defer t.Stop()
	for {
		more, err := p.s.Maintain(ctx, benchToken)
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// shut ends the store, not its database.
func (p *pool) shut() {
	if p.stop != nil {
		p.stop()
		p.ended.Wait()
	}
	if p.s != nil {
		_ = p.s.Close() // nothing is under way
	}
}

func (p *pool) close() {
	p.shut()
	if p.db != nil {
		_ = p.db.Close() // nothing is under way
	}
	p.drop()
}

// stock gives each item so many units.
func (p *pool) stock(ctx context.Context, a *assortment, units int64) error {
	return together(ctx, len(a.items), func(ctx context.Context, i int) error {
		k := backends.Key{Shop: benchShop, Item: a.items[i], Location: benchPlace}
		_, err := p.s.Restock(ctx, benchToken, &backends.RestockRequest{OpID: backends.OpID("stock-" + string(k.Item)), Key: k, Amount: units})
		return err
	})
}

// together runs f for 0 to n-1 with some at a time, and gives the first error.
func together(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	const atATime = 32
	return togetherBy(ctx, atATime, n, f)
}

func togetherBy(ctx context.Context, atATime, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, atATime) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := f(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	err := context.Cause(ctx)
	cancel(nil)
	return err
}

// holdID is a new one.
func (p *pool) holdID() backends.HoldID {
	b := make([]byte, 0, 24)
	b = append(b, 'h', '-')
	return backends.HoldID(strconv.AppendInt(b, p.ids.Add(1), 36))
}

// reserving makes workers that each reserve carts of n lines, one unit of each.
func (p *pool) reserving(a *assortment, n int, seed uint64) maker {
	return each(func(w int) op {
		r := seeded(seed, w)
		locations := []backends.Location{benchPlace}
		return func(ctx context.Context) (int, error) {
			q := &backends.ReserveRequest{ID: p.holdID(), Shop: benchShop, TTL: holdTTL, Caller: "checkout", Lines: make([]backends.Line, n)}
			if n == 1 {
				q.Lines[0] = backends.Line{Item: a.items[a.draw(r)], Quantity: 1, Locations: locations}
			} else {
				for i, item := range a.some(r, n) {
					q.Lines[i] = backends.Line{Item: item, Quantity: 1, Locations: locations}
				}
			}
			d, err := p.s.Reserve(ctx, benchToken, q)
			return 1, granted(d, err)
		}
	})
}

// granted is nil for a grant.
func granted(d *backends.Decision, err error) error {
	switch {
	case err != nil:
		return err
	case d.Outcome != backends.OutcomeGranted:
		return fmt.Errorf("a reserve was answered %s while stock was there", d.Outcome)
	}
	return nil
}

// quiet lets the server come to rest before a run, so that no side pays for the one before it: the
// outbox is emptied (in a proxy the mirror does that), and purge may finish.
func (p *pool) quiet(ctx context.Context) error {
	if _, err := p.db.ExecContext(ctx, "TRUNCATE TABLE crossfade_outbox"); err != nil {
		return err
	}
	return quiet(ctx, p.db)
}

func quiet(ctx context.Context, db *sql.DB) error {
	t := time.NewTicker(quietPoll)
	defer t.Stop()
	for deadline := time.Now().Add(quietWithin); ; {
		var n int64
		err := db.QueryRowContext(ctx, "SELECT count FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len'").Scan(&n)
		if err != nil || n < quietHistory || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// side is a side of a comparison that reserves in this pool, in a closed loop.
func (p *pool) side(what string, callers int, mk maker) side {
	return side{what: what, before: p.quiet, run: func(ctx context.Context, d time.Duration) (figures, error) {
		before := p.s.Stats()
		s, err := closed(ctx, callers, d, mk)
		if err != nil {
			return nil, err
		}
		f := s.figures()
		after := p.s.Stats()
		f["deadlocks"], f["busy"] = float64(after.Deadlocks-before.Deadlocks), float64(after.Busy-before.Busy)
		return f, nil
	}}
}

// rivals are a store as configured by default, and one with combining off and the best number of
// connections, each on a database of its own, both stocked.
func (e *env) rivals(ctx context.Context, a *assortment, lines int) (ours, theirs *pool, err error) {
	srv, err := e.mysql(ctx, "mysql")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			closeAll(ours, theirs)
		}
	}()
	if ours, err = e.newPool(ctx, srv, nil); err != nil {
		return ours, nil, err
	}
	if err = ours.stock(ctx, a, plenty); err != nil {
		return ours, nil, err
	}
	if theirs, err = e.newPool(ctx, srv, single(0)); err != nil {
		return ours, theirs, err
	}
	if err = theirs.stock(ctx, a, plenty); err != nil {
		return ours, theirs, err
	}
	n, err := e.best(ctx, "the store with combining off", connCounts, func(ctx context.Context, conns int, d time.Duration) (figures, error) {
		theirs.shut()
		if err := theirs.open(ctx, srv.DSN(theirs.tag), single(conns)); err != nil {
			return nil, err
		}
		return e.once(ctx, theirs.side("single", inFlight, theirs.reserving(a, lines, 2)), d)
	})
	if err != nil {
		return ours, theirs, err
	}
	theirs.shut()
	return ours, theirs, theirs.open(ctx, srv.DSN(theirs.tag), single(n))
}

// single turns combining off. 0 is the default number of connections.
func single(conns int) func(*mysqlstore.Config) {
	return func(c *mysqlstore.Config) { c.Combine, c.MaxConns = 1, conns }
}

func closeAll(ps ...*pool) {
	for _, p := range ps {
		if p != nil {
			p.close()
		}
	}
}

// errSetupShort: a baseline was not given enough to work on.
var errSetupShort = errors.New("the baseline has run out of stock: the benchmark gave it too little")
