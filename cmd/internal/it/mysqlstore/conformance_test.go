package mysqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/backends/storetest"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(m)) }

// servers are the two dialects that every test runs on.
var servers = []lab.Kind{lab.MySQL, lab.MariaDB}

// patience bounds every wait.
const patience = 30 * time.Second

// onEach runs a test on a shared server of each kind.
func onEach(t *testing.T, test func(t *testing.T, srv *lab.Server)) {
	t.Helper()
	for _, k := range servers {
		t.Run(string(k), func(t *testing.T) { test(t, lab.ForTest(t, k)) })
	}
}

func testContext(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// open gives a store that is set up, on a database.
func open(tb testing.TB, dsn string, change ...func(*mysqlstore.Config)) *mysqlstore.Store {
	tb.Helper()
	c := mysqlstore.Config{Pod: "pod-1", DSN: dsn}
	for _, f := range change {
		f(&c)
	}
	s, err := mysqlstore.Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("closing the store: %v", err)
		}
	})
	if err := s.Setup(testContext(tb)); err != nil {
		tb.Fatal(err)
	}
	return s
}

// raw is a pool of the server itself, with the sessions that other applications would have.
func raw(tb testing.TB, dsn string) *sql.DB {
	tb.Helper()
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		tb.Fatal(err)
	}
	c.InterpolateParams = true
	connector, err := mysql.NewConnector(c)
	if err != nil {
		tb.Fatal(err)
	}
	db := sql.OpenDB(connector)
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// TestConformance gives each store a pod of its own in one database, so that pods are seen not to
// get into each other's way either.
func TestConformance(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) { conform(t, srv.NewDatabase(t), 0, 0) })
}

// TestConformanceAlone is what crowds are about with a transaction for each request: both ways, combined
// and alone, answer as the reference does.
func TestConformanceAlone(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) { conform(t, srv.NewDatabase(t), 1, 0, "crowd", "together") })
}

// TestConformanceLosingCommits loses COMMITs all the time, before or after the server had them, under
// crowds that are combined: they are answered as if none had been lost.
func TestConformanceLosingCommits(t *testing.T) {
	const (
		every  = 40 * time.Millisecond
		checks = 40 // each lost COMMIT is settled for a tenth of a second and more
	)
	onEach(t, func(t *testing.T, srv *lab.Server) {
		between, through := newRelay(t, srv.NewDatabase(t))
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			tick := time.NewTicker(every)
			defer tick.Stop()
			for f := lostRequest; ; f = lostRequest + lostReply - f {
				select {
				case <-stop:
					return
				case <-tick.C:
					between.fate.Store(int32(f))
				}
			}
		}()
		conform(t, through, 0, checks, "together")
		close(stop)
		<-stopped
		if n := between.lost.Load(); n < 10 {
			t.Errorf("only %d COMMITs were lost", n)
		}
	})
}

// conform runs the suite, or some chapters of it.
func conform(t *testing.T, dsn string, combine, checks int, chapters ...string) {
	t.Helper()
	pods := map[backends.Store]backends.Pod{}
	storetest.Run(t, storetest.Harness{
		Sides: []backends.Side{backends.SideMySQL},
		Only:  chapters, Checks: checks,
		Open: func(t *testing.T, _ backends.Side, o storetest.Options) backends.Store {
			pod, again := pods[o.Same]
			if !again {
				pod = backends.Pod(fmt.Sprintf("pod-%d", len(pods)))
			}
			s := open(t, dsn, func(c *mysqlstore.Config) {
				c.Pod, c.PoolCap, c.OutboxMax, c.Retain, c.Combine = pod, o.PoolCap, o.OutboxMax, o.Retain, combine
			})
			pods[s] = pod
			return s
		},
		Differences: storetest.Differences{NotReplaced: "its writes are durable, and what a replica lacks is not lost to it"},
		Corrupt: func(t *testing.T, s backends.Store, k backends.Key, delta int64) {
			_, err := raw(t, dsn).ExecContext(testContext(t),
				"UPDATE crossfade_levels SET unmaterialised = unmaterialised + ? WHERE pod = ? AND shop = ? AND item = ? AND location = ?",
				delta, string(pods[s]), string(k.Shop), string(k.Item), string(k.Location))
			if err != nil {
				t.Fatal(err)
			}
		},
	})
}
