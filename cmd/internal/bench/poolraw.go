package bench

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// raw is the opponent without a promise: what a checkout would write by itself. No fence, no outbox, no
// idempotency key that is looked up; its statements travel in as few packets as they can.
type raw struct {
	db     *sql.DB
	drop   func()
	server *lab.Server
	items  *assortment
	ids    atomic.Int64
	seed   uint64
}

// rawTables: units by (item, id) as in a unit pool, a stock row for each item, holds by their id.
const rawTables = `
CREATE TABLE units (item VARBINARY(64) NOT NULL, id BIGINT UNSIGNED NOT NULL, PRIMARY KEY (item, id)) ENGINE=InnoDB;
CREATE TABLE stock (item VARBINARY(64) NOT NULL PRIMARY KEY, qty BIGINT NOT NULL) ENGINE=InnoDB;
CREATE TABLE holds (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, item VARBINARY(64) NOT NULL, unit BIGINT UNSIGNED NOT NULL,
  qty INT NOT NULL, expires BIGINT NOT NULL) ENGINE=InnoDB`

const (
	// rawConns bounds the connections of the sweep.
	rawConns = 64
	// rawBatch is how many units one statement of the set-up inserts.
	rawBatch = 2000
	// rawRate is more than one transaction per reserve can do: stock is made for it.
	rawRate = 9_000
)

// newRaw makes the tables; units is how many rows all items share, by their probability.
func (e *env) newRaw(ctx context.Context, srv *lab.Server, a *assortment, units int) (*raw, error) {
	r := &raw{items: a, server: srv}
	var err error
	if r.db, r.drop, err = e.database(ctx, srv, rawConns); err != nil {
		return nil, err
	}
	if _, err := r.db.ExecContext(ctx, rawTables); err != nil {
		r.drop()
		return nil, err
	}
	if err := r.fill(ctx, units); err != nil {
		r.drop()
		return nil, err
	}
	return r, nil
}

// unitsFor is how many units the raw side of a metric can take at most, of all items together.
func (e *env) unitsFor(runs int) int {
	return int(float64(rawRate) * e.o.Duration.Seconds() * float64(runs+2))
}

func (r *raw) fill(ctx context.Context, units int) error {
	return together(ctx, len(r.items.items), func(ctx context.Context, i int) error {
		item := r.items.items[i]
		if _, err := r.db.ExecContext(ctx, "INSERT INTO stock VALUES (?, ?)", item, int64(plenty)); err != nil {
			return err
		}
		const spare, slack = 200, 1.3 // chance is not exact
		n := int(float64(units)*r.items.share(i)*slack) + spare
		for from := 0; from < n; from += rawBatch {
			var b strings.Builder
			var args []any
			for id := from; id < min(n, from+rawBatch); id++ {
				b.WriteString(",(?,?)")
				args = append(args, item, id)
			}
			if _, err := r.db.ExecContext(ctx, "INSERT INTO units VALUES "+b.String()[1:], args...); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *raw) conns(n int) {
	r.db.SetMaxOpenConns(n)
	r.db.SetMaxIdleConns(n)
}

func (r *raw) quiet(ctx context.Context) error { return quiet(ctx, r.db) }

// side is the raw side of a comparison, in a closed loop with the usual number of callers.
func (r *raw) side(what string, mk maker) side {
	return side{what: what, before: r.quiet, run: func(ctx context.Context, d time.Duration) (figures, error) {
		s, err := closed(ctx, inFlight, d, mk)
		if err != nil {
			return nil, err
		}
		return s.figures(), nil
	}}
}

// oneByOne makes workers that reserve one unit, each in a transaction of its own: begin and take the first
// free row in one packet, delete and insert and commit in a second.
func (r *raw) oneByOne() maker {
	r.seed++
	seed := r.seed
	return each(func(w int) op {
		rnd := seeded(seed, w)
		return func(ctx context.Context) (int, error) {
			item := string(r.items.items[r.items.draw(rnd)])
			return 1, r.transaction(ctx, func(c *sql.Conn) error {
				var unit int64
				err := c.QueryRowContext(ctx, "START TRANSACTION; SELECT id FROM units WHERE item = ? ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED", item).Scan(&unit)
				if err != nil {
					return fmt.Errorf("%w: item %s: %w", errSetupShort, item, err)
				}
				_, err = c.ExecContext(ctx, "DELETE FROM units WHERE item = ? AND id = ?; INSERT INTO holds VALUES (?, ?, ?, 1, ?); COMMIT",
					item, unit, r.ids.Add(1), item, unit, time.Now().Add(holdTTL).UnixMilli())
				return err
			})
		}
	})
}

// updateRow makes workers that count down one row: the hold is inserted first, so that the hot row is
// locked for as short as can be; whether there was stock is known before COMMIT.
func (r *raw) updateRow() maker {
	r.seed++
	seed := r.seed
	return each(func(w int) op {
		rnd := seeded(seed, w)
		return func(ctx context.Context) (int, error) {
			item := string(r.items.items[r.items.draw(rnd)])
			return 1, r.transaction(ctx, func(c *sql.Conn) error {
				var changed int64
				err := c.QueryRowContext(ctx, "START TRANSACTION; INSERT INTO holds VALUES (?, ?, 0, 1, ?); "+
					"UPDATE stock SET qty = qty - 1 WHERE item = ? AND qty >= 1; SELECT ROW_COUNT()",
					r.ids.Add(1), item, time.Now().Add(holdTTL).UnixMilli(), item).Scan(&changed)
				if err != nil {
					return err
				}
				if changed != 1 {
					return errSetupShort
				}
				_, err = c.ExecContext(ctx, "COMMIT")
				return err
			})
		}
	})
}

// transaction runs f on one connection, and rolls back when it fails.
func (r *raw) transaction(ctx context.Context, f func(c *sql.Conn) error) error {
	c, err := r.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := f(c); err != nil {
		_, _ = c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") // the first error counts
		return err
	}
	return nil
}

// tuned finds the best number of connections for a kind of worker, and keeps it.
func (r *raw) tuned(ctx context.Context, e *env, what string, mk func() maker) error {
	n, err := e.best(ctx, what, connCounts, func(ctx context.Context, conns int, d time.Duration) (figures, error) {
		r.conns(conns)
		return e.once(ctx, r.side(what, mk()), d)
	})
	if err == nil {
		r.conns(n)
	}
	return err
}
