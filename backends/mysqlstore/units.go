package mysqlstore

import (
	"context"
	"database/sql"
	"math"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// maxPoints bounds the rows that one statement names: about 15 kB of text, and few enough statements that what
	// each costs by itself is small beside its rows.
	maxPoints = 256
	// fewPoints is up to how many rows a statement for each costs less than one for all, whose list the server has to
	// make a table of. MySQL 9.7 took 0.17 ms to lock one row of a list and 0.23 ms to delete it, and 0.01 to 0.02 ms for each
	// further one; 0.06 and 0.12 ms for a row by itself.
	fewPoints = 2
	// maxInsert bounds the rows of one INSERT: about 100 kB of text.
	maxInsert = 1000
	// everything asks reach for all rows of a pool; there is no use in skipping some of them then.
	everything = math.MaxInt64
)

var (
	statementUnitsSkip   = named("units_skip")
	statementUnitsPoints = named("units_points")
	textUnitPoint        = named("unit_point").one()
	statementUnitsWait   = named("units_wait")
	statementUnitsCount  = named("units_count")
	statementUnitsDelete = named("units_delete")
	textUnitDelete       = named("unit_delete").one()
	statementUnitsInsert = named("units_insert")
)

// pool is what a transaction knows of a key's unit rows.
type pool struct {
	rows []uint64 // locked by this transaction
	all  bool     // there are no others, and there can be none while the level row is locked
}

// want is a number of units at a key.
type want = backends.Units

// askSkip adds the locks of free unit rows, from each key's cursor on. Wants are in key order.
func (x *txn) askSkip(b *batch, wants []want, cursor func(backends.Key) uint64, into map[backends.Key][]uint64) {
	for part := range slices.Chunk(wants, maxBranches) {
		var args []any
		for i, w := range part {
			args = append(append(append(args, i), x.s.keyArgs(w.Key)...), cursor(w.Key), w.Quantity)
		}
		b.ask(scanUnits(part, into), statementUnitsSkip.times(len(part)), args...)
	}
}

// askWait adds the locks of unit rows from the head of each pool, waiting for others.
func (x *txn) askWait(b *batch, wants []want, into map[backends.Key][]uint64) {
	for part := range slices.Chunk(wants, maxBranches) {
		var args []any
		for i, w := range part {
			args = append(append(append(args, i), x.s.keyArgs(w.Key)...), w.Quantity)
		}
		b.ask(scanUnits(part, into), statementUnitsWait.times(len(part)), args...)
	}
}

func scanUnits(part []want, into map[backends.Key][]uint64) func(*sql.Rows) error {
	return func(r *sql.Rows) error {
		var i int
		var id uint64
		if err := r.Scan(&i, &id); err != nil {
			return err
		}
		into[part[i].Key] = append(into[part[i].Key], id)
		return nil
	}
}

// reach makes sure, for levels that are locked, that each key has as many units as are wanted within
// reach, or else that what it has is all there is: unmaterialised units first, since they cost no
// lock; then free rows; then, waiting, the rows that neighbours have locked. Wants are in key order.
func (x *txn) reach(ctx context.Context, wants []want) error {
	free := x.lacking(wants)
	free = slices.DeleteFunc(free, func(w want) bool { return w.Quantity > backends.MaxOnHand })
	if len(free) > 0 {
		got := map[backends.Key][]uint64{}
		b := x.batch()
		x.askSkip(b, free, func(backends.Key) uint64 { return 0 }, got)
		if err := x.send(ctx, b); err != nil {
			return err
		}
		for k, ids := range got {
			x.pool(k).rows = ids
		}
	}
	rest := x.lacking(wants)
	if len(rest) == 0 {
		return nil
	}
	got := map[backends.Key][]uint64{}
	b := x.batch()
	x.askWait(b, rest, got)
	if err := x.send(ctx, b); err != nil {
		return err
	}
	for _, w := range rest {
		p := x.pool(w.Key)
		p.rows = got[w.Key]
		p.all = int64(len(p.rows)) < w.Quantity
	}
	return nil
}

// lacking lists the wants that are not within reach yet, in rows.
func (x *txn) lacking(wants []want) (out []want) {
	for _, w := range wants {
		l := x.levels[w.Key]
		if l == nil || x.pool(w.Key).all || x.within(w.Key) >= w.Quantity {
			continue
		}
		out = append(out, want{Key: w.Key, Quantity: w.Quantity - max(0, l.unmaterialised)})
	}
	return out
}

func (x *txn) pool(k backends.Key) *pool {
	p := x.rows[k]
	if p == nil {
		p = &pool{}
		x.rows[k] = p
	}
	return p
}

// within is how many units of a key are within reach; all there are when its pool was read whole.
func (x *txn) within(k backends.Key) int64 {
	l := x.levels[k]
	if l == nil {
		return 0
	}
	return l.unmaterialised + int64(len(x.pool(k).rows))
}

// draw takes n units at a key whose units are within reach, below zero where there are no more,
// and answers the rows to delete.
func (x *txn) draw(k backends.Key, n int64) (rows []uint64) {
	l, p := x.levels[k], x.pool(k)
	l.dirty = true
	if l.unmaterialised >= n {
		l.unmaterialised -= n
		return nil
	}
	r := min(n, int64(len(p.rows)))
	rows, p.rows = p.rows[:r:r], p.rows[r:]
	l.pooled = max(0, l.pooled-r)
	l.unmaterialised -= n - r
	return rows
}

// askCount adds plain counts of pools: upper bounds of what is there, since what an open
// transaction has taken is counted, and nothing comes in while the level row is locked.
func (x *txn) askCount(b *batch, keys []backends.Key, into map[backends.Key]int64) {
	for part := range slices.Chunk(keys, maxBranches) {
		var args []any
		for i, k := range part {
			args = append(append(args, i), x.s.keyArgs(k)...)
		}
		b.ask(func(r *sql.Rows) error {
			var i int
			var n int64
			if err := r.Scan(&i, &n); err != nil {
				return err
			}
			into[part[i]] = n
			return nil
		}, statementUnitsCount.times(len(part)), args...)
	}
}

// changes are the unit rows that a transaction will delete and insert.
type changes struct {
	gone map[backends.Key][]uint64
	made map[backends.Key]int64
}

func newChanges() *changes {
	return &changes{gone: map[backends.Key][]uint64{}, made: map[backends.Key]int64{}}
}

// shift moves Sellable at levels that are locked, and with it Owed: it takes what moves are below
// zero, in debt if need be, and gives back what is above. Moves of the ledger alone are not its own.
func (x *txn) shift(ctx context.Context, all []move, ch *changes) error {
	var ms []move
	for _, m := range all {
		if m.sellable != 0 || m.owed != 0 {
			ms = append(ms, m)
		}
	}
	var wants []want
	for _, m := range ms {
		if m.sellable < 0 {
			wants = append(wants, want{Key: m.key, Quantity: -m.sellable})
		}
	}
	if err := x.reach(ctx, wants); err != nil {
		return err
	}
	if err := x.recount(ctx, ms); err != nil {
		return err
	}
	for _, m := range ms {
		l := x.levels[m.key]
		if m.owed != 0 {
			l.owed += m.owed
			l.dirty = true
		}
		switch {
		case m.sellable < 0:
			ch.gone[m.key] = append(ch.gone[m.key], x.draw(m.key, -m.sellable)...)
		case m.sellable > 0:
			ch.made[m.key] += x.giveBack(l, m.sellable)
		}
	}
	return nil
}

// recount counts the pools that look too full for what comes back, unless there are unmaterialised
// units anyway: then the pool is refilled in batches, and not unit by unit.
func (x *txn) recount(ctx context.Context, ms []move) error {
	var keys []backends.Key
	for _, m := range ms {
		l := x.levels[m.key]
		rest := m.sellable + min(0, l.unmaterialised)
		if m.sellable > 0 && l.unmaterialised <= 0 && rest > 0 && l.pooled+rest > x.s.cfg.capFor(m.key) {
			keys = append(keys, m.key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	counts := map[backends.Key]int64{}
	b := x.batch()
	x.askCount(b, keys, counts)
	if err := x.send(ctx, b); err != nil {
		return err
	}
	for k, n := range counts {
		x.levels[k].pooled, x.levels[k].dirty = n, true
	}
	return nil
}

// giveBack returns n units to a level: the debt first, then the pool while it has room, then
// unmaterialised. It answers how many rows to insert.
func (x *txn) giveBack(l *level, n int64) (rows int64) {
	l.dirty = true
	waiting := l.unmaterialised > 0
	pay := min(n, max(0, -l.unmaterialised))
	l.unmaterialised += pay
	n -= pay
	if !waiting {
		rows = min(n, max(0, x.s.cfg.capFor(l.key)-l.pooled))
	}
	l.pooled += rows
	l.unmaterialised += n - rows
	return rows
}

// refill counts the pools of keys whose levels are locked, and fills those with fewer rows than
// below says, as far as there are unmaterialised units, up to the goal that upTo gives: the
// cap, or less where little is taken.
func (x *txn) refill(ctx context.Context, keys []backends.Key, below, upTo func(backends.Key) int64, ch *changes) error {
	var low []backends.Key
	for _, k := range keys {
		l := x.levels[k]
		switch {
		case l == nil:
		case l.unmaterialised > 0:
			low = append(low, k)
		default:
			x.after = append(x.after, func() { x.s.fill.counted(k, l.pooled, l.unmaterialised) })
		}
	}
	if len(low) == 0 {
		return nil
	}
	counts := map[backends.Key]int64{}
	b := x.batch()
	x.askCount(b, low, counts)
	if err := x.send(ctx, b); err != nil {
		return err
	}
	for _, k := range low {
		l := x.levels[k]
		l.pooled, l.dirty = counts[k]-int64(len(ch.gone[k]))+ch.made[k], true
		x.after = append(x.after, func() { x.s.fill.counted(k, l.pooled, l.unmaterialised) })
		if l.pooled >= below(k) {
			continue
		}
		n := min(l.unmaterialised, upTo(k)-l.pooled)
		if n <= 0 {
			continue
		}
		l.unmaterialised -= n
		l.pooled += n
		ch.made[k] += n
		x.after = append(x.after, func() { x.s.count.refills.Add(1) })
	}
	return nil
}

// writeUnits adds the deletes and inserts.
func (x *txn) writeUnits(b *batch, ch *changes) {
	x.deleteUnits(b, ch.gone)
	x.insertUnits(b, ch.made)
}

func sortedKeys[V any](m map[backends.Key]V) []backends.Key {
	ks := make([]backends.Key, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.SortFunc(ks, backends.Key.Compare)
	return ks
}

// deleteUnits adds the deletes of rows that are locked. Fewer than expected is damage by a hand that
// is not ours; the transaction then begins again.
func (x *txn) deleteUnits(b *batch, gone map[backends.Key][]uint64) {
	x.s.eachPoints(gone, func(text string, args []any, n int64) {
		b.must(n, again(errVanished), text, args...)
	}, textUnitDelete, statementUnitsDelete)
}

// eachPoints makes statements about single rows: one for each of a few, else some for many each.
func (s *Store) eachPoints(rows map[backends.Key][]uint64, add func(text string, args []any, n int64), one string, many statement) {
	total := 0
	for _, ids := range rows {
		total += len(ids)
	}
	few := total <= fewPoints
	var args []any
	n := 0
	flush := func() {
		if n > 0 {
			add(many.times(n), append(args, s.cfg.Pod), int64(n))
		}
		args, n = nil, 0
	}
	for _, k := range sortedKeys(rows) {
		for _, id := range rows[k] {
			if few {
				add(one, append(s.keyArgs(k), id), 1)
				continue
			}
			args = append(args, k.Shop, k.Item, k.Location, id)
			if n++; n == maxPoints {
				flush()
			}
		}
	}
	flush()
}

func (x *txn) insertUnits(b *batch, made map[backends.Key]int64) {
	var args []any
	rows := 0
	flush := func() {
		if rows > 0 {
			b.do(statementUnitsInsert.times(rows), args...)
		}
		args, rows = nil, 0
	}
	for _, k := range sortedKeys(made) {
		ids := x.s.ids.next(int(made[k]))
		if len(ids) > 0 {
			x.after = append(x.after, func() { x.s.hints.made(k, ids) })
		}
		for _, id := range ids {
			args = append(append(args, x.s.keyArgs(k)...), id)
			if rows++; rows == maxInsert {
				flush()
			}
		}
	}
	flush()
}
