package memfindings

import (
	"cmp"
	"context"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

var _ comparator.ApologyBook = (*Store)(nil)

// FileApologies implements [comparator.ApologyBook].
func (s *Store) FileApologies(ctx context.Context, pod backends.Pod, from backends.Side, as []backends.Apology) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if len(s.apologies)+len(as) > MaxRows {
		return ErrFull
	}
	for i := range as {
		k := findingKey{pod, comparator.ApologyID(pod, as[i].Hold, as[i].Key)}
		r, known := s.apologies[k]
		if !known {
			r = comparator.NewApologyRecord(pod, from, &as[i])
		}
		r.Join(from, &as[i])
		s.apologies[k] = r
	}
	return nil
}

// ListApologies implements [comparator.ApologyBook].
func (s *Store) ListApologies(ctx context.Context, q comparator.ApologyQuery) ([]comparator.ApologyRecord, error) {
	if err := backends.CheckID("pod", string(q.Pod)); err != nil {
		return nil, err
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	out := []comparator.ApologyRecord{}
	for k, r := range s.apologies {
		if k.pod == q.Pod && q.Matches(&r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b comparator.ApologyRecord) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.ID, b.ID))
	})
	limit := q.Limit
	if limit <= 0 || limit > comparator.MaxList {
		limit = comparator.MaxList
	}
	return out[:min(len(out), limit)], nil
}

// SumApologies implements [comparator.ApologyBook].
func (s *Store) SumApologies(ctx context.Context, pod backends.Pod) (sum comparator.ApologySum, err error) {
	if err := s.lock(ctx); err != nil {
		return sum, err
	}
	defer s.mu.Unlock()
	for k, r := range s.apologies {
		switch {
		case k.pod != pod:
			continue
		case r.Open():
			sum.Open++
		default:
			sum.Acked++
		}
		sum.OpenUnits += r.Quantity - r.Acked
		sum.AckedUnits += r.Acked
	}
	return sum, nil
}

// AckApology implements [comparator.ApologyBook].
func (s *Store) AckApology(ctx context.Context, pod backends.Pod, id string, a comparator.ApologyAck) (*comparator.ApologyRecord, bool, error) {
	if err := comparator.CheckFindingID(id); err != nil {
		return nil, false, err
	}
	if err := a.Check(); err != nil {
		return nil, false, err
	}
	if err := s.lock(ctx); err != nil {
		return nil, false, err
	}
	defer s.mu.Unlock()
	r, ok := s.apologies[findingKey{pod, id}]
	if !ok {
		return nil, false, comparator.ErrNoApology
	}
	changed, err := a.Apply(&r)
	if err != nil {
		return nil, false, err
	}
	s.apologies[findingKey{pod, id}] = r
	return &r, changed, nil
}
