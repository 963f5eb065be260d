package neighbours

import (
	"cmp"
	"database/sql"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
)

const (
	// maxRows bounds the sources that are listed by themselves; the rest is added up as [Others].
	maxRows = 200
	// maxSources bounds those that are counted by themselves: a tag may be as good as random.
	maxSources = 2000
)

// Others is the row of the sources beyond the bound, and of those that a large batch does not name.
const Others = "(others)"

// Locks is the server's locks at one moment.
type Locks = mysqlstore.LockView

// Figure is a number of sessions over all samples.
type Figure struct {
	Mean float64 `json:"mean"`
	Most int     `json:"most"`
}

// Row is what one source was seen to do. Running, Waiting, OpenIdle and Idle are shares of its session
// time, from 0 to 1, and add up to 1.
type Row struct {
	Who    string `json:"who"`
	Tagged bool   `json:"tagged"` // Who is a conn_tag; else user@host
	// Sessions is their mean number. One that serves a process after the other counts for the one that it
	// served last, one that serves several in a batch in equal parts for each.
	Sessions float64 `json:"sessions"`
	// Held is connection time in transactions and statements: seconds for each second.
	Held float64 `json:"held"`
	// InTransaction is the share with a transaction open, whatever runs in it.
	InTransaction float64 `json:"in_transaction"`
	Running       float64 `json:"running"`
	Waiting       float64 `json:"waiting"`
	OpenIdle      float64 `json:"idle_in_transaction"`
	Idle          float64 `json:"idle"`
}

// CPU is the CPU time of the server.
type CPU struct {
	// Cores is CPU seconds for each second; it counts only when Known.
	Cores float64 `json:"cores"`
	Known bool    `json:"known"`
	// Of is how many cores the server's machine has; 0 where that is not known.
	Of int `json:"of,omitempty"`
	// What was measured, or why nothing was.
	What string `json:"what"`
}

// Pool is this proxy's own pool of connections, for reservations.
type Pool struct {
	MaxOpen int    `json:"max_open"`
	InUse   Figure `json:"in_use"`
	Idle    Figure `json:"idle"`
	// Waits for a free connection while we looked, and their time in all.
	Waits      int64 `json:"waits"`
	WaitMillis int64 `json:"wait_ms"`
}

// Connections is who used the server over a while.
type Connections struct {
	Pod    backends.Pod      `json:"pod"`
	Server mysqlstore.Server `json:"server"`
	From   time.Time         `json:"from"`
	// SpanMillis is how long we looked, EveryMillis how often we meant to.
	SpanMillis  int64 `json:"span_ms"`
	EveryMillis int64 `json:"every_ms"`
	Samples     int   `json:"samples"`
	// LockSamples are those that know who waited for a row; Missed could not be had.
	LockSamples   int      `json:"lock_samples"`
	Missed        int      `json:"missed"`
	Sessions      Figure   `json:"sessions"`
	InTransaction Figure   `json:"in_transaction"`
	Running       Figure   `json:"running"` // threads in a statement, waiting or not
	Waiting       Figure   `json:"waiting"`
	CPU           CPU      `json:"cpu"`
	Pool          Pool     `json:"pool"`
	Rows          []Row    `json:"rows"` // those that hold most first
	Notes         []string `json:"notes"`
}

// look is one sample with what was read of the pool beside it.
type look struct {
	mysqlstore.Sample
	pool sql.DBStats
}

// sums are counts of sessions over samples.
type sums struct {
	tagged                            bool
	sessions, open, statement, atRest float64
	inTransaction                     float64
	// Of the samples that know of waits: sessions, and those that waited.
	known, waiting float64
}

// add counts a part of one session of one sample.
func (s *sums) add(x mysqlstore.Session, part float64, waitsRead bool) {
	s.tagged = x.Tag != ""
	s.sessions += part
	if x.InTransaction {
		s.inTransaction += part
	}
	switch x.Doing {
	case mysqlstore.OpenIdle:
		s.open += part
	case mysqlstore.Running, mysqlstore.Waiting:
		s.statement += part
	case mysqlstore.Idle, mysqlstore.DoingUnknown:
		s.atRest += part
	}
	if waitsRead {
		s.known += part
		if x.Doing == mysqlstore.Waiting {
			s.waiting += part
		}
	}
}

// row makes shares of the counts of n samples.
func (s *sums) row(who string, n int) Row {
	r := Row{Who: who, Tagged: s.tagged, Sessions: share(s.sessions, float64(n)), Held: share(s.statement+s.open, float64(n))}
	r.InTransaction = share(s.inTransaction, s.sessions)
	r.OpenIdle = share(s.open, s.sessions)
	r.Idle = share(s.atRest, s.sessions)
	in := share(s.statement, s.sessions)
	r.Waiting = min(share(s.waiting, s.known), in)
	r.Running = in - r.Waiting
	return r
}

func share(n, of float64) float64 {
	if of == 0 {
		return 0
	}
	return n / of
}

// counter makes a Figure.
type counter struct{ sum, n, most int }

func (c *counter) add(v int) {
	c.sum, c.n, c.most = c.sum+v, c.n+1, max(c.most, v)
}

func (c *counter) figure() Figure {
	return Figure{Mean: share(float64(c.sum), float64(c.n)), Most: c.most}
}

// fold adds up samples, so that a long look takes no more memory than a short one.
type fold struct {
	by                                                   map[string]*sums
	sessions, inTransaction, running, waiting, use, idle counter
	first, last                                          sql.DBStats
	cut                                                  bool
}

// add takes one sample in.
func (f *fold) add(l look) {
	if f.by == nil {
		f.by, f.first = map[string]*sums{}, l.pool
	}
	var tx, run, wait int
	for _, x := range l.Sessions {
		for _, p := range x.Parts() {
			f.of(p.Who).add(x, p.Of, l.WaitsRead)
		}
		if x.InTransaction {
			tx++
		}
		switch x.Doing {
		case mysqlstore.Waiting:
			wait++
			run++
		case mysqlstore.Running:
			run++
		case mysqlstore.Idle, mysqlstore.OpenIdle, mysqlstore.DoingUnknown:
		}
	}
	f.sessions.add(len(l.Sessions))
	f.inTransaction.add(tx)
	f.running.add(run)
	if l.WaitsRead {
		f.waiting.add(wait)
	}
	f.use.add(l.pool.InUse)
	f.idle.add(l.pool.Idle)
	f.last, f.cut = l.pool, f.cut || l.Cut
}

// of finds the counts of a source; those beyond the bound share one.
func (f *fold) of(who string) *sums {
	if who == "" || f.by[who] == nil && len(f.by) >= maxSources {
		who = Others
	}
	if f.by[who] == nil {
		f.by[who] = &sums{}
	}
	return f.by[who]
}

// result makes shares of the counts.
func (f *fold) result() Connections {
	out := Connections{
		Samples: f.sessions.n, LockSamples: f.waiting.n, Sessions: f.sessions.figure(), InTransaction: f.inTransaction.figure(),
		Running: f.running.figure(), Waiting: f.waiting.figure(), Rows: rows(f.by, f.sessions.n), Notes: []string{},
		Pool: Pool{
			MaxOpen: f.last.MaxOpenConnections, InUse: f.use.figure(), Idle: f.idle.figure(),
			Waits: f.last.WaitCount - f.first.WaitCount, WaitMillis: (f.last.WaitDuration - f.first.WaitDuration).Milliseconds(),
		},
	}
	if f.cut {
		out.Notes = append(out.Notes, "the server has more sessions than are read at a time: some are left out")
	}
	return out
}

// rows lists the sources, those that hold most first.
func rows(by map[string]*sums, n int) []Row {
	out := make([]Row, 0, len(by))
	for who, s := range by {
		out = append(out, s.row(who, n))
	}
	slices.SortFunc(out, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Held, a.Held), cmp.Compare(b.Sessions, a.Sessions), cmp.Compare(a.Who, b.Who))
	})
	if len(out) <= maxRows {
		return out
	}
	rest := &sums{}
	for _, r := range out[maxRows:] {
		rest.merge(by[r.Who])
	}
	kept := slices.DeleteFunc(out[:maxRows:maxRows], func(r Row) bool {
		if r.Who == Others {
			rest.merge(by[Others])
		}
		return r.Who == Others
	})
	return append(kept, rest.row(Others, n))
}

func (s *sums) merge(o *sums) {
	s.sessions, s.open, s.statement, s.atRest = s.sessions+o.sessions, s.open+o.open, s.statement+o.statement, s.atRest+o.atRest
	s.inTransaction, s.known, s.waiting = s.inTransaction+o.inTransaction, s.known+o.known, s.waiting+o.waiting
}
