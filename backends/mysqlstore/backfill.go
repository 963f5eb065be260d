package mysqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strconv"

	"github.com/crossfade-proxy/crossfade/backends"
)

// reemitBatch bounds what one transaction re-emits: the holds are locked meanwhile.
const reemitBatch = maxBranches

var textHoldEpoch = named("hold_epoch").one()

// Reemit writes the present state of each hold, or a tombstone, to the outbox.
func (s *Store) Reemit(ctx context.Context, t backends.Token, ids []backends.HoldID) (written int, err error) {
	j := job{op: backends.OpReemit.String(), tok: t, role: asTruth}
	ids = slices.Clone(ids)
	slices.Sort(ids)
	for part := range slices.Chunk(slices.Compact(ids), reemitBatch) {
		n := 0
		err := s.again(ctx, func() error {
			return s.write(ctx, j, func(x *txn) (err error) {
				n, err = x.reemit(ctx, part)
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

func (x *txn) reemit(ctx context.Context, ids []backends.HoldID) (written int, err error) {
	var args []any
	for _, id := range ids {
		args = append(args, x.s.cfg.Pod, id)
	}
	found := map[backends.HoldID]*backends.Hold{}
	b := x.batch()
	b.ask(func(r *sql.Rows) error {
		rec, err := scanRecord(r)
		if err == nil {
			found[rec.hold.ID] = rec.hold
		}
		return err
	}, statementHoldLock.times(len(ids)), args...)
	if err := x.send(ctx, b); err != nil {
		return 0, err
	}
	b = x.batch()
	for _, id := range ids {
		h := found[id]
		if h == nil {
			h = &backends.Hold{ID: id, State: backends.Released, EndedAt: x.now}
		}
		if h.Version.Epoch < x.tok.Epoch {
			h.Version.Epoch = x.tok.Epoch
			b.do(textHoldEpoch, h.Version.Epoch, x.s.cfg.Pod, id)
		}
		if e, _ := x.emit(backends.Entry{Op: backends.OpReemit, Hold: h}); e != nil {
			written++
		}
	}
	return written, x.finish(ctx, b)
}

// ReemitLevels writes taken sums and what is owed to the outbox. Keys without a level have nothing
// to say.
func (s *Store) ReemitLevels(ctx context.Context, t backends.Token, keys []backends.Key) (written int, err error) {
	j := job{op: backends.OpReemit.String(), tok: t, role: asTruth}
	keys = slices.Clone(keys)
	slices.SortFunc(keys, backends.Key.Compare)
	for part := range slices.Chunk(slices.Compact(keys), reemitBatch) {
		n := 0
		err := s.again(ctx, func() error {
			return s.write(ctx, j, func(x *txn) (err error) {
				n, err = x.reemitLevels(ctx, part)
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

func (x *txn) reemitLevels(ctx context.Context, keys []backends.Key) (written int, err error) {
	if err := x.lock(ctx, keys, nil); err != nil {
		return 0, err
	}
	b := x.batch()
	for _, k := range keys {
		l := x.levels[k]
		if l == nil {
			continue
		}
		l.version.Epoch, l.dirty = max(l.version.Epoch, x.tok.Epoch), true
		ch := backends.LevelChange{Key: k, Taken: l.taken, Version: l.version}
		if l.owed != 0 {
			ch.OpID = backends.OpID("owed:mysql:" + strconv.FormatUint(x.s.ids.one(), 10))
			ch.OnHandDelta, l.owed = l.owed, 0
		}
		if e, _ := x.emit(backends.Entry{Op: backends.OpReemit, Level: &ch}); e != nil {
			written++
		}
	}
	x.writeLevels(b)
	return written, x.finish(ctx, b)
}

// SettleOp writes what became of an operation here; one that is not known becomes void.
func (s *Store) SettleOp(ctx context.Context, t backends.Token, k backends.Key, id backends.OpID) (bool, error) {
	j := job{op: "settle", tok: t, role: asTruth}
	o, err := s.operate(ctx, j, id, k, func(x *txn, o *operation) error {
		l := x.levels[k]
		l.version.Epoch, l.dirty = max(l.version.Epoch, t.Epoch), true
		b := x.batch()
		if !o.known {
			o.void = true
			x.record(b, o, o.result)
		}
		x.tellLevel(backends.OpReemit, l, true, id, o.result)
		x.writeLevels(b)
		return x.finish(ctx, b)
	})
	return o.void, err
}
