package mysqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// sqlDir is where the store keeps its statements.
const sqlDir = "../../../../backends/mysqlstore/sql"

// locks tells whether a statement locks rows that it has to find.
func locks(text string) bool {
	return strings.Contains(text, "FOR UPDATE") || strings.Contains(text, "LOCK IN SHARE MODE") ||
		strings.HasPrefix(text, "UPDATE ") || strings.HasPrefix(text, "DELETE ")
}

// lockingStatements are the patterns of the statements in sqlDir that lock, by name.
func lockingStatements(t *testing.T) map[string]*regexp.Regexp {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(sqlDir, "*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the store's statements are not in %s: %v", sqlDir, err)
	}
	out := map[string]*regexp.Regexp{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range strings.Split(string(text), "-- name: ")[1:] {
			name, rest, _ := strings.Cut(block, "\n")
			var lines []string
			for line := range strings.Lines(rest) {
				if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
					lines = append(lines, line)
				}
			}
			if s := strings.TrimSuffix(strings.Join(lines, " "), ";"); locks(s) {
				out[name] = pattern(s)
			}
		}
	}
	return out
}

// literal matches a value as the driver writes it.
const literal = `(?:(?:_binary)?'(?:[^'\\]|\\.|'')*'|-?[0-9]+|NULL)`

// pattern turns a statement of sqlDir into what it looks like when it is sent.
func pattern(s string) *regexp.Regexp {
	l := mysqlstore.OwnLedger
	q := func(n string) string { return "`" + n + "`" }
	s = strings.NewReplacer("{ledger}", q(l.Table), "{on_hand}", q(l.OnHand),
		"{key}", fmt.Sprintf("%s = ? AND %s = ? AND %s = ? AND %s = ?", q(l.Pod), q(l.Shop), q(l.Item), q(l.Location))).Replace(s)
	values := func(s string) string {
		return strings.ReplaceAll(regexp.QuoteMeta(s), `\?`, literal)
	}
	head, rest, repeats := strings.Cut(s, "[[")
	if !repeats {
		return regexp.MustCompile("^" + values(s) + "$")
	}
	part, tail, _ := strings.Cut(rest, "]]")
	i := strings.LastIndexByte(part, '|')
	elem := values(part[:i])
	return regexp.MustCompile("^" + values(head) + elem + "(?:" + regexp.QuoteMeta(part[i+1:]) + elem + ")*" + values(tail) + "$")
}

// logged are the statements that the server was sent while f ran. The server is one of our own.
func logged(t *testing.T, ctx context.Context, db *sql.DB, f func()) (out []string) { //nolint:revive // t is first as everywhere here
	t.Helper()
	for _, q := range []string{"SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 'ON'"} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	f()
	if _, err := db.ExecContext(ctx, "SET GLOBAL general_log = 'OFF'"); err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(ctx, "SELECT argument FROM mysql.general_log WHERE command_type = 'Query' ORDER BY event_time")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		out = append(out, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return single(out)
}

// single parts what travelled in one packet, which MariaDB logs as a whole and then in parts.
func single(sent []string) (out []string) {
	const between = "; /* conn_tag:"
	for _, q := range sent {
		for i, part := range strings.Split(q, between) {
			if i > 0 {
				part = strings.TrimPrefix(between, "; ") + part
			}
			out = append(out, strings.TrimSuffix(part, ";"))
		}
	}
	return out
}

var tag = regexp.MustCompile(`^/\* conn_tag:([^ ]+) \*/ `)

// everyStatement is a scenario in which the store sends each statement that locks, on tables
// that are large enough for a plan to matter.
func everyStatement(t *testing.T, ctx context.Context, dsn string) { //nolint:revive // t is first as everywhere here
	t.Helper()
	r := rig{open(t, dsn), ctx}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r.raise(t, backends.Live)
	for i := range 30 {
		r.stock(t, backends.Item(fmt.Sprintf("item-%02d", i)), 200)
	}
	for i := range 100 {
		r.grant(t, cart(fmt.Sprintf("hold-%03d", i), line(backends.Item(fmt.Sprintf("item-%02d", i%30)), 1), line(backends.Item(fmt.Sprintf("item-%02d", (i+1)%30)), 2)))
	}
	db := raw(t, dsn)
	for _, table := range []string{"holds", "units", "levels", "outbox", "ops", "ledger"} {
		var a, b, c, d string
		ok(db.QueryRowContext(ctx, "ANALYZE TABLE crossfade_"+table).Scan(&a, &b, &c, &d))
	}
	_, err := r.s.Count(ctx, token, &backends.CountRequest{OpID: "take", Key: key("item-03"), Delta: -2})
	ok(err)
	_, err = r.s.Claim(ctx, token, &backends.ClaimRequest{ID: "hold-001"})
	ok(err)
	_, err = r.s.Release(ctx, token, &backends.ReleaseRequest{ID: "hold-002"})
	ok(err)
	_, err = r.s.Claim(ctx, token, &backends.ClaimRequest{ID: "hold-002"}) // late
	ok(err)
	_, err = r.s.Extend(ctx, token, &backends.ExtendRequest{ID: "hold-003", TTL: time.Hour})
	ok(err)
	_, err = r.s.Reserve(ctx, token, cart("several", line("item-07", 9), line("item-08", 9)))
	ok(err)
	_, err = r.s.Reserve(ctx, token, cart("large", line("item-04", 190)))
	ok(err)
	_, err = r.s.Reemit(ctx, token, []backends.HoldID{"hold-004", "hold-005", "nobody"})
	ok(err)
	_, err = r.s.ReemitLevels(ctx, token, []backends.Key{key("item-05"), key("item-06")})
	ok(err)
	ok(r.s.EndBackfill(ctx, token, 0))
	es, err := r.s.Pending(ctx, "", 0, 3)
	ok(err)
	_, err = r.s.Done(ctx, []string{es[0].Seq, es[1].Seq, es[2].Seq})
	ok(err)
	// An outbox that is full, so that its slots are there.
	small := open(t, dsn, func(c *mysqlstore.Config) { c.OutboxMax = 1 })
	_, err = small.Extend(ctx, token, &backends.ExtendRequest{ID: "hold-006", TTL: time.Hour})
	ok(err)
	// Upkeep with hardly a memory.
	brief := open(t, dsn, func(c *mysqlstore.Config) { c.Retain = time.Millisecond })
	until(t, ctx, "operations and holds to be purged", func() bool {
		_, err := brief.Maintain(ctx, token)
		ok(err)
		h, err := brief.Get(ctx, "hold-002")
		ok(err)
		return h == nil
	})
	next := backends.Token{Epoch: epoch + 1}
	_, err = r.s.Raise(ctx, backends.Fence{Epoch: next.Epoch, Stage: backends.Shadow, Open: true}, 0)
	ok(err)
	now, err := r.s.Now(ctx)
	ok(err)
	h := &backends.Hold{ID: "mirrored", Shop: shop, Lines: []backends.Line{line("item-07", 2)}, Allocs: []backends.Allocation{{Location: east, Quantity: 2}}, State: backends.Held, Version: backends.Version{Epoch: next.Epoch, N: 1}}
	ch := backends.LevelChange{Key: key("item-08"), OpID: "mirrored", OnHandDelta: 4}
	again := ch
	again.OnHandDelta = 3
	for _, e := range []backends.Entry{{Op: backends.OpReserve, Hold: h}, {Op: backends.OpRestock, Level: &ch}, {Op: backends.OpReemit, Level: &again}} {
		out, err := r.s.Apply(ctx, next, now, []backends.Entry{e})
		ok(err)
		ok(out[0].Err)
	}
}

// plan is a row of EXPLAIN.
type plan struct {
	table, access, key, extra string
	rows                      int64
}

func explain(t *testing.T, ctx context.Context, db *sql.DB, q string, kind lab.Kind) (out []plan) { //nolint:revive // t is first as everywhere here
	t.Helper()
	verb := "EXPLAIN "
	if kind == lab.MySQL {
		verb = "EXPLAIN FORMAT=TRADITIONAL "
	}
	rows, err := db.QueryContext(ctx, verb+q)
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		vals := make([]sql.NullString, len(cols))
		ptrs := make([]any, len(cols))
		for i := range vals {
			ptrs[i] = &vals[i]
		}
		if err := rows.Scan(ptrs...); err != nil {
			t.Fatal(err)
		}
		get := func(name string) string { return vals[slices.Index(cols, name)].String }
		n, _ := strconv.ParseInt(get("rows"), 10, 64) // NULL for a constant
		out = append(out, plan{get("table"), get("type"), get("key"), get("Extra"), n})
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPlansOfLocks: on both dialects every statement that locks finds its rows by the primary key,
// and reads no more of them than it names, or than a pool has: on tables with some thousand rows,
// and on tables with hardly any, where the optimizers are tempted to read them whole, waiting for
// whatever others have locked there.
func TestPlansOfLocks(t *testing.T) {
	for _, kind := range servers {
		t.Run(string(kind), func(t *testing.T) {
			srv := lab.Private(t, kind)
			ctx := testContext(t)
			dsn := srv.NewDatabase(t)
			db := raw(t, dsn)
			tiny := srv.NewDatabase(t)
			small := live(t, tiny)
			small.stock(t, "item-01", 2)
			small.grant(t, cart("hold-001", line("item-01", 1)))
			dbs := map[string]*sql.DB{"large": db, "tiny": raw(t, tiny)}
			sent := logged(t, ctx, db, func() { everyStatement(t, ctx, dsn) })
			want := lockingStatements(t)
			seen := map[string]int{}
			for _, q := range sent {
				q = tag.ReplaceAllString(q, "")
				if !locks(q) {
					continue
				}
				name := ""
				for n, p := range want {
					if p.MatchString(q) {
						name = n
					}
				}
				if name == "" {
					if strings.Contains(q, "crossfade_") && !strings.HasPrefix(q, "CREATE") {
						t.Errorf("a statement that locks and is not in %s: %s", sqlDir, q)
					}
					continue
				}
				const samples = 25 // of one statement, with different values
				if seen[name]++; seen[name] > samples {
					continue
				}
				for size, db := range dbs {
					for _, p := range explain(t, ctx, db, q, kind) {
						if bad := badPlan(name, p); bad != "" {
							t.Errorf("%s %s on %s tables: %+v\n%.2000s", name, bad, size, p, q)
						}
					}
				}
			}
			for name := range want {
				if seen[name] == 0 {
					t.Errorf("the scenario never sent %s", name)
				}
			}
		})
	}
}

// badPlan says what is wrong with a plan.
func badPlan(name string, p plan) string {
	const aPool = 1000 // rows that the pool of one key has at most
	named := int64(500)
	if strings.HasPrefix(name, "units_") {
		named = aPool
	}
	switch {
	case strings.HasPrefix(p.table, "<union"), strings.HasPrefix(p.table, "<derived"), p.table == "" && p.access == "": // the union itself; a list of values; a constant that is not there
		return ""
	case !slices.Contains([]string{"const", "eq_ref", "ref", "range", "system"}, p.access):
		return "scans"
	case p.key != "PRIMARY":
		return "uses another key"
	case p.rows > named:
		return "reads too many rows"
	case strings.Contains(p.extra, "filesort"), strings.Contains(p.extra, "temporary"):
		return "sorts"
	}
	return ""
}

// TestStatementsAreTagged: every statement says on whose behalf it is.
func TestStatementsAreTagged(t *testing.T) {
	for _, kind := range servers {
		t.Run(string(kind), func(t *testing.T) {
			srv := lab.Private(t, kind)
			ctx := testContext(t)
			dsn := srv.NewDatabase(t)
			db := raw(t, dsn)
			held := map[string]time.Duration{}
			var sent []string
			ready := live(t, dsn, func(c *mysqlstore.Config) {
				c.MaxConns = 1 // so that Observe is called by one goroutine at a time
				c.Observe = func(tag, op string, d time.Duration) { held[tag+" "+op] += d }
			})
			sent = logged(t, ctx, db, func() {
				ready.stock(t, "mug", 10)
				ready.grant(t, cart("cart", line("mug", 1)))
			})
			tags := map[string]int{}
			for _, q := range sent {
				m := tag.FindStringSubmatch(q)
				if m == nil && !strings.HasPrefix(q, "SET GLOBAL") {
					t.Errorf("a statement without a tag: %s", q)
				}
				if m != nil {
					tags[m[1]]++
				}
			}
			if tags["checkout"] == 0 || tags["restock"] == 0 {
				t.Errorf("the statements of a cart by checkout and of a restock are tagged %v", tags)
			}
			if held["checkout reserve"] <= 0 || held["restock restock"] <= 0 {
				t.Errorf("connections were held as %v", held)
			}
		})
	}
}
