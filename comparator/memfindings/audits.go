package memfindings

import (
	"context"
	"encoding/json"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// keptAudit is a row. What is in it is kept as text, so that nobody shares it.
type keptAudit struct {
	holder                                     string
	n                                          uint64
	until, begun, lastBegun, lastEnded, failed time.Time
	state, last                                []byte
	fails                                      int
	failure                                    string
}

var _ comparator.AuditBook = (*Store)(nil)

// AuditRow implements [comparator.AuditBook].
func (s *Store) AuditRow(ctx context.Context, pod backends.Pod) (comparator.AuditRow, error) {
	if err := s.lock(ctx); err != nil {
		return comparator.AuditRow{}, err
	}
	defer s.mu.Unlock()
	return s.auditRow(pod)
}

// auditRow is AuditRow under the lock.
func (s *Store) auditRow(pod backends.Pod) (comparator.AuditRow, error) {
	row := comparator.AuditRow{Pod: pod}
	k := s.audits[pod]
	if k == nil {
		return row, nil
	}
	now := time.Now()
	age := func(t time.Time) time.Duration {
		if t.IsZero() {
			return 0
		}
		return now.Sub(t)
	}
	row.Holder, row.N, row.Lease = k.holder, k.n, max(0, k.until.Sub(now))
	row.Begun, row.LastBegun, row.LastEnded, row.Failed = age(k.begun), age(k.lastBegun), age(k.lastEnded), age(k.failed)
	row.Fails, row.Failure = k.fails, k.failure
	if k.state != nil {
		row.State = &comparator.AuditState{}
		if err := json.Unmarshal(k.state, row.State); err != nil {
			return row, err
		}
	}
	if k.last != nil {
		row.Last = &comparator.AuditResult{}
		if err := json.Unmarshal(k.last, row.Last); err != nil {
			return row, err
		}
	}
	return row, nil
}

// TakeAudit implements [comparator.AuditBook].
func (s *Store) TakeAudit(ctx context.Context, pod backends.Pod, holder string, term time.Duration) (comparator.AuditRow, bool, error) {
	if err := s.lock(ctx); err != nil {
		return comparator.AuditRow{}, false, err
	}
	defer s.mu.Unlock()
	k := s.audits[pod]
	if k == nil {
		if len(s.audits) >= MaxRows {
			return comparator.AuditRow{}, false, ErrFull
		}
		k = &keptAudit{}
		s.audits[pod] = k
	}
	taken := !time.Now().Before(k.until)
	if taken {
		k.holder, k.until = holder, time.Now().Add(term)
		k.n++
	}
	row, err := s.auditRow(pod)
	return row, taken, err
}

// SaveAudit implements [comparator.AuditBook].
func (s *Store) SaveAudit(ctx context.Context, pod backends.Pod, n uint64, c comparator.AuditSave) error {
	c, err := c.Checked()
	if err != nil {
		return err
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	k := s.audits[pod]
	if k == nil || k.n != n {
		return comparator.ErrAuditTaken
	}
	now := time.Now()
	switch c.Step {
	case comparator.AuditKeeps:
	case comparator.AuditBegins:
		k.state, k.begun = nil, now
	case comparator.AuditGoesOn:
		if k.state, err = json.Marshal(c.State); err != nil {
			return err
		}
	case comparator.AuditEnds:
		if k.last, err = json.Marshal(c.Last); err != nil {
			return err
		}
		k.lastBegun, k.lastEnded, k.state, k.begun, k.fails, k.failure, k.failed = k.begun, now, nil, time.Time{}, 0, "", time.Time{}
	case comparator.AuditDrops:
		k.state, k.begun = nil, time.Time{}
	case comparator.AuditFails:
		k.fails, k.failure, k.failed = k.fails+1, c.Failure, now
	}
	k.until = time.Time{}
	if c.Term > 0 {
		k.until = now.Add(c.Term)
	}
	return nil
}
