package mysqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// taking is one hold that wants free rows of the pools: a reserve, or a hold that the other store
// has granted. Free rows are taken whole or not at all.
type taking struct {
	j job
	g *grant

	rec *record // what has the id already
	d   *backends.Decision
	err error
}

func (t *taking) fail(err error) { t.d, t.err = nil, err }

func (s *Store) newTakers() *combiner[*taking] {
	return (&combiner[*taking]{
		lanes: s.cfg.Lanes, most: s.cfg.Combine, room: maxWeight,
		alike:  func(a, b *taking) bool { return a.j.tok == b.j.tok },
		name:   func(t *taking) backends.HoldID { return t.g.r.ID },
		weight: func(t *taking) int { return len(t.g.r.Lines) },
		run:    func(ctx context.Context, ts []*taking) { together(ctx, s, ts, s.take) },
		left:   leftWriting,
	}).init()
}

// fast takes free rows of the pools: two round trips, no lock but the units' own, and all of it shared
// with whoever else wants some now. It answers errTooFew where there are not enough, and errKnown
// with the record where the id is in use.
func (s *Store) fast(ctx context.Context, j job, g *grant) (*backends.Decision, error) {
	t := &taking{j: j, g: g}
	if err := s.takers.do(ctx, t); err != nil {
		return nil, err
	}
	if errors.Is(t.err, errKnown) {
		return reserveAgain(t.rec, g.r)
	}
	return t.d, t.err
}

// take grants those of ts for whom there are free rows, in one transaction.
func (s *Store) take(ctx context.Context, ts []*taking) error {
	j := jointJob(ts, func(t *taking) job { return t.j })
	ids := make([]backends.HoldID, len(ts))
	all := map[backends.Key]int64{}
	for i, t := range ts {
		t.rec, t.d, t.err = nil, nil, nil
		ids[i] = t.g.r.ID
		for _, w := range t.g.wants {
			all[w.Key] += w.Quantity
		}
	}
	wants := wantsOf(all)
	recs := map[backends.HoldID]*record{}
	rows := map[backends.Key][]uint64{}
	j.first = func(x *txn, b *batch) {
		s.askRecords(b, ids, recs)
		x.askFree(b, wants, rows)
	}
	err := s.write(ctx, j, func(x *txn) error {
		if err := x.behind(ctx, wants, rows); err != nil {
			return err
		}
		gone := map[backends.Key][]uint64{}
		var made []newHold
		for _, t := range ts {
			if t.rec = recs[t.g.r.ID]; t.rec != nil {
				t.err = errKnown
				continue
			}
			if !deal(t.g.wants, rows, gone) {
				t.err = errTooFew
				continue
			}
			h := t.g.newHold(x)
			t.d = decided(backends.OpReserve, backends.OutcomeGranted, h)
			made = append(made, newHold{is: h})
			t.d.Entry, t.d.Dropped = x.emit(backends.Entry{Op: t.d.Op, Hold: h})
		}
		return x.finishTakes(ctx, made, gone, rows)
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// finishTakes writes new holds and deletes the rows that they took.
func (x *txn) finishTakes(ctx context.Context, made []newHold, gone, left map[backends.Key][]uint64) error {
	if len(made) == 0 {
		return errNothing
	}
	b := x.batch()
	x.deleteUnits(b, gone)
	x.insertHolds(b, made)
	x.noteTaken(len(made), gone, left)
	return x.finish(ctx, b)
}

// askFree adds the locks of free unit rows: of those that this store knows to be there, by their
// keys; else, key by key, of the first that a scan from the cursor finds.
func (x *txn) askFree(b *batch, wants []want, into map[backends.Key][]uint64) {
	x.borrowed = map[backends.Key][]uint64{}
	owner := map[uint64]backends.Key{}
	var scans []want
	for _, w := range wants {
		ids := x.s.hints.borrow(w.Key, w.Quantity)
		if slices.ContainsFunc(ids, func(id uint64) bool { _, twin := owner[id]; return twin }) {
			x.s.hints.giveBack(w.Key, ids) // a store with our number made the same one, for another key
			ids = nil
		}
		if ids == nil {
			scans = append(scans, w)
			continue
		}
		x.borrowed[w.Key] = ids
		for _, id := range ids {
			owner[id] = w.Key
		}
	}
	x.undo = append(x.undo, func() {
		for k, ids := range x.borrowed {
			x.s.hints.giveBack(k, ids)
		}
	})
	x.s.eachPoints(x.borrowed, func(text string, args []any, _ int64) {
		b.ask(func(r *sql.Rows) error {
			var id uint64
			err := r.Scan(&id)
			k := owner[id]
			into[k] = append(into[k], id)
			return err
		}, text, args...)
	}, textUnitPoint, statementUnitsPoints)
	x.askSkip(b, scans, x.s.hints.cursor, into)
}

// noteTaken remembers what became of the rows: those that go, and those left over.
func (x *txn) noteTaken(holds int, gone, left map[backends.Key][]uint64) {
	s := x.s
	x.after = append(x.after, func() {
		s.count.fast.Add(int64(holds))
		for k, ids := range gone {
			if _, ours := x.borrowed[k]; ours {
				s.hints.tookBorrowed(k, slices.Max(ids))
			} else {
				s.hints.took(k, slices.Max(ids))
			}
			s.fill.took(x.tok, k, int64(len(ids)))
		}
		for k := range x.borrowed {
			if ids := left[k]; len(ids) > 0 {
				s.hints.giveBack(k, ids)
			}
		}
	})
}

// behind looks from the heads of the pools where too few rows were found from the cursors on, or
// among those that were taken for free.
func (x *txn) behind(ctx context.Context, wants []want, rows map[backends.Key][]uint64) error {
	var short []want
	for _, w := range wants {
		_, borrowed := x.borrowed[w.Key]
		if int64(len(rows[w.Key])) < w.Quantity && (borrowed || x.s.hints.cursor(w.Key) > 0) {
			short = append(short, w)
		}
	}
	if len(short) == 0 {
		return nil
	}
	b := x.batch()
	found := map[backends.Key][]uint64{}
	x.askSkip(b, short, func(backends.Key) uint64 { return 0 }, found)
	if err := x.send(ctx, b); err != nil {
		return err
	}
	for _, w := range short {
		x.s.hints.rewind(w.Key)
		delete(x.borrowed, w.Key)
		rows[w.Key] = found[w.Key] // with those found before: a session passes over others' locks, not its own
	}
	return nil
}

// deal moves the rows that are wanted from those that are free to those that go, all or none.
func deal(wants []want, free, gone map[backends.Key][]uint64) bool {
	for _, w := range wants {
		if int64(len(free[w.Key])) < w.Quantity {
			return false
		}
	}
	for _, w := range wants {
		ids := free[w.Key]
		gone[w.Key] = append(gone[w.Key], ids[:w.Quantity]...)
		free[w.Key] = ids[w.Quantity:]
	}
	return true
}

// wantsOf lists sums by key, in key order.
func wantsOf(sums map[backends.Key]int64) []want {
	out := make([]want, 0, len(sums))
	for k, n := range sums {
		out = append(out, want{Key: k, Quantity: n})
	}
	slices.SortFunc(out, func(a, b want) int { return a.Key.Compare(b.Key) })
	return out
}

// jointJob is the job of a batch: that of its first member, with the callers of all.
func jointJob[A any](ms []A, of func(A) job) job {
	j := of(ms[0])
	if len(ms) == 1 {
		return j
	}
	j.callers = make([]string, len(ms))
	for i, m := range ms {
		j.callers[i] = of(m).caller
	}
	j.caller = ""
	return j
}

// newHold is a hold that has no row yet.
type newHold struct {
	is  *backends.Hold
	own *backends.OwnDecision
}

// insertHolds adds the rows of new holds, in the order of their ids.
func (x *txn) insertHolds(b *batch, hs []newHold) {
	slices.SortFunc(hs, func(a, c newHold) int { return cmp.Compare(a.is.ID, c.is.ID) })
	for part := range slices.Chunk(hs, maxBranches) {
		args := make([]any, 0, len(part)*holdColumns)
		for _, h := range part {
			args = x.holdArgs(args, h.is, h.own)
		}
		b.do(statementHoldInsert.times(len(part)), args...)
	}
	for _, h := range hs {
		x.prove(h.is.ID)
	}
}

// leftWriting: what was under way may have been committed.
func leftWriting(cause error) error { return errors.Join(backends.ErrAmbiguous, cause) }
