package comparator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// look takes one look at keys and holds, in parts.
func (r *repairer) look(ctx context.Context, keys []backends.Key, holds []backends.HoldID) (*Evidence, error) {
	all := &Evidence{At: r.in.Now(), Stage: r.stage, Keys: map[backends.Key]KeyEvidence{}, Holds: map[backends.HoldID]HoldEvidence{}}
	for len(keys)+len(holds) > 0 {
		p, err := r.in.Pair()
		if err != nil {
			return nil, err
		}
		if p.Stage != r.stage {
			return nil, ErrStageMoved
		}
		n, m := min(len(keys), auditPage), min(len(holds), auditPage)
		ev, err := Look(ctx, p, keys[:n], holds[:m], r.in.Now())
		if err != nil {
			return nil, err
		}
		keys, holds = keys[n:], holds[m:]
		for k, e := range ev.Keys {
			all.Keys[k] = e
		}
		for id, e := range ev.Holds {
			all.Holds[id] = e
		}
		if ev.Unsure != "" {
			all.Unsure = ev.Unsure
		}
	}
	return all, nil
}

// plan looks at everything that is concerned and makes the steps.
func (r *repairer) plan(ctx context.Context) error {
	r.in.Progress(RepairProgress{Phase: "looking", Total: int64(len(r.order))})
	var holds []backends.HoldID
	for _, s := range r.order {
		if s.hold != "" {
			holds = append(holds, s.hold)
		}
	}
	for id := range r.differing {
		holds = append(holds, id)
	}
	slices.Sort(holds)
	holds = slices.Compact(holds)
	ev, err := r.look(ctx, nil, holds)
	if err != nil {
		return err
	}
	r.knowHolds(ev)
	return r.planAll(ctx, ev, holds)
}

// knowHolds notes which holds differ, and where; the keys of those that are to be repaired are looked at as well.
func (r *repairer) knowHolds(ev *Evidence) {
	for id := range ev.Holds {
		e := ev.Holds[id]
		if _, differs := CompareHold(e.TruthAfter, e.Shadow, r.rules); !differs && e.Quiescent() {
			delete(r.differing, id)
			continue
		}
		r.differing[id] = e
		for _, k := range touched(&e) {
			r.at[k] = append(r.at[k], id)
			if _, wanted := r.ids[subject{hold: id}]; wanted && r.res.Compared != nil {
				r.order = append(r.order, subject{key: k})
			}
		}
	}
	for k := range r.at {
		slices.Sort(r.at[k])
	}
}

// planAll makes a step of each subject: levels by two moments, of which the second is looked at now.
func (r *repairer) planAll(ctx context.Context, ev *Evidence, holds []backends.HoldID) error {
	var keys []backends.Key
	seen := map[subject]bool{}
	r.order = slices.DeleteFunc(r.order, func(s subject) bool {
		if seen[s] {
			return true
		}
		seen[s] = true
		if s.hold == "" {
			keys = append(keys, s.key)
		}
		return false
	})
	for _, s := range r.order {
		if s.hold != "" {
			e := ev.Holds[s.hold]
			r.put(s, planHold(&e, r.rules), ev)
		}
	}
	if len(keys) > 0 {
		for look := range 2 {
			if look > 0 {
				if err := r.in.Wait(ctx, momentsApart); err != nil {
					return err
				}
			}
			levels, err := r.look(ctx, keys, holds)
			if err != nil {
				return err
			}
			for _, k := range keys {
				r.planKey(k, levels)
			}
		}
	}
	return r.finishPlan()
}

// planKey plans a level; a gap that was another one at the look before is not a plan.
func (r *repairer) planKey(k backends.Key, ev *Evidence) {
	s := subject{key: k}
	e := ev.Keys[k]
	effects, resting := effectsAt(k, r.at[k], ev)
	step := planLevel(k, &e, effects, resting, levelRules{r.stage, r.in.CorrectLedger, r.broken[k]})
	if was := r.steps[s]; was != nil && was.Gap != nil && step.Gap != nil && was.rest() != step.rest() {
		step.Action, step.Outcome, step.Why = NoAction, RepairUndetermined, "its level differed by "+was.rest().String()+", then by "+step.rest().String()
	}
	r.put(s, step, ev)
}

func (r *repairer) put(s subject, step RepairStep, ev *Evidence) {
	step.Hold, step.Findings = s.hold, r.ids[s]
	if ev.Unsure != "" {
		step.Action, step.Outcome, step.Why = NoAction, RepairUndetermined, ev.Unsure
	}
	if step.Class == ClassUnknown && len(step.Findings) > 0 {
		step.Class = r.findings[step.Findings[0]].Class
	}
	r.steps[s] = &step
}

// finishPlan files what the plan has come upon and nobody had found, explains the steps, and says of
// decisions of the past what is known.
func (r *repairer) finishPlan() error {
	h, err := r.hands()
	if err != nil {
		return err
	}
	for _, s := range r.order {
		step := r.steps[s]
		if len(step.Findings) == 0 && s.hold == "" && step.Gap != nil {
			f := driftFinding(r.in.Pod, r.epoch, r.stage, "repair", Drift{Key: s.key, Truth: step.Truth.Level, Shadow: step.Shadow.Level, Gap: *step.Gap},
				"the level differs beyond what the holds found make; the same at two quiescent moments", r.in.Now())
			f.Units[0].Quantity = step.Units
			f.limit()
			r.sight(f)
			r.findings[f.ID] = &f
			r.ids[s] = []string{f.ID}
			step.Findings = r.ids[s]
		}
		r.explain(h, s, step)
	}
	for _, f := range r.sorted() {
		if f.ofDecision() {
			r.decisions = append(r.decisions, RepairStep{
				Findings: []string{f.ID}, Class: f.Class, Hold: f.Hold, Units: f.TotalUnits, Action: NoAction, Outcome: RepairPlanned,
				Why: "what was decided then is past: it is repaired with its hold and keys",
			})
		}
	}
	return nil
}

func (r *repairer) sorted() []*Finding {
	out := make([]*Finding, 0, len(r.findings))
	for _, f := range r.findings {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b *Finding) int { return slices.Compare([]byte(a.ID), []byte(b.ID)) })
	return out
}

// apply executes the steps: holds first, since what is left at a level is told by them.
func (r *repairer) apply(ctx context.Context) error {
	var holds []backends.HoldID
	var keys []backends.Key
	for _, s := range r.order {
		switch o := r.steps[s].Outcome; {
		case o == RepairByHand:
		case s.hold == "":
			keys = append(keys, s.key) // also those that agree: they are looked at again after the holds
		case o != RepairAgrees:
			holds = append(holds, s.hold)
		}
	}
	r.done = 0
	for part := range slices.Chunk(holds, repairChunk) {
		if err := r.inRounds(ctx, "holds", len(holds), len(part), func(ctx context.Context, left []int) ([]int, error) {
			return r.holdRound(ctx, part, left)
		}); err != nil {
			return err
		}
	}
	r.done = 0
	for part := range slices.Chunk(keys, repairChunk) {
		moments := make([]moment, len(part))
		if err := r.inRounds(ctx, "levels", len(keys), len(part), func(ctx context.Context, left []int) ([]int, error) {
			return r.levelRound(ctx, part, moments, left)
		}); err != nil {
			return err
		}
	}
	return nil
}

// inRounds calls do with what is left until nothing is, or the rounds are over.
func (r *repairer) inRounds(ctx context.Context, phase string, total, n int, do func(context.Context, []int) ([]int, error)) error {
	left := make([]int, n)
	for i := range left {
		left[i] = i
	}
	for round := 0; round < r.in.Rounds && len(left) > 0; round++ {
		if round > 0 {
			if err := r.in.Wait(ctx, min(r.in.Pause, momentsApart<<min(round, 4))); err != nil {
				return err
			}
		}
		was := len(left)
		var err error
		if left, err = do(ctx, left); err != nil {
			return err
		}
		r.done += int64(was - len(left))
		r.in.Progress(RepairProgress{Phase: phase, Done: r.done, Total: int64(total)})
	}
	return nil
}

// passing tells an error after which the next round may go on: the write may have been made, and is known then.
func passing(err error) bool {
	return backends.IsAmbiguous(err) || errors.Is(err, backends.ErrBusy) || errors.Is(err, backends.ErrUnavailable) || errors.Is(err, backends.ErrStaleAttempt)
}

// holdRound looks at holds, and restates those that differ. It answers those that are not settled.
func (r *repairer) holdRound(ctx context.Context, ids []backends.HoldID, left []int) ([]int, error) {
	some := make([]backends.HoldID, len(left))
	for n, i := range left {
		some[n] = ids[i]
	}
	ev, err := r.look(ctx, nil, some)
	if err != nil {
		return left, err
	}
	var open []int
	var above []backends.HoldAbove
	for _, i := range left {
		id := ids[i]
		e := ev.Holds[id]
		was := r.steps[subject{hold: id}]
		step := planHold(&e, r.rules)
		switch {
		case ev.Unsure != "":
			was.settle(RepairUndetermined, ev.Unsure)
			open = append(open, i)
		case step.Action == RestateHold && was.written < maxRestated:
			above = append(above, backends.HoldAbove{ID: id, Above: step.above})
			was.wrote(fmt.Sprintf("restated above %s", step.above))
			was.settle(RepairDiffers, step.Why)
			open = append(open, i)
		case step.Outcome == RepairUndetermined:
			was.settle(RepairUndetermined, step.Why)
			open = append(open, i)
		case step.Outcome == RepairAgrees:
			was.agree(&step)
			delete(r.differing, id)
		case step.Outcome == RepairByHand:
			was.Action, was.ByHand = ByHand, step.ByHand
			was.settle(RepairByHand, step.Why)
		default:
			was.settle(RepairDiffers, step.Why)
		}
	}
	return open, r.restate(ctx, len(above), func(h RepairHands) (int, error) { return h.Truth.RestateHolds(ctx, h.Token, above) })
}

// restate writes to the truth's outbox, and waits until that has left it.
func (r *repairer) restate(ctx context.Context, n int, do func(RepairHands) (int, error)) error {
	if n == 0 {
		return nil
	}
	h, err := r.hands()
	if err != nil {
		return err
	}
	written, err := do(h)
	switch {
	case err != nil && !passing(err):
		return err
	case err != nil:
		r.problem("the truth did not confirm what was restated: " + err.Error())
	case written < n:
		r.problem("the truth's outbox is full and drops what is restated: backfill when the shadow is back, then run the repair again")
	}
	if err := h.Deliver(ctx); err != nil && !passing(err) {
		return err
	}
	return nil
}

// moment is what the looks at a key have shown so far.
type moment struct {
	asOf backends.Instant // of the shadow's clock, before the first
	gap  levelGap
	seen int
	last time.Time
	next int // number of the next correction
	sums int // how often its sum was restated
}

// levelRound looks at keys, and corrects those that differ by the same at two quiescent moments. It answers
// those that are not settled.
func (r *repairer) levelRound(ctx context.Context, keys []backends.Key, ms []moment, left []int) ([]int, error) {
	h, err := r.hands()
	if err != nil {
		return left, err
	}
	asOf, err := h.Shadow.Now(ctx)
	if err != nil {
		return left, err
	}
	some := make([]backends.Key, len(left))
	var holds []backends.HoldID
	for n, i := range left {
		some[n] = keys[i]
		holds = append(holds, r.stillDiffering(keys[i])...)
	}
	slices.Sort(holds)
	ev, err := r.look(ctx, some, slices.Compact(holds))
	if err != nil {
		return left, err
	}
	var open []int
	var sums []backends.LevelAbove
	for _, i := range left {
		k, m := keys[i], &ms[i]
		step, settled := r.levelLook(k, m, asOf, ev)
		if settled {
			continue
		}
		open = append(open, i)
		if step == nil {
			continue
		}
		was := r.steps[subject{key: k}]
		was.settle(RepairDiffers, step.Why)
		if step.Action == RestateTaken {
			m.sums, m.seen = m.sums+1, 0
			sums = append(sums, backends.LevelAbove{Key: k, Above: step.above})
			was.wrote(fmt.Sprintf("sum of takes restated above %s", step.above))
		} else if err := r.correct(ctx, h, k, m, was); err != nil {
			return left, err
		}
	}
	return open, r.restate(ctx, len(sums), func(h RepairHands) (int, error) { return h.Truth.RestateTaken(ctx, h.Token, sums) })
}

// levelLook takes one look at a key into account: it is settled, or it has to be looked at again, or it has
// differed by the same at two moments, and the step says what to write.
func (r *repairer) levelLook(k backends.Key, m *moment, asOf backends.Instant, ev *Evidence) (write *RepairStep, settled bool) {
	was := r.steps[subject{key: k}]
	e := ev.Keys[k]
	effects, resting := effectsAt(k, r.stillDiffering(k), ev)
	step := planLevel(k, &e, effects, resting, levelRules{r.stage, r.in.CorrectLedger, r.broken[k]})
	if ev.Unsure != "" {
		step.Outcome, step.Why = RepairUndetermined, ev.Unsure
	}
	switch {
	case step.Outcome == RepairUndetermined:
		was.settle(RepairUndetermined, step.Why)
		return nil, false
	case step.Outcome == RepairAgrees:
		was.agree(&step)
		return nil, true
	case step.Outcome == RepairByHand:
		was.Action, was.ByHand, was.Gap = ByHand, step.ByHand, step.Gap
		was.settle(RepairByHand, step.Why)
		return nil, true
	case !m.again(step.rest(), asOf, ev.At):
		was.settle(RepairUndetermined, "it differed at one quiescent moment only: "+step.rest().String())
		return nil, false
	case m.sums >= maxRestated, m.next >= maxCorrections:
		was.settle(RepairDiffers, step.Why+"; it has been corrected again and again: find who writes to the shadow")
		return nil, true
	default:
		return &step, false
	}
}

// again takes a quiescent look into account; true: the gap is the same at two moments.
func (m *moment) again(g levelGap, asOf backends.Instant, at time.Time) bool {
	switch {
	case m.seen == 0 || m.gap != g:
		m.gap, m.seen, m.last, m.asOf = g, 1, at, asOf
	case at.Sub(m.last) >= momentsApart:
		m.seen, m.last = m.seen+1, at
	}
	return m.seen >= 2
}

// correct moves a level by the gap. A number that somebody has used is that of a correction which these looks
// may not have seen: then it is looked at anew, for the next one.
func (r *repairer) correct(ctx context.Context, h RepairHands, k backends.Key, m *moment, step *RepairStep) error {
	c := correctionOf(r.stage, correctionID(r.in.Pod, k, m.next), k, m.gap)
	done, err := h.Shadow.Correct(ctx, h.Token, m.asOf, c)
	if err != nil && !passing(err) {
		return err
	}
	m.seen = 0
	if err != nil {
		step.note("a correction was not confirmed: " + err.Error())
		return nil // the same number again: if it was made, it is known
	}
	m.next++
	if done {
		step.wrote(fmt.Sprintf("corrected as %s: sellable %+d, on hand %+d", c.OpID, c.Sellable, c.OnHand))
	}
	return nil
}

func (r *repairer) stillDiffering(k backends.Key) []backends.HoldID {
	var out []backends.HoldID
	for _, id := range r.at[k] {
		if _, differs := r.differing[id]; differs {
			out = append(out, id)
		}
	}
	return out
}

// rest is the gap of a level's step.
func (s *RepairStep) rest() levelGap {
	if s.Gap == nil {
		return levelGap{}
	}
	return levelGap{Gap: *s.Gap, Held: s.HeldGap}
}

func (s *RepairStep) settle(o RepairOutcome, why string) { s.Outcome, s.Why = o, why }

func (s *RepairStep) note(what string) { s.Done = append(s.Done, what) }

func (s *RepairStep) wrote(what string) {
	s.written++
	s.note(what)
}

// agree ends a step of which both stores now say the same.
func (s *RepairStep) agree(now *RepairStep) {
	s.Outcome, s.Why = RepairAgrees, now.Why
	if s.written > 0 {
		s.Outcome, s.Why = RepairDone, "both stores say the same at rest"
	}
}
