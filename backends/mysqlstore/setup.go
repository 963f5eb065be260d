package mysqlstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/crossfade-proxy/crossfade/backends"
)

// migrationFiles are named NNNN_what.sql; a file for one dialect ends in .mysql.sql or
// .mariadb.sql and takes the place of the plain one. A new file is all that a new version needs.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrationPatience is how long, in seconds, a proxy waits for another that migrates.
const migrationPatience = 20

// The oldest servers that have what the store needs (SKIP LOCKED).
var (
	oldestMySQL   = version{8, 0, 1}
	oldestMariaDB = version{10, 6, 0}
)

type version [3]int

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// parseVersion reads the dotted number that a server's version begins with.
func parseVersion(s string) (v version) {
	if i := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		s = s[:i]
	}
	for i, part := range strings.SplitN(s, ".", 3) {
		v[i], _ = strconv.Atoi(part) // digits only, so too large at worst: 0, and refused
	}
	return v
}

// migration is one step of the schema.
type migration struct {
	version int
	name    string
	text    string
}

// migrationsFor lists the steps of a dialect, in order.
func migrationsFor(files fs.FS, maria bool) ([]migration, error) {
	paths, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	mine, other := ".mysql", ".mariadb"
	if maria {
		mine, other = other, mine
	}
	byVersion := map[int]migration{}
	for _, p := range paths {
		name := strings.TrimSuffix(path.Base(p), ".sql")
		number, _, _ := strings.Cut(name, "_")
		v, err := strconv.Atoi(number)
		if err != nil || v < 1 {
			return nil, fmt.Errorf("migration %s: its name has to begin with its number", p)
		}
		if strings.HasSuffix(name, other) {
			continue
		}
		if had, ok := byVersion[v]; ok && strings.HasSuffix(had.name, mine) {
			continue // the dialect's own goes before the plain one
		} else if ok && !strings.HasSuffix(name, mine) {
			return nil, fmt.Errorf("migrations %s and %s have one number", had.name, name)
		}
		text, err := fs.ReadFile(files, p)
		if err != nil {
			return nil, err
		}
		byVersion[v] = migration{version: v, name: name, text: string(text)}
	}
	out := make([]migration, 0, len(byVersion))
	for _, m := range byVersion {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b migration) int { return cmp.Compare(a.version, b.version) })
	for i, m := range out {
		if m.version != i+1 {
			return nil, fmt.Errorf("migration %d is missing", i+1)
		}
	}
	return out, nil
}

// steps splits a migration at semicolons that end a line, without its comments.
func (m migration) steps() (out []string) {
	var b strings.Builder
	for line := range strings.Lines(m.text) {
		line = strings.TrimRight(line, " \t\r\n")
		if t := strings.TrimSpace(line); t == "" || strings.HasPrefix(t, "--") {
			continue
		}
		b.WriteString(line)
		b.WriteByte('\n')
		if strings.HasSuffix(line, ";") {
			out = append(out, strings.TrimSuffix(strings.TrimSpace(b.String()), ";"))
			b.Reset()
		}
	}
	if rest := strings.TrimSpace(b.String()); rest != "" {
		out = append(out, rest)
	}
	return out
}

// Setup checks the server, brings the schema to this version, and checks the ledger.
func (s *Store) Setup(ctx context.Context) error {
	if s.closed.Load() {
		return fmt.Errorf("%w: the store is closed", backends.ErrUnavailable)
	}
	c, err := s.open(ctx, s.admin, "setup")
	if err != nil {
		return undone(err)
	}
	defer c.free()
	maria, err := s.checkServer(ctx, c)
	if err != nil {
		return err
	}
	if err := s.migrate(ctx, c, maria); err != nil {
		return err
	}
	if err := checkTables(ctx, c, maria); err != nil {
		return err
	}
	return s.checkLedger(ctx, c)
}

// unfit is an ErrSetup with its next step.
func unfit(format string, args ...any) error {
	return fmt.Errorf("%w: %w", backends.ErrSetup, fmt.Errorf(format, args...))
}

func (s *Store) checkServer(ctx context.Context, c *session) (maria bool, err error) {
	var text, format string
	var binlog, readOnly, noEngine bool
	err = c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&text, &binlog, &format, &readOnly) },
		"SELECT VERSION(), @@GLOBAL.log_bin, @@SESSION.binlog_format, @@GLOBAL.read_only")
	if classify(err) == faultOther && err != nil {
		// A server that has no variable binlog_format any more has ROW.
		err = c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&text, &binlog, &readOnly) }, "SELECT VERSION(), @@GLOBAL.log_bin, @@GLOBAL.read_only")
	}
	if err != nil {
		return false, undone(err)
	}
	maria = strings.Contains(strings.ToLower(text), "mariadb")
	v, oldest := parseVersion(text), oldestMySQL
	if maria {
		oldest = oldestMariaDB
	}
	switch {
	case slices.Compare(v[:], oldest[:]) < 0:
		return maria, unfit("the server is version %s; Crossfade needs %s or newer (SKIP LOCKED); upgrade it", text, oldest)
	case binlog && format == "STATEMENT":
		return maria, unfit("binlog_format is STATEMENT, with which READ COMMITTED cannot write; set it to ROW")
	case readOnly:
		return maria, unfit("the server is read-only; point the pod at the primary, or SET GLOBAL read_only = OFF")
	}
	err = c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&noEngine) },
		"SELECT COUNT(*) = 0 FROM information_schema.engines WHERE engine = 'InnoDB' AND support IN ('YES', 'DEFAULT')")
	if err == nil && noEngine {
		return maria, unfit("the server has no InnoDB; enable it")
	}
	if err != nil {
		return maria, undone(err)
	}
	return maria, s.checkRights(ctx, c, maria)
}

// checkRights makes sure that a fence can find who blocks it and a COMMIT can be settled.
func (s *Store) checkRights(ctx context.Context, c *session, maria bool) error {
	need := []string{"SELECT COUNT(*) FROM information_schema.innodb_trx"}
	grant := "GRANT PROCESS ON *.* to the user"
	if maria {
		need = append(need, "SELECT COUNT(*) FROM information_schema.innodb_lock_waits")
	} else {
		need = append(need, "SELECT COUNT(*) FROM performance_schema.data_lock_waits", "SELECT COUNT(*) FROM performance_schema.threads")
		grant += ", and SELECT ON performance_schema.*"
		on := false
		if err := c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&on) }, "SELECT @@GLOBAL.performance_schema"); err != nil {
			return undone(err)
		}
		if !on {
			return unfit("performance_schema is off, and with it the lists of who waits for whom, which raising a fence needs; start the server with it on")
		}
	}
	for _, q := range need {
		err := c.ask(ctx, func(r *sql.Rows) error {
			var n int64
			return r.Scan(&n)
		}, q)
		switch {
		case isUnreadable(err): // he may see it
		case err != nil && classify(err) == faultSetup:
			return unfit("the user may not see who holds a lock (%w), which raising a fence needs; %s", err, grant)
		case err != nil:
			return undone(err)
		}
	}
	return nil
}

// migrate brings the schema to the newest version. One proxy does it, others wait.
func (s *Store) migrate(ctx context.Context, c *session, maria bool) error {
	steps, err := migrationsFor(migrationFiles, maria)
	if err != nil {
		return err
	}
	if have, err := schemaVersion(ctx, c); err != nil {
		return undone(err)
	} else if have == len(steps) {
		return nil // the usual case takes no lock
	}
	release, err := s.migrationLock(ctx, c)
	if err != nil {
		return err
	}
	defer release()
	err = c.run(ctx, "CREATE TABLE IF NOT EXISTS crossfade_schema (version INT UNSIGNED NOT NULL, name VARBINARY(128) NOT NULL, applied TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (version)) ENGINE=InnoDB")
	if err != nil {
		return undone(err)
	}
	have, err := schemaVersion(ctx, c)
	if err != nil {
		return undone(err)
	}
	if have > len(steps) {
		return unfit("the schema is version %d, this crossfade knows %d; run a newer crossfade, or point the pod at another database", have, len(steps))
	}
	for _, m := range steps[have:] {
		for _, q := range m.steps() {
			if err := c.run(ctx, q); err != nil && !done(err) {
				return fmt.Errorf("migration %s: %w", m.name, undone(err))
			}
		}
		if err := c.run(ctx, "INSERT INTO crossfade_schema (version, name) VALUES (?, ?)", m.version, m.name); err != nil {
			return fmt.Errorf("migration %s: %w", m.name, undone(err))
		}
	}
	return nil
}

// done tells whether a step of a migration was taken by one that was broken off: the servers commit
// each change of the schema by itself.
func done(err error) bool {
	const tableExists, duplicateColumn, duplicateKey = 1050, 1060, 1061
	var me *mysql.MySQLError
	return errors.As(err, &me) && (me.Number == tableExists || me.Number == duplicateColumn || me.Number == duplicateKey)
}

// schemaVersion is 0 where there is no schema.
func schemaVersion(ctx context.Context, c *session) (v int, err error) {
	there := false
	err = c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&there) },
		"SELECT COUNT(*) > 0 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'crossfade_schema'")
	if err != nil || !there {
		return 0, err
	}
	err = c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&v) }, "SELECT COALESCE(MAX(version), 0) FROM crossfade_schema")
	return v, err
}

// migrationLock is a named lock of the server, one for each database.
func (s *Store) migrationLock(ctx context.Context, c *session) (release func(), err error) {
	var db string
	var got sql.NullInt64
	err = c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&db) }, "SELECT DATABASE()")
	if err != nil {
		return nil, undone(err)
	}
	sum := sha256.Sum256([]byte(db))
	name := "crossfade:" + hex.EncodeToString(sum[:16])
	err = c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&got) }, "SELECT GET_LOCK(?, ?)", name, migrationPatience)
	switch {
	case err != nil:
		return nil, undone(err)
	case got.Int64 != 1:
		return nil, fmt.Errorf("%w: another proxy has been migrating the schema for %d seconds", backends.ErrBusy, migrationPatience)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackPatience)
		defer cancel()
		if err := c.run(ctx, "DO RELEASE_LOCK(?)", name); err != nil {
			c.drop() // which releases it
		}
	}, nil
}

// checkLedger makes our own ledger, or makes sure that the one named is fit: its key unique, its
// columns compared byte for byte.
func (s *Store) checkLedger(ctx context.Context, c *session) error {
	l := s.cfg.Ledger
	if l == OwnLedger {
		if err := c.run(ctx, s.ledger.create); err != nil {
			return undone(err)
		}
		return nil
	}
	schema, table, ok := strings.Cut(l.Table, ".")
	if !ok {
		schema, table = "", l.Table
	}
	collations := map[string]string{}
	err := c.ask(ctx, func(r *sql.Rows) error {
		var name, collation string
		err := r.Scan(&name, &collation)
		collations[strings.ToLower(name)] = collation
		return err
	}, "SELECT column_name, COALESCE(collation_name, 'binary') FROM information_schema.columns WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND table_name = ?", schema, table)
	if err != nil {
		return undone(err)
	}
	if len(collations) == 0 {
		return unfit("there is no ledger table %s; name the one that is there, or none for a table of Crossfade's own", l.Table)
	}
	key := []string{l.Shop, l.Item, l.Location}
	if l.Pod != "" {
		key = append(key, l.Pod)
	}
	for _, col := range append([]string{l.OnHand}, key...) {
		collation, there := collations[strings.ToLower(col)]
		switch {
		case !there:
			return unfit("the ledger %s has no column %s; name its columns in the configuration", l.Table, col)
		case collation != "binary" && !strings.HasSuffix(collation, "_bin"):
			return unfit("column %s of the ledger %s compares by %s, which takes different ids for one; change it to a _bin collation", col, l.Table, collation)
		}
	}
	return s.checkLedgerKey(ctx, c, schema, table, key)
}

func (s *Store) checkLedgerKey(ctx context.Context, c *session, schema, table string, key []string) error {
	indexes := map[string][]string{}
	err := c.ask(ctx, func(r *sql.Rows) error {
		var index, column string
		err := r.Scan(&index, &column)
		indexes[index] = append(indexes[index], strings.ToLower(column))
		return err
	}, "SELECT index_name, column_name FROM information_schema.statistics WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND table_name = ? AND non_unique = 0 ORDER BY index_name, seq_in_index", schema, table)
	if err != nil {
		return undone(err)
	}
	want := make([]string, len(key))
	for i, k := range key {
		want[i] = strings.ToLower(k)
	}
	slices.Sort(want)
	for _, cols := range indexes {
		if slices.Sort(cols); slices.Equal(cols, want) {
			return nil
		}
	}
	return unfit("the ledger %s has no primary or unique key of exactly %s; add one, or each change of stock would lock the whole table", s.cfg.Ledger.Table, strings.Join(key, ", "))
}
