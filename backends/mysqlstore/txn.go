package mysqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// maxAttempts bounds how often a transaction is begun again: after deadlocks, and where it
	// found out that it was too late. Reaching it means contention beyond what waiting can cure.
	maxAttempts = 10
	// maxBroken bounds how often it is begun again because a connection was dead. One is normal
	// after a server's restart or a raised fence; a second says that the server is away.
	maxBroken = 1
	// jitterStep spreads transactions that met in a deadlock.
	jitterStep = 2 * time.Millisecond
)

// againError asks for the whole operation to be done again, with nothing changed so far.
type againError struct {
	broken bool // since a connection was dead
	cause  error
}

func (e *againError) Error() string { return "begin again: " + e.cause.Error() }
func (e *againError) Unwrap() error { return e.cause }

// Reasons to begin again that are not errors of the driver.
var (
	errMoved    = errors.New("the hold changed since it was read")
	errNoLevel  = errors.New("a level has to be made first")
	errVanished = errors.New("rows that were locked were not there to delete")
	errUndone   = errors.New("an unknown COMMIT turned out not to have happened")
)

func again(cause error) error { return &againError{cause: cause} }

// failed sorts an error of a statement before COMMIT into begin again and the port's errors.
func (s *Store) failed(err error) error {
	var ag *againError
	switch {
	case err == nil, errors.As(err, &ag):
		return err
	}
	switch classify(err) {
	case faultDeadlock:
		s.count.deadlocks.Add(1)
		return again(err)
	case faultDuplicate:
		return again(err)
	case faultBroken, faultUnavailable:
		return &againError{broken: true, cause: err}
	case faultBusy:
		s.count.busy.Add(1)
		return undone(err)
	default:
		return undone(err)
	}
}

// again runs f until it does not ask for more, with pauses that grow.
func (s *Store) again(ctx context.Context, f func() error) error {
	broken := 0
	for attempt := 1; ; attempt++ {
		err := f()
		var ag *againError
		if !errors.As(err, &ag) {
			return err
		}
		if ag.broken {
			if broken++; broken > maxBroken {
				return undone(ag.cause)
			}
		}
		if attempt == maxAttempts {
			s.count.busy.Add(1)
			return fmt.Errorf("%w: gave up after %d attempts: %w", backends.ErrBusy, attempt, ag.cause)
		}
		s.count.restarts.Add(1)
		if !pause(ctx, rand.N(jitterStep*time.Duration(attempt))) {
			return undone(ctx.Err())
		}
	}
}

// role is as what a transaction writes.
type role uint8

const (
	asTruth role = iota + 1
	asMirror
	asEither // upkeep
	unfenced // what belongs to no epoch
)

func (r role) admitted(f backends.Fence, t backends.Token) bool {
	truth, mirror := f.Admits(t, backends.SideMySQL), f.AdmitsMirror(t, backends.SideMySQL)
	switch r {
	case asTruth:
		return truth
	case asMirror:
		return mirror
	case asEither:
		return truth || mirror
	case unfenced:
		return true
	default:
		return false
	}
}

// job says who writes, and under what.
type job struct {
	op     string
	caller string
	// callers are those of a batch; caller is empty then.
	callers []string
	tok     backends.Token
	role    role
	// first adds what travels in one packet with the fence, behind it: locks, never changes.
	first func(x *txn, b *batch)
}

// txn is one write transaction, with the fence locked.
type txn struct {
	*session
	s     *Store
	tok   backends.Token
	fence backends.Fence
	now   backends.Instant
	id    uint64 // of the session
	stamp uint64 // of this attempt, in what it writes

	levels map[backends.Key]*level
	rows   map[backends.Key]*pool
	// borrowed are rows that were taken for free, by key; see hints.
	borrowed map[backends.Key][]uint64
	tail     *batch // what is still to be sent, with COMMIT
	outbox   []any  // rows for the outbox, as arguments
	// dropped counts the entries for which there was no room.
	dropped int64
	proven  []backends.HoldID
	after   []func() // run once it is committed
	undo    []func() // run when it is not, as far as is known
	proof   *proof   // nil: an unknown COMMIT cannot be settled
	began   time.Time
}

// proof is a query for one number that tells, once the session is gone, whether the transaction was
// committed.
type proof struct {
	query     string
	args      []any
	committed func(n int64) bool
}

func some(n int64) bool { return n > 0 }
func none(n int64) bool { return n == 0 }

var (
	textBegin      = named("begin").one()
	textFenceShare = named("fence_share").one()
	textFenceRead  = named("fence_read").one()
)

// write runs f in one transaction. What f returns ends it: nil commits, anything else rolls back
// and is answered as it is. What f has left to write it gives to finish: it travels with COMMIT.
func (s *Store) write(ctx context.Context, j job, f func(x *txn) error) error {
	if s.closed.Load() {
		return fmt.Errorf("%w: the store is closed", backends.ErrUnavailable)
	}
	if j.role == asTruth {
		if err := s.measure(ctx); err != nil {
			return err
		}
	}
	c, err := s.openFor(ctx, s.db, j)
	if err != nil {
		return s.failed(err)
	}
	defer c.free()
	x := &txn{
		session: c, s: s, tok: j.tok, stamp: s.ids.one(), began: s.cfg.Now(),
		levels: map[backends.Key]*level{}, rows: map[backends.Key]*pool{},
	}
	err = x.work(ctx, j, f)
	then := x.after
	if err != nil {
		then = x.undo
	}
	for _, g := range then {
		g()
	}
	return err
}

// work is the transaction from its beginning to COMMIT.
func (x *txn) work(ctx context.Context, j job, f func(x *txn) error) error {
	if err := x.begin(ctx, j); err != nil {
		x.rollback(ctx)
		return x.s.failed(err)
	}
	if err := f(x); err != nil {
		x.rollback(ctx)
		return x.s.failed(err)
	}
	return x.commit(ctx)
}

// begin starts the transaction and takes the fence.
func (x *txn) begin(ctx context.Context, j job) error {
	b := x.batch()
	b.do(textBegin)
	b.ask(func(r *sql.Rows) (err error) {
		x.fence, x.id, x.now, err = scanFence(r)
		return err
	}, textFenceShare, x.s.cfg.Pod)
	if j.first != nil {
		j.first(x, b)
	}
	if err := b.sendTo(ctx, x.conn); err != nil {
		return err
	}
	if !j.role.admitted(x.fence, j.tok) {
		return x.s.fenced(x.fence, j.tok)
	}
	return nil
}

func (s *Store) fenced(have backends.Fence, want backends.Token) error {
	return &backends.FencedError{Side: backends.SideMySQL, Have: have, Want: want}
}

func scanFence(r *sql.Rows) (f backends.Fence, session uint64, now backends.Instant, err error) {
	var x extras
	err = r.Scan(&f.Epoch, &f.Stage, &f.Open, &x, &session, &now)
	x.into(&f)
	return f, session, now, err
}

// finish leaves a batch to be sent with COMMIT; what was left before is sent now.
func (x *txn) finish(ctx context.Context, b *batch) error {
	before := x.tail
	x.tail = b
	if before == nil {
		return nil
	}
	return x.send(ctx, before)
}

// commit sends what is left to write, the outbox's entries and COMMIT in one packet, and settles it
// where the answer is lost. The server runs no statement behind one that failed, so an error before
// the mark says that COMMIT was not run.
func (x *txn) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		x.rollback(ctx)
		return undone(err)
	}
	b := x.tail
	if b == nil {
		b = x.batch()
	}
	x.writeOutbox(b)
	marked := false
	b.ask(func(*sql.Rows) error {
		marked = true
		return nil
	}, "SELECT 1")
	b.do("COMMIT")
	err := x.send(ctx, b)
	if err == nil {
		return nil
	}
	var me *mysql.MySQLError
	if errors.As(err, &me) && !marked {
		x.rollback(ctx)
		return x.s.failed(err)
	}
	x.drop()
	switch classify(err) {
	case faultDeadlock:
		return x.s.failed(err)
	case faultContext:
		return fmt.Errorf("%w: %w", backends.ErrAmbiguous, err)
	default:
		return x.settle(ctx, err)
	}
}

// send sends a batch within the transaction.
func (x *txn) send(ctx context.Context, b *batch) error { return b.sendTo(ctx, x.conn) }
