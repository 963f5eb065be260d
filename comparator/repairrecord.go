package comparator

import (
	"context"
	"errors"
	"fmt"

	"github.com/crossfade-proxy/crossfade/backends"
)

// record marks what was repaired, after what was found has been saved.
func (r *repairer) record(ctx context.Context) error {
	if err := r.save(ctx); err != nil {
		return fmt.Errorf("what was found could not be saved, so nothing is marked as repaired (run the repair again): %w", err)
	}
	r.in.Progress(RepairProgress{Phase: "recording", Total: int64(len(r.findings))})
	if err := r.judgeDecisions(ctx); err != nil {
		return err
	}
	for _, f := range r.sorted() {
		o, why := r.outcomeOf(f)
		if o != RepairDone && o != RepairAgrees {
			continue
		}
		if err := r.mark(ctx, f.ID, why); err != nil {
			return err
		}
	}
	return nil
}

// mark moves one finding, unless its life is past that.
func (r *repairer) mark(ctx context.Context, id, what string) error {
	f, err := r.in.Store.Finding(ctx, r.in.Pod, id)
	switch {
	case errors.Is(err, ErrNoFinding):
		return nil // pruned meanwhile, or what was found waits in a spool
	case err != nil:
		return err
	case !f.Life.MayBecome(LifeRepaired):
		return nil
	}
	_, err = r.in.Store.SetLife(ctx, r.in.Pod, []string{id}, LifeChange{To: LifeRepaired, By: r.in.By, Why: clip(r.in.Why+": "+what, MaxWhy), At: r.in.Now()})
	var life *LifeError
	if errors.As(err, &life) {
		return nil // somebody was faster
	}
	if err == nil {
		r.res.Recorded++
	}
	return err
}

// outcomeOf is what became of a finding: of a decision, what was judged of it; else what became of its subjects.
func (r *repairer) outcomeOf(f *Finding) (RepairOutcome, string) {
	if f.ofDecision() {
		for i := range r.decisions {
			if r.decisions[i].Findings[0] == f.ID {
				return r.decisions[i].Outcome, r.decisions[i].Why
			}
		}
		return RepairUndetermined, ""
	}
	return r.ofSubjects(f)
}

// ofSubjects joins what became of the hold and the keys of a finding: the worst of it.
func (r *repairer) ofSubjects(f *Finding) (RepairOutcome, string) {
	out, why := RepairUndetermined, "it was not looked at"
	worst := -1
	rank := map[RepairOutcome]int{RepairAgrees: 0, RepairDone: 1, RepairPlanned: 2, RepairByHand: 3, RepairUndetermined: 4, RepairDiffers: 5}
	for _, s := range subjectsOf(f) {
		step := r.steps[s]
		if step == nil {
			return RepairUndetermined, why
		}
		if rank[step.Outcome] > worst {
			worst, out, why = rank[step.Outcome], step.Outcome, step.Why
			if n := len(step.Done); n > 0 {
				why = step.Done[n-1] + "; " + why
			}
		}
	}
	return out, why
}

// judgeDecisions says what became of findings about a decision: repaired with its hold and keys, by this
// repair or one that was stopped before it had said so. Where those agree and nothing was repaired, the decision
// itself was wrong, and that is nothing that can be written.
func (r *repairer) judgeDecisions(ctx context.Context) error {
	for i := range r.decisions {
		d := &r.decisions[i]
		f := r.findings[d.Findings[0]]
		d.Outcome, d.Why = r.ofSubjects(f)
		if f.Class == SlowShadow {
			d.Outcome = RepairAgrees
		}
		if d.Outcome != RepairAgrees {
			continue
		}
		earlier, err := r.repairedSince(ctx, f)
		if err != nil {
			return err
		}
		if earlier {
			d.Why = "its hold or one of its keys was repaired since"
			continue
		}
		d.Action, d.Outcome = ByHand, RepairByHand
		d.Why = "both stores agree about its hold and keys, and none of them was repaired since: the decision itself was wrong"
		d.ByHand = "look into it ('crossfade findings show " + string(r.in.Pod) + " " + f.ID + "'), then acknowledge it"
		if f.Class == SlowShadow {
			d.Why, d.ByHand = "the shadow was slow: there is nothing to write", f.Class.Next()
		}
	}
	return nil
}

// repairedSince tells whether a finding about the hold or a key of f was repaired after f was last seen.
func (r *repairer) repairedSince(ctx context.Context, f *Finding) (bool, error) {
	var ids []string
	for _, s := range subjectsOf(f) {
		for _, c := range Classes() {
			ids = append(ids, FindingID(r.in.Pod, c, s.hold, s.key))
		}
	}
	for _, id := range ids {
		o, err := r.in.Store.Finding(ctx, r.in.Pod, id)
		if errors.Is(err, ErrNoFinding) {
			continue
		}
		if err != nil {
			return false, err
		}
		if n := len(o.History); o.ID != f.ID && o.Life == LifeRepaired && n > 0 && !o.History[n-1].At.Before(f.LastSeen) {
			return true, nil
		}
	}
	return false, nil
}

// explain says in the words of the stores what a step writes.
func (r *repairer) explain(h RepairHands, s subject, step *RepairStep) {
	truth, _ := h.Truth.(backends.Explainer)
	shadow, _ := h.Shadow.(backends.Explainer)
	if truth == nil || shadow == nil {
		return
	}
	t, u := step.Truth, step.Shadow
	switch step.Action {
	case RestateHold:
		is := t.Hold.Clone()
		if is == nil {
			is = &backends.Hold{ID: s.hold, State: backends.Released, Version: backends.Version{Epoch: r.epoch}}
		}
		if was := is.Version; t.Hold != nil || !was.After(step.above) {
			is.Version = was.Over(step.above, r.epoch)
		}
		step.Writes = append(prefixed(h.Stage.Truth(), truth.ExplainRestated(t.Hold, is)), prefixed(h.Stage.Truth().Other(), shadow.ExplainFollowed(u.Hold, is))...)
	case RestateTaken:
		is := *t.Level
		is.TakenVersion = is.TakenVersion.Over(step.above, r.epoch)
		step.Writes = append(prefixed(h.Stage.Truth(), truth.ExplainTaken(t.Level, &is, true)), prefixed(h.Stage.Truth().Other(), shadow.ExplainTaken(u.Level, &is, false))...)
		after := step.rest()
		if after.Sellable, after.Taken = after.Sellable+after.Taken, 0; after != (levelGap{}) {
			step.Writes = append(step.Writes, prefixed(h.Stage.Truth().Other(), shadow.ExplainCorrect(u.Level, correctionOf(r.stage, correctionID(r.in.Pod, s.key, 0), s.key, after)))...)
		}
	case CorrectLevel:
		step.Writes = prefixed(h.Stage.Truth().Other(), shadow.ExplainCorrect(u.Level, correctionOf(r.stage, correctionID(r.in.Pod, s.key, 0), s.key, step.rest())))
	default:
	}
}

// prefixed says in which store the commands are.
func prefixed(side backends.Side, commands []string) []string {
	for i := range commands {
		commands[i] = side.String() + ": " + commands[i]
	}
	return commands
}
