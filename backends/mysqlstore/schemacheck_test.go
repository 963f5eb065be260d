package mysqlstore

import "testing"

// TestTablesOfTheMigrations: a line that is not understood would be a column that nobody checks.
func TestTablesOfTheMigrations(t *testing.T) {
	for _, maria := range []bool{false, true} {
		ms, err := migrationsFor(migrationFiles, maria)
		if err != nil {
			t.Fatal(err)
		}
		all := tablesOf(ms)
		for _, c := range []struct {
			table   string
			columns int
			key     int
		}{
			{"crossfade_fence", 5, 1}, {"crossfade_levels", 11, 4}, {"crossfade_units", 5, 5}, {"crossfade_findings", 11, 2}, {"crossfade_coverage", 17, 5}, {"crossfade_audits", 13, 1},
		} {
			got := all[c.table]
			if got == nil || len(got.columns) != c.columns || len(got.key) != c.key {
				t.Errorf("%s: %+v, want %d columns and %d in the key", c.table, got, c.columns, c.key)
			}
		}
		for name, x := range all {
			if len(x.key) == 0 || len(x.columns) < len(x.key) {
				t.Errorf("%s: %+v", name, x)
			}
		}
	}
}
