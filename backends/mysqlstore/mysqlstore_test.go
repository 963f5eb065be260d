package mysqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestClassify(t *testing.T) {
	number := func(n uint16) error { return fmt.Errorf("exec: %w", &mysql.MySQLError{Number: n}) }
	for _, c := range []struct {
		name string
		err  error
		want fault
		port error // what it means before COMMIT
	}{
		{"a lock wait that timed out is busy, never sold out", number(1205), faultBusy, backends.ErrBusy},
		{"deadlock", number(1213), faultDeadlock, backends.ErrBusy},
		{"MariaDB's changed row", number(1020), faultDeadlock, backends.ErrBusy},
		{"duplicate", number(1062), faultDuplicate, nil},
		{"the session was killed", number(1927), faultBroken, backends.ErrUnavailable},
		{"the query was killed", number(1317), faultBroken, backends.ErrUnavailable},
		{"the server goes down", number(1053), faultBroken, backends.ErrUnavailable},
		{"the server is read-only", number(1290), faultUnavailable, backends.ErrUnavailable},
		{"too many connections", number(1040), faultUnavailable, backends.ErrUnavailable},
		{"no table", number(1146), faultSetup, backends.ErrSetup},
		{"no right", number(1142), faultSetup, backends.ErrSetup},
		{"a syntax error", number(1064), faultOther, nil},
		{"the connection broke", mysql.ErrInvalidConn, faultBroken, backends.ErrUnavailable},
		{"cut off", io.ErrUnexpectedEOF, faultBroken, backends.ErrUnavailable},
		{"a read that timed out", &net.OpError{Op: "read", Err: context.DeadlineExceeded}, faultContext, backends.ErrUnavailable},
		{"a read that was reset", &net.OpError{Op: "read", Err: errors.New("reset")}, faultBroken, backends.ErrUnavailable},
		{"not dialled", &net.OpError{Op: "dial", Err: errors.New("refused")}, faultUnavailable, backends.ErrUnavailable},
		{"a dead connection", driver.ErrBadConn, faultUnavailable, backends.ErrUnavailable},
		{"the caller went away", context.Canceled, faultContext, backends.ErrUnavailable},
		{"the caller's time is up", fmt.Errorf("query: %w", context.DeadlineExceeded), faultContext, backends.ErrUnavailable},
		{"something else", errors.New("x"), faultOther, nil},
	} {
		if got := classify(c.err); got != c.want {
			t.Errorf("%s: classified %d, want %d", c.name, got, c.want)
		}
		err := undone(c.err)
		if !errors.Is(err, c.err) || c.port != nil && !errors.Is(err, c.port) || backends.IsAmbiguous(err) {
			t.Errorf("%s: before COMMIT it is %v, want %v", c.name, err, c.port)
		}
	}
}

func TestStatement(t *testing.T) {
	s := parseStatement("SELECT id FROM (SELECT NULL AS a[[ UNION ALL SELECT ?|]]) v WHERE b = ?")
	if got, want := s.times(2), "SELECT id FROM (SELECT NULL AS a UNION ALL SELECT ? UNION ALL SELECT ?) v WHERE b = ?"; got != want {
		t.Errorf("a list: %s", got)
	}
	s = parseStatement("[[(SELECT ?)| UNION ALL ]]")
	if got, want := s.times(3), "(SELECT ?) UNION ALL (SELECT ?) UNION ALL (SELECT ?)"; got != want {
		t.Errorf("times: %s", got)
	}
	if got := parseStatement("COMMIT").one(); got != "COMMIT" {
		t.Errorf("plain: %s", got)
	}
	got := mustParse(fstest.MapFS{"sql/a.sql": {Data: []byte("-- top\n\n-- name: one\n-- index: none\nSELECT 1,\n  2;\n\n-- name: two\nSELECT 3;\n")}})
	if d := cmp.Diff(map[string]string{"one": "SELECT 1, 2", "two": "SELECT 3"}, got); d != "" {
		t.Error(d)
	}
}

// TestStatementsAreExplained: each statement says by which index it finds its rows and what it
// locks, as the house wants it.
func TestStatementsAreExplained(t *testing.T) {
	files, err := sqlFiles.ReadDir("sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := sqlFiles.ReadFile("sql/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range strings.Split(string(text), "-- name: ")[1:] {
			name, rest, _ := strings.Cut(block, "\n")
			if !strings.Contains(rest, "crossfade_") && !strings.Contains(rest, "{ledger}") || strings.Contains(rest, "CREATE") {
				continue
			}
			if !strings.Contains(rest, "locks:") || !strings.Contains(rest, "index:") && !strings.Contains(rest, "INSERT") {
				t.Errorf("%s does not say which index it uses and what it locks", name)
			}
		}
	}
}

func TestMigrations(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	names := func(ms []migration, err error) string {
		if err != nil {
			return "error"
		}
		var out []string
		for _, m := range ms {
			out = append(out, m.name)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		name, mysql, maria string
		files              fstest.MapFS
	}{
		{"in the order of their numbers", "1_a 02_b 0003_c", "1_a 02_b 0003_c", fstest.MapFS{"migrations/0003_c.sql": file(""), "migrations/1_a.sql": file(""), "migrations/02_b.sql": file("")}},
		{"a dialect's own", "0001_a.mysql", "0001_a", fstest.MapFS{"migrations/0001_a.sql": file(""), "migrations/0001_a.mysql.sql": file("")}},
		{"one for each dialect", "0001_a.mysql", "0001_a.mariadb", fstest.MapFS{"migrations/0001_a.mysql.sql": file(""), "migrations/0001_a.mariadb.sql": file("")}},
		{"a gap", "error", "error", fstest.MapFS{"migrations/0001_a.sql": file(""), "migrations/0003_a.sql": file("")}},
		{"two of one number", "error", "error", fstest.MapFS{"migrations/0001_a.sql": file(""), "migrations/0001_b.sql": file("")}},
		{"no number", "error", "error", fstest.MapFS{"migrations/first.sql": file("")}},
	} {
		if got := names(migrationsFor(c.files, false)); got != c.mysql {
			t.Errorf("%s, MySQL: %s, want %s", c.name, got, c.mysql)
		}
		if got := names(migrationsFor(c.files, true)); got != c.maria {
			t.Errorf("%s, MariaDB: %s, want %s", c.name, got, c.maria)
		}
	}
	for _, maria := range []bool{false, true} {
		ms, err := migrationsFor(migrationFiles, maria)
		if err != nil || len(ms) == 0 {
			t.Errorf("our own: %v", err)
		}
	}
	got := migration{text: "-- why\nCREATE TABLE a (\n  b INT -- ; no\n);\n\nDROP TABLE c;\nSELECT 1"}.steps()
	if d := cmp.Diff([]string{"CREATE TABLE a (\n  b INT -- ; no\n)", "DROP TABLE c", "SELECT 1"}, got); d != "" {
		t.Error(d)
	}
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]version{
		"9.7.4-2": {9, 7, 4}, "8.0.36": {8, 0, 36}, "10.11.19-MariaDB-0+deb12u1": {10, 11, 19}, "11.4-x": {11, 4, 0}, "": {}, "x": {},
	} {
		if got := parseVersion(text); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

func TestIDs(t *testing.T) {
	now := time.UnixMilli(idEpoch + 1000)
	s := newIDSource(func() time.Time { return now })
	var all []uint64
	all = append(all, s.next(3)...)
	all = append(all, s.next(5000)...) // more than a millisecond has
	now = now.Add(-time.Hour)          // a clock that is set back
	all = append(all, s.next(2)...)
	now = now.Add(2 * time.Hour)
	all = append(all, s.one())
	if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Error("ids do not grow")
	}
	for _, id := range all {
		if id&(1<<nodeBits-1) != s.node || id>>63 != 0 {
			t.Fatalf("id %x does not carry node %x in 63 bits", id, s.node)
		}
	}
}

func TestMoves(t *testing.T) {
	hold := func(state backends.State, owed bool, allocs ...backends.Allocation) *backends.Hold {
		return &backends.Hold{
			Shop: "s", State: state, LedgerOwed: owed, Allocs: allocs,
			Lines: []backends.Line{{Item: "a", Quantity: 2}, {Item: "b", Quantity: 1}},
		}
	}
	a2, b1, a1w := backends.Allocation{Line: 0, Location: "e", Quantity: 2}, backends.Allocation{Line: 1, Location: "e", Quantity: 1}, backends.Allocation{Line: 0, Location: "w", Quantity: 1}
	ke, kw, kb := backends.Key{Shop: "s", Item: "a", Location: "e"}, backends.Key{Shop: "s", Item: "a", Location: "w"}, backends.Key{Shop: "s", Item: "b", Location: "e"}
	for _, c := range []struct {
		name    string
		was, is *backends.Hold
		want    []move
	}{
		{"a claim moves the ledger and nothing else", hold(backends.Held, false, a2), hold(backends.Claimed, false, a2), []move{{key: ke, onHand: -2}}},
		{"a reserve takes", nil, hold(backends.Held, false, a2, b1), []move{{key: ke, sellable: -2}, {key: kb, sellable: -1}}},
		{"a release gives back", hold(backends.Held, false, a2), hold(backends.Released, false, a2), []move{{key: ke, sellable: 2}}},
		{"an extension moves nothing", hold(backends.Held, false, a2), hold(backends.Held, false, a2), nil},
		{"a late claim takes again", hold(backends.Expired, false, a2), hold(backends.Claimed, false, a2), []move{{key: ke, sellable: -2, onHand: -2}}},
		{"other allocations", hold(backends.Held, false, a2), hold(backends.Held, false, a1w), []move{{key: ke, sellable: 2}, {key: kw, sellable: -1}}},
		{"a claim whose deduction is owed weighs nothing", hold(backends.Held, false, a2), hold(backends.Claimed, true, a2), []move{{key: ke, sellable: 2}}},
	} {
		if d := cmp.Diff(c.want, moves(c.was, c.is), cmp.AllowUnexported(move{}), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

func TestGiveBack(t *testing.T) {
	x := &txn{s: &Store{cfg: Config{PoolCap: 10}}}
	for _, c := range []struct {
		name                       string
		unmaterialised, pooled, n  int64
		rows, wantUnmat, wantPools int64
	}{
		{"the debt is paid first", -5, 0, 3, 0, -2, 0},
		{"then the pool", -5, 0, 8, 3, 0, 3},
		{"up to its cap", 0, 8, 5, 2, 3, 10},
		{"a full pool", 0, 10, 4, 0, 4, 10},
		{"behind what is waiting", 7, 2, 4, 0, 11, 2},
	} {
		l := &level{unmaterialised: c.unmaterialised, pooled: c.pooled}
		if rows := x.giveBack(l, c.n); rows != c.rows || l.unmaterialised != c.wantUnmat || l.pooled != c.wantPools {
			t.Errorf("%s: %d rows, unmaterialised %d, pooled %d; want %d, %d, %d", c.name, rows, l.unmaterialised, l.pooled, c.rows, c.wantUnmat, c.wantPools)
		}
	}
}

func TestDraw(t *testing.T) {
	k := backends.Key{Item: "a"}
	for _, c := range []struct {
		name                       string
		unmaterialised, rows, n    int64
		taken, wantUnmat, rowsLeft int64
	}{
		{"unmaterialised units cost no row", 5, 3, 4, 0, 1, 3},
		{"rows, and the rest unmaterialised", 2, 3, 5, 3, 0, 0},
		{"rows alone", 0, 3, 2, 2, 0, 1},
		{"below zero", 1, 2, 6, 2, -3, 0},
	} {
		x := &txn{s: &Store{}, levels: map[backends.Key]*level{k: {key: k, unmaterialised: c.unmaterialised, pooled: c.rows}}, rows: map[backends.Key]*pool{k: {rows: make([]uint64, c.rows)}}}
		if got := x.draw(k, c.n); int64(len(got)) != c.taken || x.levels[k].unmaterialised != c.wantUnmat || int64(len(x.rows[k].rows)) != c.rowsLeft {
			t.Errorf("%s: %d rows, unmaterialised %d, %d left; want %d, %d, %d", c.name, len(got), x.levels[k].unmaterialised, len(x.rows[k].rows), c.taken, c.wantUnmat, c.rowsLeft)
		}
	}
}

func TestRoom(t *testing.T) {
	now := time.Unix(1000, 0)
	r := &room{now: func() time.Time { return now }, max: 10}
	want := func(step string, stale, full bool) {
		t.Helper()
		if r.stale() != stale || r.full() != full {
			t.Fatalf("%s: stale %t, full %t; want %t, %t", step, r.stale(), r.full(), stale, full)
		}
	}
	want("never counted", true, false)
	r.counted(4, time.Millisecond)
	want("counted", false, false)
	r.wrote(1)
	r.wrote(1)
	want("a third of the room used", false, false)
	r.wrote(1)
	now = now.Add(time.Second)
	want("half of it", true, false)
	r.counted(10, time.Millisecond)
	want("full, and counted a moment ago", false, true)
	now = now.Add(21 * time.Millisecond)
	want("full, and worth another look", true, true)
	r.counted(9, time.Millisecond)
	want("one place", false, false)
	r.wrote(1)
	want("taken, and counted a moment ago", false, true)
	r.freed(1)
	want("a place came free in what was full", true, false)
	r.counted(4, time.Millisecond)
	r.wrote(1)
	r.freed(2)
	r.wrote(1)
	r.wrote(1)
	want("places came free where there were some: no reason to count", false, false)
}

func TestHints(t *testing.T) {
	now := time.Unix(1000, 0)
	h := newHints(func() time.Time { return now })
	k, other := backends.Key{Item: "a"}, backends.Key{Item: "b"}
	h.took(k, 7)
	h.took(k, 5)
	if got := h.cursor(k); got != 8 {
		t.Errorf("the cursor is %d, want behind the last that was taken", got)
	}
	h.rewind(k)
	if got := h.cursor(k); got != 0 {
		t.Errorf("after a rewind it is %d", got)
	}
	h.soldOut(k, true)
	if !h.dry([]want{{Key: other}, {Key: k}}) || h.dry([]want{{Key: other}}) {
		t.Error("dry is not what was noted")
	}
	now = now.Add(dryFor)
	if h.dry([]want{{Key: k}}) {
		t.Error("dry for ever")
	}
	release, wait := h.claim([]want{{Key: k}, {Key: other}})
	if wait != nil || release == nil {
		t.Fatal("the first does not get its turn")
	}
	if r2, w2 := h.claim([]want{{Key: other}}); r2 != nil || w2 == nil {
		t.Fatal("the second does not wait")
	}
	_, w := h.claim([]want{{Key: k}})
	release()
	<-w
	if r3, w3 := h.claim([]want{{Key: k}}); r3 == nil || w3 != nil {
		t.Error("the turn is not given back")
	}
}

// TestBorrow: rows that were made are handed out once, in their order, all or none; what is given back
// is there again, and a scan behind the cursor misses none of it.
func TestBorrow(t *testing.T) {
	h := newHints(time.Now)
	k := backends.Key{Item: "a"}
	h.took(k, 3)
	h.made(k, []uint64{10, 11, 12, 13})
	if got := h.borrow(k, 5); got != nil {
		t.Errorf("more than there are: %v", got)
	}
	first, second := h.borrow(k, 2), h.borrow(k, 1)
	if !slices.Equal(first, []uint64{10, 11}) || !slices.Equal(second, []uint64{12}) {
		t.Errorf("borrowed %v and %v", first, second)
	}
	h.tookBorrowed(k, 12)
	if got := h.cursor(k); got != 13 {
		t.Errorf("the cursor is %d, want at what is left", got)
	}
	h.giveBack(k, first)
	if got := h.cursor(k); got != 10 {
		t.Errorf("the cursor is %d, want at what was given back", got)
	}
	if got := h.borrow(k, 3); !slices.Equal(got, []uint64{10, 11, 13}) {
		t.Errorf("borrowed %v", got)
	}
	h.made(k, []uint64{20, 21})
	h.took(k, 20) // by a scan
	if got := h.borrow(k, 1); !slices.Equal(got, []uint64{21}) {
		t.Errorf("borrowed %v, want what the scan left", got)
	}
	h.made(k, []uint64{30})
	h.rewind(k)
	if got := h.borrow(k, 1); got != nil || h.rows != 0 {
		t.Errorf("after a rewind: %v, %d rows", got, h.rows)
	}
}

func TestHintsAreBounded(t *testing.T) {
	h := newHints(time.Now)
	for i := range maxHints + 10 {
		k := backends.Key{Item: backends.Item(fmt.Sprint(i))}
		h.took(k, 1)
	}
	if len(h.keys) > maxHints {
		t.Errorf("%d hints", len(h.keys))
	}
}

func TestConfig(t *testing.T) {
	good := Config{Pod: "p", DSN: "root@tcp(127.0.0.1:3306)/shop"}
	for _, c := range []struct {
		name   string
		change func(*Config)
		says   string // empty: accepted
	}{
		{"the least", func(*Config) {}, ""},
		{"no pod", func(c *Config) { c.Pod = "" }, "pod"},
		{"no database", func(c *Config) { c.DSN = "root@tcp(127.0.0.1:3306)/" }, "names no database"},
		{"no DSN", func(c *Config) { c.DSN = "nonsense" }, "write it as"},
		{"half a ledger", func(c *Config) { c.Ledger.Table = "inventory" }, "ledger column"},
		{"a ledger's name that is more than a name", func(c *Config) {
			c.Ledger = OwnLedger
			c.Ledger.OnHand = "x` = 0; --"
		}, "ledger column on_hand"},
		{"a ledger in another database", func(c *Config) {
			c.Ledger = OwnLedger
			c.Ledger.Table = "erp.stock"
		}, ""},
	} {
		cfg := good
		c.change(&cfg)
		s, err := Open(t.Context(), cfg)
		if s != nil {
			if s.cfg.PoolCap != backends.DefaultPoolCap || s.cfg.MaxConns != DefaultMaxConns || s.cfg.Retain != backends.DefaultRetain {
				t.Errorf("%s: the defaults are %+v", c.name, s.cfg)
			}
			for range 2 { // twice is once
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			if err := s.Ping(t.Context()); !errors.Is(err, backends.ErrUnavailable) {
				t.Errorf("%s: a closed store answers %v", c.name, err)
			}
		}
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: answered %v, want %q", c.name, err, c.says)
		}
	}
}

// TestEncode: every kind of value that is stored as JSON can be written and read again.
func TestEncode(t *testing.T) {
	h := &backends.Hold{ID: "h", Shop: "s", Lines: []backends.Line{{Item: "a", Quantity: 1, Locations: []backends.Location{"e"}, Split: true}}, Allocs: []backends.Allocation{{Quantity: 1, Location: "e"}}, State: backends.Claimed, LedgerOwed: true}
	in := body{Op: backends.OpReemit, Hold: h, Level: &backends.LevelChange{OpID: "o", OnHandDelta: -1}}
	var out body
	if err := decode(encode(in), &out, "body"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(in, out); d != "" {
		t.Error(d)
	}
	for _, v := range []any{h.Lines, h.Allocs, &backends.OwnDecision{Outcome: backends.OutcomeSoldOut}, []backends.Line(nil)} {
		if len(encode(v)) == 0 {
			t.Errorf("%T is not written", v)
		}
	}
	if err := decode([]byte("{"), &out, "body"); !errors.Is(err, backends.ErrDamaged) {
		t.Errorf("broken JSON answers %v", err)
	}
}

func TestTagOf(t *testing.T) {
	for caller, want := range map[string]string{"checkout-web": "checkout-web", "": "reserve", "*/ DROP": "reserve", strings.Repeat("x", 65): "reserve"} {
		if got := tagOf(caller, "reserve"); got != want {
			t.Errorf("caller %q is tagged %q, want %q", caller, got, want)
		}
	}
}
