package memstore

import (
	"context"
	"fmt"
	"strconv"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Restock changes the units on hand.
func (s *Store) Restock(ctx context.Context, t backends.Token, r *backends.RestockRequest) (*backends.Decision, error) {
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	if op, known := d.ops[r.OpID]; known {
		if op.void {
			return nil, backends.ErrVoid
		}
		dec := &backends.Decision{Op: backends.OpRestock, Outcome: backends.OutcomeRestocked, Replayed: true}
		if d.fence.Stage != backends.MySQLOnly {
			dec.Entry, dec.Dropped = d.changed(backends.OpReemit, d.level(r.Key), false, backends.LevelChange{OpID: r.OpID, OnHandDelta: op.delta})
		}
		return dec, nil
	}
	now := backends.Level{Key: r.Key}
	if l := d.levels[r.Key]; l != nil {
		now = l.view()
	}
	delta := r.Amount
	switch r.Kind {
	case backends.RestockSetOnHand:
		delta -= now.OnHand
	case backends.RestockSetSellable:
		delta -= now.Sellable()
	case backends.RestockAdd:
	}
	if err := checkOnHand(r.Key, now.OnHand+delta); err != nil {
		return nil, err
	}
	l := d.level(r.Key)
	l.restock(delta)
	d.remember(r.OpID, opRecord{delta: d.attributed(delta)})
	dec := &backends.Decision{Op: backends.OpRestock, Outcome: backends.OutcomeRestocked}
	dec.Entry, dec.Dropped = d.changed(backends.OpRestock, l, false, backends.LevelChange{OpID: r.OpID, OnHandDelta: delta})
	return dec, nil
}

// checkOnHand keeps a level inside what every store can count exactly.
func checkOnHand(k backends.Key, onHand int64) error {
	if onHand >= -backends.MaxOnHand && onHand <= backends.MaxOnHand {
		return nil
	}
	return &backends.FieldError{
		Field: "units on hand of " + k.String(), Value: strconv.FormatInt(onHand, 10),
		Bound: fmt.Sprintf("up to %d", int64(backends.MaxOnHand)), Next: "give the number of units",
	}
}

// Count answers as Redis does.
func (s *Store) Count(ctx context.Context, t backends.Token, r *backends.CountRequest) (*backends.CountResult, error) {
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	if op, known := d.ops[r.OpID]; known {
		if op.void {
			return nil, backends.ErrVoid
		}
		return &backends.CountResult{Value: op.value, Replayed: true}, nil
	}
	var taken, onHand, sellable int64
	if l := d.levels[r.Key]; l != nil {
		taken, onHand, sellable = l.taken, l.onHand, l.sellable
	}
	takes, rest := split(r.Delta, taken)
	if rest == 0 && d.fence.Arbitrates() && d.full() {
		return nil, backends.ErrOutboxFull
	}
	for _, n := range []int64{onHand + rest, taken + takes, sellable + r.Delta} {
		if err := checkOnHand(r.Key, n); err != nil {
			return nil, err
		}
	}
	l := d.level(r.Key)
	l.take(takes)
	l.restock(rest)
	if takes != 0 {
		l.version = l.version.Next(t.Epoch)
	}
	d.remember(r.OpID, opRecord{value: l.sellable, delta: d.attributed(rest)})
	res := &backends.CountResult{Value: l.sellable}
	res.Entry, _ = d.changed(backends.OpCount, l, takes != 0, backends.LevelChange{OpID: r.OpID, OnHandDelta: rest, Answer: l.sellable})
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

// attributed is the OnHand delta that an operation id stands for: in mysql-only none, since it
// travels in Owed, under an operation id of its own.
func (d *data) attributed(delta int64) int64 {
	if d.fence.Stage == backends.MySQLOnly {
		return 0
	}
	return delta
}

// changed tells the other store of a level: by the outbox, or where there is none by Owed. moved
// tells whether the taken sum moved; else the entry carries what ch says of the operation only.
func (d *data) changed(op backends.Op, l *level, moved bool, ch backends.LevelChange) (*backends.Entry, bool) {
	if d.fence.Stage == backends.MySQLOnly {
		l.owed += ch.OnHandDelta
		return nil, false
	}
	ch.Key = l.key
	if moved {
		ch.Taken, ch.Version = l.taken, l.version
	}
	e, dropped := d.write(backends.Entry{Op: op, Level: &ch})
	if e != nil {
		c := copyEntry(*e)
		e = &c
	}
	return e, dropped
}
