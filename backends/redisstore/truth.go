package redisstore

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// renderAll gives the counters of all lines and locations, in their order.
func (s *Store) renderAll(shop backends.Shop, lines []backends.Line) ([]string, error) {
	keys := make([]string, 0, len(lines))
	for _, l := range lines {
		for _, loc := range l.Locations {
			k, err := s.names.stock(backends.Key{Shop: shop, Item: l.Item, Location: loc})
			if err != nil {
				return nil, err
			}
			keys = append(keys, k)
		}
	}
	return keys, nil
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

// Reserve grants the whole cart or refuses it.
func (s *Store) Reserve(ctx context.Context, t backends.Token, r *backends.ReserveRequest) (*backends.Decision, error) {
	counters, err := s.renderAll(r.Shop, r.Lines)
	if err != nil {
		return nil, err
	}
	keys := append([]string{s.names.hold(r.ID)}, counters...)
	v, err := s.write(ctx, s.fast, s.script(reserveScript, t, keys, string(r.ID), backends.Digest(r.Shop, r.Lines),
		strconv.FormatInt(r.TTL.Milliseconds(), 10), r.Caller, encodeBody(r.Shop, r.Lines)))
	if err != nil {
		return nil, err
	}
	p := replyOf(v)
	switch word := p.text(0); word {
	case "replayed", "ended":
		h, err := p.hold(r.ID)
		if err != nil {
			return nil, err
		}
		d := &backends.Decision{Op: backends.OpReserve, Outcome: backends.OutcomeEnded, Hold: h}
		if word == "replayed" {
			d.Outcome, d.Replayed = backends.OutcomeGranted, true
		}
		return d, nil
	case "unknown":
		i := int(p.num(1))
		if i >= len(r.Lines) || p.err() != nil {
			return nil, malformed("answer of a reserve", errReply)
		}
		l := r.Lines[i]
		return nil, &backends.UnknownStockError{Key: backends.Key{Shop: r.Shop, Item: l.Item, Location: l.Locations[0]}, Line: i}
	case "short":
		return shortOf(p, r)
	case "granted":
		return grantedOf(p, r)
	default:
		return nil, malformed("answer of a reserve", errReply)
	}
}

func shortOf(p *reply, r *backends.ReserveRequest) (*backends.Decision, error) {
	short, err := decodeShort(p.text(1), r.Lines)
	if err != nil {
		return nil, malformed("answer of a reserve", err)
	}
	seen, err := decodeSeen(p.text(2), r.Shop, r.Lines)
	if err != nil {
		return nil, malformed("answer of a reserve", err)
	}
	return &backends.Decision{Op: backends.OpReserve, Outcome: backends.OutcomeSoldOut, Short: short, Seen: seen}, p.err()
}

func grantedOf(p *reply, r *backends.ReserveRequest) (*backends.Decision, error) {
	h, err := p.hold(r.ID)
	if err != nil {
		return nil, err
	}
	h.Shop = r.Shop
	h.Lines = (&backends.Hold{Lines: r.Lines}).Clone().Lines
	seen, err := decodeSeen(p.text(2), r.Shop, r.Lines)
	if err != nil {
		return nil, malformed("answer of a reserve", err)
	}
	d, err := decided(backends.OpReserve, backends.OutcomeGranted, h, p.text(3), p.text(4) == "1")
	if err != nil {
		return nil, err
	}
	d.Seen = seen
	return d, p.err()
}

// Claim makes the hold claimed, whatever it was, unless nothing is known of it.
func (s *Store) Claim(ctx context.Context, t backends.Token, r *backends.ClaimRequest) (*backends.Decision, error) {
	body, digest := "", ""
	if len(r.Lines) > 0 {
		if _, err := s.renderAll(r.Shop, r.Lines); err != nil {
			return nil, err
		}
		body, digest = encodeBody(r.Shop, r.Lines), backends.Digest(r.Shop, r.Lines)
	}
	v, err := s.write(ctx, s.fast, s.script(claimScript, t, []string{s.names.hold(r.ID)}, string(r.ID), digest, r.Caller, body))
	if err != nil {
		return nil, err
	}
	p := replyOf(v)
	switch p.text(0) {
	case "notfound":
		return &backends.Decision{Op: backends.OpClaim, Outcome: backends.OutcomeNotFound}, nil
	case "replayed":
		h, err := p.hold(r.ID)
		if err != nil {
			return nil, err
		}
		return &backends.Decision{Op: backends.OpClaim, Outcome: backends.OutcomeClaimed, Hold: h, Replayed: true, LedgerPending: true}, nil
	case "claimed":
		return claimedOf(p, r.ID)
	default:
		return nil, malformed("answer of a claim", errReply)
	}
}

func claimedOf(p *reply, id backends.HoldID) (*backends.Decision, error) {
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

// Release gives the units back.
func (s *Store) Release(ctx context.Context, t backends.Token, r *backends.ReleaseRequest) (*backends.Decision, error) {
	v, err := s.write(ctx, s.fast, s.endCommand(t, r.ID, backends.OpRelease))
	if err != nil {
		return nil, err
	}
	return endedOf(replyOf(v), r.ID, backends.OpRelease, backends.OutcomeReleased)
}

func (s *Store) endCommand(t backends.Token, id backends.HoldID, op backends.Op) *command {
	return s.script(endScript, t, []string{s.names.hold(id)}, string(id), strconv.Itoa(int(op)))
}

// endedOf reads the answer of end.lua or extend.lua; nil for an expiry that was not due.
func endedOf(p *reply, id backends.HoldID, op backends.Op, o backends.Outcome) (*backends.Decision, error) {
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

// Extend moves the expiry of an open hold.
func (s *Store) Extend(ctx context.Context, t backends.Token, r *backends.ExtendRequest) (*backends.Decision, error) {
	v, err := s.write(ctx, s.fast, s.script(extendScript, t, []string{s.names.hold(r.ID)}, string(r.ID), strconv.FormatInt(r.TTL.Milliseconds(), 10)))
	if err != nil {
		return nil, err
	}
	return endedOf(replyOf(v), r.ID, backends.OpExtend, backends.OutcomeExtended)
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
	cmds := make([]*command, len(ids))
	for i, id := range ids {
		cmds[i] = s.endCommand(t, backends.HoldID(id), backends.OpExpire)
	}
	if err := s.bulk.send(ctx, cmds...); err != nil {
		return nil, nil, err
	}
	for i, c := range cmds {
		var d *backends.Decision
		v, cerr := c.result()
		if cerr == nil {
			d, cerr = endedOf(replyOf(v), backends.HoldID(ids[i]), backends.OpExpire, backends.OutcomeExpired)
		}
		switch {
		case errors.Is(cerr, backends.ErrDamaged):
			damage = append(damage, cerr)
		case cerr != nil:
			err = cerr // the others may have been done: go on
		case d != nil:
			done = append(done, d)
		}
	}
	return done, damage, err
}

// Admitted answers whether the fence admits t in the role asked about.
func (s *Store) Admitted(ctx context.Context, t backends.Token, asMirror bool) error {
	role := "truth"
	if asMirror {
		role = "mirror"
	}
	_, err := s.write(ctx, s.fast, s.script(admittedScript, t, nil, role))
	return err
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
