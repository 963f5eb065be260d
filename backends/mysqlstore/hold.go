package mysqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

var (
	statementHoldRead     = named("hold_read")
	statementHoldInsert   = named("hold_insert")
	statementHoldLock     = named("hold_lock")
	textHoldUpdate        = named("hold_update").one()
	statementHoldStamp    = named("hold_stamp")
	statementHoldsAdvance = named("holds_advance")
)

// record is a hold as its row has it.
type record struct {
	hold   *backends.Hold
	digest string // empty for a tombstone
	own    *backends.OwnDecision
}

// bare tells whether it is a tombstone of a hold that this store never knew.
func (r *record) bare() bool {
	return r != nil && r.hold.State == backends.Released && len(r.hold.Lines) == 0
}

// known is the record unless there is none, or only a tombstone.
func (r *record) known() bool { return r != nil && !r.bare() }

func scanRecord(rows *sql.Rows) (*record, error) {
	var h backends.Hold
	rec := &record{hold: &h}
	var body, allocs, own []byte
	err := rows.Scan(&h.ID, &h.Shop, &h.State, &h.Version.Epoch, &h.Version.N, &rec.digest, &body, &allocs, &h.Caller,
		&h.CreatedAt, &h.ExpiresAt, &h.EndedAt, &h.LedgerOwed, &own)
	if err != nil {
		return nil, err
	}
	if err := decode(body, &h.Lines, "lines of hold "+string(h.ID)); err != nil {
		return nil, err
	}
	if err := decode(allocs, &h.Allocs, "allocations of hold "+string(h.ID)); err != nil {
		return nil, err
	}
	if own != nil {
		rec.own = &backends.OwnDecision{}
		err = decode(own, rec.own, "own decision of hold "+string(h.ID))
	}
	return rec, err
}

func decode(text []byte, to any, what string) error {
	if err := json.Unmarshal(text, to); err != nil {
		return fmt.Errorf("%w: %s: %w", backends.ErrDamaged, what, err)
	}
	return nil
}

// encode writes JSON. None of our types can fail to be written; if one did, the empty text would be
// NULL, which no column for JSON takes but the one of own decisions.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return text
}

// askRecord adds a plain read of one hold.
func (s *Store) askRecord(b *batch, id backends.HoldID, into **record) {
	*into = nil
	b.ask(func(r *sql.Rows) (err error) {
		*into, err = scanRecord(r)
		return err
	}, statementHoldRead.one(), s.cfg.Pod, id)
}

// look reads the fence and one hold as they are committed. The fence comes last: when it admits,
// it did so at the moment of the read before it.
func (s *Store) look(ctx context.Context, j job, id backends.HoldID) (rec *record, now backends.Instant, err error) {
	var fence backends.Fence
	err = s.read(ctx, j.op, j.caller, func(b *batch) {
		s.askRecord(b, id, &rec)
		s.askFence(b, &fence, &now)
	})
	if err == nil && !j.role.admitted(fence, j.tok) {
		err = s.fenced(fence, j.tok)
	}
	return rec, now, err
}

// askFence adds a plain read of fence and clock. now stays 0 where the fence is missing.
func (s *Store) askFence(b *batch, fence *backends.Fence, now *backends.Instant) {
	*fence = backends.Fence{}
	b.ask(func(r *sql.Rows) (err error) {
		*fence, _, *now, err = scanFence(r)
		return err
	}, textFenceRead, s.cfg.Pod)
}

// digestOf is empty for a tombstone.
func digestOf(h *backends.Hold) string {
	if len(h.Lines) == 0 {
		return ""
	}
	return backends.Digest(h.Shop, h.Lines)
}

// dueOf is when the sweeper or the purge has to look at a hold.
func (x *txn) dueOf(h *backends.Hold) backends.Instant {
	if h.State.Open() {
		return h.ExpiresAt
	}
	return x.now
}

// ownColumn is NULL where nothing was decided.
func ownColumn(own *backends.OwnDecision) any {
	if own == nil {
		return nil
	}
	return encode(own)
}

// store adds the write of a hold's new state over what was there (nil: nothing). Over a version
// that is not there any more the batch ends with a wish to begin again.
func (x *txn) store(b *batch, was *record, h *backends.Hold, own *backends.OwnDecision) {
	x.prove(h.ID)
	args := x.holdArgs(nil, h, own)
	if was == nil {
		b.do(statementHoldInsert.one(), args...)
		return
	}
	args = append(args[2:], x.s.cfg.Pod, h.ID, was.hold.Version.Epoch, was.hold.Version.N)
	b.must(1, again(errMoved), textHoldUpdate, args...)
}

// holdArgs appends the columns of a hold's row, in the table's order.
func (x *txn) holdArgs(to []any, h *backends.Hold, own *backends.OwnDecision) []any {
	// JSON's null for an empty list would be read back as nil, which is as good.
	return append(to, x.s.cfg.Pod, h.ID, h.Shop, h.State, h.Version.Epoch, h.Version.N, x.stamp, digestOf(h), encode(h.Lines), encode(h.Allocs),
		h.Caller, h.CreatedAt, h.ExpiresAt, h.EndedAt, h.LedgerOwed, ownColumn(own), x.dueOf(h))
}

const (
	// holdColumns is how many columns a hold has.
	holdColumns = 17
	// maxProven bounds the holds that are looked for when a COMMIT is settled. One would do, were it
	// not for others who may have changed it since.
	maxProven = 8
)

// prove notes a hold that carries this transaction's stamp once it is committed.
func (x *txn) prove(id backends.HoldID) {
	if x.proof != nil && x.proven == nil || len(x.proven) == maxProven {
		return
	}
	x.proven = append(x.proven, id)
	args := []any{x.stamp, x.s.cfg.Pod}
	for _, id := range x.proven {
		args = append(args, id)
	}
	x.proof = &proof{query: statementHoldStamp.times(len(x.proven)), args: args, committed: some}
}

// askRecords adds a plain read of some holds.
func (s *Store) askRecords(b *batch, ids []backends.HoldID, into map[backends.HoldID]*record) {
	clear(into)
	for part := range slices.Chunk(ids, maxBranches) {
		args := make([]any, 0, len(part)+1)
		args = append(args, s.cfg.Pod)
		for _, id := range part {
			args = append(args, id)
		}
		b.ask(func(r *sql.Rows) error {
			rec, err := scanRecord(r)
			if err == nil {
				into[rec.hold.ID] = rec
			}
			return err
		}, statementHoldRead.times(len(part)), args...)
	}
}

// weight is how each unit of a hold stands in its level; see package memstore, which rules.
type weight struct{ sellable, onHand int64 }

func weigh(h *backends.Hold) weight {
	switch {
	case h == nil:
		return weight{}
	case h.State == backends.Held:
		return weight{sellable: -1}
	case h.State == backends.Claimed && !h.LedgerOwed:
		return weight{sellable: -1, onHand: -1}
	default:
		return weight{}
	}
}

// move is what a change of a hold does to one level.
type move struct {
	key              backends.Key
	sellable, onHand int64
	owed             int64
}

// moves is the difference between two states of a hold, by key, without the keys where nothing
// moves.
func moves(was, is *backends.Hold) []move {
	var all []move
	add := func(h *backends.Hold, sign int64) {
		if w := weigh(h); w != (weight{}) {
			for _, u := range h.Takes() {
				all = append(all, move{key: u.Key, sellable: sign * w.sellable * u.Quantity, onHand: sign * w.onHand * u.Quantity})
			}
		}
	}
	add(was, -1)
	add(is, 1)
	return sumMoves(all)
}

// sumMoves sorts by key and adds up. It reuses all.
func sumMoves(all []move) []move {
	slices.SortFunc(all, func(a, b move) int { return a.key.Compare(b.key) })
	out := all[:0]
	for _, m := range all {
		if n := len(out); n > 0 && out[n-1].key == m.key {
			out[n-1].sellable += m.sellable
			out[n-1].onHand += m.onHand
			out[n-1].owed += m.owed
			continue
		}
		out = append(out, m)
	}
	return slices.DeleteFunc(out, func(m move) bool { return m.sellable == 0 && m.onHand == 0 && m.owed == 0 })
}
