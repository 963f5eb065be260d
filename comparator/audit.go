package comparator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Sentinels of an audit.
var (
	// ErrNothingToAudit: the stage has only one store.
	ErrNothingToAudit = errors.New("in mysql-only one store serves alone, there is nothing to compare; 'crossfade conservation' checks the store in itself")
	// ErrStageMoved: the pod's stage or epoch changed during the audit or the repair. Run it again.
	ErrStageMoved = errors.New("the pod's stage or epoch changed meanwhile; run it again")
)

// AuditInput is what an audit needs. Pod and Pair are required.
type AuditInput struct {
	Pod   backends.Pod
	Epoch uint64
	// Pair answers the pod's present roles; it is asked before every look.
	Pair func() (Pair, error)
	// Retain is how long the stores keep ended holds; 0 means backends.DefaultRetain.
	Retain          time.Duration
	ExpiryTolerance time.Duration // 0 is right, see HoldRules
	Rounds          int           // 0 means DefaultAuditRounds
	Pause           time.Duration // between rounds; 0 means DefaultAuditPause
	// Pace is called after each page that was read; it may wait, to spare the stores. May be nil.
	Pace func(context.Context) error
	// Wait waits between rounds; nil means a timer.
	Wait func(context.Context, time.Duration) error
	// Now is the local clock; nil means time.Now.
	Now func() time.Time
	// Progress is told after each page and round; may be nil.
	Progress func(AuditProgress)
	// Excuses are those that hold; what one of them covers is counted apart.
	Excuses Excuses
	// Found is told of each finding, also beyond MaxAuditFindings; may be nil.
	Found func(Finding)
}

// AuditProgress says how far an audit is.
type AuditProgress struct {
	Phase    string // "holds of the truth", "holds of the shadow", "levels of the truth", "levels of the shadow"
	Holds    int64
	Levels   int64
	Checking int // differences being looked at again
	Findings int64
}

// AuditResult is what an audit found.
type AuditResult struct {
	Pod     backends.Pod   `json:"pod"`
	Stage   backends.Stage `json:"stage,omitzero"`
	Epoch   uint64         `json:"epoch"`
	Started time.Time      `json:"started"`
	Ended   time.Time      `json:"ended"`
	Scope   string         `json:"scope"` // what was comparable in this stage
	// Holds and Levels count what was read on both sides.
	HoldsTruth   int64 `json:"holds_truth"`
	HoldsShadow  int64 `json:"holds_shadow"`
	LevelsTruth  int64 `json:"levels_truth"`
	LevelsShadow int64 `json:"levels_shadow"`
	// Passing counts differences that were gone when looked at again: entries on their way.
	Passing int64 `json:"passing"`
	// Attributed counts levels whose difference follows from the holds found.
	Attributed    int64 `json:"attributed"`
	FindingsTotal int64 `json:"findings_total"`
	UnitsTotal    int64 `json:"units_total"`
	// ExcusedTotal and ExcusedUnits are of differences that an excuse covers; they are not in the totals.
	ExcusedTotal      int64          `json:"excused_total"`
	ExcusedUnits      int64          `json:"excused_units"`
	Summary           []ClassSummary `json:"summary"`
	Findings          []Finding      `json:"findings"` // at most MaxAuditFindings
	UndeterminedTotal int64          `json:"undetermined_total"`
	Undetermined      []AuditOpen    `json:"undetermined"` // at most MaxAuditOpen
}

// AuditOpen is a difference that could not be settled.
type AuditOpen struct {
	Hold backends.HoldID `json:"hold,omitempty"`
	Key  *backends.Key   `json:"key,omitempty"`
	Why  string          `json:"why"`
}

// Clean tells whether the audit found nothing that no excuse covers, and left nothing open.
func (r *AuditResult) Clean() bool { return r.FindingsTotal == 0 && r.UndeterminedTotal == 0 }

// suspect is a difference that is being looked at again.
type suspect struct {
	hold    backends.HoldID // set, or else key counts
	key     backends.Key
	diff    Difference
	moments int
	last    time.Time
	why     string // why the last look settled nothing
}

type auditor struct {
	in      AuditInput
	stage   backends.Stage
	rules   HoldRules
	res     *AuditResult
	open    []*suspect
	effects map[backends.Key]Gap
	sums    map[Class]*ClassSummary
	prog    AuditProgress
}

// Audit compares all holds and all levels of both stores, without locks. What differs is looked at
// again until it is older than the outbox: only a difference that stays the same at two quiescent
// moments is a finding; one that finds no such moment is undetermined. Memory is bounded by pages
// and by the findings kept. On an error the result says how far it came.
func Audit(ctx context.Context, in AuditInput) (*AuditResult, error) {
	a := &auditor{in: in.withDefaults(), effects: map[backends.Key]Gap{}, sums: map[Class]*ClassSummary{}}
	a.res = &AuditResult{Pod: in.Pod, Epoch: in.Epoch, Started: stamp(a.in.Now()), Summary: []ClassSummary{}, Findings: []Finding{}, Undetermined: []AuditOpen{}}
	err := a.run(ctx)
	a.res.Ended = stamp(a.in.Now())
	for _, c := range Classes() {
		if s := a.sums[c]; s != nil {
			a.res.Summary = append(a.res.Summary, *s)
		}
	}
	return a.res, err
}

func (in AuditInput) withDefaults() AuditInput {
	if in.Retain <= 0 {
		in.Retain = backends.DefaultRetain
	}
	if in.Rounds <= 0 {
		in.Rounds = DefaultAuditRounds
	}
	if in.Pause <= 0 {
		in.Pause = DefaultAuditPause
	}
	if in.Pace == nil {
		in.Pace = func(context.Context) error { return nil }
	}
	if in.Wait == nil {
		in.Wait = wait
	}
	if in.Now == nil {
		in.Now = time.Now
	}
	if in.Progress == nil {
		in.Progress = func(AuditProgress) {}
	}
	if in.Found == nil {
		in.Found = func(Finding) {}
	}
	return in
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (a *auditor) run(ctx context.Context) error {
	p, err := a.in.Pair()
	if err != nil {
		return err
	}
	a.stage, a.res.Stage = p.Stage, p.Stage
	switch {
	case p.Stage.Dual():
		a.res.Scope = "all holds and levels"
	case p.Stage == backends.RedisOnly:
		a.res.Scope = "claims, and units on hand: in redis-only MySQL follows nothing else"
	case p.Stage == backends.MySQLOnly:
		return ErrNothingToAudit
	default:
		return ErrNoPair
	}
	if p.Truth == nil || p.Shadow == nil {
		return ErrNoPair
	}
	if err := backends.Apart(ctx, p.Truth, p.Shadow); err != nil {
		return err
	}
	now, err := p.Truth.Now(ctx)
	if err != nil {
		return fmt.Errorf("reading the truth's clock: %w", err)
	}
	a.rules = HoldRules{ExpiryTolerance: a.in.ExpiryTolerance, EndedBefore: now.Add(-a.in.Retain / 2), ClaimsOnly: !p.Stage.Dual()}
	for _, phase := range []struct {
		name string
		do   func(context.Context, Pair) error
	}{
		{"holds of the truth", a.truthHolds},
		{"holds of the shadow", a.shadowHolds},
		{"levels of the truth", a.truthLevels},
		{"levels of the shadow", a.shadowLevels},
	} {
		a.prog.Phase = phase.name
		if err := phase.do(ctx, p); err != nil {
			return fmt.Errorf("audit, %s: %w", phase.name, err)
		}
		if err := a.recheck(ctx); err != nil {
			return fmt.Errorf("audit, %s, looking again: %w", phase.name, err)
		}
	}
	return nil
}

// pages calls read with each cursor until it answers "".
func (a *auditor) pages(ctx context.Context, read func(cursor string) (next string, err error)) error {
	for cursor := ""; ; {
		next, err := read(cursor)
		if err != nil {
			return err
		}
		a.tell()
		if len(a.open) >= auditPage {
			if err := a.recheck(ctx); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		if err := a.in.Pace(ctx); err != nil {
			return err
		}
		cursor = next
	}
}

func (a *auditor) tell() {
	a.prog.Holds, a.prog.Levels = a.res.HoldsTruth+a.res.HoldsShadow, a.res.LevelsTruth+a.res.LevelsShadow
	a.prog.Checking, a.prog.Findings = len(a.open), a.res.FindingsTotal
	a.in.Progress(a.prog)
}

func (a *auditor) truthHolds(ctx context.Context, p Pair) error {
	return a.pages(ctx, func(cursor string) (string, error) {
		hs, next, err := p.Truth.ScanHolds(ctx, cursor, auditPage, false)
		if err != nil {
			return "", fmt.Errorf("truth: %w", err)
		}
		a.res.HoldsTruth += int64(len(hs))
		shadow, err := p.Shadow.GetMany(ctx, idsOf(hs))
		if err != nil {
			return "", fmt.Errorf("shadow: %w", err)
		}
		for _, h := range hs {
			if d, ok := CompareHold(h, shadow[h.ID], a.rules); ok {
				a.open = append(a.open, &suspect{hold: h.ID, diff: d})
			}
		}
		return next, nil
	})
}

// shadowHolds finds what the truth does not know. What it does know was compared before.
func (a *auditor) shadowHolds(ctx context.Context, p Pair) error {
	if a.rules.ClaimsOnly {
		return nil
	}
	return a.pages(ctx, func(cursor string) (string, error) {
		hs, next, err := p.Shadow.ScanHolds(ctx, cursor, auditPage, true)
		if err != nil {
			return "", fmt.Errorf("shadow: %w", err)
		}
		a.res.HoldsShadow += int64(len(hs))
		truth, err := p.Truth.GetMany(ctx, idsOf(hs))
		if err != nil {
			return "", fmt.Errorf("truth: %w", err)
		}
		for _, h := range hs {
			if truth[h.ID] != nil {
				continue
			}
			if d, ok := CompareHold(nil, h, a.rules); ok {
				a.open = append(a.open, &suspect{hold: h.ID, diff: d})
			}
		}
		return next, nil
	})
}

func idsOf(hs []*backends.Hold) []backends.HoldID {
	ids := make([]backends.HoldID, len(hs))
	for i, h := range hs {
		ids[i] = h.ID
	}
	return ids
}

func (a *auditor) truthLevels(ctx context.Context, p Pair) error {
	return a.levels(ctx, p.Truth, p.Shadow, &a.res.LevelsTruth, false)
}

// shadowLevels finds levels that the truth does not have.
func (a *auditor) shadowLevels(ctx context.Context, p Pair) error {
	return a.levels(ctx, p.Shadow, p.Truth, &a.res.LevelsShadow, true)
}

func (a *auditor) levels(ctx context.Context, scan, other backends.Inspector, counted *int64, shadow bool) error {
	return a.pages(ctx, func(cursor string) (string, error) {
		ls, next, err := scan.ScanLevels(ctx, cursor, auditPage)
		if err != nil {
			return "", err
		}
		*counted += int64(len(ls))
		keys := make([]backends.Key, len(ls))
		for i := range ls {
			keys[i] = ls[i].Key
		}
		os, err := other.Levels(ctx, keys)
		if err != nil {
			return "", err
		}
		there := make(map[backends.Key]*backends.Level, len(os))
		for i := range os {
			there[os[i].Key] = &os[i]
		}
		for i := range ls {
			l, o := &ls[i], there[ls[i].Key]
			if shadow {
				if o != nil {
					continue // compared already, from the other side
				}
				l, o = nil, l
			}
			a.suspectLevel(ls[i].Key, l, o)
		}
		return next, nil
	})
}

func (a *auditor) suspectLevel(k backends.Key, truth, shadow *backends.Level) {
	if d, ok := CompareLevel(a.stage, truth, shadow, a.effects[k]); ok {
		a.open = append(a.open, &suspect{key: k, diff: d})
		return
	}
	if _, found := a.effects[k]; found && !GapOf(truth, shadow).Zero() {
		a.res.Attributed++
	}
}
