package mysqlfindings

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

const (
	// findingBatch bounds the findings of one statement: each has up to some 60 kB, and the packet
	// of a server with default settings takes 16 MB.
	findingBatch = 50
	// coverageBatch bounds the rows of one statement.
	coverageBatch = 200
	// MaxPrune bounds what one Prune removes of each table, so that it holds no lock for long.
	MaxPrune = 5000
)

// Store keeps findings, coverage, tallies, sheets and audits in a database that has the tables of migrations 0002 and 0004 to 0008.
type Store struct{ db *sql.DB }

var _ comparator.Store = (*Store)(nil)

// New takes the database; closing it is the caller's.
func New(db *sql.DB) *Store { return &Store{db: db} }

// SaveFindings implements [comparator.Store]. Everything is one transaction.
func (s *Store) SaveFindings(ctx context.Context, fs []comparator.Finding) error {
	if len(fs) == 0 {
		return nil
	}
	fs = join(fs)
	err := s.write(ctx, func(tx *sql.Tx) error {
		for part := range samePod(fs) {
			if err := savePart(ctx, tx, part); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("saving %d findings: %w", len(fs), err)
	}
	return nil
}

// join sorts findings by pod and id, the order of locks, and joins those of one id.
func join(fs []comparator.Finding) []comparator.Finding {
	fs = slices.Clone(fs)
	slices.SortStableFunc(fs, func(a, b comparator.Finding) int {
		if c := strings.Compare(string(a.Pod), string(b.Pod)); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	out := fs[:0]
	for _, f := range fs {
		if n := len(out); n > 0 && out[n-1].Pod == f.Pod && out[n-1].ID == f.ID {
			out[n-1] = comparator.Merge(out[n-1], f)
			continue
		}
		out = append(out, f)
	}
	return out
}

// samePod gives runs of findings of one pod, each small enough for one statement.
func samePod(fs []comparator.Finding) func(func([]comparator.Finding) bool) {
	return func(yield func([]comparator.Finding) bool) {
		for start := 0; start < len(fs); {
			end := start
			for end < len(fs) && end-start < findingBatch && fs[end].Pod == fs[start].Pod {
				end++
			}
			if !yield(fs[start:end]) {
				return
			}
			start = end
		}
	}
}

// savePart inserts what is new, then joins the rest with what is kept, under the rows' locks.
func savePart(ctx context.Context, tx *sql.Tx, fs []comparator.Finding) error {
	args := make([]any, 0, 11*len(fs))
	for i := range fs {
		cols, err := columns(&fs[i])
		if err != nil {
			return err
		}
		args = append(append(args, string(fs[i].Pod), fs[i].ID), cols...)
	}
	if _, err := tx.ExecContext(ctx, tag+findingInsert.times(len(fs)), args...); err != nil {
		return err
	}
	kept, err := lock(ctx, tx, fs)
	if err != nil {
		return err
	}
	for _, f := range fs {
		old, ok := kept[f.ID]
		if !ok {
			return fmt.Errorf("%w: finding %s of pod %q is not there after it was inserted", backends.ErrDamaged, f.ID, f.Pod)
		}
		merged := comparator.Merge(old, f)
		if equal(&old, &merged) {
			continue
		}
		if err := update(ctx, tx, &merged); err != nil {
			return err
		}
	}
	return nil
}

// equal compares what a merge can change.
func equal(a, b *comparator.Finding) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

func columns(f *comparator.Finding) ([]any, error) {
	body, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("finding %s: %w", f.ID, err)
	}
	return []any{f.Class.String(), f.Life.String(), f.TotalUnits, f.Count, f.FirstSeen.UnixMicro(), f.LastSeen.UnixMicro(), subjects(f), f.Excuse, body}, nil
}

func update(ctx context.Context, tx *sql.Tx, f *comparator.Finding) error {
	cols, err := columns(f)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, tag+findingUpdate.times(1), append(cols, string(f.Pod), f.ID)...)
	return err
}

func lock(ctx context.Context, tx *sql.Tx, fs []comparator.Finding) (map[string]comparator.Finding, error) {
	args := []any{string(fs[0].Pod)}
	for i := range fs {
		args = append(args, fs[i].ID)
	}
	rows, err := tx.QueryContext(ctx, tag+findingLock.times(len(fs)), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	kept := make(map[string]comparator.Finding, len(fs))
	for rows.Next() {
		var id string
		var body []byte
		if err := rows.Scan(&id, &body); err != nil {
			return nil, err
		}
		f, err := parse(body)
		if err != nil {
			return nil, err
		}
		kept[id] = f
	}
	return kept, rows.Err()
}

func parse(body []byte) (f comparator.Finding, err error) {
	if err := json.Unmarshal(body, &f); err != nil {
		return f, fmt.Errorf("%w: a finding's body: %w", backends.ErrDamaged, err)
	}
	return f, nil
}

// write runs do in one transaction at READ COMMITTED, so that a row that is not there locks no gap.
func (s *Store) write(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, undone(tx.Rollback()))
	}
	return tx.Commit()
}

// undone forgets that a transaction was over already, as it is when its context ended.
func undone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// SaveCoverage implements [comparator.Store]. Each statement is a transaction of its own: a row
// stands for itself.
func (s *Store) SaveCoverage(ctx context.Context, rows []comparator.CoverageRow) error {
	for part := range slices.Chunk(rows, coverageBatch) {
		args := make([]any, 0, 17*len(part))
		for i := range part {
			r := &part[i]
			args = append(args, string(r.Pod), r.Minute, r.Proxy, r.Run, r.Epoch, r.Rev, r.Decisions, r.Pending, r.Matched, r.Probed,
				r.Settling, r.Explained, r.Confirmed, r.Excused, r.SampledOut, r.Undetermined, r.Lost)
		}
		if _, err := s.db.ExecContext(ctx, tag+coverageSave.times(len(part)), args...); err != nil {
			return fmt.Errorf("saving %d coverage rows: %w", len(part), err)
		}
	}
	return nil
}

// ListFindings implements [comparator.Store]. Its Pod is required.
func (s *Store) ListFindings(ctx context.Context, q comparator.FindingQuery) ([]comparator.Finding, error) {
	if err := backends.CheckID("pod", string(q.Pod)); err != nil {
		return nil, err
	}
	text, args := listText(&q)
	limit := q.Limit
	if limit <= 0 || limit > comparator.MaxList {
		limit = comparator.MaxList
	}
	rows, err := s.db.QueryContext(ctx, text+findingListEnd.times(1), append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("listing findings: %w", err)
	}
	defer rows.Close()
	out := []comparator.Finding{}
	for rows.Next() {
		var body []byte
		if err := rows.Scan(&body); err != nil {
			return nil, fmt.Errorf("listing findings: %w", err)
		}
		f, err := parse(body)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, rows.Err()
}

// listText puts the statement of a list together, up to its order.
func listText(q *comparator.FindingQuery) (text string, args []any) {
	text, args = tag+findingList.times(1), []any{string(q.Pod), sinceMicro(q.Since)}
	if len(q.Classes) > 0 {
		text += findingListClasses.times(len(q.Classes))
		for _, c := range q.Classes {
			args = append(args, c.String())
		}
	}
	if len(q.Lives) > 0 {
		text += findingListLives.times(len(q.Lives))
		for _, l := range q.Lives {
			args = append(args, l.String())
		}
	}
	if q.Shop != "" || q.Item != "" {
		text += findingListSubject.times(1)
		args = append(args, subject(q.Shop, q.Item))
	}
	if c := q.After; c != nil {
		text += findingListAfter.times(1)
		args = append(args, c.LastSeen.UnixMicro(), c.LastSeen.UnixMicro(), c.ID)
	}
	return text, args
}

func sinceMicro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Finding implements [comparator.Store].
func (s *Store) Finding(ctx context.Context, pod backends.Pod, id string) (*comparator.Finding, error) {
	var body []byte
	err := s.db.QueryRowContext(ctx, tag+findingRead.times(1), string(pod), id).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, comparator.ErrNoFinding
	}
	if err != nil {
		return nil, fmt.Errorf("reading finding %q: %w", id, err)
	}
	f, err := parse(body)
	if err != nil {
		return nil, err
	}
	return &f, nil
}

// Summary implements [comparator.Store].
func (s *Store) Summary(ctx context.Context, pod backends.Pod, since time.Time) ([]comparator.ClassSummary, error) {
	rows, err := s.db.QueryContext(ctx, tag+findingSummary.times(1), string(pod), sinceMicro(since))
	if err != nil {
		return nil, fmt.Errorf("summing up findings: %w", err)
	}
	defer rows.Close()
	out := []comparator.ClassSummary{}
	for rows.Next() {
		var class, life string
		var last int64
		var c comparator.ClassSummary
		if err := rows.Scan(&class, &life, &c.Findings, &c.Units, &c.Sights, &last); err != nil {
			return nil, fmt.Errorf("summing up findings: %w", err)
		}
		if c.Class, err = comparator.ParseClass(class); err != nil {
			return nil, fmt.Errorf("%w: %w", backends.ErrDamaged, err)
		}
		if c.Life, err = comparator.ParseLife(life); err != nil {
			return nil, fmt.Errorf("%w: %w", backends.ErrDamaged, err)
		}
		c.LastSeen = time.UnixMicro(last).UTC()
		out = append(out, c)
	}
	return out, rows.Err()
}

// ExcuseUse implements [comparator.Store].
func (s *Store) ExcuseUse(ctx context.Context, pod backends.Pod, since time.Time) ([]comparator.ExcuseUse, error) {
	rows, err := s.db.QueryContext(ctx, tag+findingExcuses.times(1), string(pod), sinceMicro(since))
	if err != nil {
		return nil, fmt.Errorf("summing up what was excused: %w", err)
	}
	defer rows.Close()
	out := []comparator.ExcuseUse{}
	for rows.Next() {
		var u comparator.ExcuseUse
		var last int64
		if err := rows.Scan(&u.Name, &u.Findings, &u.Units, &last); err != nil {
			return nil, fmt.Errorf("summing up what was excused: %w", err)
		}
		u.LastSeen = time.UnixMicro(last).UTC()
		out = append(out, u)
	}
	return out, rows.Err()
}

// Coverage implements [comparator.Store].
func (s *Store) Coverage(ctx context.Context, pod backends.Pod, since time.Time) ([]comparator.CoverageRow, error) {
	rows, err := s.db.QueryContext(ctx, tag+coverageSum.times(1), string(pod), comparator.SinceMinute(since))
	if err != nil {
		return nil, fmt.Errorf("reading coverage: %w", err)
	}
	defer rows.Close()
	out := []comparator.CoverageRow{}
	for rows.Next() {
		r := comparator.CoverageRow{Pod: pod}
		err := rows.Scan(&r.Proxy, &r.Run, &r.Epoch, &r.Minute, &r.Rev, &r.Decisions, &r.Pending, &r.Matched, &r.Probed,
			&r.Settling, &r.Explained, &r.Confirmed, &r.Excused, &r.SampledOut, &r.Undetermined, &r.Lost)
		if err != nil {
			return nil, fmt.Errorf("reading coverage: %w", err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// Prune implements [comparator.Store]; a limit over MaxPrune means MaxPrune.
func (s *Store) Prune(ctx context.Context, pod backends.Pod, before time.Time, limit int) (int, error) {
	limit = max(1, min(limit, MaxPrune))
	total := 0
	for _, st := range []struct {
		text string
		at   int64
	}{{findingPrune.times(1), before.UnixMicro()}, {coveragePrune.times(1), comparator.SinceMinute(before)},
		{tallyPrune.times(1), comparator.SinceSlot(before)}} {
		res, err := s.db.ExecContext(ctx, tag+st.text, string(pod), st.at, limit)
		if err != nil {
			return total, fmt.Errorf("pruning findings, coverage and tallies: %w", err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return total, err
		}
		total += int(n)
	}
	return total, nil
}
