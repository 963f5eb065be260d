package comparator

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// auditFormat is the version of an AuditState. A state of another version is not gone on with.
const auditFormat = 1

// AuditState is how far an audit is: all that another proxy needs to go on with it. It is bounded: a cursor, at most
// two pages of differences, maxEffects keys and the totals.
type AuditState struct {
	Format int    `json:"format"`
	Phase  int    `json:"phase"` // of auditPhases
	Cursor string `json:"cursor"`
	// Read tells that all pages of the phase are read: only differences are left to be looked at.
	Read bool `json:"read,omitempty"`
	// Checking are the differences under re-check. Who goes on with them looks twice again, by its own clock.
	Checking []AuditOpen   `json:"checking,omitempty"`
	Effects  []AuditEffect `json:"effects,omitempty"`
	// Result has the totals so far, and no findings: those were handed over.
	Result AuditResult `json:"result"`
}

// AuditEffect is what the hold findings of an audit do to the level of a key, shadow less truth.
type AuditEffect struct {
	Key backends.Key `json:"key"`
	Gap Gap          `json:"gap"`
}

// PhaseName is what is being read.
func (s *AuditState) PhaseName() string {
	if s.Phase < 0 || s.Phase >= len(auditPhases) {
		return "nothing"
	}
	return auditPhases[s.Phase]
}

// fits tells whether an audit of that stage and epoch may go on with the state.
func (s *AuditState) fits(stage backends.Stage, epoch uint64) error {
	switch {
	case s.Format != auditFormat || s.Phase < 0 || s.Phase >= len(auditPhases):
		return fmt.Errorf("%w: what was saved of the audit is of another version", ErrStageMoved)
	case s.Result.Stage != stage || s.Result.Epoch != epoch:
		return ErrStageMoved
	}
	return nil
}

// state is a copy of how far the audit is.
func (a *auditor) state() AuditState {
	s := AuditState{Format: auditFormat, Phase: a.phase, Cursor: a.cursor, Read: a.read, Result: *a.res}
	s.Result.Ended = stamp(a.in.Now())
	s.Result.Findings = nil
	s.Result.Undetermined = slices.Clone(a.res.Undetermined)
	s.Result.Summary = a.summary()
	for _, o := range a.open {
		s.Checking = append(s.Checking, o.open())
	}
	for k, g := range a.effects {
		s.Effects = append(s.Effects, AuditEffect{k, g})
	}
	slices.SortFunc(s.Effects, func(x, y AuditEffect) int { return x.Key.Compare(y.Key) })
	return s
}

// resume takes over a state that fits.
func (a *auditor) resume(s *AuditState) {
	*a.res = s.Result
	a.res.Resumed++
	a.res.Findings = []Finding{}
	a.res.Undetermined = slices.Clone(s.Result.Undetermined)
	if a.res.Undetermined == nil {
		a.res.Undetermined = []AuditOpen{}
	}
	for i := range s.Result.Summary {
		c := s.Result.Summary[i]
		a.sums[c.Class] = &c
	}
	a.phase, a.cursor, a.read = s.Phase, s.Cursor, s.Read
	for i := range s.Checking {
		o := &s.Checking[i]
		a.open = append(a.open, &suspect{hold: o.Hold, key: orZero(o.Key), why: o.Why})
	}
	for _, e := range s.Effects {
		a.effects[e.Key] = e.Gap
	}
}

func orZero(k *backends.Key) backends.Key {
	if k == nil {
		return backends.Key{}
	}
	return *k
}

// summary is the sums in the order of classes.
func (a *auditor) summary() []ClassSummary {
	out := []ClassSummary{}
	for _, s := range a.sums {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(x, y ClassSummary) int {
		return cmp.Compare(slices.Index(Classes(), x.Class), slices.Index(Classes(), y.Class))
	})
	return out
}

// open says which difference it is, and why it is open.
func (s *suspect) open() AuditOpen {
	o := AuditOpen{Hold: s.hold, Why: s.why}
	if s.hold == "" {
		k := s.key
		o.Key = &k
	}
	return o
}
