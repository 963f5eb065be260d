package mysqlstore

import (
	"context"

	"github.com/crossfade-proxy/crossfade/backends"
)

// putting is a new state of a hold, with all that follows from it.
type putting struct {
	was *record // what is there; nil: nothing
	is  *backends.Hold
	own *backends.OwnDecision
	ms  []move
	ch  *changes
	// more adds what belongs to the same step, in the order of locks behind the hold.
	more func(b *batch)
}

// put moves stock by the difference of the two states and stores the new one. The level rows of what
// it moves have to be locked; where one is missing it asks to begin again.
func (x *txn) put(ctx context.Context, p putting) error {
	if err := x.haveLevels(p.ms); err != nil {
		return err
	}
	b := x.batch()
	x.moveOnHand(b, p.ms)
	if p.ch == nil {
		p.ch = newChanges()
	}
	if touchesUnits(p.ms) {
		if err := x.send(ctx, b); err != nil { // the ledger is locked before the units
			return err
		}
		b = x.batch()
		if err := x.shift(ctx, p.ms, p.ch); err != nil {
			return err
		}
	}
	x.writeUnits(b, p.ch)
	x.writeLevels(b)
	x.store(b, p.was, p.is, p.own)
	if p.more != nil {
		p.more(b)
	}
	return x.finish(ctx, b)
}

func touchesUnits(ms []move) bool {
	for _, m := range ms {
		if m.sellable != 0 || m.owed != 0 {
			return true
		}
	}
	return false
}

// levelKeys are the keys whose level rows a change needs.
func levelKeys(ms []move) []backends.Key {
	var out []backends.Key
	for _, m := range ms {
		if m.sellable != 0 || m.owed != 0 {
			out = append(out, m.key)
		}
	}
	return out
}

// inAll creates at every key.
func inAll(backends.Key) bool { return true }

// madeIf gives inAll or nothing.
func madeIf(create bool) func(backends.Key) bool {
	if create {
		return inAll
	}
	return nil
}
