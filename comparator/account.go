package comparator

import (
	"fmt"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// account is the coverage of this run, in memory: totals, and the rows that are not saved yet. Its
// methods take a short lock and no more: they are called on checkout's path.
type account struct {
	pod        backends.Pod
	proxy, run string

	mu  sync.Mutex
	rev uint64
	// minute never runs backwards, even if the clock does: a minute that was saved and forgotten
	// must not begin again under the same key.
	minute int64
	total  Coverage
	rows   map[rowKey]*acctRow
	// cur saves the search for the row of the present minute.
	curKey rowKey
	cur    *acctRow
}

type rowKey struct {
	epoch  uint64
	minute int64
}

type acctRow struct {
	CoverageRow
	kept CoverageRow // as the store or the spool has it; Rev 0: neither has
}

func newAccount(pod backends.Pod, proxy, run string) *account {
	return &account{pod: pod, proxy: proxy, run: run, total: Coverage{Pod: pod}, rows: map[rowKey]*acctRow{}}
}

// row finds the row of now; the lock is held.
func (a *account) row(epoch uint64, now time.Time) *acctRow {
	a.minute = max(a.minute, now.Unix()/60)
	k := rowKey{epoch, a.minute}
	if a.cur != nil && a.curKey == k {
		return a.cur
	}
	r := a.rows[k]
	if r == nil {
		r = &acctRow{CoverageRow: CoverageRow{Pod: a.pod, Proxy: a.proxy, Run: a.run, Epoch: epoch, Minute: k.minute}}
		a.rows[k] = r
	}
	a.curKey, a.cur = k, r
	return r
}

// begin enters n decisions into a column.
func (a *account) begin(epoch uint64, into Column, n int64, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.row(epoch, now)
	a.rev++
	r.Rev = a.rev
	r.Decisions += n
	a.total.Decisions += n
	*r.at(into) += n
	*a.total.at(into) += n
}

// move moves n decisions between columns.
func (a *account) move(epoch uint64, from, to Column, n int64, now time.Time) {
	if from == to {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.row(epoch, now)
	a.rev++
	r.Rev = a.rev
	*r.at(from) -= n
	*r.at(to) += n
	*a.total.at(from) -= n
	*a.total.at(to) += n
}

// snapshot is the account of this run. Decisions that were never begun here (begun by another proxy
// and mirrored by this one) are counted as decisions; see FoldCoverage.
func (a *account) snapshot() Coverage {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.total
}

// check verifies the sums of the totals and of every unsaved row.
func (a *account) check() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.total.Check(); err != nil {
		return fmt.Errorf("this run's totals: %w", err)
	}
	for _, r := range a.rows {
		if err := r.Check(); err != nil {
			return err
		}
	}
	return nil
}

// unsaved copies the rows that have changed since they were saved.
func (a *account) unsaved() []CoverageRow {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []CoverageRow
	for _, r := range a.rows {
		if r.Rev > r.kept.Rev {
			out = append(out, r.CoverageRow)
		}
	}
	return out
}

// savedRows notes what a store or spool has taken, and forgets minutes that are over.
func (a *account) savedRows(rows []CoverageRow) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range rows {
		if r := a.rows[rowKey{rows[i].Epoch, rows[i].Minute}]; r != nil && rows[i].Rev > r.kept.Rev {
			r.kept = rows[i]
		}
	}
	for k, r := range a.rows {
		if k.minute < a.minute && r.kept.Rev == r.Rev {
			a.forget(k)
		}
	}
}

func (a *account) forget(k rowKey) {
	if a.cur == a.rows[k] {
		a.cur = nil
	}
	delete(a.rows, k)
}

// bound gives up the oldest minutes when too many could not be saved: what was decided in them is
// then counted as lost.
func (a *account) bound(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for range len(a.rows) - maxDirtyRows {
		a.giveUpOldest(now)
	}
}

func (a *account) giveUpOldest(now time.Time) {
	var oldest *rowKey
	for k := range a.rows {
		if oldest == nil || k.minute < oldest.minute || k.minute == oldest.minute && k.epoch < oldest.epoch {
			oldest = &k
		}
	}
	old := a.rows[*oldest]
	a.forget(*oldest)
	// What is still pending or settling will move on; the rest has no place to be kept any more.
	decisions, pending, settling := old.Decisions-old.kept.Decisions, old.Pending-old.kept.Pending, old.Settling-old.kept.Settling
	r := a.row(oldest.epoch, now)
	a.rev++
	r.Rev = a.rev
	r.Decisions += decisions
	r.Pending += pending
	r.Settling += settling
	r.Lost += decisions - pending - settling
}
