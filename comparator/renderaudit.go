package comparator

import (
	"fmt"
	"io"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Write renders the result.
func (r *AuditResult) Write(w io.Writer, f Format) error {
	return render(w, f, r, r.csv, r.table)
}

// maxAuditShown bounds the findings that a table spells out; JSON and CSV have all that are kept.
const maxAuditShown = 50

func (r *AuditResult) table() string {
	var p page
	p.line("Audit of pod %q, %s, took %s", r.Pod, clock(r.Ended), r.Ended.Sub(r.Started).Round(time.Millisecond))
	p.item("", fmt.Sprintf("stage %s, epoch %d; compared: %s", r.Stage, r.Epoch, r.Scope))
	p.head("READ")
	p.line("  truth (%s)   %s and %s", r.Stage.Truth(), count(r.HoldsTruth, "hold"), count(r.LevelsTruth, "level"))
	p.line("  shadow (%s)  %s open and %s", r.Stage.Truth().Other(), count(r.HoldsShadow, "hold"), count(r.LevelsShadow, "level"))
	p.head("DIFFERENCES: %s, %s", count(r.FindingsTotal, "finding"), count(r.UnitsTotal, "unit"))
	if r.FindingsTotal == 0 {
		p.line("  none that persists at rest")
	}
	if r.ExcusedTotal > 0 {
		p.line("  besides them %s, %s, that excuses cover", count(r.ExcusedTotal, "difference"), count(r.ExcusedUnits, "unit"))
	}
	for _, s := range r.Summary {
		p.line("  %-15s %8s %12s", s.Class, plural(s.Findings, "finding", "findings"), count(s.Units, "unit"))
		p.item("      ", s.Class.Meaning())
		p.item("      do: ", s.Class.Next())
	}
	p.line("  %s gone when looked at again (entries on their way)", was(r.Passing, "difference"))
	if r.Attributed > 0 {
		p.line("  %s from the holds found and %s not counted again", follows2(r.Attributed), isAre(r.Attributed))
	}
	if r.UndeterminedTotal > 0 {
		p.head("UNDETERMINED: %s did not come to rest; audit again, or when traffic is lower", count(r.UndeterminedTotal, "difference"))
		for _, o := range r.Undetermined[:min(len(r.Undetermined), maxReportFindings)] {
			subject := fmt.Sprintf("hold %q", o.Hold)
			if o.Key != nil {
				subject = o.Key.String()
			}
			p.item("  - ", subject+": "+o.Why)
		}
	}
	if len(r.Findings) > 0 {
		shown := min(len(r.Findings), maxAuditShown)
		p.head("FINDINGS (%d of %s)", shown, group(r.FindingsTotal+r.ExcusedTotal))
		for i := range r.Findings[:shown] {
			findingLines(&p, &r.Findings[i])
		}
	}
	p.head("RESULT")
	switch {
	case r.Clean() && r.ExcusedTotal > 0:
		p.line("  0 differences at rest but %s", plural(r.ExcusedTotal, "one that an excuse covers", "that excuses cover"))
	case r.Clean():
		p.line("  0 differences: at rest both stores say the same")
	case r.FindingsTotal == 0:
		p.line("  0 differences at rest, %s undetermined", group(r.UndeterminedTotal))
	default:
		p.line("  %s, %s undetermined", count(r.FindingsTotal, "difference"), group(r.UndeterminedTotal))
	}
	return p.b.String()
}

func was(n int64, noun string) string {
	if n == 1 {
		return count(n, noun) + " was"
	}
	return count(n, noun) + " were"
}

func follows2(n int64) string {
	if n == 1 {
		return "1 level's difference follows"
	}
	return group(n) + " levels' differences follow"
}

func isAre(n int64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func (r *AuditResult) csv(w io.Writer) error {
	ls := []csvLine{
		{section: "audit", name: "pod", detail: string(r.Pod)},
		{section: "audit", name: "stage", detail: r.Stage.String()},
		{section: "audit", name: "scope", detail: r.Scope},
		{section: "audit", name: "started", last: r.Started},
		{section: "audit", name: "ended", last: r.Ended},
		{section: "audit", name: "holds_truth", count: num(r.HoldsTruth)},
		{section: "audit", name: "holds_shadow", count: num(r.HoldsShadow)},
		{section: "audit", name: "levels_truth", count: num(r.LevelsTruth)},
		{section: "audit", name: "levels_shadow", count: num(r.LevelsShadow)},
		{section: "audit", name: "passing", count: num(r.Passing)},
		{section: "audit", name: "attributed", count: num(r.Attributed)},
		{section: "audit", name: "findings_total", count: num(r.FindingsTotal), units: num(r.UnitsTotal)},
		{section: "audit", name: "excused_total", count: num(r.ExcusedTotal), units: num(r.ExcusedUnits)},
		{section: "audit", name: "undetermined_total", count: num(r.UndeterminedTotal)},
	}
	for _, s := range r.Summary {
		ls = append(ls, csvLine{section: "class", name: s.Class.String(), state: s.Life.String(), count: num(s.Findings), units: num(s.Units), detail: s.Class.Meaning()})
	}
	ls = append(ls, findingsCSV(r.Findings)...)
	for _, o := range r.Undetermined {
		var k backends.Key
		if o.Key != nil {
			k = *o.Key
		}
		ls = append(ls, csvLine{section: "undetermined", hold: o.Hold, key: k, detail: o.Why})
	}
	return writeCSV(w, ls)
}

// Write renders the result.
func (c *Conservation) Write(w io.Writer, f Format) error {
	return render(w, f, c, c.csv, c.table)
}

func (c *Conservation) table() string {
	var p page
	p.line("Conservation of pod %q, %s", c.Pod, clock(c.At))
	p.text("", "For every item and location: units on hand = available + held + taken + unmaterialised, where held is counted from the holds themselves.")
	for i := range c.Stores {
		s := &c.Stores[i]
		p.head("%s: %s checked in %s, %s out of balance", s.Store, count(int64(s.Checked), "key"), micros(s.Took*1000), group(int64(s.BrokenTotal)))
		if s.Error != "" {
			p.item("  NOT CHECKED TO THE END: ", s.Error)
		}
		for j := range s.Broken[:min(len(s.Broken), maxAuditShown)] {
			b := &s.Broken[j]
			p.item("  ", fmt.Sprintf("%s: on hand %d, available %d, held %d, taken %d, unmaterialised %d: off by %+d", b.Key, b.OnHand, b.Available, b.Held, b.Taken, b.Unmaterialised, b.Imbalance))
		}
	}
	p.head("RESULT")
	if c.Clean() {
		p.line("  every store is in balance: no unit was made or lost")
	} else {
		p.item("  ", "NOT in balance, or not checked: a level that is off by more than zero has units that nobody accounts for, by less than zero it has promised units that it does not have")
	}
	return p.b.String()
}

func (c *Conservation) csv(w io.Writer) error {
	ls := []csvLine{{section: "conservation", name: "pod", last: c.At, detail: string(c.Pod)}}
	for i := range c.Stores {
		s := &c.Stores[i]
		ls = append(ls, csvLine{section: "store", name: s.Store, state: "checked", count: num(int64(s.Checked)), detail: s.Error},
			csvLine{section: "store", name: s.Store, state: "broken", count: num(int64(s.BrokenTotal))})
		for j := range s.Broken {
			ls = append(ls, csvLine{section: "broken", name: s.Store, units: num(s.Broken[j].Imbalance), key: s.Broken[j].Key})
		}
	}
	return writeCSV(w, ls)
}
