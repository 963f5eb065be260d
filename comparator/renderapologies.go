package comparator

import (
	"fmt"
	"io"

	"github.com/crossfade-proxy/crossfade/backends"
)

// ApologyList is a list of apologies as people and scripts get it.
type ApologyList struct {
	Pod backends.Pod `json:"pod"`
	// Asked says in words what was asked for; Sum counts all of the pod.
	Asked     string          `json:"asked"`
	Sum       ApologySum      `json:"sum"`
	Apologies []ApologyRecord `json:"apologies"`
	// Next is what to give as --after for what comes behind; empty when this is all.
	Next string `json:"next"`
	// Problems name what could not be read: then the list may not have all.
	Problems []string `json:"problems"`
}

// Write renders the list.
func (l *ApologyList) Write(w io.Writer, f Format) error { return render(w, f, l, l.csv, l.table) }

func (l *ApologyList) csv(w io.Writer) error {
	var ls []csvLine
	for i := range l.Apologies {
		a := &l.Apologies[i]
		ls = append(ls, csvLine{section: "apology", state: a.state(), units: num(a.Quantity), id: a.ID, hold: a.Hold, key: a.Key,
			first: a.At.Time(), last: a.AckedAt, detail: a.Reason, source: a.source(), by: a.AckedBy, why: a.Why})
	}
	for _, s := range l.Problems {
		ls = append(ls, csvLine{section: "problem", detail: s})
	}
	return writeCSV(w, ls)
}

func (r *ApologyRecord) state() string {
	if r.Open() {
		return "open"
	}
	return "acknowledged"
}

// source names the stores that filed it.
func (r *ApologyRecord) source() string {
	switch {
	case r.Redis && r.MySQL:
		return "redis and mysql"
	case r.Redis:
		return "redis"
	default:
		return "mysql"
	}
}

func (l *ApologyList) table() string {
	var p page
	p.item("", fmt.Sprintf("Apologies of pod %q, %s, oldest first: promises that have no stock behind them", l.Pod, l.Asked))
	for i := range l.Apologies {
		a := &l.Apologies[i]
		p.line("")
		p.line("  %s  %s, %s", a.ID, a.state(), count(a.Quantity, "unit"))
		p.item("      ", fmt.Sprintf("hold %q, %s, %s: %s (filed by %s)", a.Hold, a.Key, clock(a.At.Time()), a.Reason, a.source()))
		if a.AckedBy != "" {
			p.item("      ", fmt.Sprintf("%s acknowledged by %s, %s: %s", count(a.Acked, "unit"), a.AckedBy, clock(a.AckedAt), a.Why))
		}
	}
	p.line("")
	p.line("%s open with %s, %s acknowledged.", count(l.Sum.Open, "promise"), count(l.Sum.OpenUnits, "unit"), group(l.Sum.Acked))
	if l.Sum.Open > 0 {
		p.line("Find the units or tell the customer, then:  crossfade apologies ack %s <id> --why …", l.Pod)
	}
	if l.Next != "" {
		p.line("There are more:  --after %s, or --all", l.Next)
	}
	for _, s := range l.Problems {
		p.item("PROBLEM: ", s)
	}
	return p.b.String()
}

// AckedApology is what became of an acknowledgement.
type AckedApology struct {
	ApologyRecord
	// Changed is false where it had been acknowledged before: by AckedBy, at AckedAt.
	Changed bool `json:"changed"`
}

// Write renders it as a table; other formats are JSON.
func (a *AckedApology) Write(w io.Writer, f Format) error {
	if f != FormatTable {
		return writeJSON(w, a)
	}
	var p page
	what := fmt.Sprintf("hold %q, %s, %s", a.Hold, a.Key, count(a.Acked, "unit"))
	if a.Changed {
		p.item("", fmt.Sprintf("%s: acknowledged by %s", what, a.AckedBy))
	} else {
		p.item("", fmt.Sprintf("%s: was acknowledged already, by %s, %s: %s; nothing was changed", what, a.AckedBy, clock(a.AckedAt), a.Why))
	}
	_, err := io.WriteString(w, p.b.String())
	return err
}
