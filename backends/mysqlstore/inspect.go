package mysqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// getBatch bounds the ids of one query.
const getBatch = 500

var (
	textHoldsPage     = named("holds_page").one()
	textHoldsOpenPage = named("holds_open_page").one()
	textApologies     = named("apologies").one()
)

// Get answers nil when the hold is not known.
func (s *Store) Get(ctx context.Context, id backends.HoldID) (*backends.Hold, error) {
	var rec *record
	err := s.read(ctx, "get", "", func(b *batch) { s.askRecord(b, id, &rec) })
	if err != nil || rec == nil {
		return nil, err
	}
	return rec.hold, nil
}

// GetMany answers the known ones among ids.
func (s *Store) GetMany(ctx context.Context, ids []backends.HoldID) (map[backends.HoldID]*backends.Hold, error) {
	out := make(map[backends.HoldID]*backends.Hold, len(ids))
	for part := range slices.Chunk(ids, getBatch) {
		args := []any{s.cfg.Pod}
		for _, id := range part {
			args = append(args, id)
		}
		err := s.read(ctx, "get", "", func(b *batch) {
			b.ask(func(r *sql.Rows) error {
				rec, err := scanRecord(r)
				if err == nil {
					out[rec.hold.ID] = rec.hold
				}
				return err
			}, statementHoldRead.times(len(part)), args...)
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// KnowsOp tells whether an operation id was decided, mirrored, corrected under or voided here.
func (s *Store) KnowsOp(ctx context.Context, id backends.OpID) (known bool, err error) {
	err = s.read(ctx, "knows op", "", func(b *batch) {
		known = false
		b.ask(func(r *sql.Rows) error {
			var value, delta int64
			var void bool
			known = true
			return r.Scan(&value, &delta, &void)
		}, textOpRead, s.cfg.Pod, id)
	})
	return known, err
}

// Levels answers one level per key that exists, in key order. Held is what balances the level.
func (s *Store) Levels(ctx context.Context, keys []backends.Key) ([]backends.Level, error) {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, backends.Key.Compare)
	out := make([]backends.Level, 0, len(keys))
	for part := range slices.Chunk(slices.Compact(keys), maxBranches) {
		var args []any
		for i, k := range part {
			args = append(args, i)
			args = append(args, s.ledgerArgs(k)...)
			args = append(args, s.keyArgs(k)...)
			args = append(args, s.keyArgs(k)...)
		}
		var got []backends.Level
		err := s.read(ctx, "levels", "", func(b *batch) {
			got = nil
			b.ask(func(r *sql.Rows) error {
				var i int
				var l backends.Level
				err := r.Scan(&i, &l.Unmaterialised, &l.Taken, &l.TakenVersion.Epoch, &l.TakenVersion.N, &l.Owed, &l.OnHand, &l.Available)
				if err == nil {
					l.Key = part[i]
					got = append(got, balanced(l))
				}
				return err
			}, s.ledger.view.times(len(part)), args...)
		})
		if err != nil {
			return nil, err
		}
		out = append(out, got...)
	}
	return out, nil
}

// balanced gives a level its Held.
func balanced(l backends.Level) backends.Level {
	l.Held = l.OnHand - l.Available - l.Taken - l.Unmaterialised
	return l
}

// ScanHolds pages by id. The cursor is the last id seen.
func (s *Store) ScanHolds(ctx context.Context, cursor string, limit int, openOnly bool) (holds []*backends.Hold, next string, err error) {
	limit = page(limit)
	text := textHoldsPage
	if openOnly {
		text = textHoldsOpenPage
	}
	err = s.read(ctx, "scan", "", func(b *batch) {
		holds = nil
		b.ask(func(r *sql.Rows) error {
			rec, err := scanRecord(r)
			if err == nil {
				holds = append(holds, rec.hold)
			}
			return err
		}, text, s.cfg.Pod, cursor, limit+1)
	})
	if err != nil {
		return nil, "", err
	}
	if len(holds) > limit {
		holds = holds[:limit]
		next = string(holds[limit-1].ID)
	}
	return holds, next, nil
}

// keyCursor writes a key as a position; a line feed is in no identifier.
func keyCursor(k backends.Key) string {
	return strings.Join([]string{string(k.Shop), string(k.Item), string(k.Location)}, "\n")
}

func parseKeyCursor(cursor string) (backends.Key, error) {
	if cursor == "" {
		return backends.Key{}, nil
	}
	p := strings.Split(cursor, "\n")
	if len(p) != 3 {
		return backends.Key{}, &backends.FieldError{Field: "cursor", Value: strconv.Quote(cursor), Bound: "what the page before answered", Next: "start with an empty one"}
	}
	return backends.Key{Shop: backends.Shop(p[0]), Item: backends.Item(p[1]), Location: backends.Location(p[2])}, nil
}

// keyRange is one range of the keys after a position. There are three, the nearest first: a
// comparison of tuples would be read from the start of the pod.
type keyRange struct {
	condition string
	args      []any
}

func rangesAfter(k backends.Key) []keyRange {
	return []keyRange{
		{"l.shop = ? AND l.item = ? AND l.location > ?", []any{k.Shop, k.Item, k.Location}},
		{"l.shop = ? AND l.item > ?", []any{k.Shop, k.Item}},
		{"l.shop > ?", []any{k.Shop}},
	}
}

// ScanLevels pages in key order.
func (s *Store) ScanLevels(ctx context.Context, cursor string, limit int) (levels []backends.Level, next string, err error) {
	from, err := parseKeyCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	limit = page(limit)
	for _, kr := range rangesAfter(from) {
		var got []backends.Level
		err := s.read(ctx, "scan", "", func(b *batch) {
			got = nil
			s.askLevelPage(b, kr, limit+1-len(levels), &got)
		})
		if err != nil {
			return nil, "", err
		}
		if levels = append(levels, got...); len(levels) > limit {
			levels = levels[:limit]
			return levels, keyCursor(levels[limit-1].Key), nil
		}
	}
	return levels, "", nil
}

func (s *Store) askLevelPage(b *batch, kr keyRange, limit int, into *[]backends.Level) {
	args := append(append([]any{s.cfg.Pod}, kr.args...), limit)
	b.ask(func(r *sql.Rows) error {
		var l backends.Level
		err := r.Scan(&l.Key.Shop, &l.Key.Item, &l.Key.Location, &l.Unmaterialised, &l.Taken, &l.TakenVersion.Epoch, &l.TakenVersion.N, &l.Owed, &l.OnHand, &l.Available)
		if err == nil {
			*into = append(*into, balanced(l))
		}
		return err
	}, strings.Replace(s.ledger.page, "%s", kr.condition, 1), args...)
}

// Apologies lists the oldest first. Its cursor is the number of the last one.
func (s *Store) Apologies(ctx context.Context, cursor string, limit int) (as []backends.Apology, next string, err error) {
	var after, last uint64
	if cursor != "" {
		if after, err = strconv.ParseUint(cursor, 10, 64); err != nil {
			return nil, "", &backends.FieldError{Field: "cursor", Value: strconv.Quote(cursor), Bound: "what the page before answered", Next: "start with an empty one"}
		}
	}
	limit = page(limit)
	err = s.read(ctx, "apologies", "", func(b *batch) {
		as = nil
		b.ask(func(r *sql.Rows) error {
			var a backends.Apology
			err := r.Scan(&last, &a.Hold, &a.Key.Shop, &a.Key.Item, &a.Key.Location, &a.Quantity, &a.Reason, &a.At)
			as = append(as, a)
			return err
		}, textApologies, s.cfg.Pod, after, limit)
	})
	if err != nil {
		return nil, "", err
	}
	if len(as) == limit {
		next = strconv.FormatUint(last, 10)
	}
	return as, next, nil
}
