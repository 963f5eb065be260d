package mysqlstore

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lockIndex finds the session behind what InnoDB names.
type lockIndex struct {
	sessions map[uint64]Session
	threads  map[uint64]Session
	trxs     map[string]rawTrx // by id, but for 0
	// nameless are MariaDB's transactions without an id that have locked rows: shared locks only.
	nameless []rawTrx
}

func newLockIndex(raw *rawLocks) lockIndex {
	x := lockIndex{sessions: map[uint64]Session{}, threads: map[uint64]Session{}, trxs: map[string]rawTrx{}}
	for _, s := range raw.sessions {
		x.sessions[s.Session] = s
		if s.thread != 0 {
			x.threads[s.thread] = s
		}
	}
	for _, t := range raw.trxs {
		switch {
		case t.id != 0:
			x.trxs[strconv.FormatUint(t.id, 10)] = t
		case t.locked > 0:
			x.nameless = append(x.nameless, t)
		}
	}
	return x
}

// session is that of a transaction, as it is now.
func (x lockIndex) session(t rawTrx) Session {
	s := x.sessions[t.session]
	s.Session = t.session
	s.inTransaction(t.waits)
	if s.Age == 0 {
		s.Age = time.Duration(t.age) * time.Millisecond
	}
	return s
}

// of finds the session of a transaction by its id, else by the thread that made a lock. The zero
// session is one that cannot be told.
func (x lockIndex) of(trx string, thread uint64) (Session, rawTrx) {
	if t, there := x.trxs[trx]; there {
		return x.session(t), t
	}
	if trx == "0" && len(x.nameless) == 1 {
		return x.session(x.nameless[0]), x.nameless[0]
	}
	return x.threads[thread], rawTrx{}
}

// dropGhosts takes out the transactions of sessions that are not there any more, and tells how many. They
// are in a copy that is older than the list of sessions: by a moment, or for as long as somebody reads it
// too often for it to be renewed.
func (raw *rawLocks) dropGhosts() (ghosts int) {
	if raw.cut {
		return 0
	}
	there := map[uint64]bool{0: true}
	for _, s := range raw.sessions {
		there[s.Session] = true
	}
	gone := map[string]bool{}
	raw.trxs = slices.DeleteFunc(raw.trxs, func(t rawTrx) bool {
		if there[t.session] {
			return false
		}
		ghosts++
		if t.id != 0 {
			gone[strconv.FormatUint(t.id, 10)] = true
		}
		return true
	})
	raw.locks = slices.DeleteFunc(raw.locks, func(l rawLock) bool { return gone[l.trx] })
	raw.waits = slices.DeleteFunc(raw.waits, func(w rawWait) bool { return gone[w.trx] || gone[w.blocker] })
	return ghosts
}

// buildLockView puts together what a server answered.
func buildLockView(raw rawLocks) LockView {
	ghosts := raw.dropGhosts()
	x := newLockIndex(&raw)
	v := LockView{
		Open: raw.open, LockedRows: raw.rows, Waiting: raw.waiting, Views: raw.status.views, History: raw.status.history,
		Transactions: []Transaction{}, Locks: []LockGroup{}, Waits: []LockWait{}, Notes: []string{},
	}
	for _, t := range raw.trxs {
		s := x.session(t)
		v.Transactions = append(v.Transactions, Transaction{
			Source: s.Source, Doing: s.Doing, AgeMillis: s.Age.Milliseconds(), Isolation: t.isolation, RowsLocked: t.locked,
			RowsModified: t.changed, Snapshot: hasView(t, &raw), Statement: s.Statement,
		})
	}
	slices.SortStableFunc(v.Transactions, func(a, b Transaction) int { return cmp.Compare(b.AgeMillis, a.AgeMillis) })
	if i := slices.IndexFunc(v.Transactions, func(t Transaction) bool { return t.Snapshot }); i >= 0 {
		oldest := v.Transactions[i]
		v.Oldest = &oldest
	}
	v.Transactions = v.Transactions[:min(len(v.Transactions), maxTransactions)]
	if raw.maria {
		raw.resolve()
	}
	v.Locks = lockGroups(&raw, x)
	v.Waits = lockWaits(&raw, x)
	v.Notes = lockNotes(&raw, x, ghosts)
	return v
}

// hasView tells whether a transaction keeps a read view. InnoDB's status says so of those that it lists.
// MySQL lists none that only reads, and there the isolation tells: a view is kept to the end at
// REPEATABLE READ, and for one statement below that.
func hasView(t rawTrx, raw *rawLocks) bool {
	if view, listed := raw.status.active[t.session]; listed {
		return view
	}
	switch {
	case t.isolation == "REPEATABLE READ":
		return t.locked == 0 // one that has only locked has read nothing else, as far as anybody can tell
	case t.isolation == "READ COMMITTED":
		return t.runs && t.locked == 0
	default:
		return false
	}
}

// resolve gives MariaDB's waits what MySQL's come with: the locks' tables and modes.
func (raw *rawLocks) resolve() {
	waits := map[string]bool{}
	for _, w := range raw.waits {
		waits[w.lockID] = true
	}
	byID := map[string]rawLock{}
	for i := range raw.locks {
		l := &raw.locks[i]
		l.granted = !waits[l.id]
		byID[l.trx+" "+l.id] = *l
	}
	for i := range raw.waits {
		w := &raw.waits[i]
		wanted, had := byID[w.trx+" "+w.lockID], byID[w.blocker+" "+w.blockerLockID]
		w.table, w.key, w.row, w.wants, w.has = wanted.table, wanted.key, wanted.row, wanted.mode, had.mode
		w.granted = !waits[w.blockerLockID]
	}
}

// tableName is database.table, whichever way the server has it.
func tableName(schema, table string) string {
	if schema != "" {
		table = schema + "." + table
	}
	return clean(strings.ReplaceAll(table, "`", ""), maxStatement)
}

func lockGroups(raw *rawLocks, x lockIndex) []LockGroup {
	type group struct {
		session                 uint64
		who, table, index, mode string
		granted                 bool
	}
	sums := map[group]*LockGroup{}
	out := []LockGroup{}
	for _, l := range raw.locks {
		s, _ := x.of(l.trx, l.thread)
		g := LockGroup{
			Source: s.Source, AgeMillis: s.Age.Milliseconds(), Table: tableName(l.schema, l.table), Index: clean(l.key, maxSource),
			Mode: clean(l.mode, maxSource), Granted: l.granted, Locks: l.n,
		}
		if l.kind == "TABLE" {
			g.Mode += " (table)"
		}
		k := group{g.Session, g.Who(), g.Table, g.Index, g.Mode, g.Granted}
		if have := sums[k]; have != nil {
			have.Locks += g.Locks
			continue
		}
		sums[k] = &g
	}
	for _, g := range sums {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b LockGroup) int {
		return cmp.Or(cmp.Compare(b.AgeMillis, a.AgeMillis), cmp.Compare(a.Session, b.Session), cmp.Compare(b.Locks, a.Locks),
			cmp.Compare(a.Table, b.Table), cmp.Compare(a.Index, b.Index), cmp.Compare(a.Mode, b.Mode))
	})
	return out[:min(len(out), maxLockGroups)]
}

// lockWaits lists who waits for whom: for each who has the lock, and where nobody has it yet, who is before
// it in the queue.
func lockWaits(raw *rawLocks, x lockIndex) []LockWait {
	blocked := map[string]bool{} // transactions that wait for somebody who has the lock
	for _, w := range raw.waits {
		blocked[w.trx] = blocked[w.trx] || w.granted
	}
	out := []LockWait{}
	queued := map[string]bool{}
	for _, w := range raw.waits {
		if !w.granted && (blocked[w.trx] || queued[w.trx]) {
			continue
		}
		queued[w.trx] = !w.granted
		waiter, t := x.of(w.trx, w.thread)
		holder, _ := x.of(w.blocker, w.blockerThread)
		if holder.Session == waiter.Session {
			holder = Session{} // the thread of an implicit lock is its waiter's
		}
		out = append(out, LockWait{
			Waiter: waiter.Source, WaitedMillis: min(t.waited, max(waiter.Age.Milliseconds(), t.age)), Wants: clean(w.wants, maxSource), Table: tableName(w.schema, w.table),
			Index: clean(w.key, maxSource), Row: clean(w.row, maxStatement), Statement: waiter.Statement,
			Holder: holder.Source, Has: clean(w.has, maxSource), HolderAgeMillis: holder.Age.Milliseconds(), HolderDoing: holder.Doing, Queued: !w.granted,
		})
	}
	slices.SortStableFunc(out, func(a, b LockWait) int {
		return cmp.Or(cmp.Compare(b.WaitedMillis, a.WaitedMillis), cmp.Compare(a.Waiter.Session, b.Waiter.Session), cmp.Compare(a.Holder.Session, b.Holder.Session))
	})
	return out
}

// lockNotes says what a reader would otherwise miss without knowing.
func lockNotes(raw *rawLocks, x lockIndex, ghosts int) []string {
	out := []string{}
	add := func(is bool, format string, a ...any) {
		if is {
			out = append(out, fmt.Sprintf(format, a...))
		}
	}
	metadata := 0
	for _, s := range raw.sessions {
		if s.MetadataLock {
			metadata++
		}
	}
	add(metadata > 0, "sessions that wait for a table's definition (a metadata lock) and not for rows: %d. Every open transaction holds those of the tables that it has used: look for ALTER, DROP or LOCK TABLES", metadata)
	add(raw.tooManyLocks, "there are %d row locks; above %d they are not listed one by one, since listing them holds up the server", raw.rows, maxLocksRead)
	add(raw.tooLong && !raw.tooManyLocks, "%d transactions wait; above %d it is not listed for whom, since that holds up the server", raw.waiting, maxWaitersRead)
	add(raw.maria, "MariaDB lists only locks that somebody waits for; the others are in the count of their transaction")
	add(!raw.statements, "performance_schema's consumer events_statements_current is off: whoever is idle shows as user@host, unless this proxy has seen the conn_tag before")
	nameless := slices.ContainsFunc(raw.waits, func(w rawWait) bool { return w.blocker == "0" })
	add(nameless && len(x.nameless) > 1, "MariaDB does not tell which of the %d sessions that hold shared locks is waited for", len(x.nameless))
	add(ghosts > 0, "left out are %d transactions whose sessions have ended. When that stays, something reads InnoDB's tables more often than each 0.1 s, and nobody sees them renewed", ghosts)
	add(raw.statusErr != nil, "read views are not known (%v)", raw.statusErr)
	add(raw.status.cut, "InnoDB's status was too long: read views of some transactions are not known")
	add(raw.cut || len(raw.trxs) == maxSessions, "there are more than %d sessions or transactions: some are left out", maxSessions)
	return out
}
