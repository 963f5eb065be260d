package memfindings

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

type tallyKey struct {
	pod        backends.Pod
	proxy, run string
	epoch      uint64
	slot       int64
	name       string
}

// SaveTallies implements [comparator.Store].
func (s *Store) SaveTallies(ctx context.Context, rows []comparator.TallyRow) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if len(s.tallies)+len(rows) > MaxRows {
		return ErrFull
	}
	for _, r := range rows {
		k := tallyKey{r.Pod, r.Proxy, r.Run, r.Epoch, r.Slot, r.Name}
		if old, ok := s.tallies[k]; !ok || r.Rev > old.Rev {
			r.Cells = slices.Clone(r.Cells)
			s.tallies[k] = r
		}
	}
	return nil
}

// Tallies implements [comparator.Store].
func (s *Store) Tallies(ctx context.Context, pod backends.Pod, since time.Time, each func(*comparator.TallyRow) error) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	var all []comparator.TallyRow
	for k, r := range s.tallies {
		if k.pod == pod && k.slot >= comparator.SinceSlot(since) {
			r.Cells = slices.Clone(r.Cells)
			all = append(all, r)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b comparator.TallyRow) int { return cmp.Compare(b.Slot, a.Slot) })
	for i := range all[:min(len(all), comparator.MaxTallies)] {
		if err := each(&all[i]); err != nil {
			return err
		}
	}
	return nil
}

// Trend implements [comparator.Store].
func (s *Store) Trend(ctx context.Context, pod backends.Pod, since, until time.Time) (comparator.Trend, error) {
	if err := s.lock(ctx); err != nil {
		return comparator.Trend{}, err
	}
	defer s.mu.Unlock()
	byMinute := map[int64]*comparator.CoverageRow{}
	for k, r := range s.rows {
		if k.pod != pod || k.minute < comparator.SinceMinute(since) {
			continue
		}
		if byMinute[k.minute] == nil {
			byMinute[k.minute] = &comparator.CoverageRow{Pod: pod}
		}
		byMinute[k.minute].Add(r)
	}
	minutes := make([]comparator.CoverageRow, 0, len(byMinute))
	for _, r := range byMinute {
		minutes = append(minutes, *r)
	}
	slices.SortFunc(minutes, func(a, b comparator.CoverageRow) int { return cmp.Compare(a.Minute, b.Minute) })
	var fs []comparator.Finding
	for k, f := range s.findings {
		if k.pod == pod {
			fs = append(fs, f)
		}
	}
	return comparator.MakeTrend(minutes, fs, since, until), nil
}
