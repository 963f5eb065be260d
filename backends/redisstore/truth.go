package redisstore

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// nameable gives a *FieldError for the first level that the template cannot name.
func (s *Store) nameable(shop backends.Shop, lines []backends.Line) error {
	for _, l := range lines {
		for _, loc := range l.Locations {
			if _, err := s.level(backends.Key{Shop: shop, Item: l.Item, Location: loc}); err != nil {
				return err
			}
		}
	}
	return nil
}

// entryAt makes an entry of its place in the outbox; nil when there is none. A place begins with
// the millisecond at which the entry was written.
func entryAt(seq string, op backends.Op) (*backends.Entry, error) {
	if seq == "" {
		return nil, nil
	}
	ms, _, ok := strings.Cut(seq, "-")
	at, err := strconv.ParseInt(ms, 10, 64)
	if !ok || err != nil {
		return nil, malformed("place in the outbox "+abbreviate(seq), errReply)
	}
	return &backends.Entry{Seq: seq, Op: op, At: backends.Instant(at)}, nil
}

// decided makes the answer of an operation that changed a hold.
func decided(op backends.Op, o backends.Outcome, h *backends.Hold, seq string, dropped bool) (*backends.Decision, error) {
	d := &backends.Decision{Op: op, Outcome: o, Hold: h, Dropped: dropped}
	e, err := entryAt(seq, op)
	if err != nil {
		return nil, err
	}
	if e != nil {
		e.Hold, d.Entry = h, e
	}
	return d, nil
}

// reserveMember is a reserve; levels are those of all lines and locations in order.
type reserveMember struct {
	id     string
	caller string
	lines  []backends.Line // a copy, of which what is behind a line is not looked at
	digest string
	ttl    int64
	body   string
	levels []*levelName
}

var (
	kindReserve, kindClaim, kindEnd, kindExtend = "reserve", "claim", "end", "extend"
	bits                                        = map[bool]*string{false: new("0"), true: new("1")}
)

func (m *reserveMember) write(c *call) {
	c.head(&kindReserve, 5+3*len(m.lines)+len(m.levels))
	c.text(&m.id)
	c.text(&m.digest)
	c.int(&m.ttl)
	c.text(&m.caller)
	c.text(&m.body)
	n := 0
	for i := range m.lines {
		l := &m.lines[i]
		c.int(&l.Quantity)
		c.text(bits[l.Split])
		c.number(len(l.Locations))
		for range l.Locations {
			c.at(m.levels[n])
			n++
		}
	}
}

func (m *reserveMember) weight() int { return 1 + len(m.levels) }

// Reserve grants the whole cart or refuses it.
func (s *Store) Reserve(ctx context.Context, t backends.Token, r *backends.ReserveRequest) (*backends.Decision, error) {
	m := &reserveMember{id: string(r.ID), caller: r.Caller, lines: slices.Clone(r.Lines), levels: make([]*levelName, 0, len(r.Lines))}
	for _, l := range r.Lines {
		for _, loc := range l.Locations {
			n, err := s.level(backends.Key{Shop: r.Shop, Item: l.Item, Location: loc})
			if err != nil {
				return nil, err
			}
			m.levels = append(m.levels, n)
		}
	}
	m.digest, m.ttl, m.body = backends.Digest(r.Shop, r.Lines), r.TTL.Milliseconds(), encodeBody(r.Shop, r.Lines)
	vs, err := s.fold(ctx, s.fast, t, asTruth, m)
	if err != nil {
		return nil, err
	}
	v, err := verdictOf(vs[0], t)
	if err != nil {
		return nil, err
	}
	return reservedOf(&v, t, r)
}

// reservedOf reads the verdict of reserve.lua.
func reservedOf(v *verdict, t backends.Token, r *backends.ReserveRequest) (*backends.Decision, error) {
	switch word := v.text(0); word {
	case "replayed", "ended":
		h, err := v.hold(r.ID)
		if err != nil {
			return nil, err
		}
		d := &backends.Decision{Op: backends.OpReserve, Outcome: backends.OutcomeEnded, Hold: h}
		if word == "replayed" {
			d.Outcome, d.Replayed = backends.OutcomeGranted, true
		}
		return d, nil
	case "unknown":
		i := int(v.num(1))
		if i < 0 || i >= len(r.Lines) || v.err() != nil {
			return nil, malformed("answer of a reserve", errReply)
		}
		l := r.Lines[i]
		return nil, &backends.UnknownStockError{Key: backends.Key{Shop: r.Shop, Item: l.Item, Location: l.Locations[0]}, Line: i}
	case "short":
		return shortOf(v, r)
	case "granted":
		return grantedOf(v, t, r)
	default:
		return nil, malformed("answer of a reserve", errReply)
	}
}

func shortOf(v *verdict, r *backends.ReserveRequest) (*backends.Decision, error) {
	short, err := decodeShort(v.text(1), r.Lines)
	if err != nil {
		return nil, malformed("answer of a reserve", err)
	}
	seen, err := decodeSeen(v.text(2), r.Shop, r.Lines)
	if err != nil {
		return nil, malformed("answer of a reserve", err)
	}
	return &backends.Decision{Op: backends.OpReserve, Outcome: backends.OutcomeSoldOut, Short: short, Seen: seen}, v.err()
}

// grantedOf makes the hold of what the script decided; the rest is the caller's.
func grantedOf(v *verdict, t backends.Token, r *backends.ReserveRequest) (*backends.Decision, error) {
	h := &backends.Hold{
		ID: r.ID, Shop: r.Shop, Caller: r.Caller, State: backends.Held, Version: backends.Version{Epoch: t.Epoch, N: 1},
		CreatedAt: backends.Instant(v.num(1)), ExpiresAt: backends.Instant(v.num(2)),
		Lines: (&backends.Hold{Lines: r.Lines}).Clone().Lines,
	}
	var err error
	if h.Allocs, err = decodeAllocs(v.text(3)); err != nil {
		return nil, malformed("answer of a reserve", err)
	}
	seen, err := decodeSeen(v.text(4), r.Shop, r.Lines)
	if err != nil {
		return nil, malformed("answer of a reserve", err)
	}
	d, err := decided(backends.OpReserve, backends.OutcomeGranted, h, v.text(5), v.text(6) == "1")
	if err != nil {
		return nil, err
	}
	d.Seen = seen
	return d, v.err()
}

type claimMember struct {
	id, caller   string
	lines        int
	digest, body string
}

func (m *claimMember) write(c *call) {
	c.head(&kindClaim, 4)
	c.text(&m.id)
	c.text(&m.digest)
	c.text(&m.caller)
	c.text(&m.body)
}

func (m *claimMember) weight() int { return 1 + m.lines }

// Claim makes the hold claimed, whatever it was, unless nothing is known of it.
func (s *Store) Claim(ctx context.Context, t backends.Token, r *backends.ClaimRequest) (*backends.Decision, error) {
	m := &claimMember{id: string(r.ID), caller: r.Caller, lines: len(r.Lines)}
	if len(r.Lines) > 0 {
		if err := s.nameable(r.Shop, r.Lines); err != nil {
			return nil, err
		}
		m.body, m.digest = encodeBody(r.Shop, r.Lines), backends.Digest(r.Shop, r.Lines)
	}
	vs, err := s.fold(ctx, s.fast, t, asTruth, m)
	if err != nil {
		return nil, err
	}
	v, err := verdictOf(vs[0], t)
	if err != nil {
		return nil, err
	}
	switch v.text(0) {
	case "notfound":
		return &backends.Decision{Op: backends.OpClaim, Outcome: backends.OutcomeNotFound}, nil
	case "replayed":
		h, err := v.hold(r.ID)
		if err != nil {
			return nil, err
		}
		return &backends.Decision{Op: backends.OpClaim, Outcome: backends.OutcomeClaimed, Hold: h, Replayed: true, LedgerPending: true}, nil
	case "claimed":
		return claimedOf(&v, r.ID)
	default:
		return nil, malformed("answer of a claim", errReply)
	}
}

func claimedOf(p *verdict, id backends.HoldID) (*backends.Decision, error) {
	h, err := p.hold(id)
	if err != nil {
		return nil, err
	}
	d, err := decided(backends.OpClaim, backends.OutcomeClaimed, h, p.text(2), false)
	if err != nil {
		return nil, err
	}
	d.LedgerPending = true
	gone, err := decodeUnits(p.text(3))
	if err != nil {
		return nil, malformed("answer of a claim", err)
	}
	for _, u := range gone {
		d.Apologies = append(d.Apologies, backends.Apology{Hold: id, Key: u.Key, Quantity: u.Quantity, Reason: p.text(4), At: backends.Instant(p.num(5))})
	}
	return d, p.err()
}

type endMember struct {
	id backends.HoldID
	op int64
}

func (m *endMember) write(c *call) {
	c.head(&kindEnd, 2)
	c.text((*string)(&m.id))
	c.int(&m.op)
}

// weight: how many lines the hold has is known to the script alone.
func (m *endMember) weight() int { return 1 }

// Release gives the units back.
func (s *Store) Release(ctx context.Context, t backends.Token, r *backends.ReleaseRequest) (*backends.Decision, error) {
	vs, err := s.fold(ctx, s.fast, t, asTruth, &endMember{r.ID, int64(backends.OpRelease)})
	if err != nil {
		return nil, err
	}
	return endedOf(vs[0], t, r.ID, backends.OpRelease, backends.OutcomeReleased)
}

// endedOf reads the answer of end.lua or extend.lua; nil for an expiry that was not due.
func endedOf(text string, t backends.Token, id backends.HoldID, op backends.Op, o backends.Outcome) (*backends.Decision, error) {
	v, err := verdictOf(text, t)
	if err != nil {
		return nil, err
	}
	p := &v
	word := p.text(0)
	switch word {
	case "none":
		return nil, nil
	case "notfound":
		return &backends.Decision{Op: op, Outcome: backends.OutcomeNotFound}, nil
	case "replayed", "ended", "done":
	default:
		return nil, malformed("answer of a "+op.String(), errReply)
	}
	h, err := p.hold(id)
	if err != nil {
		return nil, err
	}
	switch word {
	case "replayed":
		return &backends.Decision{Op: op, Outcome: o, Hold: h, Replayed: true}, nil
	case "ended":
		return &backends.Decision{Op: op, Outcome: backends.OutcomeEnded, Hold: h}, nil
	}
	d, err := decided(op, o, h, p.text(2), p.text(3) == "1")
	if err != nil {
		return nil, err
	}
	return d, p.err()
}

type extendMember struct {
	id  backends.HoldID
	ttl int64
}

func (m *extendMember) write(c *call) {
	c.head(&kindExtend, 2)
	c.text((*string)(&m.id))
	c.int(&m.ttl)
}

func (m *extendMember) weight() int { return 1 }

// Extend moves the expiry of an open hold.
func (s *Store) Extend(ctx context.Context, t backends.Token, r *backends.ExtendRequest) (*backends.Decision, error) {
	vs, err := s.fold(ctx, s.fast, t, asTruth, &extendMember{r.ID, r.TTL.Milliseconds()})
	if err != nil {
		return nil, err
	}
	return endedOf(vs[0], t, r.ID, backends.OpExtend, backends.OutcomeExtended)
}

// Expire ends holds whose time has passed, in the order in which it passed. Each is one atomic
// step, so a damaged hold keeps no other from its expiry; its error is told when there was nothing
// else to do.
func (s *Store) Expire(ctx context.Context, t backends.Token, limit int) ([]*backends.Decision, error) {
	limit = min(max(0, limit), backends.MaxPage)
	var out []*backends.Decision
	var damage []error
	for {
		// Damaged ones stay at the head of the index: step over them.
		want := min(limit-len(out), expireChunk)
		v, err := s.write(ctx, s.bulk, s.script(dueScript, t, nil, strconv.Itoa(len(damage)), strconv.Itoa(max(1, want))))
		if err != nil {
			return out, err
		}
		ids, err := texts(v)
		if err != nil {
			return out, err
		}
		if len(ids) == 0 || want <= 0 {
			break
		}
		done, broken, err := s.expireSome(ctx, t, ids)
		out, damage = append(out, done...), append(damage, broken...)
		if err != nil {
			return out, err
		}
		if len(ids) < want || len(damage) >= maxExpireDamage {
			break
		}
	}
	if len(out) == 0 && len(damage) > 0 {
		return nil, errors.Join(damage...)
	}
	return out, nil
}

const (
	// expireChunk bounds the expiries that are sent at once.
	expireChunk = 64
	// maxExpireDamage bounds the damaged holds that one call steps over.
	maxExpireDamage = 256
)

func (s *Store) expireSome(ctx context.Context, t backends.Token, ids []string) (done []*backends.Decision, damage []error, err error) {
	members := make([]member, len(ids))
	for i, id := range ids {
		members[i] = &endMember{backends.HoldID(id), int64(backends.OpExpire)}
	}
	vs, err := s.fold(ctx, s.bulk, t, asTruth, members...)
	for i, text := range vs {
		if text == "" {
			continue // the call failed before it
		}
		d, verr := endedOf(text, t, backends.HoldID(ids[i]), backends.OpExpire, backends.OutcomeExpired)
		switch {
		case errors.Is(verr, backends.ErrDamaged):
			damage = append(damage, verr)
		case verr != nil:
			err = verr // the others may have been done: go on
		case d != nil:
			done = append(done, d)
		}
	}
	return done, damage, err
}

// Admitted answers whether the fence admits t in the role asked about.
func (s *Store) Admitted(ctx context.Context, t backends.Token, asMirror bool) error {
	s.reconsider(ctx)
	j := newJob(ctx)
	defer j.free()
	j.look, j.token, j.role = true, t, asTruth
	if asMirror {
		j.role = asMirrorRole
	}
	if err := s.fast.send(ctx, j); err != nil {
		return err
	}
	return j.err
}

// texts reads an array of texts.
func texts(v any) ([]string, error) {
	parts, ok := v.([]any)
	if !ok {
		return nil, malformed("answer of a script", errReply)
	}
	out := make([]string, len(parts))
	for i, p := range parts {
		if out[i], ok = p.(string); !ok {
			return nil, malformed("answer of a script", errReply)
		}
	}
	return out, nil
}
