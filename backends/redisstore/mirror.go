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
	if len(entries) == 0 {
		return []backends.Applied{}, s.Admitted(ctx, t, true)
	}
	return s.applyAs(ctx, asMirrorRole, t, asOf, entries)
}

// Restore follows states of the other store in the truth.
func (s *Store) Restore(ctx context.Context, t backends.Token, asOf backends.Instant, entries []backends.Entry) ([]backends.Applied, error) {
	return s.applyAs(ctx, asRestored, t, asOf, entries)
}

func (s *Store) applyAs(ctx context.Context, role string, t backends.Token, asOf backends.Instant, entries []backends.Entry) ([]backends.Applied, error) {
	out := make([]backends.Applied, 0, len(entries))
	s.reconsider(ctx)
	for from := 0; from < len(entries); from += applyChunk {
		part, err := s.applySome(ctx, role, t, asOf, entries[from:min(from+applyChunk, len(entries))])
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	return out, nil
}

func (s *Store) applySome(ctx context.Context, role string, t backends.Token, asOf backends.Instant, entries []backends.Entry) ([]backends.Applied, error) {
	out := make([]backends.Applied, len(entries))
	at := attempt{asOf: int64(asOf), age: (s.retain / 2).Milliseconds()}
	members, whose := make([]member, 0, len(entries)), make([]int, 0, len(entries))
	for i := range entries {
		out[i].Seq = entries[i].Seq
		var m member
		if m, out[i].Err = s.follow(at, &entries[i]); out[i].Err == nil {
			members, whose = append(members, m), append(whose, i)
		}
	}
	if len(members) == 0 && role == asMirrorRole {
		return out, s.Admitted(ctx, t, true)
	}
	if len(members) == 0 {
		return out, nil
	}
	vs, err := s.fold(ctx, s.fast, t, role, members...)
	if err != nil {
		return nil, err
	}
	for n, i := range whose {
		v, err := verdictOf(vs[n], t)
		if err == nil {
			err = appliedOf(&out[i], &v, &entries[i])
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

// attempt is what each member of a mirror attempt says of it: the time beforehand, and the greatest age.
type attempt struct{ asOf, age int64 }

func (a *attempt) write(c *call) {
	c.int(&a.asOf)
	c.int(&a.age)
}

type levelFollower struct {
	attempt
	level  *levelName
	change backends.LevelChange
	result string
	count  bool
}

var kindFollowLevel, kindFollowHold = "follow_level", "follow_hold"

func (m *levelFollower) write(c *call) {
	l := &m.change
	c.head(&kindFollowLevel, 9)
	m.attempt.write(c)
	c.at(m.level)
	c.int(&l.Taken)
	c.body = append(c.body, &l.Version.Epoch, &l.Version.N)
	c.text((*string)(&l.OpID))
	c.text(&m.result)
	c.text(bits[m.count])
}

func (m *levelFollower) weight() int { return 1 }

type holdFollower struct {
	attempt
	id     string
	record string
	lines  int
}

// weight: its levels are looked at to decide, and again to move stock.
func (m *holdFollower) weight() int { return 1 + 2*m.lines }

func (m *holdFollower) write(c *call) {
	c.head(&kindFollowHold, 4)
	m.attempt.write(c)
	c.text(&m.id)
	c.text(&m.record)
}

// follow makes the member for one entry, or tells why there is none.
func (s *Store) follow(at attempt, e *backends.Entry) (member, error) {
	switch {
	case e.Level != nil:
		n, err := s.level(e.Level.Key)
		if err != nil {
			return nil, err
		}
		return &levelFollower{attempt: at, level: n, change: *e.Level, result: resultOf(e.Level), count: e.Op == backends.OpCount}, nil
	case e.Hold != nil:
		record, err := encodeHold(e.Hold)
		if err != nil {
			return nil, err
		}
		if err := s.nameable(e.Hold.Shop, e.Hold.Lines); err != nil {
			return nil, err
		}
		for _, u := range e.Hold.Takes() {
			if _, err := s.level(u.Key); err != nil {
				return nil, err
			}
		}
		return &holdFollower{attempt: at, id: string(e.Hold.ID), record: record, lines: len(e.Hold.Lines)}, nil
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

func appliedOf(a *backends.Applied, p *verdict, e *backends.Entry) error {
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
	if err := s.nameable(r.Shop, r.Lines); err != nil {
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
