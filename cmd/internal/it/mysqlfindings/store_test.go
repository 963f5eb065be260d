package mysqlfindings_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/findingstest"
	"github.com/crossfade-proxy/crossfade/comparator/mysqlfindings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(m)) }

// open makes a database with the tables, by the migrations of mysqlstore.
func open(t testing.TB, kind lab.Kind) *sql.DB {
	t.Helper()
	dsn := lab.ForTest(t, kind).NewDatabase(t)
	s, err := mysqlstore.Open(t.Context(), mysqlstore.Config{Pod: "one", DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Setup(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MultiStatements, cfg.InterpolateParams = true, true // as mysqlstore has it
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(4)
	return db
}

func TestSuite(t *testing.T) {
	for _, kind := range []lab.Kind{lab.MySQL, lab.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			findingstest.Exercise(t, func(t testing.TB) comparator.Store { return mysqlfindings.New(open(t, kind)) })
			findingstest.ExerciseBook(t, func(t testing.TB) comparator.ApologyBook { return mysqlfindings.New(open(t, kind)) })
			findingstest.ExerciseSheets(t, func(t testing.TB) comparator.Sheets { return mysqlfindings.New(open(t, kind)) })
			findingstest.ExerciseAudits(t, func(t testing.TB) comparator.AuditBook { return mysqlfindings.New(open(t, kind)) })
		})
	}
}

// Old sheets are removed by the server's clock, while a run writes its own: nobody waits for anybody.
func TestPruningSheetsWaitsForNoWriter(t *testing.T) {
	for _, kind := range []lab.Kind{lab.MySQL, lab.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			db := open(t, kind)
			s := mysqlfindings.New(db)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // far less than InnoDB waits for a lock
			defer cancel()
			for _, run := range []string{"r1", "r2", "r3"} {
				if err := s.PutSheet(ctx, comparator.Sheet{Pod: "one", Proxy: "p", Run: run, N: 1}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := db.ExecContext(ctx, "UPDATE crossfade_sheets SET written = written - ? WHERE run = ?", (61 * time.Minute).Microseconds(), "r2"); err != nil {
				t.Fatal(err)
			}
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }()
			if _, err := tx.ExecContext(ctx, "UPDATE crossfade_sheets SET n = 2 WHERE pod = ? AND proxy = ? AND run IN (?, ?)", "one", "p", "r1", "r3"); err != nil {
				t.Fatal(err)
			}
			if n, err := s.PruneSheets(ctx, "one", time.Hour, 10); err != nil || n != 1 {
				t.Errorf("%v: %d sheets were removed", err, n)
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			left, err := s.Sheets(ctx, "one", 24*time.Hour, nil)
			if err != nil || len(left) != 2 || left[0].Run != "r1" || left[1].Run != "r3" {
				t.Errorf("%v: left %+v", err, left)
			}
		})
	}
}

// texts is where the files of statements are, which the package embeds.
const texts = "../../../../comparator/mysqlfindings/sql/"

// statement is a named one of the file, with each repeated part once.
func statement(t *testing.T, name string) string {
	t.Helper()
	var all string
	for _, file := range []string{"findings.sql", "apologies.sql", "tallies.sql", "audits.sql"} {
		b, err := os.ReadFile(texts + file)
		if err != nil {
			t.Fatal(err)
		}
		all += string(b)
	}
	_, text, ok := strings.Cut(all, "-- name: "+name+"\n")
	if !ok {
		t.Fatalf("no statement is called %s", name)
	}
	text, _, _ = strings.Cut(text, "-- name: ")
	text = regexp.MustCompile(`(?m)^--.*$`).ReplaceAllString(text, "")
	text = regexp.MustCompile(`\[\[(.*?)\|[^|]*\]\]`).ReplaceAllString(text, "$1")
	return strings.TrimRight(strings.TrimSpace(text), ";")
}

// Every statement uses the index that its comment names, on both dialects.
func TestPlans(t *testing.T) {
	const pod, since = "one", 900
	for _, kind := range []lab.Kind{lab.MySQL, lab.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			db := open(t, kind)
			fill(t, db)
			list := statement(t, "finding_list")
			end := " " + statement(t, "finding_list_end")
			for _, c := range []struct {
				name, query, index string
				args               []any
			}{
				{"finding_lock", statement(t, "finding_lock"), "PRIMARY", []any{pod, "f1"}},
				{"finding_update", statement(t, "finding_update"), "PRIMARY", []any{"quantity", "open", 1, 1, 1, 1, "", "", "x", pod, "f1"}},
				{"finding_read", statement(t, "finding_read"), "PRIMARY", []any{pod, "f1"}},
				{"finding_list", list + end, "seen", []any{pod, since, 10}},
				{"finding_list with conditions", list + " " + statement(t, "finding_list_classes") + " " + statement(t, "finding_list_lives") + end, "seen", []any{pod, since, "quantity", "open", 10}},
				{"finding_list behind a cursor", list + " " + statement(t, "finding_list_subject") + " " + statement(t, "finding_list_after") + end, "seen", []any{pod, since, "\tmug\n", since + 50, since + 50, "f5", 10}},
				{"finding_summary", statement(t, "finding_summary"), "seen", []any{pod, since}},
				{"finding_excuses", statement(t, "finding_excuses"), "seen", []any{pod, since}},
				{"finding_prune", statement(t, "finding_prune"), "seen", []any{pod, 100, 10}},
				{"apology_list", statement(t, "apology_list") + " " + statement(t, "apology_list_open") + " " + statement(t, "apology_list_after") + " " + statement(t, "apology_list_end"), "oldest", []any{pod, since, since, "f5", 10}},
				{"apology_lock", statement(t, "apology_lock"), "PRIMARY", []any{pod, "f5"}},
				{"apology_ack", statement(t, "apology_ack"), "PRIMARY", []any{1, "ann", 1, "x", pod, "f5"}},
				{"coverage_sum", statement(t, "coverage_sum"), "PRIMARY", []any{pod, since}},
				{"tally_read", statement(t, "tally_read"), "PRIMARY", []any{pod, since, 10}},
				{"tally_prune", statement(t, "tally_prune"), "PRIMARY", []any{pod, 10, 10}},
				{"trend_first", statement(t, "trend_first"), "PRIMARY", []any{pod, since}},
				{"trend_findings", statement(t, "trend_findings"), "seen", []any{60, pod, since}},
				{"coverage_prune", statement(t, "coverage_prune"), "PRIMARY", []any{pod, 10, 10}},
				{"sheet_heads", statement(t, "sheet_heads"), "PRIMARY", []any{pod, 1000000}},
				{"sheet_read", statement(t, "sheet_read"), "PRIMARY", []any{pod, "p", "r1"}},
				{"sheet_old", statement(t, "sheet_old"), "PRIMARY", []any{pod, 1000000, 10}},
				{"audit_read", statement(t, "audit_read"), "PRIMARY", []any{pod}},
				{"audit_take", statement(t, "audit_take"), "PRIMARY", []any{"p", 1, pod}},
				{"audit_keep", statement(t, "audit_keep"), "PRIMARY", []any{1, 1, pod, 1}},
				{"audit_go_on", statement(t, "audit_go_on"), "PRIMARY", []any{"x", 1, 1, pod, 1}},
				{"audit_end", statement(t, "audit_end"), "PRIMARY", []any{"x", 1, 1, pod, 1}},
				{"audit_fail", statement(t, "audit_fail"), "PRIMARY", []any{"x", 1, 1, pod, 1}},
				{"sheet_prune", statement(t, "sheet_prune"), "PRIMARY", []any{pod, "p", "r1", 1000000}},
			} {
				if got := plan(t, db, c.query, c.args...); got != c.index {
					t.Errorf("%s uses index %q, want %q", c.name, got, c.index)
				}
			}
		})
	}
}

// fill makes the tables large enough for an optimiser to prefer an index.
func fill(t *testing.T, db *sql.DB) {
	t.Helper()
	const n = 1000
	for _, q := range []string{
		"INSERT INTO crossfade_findings SELECT ?, CONCAT('f', seq.n), 'quantity', 'open', 1, 1, seq.n, seq.n, REPEAT('x', 200), '\tmug\n', '' FROM ",
		"INSERT INTO crossfade_apology_book (pod, id, hold, shop, item, location, quantity, reason, at, redis, mysql) SELECT ?, CONCAT('f', seq.n), 'h', 's', 'i', 'l', 1, 'r', seq.n, 1, 0 FROM ",
		"INSERT INTO crossfade_tallies SELECT ?, seq.n, 'p', 'r', 1, 'plentiful', 1, 1, 0, 'x' FROM ",
		"INSERT INTO crossfade_coverage SELECT ?, seq.n, 'p', 'r', 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM ",
		"INSERT INTO crossfade_audits (pod, holder) SELECT CONCAT(?, seq.n), 'p' FROM ",
		"INSERT INTO crossfade_sheets SELECT ?, 'p', CONCAT('r', seq.n), 1, seq.n, 'x' FROM ",
	} {
		digits := "(SELECT 0 AS d" + strings.Repeat(" UNION ALL SELECT ?", 9) + ")"
		from := "(SELECT a.d*100 + b.d*10 + c.d AS n FROM " + digits + " a, " + digits + " b, " + digits + " c) seq"
		for _, pod := range []string{"one", "two"} {
			args := []any{pod}
			for range 3 {
				for d := 1; d < 10; d++ {
					args = append(args, d)
				}
			}
			if _, err := db.ExecContext(context.Background(), q+from, args...); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := db.ExecContext(context.Background(), "INSERT INTO crossfade_audits (pod, n) VALUES (?, 1)", "one"); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"crossfade_findings", "crossfade_coverage", "crossfade_apology_book", "crossfade_tallies"} {
		if _, err := db.ExecContext(context.Background(), "ANALYZE TABLE "+table); err != nil {
			t.Fatal(err)
		}
		var rows int
		if err := db.QueryRowContext(context.Background(), "SELECT COUNT(*) FROM "+table).Scan(&rows); err != nil || rows != 2*n {
			t.Fatalf("%d rows, %v", rows, err)
		}
	}
}

// plan is the index of the only table.
func plan(t *testing.T, db *sql.DB, query string, args ...any) string {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), "EXPLAIN FORMAT=TRADITIONAL "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	if !rows.Next() {
		t.Fatal("no plan")
	}
	vals := make([]sql.NullString, len(cols))
	ptrs := make([]any, len(cols))
	for i := range vals {
		ptrs[i] = &vals[i]
	}
	if err := rows.Scan(ptrs...); err != nil {
		t.Fatal(err)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for i, c := range cols {
		if c == "key" {
			return vals[i].String
		}
	}
	t.Fatal("the plan names no key")
	return ""
}
