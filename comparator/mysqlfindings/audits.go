package mysqlfindings

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

var _ comparator.AuditBook = (*Store)(nil)

// AuditRow implements [comparator.AuditBook].
func (s *Store) AuditRow(ctx context.Context, pod backends.Pod) (comparator.AuditRow, error) {
	row := comparator.AuditRow{Pod: pod}
	var until, begun, lastBegun, lastEnded, failed, now int64
	var state, last []byte
	err := s.db.QueryRowContext(ctx, tag+auditRead.times(1), string(pod)).
		Scan(&row.Holder, &row.N, &until, &begun, &lastBegun, &lastEnded, &row.Fails, &failed, &row.Failure, &state, &last, &now)
	if errors.Is(err, sql.ErrNoRows) {
		return row, nil
	}
	if err != nil {
		return row, fmt.Errorf("reading how far the audit of pod %q is: %w", pod, err)
	}
	age := func(at int64) time.Duration {
		if at == 0 {
			return 0
		}
		return time.Duration(now-at) * time.Microsecond
	}
	row.Lease = time.Duration(max(0, until-now)) * time.Microsecond
	row.Begun, row.LastBegun, row.LastEnded, row.Failed = age(begun), age(lastBegun), age(lastEnded), age(failed)
	if len(state) > 0 {
		row.State = &comparator.AuditState{}
		if err := json.Unmarshal(state, row.State); err != nil {
			row.State = nil // of another version, or damaged: an audit that begins anew is all that it costs
		}
	}
	if len(last) > 0 {
		row.Last = &comparator.AuditResult{}
		if err := json.Unmarshal(last, row.Last); err != nil {
			return row, fmt.Errorf("%w: the last audit of pod %q: %w", backends.ErrDamaged, pod, err)
		}
	}
	return row, nil
}

// TakeAudit implements [comparator.AuditBook].
func (s *Store) TakeAudit(ctx context.Context, pod backends.Pod, holder string, term time.Duration) (comparator.AuditRow, bool, error) {
	if _, err := s.db.ExecContext(ctx, tag+auditMake.times(1), string(pod)); err != nil {
		return comparator.AuditRow{}, false, fmt.Errorf("taking the audit of pod %q: %w", pod, err)
	}
	n, err := s.changed(ctx, tag+auditTake.times(1), holder, term.Microseconds(), string(pod))
	if err != nil {
		return comparator.AuditRow{}, false, fmt.Errorf("taking the audit of pod %q: %w", pod, err)
	}
	row, err := s.AuditRow(ctx, pod)
	if err != nil {
		return row, false, err
	}
	return row, n == 1 && row.Holder == holder, nil
}

// SaveAudit implements [comparator.AuditBook].
func (s *Store) SaveAudit(ctx context.Context, pod backends.Pod, n uint64, c comparator.AuditSave) error {
	c, err := c.Checked()
	if err != nil {
		return err
	}
	text, args, err := saveText(&c)
	if err != nil {
		return err
	}
	term := c.Term.Microseconds()
	changed, err := s.changed(ctx, tag+text.times(1), append(args, term, term, string(pod), n)...)
	switch {
	case err != nil:
		return fmt.Errorf("saving how far the audit of pod %q is: %w", pod, err)
	case changed == 0:
		return comparator.ErrAuditTaken
	}
	return nil
}

// saveText is the statement of a step, and its own arguments.
func saveText(c *comparator.AuditSave) (statement, []any, error) {
	var body any
	switch c.Step {
	case comparator.AuditGoesOn:
		body = c.State
	case comparator.AuditEnds:
		body = c.Last
	case comparator.AuditFails:
		return auditFail, []any{c.Failure}, nil
	case comparator.AuditBegins:
		return auditBegin, nil, nil
	case comparator.AuditDrops:
		return auditDrop, nil, nil
	case comparator.AuditKeeps:
		return auditKeep, nil, nil
	}
	b, err := json.Marshal(body)
	if err != nil {
		return statement{}, nil, fmt.Errorf("an audit's state: %w", err)
	}
	if c.Step == comparator.AuditEnds {
		return auditEnd, []any{b}, nil
	}
	return auditGoOn, []any{b}, nil
}

// changed is how many rows a statement has changed.
func (s *Store) changed(ctx context.Context, text string, args ...any) (int64, error) {
	res, err := s.db.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
