package redisstore

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Words of stock.lua.
var (
	kindStock    = "stock"
	wordCount    = "count"
	restockWords = map[backends.RestockKind]*string{
		backends.RestockAdd: new("add"), backends.RestockSetOnHand: new("onhand"), backends.RestockSetSellable: new("sellable"),
	}
)

// stockMember is one restock or count under its operation id.
type stockMember struct {
	id     string
	level  *levelName
	word   *string
	amount int64
	tried  string
}

func (m *stockMember) write(c *call) {
	if c.script == countsScript {
		m.writeFresh(c)
		return
	}
	c.head(&kindStock, 5)
	c.text(&m.id)
	c.at(m.level)
	c.text(m.word)
	c.int(&m.amount)
	c.text(&m.tried)
}

func (m *stockMember) weight() int { return 1 }

// writeFresh adds a count to a call of counts.lua.
func (m *stockMember) writeFresh(c *call) {
	c.at(m.level)
	c.int(&m.amount)
	if len(c.ids) > 0 {
		c.ids = append(c.ids, partOfVerdict...)
	}
	c.ids = append(c.ids, m.id...)
}

// moved is the answer of stock.lua.
type moved struct {
	value    int64
	replayed bool
	entry    *backends.Entry
	dropped  bool
}

// movedOf reads it.
func movedOf(text string, t backends.Token, op backends.Op, id backends.OpID, k backends.Key) (m moved, err error) {
	v, err := verdictOf(text, t)
	if err != nil {
		return m, err
	}
	m.value, m.replayed = v.num(1), v.text(0) == "replayed"
	if m.replayed && op == backends.OpCount || v.n == 2 {
		return m, v.err()
	}
	if m.replayed {
		op = backends.OpReemit
	}
	return m, m.emitted(&v, 2, op, id, k)
}

// freshOf reads the answer of counts.lua: the same without its first word.
func freshOf(text string, t backends.Token, id backends.OpID, k backends.Key) (m moved, err error) {
	v, err := verdictOf(text, t)
	if err != nil {
		return m, err
	}
	m.value = v.num(0)
	if v.n == 1 {
		return m, v.err()
	}
	return m, m.emitted(&v, 1, backends.OpCount, id, k)
}

// emitted reads what was written to the outbox, from part i on.
func (m *moved) emitted(v *verdict, i int, op backends.Op, id backends.OpID, k backends.Key) (err error) {
	m.dropped = v.text(i+1) == "1"
	if m.entry, err = entryAt(v.text(i), op); err != nil {
		return err
	}
	if m.entry != nil {
		m.entry.Level = &backends.LevelChange{
			Key: k, Taken: v.num(i + 2), OpID: id, OnHandDelta: v.num(i + 5),
			Version: backends.Version{Epoch: uint64(v.num(i + 3)), N: uint64(v.num(i + 4))}, //nolint:gosec // the script writes no negative ones
		}
		if op == backends.OpCount {
			m.entry.Level.Answer = m.value
		}
	}
	return v.err()
}

// Restock changes the units on hand.
func (s *Store) Restock(ctx context.Context, t backends.Token, r *backends.RestockRequest) (*backends.Decision, error) {
	word, ok := restockWords[r.Kind]
	if !ok {
		return nil, &backends.FieldError{Field: "kind of restock", Value: strconv.Itoa(int(r.Kind)), Bound: "add, set on hand, set sellable", Next: "give one of them"}
	}
	level, err := s.level(r.Key)
	if err != nil {
		return nil, err
	}
	vs, err := s.fold(ctx, s.fast, t, asTruth, &stockMember{id: string(r.OpID), level: level, word: word, amount: r.Amount})
	if err != nil {
		return nil, err
	}
	m, err := movedOf(vs[0], t, backends.OpRestock, r.OpID, r.Key)
	if err != nil {
		return nil, err
	}
	return &backends.Decision{Op: backends.OpRestock, Outcome: backends.OutcomeRestocked, Replayed: m.replayed, Entry: m.entry, Dropped: m.dropped}, nil
}

// countMember checks a count and makes its member.
func (s *Store) countMember(r *backends.CountRequest) (m stockMember, err error) {
	if r.Delta < -backends.MaxOnHand || r.Delta > backends.MaxOnHand {
		return m, &backends.FieldError{Field: "quantity", Value: strconv.FormatInt(r.Delta, 10), Bound: "up to " + strconv.FormatInt(backends.MaxOnHand, 10) + " units", Next: "give the number of units"}
	}
	level, err := s.level(r.Key)
	return stockMember{id: string(r.OpID), level: level, word: &wordCount, amount: r.Delta, tried: r.Tried}, err
}

// Count answers as Redis does.
func (s *Store) Count(ctx context.Context, t backends.Token, r *backends.CountRequest) (*backends.CountResult, error) {
	m, err := s.countMember(r)
	if err != nil {
		return nil, err
	}
	j := newJob(ctx)
	defer j.free()
	j.members = append(j.members, &m)
	if err := s.count(ctx, t, j, r); err != nil {
		return nil, err
	}
	return j.countOf(0, t, r)
}

// Counts does counts in their order, of a great many the first. It fills backends.BatchCounter.
func (s *Store) Counts(ctx context.Context, t backends.Token, rs []*backends.CountRequest) []backends.CountAnswer {
	out := make([]backends.CountAnswer, len(rs))
	rs = rs[:min(len(rs), foldMembers)]
	made := make([]stockMember, len(rs))
	j := newJob(ctx)
	defer j.free()
	asked := make([]*backends.CountRequest, 0, len(rs))
	for i, r := range rs {
		if made[i], out[i].Err = s.countMember(r); out[i].Err == nil {
			j.members, asked = append(j.members, &made[i]), append(asked, r)
		}
	}
	if len(asked) == 0 {
		return out
	}
	err := s.count(ctx, t, j, asked...)
	n := 0
	for i, r := range rs {
		switch {
		case out[i].Err != nil:
			continue
		case err != nil && (n >= len(j.answered) || j.answered[n] == ""):
			out[i].Err = err // of the call
		default:
			out[i].Result, out[i].Err = j.countOf(n, t, r)
		}
		n++
	}
	return out
}

// count sends counts. Those that are all fresh go into a call of counts.lua; of an attempt whose outcome is
// unknown each keeps the call.
func (s *Store) count(ctx context.Context, t backends.Token, j *job, rs ...*backends.CountRequest) (err error) {
	j.token, j.role, j.script = t, asTruth, countsScript
	for _, r := range rs {
		if !r.Fresh || r.Tried != "" || backends.CheckID("operation id", string(r.OpID)) != nil {
			j.script = foldScript
			break
		}
	}
	if j.answered, err = s.answer(ctx, s.fast, j); err != nil {
		j.note(err, rs...)
	}
	return err
}

// note has counts know the call of counts.lua in which they may have been done.
func (j *job) note(err error, rs ...*backends.CountRequest) {
	if j.script != countsScript || backends.IsRejection(err) || errors.Is(err, backends.ErrUnavailable) {
		return
	}
	id := j.tried
	if id == nil {
		id = j.call.Load()
	}
	if id == nil {
		return // it was in none
	}
	for _, r := range rs {
		r.Fresh, r.Tried = false, *id
	}
}

// countOf reads the answer to count i.
func (j *job) countOf(i int, t backends.Token, r *backends.CountRequest) (*backends.CountResult, error) {
	var m moved
	var err error
	if j.script == countsScript {
		m, err = freshOf(j.answered[i], t, r.OpID, r.Key)
	} else {
		m, err = movedOf(j.answered[i], t, backends.OpCount, r.OpID, r.Key)
	}
	if err != nil {
		j.note(err, r)
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
