package mysqlfindings

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// tallyBatch bounds the rows of one statement: each has some kB at most.
const tallyBatch = 100

// SaveTallies implements [comparator.Store]. Each statement is a transaction of its own: a row stands
// for itself.
func (s *Store) SaveTallies(ctx context.Context, rows []comparator.TallyRow) error {
	for part := range slices.Chunk(rows, tallyBatch) {
		args := make([]any, 0, 10*len(part))
		for i := range part {
			r := &part[i]
			cells, err := r.Cells.MarshalBinary()
			if err != nil {
				return err
			}
			args = append(args, string(r.Pod), r.Slot, r.Proxy, r.Run, r.Epoch, r.Name, r.Rev, r.N, r.K, hex.EncodeToString(cells))
		}
		if _, err := s.db.ExecContext(ctx, tag+tallySave.times(len(part)), args...); err != nil {
			return fmt.Errorf("saving %d tallies: %w", len(part), err)
		}
	}
	return nil
}

// Tallies implements [comparator.Store].
func (s *Store) Tallies(ctx context.Context, pod backends.Pod, since time.Time, each func(*comparator.TallyRow) error) error {
	rows, err := s.db.QueryContext(ctx, tag+tallyRead.times(1), string(pod), comparator.SinceSlot(since), comparator.MaxTallies)
	if err != nil {
		return fmt.Errorf("reading tallies: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		r := comparator.TallyRow{Pod: pod}
		var cells sql.RawBytes
		if err := rows.Scan(&r.Proxy, &r.Run, &r.Epoch, &r.Slot, &r.Name, &r.Rev, &r.N, &r.K, &cells); err != nil {
			return fmt.Errorf("reading tallies: %w", err)
		}
		if err := r.Cells.UnmarshalBinary(cells); err != nil {
			return err
		}
		if err := each(&r); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Trend implements [comparator.Store].
func (s *Store) Trend(ctx context.Context, pod backends.Pod, since, until time.Time) (comparator.Trend, error) {
	t := comparator.Trend{Coverage: []comparator.TrendPoint{}, Findings: []comparator.FindingPoint{}}
	first := comparator.SinceMinute(since)
	err := s.db.QueryRowContext(ctx, tag+trendFirst.times(1), string(pod), first).Scan(&first)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return t, fmt.Errorf("reading the trend: %w", err)
	}
	t.StepMinutes = comparator.TrendStep(first, until.Unix()/60)
	if err := s.coverageTrend(ctx, pod, since, &t); err != nil {
		return t, fmt.Errorf("reading the trend of coverage: %w", err)
	}
	if err := s.findingTrend(ctx, pod, since, &t); err != nil {
		return t, fmt.Errorf("reading the trend of findings: %w", err)
	}
	return t, nil
}

func (s *Store) coverageTrend(ctx context.Context, pod backends.Pod, since time.Time, t *comparator.Trend) error {
	rows, err := s.db.QueryContext(ctx, tag+trendCoverage.times(1), t.StepMinutes, string(pod), comparator.SinceMinute(since))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var p comparator.TrendPoint
		var step, peak, carried int64
		err := rows.Scan(&step, &p.Decisions, &p.Pending, &p.Matched, &p.Probed, &p.Settling, &p.Explained, &p.Confirmed,
			&p.Excused, &p.SampledOut, &p.Undetermined, &p.Lost, &peak, &carried)
		if err != nil {
			return err
		}
		p.At = comparator.StepTime(step, t.StepMinutes)
		t.Coverage = append(t.Coverage, p)
		t.Peak, t.Carried = max(t.Peak, peak), max(t.Carried, carried)
	}
	return rows.Err()
}

func (s *Store) findingTrend(ctx context.Context, pod backends.Pod, since time.Time, t *comparator.Trend) error {
	length := (time.Duration(t.StepMinutes) * time.Minute).Microseconds()
	rows, err := s.db.QueryContext(ctx, tag+trendFindings.times(1), length, string(pod), sinceMicro(since))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var p comparator.FindingPoint
		var step int64
		var class string
		if err := rows.Scan(&step, &class, &p.Findings, &p.Units); err != nil {
			return err
		}
		if p.Class, err = comparator.ParseClass(class); err != nil {
			return fmt.Errorf("%w: %w", backends.ErrDamaged, err)
		}
		p.At = comparator.StepTime(step, t.StepMinutes)
		t.Findings = append(t.Findings, p)
	}
	comparator.SortFindingPoints(t.Findings)
	return rows.Err()
}
