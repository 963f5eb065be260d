package comparator

import (
	"fmt"
	"strings"
	"time"
)

// ExcuseReport is one excuse as a pod's report shows it.
type ExcuseReport struct {
	Name  string      `json:"name"`
	Owner string      `json:"owner"`
	Why   string      `json:"why"`
	From  time.Time   `json:"from"`
	Until time.Time   `json:"until"`
	State ExcuseState `json:"state"`
	// Covers says in words what it is for.
	Covers string `json:"covers"`
	// Findings of this pod whose last sight it covered, of all that are kept, with their units.
	Findings int64     `json:"findings"`
	Units    int64     `json:"units"`
	LastSeen time.Time `json:"last_seen,omitzero"`
}

// Idle tells whether an excuse that has begun has matched nothing.
func (e *ExcuseReport) Idle() bool { return e.Findings == 0 && e.State != ExcuseToCome }

// reportExcuses lists the excuses that may concern the pod, in the order of their file, and then those that
// findings name and the file does not.
func reportExcuses(in *ReportInput) []ExcuseReport {
	out := []ExcuseReport{}
	use := map[string]ExcuseUse{}
	for _, u := range in.ExcuseUse {
		use[u.Name] = u
	}
	for i := range in.Excuses {
		e := &in.Excuses[i]
		u := use[e.Name]
		delete(use, e.Name)
		if !e.Of(in.Pod) && u.Findings == 0 {
			continue
		}
		out = append(out, ExcuseReport{Name: e.Name, Owner: e.Owner, Why: e.Why, From: e.From, Until: e.Until, State: e.StateAt(in.GeneratedAt),
			Covers: e.covers(), Findings: u.Findings, Units: u.Units, LastSeen: u.LastSeen})
	}
	for _, u := range in.ExcuseUse {
		if _, removed := use[u.Name]; removed {
			out = append(out, ExcuseReport{Name: u.Name, State: ExcuseRemoved, Findings: u.Findings, Units: u.Units, LastSeen: u.LastSeen})
		}
	}
	return out
}

// covers says what the excuse is for.
func (e *Excuse) covers() string {
	var parts []string
	add := func(one, many string, n int, value func(int) string) {
		const most = 3
		if n == 0 {
			return
		}
		var vs []string
		for i := range min(n, most) {
			vs = append(vs, value(i))
		}
		text := many + " " + strings.Join(vs, ", ")
		if n == 1 {
			text = one + " " + vs[0]
		}
		if n > most {
			text += fmt.Sprintf(" and %d more", n-most)
		}
		parts = append(parts, text)
	}
	add("class", "classes", len(e.Classes), func(i int) string { return e.Classes[i].String() })
	add("pod", "pods", len(e.Pods), func(i int) string { return string(e.Pods[i]) })
	add("shop", "shops", len(e.Shops), func(i int) string { return string(e.Shops[i]) })
	add("item", "items", len(e.Items), func(i int) string { return string(e.Items[i]) })
	add("caller", "callers", len(e.Callers), func(i int) string { return e.Callers[i] })
	return strings.Join(parts, "; ")
}

// excuseSteps name the excuses that want somebody: those that have run out, and those that match nothing.
func excuseSteps(r *Report) []string {
	var steps []string
	for i := range r.Excuses {
		e := &r.Excuses[i]
		switch {
		case e.State == ExcuseRunOut:
			steps = append(steps, fmt.Sprintf("The excuse %s of %s ran out on %s: take it out of the file, or renew it with its reason. What it covered is a finding when it is seen again.", e.Name, e.Owner, day(e.Until)))
		case e.State == ExcuseHolds && e.Idle():
			steps = append(steps, fmt.Sprintf("The excuse %s of %s has matched nothing since %s: take it out of the file, unless it is for something to come.", e.Name, e.Owner, day(e.From)))
		}
	}
	return steps
}

// day writes an instant as an excuse's file would.
func day(t time.Time) string {
	if t.Equal(t.Truncate(24 * time.Hour)) {
		return t.UTC().Format(time.DateOnly)
	}
	return clock(t)
}

func (r *Report) excuseTable(p *page) {
	if len(r.Excuses) == 0 {
		return
	}
	p.head("EXCUSES: differences that somebody has named beforehand; they are no findings and no matches")
	for i := range r.Excuses {
		e := &r.Excuses[i]
		if e.State == ExcuseRemoved {
			p.item("  ", fmt.Sprintf("%s: no longer in the file; %s kept of it, %s", e.Name, are(e.Findings, "finding"), count(e.Units, "unit")))
			continue
		}
		matched := "matches nothing"
		if e.Findings > 0 {
			matched = fmt.Sprintf("%s, %s, last %s", count(e.Findings, "finding"), count(e.Units, "unit"), clock(e.LastSeen))
		} else if e.State == ExcuseToCome {
			matched = "has not begun"
		}
		state := string(e.State)
		if e.State == ExcuseRunOut {
			state = "RUN OUT"
		}
		p.item("  ", fmt.Sprintf("%s, %s, %s to %s, owner %s: %s", e.Name, state, day(e.From), day(e.Until), e.Owner, matched))
		p.item("      ", fmt.Sprintf("%s; %s", e.Covers, e.Why))
	}
}
