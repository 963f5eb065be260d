package mysqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// person is one session of a scene, and what it is.
type person struct {
	*sql.Conn
	id uint64
}

// scene is a server with people on it: a holder of row locks, one that waits for it, one with an old
// snapshot, one that says not who it is, one that has inserted a row and one that waits for that.
type scene struct {
	holder, waiter, report, stranger, inserter, second, idle person
	stop                                                     func()
}

// say sends a statement and wants it to work.
func (p person) say(t *testing.T, q string) {
	t.Helper()
	if _, err := p.ExecContext(testContext(t), q); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

func enter(t *testing.T, db *sql.DB) person {
	t.Helper()
	c, err := db.Conn(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // its transaction ends with it
		_ = c.Raw(func(any) error { return driver.ErrBadConn })
		_ = c.Close()
	})
	p := person{Conn: c}
	if err := c.QueryRowContext(testContext(t), "SELECT CONNECTION_ID()").Scan(&p.id); err != nil {
		t.Fatal(err)
	}
	return p
}

func setScene(t *testing.T, dsn string) *scene {
	t.Helper()
	db := raw(t, dsn)
	sc := &scene{}
	for _, p := range []*person{&sc.holder, &sc.waiter, &sc.report, &sc.stranger, &sc.inserter, &sc.second, &sc.idle} {
		*p = enter(t, db)
	}
	sc.idle.say(t, "CREATE TABLE shelf (id INT PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB")
	sc.idle.say(t, "INSERT INTO shelf VALUES (1, 1), (2, 2), (3, 3)")
	sc.idle.say(t, "/* conn_tag:idler */ DO 1")
	sc.report.say(t, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
	sc.report.say(t, "/* conn_tag:report */ START TRANSACTION WITH CONSISTENT SNAPSHOT")
	sc.holder.say(t, "/* conn_tag:stocktake */ START TRANSACTION")
	sc.holder.say(t, "/* conn_tag:stocktake */ SELECT n FROM shelf WHERE id IN (1, 2) FOR UPDATE")
	sc.stranger.say(t, "START TRANSACTION")
	sc.stranger.say(t, "SELECT n FROM shelf WHERE id = 3 LOCK IN SHARE MODE")
	sc.inserter.say(t, "/* conn_tag:intake */ START TRANSACTION")
	sc.inserter.say(t, "/* conn_tag:intake */ INSERT INTO shelf VALUES (77, 1)")
	var wait sync.WaitGroup
	ctx, cancel := context.WithCancel(testContext(t))
	for p, q := range map[*person]string{
		&sc.waiter: "/* conn_tag:pricing */ UPDATE shelf SET n = 0 WHERE id IN (2, 3)",
		&sc.second: "/* conn_tag:second */ UPDATE shelf SET n = 0 WHERE id = 77",
	} {
		wait.Go(func() { _, _ = p.ExecContext(ctx, q) }) // it is broken off in the end
	}
	sc.stop = func() {
		cancel()
		wait.Wait()
	}
	t.Cleanup(sc.stop)
	waitingFor(t, db, sc.waiter, sc.second)
	return sc
}

// waitingFor waits until these, and nobody else, are seen to wait for a row.
func waitingFor(t *testing.T, db *sql.DB, who ...person) {
	t.Helper()
	var ids []uint64
	for _, p := range who {
		ids = append(ids, p.id)
	}
	slices.Sort(ids)
	want := strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ","), "[]")
	ctx := testContext(t)
	until(t, ctx, "sessions "+want+" to wait", func() bool {
		var got sql.NullString
		if err := db.QueryRowContext(ctx, "SELECT GROUP_CONCAT(trx_mysql_thread_id ORDER BY trx_mysql_thread_id) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'").Scan(&got); err != nil {
			t.Fatal(err)
		}
		return got.String == want
	})
}

// keepStatements has MariaDB keep the last statement of each session, as MySQL does by default.
func keepStatements(t *testing.T, dsn string) {
	t.Helper()
	if _, err := raw(t, dsn).ExecContext(testContext(t), "UPDATE performance_schema.setup_consumers SET ENABLED = 'YES' WHERE NAME = 'events_statements_current'"); err != nil {
		t.Fatal(err)
	}
}

// TestWatcher looks at a private server of each kind, whose sessions are this test's alone.
func TestWatcher(t *testing.T) {
	for _, kind := range servers {
		t.Run(string(kind), func(t *testing.T) {
			srv := lab.Private(t, kind)
			if kind == lab.MariaDB {
				t.Run("memory", func(t *testing.T) { remembersTags(t, srv) }) // as MariaDB comes
				keepStatements(t, srv.NewDatabase(t))
				t.Run("shared lock", func(t *testing.T) { findsSharedLock(t, srv) })
			} else {
				t.Run("cpu", func(t *testing.T) { countsCPU(t, srv) })
			}
			t.Run("sessions", func(t *testing.T) { attributesSessions(t, srv) })
			t.Run("locks", func(t *testing.T) { attributesLocks(t, srv) })
			t.Run("raise", func(t *testing.T) { doesNotBlindRaise(t, srv) })
		})
	}
}

func attributesSessions(t *testing.T, srv *lab.Server) {
	dsn := srv.NewDatabase(t)
	s := open(t, dsn)
	sc := setScene(t, dsn)
	got, err := s.Watcher().Sessions(testContext(t))
	if err != nil || !got.WaitsRead {
		t.Fatalf("%+v, %v", got, err)
	}
	by := map[uint64]mysqlstore.Session{}
	for _, x := range got.Sessions {
		by[x.Session] = x
	}
	stranger := ""
	for _, c := range []struct {
		name  string
		p     person
		tag   string
		doing mysqlstore.Doing
		open  bool
	}{
		{"the holder", sc.holder, "stocktake", mysqlstore.OpenIdle, true},
		{"the waiter", sc.waiter, "pricing", mysqlstore.Waiting, true},
		{"the report", sc.report, "report", mysqlstore.OpenIdle, true},
		{"the stranger", sc.stranger, "", mysqlstore.OpenIdle, true},
		{"who waits for an inserted row", sc.second, "second", mysqlstore.Waiting, true},
		{"the idle one", sc.idle, "idler", mysqlstore.Idle, false},
	} {
		x, there := by[c.p.id]
		if !there || x.Tag != c.tag || x.Doing != c.doing || x.InTransaction != c.open {
			t.Errorf("%s: %+v; want %q, %s, in a transaction %t", c.name, x, c.tag, c.doing, c.open)
		}
		if c.tag == "" {
			stranger = x.Who()
		}
	}
	if user, host, ok := strings.Cut(stranger, "@"); !ok || user != "root" || host == "" || strings.ContainsRune(host, ':') {
		t.Errorf("a session without a tag is %q; want user@host", stranger)
	}
}

// attributesLocks is what 'crossfade locks' is for: who holds what, who waits for whom, and who keeps
// the oldest snapshot.
func attributesLocks(t *testing.T, srv *lab.Server) {
	dsn := srv.NewDatabase(t)
	s := open(t, dsn)
	sc := setScene(t, dsn)
	v, err := s.Watcher().Locks(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		waiter, holder person
		tags           string
		row            string
	}{{sc.waiter, sc.holder, "pricing for stocktake", "2"}, {sc.second, sc.inserter, "second for intake", "77"}} {
		i := slices.IndexFunc(v.Waits, func(w mysqlstore.LockWait) bool { return w.Waiter.Session == c.waiter.id })
		if i < 0 {
			t.Fatalf("nobody waits as %s: %+v", c.tags, v.Waits)
		}
		w := v.Waits[i]
		if w.Waiter.Who()+" for "+w.Holder.Who() != c.tags || w.Holder.Session != c.holder.id || w.HolderDoing != mysqlstore.OpenIdle ||
			!strings.HasSuffix(w.Table, ".shelf") || w.Index != "PRIMARY" || w.Row != c.row || !strings.HasPrefix(w.Wants, "X") || !strings.HasPrefix(w.Has, "X") || w.Queued {
			t.Errorf("%s: %+v", c.tags, w)
		}
	}
	if len(v.Waits) != 2 || v.Waiting != 2 {
		t.Errorf("%d waits listed, %d counted, of 2: %+v", len(v.Waits), v.Waiting, v.Waits)
	}
	if v.Oldest == nil || v.Oldest.Session != sc.report.id || v.Oldest.Tag != "report" || v.Oldest.Isolation != "REPEATABLE READ" {
		t.Errorf("the oldest snapshot is %+v; want the report's", v.Oldest)
	}
	if v.History < 0 || v.Views < 1 {
		t.Errorf("history %d, views %d", v.History, v.Views)
	}
	has := map[string]int64{}
	for _, g := range v.Locks {
		if g.Granted {
			has[g.Who()] += g.Locks
		}
	}
	wanted := map[string]int64{"stocktake": 2, "intake": 1}
	if srv.Kind == lab.MariaDB {
		wanted["stocktake"] = 1 // the one that is waited for
	} else if !slices.ContainsFunc(v.Locks, func(g mysqlstore.LockGroup) bool {
		return g.Session == sc.stranger.id && strings.HasPrefix(g.Mode, "S") && g.Tag == "" && g.Granted
	}) {
		t.Errorf("the stranger's shared lock is not listed: %+v", v.Locks)
	}
	for who, n := range wanted {
		if has[who] != n {
			t.Errorf("%s has %d locks, want %d: %+v", who, has[who], n, v.Locks)
		}
	}
	for _, c := range []struct {
		p    person
		rows int64
	}{{sc.holder, 2}, {sc.stranger, 1}, {sc.report, 0}} {
		i := slices.IndexFunc(v.Transactions, func(x mysqlstore.Transaction) bool { return x.Session == c.p.id })
		if i < 0 || v.Transactions[i].RowsLocked != c.rows || v.Transactions[i].Snapshot != (c.p == sc.report) {
			t.Errorf("transaction %d of %+v; want %d row locks", i, v.Transactions, c.rows)
		}
	}
}

// findsSharedLock: a session that has only shared locks has no transaction id on MariaDB, and is found
// all the same while it is the only one.
func findsSharedLock(t *testing.T, srv *lab.Server) {
	dsn := srv.NewDatabase(t)
	s := open(t, dsn)
	db := raw(t, dsn)
	sharer, waiter := enter(t, db), enter(t, db)
	sharer.say(t, "CREATE TABLE shelf (id INT PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB")
	sharer.say(t, "INSERT INTO shelf VALUES (1, 1)")
	sharer.say(t, "/* conn_tag:sharer */ START TRANSACTION")
	sharer.say(t, "/* conn_tag:sharer */ SELECT n FROM shelf LOCK IN SHARE MODE")
	ctx, cancel := context.WithCancel(testContext(t))
	var wait sync.WaitGroup
	wait.Go(func() { _, _ = waiter.ExecContext(ctx, "/* conn_tag:writer */ UPDATE shelf SET n = 2") })
	defer wait.Wait()
	defer cancel()
	waitingFor(t, db, waiter)
	v, err := s.Watcher().Locks(testContext(t))
	if err != nil || len(v.Waits) == 0 || v.Waits[0].Waiter.Who() != "writer" || v.Waits[0].Holder.Who() != "sharer" || v.Waits[0].Holder.Session != sharer.id {
		t.Fatalf("%+v, %v; want writer behind sharer", v.Waits, err)
	}
}

// remembersTags: as it comes, MariaDB forgets the statement of an idle session. Who was seen with a tag
// keeps it, who was not is user@host, and the view says why.
func remembersTags(t *testing.T, srv *lab.Server) {
	dsn := srv.NewDatabase(t)
	s, db := open(t, dsn), raw(t, dsn)
	seen, unseen := enter(t, db), enter(t, db)
	unseen.say(t, "/* conn_tag:unseen */ START TRANSACTION WITH CONSISTENT SNAPSHOT")
	ctx := testContext(t)
	who := func(w *mysqlstore.Watcher) map[uint64]string {
		got, err := w.Sessions(ctx)
		if err != nil {
			t.Fatal(err)
		}
		out := map[uint64]string{}
		for _, x := range got.Sessions {
			out[x.Session] = x.Who()
		}
		return out
	}
	// A session is idle a moment after its client has the answer. Who looks for that remembers nothing.
	until(t, ctx, "the other's statement to be forgotten", func() bool { return strings.HasPrefix(who(s.Watcher())[unseen.id], "root@") })
	w := s.Watcher()
	slow := make(chan error, 1)
	go func() {
		_, err := seen.ExecContext(ctx, "/* conn_tag:seen */ DO SLEEP(1)")
		slow <- err
	}()
	until(t, ctx, "the slow statement to be seen", func() bool { return who(w)[seen.id] == "seen" })
	if err := <-slow; err != nil {
		t.Fatal(err)
	}
	until(t, ctx, "it to be forgotten too", func() bool { return strings.HasPrefix(who(s.Watcher())[seen.id], "root@") })
	if got := who(w); got[seen.id] != "seen" || !strings.HasPrefix(got[unseen.id], "root@") {
		t.Errorf("idle, they are %q and %q", got[seen.id], got[unseen.id])
	}
	v, err := w.Locks(ctx)
	if err != nil || !strings.Contains(strings.Join(v.Notes, " "), "events_statements_current is off") {
		t.Errorf("notes %q, %v; want the reason", v.Notes, err)
	}
}

// TestAgesInAnotherZone: InnoDB tells times in the zone of the machine, whatever the session's is.
func TestAgesInAnotherZone(t *testing.T) {
	east := func(o *lab.Options) { o.Zone = "XST-9" } // nine hours; it needs no zone files
	for _, kind := range servers {
		dsn := lab.Private(t, kind, east).NewDatabase(t)
		s := open(t, dsn)
		setScene(t, dsn)
		v, err := s.Watcher().Locks(testContext(t))
		if err != nil || len(v.Transactions) == 0 || len(v.Waits) == 0 {
			t.Fatalf("%+v, %v", v, err)
		}
		const most = int64(patience / time.Millisecond)
		for _, x := range v.Transactions {
			if x.AgeMillis < 0 || x.AgeMillis > most {
				t.Errorf("a transaction that has just begun is %d ms old", x.AgeMillis)
			}
		}
		until(t, testContext(t), "a transaction to be a second old", func() bool {
			v, err := s.Watcher().Locks(testContext(t))
			return err == nil && len(v.Waits) > 0 && v.Transactions[0].AgeMillis >= 1000 && v.Waits[0].WaitedMillis >= 1000
		})
	}
}

// doesNotBlindRaise: with a proxy that watches as fast as it can, a fence still finds who
// blocks it, in InnoDB's tables that are renewed only when nobody has read them for a while.
func doesNotBlindRaise(t *testing.T, srv *lab.Server) {
	dsn := srv.NewDatabase(t)
	s := open(t, dsn)
	r := rig{s, testContext(t)}
	r.raise(t, backends.Live)
	blocker := enter(t, raw(t, dsn))
	w := s.Watcher()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var wait sync.WaitGroup
	var readings int
	wait.Go(func() {
		for ctx.Err() == nil {
			if _, err := w.Sessions(ctx); err == nil {
				readings++
			}
			if _, err := w.Locks(ctx); err == nil {
				readings++
			}
		}
	})
	blocker.say(t, "START TRANSACTION")
	blocker.say(t, "SELECT epoch FROM crossfade_fence WHERE pod = 'pod-1' LOCK IN SHARE MODE")
	began := time.Now()
	next := backends.Fence{Epoch: epoch + 1, Stage: backends.Shadow, Open: true}
	if got, err := s.Raise(r.ctx, next, 0); err != nil || got != next {
		t.Errorf("Raise answered %s, %v after %s", got, err, time.Since(began))
	}
	cancel()
	wait.Wait()
	if s.Stats().Killed == 0 || readings == 0 {
		t.Errorf("%d sessions killed beside %d readings", s.Stats().Killed, readings)
	}
}

// countsCPU: where the server counts it, it grows by what is used.
func countsCPU(t *testing.T, srv *lab.Server) {
	dsn := srv.NewDatabase(t)
	s := open(t, dsn)
	db := raw(t, dsn)
	ctx := testContext(t)
	if _, known, err := s.Watcher().StatementCPU(ctx); known || err != nil {
		t.Fatalf("off, it is known: %t, %v", known, err)
	}
	if _, err := db.ExecContext(ctx, "UPDATE performance_schema.setup_consumers SET ENABLED = 'YES' WHERE NAME = 'events_statements_cpu'"); err != nil {
		t.Fatal(err)
	}
	w := s.Watcher()
	before, known, err := w.StatementCPU(ctx)
	if err != nil || !known {
		t.Fatalf("on, it is not known: %v", err)
	}
	began := time.Now()
	// On a connection that began after it was switched on.
	if _, err := enter(t, raw(t, dsn)).ExecContext(ctx, "DO BENCHMARK(3000000, SHA2('x', 256))"); err != nil {
		t.Fatal(err)
	}
	wall := time.Since(began)
	var used time.Duration
	until(t, ctx, "the statement to be counted, which is after its answer", func() bool {
		after, _, err := w.StatementCPU(ctx)
		used = after - before
		return err == nil && used >= wall/20
	})
	if used > 2*wall {
		t.Errorf("a statement that computed for %s used %s", wall, used)
	}
}

// TestPools: in use is what is in use.
func TestPools(t *testing.T) {
	s := open(t, lab.ForTest(t, lab.MySQL).NewDatabase(t), func(c *mysqlstore.Config) { c.MaxConns = 2 })
	c, err := s.DB().Conn(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if p := s.Pools(); p.Data.InUse != 1 || p.Data.MaxOpenConnections != 2 || p.Fences.InUse != 0 {
		t.Errorf("%+v", p)
	}
}
