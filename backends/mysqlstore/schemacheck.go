package mysqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// table is what the migrations say of one table.
type table struct {
	columns map[string]string // their types, as plainType writes them
	key     []string          // the primary key's columns, in order
}

var (
	createsTable = regexp.MustCompile(`^CREATE TABLE (?:IF NOT EXISTS )?(\w+) \(`)
	addsColumn   = regexp.MustCompile(`^ALTER TABLE (\w+) ADD COLUMN (.*)$`)
	primaryKey   = regexp.MustCompile(`^PRIMARY KEY \(([^)]*)\)`)
	columnType   = regexp.MustCompile(`^(\w+) +(\w+(?:\(\d+\))?(?: UNSIGNED)?)`)
	notAColumn   = regexp.MustCompile(`^(PRIMARY|UNIQUE|KEY|\))`)
	intWidth     = regexp.MustCompile(`int\(\d+\)`)
)

// plainType is a column's type as both dialects and the migrations mean it: without the widths that MariaDB gives integers.
func plainType(t string) string { return intWidth.ReplaceAllString(strings.ToLower(t), "int") }

// tablesOf reads the migrations: one column a line, as the house writes them.
func tablesOf(ms []migration) map[string]*table {
	all := map[string]*table{}
	for _, m := range ms {
		for _, step := range m.steps() {
			if a := addsColumn.FindStringSubmatch(step); a != nil && all[a[1]] != nil {
				all[a[1]].column(a[2])
			}
			c := createsTable.FindStringSubmatch(step)
			if c == nil {
				continue
			}
			t := &table{columns: map[string]string{}}
			all[c[1]] = t
			for line := range strings.Lines(step[len(c[0]):]) {
				t.line(strings.TrimSpace(line))
			}
		}
	}
	return all
}

func (t *table) line(l string) {
	if k := primaryKey.FindStringSubmatch(l); k != nil {
		t.key = strings.Split(strings.ReplaceAll(k[1], " ", ""), ",")
	} else if !notAColumn.MatchString(l) {
		t.column(l)
	}
}

func (t *table) column(l string) {
	if c := columnType.FindStringSubmatch(l); c != nil {
		t.columns[c[1]] = plainType(c[2])
	}
}

// checkTables makes sure that what the schema's version says is there: somebody may have restored a part of it, changed a
// column, or helped a query of his own with an index on the units, where each reserve would lock as many rows as
// there are indexes (P8). Columns and indexes of others on the other tables are theirs.
func checkTables(ctx context.Context, c *session, maria bool) error {
	steps, err := migrationsFor(migrationFiles, maria)
	if err != nil {
		return err
	}
	have, err := tablesThere(ctx, c)
	if err != nil {
		return err
	}
	want := tablesOf(steps)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w, h := want[name], have[name]
		if h == nil {
			return unfit("the schema is version %d and has no InnoDB table %s; restore it, or give the pod another database", len(steps), name)
		}
		for _, col := range slices.Sorted(maps.Keys(w.columns)) {
			if h.columns[col] != w.columns[col] {
				return unfit("column %s of table %s is %s, not %s; change it back, or give the pod another database",
					col, name, cmp.Or(h.columns[col], "not there"), w.columns[col])
			}
		}
		if !slices.Equal(h.key, w.key) {
			return unfit("the primary key of table %s is (%s), not (%s): rows would be locked that are not meant; change it back, or give the pod another database",
				name, strings.Join(h.key, ", "), strings.Join(w.key, ", "))
		}
	}
	var index sql.NullString
	err = c.ask(ctx, func(r *sql.Rows) error { return r.Scan(&index) },
		"SELECT MAX(index_name) FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = 'crossfade_units' AND index_name <> 'PRIMARY'")
	switch {
	case err != nil:
		return undone(err)
	case index.Valid:
		return unfit("crossfade_units has an index %s besides its primary key, so that each unit takes more than one lock; drop it", index.String)
	}
	return nil
}

// tablesThere reads Crossfade's InnoDB tables.
func tablesThere(ctx context.Context, c *session) (map[string]*table, error) {
	have := map[string]*table{}
	err := c.ask(ctx, func(r *sql.Rows) error {
		var name, column, kind string
		err := r.Scan(&name, &column, &kind)
		if name = strings.ToLower(name); have[name] == nil {
			have[name] = &table{columns: map[string]string{}}
		}
		have[name].columns[strings.ToLower(column)] = plainType(kind)
		return err
	}, "SELECT c.table_name, c.column_name, c.column_type FROM information_schema.columns c "+
		"JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name "+
		"WHERE c.table_schema = DATABASE() AND c.table_name LIKE 'crossfade%' AND t.engine = 'InnoDB'")
	if err != nil {
		return nil, undone(err)
	}
	err = c.ask(ctx, func(r *sql.Rows) error {
		var name, column string
		err := r.Scan(&name, &column)
		if t := have[strings.ToLower(name)]; t != nil {
			t.key = append(t.key, strings.ToLower(column))
		}
		return err
	}, "SELECT table_name, column_name FROM information_schema.statistics "+
		"WHERE table_schema = DATABASE() AND table_name LIKE 'crossfade%' AND index_name = 'PRIMARY' ORDER BY table_name, seq_in_index")
	if err != nil {
		return nil, undone(err)
	}
	return have, nil
}
