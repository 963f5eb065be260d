package memstore

import (
	"context"
	"slices"
	"strconv"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Get answers nil when the hold is not known.
func (s *Store) Get(ctx context.Context, id backends.HoldID) (*backends.Hold, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	if rec := d.holds[id]; rec != nil {
		return copyHold(rec.hold), nil
	}
	return nil, nil
}

// KnowsOp tells whether an operation id was decided, mirrored, corrected under or voided here.
func (s *Store) KnowsOp(ctx context.Context, id backends.OpID) (bool, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return false, err
	}
	defer d.mu.Unlock()
	_, known := d.ops[id]
	return known, nil
}

// GetMany answers the known ones among ids.
func (s *Store) GetMany(ctx context.Context, ids []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	out := make(map[backends.HoldID]*backends.Hold, len(ids))
	for _, id := range ids {
		if rec := d.holds[id]; rec != nil {
			out[id] = copyHold(rec.hold)
		}
	}
	return out, nil
}

// Levels answers one level per key that exists, in key order.
func (s *Store) Levels(ctx context.Context, keys []backends.Key) ([]backends.Level, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	keys = slices.Clone(keys)
	slices.SortFunc(keys, backends.Key.Compare)
	out := make([]backends.Level, 0, len(keys))
	for _, k := range slices.Compact(keys) {
		if l := d.levels[k]; l != nil {
			out = append(out, l.view())
		}
	}
	return out, nil
}

// badCursor is the answer to a cursor that no page gave.
func badCursor(cursor string) error {
	return &backends.FieldError{Field: "cursor", Value: strconv.Quote(cursor), Bound: "what the page before answered", Next: "start with an empty one"}
}

// ScanHolds pages in the order of creation. The cursor is the place of the last hold seen.
func (s *Store) ScanHolds(ctx context.Context, cursor string, limit int, openOnly bool) ([]*backends.Hold, string, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return nil, "", err
	}
	defer d.mu.Unlock()
	var after uint64
	if cursor != "" {
		if after, err = strconv.ParseUint(cursor, 10, 64); err != nil {
			return nil, "", badCursor(cursor)
		}
	}
	limit = page(limit)
	from, _ := slices.BinarySearchFunc(d.holdList, after, func(r *record, place uint64) int {
		if r.place <= place {
			return -1
		}
		return 1
	})
	var out []*backends.Hold
	for i := from; i < len(d.holdList); i++ {
		rec := d.holdList[i]
		if openOnly && !rec.hold.State.Open() {
			continue
		}
		if len(out) == limit {
			return out, strconv.FormatUint(d.holdList[i-1].place, 10), nil
		}
		out = append(out, copyHold(rec.hold))
	}
	return out, "", nil
}

// ScanLevels pages in the order of creation. The cursor is how many were seen.
func (s *Store) ScanLevels(ctx context.Context, cursor string, limit int) ([]backends.Level, string, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return nil, "", err
	}
	defer d.mu.Unlock()
	from := 0
	if cursor != "" {
		if from, err = strconv.Atoi(cursor); err != nil || from < 0 || from > len(d.levelList) {
			return nil, "", badCursor(cursor)
		}
	}
	to := min(len(d.levelList), from+page(limit))
	out := make([]backends.Level, 0, to-from)
	for _, l := range d.levelList[from:to] {
		out = append(out, l.view())
	}
	if to == len(d.levelList) {
		return out, "", nil
	}
	return out, strconv.Itoa(to), nil
}

// page keeps a page between one and MaxPage elements.
func page(limit int) int { return min(max(1, limit), backends.MaxPage) }

// Apologies lists the oldest first.
func (s *Store) Apologies(ctx context.Context, cursor string, limit int) (as []backends.Apology, next string, err error) {
	d, err := s.lock(ctx)
	if err != nil {
		return nil, "", err
	}
	defer d.mu.Unlock()
	from := 0
	if cursor != "" {
		if from, err = strconv.Atoi(cursor); err != nil || from < 0 || from > len(d.apologies) {
			return nil, "", badCursor(cursor)
		}
	}
	to := min(len(d.apologies), from+page(limit))
	if to < len(d.apologies) {
		next = strconv.Itoa(to)
	}
	return slices.Clone(d.apologies[from:to]), next, nil
}

// Conservation sums the holds themselves. A broken level is answered with Held as its holds
// have it, unless only the running sum of Held is wrong.
func (s *Store) Conservation(ctx context.Context) ([]backends.Level, int, error) {
	d, err := s.lock(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer d.mu.Unlock()
	held := make(map[backends.Key]int64, len(d.levels))
	for _, rec := range d.holdList {
		if !rec.hold.State.Open() {
			continue
		}
		for _, u := range rec.hold.Takes() {
			held[u.Key] += u.Quantity
		}
	}
	var broken []backends.Level
	for _, l := range d.levelList {
		stored := l.view()
		summed := stored
		summed.Held = held[l.key]
		switch {
		case summed.Imbalance() != 0:
			broken = append(broken, summed)
		case stored.Imbalance() != 0:
			broken = append(broken, stored)
		}
	}
	slices.SortFunc(broken, func(a, b backends.Level) int { return a.Key.Compare(b.Key) })
	return broken, len(d.levelList), nil
}
