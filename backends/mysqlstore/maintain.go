package mysqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// maintainKeys bounds the pools that one round looks at.
	maintainKeys = 128
	// purgeBatch bounds the rows that one round removes of each kind: a short transaction.
	purgeBatch = 500
)

var (
	statementUnitsLow = named("units_low")
	textLevelsWanting = named("levels_wanting").one()
	textHoldsPurge    = named("holds_purge").one()
	textOpsOld        = named("ops_old").one()
	textOpsPurge      = named("ops_purge").one()
)

// upkeep is where the paged scan of pools is.
type upkeep struct {
	mu   sync.Mutex
	last backends.Key
}

// Maintain does one bounded round: refills, debts, purges.
func (s *Store) Maintain(ctx context.Context, t backends.Token) (more bool, err error) {
	j := job{op: "maintain", tok: t, role: asEither}
	var fence backends.Fence
	var now backends.Instant
	if err := s.read(ctx, j.op, "", func(b *batch) { s.askFence(b, &fence, &now) }); err != nil {
		return false, err
	}
	if !j.role.admitted(fence, t) {
		return false, s.fenced(fence, t)
	}
	keys, err := s.nextPage(ctx)
	if err != nil {
		return false, err
	}
	if err := s.topUp(ctx, j, keys); err != nil {
		return false, err
	}
	oldest := now.Add(-s.cfg.Retain)
	moreHolds, err := s.purgeHolds(ctx, j, oldest)
	if err != nil {
		return false, err
	}
	moreOps, err := s.purgeOps(ctx, j, oldest)
	return moreHolds || moreOps, err
}

// topUp replenishes those of keys whose pools have next to nothing, one at a time. The pools that this store
// takes from are the filler's, which knows them without a look.
func (s *Store) topUp(ctx context.Context, j job, keys []backends.Key) error {
	low, err := s.toRefill(ctx, keys)
	if err != nil {
		return err
	}
	for _, k := range low {
		if err := s.replenish(ctx, j, []backends.Key{k}, s.cfg.firstFor, s.cfg.startFor); err != nil && !errors.Is(err, backends.ErrBusy) {
			return err // a busy level has somebody else at work, and comes again
		}
	}
	return nil
}

// toRefill lists those of keys whose pools have not even what first buyers need though there are
// unmaterialised units, or which have debt and a pool at once.
func (s *Store) toRefill(ctx context.Context, keys []backends.Key) (low []backends.Key, err error) {
	for part := range slices.Chunk(keys, maxBranches) {
		var got []backends.Key
		err := s.read(ctx, "maintain", "", func(b *batch) {
			got = nil
			var args []any
			for i, k := range part {
				args = append(append(append(append(args, i), s.keyArgs(k)...), s.cfg.firstFor(k)), s.keyArgs(k)...)
			}
			b.ask(func(r *sql.Rows) error {
				var i int
				var st stock
				if err := r.Scan(&i, &st.unmaterialised, &st.pool); err != nil {
					return err
				}
				if st.unmaterialised > 0 && st.pool < s.cfg.firstFor(part[i]) || st.unmaterialised < 0 && st.pool > 0 {
					got = append(got, part[i])
				}
				return nil
			}, statementUnitsLow.times(len(part)), args...)
		})
		if err != nil {
			return nil, err
		}
		low = append(low, got...)
	}
	return low, nil
}

// nextPage is the next keys of a slow scan over all levels, which finds what no store remembers.
func (s *Store) nextPage(ctx context.Context) (keys []backends.Key, err error) {
	s.upkeep.mu.Lock()
	defer s.upkeep.mu.Unlock()
	for _, kr := range rangesAfter(s.upkeep.last) {
		err := s.read(ctx, "maintain", "", func(b *batch) {
			before := len(keys)
			b.ask(func(r *sql.Rows) error {
				var k backends.Key
				err := r.Scan(&k.Shop, &k.Item, &k.Location)
				keys = append(keys, k)
				return err
			}, strings.Replace(textLevelsWanting, "%s", kr.condition, 1),
				append(append([]any{s.cfg.Pod}, kr.args...), maintainKeys-before)...)
		})
		if err != nil {
			return nil, err
		}
		if len(keys) >= maintainKeys {
			s.upkeep.last = keys[len(keys)-1]
			return keys, nil
		}
	}
	s.upkeep.last = backends.Key{}
	return keys, nil
}

// replenish brings keys in order, which are sorted: debt paid from the pool, and a pool with fewer rows than below
// says filled up to upTo.
func (s *Store) replenish(ctx context.Context, j job, keys []backends.Key, below, upTo func(backends.Key) int64) error {
	return s.again(ctx, func() error {
		err := s.write(ctx, j, func(x *txn) error {
			if err := x.lock(ctx, keys, nil); err != nil {
				return err
			}
			ch := newChanges()
			for _, k := range keys {
				if l := x.levels[k]; l != nil && l.unmaterialised < 0 {
					if err := x.payDebt(ctx, l, ch); err != nil {
						return err
					}
				}
			}
			if err := x.refill(ctx, keys, below, upTo, ch); err != nil {
				return err
			}
			b := x.batch()
			x.writeUnits(b, ch)
			x.writeLevels(b)
			x.proof = &proof{query: "SELECT 0", committed: none} // done again, it finds nothing to do
			return x.finish(ctx, b)
		})
		if errors.Is(err, errNothing) {
			return nil
		}
		return err
	})
}

// payDebt moves rows of the pool into a debt. There is no debt while there are rows unless a hand
// that is not ours put them there.
func (x *txn) payDebt(ctx context.Context, l *level, ch *changes) error {
	debt := -l.unmaterialised
	got := map[backends.Key][]uint64{}
	b := x.batch()
	x.askWait(b, []want{{Key: l.key, Quantity: debt}}, got)
	if err := x.send(ctx, b); err != nil {
		return err
	}
	ch.gone[l.key] = got[l.key]
	n := int64(len(got[l.key]))
	l.unmaterialised += n
	l.pooled = max(0, l.pooled-n)
	l.dirty = true
	return nil
}

// purgeHolds removes ended holds that nothing changed since oldest, by this server's clock.
func (s *Store) purgeHolds(ctx context.Context, j job, oldest backends.Instant) (more bool, err error) {
	for _, state := range []backends.State{backends.Claimed, backends.Released, backends.Expired} {
		ids, err := s.listDue(ctx, j.op, state, oldest-1, purgeBatch)
		if err != nil {
			return false, err
		}
		more = more || len(ids) == purgeBatch
		if len(ids) == 0 {
			continue
		}
		slices.Sort(ids)
		err = s.purge(ctx, j, func(b *batch) {
			for _, id := range ids {
				b.do(textHoldsPurge, s.cfg.Pod, id, oldest)
			}
		})
		if err != nil {
			return false, err
		}
	}
	return more, nil
}

func (s *Store) purgeOps(ctx context.Context, j job, oldest backends.Instant) (more bool, err error) {
	var ids []backends.OpID
	err = s.read(ctx, j.op, "", func(b *batch) {
		ids = nil
		b.ask(func(r *sql.Rows) error {
			var id backends.OpID
			err := r.Scan(&id)
			ids = append(ids, id)
			return err
		}, textOpsOld, s.cfg.Pod, oldest, purgeBatch)
	})
	if err != nil || len(ids) == 0 {
		return false, err
	}
	slices.Sort(ids)
	return len(ids) == purgeBatch, s.purge(ctx, j, func(b *batch) {
		for _, id := range ids {
			b.do(textOpsPurge, s.cfg.Pod, id)
		}
	})
}

// purge deletes under the fence; done again, it deletes nothing.
func (s *Store) purge(ctx context.Context, j job, deletes func(*batch)) error {
	return s.again(ctx, func() error {
		return s.write(ctx, j, func(x *txn) error {
			x.proof = &proof{query: "SELECT 0", committed: none}
			b := x.batch()
			deletes(b)
			return x.finish(ctx, b)
		})
	})
}
