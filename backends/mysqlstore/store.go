package mysqlstore

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Store keeps one pod in MySQL or MariaDB.
type Store struct {
	cfg    Config
	db     *sql.DB // reads and writes
	admin  *sql.DB // fences and settlements
	ledger ledgerTexts
	ids    *idSource
	hints  *hints
	room   *room
	upkeep upkeep
	fill   *filler
	// outboxFloor and dueFloors are where scans of the outbox and of the index on due begin, the latter
	// for each state.
	outboxFloor *floor[uint64]
	dueFloors   map[backends.State]*floor[int64]
	count       counters
	closed      atomic.Bool

	takers   *combiner[*taking]
	enders   *combiner[*ending]
	viewers  *combiner[*viewing]
	removers *combiner[*removal]
}

var _ backends.Store = (*Store)(nil)

// counters of what happened since the store was opened.
type counters struct {
	fast, confirmed, refills, restarts, deadlocks, busy, settled, killed, splits, views atomic.Int64
}

// Stats counts what happened since the store was opened.
type Stats struct {
	Fast      int64 // holds granted from free rows alone
	Confirmed int64 // reserves decided with level rows locked
	Refills   int64 // pools refilled
	Restarts  int64 // transactions begun again, for whatever reason
	Deadlocks int64 // of those, after a deadlock
	Busy      int64 // waits for a lock that timed out
	Settled   int64 // COMMITs whose answer was lost
	Killed    int64 // sessions that a raised fence killed
	Splits    int64 // batches that failed and were tried again in halves
	Views     int64 // statements on which refusals rest
	Batches   int64 // shared transactions: takes and ends that went together, or alone when nobody else was there
	Members   int64 // requests in them
	Queued    int64 // requests that wait for a lane now
}

// Open makes a store. It does not touch the server, which may be away when a proxy starts.
func Open(_ context.Context, cfg Config) (*Store, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	d, err := cfg.driverConfig()
	if err != nil {
		return nil, err
	}
	c, err := newConnector(d, cfg.LockWait, cfg.Abandoned)
	if err != nil {
		return nil, err
	}
	// Those for fences stay: a kill must find one when the server has no room for another.
	kept, err := newConnector(d, cfg.LockWait, 0)
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg:    cfg,
		db:     openPool(c, cfg.MaxConns, cfg.MaxConns, cfg.Abandoned/2),
		admin:  openPool(kept, adminConns, 1, 0),
		ledger: newLedgerTexts(cfg.Ledger),
		ids:    newIDSource(cfg.Now),
		hints:  newHints(cfg.Now),
		room:   &room{now: cfg.Now, max: int64(cfg.OutboxMax)},
	}
	s.fill = newFiller(s)
	s.outboxFloor = &floor[uint64]{now: cfg.Now}
	s.dueFloors = map[backends.State]*floor[int64]{}
	for _, st := range []backends.State{backends.Held, backends.Claimed, backends.Released, backends.Expired} {
		s.dueFloors[st] = &floor[int64]{now: cfg.Now}
	}
	s.takers, s.enders, s.viewers, s.removers = s.newTakers(), s.newEnders(), s.newViewers(), s.newRemovers()
	return s, nil
}

// Side is MySQL, for both dialects.
func (s *Store) Side() backends.Side { return backends.SideMySQL }

// DB is the pool of connections, for the adapters of tables that live beside these. They are in
// READ COMMITTED and UTC; whoever borrows one gives it back outside any transaction.
func (s *Store) DB() *sql.DB { return s.db }

// Stats reads the counters.
func (s *Store) Stats() Stats {
	c := &s.count
	return Stats{
		Fast: c.fast.Load(), Confirmed: c.confirmed.Load(), Refills: c.refills.Load(), Restarts: c.restarts.Load(),
		Deadlocks: c.deadlocks.Load(), Busy: c.busy.Load(), Settled: c.settled.Load(), Killed: c.killed.Load(), Splits: c.splits.Load(), Views: c.views.Load(),
		Batches: s.takers.batches.Load() + s.enders.batches.Load(), Members: s.takers.members.Load() + s.enders.members.Load(),
		Queued: s.takers.queued() + s.enders.queued() + s.viewers.queued(),
	}
}

// Close ends every connection; twice is once.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.takers.close()
	s.enders.close()
	s.viewers.close()
	s.removers.close()
	s.fill.close()
	return errors.Join(s.db.Close(), s.admin.Close())
}

// Ping answers nil when the server answers.
func (s *Store) Ping(ctx context.Context) error {
	return s.read(ctx, "ping", "", func(b *batch) {
		b.ask(func(r *sql.Rows) error {
			var one int
			return r.Scan(&one)
		}, "SELECT 1")
	})
}
