package mysqlstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// maxLocksRead is how many row locks the server may have for each to be looked at. InnoDB collects
	// them under its own latch, about a microsecond each.
	maxLocksRead = 50_000
	// maxWaitersRead is the same for who waits for whom, which grows with the square of a queue.
	maxWaitersRead = 300
	// Most transactions, groups of locks and waits of an answer.
	maxTransactions = 200
	maxLockGroups   = 200
	maxWaits        = 1000
)

// Transaction is one that is open in InnoDB.
type Transaction struct {
	Source
	Doing Doing `json:"doing"`
	// AgeMillis since it began; on MariaDB in whole seconds.
	AgeMillis    int64  `json:"age_ms"`
	Isolation    string `json:"isolation"`
	RowsLocked   int64  `json:"rows_locked"`
	RowsModified int64  `json:"rows_modified"`
	// Snapshot: it keeps a read view, which holds back the purge of what was deleted since.
	Snapshot bool `json:"snapshot"`
	// Statement is the beginning of what it runs, or ran last where the server keeps that.
	Statement string `json:"statement,omitempty"`
}

// LockGroup is locks of one session and kind. On MariaDB only those that hinder somebody are known.
type LockGroup struct {
	Source
	AgeMillis int64  `json:"transaction_age_ms"`
	Table     string `json:"table"` // database.table
	Index     string `json:"index,omitempty"`
	Mode      string `json:"mode"` // InnoDB's own name, like X,REC_NOT_GAP
	Granted   bool   `json:"granted"`
	Locks     int64  `json:"locks"`
}

// LockWait is one session that waits for another.
type LockWait struct {
	Waiter       Source `json:"waiter"`
	WaitedMillis int64  `json:"waited_ms"` // in whole seconds
	Wants        string `json:"wants"`     // a mode
	Table        string `json:"table"`
	Index        string `json:"index,omitempty"`
	Row          string `json:"row,omitempty"` // the key of the row, as InnoDB prints it
	Statement    string `json:"statement,omitempty"`
	Holder       Source `json:"holder"`
	Has          string `json:"has"` // a mode
	// HolderAgeMillis is the age of the holder's transaction.
	HolderAgeMillis int64 `json:"holder_age_ms"`
	HolderDoing     Doing `json:"holder_doing"`
	// Queued: the holder does not have the lock yet either, but is before the waiter in the queue.
	Queued bool `json:"queued,omitempty"`
}

// LockView is the server's locks at one moment.
type LockView struct {
	Pod    backends.Pod `json:"pod"`
	Server Server       `json:"server"`
	At     time.Time    `json:"at"`
	// Open is how many transactions there are, LockedRows how many row locks they have, Waiting how many
	// of them wait for one. The lists are bounded; these are not.
	Open       int64 `json:"open_transactions"`
	LockedRows int64 `json:"locked_rows"`
	Waiting    int64 `json:"waiting"`
	// Transactions are the oldest, oldest first.
	Transactions []Transaction `json:"transactions"`
	Locks        []LockGroup   `json:"locks"`
	Waits        []LockWait    `json:"waits"`
	// Oldest is the oldest transaction that keeps a read view; nil when there is none.
	Oldest *Transaction `json:"oldest_snapshot"`
	// Views is how many read views are open, History how many transactions' old versions wait to be
	// purged; -1 where the server does not tell.
	Views   int64 `json:"read_views"`
	History int64 `json:"history_length"`
	// Notes say what is missing from this, and why.
	Notes []string `json:"notes"`
}

var (
	textTotals       = named("watch_totals").one()
	textTransactions = named("watch_transactions").one()
	textLocksMySQL   = named("watch_locks_mysql").one()
	textWaitsMySQL   = named("watch_waits_mysql").one()
	textLocksMariaDB = named("watch_locks_mariadb").one()
	textWaitsMariaDB = named("watch_waits_mariadb").one()
	textStatus       = named("watch_status").one()
)

// Locks reads who has locked what, who waits for whom, and who keeps the oldest snapshot. It waits until
// InnoDB's own tables may be read, up to 0.5 s.
func (w *Watcher) Locks(ctx context.Context) (v LockView, err error) {
	err = w.read(ctx, func(ctx context.Context, r *reading) error {
		if err := r.pause(ctx, w.copied, copyPause); err != nil {
			return err
		}
		if err := r.pause(ctx, w.status, statusPause); err != nil {
			return err
		}
		raw, err := r.rawLocks(ctx)
		if err != nil {
			return err
		}
		v = buildLockView(raw)
		v.Pod, v.Server, v.At = w.s.cfg.Pod, r.server(), w.s.cfg.Now()
		return nil
	})
	return v, err
}

// rawLocks is what the server answered, before anything is made of it.
type rawLocks struct {
	maria, statements     bool
	open, rows, waiting   int64
	trxs                  []rawTrx
	sessions              []Session
	cut                   bool // there were more sessions
	locks                 []rawLock
	waits                 []rawWait
	status                innodbStatus
	statusErr             error
	tooManyLocks, tooLong bool
}

// rawTrx is a row of innodb_trx.
type rawTrx struct {
	id              uint64 // on MariaDB 0 for those that have not changed anything
	session         uint64
	waits, runs     bool
	age, waited     int64 // ms
	isolation       string
	locked, changed int64
}

// rawLock is a row of locks, on MySQL for a group of them.
type rawLock struct {
	id, trx            string
	thread             uint64
	schema, table, key string // on MariaDB table has both, in backquotes
	kind, mode, row    string
	granted            bool
	n                  int64
}

// rawWait is who waits for whom.
type rawWait struct {
	trx, blocker            string
	thread, blockerThread   uint64
	lockID, blockerLockID   string // on MariaDB
	schema, table, key, row string
	wants, has              string
	granted                 bool
}

func (r *reading) rawLocks(ctx context.Context) (rawLocks, error) {
	raw := rawLocks{maria: r.maria, statements: r.statements, status: innodbStatus{history: -1, views: -1}}
	b := r.batch()
	b.ask(func(rows *sql.Rows) error { return rows.Scan(&raw.open, &raw.rows, &raw.waiting) }, textTotals)
	b.ask(func(rows *sql.Rows) error {
		var t rawTrx
		err := rows.Scan(&t.id, &t.session, &t.waits, &t.age, &t.waited, &t.isolation, &t.locked, &t.changed, &t.runs)
		raw.trxs = append(raw.trxs, t)
		return err
	}, textTransactions, maxSessions)
	if r.maria {
		r.askLocksMariaDB(b, &raw)
	}
	finish := r.askSessions(b, statementText)
	err := b.sendTo(ctx, r.conn)
	r.w.copied = r.w.s.cfg.Now()
	if err != nil {
		return raw, err
	}
	raw.sessions, raw.cut = finish()
	if !r.maria {
		raw.tooManyLocks, raw.tooLong = raw.rows > maxLocksRead, raw.waiting > maxWaitersRead
		b := r.batch()
		r.askLocksMySQL(b, &raw)
		if err := b.sendTo(ctx, r.conn); err != nil {
			return raw, err
		}
	}
	raw.statusErr = r.ask(ctx, func(rows *sql.Rows) error {
		var kind, name, text string
		err := rows.Scan(&kind, &name, &text)
		raw.status = parseInnodbStatus(text)
		return err
	}, textStatus)
	r.w.status = r.w.s.cfg.Now()
	if raw.statusErr != nil && classify(raw.statusErr) != faultSetup && classify(raw.statusErr) != faultOther {
		return raw, raw.statusErr
	}
	return raw, nil
}

// askLocksMySQL asks for what InnoDB can tell without being in the way of others for long.
func (r *reading) askLocksMySQL(b *batch, raw *rawLocks) {
	if !raw.tooManyLocks {
		b.ask(func(rows *sql.Rows) error {
			var l rawLock
			var status string
			err := rows.Scan(&l.trx, &l.thread, &l.schema, &l.table, &l.key, &l.kind, &l.mode, &status, &l.n)
			l.granted = status == "GRANTED"
			raw.locks = append(raw.locks, l)
			return err
		}, textLocksMySQL, maxLockGroups)
	}
	if raw.waiting > 0 && !raw.tooManyLocks && !raw.tooLong {
		b.ask(func(rows *sql.Rows) error {
			var w rawWait
			err := rows.Scan(&w.trx, &w.thread, &w.blocker, &w.blockerThread, &w.schema, &w.table, &w.key, &w.row, &w.wants, &w.has, &w.granted)
			raw.waits = append(raw.waits, w)
			return err
		}, textWaitsMySQL, maxWaits)
	}
}

func (r *reading) askLocksMariaDB(b *batch, raw *rawLocks) {
	b.ask(func(rows *sql.Rows) error {
		l := rawLock{n: 1, granted: true}
		err := rows.Scan(&l.id, &l.trx, &l.table, &l.key, &l.kind, &l.mode, &l.row)
		raw.locks = append(raw.locks, l)
		return err
	}, textLocksMariaDB, maxWaits)
	b.ask(func(rows *sql.Rows) error {
		var w rawWait
		err := rows.Scan(&w.trx, &w.lockID, &w.blocker, &w.blockerLockID)
		w.granted = true
		raw.waits = append(raw.waits, w)
		return err
	}, textWaitsMariaDB, maxWaits)
}
