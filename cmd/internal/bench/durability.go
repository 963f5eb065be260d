package bench

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// grade of durability: what a crash of the machine takes of what was acknowledged. The zero value is
// unknown, and compares with nothing.
type grade uint8

const (
	gradeUnknown  grade = iota
	gradeSeconds        // some of the last moments
	gradeEachSync       // nothing: each commit is on the disk before its answer
)

func (g grade) String() string {
	switch g {
	case gradeSeconds:
		return "may lose the last moments"
	case gradeEachSync:
		return "every commit on disk"
	case gradeUnknown:
	}
	return "unknown"
}

// Server is a server of a run, with what it says of its own durability.
type Server struct {
	Name       string            `json:"name"`
	Version    string            `json:"version"`
	Origin     string            `json:"origin"`
	Durability map[string]string `json:"durability"` // read back from the server
	Grade      string            `json:"grade"`

	grade grade
}

// askSQLDurability reads it from a MySQL or MariaDB.
func askSQLDurability(ctx context.Context, db *sql.DB) (map[string]string, grade, error) {
	out := map[string]string{}
	for _, name := range []string{"innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin", "innodb_doublewrite", "innodb_flush_method"} {
		var value string
		if err := db.QueryRowContext(ctx, "SELECT @@"+name).Scan(&value); err != nil {
			return nil, gradeUnknown, fmt.Errorf("reading %s: %w", name, err)
		}
		out[name] = value
	}
	return out, sqlGrade(out), nil
}

func sqlGrade(s map[string]string) grade {
	on := func(name string) bool {
		v := strings.ToUpper(s[name])
		return v == "1" || v == "ON"
	}
	synced := on("innodb_flush_log_at_trx_commit") && on("innodb_doublewrite") && !strings.EqualFold(s["innodb_flush_method"], "nosync")
	if synced && (!on("log_bin") || on("sync_binlog")) {
		return gradeEachSync
	}
	return gradeSeconds
}

// redisGrade: answers wait for the disk only with appendfsync always.
func redisGrade(s map[string]string) grade {
	if s["appendonly"] == "yes" && s["appendfsync"] == "always" {
		return gradeEachSync
	}
	return gradeSeconds
}

func postgresGrade(s map[string]string) grade {
	if s["fsync"] == "on" && s["synchronous_commit"] == "on" && s["full_page_writes"] == "on" {
		return gradeEachSync
	}
	return gradeSeconds
}

// UnequalError: the sides keep their promises differently, so their speeds say nothing.
type UnequalError struct{ A, B Server }

func (e *UnequalError) Error() string {
	return fmt.Sprintf("%s (%s) and %s (%s) are not equally durable: not compared", e.A.Name, e.A.Grade, e.B.Name, e.B.Grade)
}

// equallyDurable refuses to compare servers of different durability. With aMayBeMore, A's answers may rest
// on more than B's: that is to A's disadvantage.
func equallyDurable(a, b Server, aMayBeMore bool) error {
	switch {
	case a.grade == gradeUnknown || b.grade == gradeUnknown:
	case a.grade == b.grade, aMayBeMore && a.grade > b.grade:
		return nil
	}
	return &UnequalError{A: a, B: b}
}

// redisSettings reads what a Redis or Valkey says about itself.
func redisSettings(ctx context.Context, addr string) (map[string]string, error) {
	c, err := dialRESP(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer c.close()
	out := map[string]string{}
	for _, name := range []string{"appendonly", "appendfsync"} {
		r, err := c.ask("CONFIG", "GET", name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		if len(r.items) == 2 {
			out[name] = r.items[1].text
		}
	}
	return out, nil
}

// describe makes the record of a lab server.
func describe(s *lab.Server, settings map[string]string, g grade) Server {
	return Server{Name: string(s.Kind), Version: s.Version().String(), Origin: s.Origin, Durability: settings, Grade: g.String(), grade: g}
}
