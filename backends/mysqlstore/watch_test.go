package mysqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
)

func TestTagIn(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"/* conn_tag:checkout */ SELECT 1", "checkout"},
		{"conn_tag:checkout */ SEL", "checkout"},
		{"SELECT 1 /* conn_tag: web/cart-1.eu:8080_a*/", "web/cart-1.eu:8080_a"},
		{"SELECT 'conn_tag:x', 1", "x"},
		{"/* conn_tag:" + strings.Repeat("a", backends.MaxCallerLen) + " */", strings.Repeat("a", backends.MaxCallerLen)},
		{"/* conn_tag:" + strings.Repeat("a", backends.MaxCallerLen+1) + " */", ""},
		{"/* conn_tag: */ SELECT 1", ""},
		{"/* conn_tag:\x1b[2J */ SELECT 1", ""},
		{"SELECT 1", ""},
		{"", ""},
		{"/* conn_tag:cart+pay+2-more */ SELECT 1", "cart+pay+2-more"},
		{"/* conn_tag:cart++pay */ SELECT 1", ""},
		{"/* conn_tag:" + joined(longest()) + " */ SELECT 1", joined(longest())},
	} {
		if got := tagIn(c.text); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

// longest are more tags than a comment names, each as long as may be.
func longest() []share {
	out := make([]share, 1001)
	for i := range out {
		out[i].tag = strings.Repeat("a", backends.MaxCallerLen)
	}
	return out
}

// TestParts: a batch's session is shared out among those that it serves, in the form that its comment has.
func TestParts(t *testing.T) {
	tags := []share{{tag: "a"}, {tag: "b"}, {tag: "c"}, {tag: "d"}, {tag: "e"}, {tag: "f"}}
	for _, c := range []struct {
		s    Source
		want []Part
	}{
		{Source{Tag: joined(tags[:1])}, []Part{{"a", 1}}},
		{Source{Session: 1, User: "u", Host: "h"}, []Part{{"u@h", 1}}},
		{Source{Tag: joined(tags[:2])}, []Part{{"a", .5}, {"b", .5}}},
		{Source{Tag: joined(tags)}, []Part{{"a", 1. / 6}, {"b", 1. / 6}, {"c", 1. / 6}, {"d", 1. / 6}, {"", 2. / 6}}},
		{Source{Tag: "a+2-more"}, []Part{{"a", .5}, {"2-more", .5}}}, // somebody's name
	} {
		if diff := cmp.Diff(c.want, c.s.Parts()); diff != "" {
			t.Errorf("%q: %s", c.s.Tag, diff)
		}
	}
}

// TestCleanIsSafe: what others wrote cannot move a terminal's cursor.
func TestCleanIsSafe(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"SELECT\n\t 1 ", "SELECT 1"},
		{"a\x1b[2Jb\x00", "a?[2Jb?"},
		{"\xff\xfe", "\ufffd\ufffd"},
		{"ä ö", "ä ö"},
		{strings.Repeat("x", 30), strings.Repeat("x", 10) + "…"},
	} {
		if got := clean(c.in, 10); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestDoing(t *testing.T) {
	for _, c := range []struct {
		command, state string
		open           bool
		want           Doing
		metadata       bool
	}{
		{"Sleep", "", true, OpenIdle, false},
		{"Sleep", "", false, Idle, false},
		{"Query", "updating", true, Running, false},
		{"Execute", "executing", false, Running, false},
		{"Query", "Waiting for table metadata lock", false, Waiting, true},
		{"Query", "Waiting for handler commit", true, Running, false},
		{"Daemon", "Waiting on empty queue", false, DoingUnknown, false},
		{"Binlog Dump GTID", "", false, DoingUnknown, false},
	} {
		if got, metadata := doing(c.command, c.state, c.open); got != c.want || metadata != c.metadata {
			t.Errorf("%s, %q: %s, %t", c.command, c.state, got, metadata)
		}
		var back Doing
		text, err := c.want.MarshalText()
		if err = errors.Join(err, back.UnmarshalText(text)); err != nil || back != c.want {
			t.Errorf("%s came back as %s: %v", c.want, back, err)
		}
	}
	if err := new(Doing).UnmarshalText([]byte("sleeping")); err == nil {
		t.Error("an unknown word was read")
	}
}

// The parts that are read, as MySQL 9.7 and MariaDB 10.11 write them.
const (
	statusMySQL = `=====================================
2026-11-22 07:27:38 140581888067264 INNODB MONITOR OUTPUT
------------
TRANSACTIONS
------------
Trx id counter 1567
Purge done for trx's n:o < 1564 undo n:o < 0 state: running but idle
History list length 4
LIST OF TRANSACTIONS FOR EACH SESSION:
---TRANSACTION 375301084245192, not started
0 lock struct(s), heap size 1128, 0 row lock(s)
---TRANSACTION 1566, ACTIVE 1 sec starting index read
mysql tables in use 1, locked 1
LOCK WAIT 2 lock struct(s), heap size 1128, 1 row lock(s)
MySQL thread id 13, OS thread handle 140581851326144, query id 14 localhost 127.0.0.1 root updating
UPDATE d.t SET v = '
MySQL thread id 99, ' WHERE id = 1
Trx read view will not see trx with id >= 1565, sees < 1565
------- TRX HAS BEEN WAITING 1 SEC FOR THIS LOCK TO BE GRANTED:
---TRANSACTION 1565, ACTIVE 1 sec
2 lock struct(s), heap size 1128, 1 row lock(s)
MySQL thread id 11, OS thread handle 140581887010496, query id 11 localhost 127.0.0.1 root
--------
FILE I/O
--------
2 read views open inside InnoDB
`
	statusMariaDB = `History list length 5
LIST OF TRANSACTIONS FOR EACH SESSION:
---TRANSACTION (0x7faaa01c4280), ACTIVE 1 sec
0 lock struct(s), heap size 1128, 0 row lock(s)
MariaDB thread id 10, OS thread handle 140370729096896, query id 15 localhost 127.0.0.1 root
Trx read view will not see trx with id >= 23, sees < 23
---TRANSACTION (0x7faaa01c1680), not started
MariaDB thread id 12, OS thread handle 140370729096896, query id 15 localhost 127.0.0.1 root
... truncated...
--------
FILE I/O
--------
1 read views open inside InnoDB
`
)

func TestParseInnodbStatus(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       innodbStatus
	}{
		{"MySQL", statusMySQL, innodbStatus{history: 4, views: 2, active: map[uint64]bool{13: true, 11: false}}},
		{"MariaDB", statusMariaDB, innodbStatus{history: 5, views: 1, active: map[uint64]bool{10: true}, cut: true}},
		{"nothing", "", innodbStatus{history: -1, views: -1, active: map[uint64]bool{}}},
		{"another form", "History list length many\nLIST OF TRANSACTIONS\n---TRANSACTION 1, ACTIVE\nMySQL thread id x\n", innodbStatus{history: -1, views: -1, active: map[uint64]bool{}}},
	} {
		if diff := cmp.Diff(c.want, parseInnodbStatus(c.text), cmp.AllowUnexported(innodbStatus{})); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func known(id uint64, tag string, d Doing) Session {
	return Session{Source: Source{Session: id, Tag: tag, User: "app", Host: "h"}, Doing: d, InTransaction: d != Idle, thread: id + 1000}
}

// TestBuildLockView: whom a lock is attributed to, where the servers are of little help.
func TestBuildLockView(t *testing.T) {
	status := innodbStatus{history: 7, views: 1, active: map[uint64]bool{1: false, 2: false}}
	t.Run("an implicit lock belongs to its transaction, not to the thread that waits", func(t *testing.T) {
		v := buildLockView(rawLocks{
			statements: true, status: status, waiting: 1,
			trxs:     []rawTrx{{id: 71, session: 1, age: 9000, locked: 1, changed: 1, isolation: "REPEATABLE READ"}, {id: 72, session: 2, waits: true, waited: 9000, age: 4000, isolation: "REPEATABLE READ"}},
			sessions: []Session{known(1, "", OpenIdle), known(2, "second", Running)},
			waits:    []rawWait{{trx: "72", thread: 1002, blocker: "71", blockerThread: 1002, schema: "d", table: "t", wants: "X", has: "X", granted: true}},
			locks:    []rawLock{{trx: "71", thread: 1002, schema: "d", table: "t", key: "PRIMARY", kind: "RECORD", mode: "X", granted: true, n: 3}},
		})
		if len(v.Waits) != 1 || v.Waits[0].Holder.Who() != "app@h" || v.Waits[0].Waiter.Who() != "second" || v.Waits[0].WaitedMillis != 4000 || v.Waits[0].HolderDoing != OpenIdle {
			t.Errorf("waits: %+v", v.Waits)
		}
		if len(v.Locks) != 1 || v.Locks[0].Session != 1 || v.Locks[0].Table != "d.t" || v.Locks[0].Locks != 3 {
			t.Errorf("locks: %+v", v.Locks)
		}
		if v.Transactions[0].Session != 1 || v.Transactions[1].Doing != Waiting || v.Oldest != nil {
			t.Errorf("transactions: %+v", v.Transactions)
		}
	})
	t.Run("a thread counts where its transaction is not in the copy, but not the waiter's own", func(t *testing.T) {
		v := buildLockView(rawLocks{
			status: status, sessions: []Session{known(2, "b", Running), known(3, "c", Running)},
			waits: []rawWait{{trx: "72", thread: 1002, blocker: "73", blockerThread: 1003, granted: true}, {trx: "72", thread: 1002, blocker: "74", blockerThread: 1002, granted: true}},
		})
		if len(v.Waits) != 2 || v.Waits[0].Holder.Who() != "(no session)" || v.Waits[1].Holder.Who() != "c" {
			t.Errorf("waits: %+v", v.Waits)
		}
	})
	t.Run("transactions of sessions that are gone are ghosts", func(t *testing.T) {
		raw := rawLocks{
			status: status, statements: true, trxs: []rawTrx{{id: 71, session: 1, age: 5}, {id: 72, session: 9}, {id: 73}},
			sessions: []Session{known(1, "a", OpenIdle)},
			waits:    []rawWait{{trx: "72", blocker: "71", granted: true}, {trx: "71", thread: 1001, blocker: "72", granted: true}},
			locks:    []rawLock{{trx: "72", n: 1}, {trx: "71", n: 2}},
		}
		v := buildLockView(raw)
		if len(v.Transactions) != 2 || len(v.Waits) != 0 || len(v.Locks) != 1 || len(v.Notes) != 1 || !strings.Contains(v.Notes[0], "left out are 1 transactions") {
			t.Errorf("%+v", v)
		}
	})
	t.Run("a queue shows who has the lock; without one, who is before", func(t *testing.T) {
		v := buildLockView(rawLocks{
			status: status, sessions: []Session{known(1, "has", OpenIdle), known(2, "w2", Running), known(3, "w3", Running), known(4, "w4", Running)},
			waits: []rawWait{
				{trx: "3", thread: 1003, blocker: "2", blockerThread: 1002}, {trx: "3", thread: 1003, blocker: "1", blockerThread: 1001, granted: true},
				{trx: "4", thread: 1004, blocker: "3", blockerThread: 1003}, {trx: "4", thread: 1004, blocker: "2", blockerThread: 1002},
			},
		})
		if len(v.Waits) != 2 || v.Waits[0].Holder.Who() != "has" || v.Waits[0].Queued || v.Waits[1].Holder.Who() != "w3" || !v.Waits[1].Queued {
			t.Errorf("waits: %+v", v.Waits)
		}
	})
	t.Run("MariaDB's shared locks have no transaction's id", func(t *testing.T) {
		raw := rawLocks{
			maria: true, status: status,
			trxs:     []rawTrx{{session: 1, locked: 2}, {session: 5}, {id: 32, session: 2, waits: true}},
			sessions: []Session{known(1, "sharer", OpenIdle), known(2, "w", Running), known(5, "reader", OpenIdle), known(6, "other", OpenIdle)},
			locks:    []rawLock{{id: "32:5:3:3", trx: "32", table: "`d`.`t`", key: "PRIMARY", kind: "RECORD", mode: "X", n: 1}, {id: "0:5:3:3", trx: "0", table: "`d`.`t`", kind: "RECORD", mode: "S", n: 1}},
			waits:    []rawWait{{trx: "32", lockID: "32:5:3:3", blocker: "0", blockerLockID: "0:5:3:3"}},
		}
		v := buildLockView(raw)
		if len(v.Waits) != 1 || v.Waits[0].Holder.Who() != "sharer" || v.Waits[0].Has != "S" || v.Waits[0].Wants != "X" || v.Waits[0].Table != "d.t" {
			t.Errorf("waits: %+v", v.Waits)
		}
		if len(v.Notes) > 2 {
			t.Errorf("notes: %q", v.Notes)
		}
		raw.trxs = append(raw.trxs, rawTrx{session: 6, locked: 1})
		if v = buildLockView(raw); v.Waits[0].Holder.Who() != "(no session)" || !strings.Contains(strings.Join(v.Notes, " "), "which of the 2 sessions") {
			t.Errorf("of two sharers: %+v, %q", v.Waits, v.Notes)
		}
	})
}

// TestHasView: who keeps a read view, by InnoDB's word, else by the isolation.
func TestHasView(t *testing.T) {
	raw := &rawLocks{status: innodbStatus{active: map[uint64]bool{1: true, 2: false}}}
	for _, c := range []struct {
		name string
		trx  rawTrx
		want bool
	}{
		{"listed with a view", rawTrx{session: 1, isolation: "READ COMMITTED", locked: 3}, true},
		{"listed without", rawTrx{session: 2, isolation: "REPEATABLE READ"}, false},
		{"a reader at REPEATABLE READ", rawTrx{session: 3, isolation: "REPEATABLE READ"}, true},
		{"one that has only locked", rawTrx{session: 3, isolation: "REPEATABLE READ", locked: 1}, false},
		{"a statement at READ COMMITTED", rawTrx{session: 3, isolation: "READ COMMITTED", runs: true}, true},
		{"between two of them", rawTrx{session: 3, isolation: "READ COMMITTED"}, false},
		{"dirty reads", rawTrx{session: 3, isolation: "READ UNCOMMITTED", runs: true}, false},
	} {
		if got := hasView(c.trx, raw); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// TestTagsAreRemembered: MariaDB forgets the statement of an idle session, and a ping has no text; a
// statement without a tag ends the memory, and so does the session.
func TestTagsAreRemembered(t *testing.T) {
	w := &Watcher{seen: map[sessionKey]string{}}
	at := func(command, tagText string, spoke bool) found {
		f := found{command: command, tagText: tagText, spoke: spoke}
		f.Session.Session, f.User, f.Host = 7, "app", "h"
		return f
	}
	for i, c := range []struct {
		f    []found
		want string
	}{
		{[]found{at("Sleep", "", false)}, "app@h"},
		{[]found{at("Query", "conn_tag:cart */", true)}, "cart"},
		{[]found{at("Sleep", "", false)}, "cart"},
		{[]found{at("Sleep", "", false)}, "cart"},
		{[]found{at("Query", "", true)}, "app@h"},
		{[]found{at("Sleep", "", false)}, "app@h"},
		{[]found{at("Query", "conn_tag:cart */", true)}, "cart"},
		{nil, ""},
		{[]found{at("Sleep", "", false)}, "app@h"},
	} {
		got := w.attribute(c.f)
		if len(got) != len(c.f) || len(got) > 0 && got[0].Who() != c.want {
			t.Errorf("reading %d: %+v, want %s", i, got, c.want)
		}
	}
}

// idleConnector makes connections that can do nothing.
type idleConnector struct{}

func (idleConnector) Connect(context.Context) (driver.Conn, error) { return idleConn{}, nil }
func (idleConnector) Driver() driver.Driver                        { return nil }

type idleConn struct{}

var errIdle = errors.New("this connection does nothing")

func (idleConn) Prepare(string) (driver.Stmt, error) { return nil, errIdle }
func (idleConn) Close() error                        { return nil }
func (idleConn) Begin() (driver.Tx, error)           { return nil, errIdle }

// TestFencesComeFirst: while two of the connections for fences are in use, the third is not taken to look.
func TestFencesComeFirst(t *testing.T) {
	s, err := Open(t.Context(), Config{Pod: "p", DSN: "u@tcp(127.0.0.1:1)/d"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_ = s.admin.Close()
	s.admin = openPool(idleConnector{}, adminConns, 1, 0)
	w := s.Watcher()
	for n := range adminConns - 1 {
		if _, err := w.Sessions(t.Context()); !errors.Is(err, errIdle) {
			t.Fatalf("with %d in use: %v; want it to get at a connection", n, err)
		}
		c, err := s.admin.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := w.Sessions(t.Context()); !errors.Is(err, backends.ErrBusy) {
		t.Fatalf("with all but one in use: %v; want ErrBusy", err)
	}
}

// TestWatcherReadsForOneAtATime: whose turn does not come in time goes without.
func TestWatcherReadsForOneAtATime(t *testing.T) {
	s, err := Open(t.Context(), Config{Pod: "p", DSN: "u@tcp(127.0.0.1:1)/d"})
	if err != nil {
		t.Fatal(err)
	}
	w := s.Watcher()
	w.turn <- struct{}{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := w.Sessions(ctx); !errors.Is(err, backends.ErrUnavailable) {
		t.Fatalf("out of turn: %v", err)
	}
	<-w.turn
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Locks(t.Context()); !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "closed") {
		t.Fatalf("of a closed store: %v", err)
	}
}

func TestSourceWho(t *testing.T) {
	for want, s := range map[string]Source{
		"cart": {Session: 1, Tag: "cart", User: "u", Host: "h"}, "u@h": {Session: 1, User: "u", Host: "h"},
		"system user": {Session: 1, User: "system user"}, "(no session)": {}, "(ended)": {Session: 1},
	} {
		if s.Who() != want {
			t.Errorf("%+v is %s, want %s", s, s.Who(), want)
		}
	}
}
