package mysqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends"
)

// rollbackPatience bounds a ROLLBACK, which is sent even when the caller is gone; a session that
// does not answer in time is dropped, which rolls back as well.
const rollbackPatience = time.Second

// errShortAnswer: the server answered fewer result sets than were asked for.
var errShortAnswer = errors.New("mysqlstore: the server answered fewer results than it was asked for")

// batch is statements that travel in one packet. The server stops at the first that fails.
type batch struct {
	tag   string // for attribution, in a comment of every statement
	text  strings.Builder
	args  []any
	scans []func(*sql.Rows) error
	// others are, beside each scan, what a failed assertion means; nil where none is made.
	others []error
}

func (b *batch) add(q string, args []any) {
	if b.text.Len() > 0 {
		b.text.WriteString("; ")
	}
	b.text.WriteString("/* conn_tag:")
	b.text.WriteString(b.tag)
	b.text.WriteString(" */ ")
	b.text.WriteString(q)
	b.args = append(b.args, args...)
}

// do adds a statement without an answer.
func (b *batch) do(q string, args ...any) { b.add(q, args) }

// ask adds a query; scan is called for each of its rows.
func (b *batch) ask(scan func(*sql.Rows) error, q string, args ...any) {
	b.add(q, args)
	b.scans = append(b.scans, scan)
	b.others = append(b.others, nil)
}

var textRowCount = named("row_count").one()

// must adds a statement that has to change n rows; otherwise the server ends the batch there, and
// other is the error.
func (b *batch) must(n int64, other error, q string, args ...any) {
	b.do(q, args...)
	b.ask(nothing, textRowCount, n)
	b.others[len(b.others)-1] = other
}

func nothing(*sql.Rows) error { return nil }

func (b *batch) empty() bool { return b.text.Len() == 0 }

// asker is what sends statements: a session, or a pool for what is not a transaction.
type asker interface {
	QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error)
}

// sendTo sends the batch and reads every answer to its end.
func (b *batch) sendTo(ctx context.Context, on asker) error {
	if b.empty() {
		return nil
	}
	answered, err := b.exchange(ctx, on)
	// The n-th assertion is the n-th answer, so the first answer that is missing tells which failed.
	if answered < len(b.others) && b.others[answered] != nil && isAssertion(err) {
		return errors.Join(b.others[answered], err)
	}
	return err
}

// isAssertion tells whether err is that of the statement row_count.
func isAssertion(err error) bool {
	var me *mysql.MySQLError
	return errors.As(err, &me) && me.Number == erOutOfRange && strings.Contains(strings.ToLower(me.Message), "row_count")
}

// exchange also tells how many answers came whole.
func (b *batch) exchange(ctx context.Context, on asker) (answered int, err error) {
	rows, err := on.QueryContext(ctx, b.text.String(), b.args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for i, scan := range b.scans {
		if i > 0 && !rows.NextResultSet() {
			return i, errors.Join(rows.Err(), errIf(rows.Err() == nil, errShortAnswer))
		}
		for rows.Next() {
			if err := scan(rows); err != nil {
				return i, err
			}
		}
		if err := rows.Err(); err != nil {
			return i, err
		}
	}
	for rows.NextResultSet() { // what follows the last query answers nothing, but may fail
		continue
	}
	return len(b.scans), rows.Err()
}

func errIf(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

// session is one connection while it is used for one purpose.
type session struct {
	conn *sql.Conn
	tag  string
	free func()
}

// tagOf is what a statement is attributed to. A caller's tag has been checked by the request's
// Check; one that has not must not get into a comment.
func tagOf(caller string, op string) string {
	if caller == "" || backends.CheckCaller(caller) != nil {
		return op
	}
	return caller
}

// open takes a connection from a pool.
func (s *Store) open(ctx context.Context, pool *sql.DB, op string) (*session, error) {
	return s.openFor(ctx, pool, job{op: op})
}

// openFor takes a connection for a job. The time for which a batch holds it is shared out among its
// callers.
func (s *Store) openFor(ctx context.Context, pool *sql.DB, j job) (*session, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	from := s.cfg.Now()
	tags := tagsOf(j)
	return &session{conn: conn, tag: joined(tags), free: func() {
		_ = conn.Close() // gives it back to the pool; the pool drops broken ones
		held := s.cfg.Now().Sub(from)
		for _, t := range tags {
			s.cfg.Observe(t.tag, j.op, held*time.Duration(t.members)/time.Duration(tags[0].of))
		}
	}}, nil
}

// share is a tag's part of a batch.
type share struct {
	tag         string
	members, of int
}

// tagsOf lists the tags of a job, each once.
func tagsOf(j job) []share {
	if len(j.callers) == 0 {
		return []share{{tagOf(j.caller, j.op), 1, 1}}
	}
	var out []share
	for _, c := range j.callers {
		tag := tagOf(c, j.op)
		i := slices.IndexFunc(out, func(s share) bool { return s.tag == tag })
		if i < 0 {
			i = len(out)
			out = append(out, share{tag: tag, of: len(j.callers)})
		}
		out[i].members++
	}
	return out
}

// tagsInComment bounds the tags that a statement of a batch names.
const tagsInComment = 4

// joined is the comment of a batch's statements: its tags, with a plus between them, which no tag has.
func joined(tags []share) string {
	if len(tags) == 1 {
		return tags[0].tag
	}
	var names []string
	for i, t := range tags {
		if i == tagsInComment {
			names = append(names, strconv.Itoa(len(tags)-i)+"-more")
			break
		}
		names = append(names, t.tag)
	}
	return strings.Join(names, "+")
}

func (c *session) batch() *batch { return &batch{tag: c.tag} }

// run sends one statement without an answer.
func (c *session) run(ctx context.Context, q string, args ...any) error {
	b := c.batch()
	b.do(q, args...)
	return b.sendTo(ctx, c.conn)
}

// ask sends one query.
func (c *session) ask(ctx context.Context, scan func(*sql.Rows) error, q string, args ...any) error {
	b := c.batch()
	b.ask(scan, q, args...)
	return b.sendTo(ctx, c.conn)
}

// drop closes the connection for good, which ends its transaction.
func (c *session) drop() {
	_ = c.conn.Raw(func(any) error { return driver.ErrBadConn }) // the way to tell the pool
}

// rollback ends the transaction without its changes, whether or not the caller is still there.
func (c *session) rollback(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackPatience)
	defer cancel()
	if err := c.run(ctx, "ROLLBACK"); err != nil {
		c.drop()
	}
}

// read sends queries outside any transaction, each a read view of its own; twice if the first
// connection turns out to be dead.
func (s *Store) read(ctx context.Context, op, caller string, fill func(*batch)) error {
	return s.readFor(ctx, job{op: op, caller: caller}, fill)
}

// readFor is read for a batch.
func (s *Store) readFor(ctx context.Context, j job, fill func(*batch)) error {
	if s.closed.Load() {
		return fmt.Errorf("%w: the store is closed", backends.ErrUnavailable)
	}
	pool := s.db
	if backends.IsUrgent(ctx) {
		pool = s.admin
	}
	return s.again(ctx, func() error {
		c, err := s.openFor(ctx, pool, j)
		if err != nil {
			return undone(err)
		}
		defer c.free()
		b := c.batch()
		fill(b)
		return s.failed(b.sendTo(ctx, c.conn))
	})
}
