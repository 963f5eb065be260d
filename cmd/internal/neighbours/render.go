package neighbours

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
)

// shown bounds the lines of each table for people; JSON has all.
const shown = 20

// page is what people read, put together before it is written.
type page struct{ bytes.Buffer }

func (p *page) line(format string, a ...any) {
	fmt.Fprintf(&p.Buffer, format, a...)
	p.WriteByte('\n')
}

// table writes at most n of the rows, with their columns aligned.
func (p *page) table(head string, n int, row func(i int) string) {
	t := tabwriter.NewWriter(&p.Buffer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, head)
	for i := range min(n, shown) {
		fmt.Fprintln(t, row(i))
	}
	_ = t.Flush() // into memory
	if n > shown {
		p.line("… and %d more; --json has them", n-shown)
	}
}

func (p *page) notes(notes []string) {
	for _, n := range notes {
		p.line("Note: %s.", n)
	}
}

func percent(x float64) string {
	if x > 0 && x < 0.005 {
		return "<1 %"
	}
	return fmt.Sprintf("%.0f %%", 100*x)
}

func (p *page) figure(what string, f Figure) {
	p.line("  %-24s %6.1f on average, %d at most", what, f.Mean, f.Most)
}

// RenderConnections writes it for people.
func RenderConnections(w io.Writer, c Connections) error {
	var p page
	p.line("Who holds %s %s at %s (pod %s): %d samples in %.1f s", c.Server.Kind, c.Server.Version, c.Server.Addr, c.Pod, c.Samples, float64(c.SpanMillis)/1000)
	p.line("")
	p.figure("sessions", c.Sessions)
	p.figure("in a transaction", c.InTransaction)
	p.figure("threads running", c.Running)
	p.figure("  waiting for a lock", c.Waiting)
	switch {
	case c.CPU.Known && c.CPU.Of > 0:
		p.line("  %-24s %6.2f of %d cores: %s", "CPU", c.CPU.Cores, c.CPU.Of, c.CPU.What)
	case c.CPU.Known:
		p.line("  %-24s %6.2f cores: %s", "CPU", c.CPU.Cores, c.CPU.What)
	default:
		p.line("  %-24s %s", "CPU", c.CPU.What)
	}
	p.line("  %-24s %6.1f of %d in use on average, %d at most; %.1f idle; %d waits for one, %s in all", "this proxy's connections",
		c.Pool.InUse.Mean, c.Pool.MaxOpen, c.Pool.InUse.Most, c.Pool.Idle.Mean, c.Pool.Waits, span(c.Pool.WaitMillis))
	p.line("")
	p.table("WHO\tSESSIONS\tHELD\tIN TXN\tRUNNING\tWAITING\tOPEN\tIDLE", len(c.Rows), func(i int) string {
		r := c.Rows[i]
		return fmt.Sprintf("%s\t%.1f\t%.2f\t%s\t%s\t%s\t%s\t%s", r.Who, r.Sessions, r.Held, percent(r.InTransaction), percent(r.Running), percent(r.Waiting), percent(r.OpenIdle), percent(r.Idle))
	})
	p.line("")
	p.line("WHO is the conn_tag of the session's statement, of its last one when it is idle; without one, user@host. HELD is")
	p.line("connection time in transactions and statements, in seconds for each second: the number of connections that it keeps")
	p.line("busy. Of its sessions' time: RUNNING a statement, WAITING for a lock in one, OPEN in a transaction with nothing")
	p.line("running (its locks stay), IDLE. IN TXN is with a transaction open, whatever runs in it.")
	if c.Missed > 0 {
		p.line("Note: %d samples could not be had.", c.Missed)
	}
	p.notes(c.Notes)
	_, err := w.Write(p.Bytes())
	return err
}

// span is a time for people: tenths of seconds are enough for who waits.
func span(millis int64) string {
	d := time.Duration(millis) * time.Millisecond
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", millis)
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

// modeText says InnoDB's name of a lock in words.
func modeText(kind, mode string) string {
	mode, table := strings.CutSuffix(mode, " (table)")
	parts := strings.Split(mode, ",")
	words := map[string]string{"X": "exclusive", "S": "shared", "REC_NOT_GAP": "row", "GAP": "gap", "INSERT_INTENTION": "insert", "AUTO_INC": "auto-increment", "SUPREMUM": "end"}
	var out []string
	for _, w := range parts {
		if words[w] == "" {
			return mode
		}
		out = append(out, words[w])
	}
	switch {
	case table:
		out = append(out, "table")
	case len(parts) == 1 && kind == "MySQL":
		out = append(out, "row and gap")
	case len(parts) == 1:
		out = append(out, "row")
	}
	return strings.Join(out, " ")
}

func where(table, index string) string {
	if index == "" || index == "PRIMARY" {
		return table
	}
	return table + " (" + index + ")"
}

func session(s mysqlstore.Source) string {
	if s.Session == 0 {
		return "-"
	}
	return fmt.Sprint(s.Session)
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// RenderLocks writes it for people.
func RenderLocks(w io.Writer, v Locks) error {
	var p page
	p.line("Locks of %s %s at %s (pod %s): %s, %s, %d waiting", v.Server.Kind, v.Server.Version, v.Server.Addr, v.Pod,
		plural(v.Open, "open transaction", "open transactions"), plural(v.LockedRows, "row lock", "row locks"), v.Waiting)
	p.line("")
	p.waits(v)
	p.locks(v)
	p.snapshot(v)
	p.transactions(v)
	p.notes(v.Notes)
	_, err := w.Write(p.Bytes())
	return err
}

func (p *page) waits(v Locks) {
	if len(v.Waits) == 0 {
		p.line("Nobody waits for a row.")
		p.line("")
		return
	}
	x := v.Waits[0]
	p.line("Longest: %s (session %s) has waited for %s for %s (session %s), which is %s; its transaction is %s old.",
		x.Waiter.Who(), session(x.Waiter), span(x.WaitedMillis), x.Holder.Who(), session(x.Holder), x.HolderDoing, span(x.HolderAgeMillis))
	p.line("")
	p.table("WAITS\tSESSION\tFOR\tWANTS\tOF TABLE\tROW\tHELD BY\tSESSION\tAS\tWHICH IS", len(v.Waits), func(i int) string {
		x := v.Waits[i]
		as := modeText(v.Server.Kind, x.Has)
		if x.Queued {
			as = "queued before it"
		}
		return strings.Join([]string{
			x.Waiter.Who(), session(x.Waiter), span(x.WaitedMillis), modeText(v.Server.Kind, x.Wants), where(x.Table, x.Index), short(x.Row),
			x.Holder.Who(), session(x.Holder), as, x.HolderDoing.String() + ", " + span(x.HolderAgeMillis) + " old",
		}, "\t")
	})
	p.line("")
}

// short cuts a row's key so that the table keeps its shape.
func short(s string) string {
	const most = 48
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

func (p *page) locks(v Locks) {
	if len(v.Locks) == 0 {
		return
	}
	p.table("HAS LOCKED\tSESSION\tTRANSACTION\tLOCKS\tOF TABLE\tMODE\t", len(v.Locks), func(i int) string {
		g := v.Locks[i]
		state := ""
		if !g.Granted {
			state = "(waits for it)"
		}
		return strings.Join([]string{
			g.Who(), session(g.Source), span(g.AgeMillis) + " old", fmt.Sprint(g.Locks), where(g.Table, g.Index), modeText(v.Server.Kind, g.Mode), state,
		}, "\t")
	})
	p.line("")
}

func (p *page) snapshot(v Locks) {
	tail := ""
	if v.History >= 0 {
		tail = fmt.Sprintf(" Transactions whose old row versions wait to be purged (history list): %d.", v.History)
	}
	if v.Oldest == nil {
		p.line("No transaction keeps a snapshot.%s", tail)
		p.line("")
		return
	}
	o := v.Oldest
	p.line("Oldest snapshot: %s (session %s), %s, %s old, %s. Nothing that was deleted or", o.Who(), session(o.Source), o.Isolation, span(o.AgeMillis), o.Doing)
	p.line("changed since can be purged, and scans of it slow down.%s", tail)
	p.line("")
}

func (p *page) transactions(v Locks) {
	if len(v.Transactions) == 0 {
		return
	}
	p.table("TRANSACTION OF\tSESSION\tAGE\tDOING\tROW LOCKS\tCHANGED\tSNAPSHOT\tSTATEMENT", len(v.Transactions), func(i int) string {
		t := v.Transactions[i]
		snap := "-"
		if t.Snapshot {
			snap = "yes"
		}
		return strings.Join([]string{
			t.Who(), session(t.Source), span(t.AgeMillis), t.Doing.String(), fmt.Sprint(t.RowsLocked), fmt.Sprint(t.RowsModified), snap, short(t.Statement),
		}, "\t")
	})
}
