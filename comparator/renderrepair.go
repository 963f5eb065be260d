package comparator

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// maxStepsShown bounds the steps that a table spells out; JSON and CSV have all.
const maxStepsShown = 100

// Write renders a plan, or what became of it.
func (r *RepairResult) Write(w io.Writer, f Format) error {
	return render(w, f, r, r.csv, r.table)
}

func (r *RepairResult) table() string {
	var p page
	what := "Plan of a repair"
	if r.Applied {
		what = "Repair"
	}
	p.line("%s of pod %q, %s, took %s", what, r.Pod, clock(r.Ended), r.Ended.Sub(r.Started).Round(time.Millisecond))
	p.item("", fmt.Sprintf("stage %s, epoch %d: %s is the truth, %s is brought in line with it", r.Stage, r.Epoch, r.Stage.Truth(), r.Stage.Truth().Other()))
	if c := r.Compared; c != nil {
		p.item("", fmt.Sprintf("compared before: %s and %s, %s at rest, %d undetermined", count(c.Holds, "hold"), count(c.Levels, "level"), count(c.Findings, "difference"), c.Undetermined))
	}
	if r.CorrectLedger {
		p.item("", "the ledger may be written: the truth's units on hand were said to be right")
	}
	p.head("STEPS (%d of %d)", min(len(r.Steps), maxStepsShown), len(r.Steps))
	if len(r.Steps) == 0 {
		p.line("  nothing is to be repaired")
	}
	for i := range r.Steps[:min(len(r.Steps), maxStepsShown)] {
		r.Steps[i].lines(&p)
	}
	for _, text := range r.Problems {
		p.item("PROBLEM: ", text)
	}
	p.head("RESULT")
	p.item("  ", r.outcomes())
	switch {
	case r.Applied:
		p.line("  %s marked as repaired", plural(int64(r.Recorded), "finding", "findings"))
	case r.Outcomes[RepairPlanned] > 0:
		p.item("  ", fmt.Sprintf("Nothing was written. To execute it:  crossfade repair %s --apply --why …", r.Pod))
	}
	return p.b.String()
}

// outcomes counts them in words.
func (r *RepairResult) outcomes() string {
	var parts []string
	for _, o := range []RepairOutcome{RepairPlanned, RepairDone, RepairAgrees, RepairDiffers, RepairByHand, RepairUndetermined} {
		if n := r.Outcomes[o]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", group(int64(n)), o))
		}
	}
	if len(parts) == 0 {
		return "both stores agree"
	}
	return strings.Join(parts, ", ")
}

func (s *RepairStep) subject() string {
	switch {
	case s.Key != nil:
		return s.Key.String()
	case s.Hold != "":
		return fmt.Sprintf("hold %q", s.Hold)
	default:
		return "a decision"
	}
}

func (s *RepairStep) lines(p *page) {
	p.line("")
	p.item("  - ", fmt.Sprintf("%s, %s, %s: %s, %s", s.subject(), s.Class, count(s.Units, "unit"), s.Action, s.Outcome))
	p.item("    ", s.Why)
	for _, l := range s.Truth.lines() {
		p.item("    truth:  ", l)
	}
	for _, l := range s.Shadow.lines() {
		p.item("    shadow: ", l)
	}
	for _, l := range s.Writes {
		p.item("    write:  ", l)
	}
	for _, l := range s.Done {
		p.item("    done:   ", l)
	}
	if s.ByHand != "" {
		p.item("    do:     ", s.ByHand)
	}
	for _, id := range s.Findings {
		p.line("    finding %s", id)
	}
}

func (r *RepairResult) csv(w io.Writer) error {
	ls := []csvLine{
		{section: "repair", name: "pod", detail: string(r.Pod)},
		{section: "repair", name: "stage", detail: r.Stage.String()},
		{section: "repair", name: "applied", detail: fmt.Sprint(r.Applied)},
		{section: "repair", name: "recorded", count: num(int64(r.Recorded))},
	}
	for i := range r.Steps {
		s := &r.Steps[i]
		l := csvLine{section: "step", name: s.Class.String(), state: string(s.Outcome), units: num(s.Units), id: strings.Join(s.Findings, " "), hold: s.Hold, detail: s.Why, source: string(s.Action), why: s.ByHand}
		if s.Key != nil {
			l.key = *s.Key
		}
		ls = append(ls, l)
		for _, c := range s.Writes {
			ls = append(ls, csvLine{section: "write", id: l.id, hold: s.Hold, key: l.key, detail: c})
		}
	}
	for _, text := range r.Problems {
		ls = append(ls, csvLine{section: "problem", detail: text})
	}
	return writeCSV(w, ls)
}
