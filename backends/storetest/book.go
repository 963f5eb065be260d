package storetest

import (
	"cmp"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// book is what a store says of some keys and holds at rest.
type book struct {
	Levels []backends.Level
	Holds  map[backends.HoldID]*backends.Hold
	Outbox []backends.Entry
	Lost   bool
	Drops  int64
}

// book reads everything about keys and ids.
func (r *rig) book(keys []backends.Key, ids ...backends.HoldID) book {
	r.t.Helper()
	b := book{Outbox: r.pending()}
	var err error
	b.Levels, err = r.s.Levels(r.ctx, keys)
	r.ok(err, "Levels")
	slices.SortFunc(b.Levels, func(a, b backends.Level) int { return a.Key.Compare(b.Key) })
	b.Holds, err = r.s.GetMany(r.ctx, ids)
	r.ok(err, "GetMany")
	st := r.stats()
	b.Lost, b.Drops = st.Lost, st.Dropped
	return b
}

// heldHold is a hold as another store granted it: each line whole from its first location.
func heldHold(id backends.HoldID, lines ...backends.Line) *backends.Hold {
	h := &backends.Hold{
		ID: id, Shop: shop, Caller: "other", Lines: lines, State: backends.Held,
		Version:   backends.Version{Epoch: firstEpoch, N: 1},
		CreatedAt: 1_700_000_000_000, ExpiresAt: 1_700_000_600_000,
	}
	for i, l := range lines {
		h.Allocs = append(h.Allocs, backends.Allocation{Line: i, Location: l.Locations[0], Quantity: l.Quantity})
	}
	return h
}

// as gives a later state of a hold.
func as(h *backends.Hold, state backends.State, n uint64) *backends.Hold {
	c := h.Clone()
	c.State, c.Version.N = state, n
	if state.Ended() {
		c.EndedAt = c.CreatedAt + backends.Instant(n)
	}
	return c
}

// holdEntry is an entry as the other store would write it.
func holdEntry(op backends.Op, h *backends.Hold) backends.Entry {
	return backends.Entry{Seq: string(h.ID) + "#" + h.Version.String(), Op: op, At: h.CreatedAt, Hold: h}
}

// levelEntry is a change of a level as the other store would write it: with a taken sum, one that
// a backfill wrote, which is applied in any order.
func levelEntry(ch backends.LevelChange) backends.Entry {
	e := backends.Entry{Seq: "level#" + string(ch.OpID), Op: backends.OpRestock, At: 1_700_000_000_000, Level: &ch}
	if ch.Version != (backends.Version{}) {
		e.Op = backends.OpReemit
	}
	return e
}

// takeEntry is a take as the other store would write it.
func takeEntry(k backends.Key, id backends.OpID, taken int64, n uint64) backends.Entry {
	e := levelEntry(backends.LevelChange{Key: k, OpID: id, Taken: taken, Version: backends.Version{Epoch: firstEpoch, N: n}})
	e.Op = backends.OpCount
	return e
}

// answered is a take's entry with the answer that its truth gave.
func answered(e backends.Entry, n int64) backends.Entry {
	e.Level.Answer = n
	return e
}

// sortedLevels are levels by key, without what two stores may differ in: where the units for sale
// are.
func sortedLevels(ls []backends.Level) []backends.Level {
	out := slices.Clone(ls)
	for i := range out {
		out[i].Available, out[i].Unmaterialised = out[i].Sellable(), 0
	}
	slices.SortFunc(out, func(a, b backends.Level) int { return a.Key.Compare(b.Key) })
	return out
}

// byID sorts decisions of a sweep: holds that are due at the same instant have no order.
func byID(ds []*backends.Decision) []*backends.Decision {
	out := slices.Clone(ds)
	slices.SortFunc(out, func(a, b *backends.Decision) int { return cmp.Compare(a.Hold.ID, b.Hold.ID) })
	return out
}
