package comparator

import (
	"encoding/csv"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// csvHeader is the same for every CSV that this package writes: one line per fact, with the section
// that it belongs to. Columns are only ever added at the end.
var csvHeader = []string{"section", "name", "state", "count", "units", "id", "hold", "shop", "item", "location", "first_seen", "last_seen", "detail", "source", "caller", "by", "why"}

type csvLine struct {
	section, name, state string
	count, units         *int64
	id                   string
	hold                 backends.HoldID
	key                  backends.Key
	first, last          time.Time
	detail               string
	source, caller       string
	by, why              string
}

func num(n int64) *int64 { return &n }

func writeCSV(w io.Writer, lines []csvLine) error {
	c := csv.NewWriter(w)
	_ = c.Write(csvHeader) // errors are kept until Error
	number := func(n *int64) string {
		if n == nil {
			return ""
		}
		return strconv.FormatInt(*n, 10)
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	for _, l := range lines {
		_ = c.Write([]string{l.section, l.name, l.state, number(l.count), number(l.units), l.id, string(l.hold),
			string(l.key.Shop), string(l.key.Item), string(l.key.Location), at(l.first), at(l.last), l.detail, l.source, l.caller, l.by, l.why})
	}
	c.Flush()
	return c.Error()
}

func (r *Report) csv(w io.Writer) error {
	ls := []csvLine{
		{section: "report", name: "pod", detail: string(r.Pod)},
		{section: "report", name: "stage", detail: r.Stage.String()},
		{section: "report", name: "epoch", count: num(int64(min(r.Epoch, 1<<62)))},
		{section: "report", name: "generated_at", last: r.GeneratedAt},
		{section: "report", name: "verdict", state: string(r.Verdict.State), why: r.Verdict.Why},
		{section: "parity", name: "agreed", count: num(r.Parity.Agreed)},
		{section: "parity", name: "compared", count: num(r.Parity.Compared)},
		{section: "parity", name: "decisions", count: num(r.Parity.Decisions)},
	}
	for _, c := range Columns() {
		ls = append(ls, csvLine{section: "coverage", name: c.String(), count: num(r.Coverage.Of(c)), detail: c.Meaning()})
	}
	var causes []string
	for k := range r.UndeterminedWhy {
		causes = append(causes, k)
	}
	slices.Sort(causes)
	for _, k := range causes {
		ls = append(ls, csvLine{section: "undetermined_why", name: k, count: num(r.UndeterminedWhy[k])})
	}
	for _, c := range r.Classes {
		for _, s := range []struct {
			life  Life
			n     int64
			units *int64
		}{{LifeOpen, c.Open, num(c.OpenUnits)}, {LifeRepaired, c.Repaired, nil}, {LifeAcknowledged, c.Acknowledged, nil}, {LifeExcused, c.Excused, nil},
			{LifeExplained, c.Explained, nil}, {LifeUndetermined, c.Undetermined, nil}} {
			ls = append(ls, csvLine{section: "class", name: c.Class.String(), state: s.life.String(), count: num(s.n), units: s.units, detail: c.Meaning})
		}
	}
	ls = append(ls, findingsCSV(r.Findings)...)
	if o := r.Outbox; o != nil {
		ls = append(ls, csvLine{section: "outbox", name: "entries", count: num(o.Entries)},
			csvLine{section: "outbox", name: "oldest_ms", count: num(o.OldestMillis)},
			csvLine{section: "outbox", name: "dropped", count: num(o.Dropped)})
	}
	for _, d := range r.Debt {
		ls = append(ls, csvLine{section: "debt", name: d.Store, units: num(d.Units), key: d.Key})
	}
	for _, a := range r.Apologies {
		ls = append(ls, csvLine{section: "apology", units: num(a.Quantity), hold: a.Hold, key: a.Key, detail: a.Reason})
	}
	for _, l := range []struct {
		name string
		Latency
	}{{"truth", r.TruthLatency}, {"shadow", r.ShadowLatency}} {
		for _, q := range []struct {
			name string
			us   int64
		}{{"p50_us", l.P50}, {"p95_us", l.P95}, {"p99_us", l.P99}, {"max_us", l.Max}} {
			ls = append(ls, csvLine{section: "latency_" + l.name, name: q.name, count: num(q.us)})
		}
	}
	ls = append(ls, r.auditCSV()...)
	ls = append(ls, r.readinessCSV()...)
	ls = append(ls, r.trendCSV()...)
	for _, e := range r.Excuses {
		ls = append(ls, csvLine{section: "excuse", name: e.Name, state: string(e.State), count: num(e.Findings), units: num(e.Units),
			first: e.From, last: e.Until, detail: e.Covers, by: e.Owner, why: e.Why})
	}
	for _, s := range r.Problems {
		ls = append(ls, csvLine{section: "problem", detail: s})
	}
	for _, s := range r.Next {
		ls = append(ls, csvLine{section: "next", detail: s})
	}
	return writeCSV(w, ls)
}

// keyOfItem is an item as a key without a location.
func keyOfItem(t ItemUnits) backends.Key { return backends.Key{Shop: t.Shop, Item: t.Item} }

// findingsCSV has one line per finding and key.
func findingsCSV(fs []Finding) []csvLine {
	var ls []csvLine
	for i := range fs {
		f := &fs[i]
		units := f.Units
		if len(units) == 0 {
			units = []backends.Units{{Key: backends.Key{Shop: f.Shop}, Quantity: f.TotalUnits}}
		}
		for _, u := range units {
			ls = append(ls, csvLine{section: "finding", name: f.Class.String(), state: f.Life.String(), count: num(f.Count), units: num(u.Quantity),
				id: f.ID, hold: f.Hold, key: u.Key, first: f.FirstSeen, last: f.LastSeen, detail: f.Diff,
				source: f.Source, caller: f.Caller, by: f.By, why: f.Why})
		}
	}
	return ls
}
