package comparator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// auditPoll is how often a proxy looks whether a pod's audit is due while one is under way, that is, how soon one that
	// was killed is relieved; auditIdle otherwise. Each is one read of one row.
	auditPoll, auditIdle = 15 * time.Second, time.Minute
	// auditSlice is how long one proxy audits before it looks at the schedule anew.
	auditSlice = 2 * time.Minute
	// auditTerm is for how long an audit is taken: a proxy that was killed is relieved after that. It is kept all the
	// time; auditSaveEvery is how often progress is saved, and how much of it a kill costs.
	auditTerm, auditSaveEvery = time.Minute, 5 * time.Second
)

// errSliceOver ends a slice whose audit goes on later.
var errSliceOver = errors.New("the slice is over")

// AuditsConfig of a pod's audits. Pod, Holder, Book and Input are required.
type AuditsConfig struct {
	Pod      backends.Pod
	Holder   string // names this run of this proxy
	Book     AuditBook
	Schedule AuditSchedule
	// Share of the time that an audit reads at most, see NewPacer.
	Share float64
	// Input gives what an audit needs, anew for each slice: Pod, Epoch, Pair, Retain, Found and Excuses.
	Input func() AuditInput
	// Flush saves the findings that were handed over, durably; it comes before each save of progress. May be nil.
	Flush func(context.Context) error
	// Turns bounds how many audits of its pods a proxy runs at once by schedule, by its capacity; nil is no bound.
	Turns chan struct{}
	// Sleep waits; nil means a timer. Now is the local clock; nil means time.Now.
	Sleep func(context.Context, time.Duration) error
	Now   func() time.Time
	// Failed is told how each look at the schedule ended; nil is well. May be nil.
	Failed func(error)
}

// Audits runs the audits of one pod, among other proxies that do the same: whoever finds one due takes it, by a
// compare-and-set of a row with a lease, goes on where the last one stopped, and saves how far it came. There is no leader.
// A proxy that is killed loses at most what was read since the last save; what it had found by then is found again,
// and is the same finding.
type Audits struct {
	cfg AuditsConfig

	mu   sync.Mutex
	seen AuditRow // as of the last look
	at   time.Time
}

// NewAudits makes them; nothing runs yet.
func NewAudits(cfg AuditsConfig) *Audits {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sleep == nil {
		cfg.Sleep = waitFor
	}
	if cfg.Flush == nil {
		cfg.Flush = func(context.Context) error { return nil }
	}
	if cfg.Failed == nil {
		cfg.Failed = func(error) {}
	}
	return &Audits{cfg: cfg}
}

// Run audits by the schedule until ctx ends. Nothing that fails or panics ends it.
func (a *Audits) Run(ctx context.Context) {
	for ctx.Err() == nil {
		more, err := a.Step(ctx)
		if ctx.Err() == nil {
			a.cfg.Failed(err)
		}
		if !more || err != nil {
			pause := max(auditPoll, min(auditIdle, a.cfg.Schedule.Every/4))
			if row, _, ok := a.Seen(); !ok || row.State != nil || row.Lease > 0 || row.Fails > 0 {
				pause = auditPoll
			}
			_ = a.cfg.Sleep(ctx, pause+rand.N(pause/4)) //nolint:gosec // so that proxies do not look at the same time
		}
	}
}

// Step looks whether an audit is due and nobody's, and if so audits for one slice. more tells that another slice should
// follow. A panic is an error.
func (a *Audits) Step(ctx context.Context) (more bool, err error) {
	if a.cfg.Schedule.Every <= 0 {
		return false, nil
	}
	in, p, err := a.input()
	if errors.Is(err, ErrNoPair) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	row, err := a.Row(ctx)
	if err != nil || !a.due(&row, p) {
		return false, err
	}
	release, err := a.turn(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	row, taken, err := a.take(ctx)
	if err != nil || !taken {
		return false, err
	}
	s := &slice{a: a, n: row.N, in: in, until: a.cfg.Now().Add(auditSlice), scheduled: true}
	free := row
	if free.Lease = 0; !a.due(&free, p) { // somebody has ended it meanwhile
		return false, s.save(ctx, AuditSave{})
	}
	_, err = s.run(ctx, &row, false)
	if errors.Is(err, errSliceOver) {
		return true, nil
	}
	if moved(err) || errors.Is(err, ErrAuditTaken) {
		return false, nil
	}
	return false, err
}

// turn waits for this pod's turn among those of the proxy. Audits of pods that share a server would add up.
func (a *Audits) turn(ctx context.Context) (release func(), err error) {
	if a.cfg.Turns == nil {
		return func() {}, nil
	}
	select {
	case a.cfg.Turns <- struct{}{}:
		return func() { <-a.cfg.Turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (a *Audits) due(row *AuditRow, p Pair) bool {
	now := a.cfg.Now()
	var sure time.Duration
	if !p.SureSince.IsZero() {
		sure = now.Sub(p.SureSince)
	}
	return a.cfg.Schedule.Due(row, p, sure, now)
}

// ByHand audits now, whatever the schedule: anew, or with resume from where one was interrupted. What it finds is the
// last complete audit then. While somebody else audits the pod it is ErrAuditTaken with resume; without, the
// result is the caller's alone, and nothing is saved. One that the caller ends is forgotten unless it is to be resumed;
// one that dies with its proxy is gone on with.
func (a *Audits) ByHand(ctx context.Context, resume bool, progress func(AuditProgress)) (*AuditResult, error) {
	in, _, err := a.input()
	if err != nil {
		return nil, err
	}
	in.Progress = progress
	row, taken, err := a.take(ctx)
	switch {
	case err != nil:
		return nil, err
	case !taken && resume:
		return nil, fmt.Errorf("%w: it is with %s, at the %s", ErrAuditTaken, row.Holder, row.phase())
	case !taken:
		in.Pacer = NewPacer(a.cfg.Share, a.cfg.Now, nil)
		return Audit(ctx, in)
	}
	s := &slice{a: a, n: row.N, in: in, listed: true, forget: !resume}
	return s.run(ctx, &row, !resume)
}

// phase is what the present audit reads.
func (r *AuditRow) phase() string {
	if r.State == nil {
		return "beginning"
	}
	return r.State.PhaseName()
}

// input asks for what an audit needs; a panic is an error.
func (a *Audits) input() (in AuditInput, p Pair, err error) {
	defer recoverTo(&err)
	in = a.cfg.Input()
	p, err = in.Pair()
	if err == nil && (p.Truth == nil || p.Shadow == nil) {
		err = ErrNoPair
	}
	return in, p, err
}

// recoverTo makes a panic an error that says where it was.
func recoverTo(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the audit panicked: %v; %s", p, clip(string(debug.Stack()), maxAuditFailure/2))
	}
}

// Row reads how the pod's audits stand.
func (a *Audits) Row(ctx context.Context) (row AuditRow, err error) {
	defer recoverTo(&err)
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	row, err = a.cfg.Book.AuditRow(ctx, a.cfg.Pod)
	if err == nil {
		a.saw(row)
	}
	return row, err
}

func (a *Audits) saw(row AuditRow) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen, a.at = row, a.cfg.Now()
}

// Seen is the row as of the last look, how long ago that was, and whether there was any. It asks nobody.
func (a *Audits) Seen() (row AuditRow, age time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen, a.cfg.Now().Sub(a.at), !a.at.IsZero()
}

func (a *Audits) take(ctx context.Context) (row AuditRow, taken bool, err error) {
	defer recoverTo(&err)
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	row, taken, err = a.cfg.Book.TakeAudit(ctx, a.cfg.Pod, a.cfg.Holder, auditTerm)
	if err != nil {
		return row, false, bookAway(err)
	}
	a.saw(row)
	return row, taken, nil
}

// bookAway says of an error of the book what it means for an audit.
func bookAway(err error) error {
	if errors.Is(err, ErrAuditTaken) {
		return err
	}
	return fmt.Errorf("%w: the pod's audits are kept in its MySQL, which does not answer (%w); what was saved is gone on with when it does", backends.ErrUnavailable, err)
}

// moved tells whether an audit has ended because the pod is not any more what it was.
func moved(err error) bool {
	return errors.Is(err, ErrStageMoved) || errors.Is(err, ErrNoPair) || errors.Is(err, ErrNothingToAudit)
}

// slice is a part of an audit, by one proxy.
type slice struct {
	a         *Audits
	n         uint64
	in        AuditInput
	until     time.Time // zero: until it is complete
	scheduled bool
	listed    bool // the result has findings
	forget    bool // what was saved goes with the caller
	saved     time.Time
}

// run audits until the slice is over, or the audit complete. It leaves the row as it should be, also when ctx has ended.
func (s *slice) run(ctx context.Context, row *AuditRow, anew bool) (*AuditResult, error) {
	from := row.State
	if p, err := s.in.Pair(); anew || from != nil && (err != nil || from.fits(p.Stage, s.in.Epoch) != nil) {
		from = nil
	}
	if from == nil {
		if err := s.save(ctx, AuditSave{Step: AuditBegins, Term: auditTerm}); err != nil {
			return nil, err
		}
	}
	s.saved = s.a.cfg.Now()
	s.in.From, s.in.Checkpoint, s.in.Wait, s.in.Now, s.in.Unlisted = from, s.checkpoint, s.wait, s.a.cfg.Now, !s.listed
	s.in.Pacer = NewPacer(s.a.cfg.Share, s.a.cfg.Now, s.wait)
	res, err := s.audit(ctx)
	return res, s.end(ctx, res, err)
}

// audit is Audit; a panic is an error.
func (s *slice) audit(ctx context.Context) (res *AuditResult, err error) {
	defer recoverTo(&err)
	return Audit(ctx, s.in)
}

// checkpoint saves now and then, and ends the slice.
func (s *slice) checkpoint(ctx context.Context, state func() AuditState) error {
	now := s.a.cfg.Now()
	over := !s.until.IsZero() && !now.Before(s.until) || s.scheduled && !s.a.cfg.Schedule.Window.Has(now)
	if !over && now.Sub(s.saved) < auditSaveEvery {
		return nil
	}
	st := state()
	if err := s.save(ctx, AuditSave{Step: AuditGoesOn, State: &st, Term: auditTerm}); err != nil {
		return err
	}
	if over {
		return errSliceOver
	}
	return nil
}

// wait waits, and keeps the audit meanwhile.
func (s *slice) wait(ctx context.Context, d time.Duration) error {
	if err := s.a.cfg.Sleep(ctx, d); err != nil {
		return err
	}
	if s.a.cfg.Now().Sub(s.saved) < auditTerm/3 {
		return nil
	}
	return s.save(ctx, AuditSave{Term: auditTerm})
}

// save flushes what was found, then changes the row: progress that is saved never has findings behind it that are not.
// Each has its own time: what the store of findings does not take in its is spooled, and the row may be had all the same.
func (s *slice) save(ctx context.Context, c AuditSave) (err error) {
	defer recoverTo(&err)
	if c.Step == AuditGoesOn || c.Step == AuditEnds {
		if err := s.flush(ctx); err != nil {
			return fmt.Errorf("saving what the audit found: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	began := s.a.cfg.Now()
	if err := s.a.cfg.Book.SaveAudit(ctx, s.a.cfg.Pod, s.n, c); err != nil {
		return bookAway(err)
	}
	s.saved = began
	return nil
}

func (s *slice) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*saveTimeout)
	defer cancel()
	return s.a.cfg.Flush(ctx)
}

// end leaves the row: complete, dropped, failed, or for the next one to go on with. It gives back err, or what kept
// a complete audit from being saved.
func (s *slice) end(ctx context.Context, res *AuditResult, err error) error {
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*saveTimeout) // of which save bounds each part
	defer cancel()
	switch {
	case err == nil:
		return s.save(late, AuditSave{Step: AuditEnds, Last: res})
	case errors.Is(err, ErrAuditTaken):
		return err
	case moved(err), s.forget && ctx.Err() != nil:
		_ = s.save(late, AuditSave{Step: AuditDrops}) // else its term ends
	case errors.Is(err, errSliceOver), ctx.Err() != nil:
		_ = s.save(late, AuditSave{}) // likewise
	default:
		_ = s.save(late, AuditSave{Step: AuditFails, Failure: err.Error()}) // likewise
	}
	return err
}
