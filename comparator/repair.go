package comparator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds of a repair.
const (
	// MaxRepairSubjects bounds the holds and keys of one repair: what it has in memory, and what a person can
	// read of a plan. What is beyond them is named as a problem, and is for the next run.
	MaxRepairSubjects = 10_000
	// repairChunk is how many holds, or keys, are looked at and written together.
	repairChunk = 200
	// maxCorrections bounds how often one key may be corrected within the time that stores keep operation ids
	// (retain): whoever needs more has a writer to find.
	maxCorrections = 8
	// maxRestated bounds how often one hold, or one sum, is restated in one repair: once is enough
	// unless somebody writes to the shadow meanwhile.
	maxRestated = 3
)

// RepairTruth is what a repair needs of the truth, and RepairShadow of the shadow. A backends.Store is both.
type RepairTruth interface {
	RestateHolds(ctx context.Context, t backends.Token, hs []backends.HoldAbove) (int, error)
	RestateTaken(ctx context.Context, t backends.Token, ks []backends.LevelAbove) (int, error)
	Conservation(ctx context.Context) (broken []backends.Level, checked int, err error)
}

// RepairShadow is the other one.
type RepairShadow interface {
	Now(ctx context.Context) (backends.Instant, error)
	Correct(ctx context.Context, t backends.Token, asOf backends.Instant, c *backends.Correction) (done bool, err error)
}

// RepairHands is what a repair writes with. Both stores check the token with every write.
type RepairHands struct {
	Stage  backends.Stage
	Token  backends.Token
	Truth  RepairTruth
	Shadow RepairShadow
	// Deliver brings what is in the truth's outbox to the shadow, and returns when what was there at its call
	// has left it.
	Deliver func(ctx context.Context) error
}

// RepairInput is what a repair needs. Pod, Pair, Hands and Store are required.
type RepairInput struct {
	Pod   backends.Pod
	Pair  func() (Pair, error)
	Hands func() (RepairHands, error)
	// Store has the findings. Record is told of what a look finds that is not a finding yet, and Flush brings that to Store; nil: it is saved
	// in Store at once.
	Store  Store
	Record func(Finding)
	Flush  func(context.Context) error
	// IDs names findings; none means all that are open.
	IDs []string
	// CorrectLedger: a person says that the truth's units on hand are right, and the ledger is not. Without it
	// no ledger is written where MySQL is the shadow: it is authoritative in every stage.
	CorrectLedger bool
	// Apply executes the plan; else nothing is written to either store.
	Apply bool
	// By and Why are for the lives of the findings; required to apply.
	By, Why string
	// The rest is as in AuditInput.
	Retain   time.Duration
	Rounds   int
	Pause    time.Duration
	Pace     func(context.Context) error
	Wait     func(context.Context, time.Duration) error
	Now      func() time.Time
	Excuses  Excuses
	Progress func(RepairProgress)
}

// RepairProgress says how far a repair is.
type RepairProgress struct {
	Phase string // "audit: …", "looking", "holds", "levels", "recording"
	Done  int64
	Total int64 // 0: not known
}

// Repair plans, and with in.Apply executes, what makes the shadow agree with the truth about the
// findings that are named, or all open ones. Nothing is written to the truth but versions of its own
// states and entries of its outbox, under the token of the epoch. It may be stopped anywhere and run again, by
// several at a time: a state that is restated twice is applied once; a correction has an operation id that only
// those can use who have looked at the level after every earlier one.
//
// Where a level is concerned, all holds of both stores are compared first: a level's difference may belong to a
// hold that nobody has found yet. An error says that it ended early; the result is how far it came. ErrStageMoved says that the
// pod has moved: run it again.
func Repair(ctx context.Context, in RepairInput) (*RepairResult, error) {
	in = in.withDefaults()
	r := &repairer{
		in: in, steps: map[subject]*RepairStep{}, ids: map[subject][]string{}, findings: map[string]*Finding{},
		differing: map[backends.HoldID]HoldEvidence{}, at: map[backends.Key][]backends.HoldID{}, broken: map[backends.Key]int64{},
	}
	r.res = &RepairResult{Pod: in.Pod, Applied: in.Apply, CorrectLedger: in.CorrectLedger, Started: stamp(in.Now()), Steps: []RepairStep{}, Problems: []string{}}
	err := r.run(ctx)
	var fenced *backends.FencedError
	if errors.As(err, &fenced) {
		err = errors.Join(ErrStageMoved, err)
	}
	for _, s := range r.order {
		step := r.steps[s]
		if step == nil || len(step.Findings) == 0 && step.Outcome == RepairAgrees {
			continue // nobody asked for it, and it is well
		}
		r.res.Steps = append(r.res.Steps, *step)
	}
	r.res.Steps = append(r.res.Steps, r.decisions...)
	r.res.Ended = stamp(in.Now())
	r.res.sum()
	return r.res, err
}

func (in RepairInput) withDefaults() RepairInput {
	a := AuditInput{Retain: in.Retain, Rounds: in.Rounds, Pause: in.Pause, Pace: in.Pace, Wait: in.Wait, Now: in.Now}.withDefaults()
	in.Retain, in.Rounds, in.Pause, in.Pace, in.Wait, in.Now = a.Retain, a.Rounds, a.Pause, a.Pace, a.Wait, a.Now
	if in.Progress == nil {
		in.Progress = func(RepairProgress) {}
	}
	if in.Flush == nil {
		in.Flush = func(context.Context) error { return nil }
	}
	return in
}

// subject is a hold, or a key.
type subject struct {
	hold backends.HoldID
	key  backends.Key
}

type repairer struct {
	in    RepairInput
	stage backends.Stage
	epoch uint64
	rules HoldRules
	res   *RepairResult
	// findings are those that are to be repaired, by id; ids those of a subject.
	findings map[string]*Finding
	ids      map[subject][]string
	steps    map[subject]*RepairStep
	order    []subject
	// decisions are findings about a decision of the past: theirs is what became of its hold and keys.
	decisions []RepairStep
	// differing are all holds that are known to differ, and at where their units are.
	differing map[backends.HoldID]HoldEvidence
	at        map[backends.Key][]backends.HoldID
	broken    map[backends.Key]int64 // levels of the truth that are out of balance, by how much
	unsaved   []Finding              // of Record, where there is none
	done      int64                  // of the present phase
}

func (r *repairer) run(ctx context.Context) error {
	if r.in.Apply {
		if err := (LifeChange{To: LifeRepaired, By: r.in.By, Why: r.in.Why}).Check(); err != nil {
			return err
		}
	}
	h, err := r.hands()
	if err != nil {
		return err
	}
	r.stage, r.epoch = h.Stage, h.Token.Epoch
	r.res.Stage, r.res.Epoch = r.stage, r.epoch
	switch {
	case r.stage == backends.MySQLOnly:
		return ErrNothingToAudit
	case !r.stage.Dual() && r.stage != backends.RedisOnly:
		return ErrNoPair
	}
	if err := r.choose(ctx); err != nil {
		return err
	}
	if err := r.compareAll(ctx, h); err != nil {
		return err
	}
	if err := r.plan(ctx); err != nil || !r.in.Apply {
		return err
	}
	err = r.apply(ctx)
	return errors.Join(err, r.record(ctx))
}

// hands answers what to write with, while the pod is where it was when the repair began.
func (r *repairer) hands() (RepairHands, error) {
	h, err := r.in.Hands()
	if err == nil && r.epoch != 0 && (h.Token.Epoch != r.epoch || h.Stage != r.stage) {
		err = ErrStageMoved
	}
	return h, err
}

// choose reads the findings that are to be repaired.
func (r *repairer) choose(ctx context.Context) error {
	if len(r.in.IDs) > 0 {
		for _, id := range r.in.IDs {
			if err := CheckFindingID(id); err != nil {
				return err
			}
			f, err := r.in.Store.Finding(ctx, r.in.Pod, id)
			if err != nil {
				return err
			}
			r.take(*f)
		}
		return nil
	}
	q := FindingQuery{Pod: r.in.Pod, Lives: []Life{LifeOpen}, Limit: 1000}
	for {
		fs, err := r.in.Store.ListFindings(ctx, q)
		if err != nil {
			return err
		}
		for i := range fs {
			if !r.take(fs[i]) {
				return nil
			}
		}
		if len(fs) < q.Limit {
			return nil
		}
		q.After = CursorOf(&fs[len(fs)-1])
	}
}

// take puts a finding among those that are to be repaired; false: there is no room.
func (r *repairer) take(f Finding) bool {
	if r.findings[f.ID] != nil {
		return true
	}
	if len(r.findings) >= MaxRepairSubjects {
		r.problem(fmt.Sprintf("there are more than %s findings; run the repair again for the rest", group(MaxRepairSubjects)))
		return false
	}
	// Their texts are not needed, and there may be many.
	f.Diff, f.Proof, f.Order, f.History = "", "", nil, f.History[max(0, len(f.History)-1):]
	r.findings[f.ID] = &f
	for _, s := range subjectsOf(&f) {
		r.ids[s] = append(r.ids[s], f.ID)
		r.order = append(r.order, s)
	}
	return true
}

// subjectsOf are the hold or the keys that a finding is about. What was found about a decision is about both.
func subjectsOf(f *Finding) []subject {
	if f.Class == SlowShadow {
		return nil
	}
	var out []subject
	if f.Hold != "" {
		out = append(out, subject{hold: f.Hold})
	}
	if f.Hold == "" || f.ofDecision() {
		for _, u := range f.Units {
			out = append(out, subject{key: u.Key})
		}
	}
	return out
}

// ofDecision tells a finding about what the stores decided from one about what they have.
func (f *Finding) ofDecision() bool { return f.Truth.Answer != nil || f.Class == SlowShadow }

func (r *repairer) problem(text string) {
	if !slices.Contains(r.res.Problems, text) {
		r.res.Problems = append(r.res.Problems, text)
	}
}

// compareAll audits, unless only holds are concerned. Each difference that is found is known afterwards, since the
// effects of holds on levels are taken into account; those that were asked for are to be repaired.
func (r *repairer) compareAll(ctx context.Context, h RepairHands) error {
	if err := r.rulesNow(ctx); err != nil {
		return err
	}
	all := len(r.in.IDs) == 0
	if !all && !slices.ContainsFunc(r.order, func(s subject) bool { return s.hold == "" }) {
		return nil
	}
	full := false
	res, err := Audit(ctx, AuditInput{
		Pod: r.in.Pod, Epoch: r.epoch, Pair: r.in.Pair, Retain: r.in.Retain, Rounds: r.in.Rounds, Pause: r.in.Pause, Pace: r.in.Pace,
		Wait: r.in.Wait, Now: r.in.Now, Excuses: r.in.Excuses,
		Progress: func(g AuditProgress) {
			r.in.Progress(RepairProgress{Phase: "audit: " + g.Phase, Done: g.Holds + g.Levels})
		},
		Found: func(f Finding) {
			r.sight(f)
			if f.Hold != "" && len(r.differing) < MaxRepairSubjects {
				r.differing[f.Hold] = HoldEvidence{}
			} else if f.Hold != "" {
				full = true
			}
			if all && f.Life == LifeOpen {
				r.take(f)
			}
		},
	})
	if err != nil {
		return err
	}
	r.res.Compared = &RepairCompared{Holds: res.HoldsTruth + res.HoldsShadow, Levels: res.LevelsTruth + res.LevelsShadow, Findings: res.FindingsTotal, Undetermined: res.UndeterminedTotal}
	for _, o := range res.Undetermined {
		if o.Hold != "" {
			r.differing[o.Hold] = HoldEvidence{}
		}
	}
	if all && res.UndeterminedTotal > 0 {
		r.problem(fmt.Sprintf("%s did not come to rest and may not be repaired; run the repair again", count(res.UndeterminedTotal, "difference")))
	}
	if full || res.UndeterminedTotal > int64(len(res.Undetermined)) {
		r.problem("more holds differ than one repair takes: levels are left to the next run")
		r.order = slices.DeleteFunc(r.order, func(s subject) bool { return s.hold == "" })
		return nil
	}
	return r.balance(ctx, h)
}

func (r *repairer) rulesNow(ctx context.Context) error {
	p, err := r.in.Pair()
	if err != nil {
		return err
	}
	if p.Truth == nil || p.Shadow == nil {
		return ErrNoPair
	}
	now, err := p.Truth.Now(ctx)
	if err != nil {
		return fmt.Errorf("reading the truth's clock: %w", err)
	}
	r.rules = HoldRules{EndedBefore: now.Add(-r.in.Retain / 2), ClaimsOnly: !r.stage.Dual()}
	return nil
}

// balance finds levels of the truth that do not add up: what a shadow is brought in line with has to.
func (r *repairer) balance(ctx context.Context, h RepairHands) error {
	r.in.Progress(RepairProgress{Phase: "the truth's balance"})
	broken, _, err := h.Truth.Conservation(ctx)
	if err != nil {
		return fmt.Errorf("checking the truth's balance: %w", err)
	}
	for _, l := range broken {
		r.broken[l.Key] = l.Imbalance()
	}
	return nil
}

// sight hands over what a look has found.
func (r *repairer) sight(f Finding) {
	if r.in.Record != nil {
		r.in.Record(f)
		return
	}
	r.unsaved = append(r.unsaved, f)
}

// save brings what was found to the findings' store.
func (r *repairer) save(ctx context.Context) error {
	for len(r.unsaved) > 0 {
		n := min(len(r.unsaved), saveBatch)
		if err := r.in.Store.SaveFindings(ctx, r.unsaved[:n]); err != nil {
			return err
		}
		r.unsaved = r.unsaved[n:]
	}
	return r.in.Flush(ctx)
}
