package mysqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// watchPatience bounds one reading; the server ends its longer statements after a second.
	watchPatience = 2 * time.Second
	// copyPause is how long a Watcher leaves InnoDB's own tables alone. Raise and settle read them each
	// copyAge, and are told something new only when nobody has read them for 0.1 s: in a pause of
	// twice that, one of their readings is always such a one.
	copyPause = 250 * time.Millisecond
	// statusPause is the same for InnoDB's status, which latches the lock system while it is written.
	statusPause = 500 * time.Millisecond
	// aboutAge is how long what the server is, and what it keeps, is taken for granted.
	aboutAge = 10 * time.Second
	// maxSessions bounds the sessions, and transactions, of one reading.
	maxSessions = 5000
	// maxTagText is what can follow "conn_tag:" in a statement and be of interest: the tags of a batch, and
	// how many more there are. sql/watch.sql cuts the text there.
	maxTagText = (tagsInComment+1)*(backends.MaxCallerLen+1) - 1
)

// Watcher reads who uses the pod's server: its sessions, transactions, locks and waits, ours and those
// of others. It takes no lock, uses one connection of the few that are kept for fences at a time, and
// leaves those to fences when they are wanted there. Many may ask it; it reads for one at a time.
type Watcher struct {
	s    *Store
	turn chan struct{} // who holds it reads

	// What follows is of whoever has the turn.
	known  about
	seen   map[sessionKey]string // tags of the sessions of the last reading, as last seen
	copied time.Time             // when InnoDB's tables were read last
	status time.Time             // when its status was
}

// sessionKey tells sessions apart, also after a restart has begun their numbers anew.
type sessionKey struct {
	id         uint64
	user, host string
}

// about is what a server is and what it keeps for us to read.
type about struct {
	maria   bool
	version string
	// What performance_schema keeps: the last statement of each session, transactions under way, and
	// CPU time by statement.
	statements, transactions, cpu bool
	at                            time.Time
}

// Watcher makes a reader. A proxy needs one for each pod: it remembers tags.
func (s *Store) Watcher() *Watcher {
	return &Watcher{s: s, turn: make(chan struct{}, 1), seen: map[sessionKey]string{}}
}

// Server says what answers where, without the user or password.
type Server struct {
	Kind    string `json:"kind"` // MySQL or MariaDB
	Version string `json:"version"`
	Addr    string `json:"addr"`
}

// Pools are the figures of this proxy's own pools of connections, as database/sql counts them: Data for
// reservations, Fences for fences, settlements, what a kill reads, and watching.
type Pools struct{ Data, Fences sql.DBStats }

// Pools reads them. It does not touch the server.
func (s *Store) Pools() Pools { return Pools{Data: s.db.Stats(), Fences: s.admin.Stats()} }

// reading is one connection of a Watcher while it has the turn.
type reading struct {
	*session
	w *Watcher
	about
}

// read has f read, when it is this caller's turn.
func (w *Watcher) read(ctx context.Context, f func(context.Context, *reading) error) error {
	if w.s.closed.Load() {
		return fmt.Errorf("%w: the store is closed", backends.ErrUnavailable)
	}
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return undone(ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	if w.s.admin.Stats().InUse >= adminConns-1 {
		return fmt.Errorf("%w: the connections kept for fences are in use, and come first; ask again", backends.ErrBusy)
	}
	c, err := w.s.open(ctx, w.s.admin, "watch")
	if err != nil {
		return undone(err)
	}
	defer c.free()
	r := &reading{session: c, w: w}
	if err := r.learn(ctx); err != nil {
		c.drop()
		return undone(err)
	}
	if err := f(ctx, r); err != nil {
		c.drop() // it may still be at it
		return undone(err)
	}
	return nil
}

var (
	textAbout     = named("watch_about").one()
	textConsumers = named("watch_consumers").one()
)

// learn finds out what the server is, now and then.
func (r *reading) learn(ctx context.Context) error {
	now := r.w.s.cfg.Now()
	if r.w.known.version != "" && now.Sub(r.w.known.at) < aboutAge {
		r.about = r.w.known
		return nil
	}
	a := about{at: now}
	on := false
	if err := r.ask(ctx, func(rows *sql.Rows) error { return rows.Scan(&a.version, &on) }, textAbout); err != nil {
		return err
	}
	a.maria = strings.Contains(strings.ToLower(a.version), "mariadb")
	kept := map[string]bool{}
	if on {
		err := r.ask(ctx, func(rows *sql.Rows) error {
			var name string
			err := rows.Scan(&name)
			kept[name] = true
			return err
		}, textConsumers)
		if err != nil && classify(err) != faultSetup {
			return err
		}
	}
	threads := kept["global_instrumentation"] && kept["thread_instrumentation"]
	a.statements = threads && kept["events_statements_current"]
	a.transactions = threads && kept["events_transactions_current"]
	a.cpu = a.statements && kept["events_statements_cpu"]
	r.about, r.w.known = a, a
	return nil
}

// pause waits until something was left alone for so long.
func (r *reading) pause(ctx context.Context, since time.Time, d time.Duration) error {
	left := d - r.w.s.cfg.Now().Sub(since)
	if left <= 0 {
		return nil
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Server says what the pod's server is.
func (w *Watcher) Server(ctx context.Context) (srv Server, err error) {
	err = w.read(ctx, func(_ context.Context, r *reading) error {
		srv = r.server()
		return nil
	})
	return srv, err
}

func (r *reading) server() Server {
	srv := Server{Kind: "MySQL", Version: clean(r.version, maxSource)}
	if r.maria {
		srv.Kind = "MariaDB"
	}
	if d, err := r.w.s.cfg.driverConfig(); err == nil {
		srv.Addr = d.Addr
	}
	return srv
}

// StatementCPU is the CPU time that all statements of the server have used which have ended. known is
// false where the server does not keep it: MySQL does from 8.0.28 on, when its consumer
// events_statements_cpu is on, which it is not by default.
func (w *Watcher) StatementCPU(ctx context.Context) (used time.Duration, known bool, err error) {
	err = w.read(ctx, func(ctx context.Context, r *reading) error {
		if known = r.cpu; !known {
			return nil
		}
		var ps float64
		err := r.ask(ctx, func(rows *sql.Rows) error { return rows.Scan(&ps) }, textCPU)
		used = time.Duration(ps / 1000)
		return err
	})
	return used, known, err
}

var textCPU = named("watch_cpu").one()

// tagIn reads the tag, or those of a batch with a plus between them, from what follows, and includes,
// "conn_tag:" in a statement; "" when that is none.
func tagIn(text string) string {
	_, rest, found := strings.Cut(text, "conn_tag:")
	if !found {
		return ""
	}
	tag := strings.TrimLeft(rest, " ")
	for i := 0; i < len(tag) && i <= maxTagText; i++ {
		if c := tag[i]; c == ' ' || c == '*' || c == '\'' || c == '"' {
			tag = tag[:i]
			break
		}
	}
	for part := range strings.SplitSeq(tag, "+") {
		if part == "" || backends.CheckCaller(part) != nil {
			return ""
		}
	}
	return tag
}

// clean makes one line of at most n bytes of what others have written, safe for a terminal.
func clean(s string, n int) string {
	var b strings.Builder
	space := false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case !unicode.IsPrint(r):
			r = '?'
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		if b.Len()+len(string(r)) > n {
			return b.String() + "…"
		}
		b.WriteRune(r)
	}
	return b.String()
}

// maxSource bounds the name of a user, a host or a version in an answer.
const maxSource = 80
