package neighbours

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func session1(id uint64, tag string, d mysqlstore.Doing) mysqlstore.Session {
	return mysqlstore.Session{
		Source: mysqlstore.Source{Session: id, Tag: tag, User: "app", Host: "h"}, Doing: d,
		InTransaction: d == mysqlstore.OpenIdle || d == mysqlstore.Waiting,
	}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

// TestFold: held time is what is in transactions and statements; the shares of a source's session time
// add up to one; waits count among the samples that know of them.
func TestFold(t *testing.T) {
	f := &fold{}
	for i := range 4 {
		s := mysqlstore.Sample{WaitsRead: i%2 == 0, Sessions: []mysqlstore.Session{
			session1(1, "cart", mysqlstore.OpenIdle), session1(2, "", mysqlstore.Idle), session1(4, "cart", mysqlstore.Idle),
		}}
		// Session 3 always waits; only every second sample can tell that from running.
		third := session1(3, "cart", mysqlstore.Running)
		third.InTransaction = true
		if s.WaitsRead {
			third.Doing = mysqlstore.Waiting
		}
		s.Sessions = append(s.Sessions, third)
		if i == 3 {
			s.Sessions = append(s.Sessions, session1(5, "", mysqlstore.Running))
		}
		f.add(look{s, sql.DBStats{MaxOpenConnections: 16, InUse: i, Idle: 4 - i, WaitCount: int64(10 + i), WaitDuration: time.Duration(i) * time.Second}})
	}
	c := f.result()
	if c.Samples != 4 || c.LockSamples != 2 || !near(c.Sessions.Mean, 4.25) || c.Sessions.Most != 5 || c.InTransaction.Mean != 2 || c.Running.Most != 2 || c.Waiting.Mean != 1 {
		t.Errorf("totals: %+v", c)
	}
	if p := c.Pool; p.MaxOpen != 16 || p.InUse.Mean != 1.5 || p.InUse.Most != 3 || p.Waits != 3 || p.WaitMillis != 3000 {
		t.Errorf("pool: %+v", p)
	}
	if len(c.Rows) != 2 || c.Rows[0].Who != "cart" || !c.Rows[0].Tagged || c.Rows[1].Who != "app@h" || c.Rows[1].Tagged {
		t.Fatalf("rows: %+v", c.Rows)
	}
	cart, app := c.Rows[0], c.Rows[1]
	if !near(cart.Held, 2) || !near(cart.Sessions, 3) || !near(cart.Waiting, 1./3) || !near(cart.Running, 0) || !near(cart.OpenIdle, 1./3) || !near(cart.Idle, 1./3) || !near(cart.InTransaction, 2./3) {
		t.Errorf("cart: %+v", cart)
	}
	if !near(app.Held, 0.25) || !near(app.Running+app.Waiting+app.OpenIdle+app.Idle, 1) {
		t.Errorf("app: %+v", app)
	}
}

// TestABatchIsSharedOut: what serves several processes at a time counts for each of them.
func TestABatchIsSharedOut(t *testing.T) {
	f := &fold{}
	f.add(look{Sample: mysqlstore.Sample{WaitsRead: true, Sessions: []mysqlstore.Session{
		session1(1, "cart+pay", mysqlstore.Running), session1(2, "a+b+c+d+4-more", mysqlstore.Waiting), session1(3, "pay", mysqlstore.Idle),
	}}})
	c := f.result()
	held := map[string]float64{}
	for _, r := range c.Rows {
		held[r.Who] = r.Held
	}
	if !near(held["cart"], .5) || !near(held["pay"], .5) || !near(held["a"], .125) || !near(held[Others], .5) || c.Sessions.Mean != 3 || c.Running.Most != 2 {
		t.Errorf("%+v", c.Rows)
	}
}

// TestSourcesAreBounded: tags that are as good as random fill neither memory nor page, and are still counted.
func TestSourcesAreBounded(t *testing.T) {
	f := &fold{}
	const many = 2 * maxSources
	s := mysqlstore.Sample{}
	for i := range many {
		s.Sessions = append(s.Sessions, session1(uint64(i), fmt.Sprintf("order-%d", i), mysqlstore.Running)) //nolint:gosec // small
	}
	f.add(look{Sample: s})
	c := f.result()
	if len(f.by) > maxSources+1 || len(c.Rows) > maxRows+1 {
		t.Fatalf("%d sources, %d rows", len(f.by), len(c.Rows))
	}
	var held float64
	for _, r := range c.Rows {
		held += r.Held
	}
	if last := c.Rows[len(c.Rows)-1]; last.Who != Others || !near(held, many) {
		t.Errorf("the last row is %+v, all hold %f of %d", last, held, many)
	}
}

// server is a Source that answers what it is told to.
type server struct {
	answers []error // of Sessions, one after the other; the last is repeated
	asked   int
	cpu     time.Duration // grows by a core's share at each question
	known   bool
}

func (s *server) Sessions(context.Context) (mysqlstore.Sample, error) {
	err := s.answers[min(s.asked, len(s.answers)-1)]
	s.asked++
	return mysqlstore.Sample{WaitsRead: true, Sessions: []mysqlstore.Session{session1(1, "cart", mysqlstore.Running)}}, err
}

func (s *server) Server(context.Context) (mysqlstore.Server, error) {
	return mysqlstore.Server{Kind: "MySQL", Version: "9.7", Addr: "192.0.2.1:3306"}, nil
}

func (s *server) StatementCPU(context.Context) (time.Duration, bool, error) {
	s.cpu += 50 * time.Millisecond
	return s.cpu, s.known, nil
}

func quick(f func(*Options)) Options {
	o := Options{Pod: "p", For: minFor, Every: minEvery, Pools: func() mysqlstore.Pools { return mysqlstore.Pools{} }}
	f(&o)
	return o
}

func TestLook(t *testing.T) {
	away := fmt.Errorf("%w: gone", backends.ErrUnavailable)
	t.Run("samples that are missed are counted", func(t *testing.T) {
		told := 0
		c, err := Look(t.Context(), &server{answers: []error{nil, away, away, nil}, known: true}, quick(func(o *Options) { o.Progress = func(n int) { told = n } }))
		if err != nil || c.Missed != 2 || c.Samples < 2 || told != c.Samples || c.Rows[0].Held != 1 || c.Server.Kind != "MySQL" || c.SpanMillis < 100 {
			t.Fatalf("%+v, %v", c, err)
		}
		if !c.CPU.Known || c.CPU.Cores <= 0 || c.CPU.Cores > 0.6 || c.CPU.Of != 0 {
			t.Errorf("cpu: %+v", c.CPU)
		}
	})
	t.Run("a server that is away ends it", func(t *testing.T) {
		src := &server{answers: []error{nil, away}}
		if _, err := Look(t.Context(), src, quick(func(o *Options) { o.For = maxFor })); !errors.Is(err, backends.ErrUnavailable) || src.asked != 1+maxMissed {
			t.Fatalf("%v after %d", err, src.asked)
		}
	})
	t.Run("no sample at all is no answer", func(t *testing.T) {
		if _, err := Look(t.Context(), &server{answers: []error{away}}, quick(func(o *Options) { o.Every = maxEvery })); !errors.Is(err, backends.ErrUnavailable) {
			t.Fatalf("%v", err)
		}
	})
	t.Run("who goes ends it", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Look(ctx, &server{answers: []error{nil}}, quick(func(o *Options) { o.For = maxFor })); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
	})
	t.Run("CPU that cannot be seen says so", func(t *testing.T) {
		c, err := Look(t.Context(), &server{answers: []error{nil}}, quick(func(*Options) {}))
		if err != nil || c.CPU.Known || !strings.Contains(c.CPU.What, "not visible from here") {
			t.Fatalf("%+v, %v", c.CPU, err)
		}
	})
	for field, change := range map[string]func(*Options){
		"for":   func(o *Options) { o.For = maxFor + 1 },
		"every": func(o *Options) { o.Every = time.Millisecond },
	} {
		var fe *backends.FieldError
		if _, err := Look(t.Context(), &server{answers: []error{nil}}, quick(change)); !errors.As(err, &fe) || fe.Field != field {
			t.Errorf("%s out of bounds: %v", field, err)
		}
	}
}

// TestABusyServerIsSpared: a server that takes long for a sample is given its rest.
func TestABusyServerIsSpared(t *testing.T) {
	const took = 20 * time.Millisecond
	src := &server{answers: []error{nil}}
	c, err := Look(t.Context(), slow{src, took}, quick(func(o *Options) { o.For = 500 * time.Millisecond }))
	if most := int(500/((burden)*20)) + 1; err != nil || c.Samples > most || c.Samples < 2 {
		t.Fatalf("%d samples of 500 ms, %v; want at most %d", c.Samples, err, most)
	}
}

// slow says that each sample took so long.
type slow struct {
	*server
	took time.Duration
}

func (s slow) Sessions(ctx context.Context) (mysqlstore.Sample, error) {
	got, err := s.server.Sessions(ctx)
	got.Took = s.took
	return got, err
}

// TestOnlyAServersProcessIsMeasured: this test listens too, and is none.
func TestOnlyAServersProcessIsMeasured(t *testing.T) {
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, addr := range []string{ln.Addr().String(), "192.0.2.1:3306", "nonsense", "127.0.0.1:x", "/run/mysqld.sock"} {
		if p, ok := localServer(addr); ok {
			t.Errorf("%s: took %+v for a server", addr, p)
		}
	}
}

func TestRowKey(t *testing.T) {
	for in, want := range map[string]string{
		"0x706F642D31, 0x73686F702D6F6E65, 7": "pod-1 shop-one 7",
		"'mug', 0x00FF":                       "mug 0x00FF",
		"supremum pseudo-record":              "supremum pseudo-record",
		"0x1B5B324A":                          "0x1B5B324A", // an escape stays in hexadecimal
		"":                                    "",
		"0x":                                  "0x",
		"0x706F64…":                           "0x706F64…",
	} {
		if got := rowKey(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestModeText(t *testing.T) {
	for _, c := range []struct{ kind, mode, want string }{
		{"MySQL", "X,REC_NOT_GAP", "exclusive row"},
		{"MySQL", "S", "shared row and gap"},
		{"MySQL", "X,GAP,INSERT_INTENTION", "exclusive gap insert"},
		{"MariaDB", "X", "exclusive row"},
		{"MariaDB", "S,GAP", "shared gap"},
		{"MySQL", "X (table)", "exclusive table"},
		{"MySQL", "AUTO_INC (table)", "auto-increment table"},
		{"MySQL", "X,PREDICATE", "X,PREDICATE"},
	} {
		if got := modeText(c.kind, c.mode); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.kind, c.mode, got, c.want)
		}
	}
}

// TestRenderLocks: the first thing to read is who holds up whom.
func TestRenderLocks(t *testing.T) {
	src := func(id uint64, tag string) mysqlstore.Source {
		return mysqlstore.Source{Session: id, Tag: tag, User: "app", Host: "h"}
	}
	v := Locks{Pod: "pod-1", Server: mysqlstore.Server{Kind: "MySQL", Version: "9.7", Addr: "db:3306"}, Open: 20, LockedRows: 1, Waiting: 15, History: 1, Notes: []string{"a note"}}
	for i := range 15 {
		v.Waits = append(v.Waits, mysqlstore.LockWait{
			Waiter: src(uint64(100+i), "cart"), WaitedMillis: 2000, Wants: "X,REC_NOT_GAP", Table: "d.t", Index: "PRIMARY", Row: "0x6D7567", Holder: src(7, "stocktake"), //nolint:gosec // small
			Has: "X", HolderAgeMillis: 90_000, HolderDoing: mysqlstore.OpenIdle,
		})
		v.Locks = append(v.Locks, mysqlstore.LockGroup{Source: src(uint64(100+i), "cart"), Table: "d.t", Index: "by_name", Mode: "S", Granted: true, Locks: 2}) //nolint:gosec // small
	}
	v.Waits = append(v.Waits, mysqlstore.LockWait{Waiter: src(200, "late"), Holder: src(100, "cart"), Queued: true})
	v.Transactions = []mysqlstore.Transaction{{Source: src(8, ""), AgeMillis: 4000, Isolation: "REPEATABLE READ", Doing: mysqlstore.OpenIdle, Snapshot: true, Statement: "SELECT 1"}}
	v.Oldest = &v.Transactions[0]
	var b bytes.Buffer
	if err := RenderLocks(&b, v); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"20 open transactions, 1 row lock, 15 waiting",
		"stocktake        7        idle in transaction  1m30s     2.0 s         15 × cart  d.t\n",
		"cart   100      2.0 s  exclusive row  d.t  mug  stocktake 7\n",
		"… and 4 more; --json has them",
		"cart      15        0 ms    30     shared row and gap  d.t (by_name)\n",
		"Oldest snapshot: app@h (session 8), 4.0 s old, idle in transaction, REPEATABLE READ.",
		"1 transaction whose old row versions wait to be purged",
		"yes       SELECT 1\n",
		"Note: a note.",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := RenderLocks(&b, Locks{History: -1}); err != nil || !strings.Contains(b.String(), "Nobody waits for a row.") || !strings.Contains(b.String(), "No transaction keeps a snapshot.") {
		t.Errorf("%v: at rest\n%s", err, b.String())
	}
}

func TestRenderConnections(t *testing.T) {
	c := Connections{
		Pod: "pod-1", Server: mysqlstore.Server{Kind: "MySQL", Version: "9.7", Addr: "db:3306"}, Samples: 200, SpanMillis: 10_000, Missed: 3,
		Sessions: Figure{24, 25}, Running: Figure{1.5, 4}, CPU: CPU{Cores: 0.74, Known: true, Of: 2, What: "x"}, Pool: Pool{MaxOpen: 16, Waits: 5, WaitMillis: 61_000},
		Rows: []Row{{Who: "cart", Sessions: 3, Held: 2, Running: 0.001, Waiting: 0.5, Idle: 0.499}},
	}
	var b bytes.Buffer
	if err := RenderConnections(&b, c); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"200 samples in 10.0 s", "24.0 on average, 25 at most", "0.74 of 2 cores", "of 16 in use", "5 waits for one, 1m1s in all", "cart  3.0       2.00  0 %     <1 %     50 %     0 %   50 %", "3 samples could not be had"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
