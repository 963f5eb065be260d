package neighbours

import (
	"bytes"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// shown bounds the lines of each table for people; JSON has all.
const shown = 12

// page is what people read, put together before it is written.
type page struct{ bytes.Buffer }

func (p *page) line(format string, a ...any) {
	fmt.Fprintf(&p.Buffer, format, a...)
	p.WriteByte('\n')
}

// table writes at most n of the rows, with their columns aligned.
func (p *page) table(head string, n int, row func(i int) string) {
	var text bytes.Buffer
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, head)
	for i := range min(n, shown) {
		fmt.Fprintln(t, row(i))
	}
	_ = t.Flush() // into memory
	for line := range bytes.Lines(text.Bytes()) {
		p.line("%s", bytes.TrimRight(line, " \n"))
	}
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
	p.line("running (its locks stay), IDLE. IN TXN is with a transaction open, whatever runs in it. What Crossfade does by itself")
	p.line("has the name of the operation: fence, expire, outbox, maintain, …")
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
