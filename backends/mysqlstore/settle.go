package mysqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// settlePatience bounds the settlement of one unknown COMMIT: a killed session is gone within
	// milliseconds unless it has much to undo, and the caller waits.
	settlePatience = 2 * time.Second
	// settlePoll is how often the process list is asked.
	settlePoll = 10 * time.Millisecond
	// copyAge is how long InnoDB's own tables have to be left alone to be renewed (0.1 s, in its
	// code): whoever asks more often is told the same for ever.
	copyAge = 120 * time.Millisecond
)

var (
	textThere  = named("session_there").one()
	textWrites = named("session_writes").one()
	textUptime = named("uptime").one()
)

// settle finds out what became of a COMMIT whose answer was lost: it kills the session, waits until
// it is gone, and looks for what it wrote.
func (x *txn) settle(ctx context.Context, cause error) error {
	x.s.count.settled.Add(1)
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	committed, err := x.s.outcomeAtLast(ctx, x)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w (settling it: %w)", backends.ErrAmbiguous, cause, err)
	case committed:
		return nil
	default:
		return again(errors.Join(errUndone, cause))
	}
}

// outcomeAtLast asks again while it is the connection that settles which is lost.
func (s *Store) outcomeAtLast(ctx context.Context, x *txn) (committed bool, err error) {
	tick := time.NewTicker(copyAge)
	defer tick.Stop()
	for {
		committed, err = s.outcome(ctx, x)
		if f := classify(err); f != faultBroken && f != faultUnavailable {
			return committed, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, err
		}
	}
}

var errNoProof = errors.New("this write leaves no proof")

func (s *Store) outcome(ctx context.Context, x *txn) (committed bool, err error) {
	c, err := s.open(ctx, s.admin, "settle")
	if err != nil {
		return false, err
	}
	defer c.free()
	if err := s.end(ctx, c, x); err != nil {
		return false, err
	}
	if x.proof == nil {
		return false, errNoProof
	}
	var n int64
	if err := c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&n) }, x.proof.query, x.proof.args...); err != nil {
		return false, err
	}
	return x.proof.committed(n), nil
}

// end kills a transaction's session and waits until both are gone. The ids of sessions begin anew
// when the server does: where it has done so since the transaction began, the session is gone, and
// its id may be somebody else's.
func (s *Store) end(ctx context.Context, c *session, x *txn) error {
	restarted, err := s.restartedSince(ctx, c, x.began)
	if err != nil || restarted {
		return err
	}
	if err := kill(ctx, c, x.id); err != nil {
		return err
	}
	if err := c.waitForNone(ctx, settlePoll, textThere, x.id); err != nil {
		return err
	}
	return c.waitForNone(ctx, copyAge, textWrites, x.id)
}

// waitForNone asks for a number until it is 0. A list that cannot be shown at present is asked for again.
func (c *session) waitForNone(ctx context.Context, every time.Duration, q string, args ...any) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		var left int64
		err := c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&left) }, q, args...)
		if err == nil && left == 0 || err != nil && !isUnreadable(err) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// restartedSince tells whether the server surely began after the instant. It counts its uptime in
// whole seconds; within the one in doubt the answer is no, which costs at worst a needless KILL.
func (s *Store) restartedSince(ctx context.Context, c *session, since time.Time) (bool, error) {
	var up int64
	err := c.ask(ctx, func(r *sql.Rows) error {
		var name string
		return r.Scan(&name, &up)
	}, textUptime)
	return time.Duration(up+1)*time.Second < s.cfg.Now().Sub(since), err
}

// kill ends a session; one that is not there is no error.
func kill(ctx context.Context, c *session, id uint64) error {
	err := c.run(ctx, "KILL ?", id)
	var me *mysql.MySQLError
	if errors.As(err, &me) && me.Number == erNoSuchThread {
		return nil
	}
	return err
}
