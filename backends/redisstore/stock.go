package redisstore

import (
	"context"
	"strconv"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

var takeRetainMillis = strconv.FormatInt(TakeRetain.Milliseconds(), 10)

var restockWords = map[backends.RestockKind]string{
	backends.RestockAdd: "add", backends.RestockSetOnHand: "onhand", backends.RestockSetSellable: "sellable",
}

// moved is the answer of stock.lua.
type moved struct {
	value    int64
	replayed bool
	entry    *backends.Entry
	dropped  bool
}

// moveStock runs one restock or count under its operation id.
func (s *Store) moveStock(ctx context.Context, t backends.Token, op backends.Op, id backends.OpID, k backends.Key, kind string, amount int64) (*moved, error) {
	counter, err := s.names.stock(k)
	if err != nil {
		return nil, err
	}
	v, err := s.write(ctx, s.fast, s.script(stockScript, t, []string{s.names.op(id), counter},
		string(id), field(k), kind, strconv.FormatInt(amount, 10), s.takeRetain()))
	if err != nil {
		return nil, err
	}
	p := replyOf(v)
	m := &moved{value: p.num(1), replayed: p.text(0) == "replayed"}
	if m.replayed && op == backends.OpCount {
		return m, p.err()
	}
	if m.replayed {
		op = backends.OpReemit
	}
	m.dropped = p.text(3) == "1"
	if m.entry, err = entryAt(p.text(2), op); err != nil {
		return nil, err
	}
	if m.entry != nil {
		m.entry.Level = &backends.LevelChange{
			Key: k, Taken: p.num(4), OpID: id, OnHandDelta: p.num(7),
			Version: backends.Version{Epoch: uint64(p.num(5)), N: uint64(p.num(6))}, //nolint:gosec // the script writes no negative ones
		}
		if op == backends.OpCount {
			m.entry.Level.Answer = m.value
		}
	}
	return m, p.err()
}

// takeRetain is TakeRetain, but no longer than anything else is kept.
func (s *Store) takeRetain() string {
	if s.retain < TakeRetain {
		return s.retainMillis
	}
	return takeRetainMillis
}

// Restock changes the units on hand.
func (s *Store) Restock(ctx context.Context, t backends.Token, r *backends.RestockRequest) (*backends.Decision, error) {
	word, ok := restockWords[r.Kind]
	if !ok {
		return nil, &backends.FieldError{Field: "kind of restock", Value: strconv.Itoa(int(r.Kind)), Bound: "add, set on hand, set sellable", Next: "give one of them"}
	}
	m, err := s.moveStock(ctx, t, backends.OpRestock, r.OpID, r.Key, word, r.Amount)
	if err != nil {
		return nil, err
	}
	return &backends.Decision{Op: backends.OpRestock, Outcome: backends.OutcomeRestocked, Replayed: m.replayed, Entry: m.entry, Dropped: m.dropped}, nil
}

// Count answers as Redis does.
func (s *Store) Count(ctx context.Context, t backends.Token, r *backends.CountRequest) (*backends.CountResult, error) {
	if r.Delta < -backends.MaxOnHand || r.Delta > backends.MaxOnHand {
		return nil, &backends.FieldError{Field: "quantity", Value: strconv.FormatInt(r.Delta, 10), Bound: "up to " + strconv.FormatInt(backends.MaxOnHand, 10) + " units", Next: "give the number of units"}
	}
	m, err := s.moveStock(ctx, t, backends.OpCount, r.OpID, r.Key, "count", r.Delta)
	if err != nil {
		return nil, err
	}
	return &backends.CountResult{Value: m.value, Replayed: m.replayed, Entry: m.entry}, nil
}

// Now reads the server's clock.
func (s *Store) Now(ctx context.Context) (backends.Instant, error) {
	v, err := s.one(ctx, s.fast, plain("TIME"))
	if err != nil {
		return 0, err
	}
	p := replyOf(v)
	at := time.Unix(p.num(0), p.num(1)*int64(time.Microsecond)).UnixMilli()
	return backends.Instant(at), p.err()
}
