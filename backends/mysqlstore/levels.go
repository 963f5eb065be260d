package mysqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"

	"github.com/crossfade-proxy/crossfade/backends"
)

// maxBranches bounds the branches of one UNION ALL, and the rows of one list: enough for nearly
// every cart, small enough that the optimizer's work for one statement stays in proportion.
const maxBranches = 64

var (
	statementLevelsLock = named("levels_lock")
	statementLevelsMake = named("levels_make")
	statementLevelsDebt = named("levels_debt")
	textLevelUpdate     = named("level_update").one()
	statementStockView  = named("stock_view")
)

// level is a level row that this transaction has locked.
type level struct {
	key            backends.Key
	unmaterialised int64
	pooled         int64 // an upper bound of the pool's rows
	adopted        bool
	taken          int64
	version        backends.Version
	owed           int64
	dirty          bool
}

// keyArgs are the arguments of a condition on a key.
func (s *Store) keyArgs(k backends.Key) []any {
	return []any{s.cfg.Pod, k.Shop, k.Item, k.Location}
}

func (s *Store) ledgerArgs(k backends.Key) []any {
	if !s.ledger.withPod {
		return []any{k.Shop, k.Item, k.Location}
	}
	return s.keyArgs(k)
}

// askLevels adds the locks of level rows; what is there will be in x.levels. Keys are sorted.
func (x *txn) askLevels(b *batch, keys []backends.Key) {
	for part := range slices.Chunk(keys, maxBranches) {
		var args []any
		for i, k := range part {
			args = append(append(args, i), x.s.keyArgs(k)...)
		}
		b.ask(func(r *sql.Rows) error {
			var i int
			l := &level{}
			err := r.Scan(&i, &l.unmaterialised, &l.pooled, &l.adopted, &l.taken, &l.version.Epoch, &l.version.N, &l.owed)
			if err != nil {
				return err
			}
			l.key = part[i]
			x.levels[l.key] = l
			return nil
		}, statementLevelsLock.times(len(part)), args...)
	}
}

// lock locks the level rows of keys, which are sorted and hold every key that the transaction may
// need. Missing ones are made where create says so (nil: nowhere): statements of a packet run one
// after the other, so making some and locking others keeps to the order of keys.
func (x *txn) lock(ctx context.Context, keys []backends.Key, create func(backends.Key) bool) error {
	if create == nil {
		create = func(backends.Key) bool { return false }
	}
	b := x.batch()
	for len(keys) > 0 {
		makes := create(keys[0])
		n := 1
		for n < len(keys) && n < maxBranches && create(keys[n]) == makes {
			n++
		}
		if makes {
			var args []any
			for _, k := range keys[:n] {
				args = append(args, x.s.keyArgs(k)...)
			}
			b.do(statementLevelsMake.times(n), args...)
		}
		x.askLevels(b, keys[:n])
		keys = keys[n:]
	}
	if err := x.send(ctx, b); err != nil {
		return err
	}
	return x.adopt(ctx)
}

// adopt counts in what the ledger has on hand at keys whose level row is new.
func (x *txn) adopt(ctx context.Context) error {
	b := x.batch()
	for _, k := range sortedKeys(x.levels) {
		l := x.levels[k]
		if l.adopted {
			continue
		}
		b.do(x.s.ledger.makeRow, x.s.ledgerArgs(k)...)
		b.ask(func(r *sql.Rows) error {
			var onHand int64
			l.adopted, l.dirty = true, true
			err := r.Scan(&onHand)
			l.unmaterialised += onHand
			return err
		}, x.s.ledger.lock, x.s.ledgerArgs(k)...)
	}
	return x.send(ctx, b)
}

// haveLevels asks to begin again where a level that is about to move is not there.
func (x *txn) haveLevels(ms []move) error {
	for _, m := range ms {
		if (m.sellable != 0 || m.owed != 0) && x.levels[m.key] == nil {
			return again(errNoLevel)
		}
	}
	return nil
}

// moveOnHand adds the changes of the ledger. The batch has to be sent before any unit row is
// locked.
func (x *txn) moveOnHand(b *batch, ms []move) {
	for _, m := range ms {
		if m.onHand != 0 {
			gone := fmt.Errorf("%w: the ledger has no row for %s, where there is a level; restore it", backends.ErrDamaged, m.key)
			b.must(1, gone, x.s.ledger.add, append([]any{m.onHand}, x.s.ledgerArgs(m.key)...)...)
		}
	}
}

// writeLevels adds the new values of the levels that changed.
func (x *txn) writeLevels(b *batch) {
	ls := make([]*level, 0, len(x.levels))
	for _, l := range x.levels {
		if l.dirty {
			ls = append(ls, l)
		}
	}
	slices.SortFunc(ls, func(a, c *level) int { return a.key.Compare(c.key) })
	for _, l := range ls {
		b.do(textLevelUpdate, append([]any{l.unmaterialised, l.pooled, l.taken, l.version.Epoch, l.version.N, l.owed}, x.s.keyArgs(l.key)...)...)
		l.dirty = false
	}
}

// stock is what a view saw at a key.
type stock struct{ unmaterialised, pool int64 }

func (s stock) sellable() int64 { return s.unmaterialised + s.pool }

// askStock adds plain reads of the stock at keys, in as many statements as there are chunks: one
// instant each.
func (s *Store) askStock(b *batch, chunks [][]backends.Key, into map[backends.Key]stock) {
	for _, part := range chunks {
		var args []any
		for i, k := range part {
			args = append(append(append(args, i), s.keyArgs(k)...), s.keyArgs(k)...)
		}
		b.ask(func(r *sql.Rows) error {
			var i int
			var st stock
			if err := r.Scan(&i, &st.unmaterialised, &st.pool); err != nil {
				return err
			}
			into[part[i]] = st
			return nil
		}, statementStockView.times(len(part)), args...)
	}
}

// chunkLines splits the keys of a cart so that all locations of a line are in one chunk: whether a
// line can be served is read at one instant.
func chunkLines(shop backends.Shop, lines []backends.Line) [][]backends.Key {
	var out [][]backends.Key
	var part []backends.Key
	for _, l := range lines {
		if len(part)+len(l.Locations) > maxBranches {
			out, part = append(out, part), nil
		}
		for _, loc := range l.Locations {
			part = append(part, backends.Key{Shop: shop, Item: l.Item, Location: loc})
		}
	}
	if len(part) > 0 {
		out = append(out, part)
	}
	return out
}

// askDebts adds a plain read of the debts at keys.
func (s *Store) askDebts(b *batch, keys []backends.Key, into *[]backends.Units) {
	*into = nil
	for part := range slices.Chunk(keys, maxBranches) {
		var args []any
		for i, k := range part {
			args = append(append(args, i), s.keyArgs(k)...)
		}
		b.ask(func(r *sql.Rows) error {
			var i int
			var n int64
			if err := r.Scan(&i, &n); err != nil {
				return err
			}
			*into = append(*into, backends.Units{Key: part[i], Quantity: -n})
			return nil
		}, statementLevelsDebt.times(len(part)), args...)
	}
}

// checkBound keeps a quantity inside what every store can count exactly.
func checkBound(k backends.Key, n int64) error {
	if n >= -backends.MaxOnHand && n <= backends.MaxOnHand {
		return nil
	}
	return &backends.FieldError{
		Field: "units on hand of " + k.String(), Value: strconv.FormatInt(n, 10),
		Bound: fmt.Sprintf("up to %d", int64(backends.MaxOnHand)), Next: "give the number of units",
	}
}
