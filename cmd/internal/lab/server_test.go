package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"
)

// A life of a real server of each kind: it is what it says, keeps its data over
// a crash and over an orderly restart, is silent while paused, and leaves nothing.
func TestLifeOfAServer(t *testing.T) {
	for _, k := range Kinds {
		t.Run(string(k), func(t *testing.T) {
			s := Private(t, k)
			if err := checkMinimum(k, s.Version()); err != nil {
				t.Error(err)
			}
			kind, v, err := s.ask(t.Context())
			if err != nil || kind != k || v != s.Version() {
				t.Fatalf("the server says it is %s %s (%v), want %s %s", kind, v, err, k, s.Version())
			}
			addr, pid := s.Addr(), s.PID()
			if host, _, _ := net.SplitHostPort(addr); host != "127.0.0.1" || pid == 0 {
				t.Errorf("address %s, pid %d", addr, pid)
			}
			put(t, s, "before-kill")
			if err := s.Kill(); err != nil {
				t.Fatal(err)
			}
			if s.PID() != 0 || !portFree(s.place.port) {
				t.Error("a killed server is still there")
			}
			restart(t, s)
			want(t, s, "before-kill")
			put(t, s, "before-restart")
			restart(t, s) // while it runs: in order
			want(t, s, "before-kill", "before-restart")
			if s.Addr() != addr || s.PID() == pid {
				t.Errorf("after restarts at %s pid %d, was at %s pid %d", s.Addr(), s.PID(), addr, pid)
			}
			checkPause(t, s)
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Errorf("second Stop: %v", err)
			}
			if _, err := os.Stat(s.Dir); err == nil {
				t.Errorf("Stop left %s", s.Dir)
			}
			if err := s.Restart(t.Context()); err == nil {
				t.Error("a server that was stopped for good started again")
			}
		})
	}
}

// A Redis in cluster mode listens on a second port, its own plus 10000. When somebody has that one,
// the server is started elsewhere.
func TestSecondPortTaken(t *testing.T) {
	const busOffset = 10000
	for _, k := range []Kind{Redis, Valkey} {
		t.Run(string(k), func(t *testing.T) {
			taken, port := secondPort(t, busOffset)
			defer taken.Close()
			s := Private(t, k, func(o *Options) { o.Port, o.Args = port, []string{"--cluster-enabled", "yes"} })
			if s.place.port == port {
				t.Errorf("the server is on port %d though %d was taken", port, port+busOffset)
			}
		})
	}
}

// secondPort listens on a port whose partner, offset below, is free and outside the ephemeral ports.
func secondPort(t *testing.T, offset int) (taken net.Listener, first int) {
	t.Helper()
	low, high := portRange(ephemeralPorts())
	for port := low; port < high && port+offset < 65536; port++ {
		l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+offset)))
		if err != nil {
			continue
		}
		if portFree(port) {
			return l, port
		}
		l.Close()
	}
	t.Fatal("no free pair of ports")
	return nil, 0
}

func restart(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func checkPause(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	brief, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := s.ask(brief); err == nil {
		t.Error("a paused server answers")
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "a resumed server answers", func() bool {
		_, _, err := s.ask(t.Context())
		return err == nil
	})
}

// put acknowledged data into the server.
func put(t *testing.T, s *Server, name string) {
	t.Helper()
	var err error
	if s.Kind.SQL() {
		err = errors.Join(s.CreateDatabase(t.Context(), "life"),
			s.exec(t.Context(), "CREATE TABLE life."+quoteName(name)+" (id INT PRIMARY KEY)"))
	} else {
		err = withRedis(s, func(c *redis.Client) error { return c.Set(t.Context(), name, "1", 0).Err() })
	}
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, s *Server, names ...string) {
	t.Helper()
	for _, name := range names {
		var err error
		if s.Kind.SQL() {
			err = s.exec(t.Context(), "INSERT INTO life."+quoteName(name)+" VALUES (1) ON DUPLICATE KEY UPDATE id=1")
		} else {
			err = withRedis(s, func(c *redis.Client) error { return c.Get(t.Context(), name).Err() })
		}
		if err != nil {
			t.Errorf("%s is not there any more: %v", name, err)
		}
	}
}

func withRedis(s *Server, f func(*redis.Client) error) error {
	c := redis.NewClient(&redis.Options{Addr: s.Addr()})
	defer c.Close()
	return f(c)
}

// Each test has its own database, which is gone after it, and the views in which
// locks are seen are there.
func TestDatabasesAndSettings(t *testing.T) {
	for _, c := range []struct {
		kind     Kind
		opts     []func(*Options)
		settings string
		want     string
	}{
		{MySQL, nil, "@@innodb_flush_log_at_trx_commit, @@log_bin, @@performance_schema, @@max_connections", "2 0 1 500"},
		{MySQL, []func(*Options){Durable}, "@@innodb_flush_log_at_trx_commit, @@sync_binlog, @@log_bin, @@innodb_doublewrite", "1 1 1 ON"},
		{MariaDB, []func(*Options){Durable}, "@@innodb_flush_log_at_trx_commit, @@sync_binlog, @@log_bin, @@performance_schema", "1 1 ON ON"},
	} {
		t.Run(fmt.Sprint(c.kind, len(c.opts)), func(t *testing.T) {
			s := Private(t, c.kind, c.opts...)
			var dsn string
			t.Run("inner", func(t *testing.T) {
				dsn = s.NewDatabase(t)
				if err := query(t, dsn, "SELECT 1", "1"); err != nil {
					t.Error(err)
				}
			})
			var unknown *mysql.MySQLError
			if err := query(t, dsn, "SELECT 1", "1"); !errors.As(err, &unknown) {
				t.Errorf("the database is there after its test: %v", err)
			}
			if err := query(t, s.DSN(""), "SELECT CONCAT_WS(' ', "+c.settings+")", c.want); err != nil {
				t.Error(err)
			}
			if c.kind == MySQL {
				if err := query(t, s.DSN(""), "SELECT COUNT(*) FROM performance_schema.data_locks", "0"); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func query(t *testing.T, dsn, query, want string) error {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	var got string
	if err := db.QueryRowContext(t.Context(), query).Scan(&got); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s: %s, want %s", query, got, want)
	}
	return nil
}

func TestSharedServerIsOne(t *testing.T) {
	a, b := ForTest(t, Valkey), ForTest(t, Valkey)
	if a != b {
		t.Error("two shared servers of one kind")
	}
	p, q := a.NewPrefix(t), a.NewPrefix(t)
	if p == q || !strings.HasSuffix(p, ":") {
		t.Errorf("prefixes %q and %q", p, q)
	}
}

// A given address is used, is never signalled, and is not taken for another kind.
func TestGivenAddress(t *testing.T) {
	own := ForTest(t, Valkey)
	s, err := Start(t.Context(), Valkey, Options{Address: own.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	if !s.External() || s.Addr() != own.Addr() || s.Version() != own.Version() || s.PID() != 0 {
		t.Errorf("attached to %s %s, external %v", s.Addr(), s.Version(), s.External())
	}
	for _, f := range []func() error{s.Kill, s.Pause, s.Resume, func() error { return s.Restart(t.Context()) }} {
		if err := f(); !errors.Is(err, ErrNotOurs) {
			t.Errorf("signalling a given server: %v, want ErrNotOurs", err)
		}
	}
	if err := s.Stop(t.Context()); err != nil || own.PID() == 0 {
		t.Errorf("Stop of a given server: %v, pid %d", err, own.PID())
	}
	var un *UnavailableError
	if _, err = Start(t.Context(), Redis, Options{Address: own.Addr()}); !errors.As(err, &un) || !strings.Contains(err.Error(), "not Redis") {
		t.Errorf("a Valkey given as Redis: %v", err)
	}
	if _, err = Start(t.Context(), MySQL, Options{Address: "root@tcp(127.0.0.1:1)/"}); !errors.As(err, &un) || un.Kind != MySQL || len(un.Tried) == 0 {
		t.Errorf("nothing at the given address: %v", err)
	}
}

// The reason of a failed start is in the error, in the server's own words.
func TestFailedStartShowsTheLog(t *testing.T) {
	_, err := Start(t.Context(), Redis, Options{Own: true, Args: []string{"--no-such-setting", "1"}})
	var un *UnavailableError
	if !errors.As(err, &un) || !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("error does not show the log: %v", err)
	}
}
