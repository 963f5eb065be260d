package comparator

import (
	"context"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// recheck looks at the open differences again, in bounded rounds, until each is a finding, gone, or
// undetermined. Afterwards none is open.
func (a *auditor) recheck(ctx context.Context) error {
	for len(a.open) > 0 {
		n := min(len(a.open), auditPage)
		if err := a.recheckSome(ctx, slices.Clone(a.open[:n])); err != nil {
			return err
		}
		a.open = a.open[n:] // only now: until then another proxy would have to look at all of them
		if err := a.in.Checkpoint(ctx, a.state); err != nil {
			return err
		}
	}
	a.open = nil
	return nil
}

func (a *auditor) recheckSome(ctx context.Context, open []*suspect) error {
	pause := a.in.Pause
	for round := 0; round < a.in.Rounds && len(open) > 0; round++ {
		if round > 0 {
			if err := a.in.Wait(ctx, pause); err != nil {
				return err
			}
		}
		began := a.in.Now()
		p, err := a.pair()
		if err != nil {
			return err
		}
		keys, holds := subjects(open)
		ev, err := Look(ctx, p, keys, holds, a.in.Now())
		if err != nil {
			return err
		}
		if a.in.Pacer != nil {
			pause = max(a.in.Pause, a.in.Pacer.afterLook(a.in.Now().Sub(began)))
		}
		left := open[:0]
		for _, s := range open {
			if !a.lookedAt(s, &ev) {
				left = append(left, s)
			}
		}
		open = left
		a.tell()
	}
	for _, s := range open {
		a.undetermined(s)
	}
	return nil
}

func subjects(open []*suspect) (keys []backends.Key, holds []backends.HoldID) {
	for _, s := range open {
		if s.hold != "" {
			holds = append(holds, s.hold)
		} else {
			keys = append(keys, s.key)
		}
	}
	return keys, holds
}

// lookedAt takes one look into account; it answers true when the difference is settled.
func (a *auditor) lookedAt(s *suspect, ev *Evidence) bool {
	if ev.Unsure != "" {
		s.why = ev.Unsure
		return false
	}
	var d Difference
	var differs bool
	if s.hold != "" {
		e := ev.Holds[s.hold]
		if !e.Quiescent() {
			s.why = "entries for the hold were on their way, or it changed, at every look"
			return false
		}
		d, differs = CompareHold(e.TruthAfter, e.Shadow, a.rules)
	} else {
		e := ev.Keys[s.key]
		if !e.Quiescent() {
			s.why = "entries for the key were on their way, or its level changed, at every look"
			return false
		}
		d, differs = CompareLevel(a.stage, e.TruthAfter, e.ShadowAfter, a.effects[s.key])
	}
	switch {
	case !differs:
		a.res.Passing++
		return true
	case s.moments == 0 || !d.same(&s.diff):
		s.moments, s.last = 1, ev.At
	case ev.At.Sub(s.last) >= momentsApart:
		s.moments, s.last = s.moments+1, ev.At
	}
	s.diff = d
	s.why = "it differed at one quiescent moment only"
	if s.moments < 2 {
		return false
	}
	a.found(s, ev)
	return true
}

// found makes the finding, and notes what a hold's difference does to the levels.
func (a *auditor) found(s *suspect, ev *Evidence) {
	now := stamp(a.in.Now())
	f := Finding{
		Pod: a.in.Pod, Epoch: a.in.Epoch, Stage: a.stage, Class: s.diff.Class, Source: "audit", Hold: s.hold,
		Units: s.diff.Units, Proof: s.diff.Why + "; the same at two quiescent moments",
		FirstSeen: now, LastSeen: now, Count: 1, Life: LifeOpen,
	}
	f.ID = FindingID(f.Pod, f.Class, s.hold, s.key)
	if s.hold != "" {
		e := ev.Holds[s.hold]
		f.ofHold(&e)
		effectOf(e.TruthAfter, e.Shadow, func(k backends.Key, g Gap) {
			if old, known := a.effects[k]; known || len(a.effects) < maxEffects {
				a.effects[k] = Gap{old.Sellable + g.Sellable, old.OnHand + g.OnHand, old.Taken + g.Taken}
			}
		})
	} else {
		e := ev.Keys[s.key]
		f.Shop = s.key.Shop
		f.Truth.Level, f.Shadow.Level = orEmpty(e.TruthAfter, s.key), orEmpty(e.ShadowAfter, s.key)
	}
	f.Diff = Diff(f.Shop, nil, f.Truth, f.Shadow)
	f.Truth.Hold, f.Shadow.Hold = boundHold(f.Truth.Hold), boundHold(f.Shadow.Hold)
	f.limit()
	a.count(f)
}

// ofHold says what both stores have of the finding's hold.
func (f *Finding) ofHold(e *HoldEvidence) {
	f.Truth.Hold, f.Shadow.Hold = e.TruthAfter, e.Shadow
	for _, h := range []*backends.Hold{e.Shadow, e.TruthAfter} {
		if h != nil {
			f.Shop, f.Caller = h.Shop, h.Caller
		}
	}
}

func (a *auditor) count(f Finding) {
	if e := a.in.Excuses.Find(&f); e != nil {
		f.Life, f.Excuse = LifeExcused, e.Name
		a.res.ExcusedTotal++
		a.res.ExcusedUnits += f.TotalUnits
		a.hand(f)
		return
	}
	a.res.FindingsTotal++
	a.res.UnitsTotal += f.TotalUnits
	s := a.sums[f.Class]
	if s == nil {
		s = &ClassSummary{Class: f.Class, Life: LifeOpen}
		a.sums[f.Class] = s
	}
	s.Findings, s.Units, s.Sights, s.LastSeen = s.Findings+1, s.Units+f.TotalUnits, s.Sights+1, f.LastSeen
	a.hand(f)
}

func (a *auditor) hand(f Finding) {
	if len(a.res.Findings) < MaxAuditFindings && !a.in.Unlisted {
		a.res.Findings = append(a.res.Findings, f)
	}
	a.in.Found(f)
}

func (a *auditor) undetermined(s *suspect) {
	a.res.UndeterminedTotal++
	if len(a.res.Undetermined) < MaxAuditOpen {
		a.res.Undetermined = append(a.res.Undetermined, s.open())
	}
}
