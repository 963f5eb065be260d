package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/crossfade-proxy/crossfade/backends"
)

// applyChunk bounds the entries that are sent in one pipeline.
const applyChunk = 128

// errNothing: an entry with neither a hold nor a level.
var errNothing = errors.New("the entry has neither a hold nor a level")

// Apply follows entries of the other store. Each is one atomic step; they are done in order.
func (s *Store) Apply(ctx context.Context, t backends.Token, asOf backends.Instant, entries []backends.Entry) ([]backends.Applied, error) {
	out := make([]backends.Applied, 0, len(entries))
	if len(entries) == 0 {
		return out, s.Admitted(ctx, t, true)
	}
	s.reconsider(ctx)
	for from := 0; from < len(entries); from += applyChunk {
		part, err := s.applySome(ctx, t, asOf, entries[from:min(from+applyChunk, len(entries))])
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	return out, nil
}

func (s *Store) applySome(ctx context.Context, t backends.Token, asOf backends.Instant, entries []backends.Entry) ([]backends.Applied, error) {
	out := make([]backends.Applied, len(entries))
	cmds := make([]*command, len(entries))
	var send []*command
	for i := range entries {
		out[i].Seq = entries[i].Seq
		if cmds[i], out[i].Err = s.applyCommand(t, asOf, &entries[i]); out[i].Err == nil {
			send = append(send, cmds[i])
		}
	}
	if len(send) == 0 {
		return out, s.Admitted(ctx, t, true)
	}
	if err := s.fast.send(ctx, send...); err != nil {
		return nil, err
	}
	for i, c := range cmds {
		if c == nil {
			continue
		}
		v, err := c.result()
		if err == nil {
			err = appliedOf(&out[i], replyOf(v), &entries[i])
		}
		if err == nil {
			continue
		}
		if !ofEntry(err) {
			return nil, err
		}
		out[i] = backends.Applied{Seq: entries[i].Seq, Err: err}
	}
	return out, nil
}

// ofEntry tells an error that belongs to one entry from one of the whole batch.
func ofEntry(err error) bool {
	return errors.Is(err, backends.ErrDamaged) || errors.Is(err, backends.ErrOutOfOrder) || backends.IsRejection(err)
}

// applyCommand makes the call for one entry, or tells why there is none.
func (s *Store) applyCommand(t backends.Token, asOf backends.Instant, e *backends.Entry) (*command, error) {
	args := []string{strconv.FormatInt(int64(asOf), 10), strconv.FormatInt((s.retain / 2).Milliseconds(), 10)}
	switch {
	case e.Level != nil:
		l := e.Level
		counter, err := s.names.stock(l.Key)
		if err != nil {
			return nil, err
		}
		keys := []string{counter}
		if l.OpID != "" {
			keys = append(keys, s.names.op(l.OpID))
		}
		return s.script(applyScript, t, keys, append(args, "level", field(l.Key), strconv.FormatInt(l.Taken, 10),
			strconv.FormatUint(l.Version.Epoch, 10), strconv.FormatUint(l.Version.N, 10), string(l.OpID),
			resultOf(l), s.takeRetain(), bit(e.Op == backends.OpCount))...), nil
	case e.Hold != nil:
		record, err := encodeHold(e.Hold)
		if err != nil {
			return nil, err
		}
		if _, err := s.renderAll(e.Hold.Shop, e.Hold.Lines); err != nil {
			return nil, err
		}
		for _, u := range e.Hold.Takes() {
			if _, err := s.names.stock(u.Key); err != nil {
				return nil, err
			}
		}
		return s.script(applyScript, t, []string{s.names.hold(e.Hold.ID)}, append(args, "hold", string(e.Hold.ID), record)...), nil
	default:
		return nil, fmt.Errorf("%w: %w", backends.ErrDamaged, errNothing)
	}
}

// resultOf is what became of an entry's operation, as the scripts write it.
func resultOf(l *backends.LevelChange) string {
	if l.Void {
		return "0 0 void"
	}
	return strconv.FormatInt(l.OnHandDelta, 10) + " " + strconv.FormatInt(l.Answer, 10)
}

func appliedOf(a *backends.Applied, p *reply, e *backends.Entry) error {
	a.Changed = p.num(0) == 1
	var err error
	if e.Hold != nil {
		if a.Own, err = decodeOwn(p.text(1), p.text(3), e.Hold.Shop, e.Hold.Lines); err != nil {
			return malformed("own decision of hold "+string(e.Hold.ID), err)
		}
	}
	if a.Debt, err = decodeUnits(p.text(2)); err != nil {
		return malformed("answer of a mirror", err)
	}
	return p.err()
}

// Probe decides a reserve by a read, and takes nothing.
func (s *Store) Probe(ctx context.Context, r *backends.ReserveRequest) (*backends.OwnDecision, error) {
	keys := backends.Keys(r.Shop, r.Lines)
	if _, err := s.renderAll(r.Shop, r.Lines); err != nil {
		return nil, err
	}
	ls, err := s.readLevels(ctx, s.fast, keys)
	if err != nil {
		return nil, err
	}
	sellable := make(map[backends.Key]int64, len(ls))
	for _, l := range ls {
		sellable[l.Key] = l.Sellable()
	}
	o := &backends.OwnDecision{Outcome: backends.OutcomeGranted}
	for _, k := range keys {
		o.Seen = append(o.Seen, backends.Units{Key: k, Quantity: sellable[k]})
	}
	for i, l := range r.Lines {
		known := false
		for _, loc := range l.Locations {
			_, has := sellable[backends.Key{Shop: r.Shop, Item: l.Item, Location: loc}]
			known = known || has
		}
		if !known {
			return nil, &backends.UnknownStockError{Key: backends.Key{Shop: r.Shop, Item: l.Item, Location: l.Locations[0]}, Line: i}
		}
	}
	o.Allocs, o.Short = backends.Allocate(r.Shop, r.Lines, func(k backends.Key) int64 { return sellable[k] })
	if len(o.Short) > 0 {
		o.Outcome = backends.OutcomeSoldOut
	}
	return o, nil
}
