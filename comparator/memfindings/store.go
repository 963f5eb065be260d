package memfindings

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// MaxFindings and MaxRows bound what is kept, over all pods: some hundred MB at worst.
const (
	MaxFindings = 20_000
	MaxRows     = 100_000
)

// ErrFull: a bound was reached.
var ErrFull = errors.New("memfindings: no more room in memory; prune, or use MySQL")

type findingKey struct {
	pod backends.Pod
	id  string
}

type rowKey struct {
	pod        backends.Pod
	proxy, run string
	epoch      uint64
	minute     int64
}

// Store keeps everything in maps.
type Store struct {
	mu        sync.Mutex
	findings  map[findingKey]comparator.Finding
	rows      map[rowKey]comparator.CoverageRow
	apologies map[findingKey]comparator.ApologyRecord
	sheets    map[sheetKey]keptSheet
	tallies   map[tallyKey]comparator.TallyRow
	audits    map[backends.Pod]*keptAudit
}

var _ comparator.Store = (*Store)(nil)

// New makes an empty store.
func New() *Store {
	return &Store{
		findings: map[findingKey]comparator.Finding{}, rows: map[rowKey]comparator.CoverageRow{}, apologies: map[findingKey]comparator.ApologyRecord{},
		audits: map[backends.Pod]*keptAudit{},
		sheets: map[sheetKey]keptSheet{}, tallies: map[tallyKey]comparator.TallyRow{},
	}
}

func (s *Store) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	return nil
}

// SaveFindings implements [comparator.Store].
func (s *Store) SaveFindings(ctx context.Context, fs []comparator.Finding) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if len(s.findings)+len(fs) > MaxFindings {
		return ErrFull
	}
	for _, f := range fs {
		k := findingKey{f.Pod, f.ID}
		if old, ok := s.findings[k]; ok {
			f = comparator.Merge(old, f)
		}
		f.Units = slices.Clone(f.Units)
		s.findings[k] = f
	}
	return nil
}

// SaveCoverage implements [comparator.Store].
func (s *Store) SaveCoverage(ctx context.Context, rows []comparator.CoverageRow) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if len(s.rows)+len(rows) > MaxRows {
		return ErrFull
	}
	for _, r := range rows {
		k := rowKey{r.Pod, r.Proxy, r.Run, r.Epoch, r.Minute}
		if old, ok := s.rows[k]; !ok || r.Rev > old.Rev {
			s.rows[k] = r
		}
	}
	return nil
}

// ListFindings implements [comparator.Store].
func (s *Store) ListFindings(ctx context.Context, q comparator.FindingQuery) ([]comparator.Finding, error) {
	if err := backends.CheckID("pod", string(q.Pod)); err != nil {
		return nil, err
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	out := []comparator.Finding{}
	for _, f := range s.findings {
		if q.Matches(&f) {
			f.Units = slices.Clone(f.Units)
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b comparator.Finding) int {
		return cmp.Or(b.LastSeen.Compare(a.LastSeen), cmp.Compare(b.ID, a.ID))
	})
	limit := q.Limit
	if limit <= 0 || limit > comparator.MaxList {
		limit = comparator.MaxList
	}
	return out[:min(len(out), limit)], nil
}

// Finding implements [comparator.Store].
func (s *Store) Finding(ctx context.Context, pod backends.Pod, id string) (*comparator.Finding, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	f, ok := s.findings[findingKey{pod, id}]
	if !ok {
		return nil, comparator.ErrNoFinding
	}
	f.Units = slices.Clone(f.Units)
	return &f, nil
}

// Summary implements [comparator.Store].
func (s *Store) Summary(ctx context.Context, pod backends.Pod, since time.Time) ([]comparator.ClassSummary, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	type group struct {
		class comparator.Class
		life  comparator.Life
	}
	sums := map[group]*comparator.ClassSummary{}
	for k, f := range s.findings {
		if k.pod != pod || f.LastSeen.Before(since) {
			continue
		}
		g := group{f.Class, f.Life}
		if sums[g] == nil {
			sums[g] = &comparator.ClassSummary{Class: f.Class, Life: f.Life}
		}
		c := sums[g]
		c.Findings, c.Units, c.Sights = c.Findings+1, c.Units+f.TotalUnits, c.Sights+f.Count
		if f.LastSeen.After(c.LastSeen) {
			c.LastSeen = f.LastSeen
		}
	}
	out := []comparator.ClassSummary{}
	for _, c := range sums {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b comparator.ClassSummary) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Life, b.Life))
	})
	return out, nil
}

// ExcuseUse implements [comparator.Store].
func (s *Store) ExcuseUse(ctx context.Context, pod backends.Pod, since time.Time) ([]comparator.ExcuseUse, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	by := map[string]*comparator.ExcuseUse{}
	for k, f := range s.findings {
		if k.pod != pod || f.Excuse == "" || f.LastSeen.Before(since) {
			continue
		}
		if by[f.Excuse] == nil {
			by[f.Excuse] = &comparator.ExcuseUse{Name: f.Excuse}
		}
		u := by[f.Excuse]
		u.Findings, u.Units = u.Findings+1, u.Units+f.TotalUnits
		if f.LastSeen.After(u.LastSeen) {
			u.LastSeen = f.LastSeen
		}
	}
	out := []comparator.ExcuseUse{}
	for _, u := range by {
		out = append(out, *u)
	}
	slices.SortFunc(out, func(a, b comparator.ExcuseUse) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// Coverage implements [comparator.Store].
func (s *Store) Coverage(ctx context.Context, pod backends.Pod, since time.Time) ([]comparator.CoverageRow, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	sums := map[rowKey]*comparator.CoverageRow{}
	for k, r := range s.rows {
		if k.pod != pod || k.minute < comparator.SinceMinute(since) {
			continue
		}
		k.minute = 0
		if sums[k] == nil {
			sums[k] = &comparator.CoverageRow{Pod: r.Pod, Proxy: r.Proxy, Run: r.Run, Epoch: r.Epoch}
		}
		sums[k].Add(r)
	}
	out := []comparator.CoverageRow{}
	for _, r := range sums {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b comparator.CoverageRow) int {
		return cmp.Or(cmp.Compare(a.Proxy, b.Proxy), cmp.Compare(a.Run, b.Run), cmp.Compare(a.Epoch, b.Epoch))
	})
	return out, nil
}

// SetLife implements [comparator.Store].
func (s *Store) SetLife(ctx context.Context, pod backends.Pod, ids []string, c comparator.LifeChange) ([]comparator.Moved, error) {
	ids, err := comparator.CheckFindingIDs(ids)
	if err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	out := make([]comparator.Moved, len(ids))
	for i, id := range ids {
		old, ok := s.findings[findingKey{pod, id}]
		if !ok {
			return nil, fmt.Errorf("finding %s: %w", id, comparator.ErrNoFinding)
		}
		if out[i], err = c.Apply(old); err != nil {
			return nil, err
		}
	}
	for i, id := range ids {
		s.findings[findingKey{pod, id}] = out[i].Finding
		out[i].Finding.Units = slices.Clone(out[i].Finding.Units)
	}
	return out, nil
}

// Prune implements [comparator.Store].
func (s *Store) Prune(ctx context.Context, pod backends.Pod, before time.Time, limit int) (int, error) {
	if err := s.lock(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	removed, left := 0, max(limit, 1)
	for k, f := range s.findings {
		if left > 0 && k.pod == pod && f.Life != comparator.LifeOpen && f.LastSeen.Before(before) {
			delete(s.findings, k)
			removed, left = removed+1, left-1
		}
	}
	left = max(limit, 1)
	for k := range s.rows {
		if left > 0 && k.pod == pod && k.minute < comparator.SinceMinute(before) {
			delete(s.rows, k)
			removed, left = removed+1, left-1
		}
	}
	left = max(limit, 1)
	for k := range s.tallies {
		if left > 0 && k.pod == pod && k.slot < comparator.SinceSlot(before) {
			delete(s.tallies, k)
			removed, left = removed+1, left-1
		}
	}
	return removed, nil
}
