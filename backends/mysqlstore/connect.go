package mysqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"
)

// connector makes sessions that are what the store relies on, whatever the server's defaults:
// READ COMMITTED, strict, in UTC, with short waits for locks.
type connector struct {
	inner driver.Connector
	init  string
}

// newConnector makes one whose sessions the server ends when they say nothing for abandoned (0: never).
func newConnector(d *mysql.Config, lockWait, abandoned time.Duration) (*connector, error) {
	inner, err := mysql.NewConnector(d)
	if err != nil {
		return nil, err
	}
	seconds := max(1, int64((lockWait+time.Second-1)/time.Second))
	idle := ""
	if abandoned > 0 {
		idle = fmt.Sprintf(", wait_timeout = %d", int64(abandoned/time.Second))
	}
	return &connector{inner: inner, init: fmt.Sprintf(
		"/* conn_tag:connect */ SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; "+
			"/* conn_tag:connect */ SET SESSION TRANSACTION READ WRITE; "+
			"/* conn_tag:connect */ SET SESSION autocommit = 1, time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', "+
			"innodb_lock_wait_timeout = %d, lock_wait_timeout = %d%s", seconds, seconds, idle)}, nil
}

// Connect makes a session.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.inner.Connect(ctx)
	if err != nil {
		return nil, err
	}
	ex, ok := conn.(driver.ExecerContext)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("mysqlstore: the driver's %T cannot execute", conn)
	}
	if _, err := ex.ExecContext(ctx, c.init, nil); err != nil {
		_ = conn.Close() // the error that matters is the one above
		return nil, err
	}
	return conn, nil
}

// Driver is part of driver.Connector.
func (c *connector) Driver() driver.Driver { return c.inner.Driver() }

// openPool makes a pool of at most n sessions. Those that are idle for idleFor are closed; 0 keeps them.
func openPool(c driver.Connector, n, idle int, idleFor time.Duration) *sql.DB {
	const longest = 30 * time.Minute // so that a pool follows a moved address in the end
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(idle)
	db.SetConnMaxLifetime(longest)
	db.SetConnMaxIdleTime(idleFor)
	return db
}
