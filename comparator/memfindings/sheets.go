package memfindings

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

type sheetKey struct {
	pod        backends.Pod
	proxy, run string
}

type keptSheet struct {
	comparator.Sheet
	at time.Time
}

var _ comparator.Sheets = (*Store)(nil)

// PutSheet implements [comparator.Sheets].
func (s *Store) PutSheet(ctx context.Context, sh comparator.Sheet) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	k := sheetKey{sh.Pod, sh.Proxy, sh.Run}
	if _, known := s.sheets[k]; !known && len(s.sheets) >= MaxRows {
		return ErrFull
	}
	s.sheets[k] = keptSheet{sh, time.Now()}
	return nil
}

// PruneSheets implements [comparator.Sheets].
func (s *Store) PruneSheets(ctx context.Context, pod backends.Pod, age time.Duration, limit int) (int, error) {
	if err := s.lock(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	removed := 0
	for k, kept := range s.sheets {
		if removed < limit && k.pod == pod && time.Since(kept.at) > age {
			delete(s.sheets, k)
			removed++
		}
	}
	return removed, nil
}

// Sheets implements [comparator.Sheets].
func (s *Store) Sheets(ctx context.Context, pod backends.Pod, age time.Duration, known map[string]uint64) ([]comparator.Sheet, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	out := []comparator.Sheet{}
	for k, kept := range s.sheets {
		if k.pod != pod || time.Since(kept.at) > age {
			continue
		}
		sh := kept.Sheet
		if n, has := known[k.run]; has && n == sh.N {
			sh = comparator.Sheet{Pod: sh.Pod, Proxy: sh.Proxy, Run: sh.Run, N: sh.N}
		}
		sh.Age = time.Since(kept.at)
		out = append(out, sh)
	}
	slices.SortFunc(out, func(a, b comparator.Sheet) int { return strings.Compare(a.Run, b.Run) })
	return out, nil
}
