package dualwrite

import (
	"context"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Before a kill MySQL may have ended a hold without a sale, and sold its units to others, with Redis not having heard of the end: to
// Redis the hold is open still, or was claimed since. Both buyers may pay, and a claim of a hold that Redis has open is no late
// one to it. So settling lists such holds, as far as Redis is short of units.

const soldOn = "MySQL had ended the hold and sold its units again, and Redis, which decides now, had not heard of the end"

// promised tells whether an entry is of a hold that MySQL had ended without a sale, and that takes units in Redis. What MySQL has
// claimed after all follows the claim rule.
func (p *Pod) promised(ctx context.Context, e *backends.Entry) (bool, error) {
	if e.Hold == nil || e.Hold.State.Takes() {
		return false, nil
	}
	h, err := p.stores.Redis.Get(ctx, e.Hold.ID)
	if err != nil || len(h.Footprint()) == 0 {
		return false, err
	}
	m, err := p.stores.MySQL.Get(ctx, e.Hold.ID)
	return err == nil && !(m != nil && m.State == backends.Claimed && m.Version.Epoch == e.Hold.Version.Epoch), err
}

// soldOn lists those of es that are short of units, now that all else is settled, and takes them out of MySQL's outbox then: whoever
// dies before leaves them to the next. A unit that is missing is listed once. Holds whose time has passed end first. It answers how many
// entries it took out.
func (p *Pod) soldOn(ctx context.Context, es []backends.Entry) (n int, err error) {
	if len(es) == 0 {
		return 0, nil
	}
	for ended := ExpireBatch; ended == ExpireBatch; {
		if ended, err = p.Expire(ctx); err != nil {
			return 0, err
		}
	}
	known, debt, err := p.shortOf(ctx, es)
	if err != nil {
		return 0, err
	}
	now, err := p.stores.Redis.Now(ctx)
	if err != nil {
		return 0, err
	}
	looked := map[backends.HoldID]bool{}
	for part := range slices.Chunk(es, SweepPage) {
		var as []backends.Apology
		by := map[string][]backends.Apology{} // by the entry that they are listed for
		for i := range part {
			h := known[part[i].Hold.ID]
			if h == nil || looked[h.ID] {
				continue
			}
			looked[h.ID] = true
			for _, u := range h.Footprint() {
				if q := min(u.Quantity, debt[u.Key]); q > 0 {
					debt[u.Key] -= q
					a := backends.Apology{Hold: h.ID, Key: u.Key, Quantity: q, Reason: soldOn, At: now}
					as, by[part[i].Seq] = append(as, a), append(by[part[i].Seq], a)
				}
			}
		}
		if len(as) > 0 {
			if err := p.o.Filer.FileApologies(ctx, p.name, backends.SideRedis, as); err != nil {
				return n, err
			}
		}
		removed, err := p.settled(ctx, part)
		n += len(removed)
		for _, seq := range removed {
			for _, a := range by[seq] {
				p.o.Observer.Apology(p.name, a)
			}
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// shortOf is what Redis has of the holds of es, and by how much it is short at their keys, less what either store has listed itself.
func (p *Pod) shortOf(ctx context.Context, es []backends.Entry) (known map[backends.HoldID]*backends.Hold, debt map[backends.Key]int64, err error) {
	known, debt = map[backends.HoldID]*backends.Hold{}, map[backends.Key]int64{}
	for part := range slices.Chunk(es, backfillPage) {
		ids := make([]backends.HoldID, len(part))
		for i := range part {
			ids[i] = part[i].Hold.ID
		}
		have, err := p.stores.Redis.GetMany(ctx, ids)
		if err != nil {
			return nil, nil, err
		}
		var ks []backends.Key
		for id, h := range have {
			known[id] = h
			for _, u := range h.Footprint() {
				ks = append(ks, u.Key)
			}
		}
		for page := range slices.Chunk(ks, backfillPage) {
			ls, err := p.stores.Redis.Levels(ctx, page)
			if err != nil {
				return nil, nil, err
			}
			for _, l := range ls {
				if l.Debt() > 0 {
					debt[l.Key] = l.Debt()
				}
			}
		}
	}
	if len(debt) == 0 {
		return known, debt, nil
	}
	now, err := p.stores.Redis.Now(ctx)
	if err != nil {
		return nil, nil, err
	}
	told := map[promise]bool{}
	for _, s := range []backends.Store{p.stores.Redis, p.stores.MySQL} {
		if err := less(ctx, debt, now, told, s); err != nil {
			return nil, nil, err
		}
	}
	return known, debt, nil
}
