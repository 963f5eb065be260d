package mysqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// RestateHolds writes present states under versions above the other store's.
func (s *Store) RestateHolds(ctx context.Context, t backends.Token, hs []backends.HoldAbove) (written int, err error) {
	for _, h := range hs {
		if err := backends.CheckAbove("hold "+string(h.ID), h.Above); err != nil {
			return 0, err
		}
	}
	hs = slices.Clone(hs)
	slices.SortFunc(hs, func(a, b backends.HoldAbove) int { return cmp.Compare(a.ID, b.ID) })
	hs = slices.CompactFunc(hs, func(a, b backends.HoldAbove) bool { return a.ID == b.ID })
	j := job{op: "restate", tok: t, role: asTruth}
	if len(hs) == 0 {
		return 0, s.Admitted(ctx, t, false)
	}
	for part := range slices.Chunk(hs, reemitBatch) {
		n := 0
		err := s.again(ctx, func() error {
			return s.write(ctx, j, func(x *txn) (err error) {
				n, err = x.restateHolds(ctx, part)
				return err
			})
		})
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

func (x *txn) restateHolds(ctx context.Context, hs []backends.HoldAbove) (written int, err error) {
	var args []any
	for _, h := range hs {
		args = append(args, x.s.cfg.Pod, h.ID)
	}
	found := map[backends.HoldID]*record{}
	b := x.batch()
	b.ask(func(r *sql.Rows) error {
		rec, err := scanRecord(r)
		if err == nil {
			found[rec.hold.ID] = rec
		}
		return err
	}, statementHoldLock.times(len(hs)), args...)
	if err := x.send(ctx, b); err != nil {
		return 0, err
	}
	b = x.batch()
	for _, a := range hs {
		if e, _ := x.emit(backends.Entry{Op: backends.OpReemit, Hold: x.restated(b, found[a.ID], a)}); e != nil {
			written++
		}
	}
	return written, x.finish(ctx, b)
}

// restated is the present state of a hold under its new version, which it adds to what is written.
func (x *txn) restated(b *batch, rec *record, a backends.HoldAbove) *backends.Hold {
	if rec == nil {
		h := &backends.Hold{ID: a.ID, State: backends.Released, Version: backends.Version{Epoch: x.tok.Epoch}, EndedAt: x.now}
		if !h.Version.After(a.Above) {
			h.Version = h.Version.Over(a.Above, x.tok.Epoch)
			x.store(b, nil, h, nil)
		}
		return h
	}
	h := rec.hold.Clone()
	h.Version = h.Version.Over(a.Above, x.tok.Epoch)
	x.store(b, rec, h, rec.own)
	return h
}

// RestateTaken writes taken sums under versions above the other store's.
func (s *Store) RestateTaken(ctx context.Context, t backends.Token, ks []backends.LevelAbove) (written int, err error) {
	for _, k := range ks {
		if err := backends.CheckAbove("what is taken of "+k.Key.String(), k.Above); err != nil {
			return 0, err
		}
	}
	ks = slices.Clone(ks)
	slices.SortFunc(ks, func(a, b backends.LevelAbove) int { return a.Key.Compare(b.Key) })
	ks = slices.CompactFunc(ks, func(a, b backends.LevelAbove) bool { return a.Key == b.Key })
	j := job{op: "restate", tok: t, role: asTruth}
	if len(ks) == 0 {
		return 0, s.Admitted(ctx, t, false)
	}
	for part := range slices.Chunk(ks, reemitBatch) {
		n := 0
		err := s.again(ctx, func() error {
			return s.write(ctx, j, func(x *txn) (err error) {
				n, err = x.restateTaken(ctx, part)
				return err
			})
		})
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

func (x *txn) restateTaken(ctx context.Context, ks []backends.LevelAbove) (written int, err error) {
	keys := make([]backends.Key, len(ks))
	for i, k := range ks {
		keys[i] = k.Key
	}
	if err := x.lock(ctx, keys, nil); err != nil {
		return 0, err
	}
	b := x.batch()
	for _, k := range ks {
		l := x.levels[k.Key]
		if l == nil {
			continue
		}
		l.version, l.dirty = l.version.Over(k.Above, x.tok.Epoch), true
		ch := backends.LevelChange{Key: k.Key, Taken: l.taken, Version: l.version}
		if e, _ := x.emit(backends.Entry{Op: backends.OpReemit, Level: &ch}); e != nil {
			written++
		}
	}
	x.writeLevels(b)
	return written, x.finish(ctx, b)
}

// Correct moves a level of a shadow, once for each operation id.
func (s *Store) Correct(ctx context.Context, t backends.Token, asOf backends.Instant, c *backends.Correction) (done bool, err error) {
	if err := c.Check(); err != nil {
		return false, err
	}
	j := job{op: "correct", tok: t, role: asMirror}
	_, err = s.operate(ctx, j, c.OpID, c.Key, func(x *txn, o *operation) error {
		done = false
		if err := s.ageOf(asOf, x.now); err != nil {
			return err
		}
		if o.known {
			return errNothing
		}
		done = true
		return x.moveLevel(ctx, levelMove{op: o, onHand: c.OnHand, sellable: c.Sellable - c.OnHand, note: &result{delta: c.OnHand}})
	})
	return done && err == nil, err
}
