package memstore

import (
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// level is the stock of one key. Sellable is one counter, as a store without a pool has it.
type level struct {
	key      backends.Key
	onHand   int64
	sellable int64
	held     int64
	taken    int64
	version  backends.Version // of taken
	owed     int64
}

func (l *level) view() backends.Level {
	return backends.Level{
		Key: l.key, OnHand: l.onHand, Held: l.held, Taken: l.taken,
		Available: max(0, l.sellable), Unmaterialised: min(0, l.sellable),
		TakenVersion: l.version, Owed: l.owed,
	}
}

// restock moves the units on hand, and what is for sale with them.
func (l *level) restock(delta int64) {
	l.onHand += delta
	l.sellable += delta
}

// take moves the anonymous takes.
func (l *level) take(units int64) {
	l.taken += units
	l.sellable -= units
}

// level finds or makes the level of a key.
func (d *data) level(k backends.Key) *level {
	l := d.levels[k]
	if l == nil {
		l = &level{key: k}
		d.levels[k] = l
		d.levelList = append(d.levelList, l)
	}
	return l
}

// sellable is 0 where there is no level.
func (d *data) sellable(k backends.Key) int64 {
	if l := d.levels[k]; l != nil {
		return l.sellable
	}
	return 0
}

// seen lists Sellable at the keys of a cart, by key.
func (d *data) seen(shop backends.Shop, lines []backends.Line) []backends.Units {
	ks := backends.Keys(shop, lines)
	out := make([]backends.Units, len(ks))
	for i, k := range ks {
		out[i] = backends.Units{Key: k, Quantity: d.sellable(k)}
	}
	return out
}

// checkKnown gives an *UnknownStockError for the first line none of whose locations has a level.
func (d *data) checkKnown(shop backends.Shop, lines []backends.Line) error {
	for i, l := range lines {
		known := slices.ContainsFunc(l.Locations, func(loc backends.Location) bool {
			return d.levels[backends.Key{Shop: shop, Item: l.Item, Location: loc}] != nil
		})
		if !known {
			return &backends.UnknownStockError{Key: backends.Key{Shop: shop, Item: l.Item, Location: l.Locations[0]}, Line: i}
		}
	}
	return nil
}

// weight says how each unit of a hold stands in the level that it comes from.
type weight struct{ sellable, onHand, held int64 }

func weigh(h *backends.Hold) weight {
	switch {
	case h.State == backends.Held:
		return weight{sellable: -1, held: 1}
	case h.State == backends.Claimed && !h.LedgerOwed:
		return weight{sellable: -1, onHand: -1}
	default:
		return weight{}
	}
}

// move puts the weight of h on its levels, sign times (+1 or -1). A level that is not there is
// made: whoever comes here has sold the units.
func (d *data) move(h *backends.Hold, sign int64) {
	w := weigh(h)
	if w == (weight{}) {
		return
	}
	for _, a := range h.Allocs {
		if a.Line < 0 || a.Line >= len(h.Lines) {
			continue // as Hold.Takes
		}
		l := d.level(backends.Key{Shop: h.Shop, Item: h.Lines[a.Line].Item, Location: a.Location})
		l.sellable += sign * w.sellable * a.Quantity
		l.onHand += sign * w.onHand * a.Quantity
		l.held += sign * w.held * a.Quantity
	}
}

// put stores h as the new state of rec, or of a new record when rec is nil, and moves stock by
// the difference. It keeps h: the caller gives it away.
func (d *data) put(rec *record, h *backends.Hold) *record {
	if rec == nil {
		d.places++
		rec = &record{place: d.places}
		d.holds[h.ID] = rec
		d.holdList = append(d.holdList, rec)
	} else {
		d.move(rec.hold, -1)
	}
	d.move(h, 1)
	rec.hold, rec.touched = h, d.opt.Clock()
	return rec
}

// remember notes an operation id with what became of it; its age stays that of the first time. The
// empty id is never noted.
func (d *data) remember(id backends.OpID, r opRecord) {
	if id == "" {
		return
	}
	had, known := d.ops[id]
	r.at = had.at
	if !known {
		r.at = d.opt.Clock()
		d.opList = append(d.opList, id)
	}
	d.ops[id] = r
}

// Bypass changes the units for sale at a key behind the store's back, as a writer that does not
// come through Crossfade would: nothing else is told. It is what makes a bypass_write and a broken
// P2 in demonstrations and tests of the report.
func (s *Store) Bypass(k backends.Key, delta int64) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.level(k).sellable += delta
}
