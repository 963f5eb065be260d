package soak

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

const (
	stopPatience = 30 * time.Second
	database     = "soak"
	// retain is short, so that ended holds and operation ids are purged within the run: what grows for
	// ever would hide whether anything decays.
	retain = 30 * time.Second
	// coldPool is the cap of a cold item's pool: small, so that refills go on all the time.
	coldPool = 50
)

// capFor is the default for all but the cold items.
func capFor(k backends.Key) int {
	if strings.HasPrefix(string(k.Item), "cold-") {
		return coldPool
	}
	return 0
}

// Run plays on a server of its own from the lab.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	if o, err = o.complete(); err != nil {
		return nil, err
	}
	srv, err := lab.Start(ctx, o.Dialect, lab.Options{Fast: o.Fast, Own: true, Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancel()
		err = errors.Join(err, srv.Stop(ctx))
	}()
	if err := srv.CreateDatabase(ctx, database); err != nil {
		return nil, err
	}
	store, err := mysqlstore.Open(ctx, mysqlstore.Config{
		Pod: "soak", DSN: srv.DSN(database), MaxConns: o.Connections, Combine: o.Combine, Retain: retain, PoolCapFor: capFor,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.Setup(ctx); err != nil {
		return nil, err
	}
	fmt.Fprintf(o.Progress, "%s %s, %d buyers over %d connections, for %s\n", o.Dialect, srv.Version(), o.Workers, o.Connections, o.For)
	// The looks at the server have a connection of their own, and none of the store's.
	db, err := sql.Open("mysql", srv.DSN(database))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	r, err = Play(ctx, Target{Store: store, Stats: store.Stats, Server: func(ctx context.Context) (ServerFigures, error) { return serverFigures(ctx, db, o.Dialect) }}, o)
	if r != nil {
		r.Version = srv.Version().String()
	}
	return r, err
}

// serverFigures reads InnoDB's counters. The count of deadlocks is a metric on MySQL and a status on
// MariaDB.
func serverFigures(ctx context.Context, db *sql.DB, kind lab.Kind) (f ServerFigures, err error) {
	status := func(name string, into *int64) {
		if err == nil {
			var n string
			err = db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(&n, into)
		}
	}
	status("Innodb_row_lock_waits", &f.LockWaits)
	status("Innodb_row_lock_time", &f.LockWaitMS)
	status("Innodb_buffer_pool_read_requests", &f.PageReads)
	if kind == lab.MariaDB {
		status("Innodb_deadlocks", &f.Deadlocks)
	} else if err == nil {
		err = db.QueryRowContext(ctx, "SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks' AND status = 'enabled'").Scan(&f.Deadlocks)
	}
	if err != nil {
		err = fmt.Errorf("the server's counters: %w", err)
	}
	return f, err
}
