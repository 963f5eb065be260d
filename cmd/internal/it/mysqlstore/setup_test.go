package mysqlstore_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// bare gives a store on which Setup was not run.
func bare(t *testing.T, dsn string, change ...func(*mysqlstore.Config)) *mysqlstore.Store {
	t.Helper()
	c := mysqlstore.Config{Pod: "pod-1", DSN: dsn}
	for _, f := range change {
		f(&c)
	}
	s, err := mysqlstore.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// refused wants an ErrSetup that names the next step.
func refused(t *testing.T, err error, next string) {
	t.Helper()
	if !errors.Is(err, backends.ErrSetup) || !strings.Contains(err.Error(), next) {
		t.Fatalf("answered %v; want one that says %q", err, next)
	}
}

func TestSetupByManyAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		var all sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			s := bare(t, dsn)
			all.Go(func() { errs[i] = s.Setup(testContext(t)) })
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		r := live(t, dsn)
		r.stock(t, "mug", 1)
		r.grant(t, cart("cart", line("mug", 1)))
	})
}

func TestSetupOfANewerSchema(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		s := open(t, dsn)
		if _, err := raw(t, dsn).ExecContext(testContext(t), "INSERT INTO crossfade_schema (version, name) VALUES (9999, 'from the future')"); err != nil {
			t.Fatal(err)
		}
		refused(t, s.Setup(testContext(t)), "run a newer crossfade")
	})
}

func TestSetupAfterABrokenOne(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		s := open(t, dsn)
		db := raw(t, dsn)
		for _, q := range []string{"DELETE FROM crossfade_schema", "DROP TABLE crossfade_apologies", "DROP TABLE crossfade_ops"} {
			if _, err := db.ExecContext(testContext(t), q); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Setup(testContext(t)); err != nil {
			t.Fatal(err)
		}
		r := rig{s, testContext(t)}
		r.raise(t, backends.Live)
		r.stock(t, "mug", 1)
	})
}

// TestSetupFindsWhatWasChanged: the schema's version alone would not tell.
func TestSetupFindsWhatWasChanged(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		for _, c := range []struct{ change, says string }{
			{"DROP TABLE crossfade_outbox", "no InnoDB table crossfade_outbox"},
			{"ALTER TABLE crossfade_levels DROP COLUMN owed", "column owed of table crossfade_levels is not there, not bigint"},
			{"ALTER TABLE crossfade_holds MODIFY id VARCHAR(64) NOT NULL", "column id of table crossfade_holds is varchar(64), not varbinary(64)"},
			{"ALTER TABLE crossfade_fence MODIFY epoch BIGINT NOT NULL", "column epoch of table crossfade_fence is bigint, not bigint unsigned"},
			{"ALTER TABLE crossfade_units DROP PRIMARY KEY, ADD PRIMARY KEY (pod, item, shop, location, id)", "the primary key of table crossfade_units is (pod, item, shop, location, id)"},
			{"CREATE INDEX mine ON crossfade_units (item)", "has an index mine besides its primary key"},
		} {
			dsn := srv.NewDatabase(t)
			s := open(t, dsn)
			if _, err := raw(t, dsn).ExecContext(testContext(t), c.change); err != nil {
				t.Fatal(err)
			}
			refused(t, s.Setup(testContext(t)), c.says)
		}
		dsn := srv.NewDatabase(t)
		s := open(t, dsn)
		const theirs = "ALTER TABLE crossfade_holds ADD COLUMN note VARBINARY(10) NULL"
		if _, err := raw(t, dsn).ExecContext(testContext(t), theirs); err != nil {
			t.Fatal(err)
		}
		if err := s.Setup(testContext(t)); err != nil {
			t.Errorf("a column that is not ours: %v", err)
		}
	})
}

func TestSetupRefuses(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		ctx := testContext(t)
		t.Run("a database that is not there", func(t *testing.T) {
			c, err := mysql.ParseDSN(srv.NewDatabase(t))
			if err != nil {
				t.Fatal(err)
			}
			c.DBName = "nowhere"
			refused(t, bare(t, c.FormatDSN()).Setup(ctx), "nowhere")
		})
		t.Run("a user without rights", func(t *testing.T) {
			dsn := srv.NewDatabase(t)
			db := raw(t, dsn)
			c, err := mysql.ParseDSN(dsn)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.ReplaceAll(c.DBName, "xf_", "u")
			c.User = name[max(0, len(name)-30):]
			for _, q := range []string{"CREATE USER '" + c.User + "'@'127.0.0.1'", "GRANT ALL ON " + c.DBName + ".* TO '" + c.User + "'@'127.0.0.1'"} {
				if _, err := db.ExecContext(ctx, q); err != nil {
					t.Fatal(err)
				}
			}
			t.Cleanup(func() { _, _ = db.Exec("DROP USER '" + c.User + "'@'127.0.0.1'") }) //nolint:noctx // the test's context is over
			refused(t, bare(t, c.FormatDSN()).Setup(ctx), "GRANT PROCESS")
		})
	})
}

// shopLedger is a ledger of another application: other names, no pod, columns of its own.
var shopLedger = mysqlstore.Ledger{Table: "inventory", Shop: "store_id", Item: "sku", Location: "warehouse", OnHand: "quantity"}

func TestForeignLedger(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		ctx := testContext(t)
		const columns = "store_id VARBINARY(64) NOT NULL, sku VARBINARY(64) NOT NULL, warehouse VARBINARY(64) NOT NULL, quantity BIGINT NOT NULL, updated TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"
		named := func(c *mysqlstore.Config) { c.Ledger = shopLedger }
		for _, c := range []struct{ name, table, says string }{
			{"no table", "", "no ledger table inventory"},
			{"no key", "CREATE TABLE inventory (" + columns + ")", "no primary or unique key"},
			{"a key of less", "CREATE TABLE inventory (" + columns + ", PRIMARY KEY (store_id, sku))", "no primary or unique key"},
			{"folds case", "CREATE TABLE inventory (" + strings.Replace(columns, "sku VARBINARY(64)", "sku VARCHAR(64) COLLATE utf8mb4_general_ci", 1) + ", PRIMARY KEY (store_id, sku, warehouse))", "takes different ids for one"},
			{"no column", "CREATE TABLE inventory (" + strings.Replace(columns, "quantity", "amount", 1) + ", PRIMARY KEY (store_id, sku, warehouse))", "no column quantity"},
		} {
			dsn := srv.NewDatabase(t)
			if c.table != "" {
				if _, err := raw(t, dsn).ExecContext(ctx, c.table); err != nil {
					t.Fatal(err)
				}
			}
			t.Run(c.name, func(t *testing.T) { refused(t, bare(t, dsn, named).Setup(ctx), c.says) })
		}
		dsn := srv.NewDatabase(t)
		db := raw(t, dsn)
		for _, q := range []string{
			"CREATE TABLE inventory (" + columns + ", row_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, UNIQUE KEY place (warehouse, store_id, sku))",
			"INSERT INTO inventory (store_id, sku, warehouse, quantity) VALUES ('shop-1', 'mug', 'east', 40)",
		} {
			if _, err := db.ExecContext(ctx, q); err != nil {
				t.Fatal(err)
			}
		}
		r := live(t, dsn, named)
		r.stock(t, "mug", 10) // the first we hear of it: what was on hand is taken over
		r.grant(t, cart("cart", line("mug", 45)))
		if _, err := r.s.Claim(ctx, token, &backends.ClaimRequest{ID: "cart"}); err != nil {
			t.Fatal(err)
		}
		var left int
		if err := db.QueryRowContext(ctx, "SELECT quantity FROM inventory WHERE sku = 'mug'").Scan(&left); err != nil || left != 5 {
			t.Fatalf("the ledger has %d, %v; want 5", left, err)
		}
		ls, _, err := r.s.ScanLevels(ctx, "", 10)
		if err != nil || len(ls) != 1 || ls[0].OnHand != 5 || ls[0].Sellable() != 5 {
			t.Fatalf("the levels are %+v, %v", ls, err)
		}
		r.conserved(t)
		// The application changes the ledger by itself: P2 says so.
		if _, err := db.ExecContext(ctx, "UPDATE inventory SET quantity = quantity - 1"); err != nil {
			t.Fatal(err)
		}
		broken, _, err := r.s.Conservation(ctx)
		if err != nil || len(broken) != 1 || broken[0].Imbalance() != -1 {
			t.Fatalf("Conservation answered %+v, %v", broken, err)
		}
	})
}

// TestServerDefaults: whatever the server's defaults, sessions are what the store relies on, and the
// clock is UTC.
func TestServerDefaults(t *testing.T) {
	for _, kind := range servers {
		t.Run(string(kind), func(t *testing.T) {
			srv := lab.Private(t, kind)
			dsn := srv.NewDatabase(t)
			db := raw(t, dsn)
			ctx := testContext(t)
			iso := "transaction_isolation"
			if kind == lab.MariaDB {
				iso = "tx_isolation"
			}
			for _, q := range []string{
				"SET GLOBAL time_zone = '+05:30'", "SET GLOBAL " + iso + " = 'SERIALIZABLE'", "SET GLOBAL sql_mode = ''",
				"SET GLOBAL autocommit = 0", "SET GLOBAL innodb_lock_wait_timeout = 50",
			} {
				if _, err := db.ExecContext(ctx, q); err != nil {
					t.Fatal(err)
				}
			}
			r := live(t, dsn)
			var zone, mode, isolation string
			var wait int
			if err := r.s.DB().QueryRowContext(ctx, "SELECT @@time_zone, @@sql_mode, @@"+iso+", @@innodb_lock_wait_timeout").Scan(&zone, &mode, &isolation, &wait); err != nil {
				t.Fatal(err)
			}
			if zone != "+00:00" || !strings.Contains(mode, "STRICT_ALL_TABLES") || isolation != "READ-COMMITTED" || wait != 2 {
				t.Errorf("a session has zone %s, mode %s, isolation %s, lock wait %d s", zone, mode, isolation, wait)
			}
			now, err := r.s.Now(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if off := time.Until(now.Time()); off.Abs() > time.Minute {
				t.Errorf("the clock is off by %s", off)
			}
			r.stock(t, "mug", 3)
			d := r.grant(t, cart("cart", line("mug", 1)))
			if ttl := d.Hold.ExpiresAt.Sub(d.Hold.CreatedAt); ttl != time.Hour {
				t.Errorf("a hold for an hour lives %s", ttl)
			}
		})
	}
}

// A neighbour whose statement has bytes that are no text keeps MySQL from showing its transactions. The store is set up all the same, and
// what its own COMMIT became is found out once that statement has ended.
func TestBytesOfANeighbour(t *testing.T) {
	onEach(t, func(t *testing.T, srv *lab.Server) {
		dsn := srv.NewDatabase(t)
		between, through := newRelay(t, dsn)
		r := live(t, through)
		r.stock(t, "mug", 10)
		db := raw(t, dsn)
		for _, q := range []string{"CREATE TABLE pictures (id INT PRIMARY KEY, body BLOB) ENGINE=InnoDB", "INSERT INTO pictures VALUES (1, '')"} {
			if _, err := db.ExecContext(r.ctx, q); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan error, 1)
		go func() {
			_, err := db.ExecContext(r.ctx, "UPDATE pictures SET body = ? WHERE id = 1 AND SLEEP(1) = 0", []byte("\x89\xff\xfe"))
			done <- err
		}()
		until(t, r.ctx, "the neighbour's statement to run", func() bool {
			var n int
			return db.QueryRowContext(r.ctx, "SELECT id FROM pictures WHERE id = 1 FOR UPDATE NOWAIT").Scan(&n) != nil
		})
		if err := r.s.Setup(r.ctx); err != nil {
			t.Errorf("set-up beside a statement with bytes: %v", err)
		}
		between.fate.Store(int32(lostReply))
		if d, err := r.s.Reserve(r.ctx, token, cart("new", line("mug", 2))); err != nil || d.Outcome != backends.OutcomeGranted {
			t.Errorf("a COMMIT that was lost beside it: %+v, %v", d, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
