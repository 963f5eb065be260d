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
	// Pacer spares the stores between pages, and says how large they are; nil reads without a pause.
	Pacer *Pacer
	// Pace is called after each page that was read; it may wait as well. May be nil.
	Pace func(context.Context) error
	// From is where an interrupted audit goes on; nil begins anew. One of another stage, epoch or version is ErrStageMoved.
	From *AuditState
	// Checkpoint is called wherever the audit could go on from, after each page and each batch of differences; state
	// answers how far it is. Its error ends the audit. May be nil.
	Checkpoint func(ctx context.Context, state func() AuditState) error
	// Unlisted leaves Findings of the result empty: Found has them.
	Unlisted bool
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
	// Resumed counts how often the audit was interrupted and gone on with; Findings has what was found since then.
	Resumed int64 `json:"resumed"`
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

	// Where it is: phase of auditPhases, cursor of the next page, and whether all pages of the phase are read.
	phase  int
	cursor string
	read   bool
}

// auditPhases are what an audit reads, in this order: levels come last, since differences of holds explain some of theirs.
var auditPhases = []string{"holds of the truth", "holds of the shadow", "levels of the truth", "levels of the shadow"}

// Audit compares all holds and all levels of both stores, without locks. What differs is looked at
// again until it is older than the outbox: only a difference that stays the same at two quiescent
// moments is a finding; one that finds no such moment is undetermined. Memory is bounded by pages
// and by the findings kept. On an error the result says how far it came.
func Audit(ctx context.Context, in AuditInput) (*AuditResult, error) {
	a := &auditor{in: in.withDefaults(), effects: map[backends.Key]Gap{}, sums: map[Class]*ClassSummary{}}
	a.res = &AuditResult{Pod: in.Pod, Epoch: in.Epoch, Started: stamp(a.in.Now()), Summary: []ClassSummary{}, Findings: []Finding{}, Undetermined: []AuditOpen{}}
	err := a.run(ctx)
	a.res.Ended = stamp(a.in.Now())
	a.res.Summary = a.summary()
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
		in.Wait = waitFor
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
	if in.Checkpoint == nil {
		in.Checkpoint = func(context.Context, func() AuditState) error { return nil }
	}
	return in
}

func waitFor(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// pair answers the pod's roles as long as they are those that the audit began with.
func (a *auditor) pair() (Pair, error) {
	p, err := a.in.Pair()
	switch {
	case err != nil:
		return p, err
	case p.Truth == nil || p.Shadow == nil:
		return p, ErrNoPair
	case a.stage != backends.StageUnknown && p.Stage != a.stage, p.Epoch != 0 && a.in.Epoch != 0 && p.Epoch != a.in.Epoch:
		return p, ErrStageMoved
	}
	return p, nil
}

// begin finds out what there is to compare.
func (a *auditor) begin(ctx context.Context) error {
	p, err := a.in.Pair()
	if err != nil {
		return err
	}
	switch {
	case p.Stage.Dual():
		a.res.Scope = "all holds and levels"
	case p.Stage == backends.RedisOnly:
		a.res.Scope = "claims, and units on hand: in redis-only MySQL follows nothing else"
	case p.Stage == backends.MySQLOnly:
		a.res.Stage = p.Stage
		return ErrNothingToAudit
	default:
		return ErrNoPair
	}
	a.stage, a.res.Stage = p.Stage, p.Stage
	if p, err = a.pair(); err != nil {
		return err
	}
	if s := a.in.From; s != nil {
		if err := s.fits(a.stage, a.in.Epoch); err != nil {
			return err
		}
		a.resume(s)
	}
	if err := backends.Apart(ctx, p.Truth, p.Shadow); err != nil {
		return err
	}
	now, err := p.Truth.Now(ctx)
	if err != nil {
		return fmt.Errorf("reading the truth's clock: %w", err)
	}
	a.rules = HoldRules{ExpiryTolerance: a.in.ExpiryTolerance, EndedBefore: now.Add(-a.in.Retain / 2), ClaimsOnly: !p.Stage.Dual()}
	return nil
}

func (a *auditor) run(ctx context.Context) error {
	if err := a.begin(ctx); err != nil {
		return err
	}
	for _, read := range []func(context.Context, Pair) (string, error){a.truthHolds, a.shadowHolds, a.truthLevels, a.shadowLevels}[a.phase:] {
		a.prog.Phase = auditPhases[a.phase]
		if err := a.pages(ctx, read); err != nil {
			return fmt.Errorf("audit, %s: %w", a.prog.Phase, err)
		}
		if err := a.recheck(ctx); err != nil {
			return fmt.Errorf("audit, %s, looking again: %w", a.prog.Phase, err)
		}
		a.phase, a.cursor, a.read = a.phase+1, "", false
	}
	return a.unmoved(ctx)
}

// unmoved says whether all was read of the same servers. Cursors of Redis are worth nothing at another run of the server;
// a run that has ended shows in the fence at once, and in the epoch when somebody has looked.
func (a *auditor) unmoved(ctx context.Context) error {
	p, err := a.pair()
	if err != nil {
		return err
	}
	redis := backends.Inspector(p.Truth)
	if a.stage.Truth() != backends.SideRedis {
		redis = p.Shadow
	}
	s, ok := redis.(interface {
		Fence(ctx context.Context) (backends.Fence, error)
	})
	if !ok || a.in.Epoch == 0 {
		return nil
	}
	f, err := s.Fence(ctx)
	if err != nil {
		return fmt.Errorf("audit, at its end: reading the fence of Redis: %w", err)
	}
	if f.Epoch != a.in.Epoch || !f.Open {
		return ErrStageMoved
	}
	return nil
}

// pages reads the rest of a phase's pages; read answers the next cursor, "" behind the last.
func (a *auditor) pages(ctx context.Context, read func(context.Context, Pair) (string, error)) error {
	for !a.read {
		p, err := a.pair()
		if err != nil {
			return err
		}
		watched := p
		if a.in.Pacer != nil {
			watched = a.in.Pacer.watch(p)
		}
		next, err := read(ctx, watched)
		if err != nil {
			return err
		}
		a.cursor, a.read = next, next == ""
		a.tell()
		if len(a.open) >= auditPage {
			if err := a.recheck(ctx); err != nil {
				return err
			}
		}
		if err := a.in.Checkpoint(ctx, a.state); err != nil {
			return err
		}
		if err := a.in.Pace(ctx); err != nil {
			return err
		}
		if a.in.Pacer != nil {
			if err := a.in.Pacer.rest(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// size is how many holds or levels the next page has.
func (a *auditor) size() int {
	if a.in.Pacer == nil {
		return auditPage
	}
	return a.in.Pacer.size
}

func (a *auditor) tell() {
	a.prog.Holds, a.prog.Levels = a.res.HoldsTruth+a.res.HoldsShadow, a.res.LevelsTruth+a.res.LevelsShadow
	a.prog.Checking, a.prog.Findings = len(a.open), a.res.FindingsTotal
	a.in.Progress(a.prog)
}

func (a *auditor) truthHolds(ctx context.Context, p Pair) (next string, err error) {
	hs, next, err := p.Truth.ScanHolds(ctx, a.cursor, a.size(), false)
	if err != nil {
		return "", fmt.Errorf("truth: %w", err)
	}
	shadow, err := p.Shadow.GetMany(ctx, idsOf(hs))
	if err != nil {
		return "", fmt.Errorf("shadow: %w", err)
	}
	a.res.HoldsTruth += int64(len(hs))
	for _, h := range hs {
		if d, ok := CompareHold(h, shadow[h.ID], a.rules); ok {
			a.open = append(a.open, &suspect{hold: h.ID, diff: d})
		}
	}
	return next, nil
}

// shadowHolds finds what the truth does not know. What it does know was compared before.
func (a *auditor) shadowHolds(ctx context.Context, p Pair) (next string, err error) {
	if a.rules.ClaimsOnly {
		return "", nil
	}
	hs, next, err := p.Shadow.ScanHolds(ctx, a.cursor, a.size(), true)
	if err != nil {
		return "", fmt.Errorf("shadow: %w", err)
	}
	truth, err := p.Truth.GetMany(ctx, idsOf(hs))
	if err != nil {
		return "", fmt.Errorf("truth: %w", err)
	}
	a.res.HoldsShadow += int64(len(hs))
	for _, h := range hs {
		if truth[h.ID] != nil {
			continue
		}
		if d, ok := CompareHold(nil, h, a.rules); ok {
			a.open = append(a.open, &suspect{hold: h.ID, diff: d})
		}
	}
	return next, nil
}

func idsOf(hs []*backends.Hold) []backends.HoldID {
	ids := make([]backends.HoldID, len(hs))
	for i, h := range hs {
		ids[i] = h.ID
	}
	return ids
}

func (a *auditor) truthLevels(ctx context.Context, p Pair) (next string, err error) {
	return a.levels(ctx, p.Truth, p.Shadow, &a.res.LevelsTruth, false)
}

// shadowLevels finds levels that the truth does not have.
func (a *auditor) shadowLevels(ctx context.Context, p Pair) (next string, err error) {
	return a.levels(ctx, p.Shadow, p.Truth, &a.res.LevelsShadow, true)
}

func (a *auditor) levels(ctx context.Context, scan, other backends.Inspector, counted *int64, shadow bool) (next string, err error) {
	ls, next, err := scan.ScanLevels(ctx, a.cursor, a.size())
	if err != nil {
		return "", err
	}
	keys := make([]backends.Key, len(ls))
	for i := range ls {
		keys[i] = ls[i].Key
	}
	os, err := other.Levels(ctx, keys)
	if err != nil {
		return "", err
	}
	*counted += int64(len(ls))
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
