package mysqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Doing is what a session is at.
type Doing uint8

// Doings, from the one that holds others up least.
const (
	DoingUnknown Doing = iota
	Idle               // nothing is open
	OpenIdle           // in a transaction, and nothing runs: what it has locked stays locked
	Running            // a statement
	Waiting            // a statement that waits for a lock
)

var doings = [...]string{DoingUnknown: "unknown", Idle: "idle", OpenIdle: "idle in transaction", Running: "running", Waiting: "waiting"}

// String is for people and for JSON.
func (d Doing) String() string {
	if int(d) < len(doings) {
		return doings[d]
	}
	return fmt.Sprintf("Doing(%d)", uint8(d))
}

// MarshalText implements encoding.TextMarshaler.
func (d Doing) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Doing) UnmarshalText(b []byte) error {
	for i, s := range doings {
		if s == string(b) {
			*d = Doing(i) //nolint:gosec // a handful
			return nil
		}
	}
	return fmt.Errorf("mysqlstore: %q is nothing that a session does", b)
}

// Source is whom a session is attributed to: the conn_tag of its statement, of its last one when it is
// idle; else user and host. A batch has the tags of several, with a plus between them.
type Source struct {
	Session uint64 `json:"session"` // 0: none is known
	Tag     string `json:"conn_tag,omitempty"`
	User    string `json:"user"`
	Host    string `json:"host"` // without the port
}

// Who is the tag, else user@host.
func (s Source) Who() string {
	switch {
	case s.Tag != "":
		return s.Tag
	case s.Session == 0 && s.User == "":
		return "(no session)"
	case s.User == "" && s.Host == "":
		return "(ended)"
	case s.Host == "":
		return s.User
	default:
		return s.User + "@" + s.Host
	}
}

// Part is somebody's part of a session.
type Part struct {
	Who string // "" stands for others, whom the statement does not name
	Of  float64
}

// Parts shares a session out among the processes that its statement names: a batch of Crossfade's serves
// several at a time. Their parts add up to 1, and are equal, since no more is known.
func (s Source) Parts() []Part {
	names := strings.Split(s.Tag, "+")
	if len(names) == 1 {
		return []Part{{s.Who(), 1}}
	}
	out := make([]Part, 0, len(names))
	all := 0.0
	for i, n := range names {
		p := Part{n, 1}
		if more, ok := strings.CutSuffix(n, "-more"); ok && i == tagsInComment {
			if k, err := strconv.Atoi(more); err == nil && k > 0 {
				p = Part{"", float64(k)}
			}
		}
		all += p.Of
		out = append(out, p)
	}
	for i := range out {
		out[i].Of /= all
	}
	return out
}

// Session is one session of the server as it was found.
type Session struct {
	Source
	Doing         Doing
	InTransaction bool
	// Age of its transaction, where the server tells.
	Age time.Duration
	// Statement is the beginning of what it runs or ran last, where that was asked for.
	Statement string
	// MetadataLock: it waits for a table's definition, not for rows.
	MetadataLock bool

	thread uint64
}

const (
	// maxStatement bounds the beginning of a statement in an answer.
	maxStatement = 120
	// statementText is what is read for that: the comment with the tags comes first.
	statementText = maxStatement + len("/* conn_tag: */ ") + maxTagText
)

// Sample is all sessions at one moment, but for the one that looked.
type Sample struct {
	At       time.Time
	Sessions []Session
	// WaitsRead: who waits for a row was read as well. It comes from InnoDB's own tables, which are not
	// read for every sample; without it such a session is Running.
	WaitsRead bool
	// Cut: there were more than the 5,000 that are listed.
	Cut bool
	// Took is how long the server was busy with it, as we saw it.
	Took time.Duration
}

var (
	textSessionsMySQL   = named("watch_sessions_mysql").one()
	textSessionsMariaDB = named("watch_sessions_mariadb").one()
	textThreads         = named("watch_threads").one()
	textStatements      = named("watch_statements").one()
	textWaiting         = named("watch_waiting").one()
)

// Sessions reads them once. On MariaDB, whose transactions are in InnoDB's own tables alone, it waits
// until those may be read, up to 0.25 s.
func (w *Watcher) Sessions(ctx context.Context) (out Sample, err error) {
	err = w.read(ctx, func(ctx context.Context, r *reading) error {
		if r.maria || !r.transactions {
			if err := r.pause(ctx, w.copied, copyPause); err != nil {
				return err
			}
		}
		var open map[uint64]bool
		b := r.batch()
		finish := r.askSessions(b, 0)
		if w.s.cfg.Now().Sub(w.copied) >= copyPause {
			open = map[uint64]bool{}
			out.WaitsRead = true
			b.ask(func(rows *sql.Rows) error {
				var id uint64
				var waits bool
				err := rows.Scan(&id, &waits)
				open[id] = waits
				return err
			}, textWaiting, maxSessions)
		}
		from := w.s.cfg.Now()
		err := b.sendTo(ctx, r.conn)
		out.At = w.s.cfg.Now()
		out.Took = out.At.Sub(from)
		if out.WaitsRead {
			w.copied = out.At
		}
		if err != nil {
			return err
		}
		all, cut := finish()
		for i := range all {
			s := &all[i]
			if waits, there := open[s.Session]; there {
				s.inTransaction(waits)
			}
			if s.Doing != DoingUnknown {
				out.Sessions = append(out.Sessions, *s)
			}
		}
		out.Cut = cut
		return nil
	})
	return out, err
}

// inTransaction takes over what InnoDB says of a session that has a transaction there.
func (s *Session) inTransaction(waits bool) {
	s.InTransaction = true
	switch {
	case waits:
		s.Doing = Waiting
	case s.Doing == Idle || s.Doing == DoingUnknown:
		s.Doing = OpenIdle
	}
}

// found is a session as the server has it.
type found struct {
	Session
	command, state, tagText string
	spoke                   bool // the text of its statement is known
}

// askSessions adds the queries for all sessions to a batch, with so many bytes of their statements. What
// it returns is called once the batch was sent.
func (r *reading) askSessions(b *batch, text int) (finish func() (all []Session, cut bool)) {
	var got []found
	last := map[uint64]found{} // by thread, on MariaDB
	threads := map[uint64]uint64{}
	q := textSessionsMySQL
	if r.maria {
		q = textSessionsMariaDB
	}
	b.ask(func(rows *sql.Rows) error {
		var f found
		var age int64
		err := rows.Scan(&f.Session.Session, &f.thread, &f.User, &f.Host, &f.command, &f.state, &f.InTransaction, &age, &f.Statement, &f.tagText, &f.spoke)
		f.Age = time.Duration(age) * time.Millisecond
		if at := strings.LastIndexByte(f.Host, ':'); r.maria && at > 0 {
			f.Host = f.Host[:at] // the port
		}
		got = append(got, f)
		return err
	}, q, text, maxSessions)
	if r.maria && r.statements {
		b.ask(func(rows *sql.Rows) error {
			var thread, id uint64
			err := rows.Scan(&thread, &id)
			threads[id] = thread
			return err
		}, textThreads, maxSessions)
		b.ask(func(rows *sql.Rows) error {
			var thread uint64
			var f found
			err := rows.Scan(&thread, &f.Statement, &f.tagText)
			last[thread] = f
			return err
		}, textStatements, text, maxSessions)
	}
	return func() ([]Session, bool) {
		for i := range got {
			f := &got[i]
			if l, there := last[threads[f.Session.Session]]; there && !f.spoke {
				f.Statement, f.tagText, f.spoke = l.Statement, l.tagText, true
			}
		}
		return r.w.attribute(got), len(got) == maxSessions
	}
}

// attribute gives each session what it does and whose it is, and remembers the tags for the next
// reading: a statement that is over is forgotten by some servers, and a ping has no text.
func (w *Watcher) attribute(got []found) []Session {
	seen := make(map[sessionKey]string, len(got))
	out := make([]Session, 0, len(got))
	for i := range got {
		f := &got[i]
		key := sessionKey{f.Session.Session, f.User, f.Host}
		f.Tag = tagIn(f.tagText)
		if !f.spoke {
			f.Tag = w.seen[key]
		}
		if f.Tag != "" {
			seen[key] = f.Tag
		}
		f.Doing, f.MetadataLock = doing(f.command, f.state, f.InTransaction)
		f.User, f.Host = clean(f.User, maxSource), clean(f.Host, maxSource)
		f.Statement = clean(strings.TrimPrefix(strings.TrimSpace(f.Statement), "/* conn_tag:"+f.Tag+" */"), maxStatement)
		out = append(out, f.Session)
	}
	w.seen = seen
	return out
}

// doing tells from the process list what a session does. Nothing is known of the server's own, and of
// those that send a binary log to a replica.
func doing(command, state string, inTransaction bool) (d Doing, metadata bool) {
	switch command {
	case "Daemon", "Binlog Dump", "Binlog Dump GTID", "Slave_IO", "Slave_SQL", "Slave_worker":
		return DoingUnknown, false
	case "Sleep":
		if inTransaction {
			return OpenIdle, false
		}
		return Idle, false
	}
	if strings.HasPrefix(state, "Waiting for ") && strings.HasSuffix(state, " lock") {
		return Waiting, strings.Contains(state, "metadata")
	}
	return Running, false
}
