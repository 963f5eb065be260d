package comparator

import (
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// AuditReport says how the audits of a pod stand.
type AuditReport struct {
	// Last is the last complete audit; null for none.
	Last *AuditSum `json:"last"`
	// Current: the last complete one is of this stage and epoch, and not older than twice the interval of the schedule.
	Current bool `json:"current"`
	// Present is the one that has begun and is not complete; null for none.
	Present *AuditPresent `json:"present"`
	// Fails counts failures since the last complete audit, Failure is the last one.
	Fails    int        `json:"fails"`
	Failure  string     `json:"failure"`
	FailedAt *time.Time `json:"failed_at"`
}

// AuditSum is what a complete audit came to.
type AuditSum struct {
	Stage        backends.Stage `json:"stage,omitzero"`
	Epoch        uint64         `json:"epoch"`
	Began        time.Time      `json:"began"`
	Ended        time.Time      `json:"ended"`
	Holds        int64          `json:"holds"` // of the truth
	Levels       int64          `json:"levels"`
	Findings     int64          `json:"findings"`
	Units        int64          `json:"units"`
	Excused      int64          `json:"excused"`
	Undetermined int64          `json:"undetermined"`
}

// AuditPresent is an audit that is not complete.
type AuditPresent struct {
	Began    time.Time `json:"began"`
	Holder   string    `json:"holder"`  // who has it, or had it last
	Running  bool      `json:"running"` // somebody has it
	Phase    string    `json:"phase"`
	Holds    int64     `json:"holds"` // read so far, of both stores
	Levels   int64     `json:"levels"`
	Findings int64     `json:"findings"`
}

// NewAuditReport reads a row, as it is at now. It is pure.
func NewAuditReport(row *AuditRow, every time.Duration, stage backends.Stage, epoch uint64, now time.Time) *AuditReport {
	r := &AuditReport{Fails: row.Fails, Failure: row.Failure}
	if row.Fails > 0 {
		at := stamp(now.Add(-row.Failed))
		r.FailedAt = &at
	}
	if l := row.Last; l != nil {
		r.Last = &AuditSum{
			Stage: l.Stage, Epoch: l.Epoch, Began: stamp(now.Add(-row.LastBegun)), Ended: stamp(now.Add(-row.LastEnded)), Holds: l.HoldsTruth, Levels: l.LevelsTruth,
			Findings: l.FindingsTotal, Units: l.UnitsTotal, Excused: l.ExcusedTotal, Undetermined: l.UndeterminedTotal,
		}
		r.Current = l.Stage == stage && l.Epoch == epoch && (every <= 0 || row.LastBegun <= 2*every)
	}
	if row.Begun > 0 {
		p := &AuditPresent{Began: stamp(now.Add(-row.Begun)), Holder: row.Holder, Running: row.Lease > 0, Phase: row.phase()}
		if s := row.State; s != nil {
			p.Holds, p.Levels, p.Findings = s.Result.HoldsTruth+s.Result.HoldsShadow, s.Result.LevelsTruth+s.Result.LevelsShadow, s.Result.FindingsTotal
		}
		r.Present = p
	}
	return r
}

// Lines say it in words, one sentence each.
func (r *AuditReport) Lines() []string {
	if r == nil {
		return []string{"not known"}
	}
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if l := r.Last; l == nil {
		say("none is complete yet")
	} else {
		say("the last complete one ended at %s, after %s: %s and %s of the truth, %s with %s, %s excused, %s undetermined",
			clock(l.Ended), l.Ended.Sub(l.Began).Round(time.Second), count(l.Holds, "hold"), count(l.Levels, "level"),
			count(l.Findings, "finding"), count(l.Units, "unit"), group(l.Excused), group(l.Undetermined))
		if !r.Current {
			say("it says nothing of today: it is of stage %s, epoch %d, or too long ago", l.Stage, l.Epoch)
		}
	}
	if p := r.Present; p != nil {
		state := "waits to be gone on with"
		if p.Running {
			state = "is with " + p.Holder
		}
		say("the present one began at %s and %s, at the %s: %s and %s read, %s", clock(p.Began), state, p.Phase,
			count(p.Holds, "hold"), count(p.Levels, "level"), count(p.Findings, "finding"))
	}
	if r.Fails > 0 {
		say("it has failed %s since the last complete one, last at %s: %s", times(int64(r.Fails)), clock(*r.FailedAt), clip(r.Failure, 3*tableWidth))
	}
	return out
}

// auditSteps are what is to be done about audits.
func auditSteps(r *Report) []string {
	switch a := r.Audit; {
	case a == nil:
		return nil
	case a.Fails > 0:
		return []string{fmt.Sprintf("The audit of this pod fails: %s.", clip(a.Failure, 3*tableWidth))}
	case !a.Current && a.Present != nil:
		return []string{"An audit of all holds and levels is under way: wait until it is complete."}
	case !a.Current:
		return []string{fmt.Sprintf("No audit of all holds and levels is complete in this epoch: 'crossfade audit %s' runs one now.", r.Pod)}
	case a.Last.Undetermined > 0:
		return []string{fmt.Sprintf("The last audit left %s undetermined: 'crossfade audit %s' when traffic is lower.", count(a.Last.Undetermined, "difference"), r.Pod)}
	}
	return nil
}

func (r *Report) auditCSV() []csvLine {
	a := r.Audit
	if a == nil {
		return nil
	}
	var ls []csvLine
	if l := a.Last; l != nil {
		state := "current"
		if !a.Current {
			state = "old"
		}
		ls = append(ls, csvLine{section: "audit", name: "last", state: state, first: l.Began, last: l.Ended, count: num(l.Findings), units: num(l.Units)},
			csvLine{section: "audit", name: "last_holds", count: num(l.Holds)}, csvLine{section: "audit", name: "last_levels", count: num(l.Levels)},
			csvLine{section: "audit", name: "last_undetermined", count: num(l.Undetermined)})
	}
	if p := a.Present; p != nil {
		ls = append(ls, csvLine{section: "audit", name: "present", state: p.Phase, first: p.Began, count: num(p.Findings), by: p.Holder},
			csvLine{section: "audit", name: "present_holds", count: num(p.Holds)}, csvLine{section: "audit", name: "present_levels", count: num(p.Levels)})
	}
	if a.Fails > 0 {
		ls = append(ls, csvLine{section: "audit", name: "failures", count: num(int64(a.Fails)), last: *a.FailedAt, why: a.Failure})
	}
	return ls
}
