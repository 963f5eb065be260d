package mysqlstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/crossfade-proxy/crossfade/backends"
)

var (
	textOpRead   = named("op_read").one()
	textOpInsert = named("op_insert").one()
	textOpUpdate = named("op_update").one()
	textOpStamp  = named("op_stamp").one()
)

// operation is what a transaction knows of an operation id and the level that it moves.
type operation struct {
	id     backends.OpID
	key    backends.Key
	known  bool
	result       // as recorded
	onHand int64 // of the ledger
}

// result is what is recorded of an operation id.
type result struct {
	value int64 // the answer of a count
	delta int64 // of OnHand
	void  bool  // nobody decided it, and nobody ever will
}

// operate runs f in a transaction that has the level locked (made, if it was missing), has looked
// for the operation id under that lock, and has the ledger row locked.
func (s *Store) operate(ctx context.Context, j job, id backends.OpID, k backends.Key, f func(x *txn, o *operation) error) (*operation, error) {
	o := &operation{}
	j.first = func(x *txn, b *batch) { x.askLevels(b, []backends.Key{k}) }
	err := s.again(ctx, func() error {
		*o = operation{id: id, key: k}
		err := s.write(ctx, j, func(x *txn) error {
			if x.levels[k] == nil {
				if err := x.lock(ctx, []backends.Key{k}, inAll); err != nil {
					return err
				}
			}
			b := x.batch()
			x.askOp(b, o)
			b.ask(func(r *sql.Rows) error { return r.Scan(&o.onHand) }, s.ledger.lock, s.ledgerArgs(k)...)
			if err := x.send(ctx, b); err != nil {
				return err
			}
			return f(x, o)
		})
		if errors.Is(err, errNothing) {
			return nil
		}
		return err
	})
	return o, err
}

func (x *txn) askOp(b *batch, o *operation) {
	if o.id == "" {
		return
	}
	b.ask(func(r *sql.Rows) error {
		o.known = true
		return r.Scan(&o.value, &o.delta, &o.void)
	}, textOpRead, x.s.cfg.Pod, o.id)
}

// record adds the note of an operation id, over the one that is there.
func (x *txn) record(b *batch, o *operation, r result) {
	pod := x.s.cfg.Pod
	switch {
	case o.id == "":
		return
	case o.known:
		b.must(1, again(errMoved), textOpUpdate, x.stamp, r.value, r.delta, r.void, pod, o.id, o.delta)
	default:
		b.do(textOpInsert, pod, o.id, x.stamp, r.value, r.delta, r.void, x.now)
	}
	if x.proof == nil {
		x.proof = &proof{query: textOpStamp, args: []any{pod, o.id, x.stamp}, committed: some}
	}
}

// levelMove is a change of one level that has been decided.
type levelMove struct {
	op     *operation
	onHand int64 // delta of OnHand, and of Sellable with it
	takes  int64 // delta of Taken, and of Sellable against it
	// sellable is what Sellable moves by besides: a correction alone has it.
	sellable int64
	// note is to be recorded of the operation id.
	note *result
	// more adds what belongs to the same step, behind the operation.
	more func(b *batch)
}

// moveLevels writes changes of locked levels, of one each and in the order of keys, and their operation ids.
// What a restock brings goes to the ledger, and into the pool only as far as enough says: loading a
// shop must not write a row for every unit. What a give-back brings goes the way of a release.
func (x *txn) moveLevels(ctx context.Context, cs []levelMove, enough func(backends.Key) int64) error {
	var ms []move
	var brought []backends.Key
	for _, c := range cs {
		k := c.op.key
		l := x.levels[k]
		l.dirty = true
		l.taken += c.takes
		ms = append(ms, move{key: k, onHand: c.onHand, sellable: c.onHand - c.takes + c.sellable})
		if c.onHand > 0 {
			brought = append(brought, k)
		}
	}
	b := x.batch()
	x.moveOnHand(b, ms)
	if err := x.send(ctx, b); err != nil {
		return err
	}
	ch := newChanges()
	for i := range ms {
		if m := &ms[i]; m.onHand > 0 {
			x.after = append(x.after, func() { x.s.fill.stocked(m.key) })
			x.levels[m.key].unmaterialised += m.onHand
			m.sellable -= m.onHand
		}
	}
	if err := x.shift(ctx, ms, ch); err != nil {
		return err
	}
	if err := x.refill(ctx, brought, enough, enough, ch); err != nil {
		return err
	}
	b = x.batch()
	x.writeUnits(b, ch)
	x.writeLevels(b)
	for _, c := range cs {
		if c.note != nil {
			x.record(b, c.op, *c.note)
		}
		if c.more != nil {
			c.more(b)
		}
	}
	return x.finish(ctx, b)
}

// moveLevel is moveLevels for the one level of an operation of the truth, whose buyers are waiting.
func (x *txn) moveLevel(ctx context.Context, c levelMove) error {
	return x.moveLevels(ctx, []levelMove{c}, x.s.cfg.startFor)
}

// tellLevel adds the outbox entry of an operation. moved tells whether the taken sum moved; else the
// entry says only what became of the operation.
func (x *txn) tellLevel(op backends.Op, l *level, moved bool, id backends.OpID, r result) (*backends.Entry, bool) {
	ch := backends.LevelChange{Key: l.key, OpID: id, OnHandDelta: r.delta, Answer: r.value, Void: r.void}
	if moved {
		ch.Taken, ch.Version = l.taken, l.version
	}
	return x.emit(backends.Entry{Op: op, Level: &ch})
}

// attributed is the delta that an operation id stands for: in mysql-only none, since it travels in
// Owed, under an operation id of its own.
func (x *txn) attributed(delta int64) int64 {
	if x.fence.Stage == backends.MySQLOnly {
		return 0
	}
	return delta
}

// owes adds a delta to what the level owes, where there is no outbox to carry it.
func (x *txn) owes(l *level, delta int64) {
	if x.fence.Stage == backends.MySQLOnly {
		l.owed += delta
	}
}

// Restock changes the units on hand.
func (s *Store) Restock(ctx context.Context, t backends.Token, r *backends.RestockRequest) (*backends.Decision, error) {
	j := job{op: backends.OpRestock.String(), caller: r.Caller, tok: t, role: asTruth}
	d := &backends.Decision{Op: backends.OpRestock, Outcome: backends.OutcomeRestocked}
	_, err := s.operate(ctx, j, r.OpID, r.Key, func(x *txn, o *operation) error {
		*d = backends.Decision{Op: d.Op, Outcome: d.Outcome, Replayed: o.known}
		l := x.levels[r.Key]
		if o.void {
			return backends.ErrVoid
		}
		if o.known {
			return x.restateOp(ctx, o, d)
		}
		delta, err := x.deltaOf(ctx, r, o)
		if err != nil {
			return err
		}
		x.owes(l, delta)
		return x.moveLevel(ctx, levelMove{op: o, onHand: delta, note: &result{delta: x.attributed(delta)}, more: func(*batch) {
			d.Entry, d.Dropped = x.tellLevel(d.Op, l, false, r.OpID, result{delta: delta})
		}})
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// restateOp writes the delta of a known operation to the outbox once more, where there is one.
func (x *txn) restateOp(ctx context.Context, o *operation, d *backends.Decision) error {
	if x.fence.Stage == backends.MySQLOnly {
		return errNothing
	}
	b := x.batch()
	d.Entry, d.Dropped = x.tellLevel(backends.OpReemit, x.levels[o.key], false, o.id, result{delta: o.delta})
	x.writeLevels(b) // the key may be new, if the id was used for another
	return x.finish(ctx, b)
}

// deltaOf is by how much a restock moves the units on hand.
func (x *txn) deltaOf(ctx context.Context, r *backends.RestockRequest, o *operation) (int64, error) {
	delta := r.Amount
	switch r.Kind {
	case backends.RestockAdd:
	case backends.RestockSetOnHand:
		delta -= o.onHand
	case backends.RestockSetSellable:
		sellable, err := x.exact(ctx, o.key)
		if err != nil {
			return 0, err
		}
		delta -= sellable
	}
	return delta, checkBound(o.key, o.onHand+delta)
}

// exact is Sellable at a locked level. It reads the whole pool, waiting for neighbours; see the
// package documentation.
func (x *txn) exact(ctx context.Context, k backends.Key) (int64, error) {
	err := x.reach(ctx, []want{{Key: k, Quantity: everything}})
	return x.within(k), err
}

// Count answers as Redis does.
func (s *Store) Count(ctx context.Context, t backends.Token, r *backends.CountRequest) (*backends.CountResult, error) {
	j := job{op: backends.OpCount.String(), caller: r.Caller, tok: t, role: asTruth}
	res := &backends.CountResult{}
	o, err := s.operate(ctx, j, r.OpID, r.Key, func(x *txn, o *operation) error {
		if o.void {
			return backends.ErrVoid
		}
		if o.known {
			return errNothing
		}
		l := x.levels[r.Key]
		takes, rest := split(r.Delta, l.taken)
		if rest == 0 && x.fence.Arbitrates() && x.s.room.full() {
			return backends.ErrOutboxFull
		}
		sellable, err := x.exact(ctx, r.Key)
		if err != nil {
			return err
		}
		for _, n := range []int64{o.onHand + rest, l.taken + takes, sellable + r.Delta} {
			if err := checkBound(r.Key, n); err != nil {
				return err
			}
		}
		if takes != 0 {
			l.version = l.version.Next(t.Epoch)
		}
		x.owes(l, rest)
		*res = backends.CountResult{Value: sellable + r.Delta}
		note := &result{value: res.Value, delta: x.attributed(rest)}
		return x.moveLevel(ctx, levelMove{op: o, onHand: rest, takes: takes, note: note, more: func(*batch) {
			res.Entry, _ = x.tellLevel(backends.OpCount, l, takes != 0, r.OpID, result{value: res.Value, delta: rest})
		}})
	})
	if err != nil {
		return nil, err
	}
	if o.known {
		return &backends.CountResult{Value: o.value, Replayed: true}, nil
	}
	return res, nil
}

// split tells by how much a count moves the taken sum and by how much the units on hand: a
// give-back beyond what is taken is a restock of the rest.
func split(delta, taken int64) (takes, rest int64) {
	if delta < 0 {
		return -delta, 0
	}
	back := min(delta, max(0, taken))
	return -back, delta - back
}
