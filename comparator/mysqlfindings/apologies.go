package mysqlfindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// apologyBatch bounds the rows of one statement.
const apologyBatch = 100

var _ comparator.ApologyBook = (*Store)(nil)

// FileApologies implements [comparator.ApologyBook]. Each statement is a transaction of its own: a row stands
// for itself.
func (s *Store) FileApologies(ctx context.Context, pod backends.Pod, from backends.Side, as []backends.Apology) error {
	recs := make([]comparator.ApologyRecord, 0, len(as))
	for i := range as {
		recs = append(recs, comparator.NewApologyRecord(pod, from, &as[i]))
	}
	slices.SortStableFunc(recs, func(a, b comparator.ApologyRecord) int { return strings.Compare(a.ID, b.ID) }) // the order of locks
	for part := range slices.Chunk(recs, apologyBatch) {
		args := make([]any, 0, 11*len(part))
		for i := range part {
			r := &part[i]
			args = append(args, string(pod), r.ID, string(r.Hold), string(r.Key.Shop), string(r.Key.Item), string(r.Key.Location), r.Quantity, r.Reason, int64(r.At), r.Redis, r.MySQL)
		}
		if _, err := s.db.ExecContext(ctx, tag+apologyFile.times(len(part)), args...); err != nil {
			return fmt.Errorf("filing %d apologies: %w", len(part), err)
		}
	}
	return nil
}

// ListApologies implements [comparator.ApologyBook].
func (s *Store) ListApologies(ctx context.Context, q comparator.ApologyQuery) ([]comparator.ApologyRecord, error) {
	if err := backends.CheckID("pod", string(q.Pod)); err != nil {
		return nil, err
	}
	text, args := tag+apologyList.times(1), []any{string(q.Pod)}
	switch {
	case q.Open && !q.Acked:
		text += apologyListOpen.times(1)
	case q.Acked && !q.Open:
		text += apologyListAcked.times(1)
	}
	if c := q.After; c != nil {
		text += apologyListAfter.times(1)
		args = append(args, int64(c.At), int64(c.At), c.ID)
	}
	limit := q.Limit
	if limit <= 0 || limit > comparator.MaxList {
		limit = comparator.MaxList
	}
	rows, err := s.db.QueryContext(ctx, text+apologyListEnd.times(1), append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("listing apologies: %w", err)
	}
	defer rows.Close()
	out := []comparator.ApologyRecord{}
	for rows.Next() {
		r, err := scanApology(rows)
		if err != nil {
			return nil, fmt.Errorf("listing apologies: %w", err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

func scanApology(row interface{ Scan(...any) error }) (r comparator.ApologyRecord, err error) {
	var ackedAt int64
	err = row.Scan(&r.ID, &r.Hold, &r.Key.Shop, &r.Key.Item, &r.Key.Location, &r.Quantity, &r.Reason, &r.At, &r.Redis, &r.MySQL, &r.Acked, &r.AckedBy, &ackedAt, &r.Why)
	if ackedAt != 0 {
		r.AckedAt = time.UnixMicro(ackedAt).UTC()
	}
	return r, err
}

// SumApologies implements [comparator.ApologyBook].
func (s *Store) SumApologies(ctx context.Context, pod backends.Pod) (sum comparator.ApologySum, err error) {
	err = s.db.QueryRowContext(ctx, tag+apologySum.times(1), string(pod)).Scan(&sum.Open, &sum.OpenUnits, &sum.Acked, &sum.AckedUnits)
	if err != nil {
		err = fmt.Errorf("counting apologies: %w", err)
	}
	return sum, err
}

// AckApology implements [comparator.ApologyBook].
func (s *Store) AckApology(ctx context.Context, pod backends.Pod, id string, a comparator.ApologyAck) (*comparator.ApologyRecord, bool, error) {
	if err := comparator.CheckFindingID(id); err != nil {
		return nil, false, err
	}
	if err := a.Check(); err != nil {
		return nil, false, err
	}
	var rec comparator.ApologyRecord
	var changed bool
	err := s.write(ctx, func(tx *sql.Tx) (err error) {
		rec, err = scanApology(tx.QueryRowContext(ctx, tag+apologyLock.times(1), string(pod), id))
		if errors.Is(err, sql.ErrNoRows) {
			return comparator.ErrNoApology
		}
		if err != nil {
			return err
		}
		if changed, err = a.Apply(&rec); err != nil || !changed {
			return err
		}
		_, err = tx.ExecContext(ctx, tag+apologyAck.times(1), rec.Acked, rec.AckedBy, rec.AckedAt.UnixMicro(), rec.Why, string(pod), id)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("acknowledging apology %s: %w", id, err)
	}
	return &rec, changed, nil
}
