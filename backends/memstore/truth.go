package memstore

import (
	"context"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Reserve grants the whole cart or refuses it.
func (s *Store) Reserve(ctx context.Context, t backends.Token, r *backends.ReserveRequest) (*backends.Decision, error) {
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	if rec := d.holds[r.ID]; rec != nil {
		return reserveAgain(rec.hold, r)
	}
	if err := d.checkKnown(r.Shop, r.Lines); err != nil {
		return nil, err
	}
	seen := d.seen(r.Shop, r.Lines)
	allocs, short := backends.Allocate(r.Shop, r.Lines, d.sellable)
	if len(short) > 0 {
		return &backends.Decision{Op: backends.OpReserve, Outcome: backends.OutcomeSoldOut, Short: short, Seen: seen}, nil
	}
	now := d.opt.Clock()
	rec := d.put(nil, &backends.Hold{
		ID: r.ID, Shop: r.Shop, Caller: r.Caller, Lines: copyLines(r.Lines), Allocs: allocs,
		State: backends.Held, Version: backends.Version{}.Next(t.Epoch),
		CreatedAt: now, ExpiresAt: now.Add(r.TTL),
	})
	dec := d.decided(backends.OpReserve, backends.OutcomeGranted, rec)
	dec.Seen = seen
	return dec, nil
}

// reserveAgain answers a reserve whose id is known.
func reserveAgain(h *backends.Hold, r *backends.ReserveRequest) (*backends.Decision, error) {
	switch {
	case bare(h):
		return answered(backends.OpReserve, backends.OutcomeEnded, h), nil
	case h.Shop != r.Shop || !slices.EqualFunc(h.Lines, r.Lines, equalLine):
		return nil, backends.ErrHoldConflict
	case h.State.Open():
		dec := answered(backends.OpReserve, backends.OutcomeGranted, h)
		dec.Replayed = true
		return dec, nil
	default:
		return answered(backends.OpReserve, backends.OutcomeEnded, h), nil
	}
}

// Claim makes the hold claimed, whatever it was, unless nothing is known of it.
func (s *Store) Claim(ctx context.Context, t backends.Token, r *backends.ClaimRequest) (*backends.Decision, error) {
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	rec := d.holds[r.ID]
	now := d.opt.Clock()
	var h backends.Hold
	switch {
	case rec != nil && rec.hold.State == backends.Claimed:
		dec := answered(backends.OpClaim, backends.OutcomeClaimed, rec.hold)
		dec.Replayed, dec.LedgerPending = true, d.opt.Side == backends.SideRedis
		return dec, nil
	case rec != nil && !bare(rec.hold):
		h = *rec.hold
	case len(r.Lines) == 0:
		return &backends.Decision{Op: backends.OpClaim, Outcome: backends.OutcomeNotFound}, nil
	default:
		h = d.unknownHold(r, now)
		if rec != nil {
			h.Version = rec.hold.Version
		}
	}
	var sorry []backends.Apology
	if h.State != backends.Held {
		sorry = d.missing(&h, now)
	}
	h.State, h.EndedAt = backends.Claimed, now
	h.Version = h.Version.Next(t.Epoch)
	rec = d.put(rec, &h)
	if d.fence.Stage == backends.MySQLOnly {
		// From here on the weight of h is nothing: its units are in Owed. The change in place is
		// safe, nobody else has h yet.
		h.LedgerOwed = true
		for _, u := range h.Takes() {
			d.level(u.Key).owed -= u.Quantity
		}
	}
	d.apologies = append(d.apologies, sorry...)
	dec := d.decided(backends.OpClaim, backends.OutcomeClaimed, rec)
	dec.Apologies = sorry
	dec.LedgerPending = d.opt.Side == backends.SideRedis
	return dec, nil
}

// unknownHold is a hold made from the lines of a claim: by Allocate if that serves them, else
// each line whole from its first location. It has no state and no version yet.
func (d *data) unknownHold(r *backends.ClaimRequest, now backends.Instant) backends.Hold {
	h := backends.Hold{ID: r.ID, Shop: r.Shop, Caller: r.Caller, Lines: copyLines(r.Lines), CreatedAt: now, ExpiresAt: now}
	var short []backends.Shortage
	if h.Allocs, short = backends.Allocate(r.Shop, r.Lines, d.sellable); len(short) > 0 {
		for i, l := range h.Lines {
			h.Allocs = append(h.Allocs, backends.Allocation{Line: i, Location: l.Locations[0], Quantity: l.Quantity})
		}
	}
	return h
}

// missing lists what a late claim of h finds gone, by key.
func (d *data) missing(h *backends.Hold, now backends.Instant) []backends.Apology {
	reason := "claimed after the hold had " + h.State.String()
	switch h.State {
	case backends.Released:
		reason = "claimed after the hold was released"
	case backends.StateUnknown:
		reason = "claimed without a hold"
	default:
	}
	var out []backends.Apology
	for _, u := range h.Takes() {
		if gone := u.Quantity - max(0, d.sellable(u.Key)); gone > 0 {
			out = append(out, backends.Apology{Hold: h.ID, Key: u.Key, Quantity: gone, Reason: reason, At: now})
		}
	}
	return out
}

// Release gives the units back.
func (s *Store) Release(ctx context.Context, t backends.Token, r *backends.ReleaseRequest) (*backends.Decision, error) {
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	rec := d.holds[r.ID]
	switch {
	case rec == nil:
		return &backends.Decision{Op: backends.OpRelease, Outcome: backends.OutcomeNotFound}, nil
	case rec.hold.State == backends.Released:
		dec := answered(backends.OpRelease, backends.OutcomeReleased, rec.hold)
		dec.Replayed = true
		return dec, nil
	case !rec.hold.State.Open():
		return answered(backends.OpRelease, backends.OutcomeEnded, rec.hold), nil
	}
	d.end(rec, backends.Released, t.Epoch)
	return d.decided(backends.OpRelease, backends.OutcomeReleased, rec), nil
}

// end ends an open hold.
func (d *data) end(rec *record, state backends.State, epoch uint64) {
	h := *rec.hold
	h.State, h.EndedAt = state, d.opt.Clock()
	h.Version = h.Version.Next(epoch)
	d.put(rec, &h)
}

// Extend moves the expiry of an open hold.
func (s *Store) Extend(ctx context.Context, t backends.Token, r *backends.ExtendRequest) (*backends.Decision, error) {
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	rec := d.holds[r.ID]
	switch {
	case rec == nil:
		return &backends.Decision{Op: backends.OpExtend, Outcome: backends.OutcomeNotFound}, nil
	case !rec.hold.State.Open():
		return answered(backends.OpExtend, backends.OutcomeEnded, rec.hold), nil
	}
	h := *rec.hold
	h.ExpiresAt = d.opt.Clock().Add(r.TTL)
	h.Version = h.Version.Next(t.Epoch)
	d.put(rec, &h)
	return d.decided(backends.OpExtend, backends.OutcomeExtended, rec), nil
}

// Expire ends holds whose time has passed, in the order in which it passed.
func (s *Store) Expire(ctx context.Context, t backends.Token, limit int) ([]*backends.Decision, error) {
	d, err := s.lockTruth(ctx, t)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	now := d.opt.Clock()
	var over []*record
	for _, rec := range d.holdList {
		if rec.hold.State.Open() && rec.hold.ExpiresAt <= now {
			over = append(over, rec)
		}
	}
	slices.SortFunc(over, func(a, b *record) int {
		switch {
		case a.hold.ExpiresAt < b.hold.ExpiresAt, a.hold.ExpiresAt == b.hold.ExpiresAt && a.hold.ID < b.hold.ID:
			return -1
		default:
			return 1
		}
	})
	var out []*backends.Decision
	for _, rec := range over[:min(len(over), max(0, limit), backends.MaxPage)] {
		d.end(rec, backends.Expired, t.Epoch)
		out = append(out, d.decided(backends.OpExpire, backends.OutcomeExpired, rec))
	}
	return out, nil
}

// decided writes the new state of rec to the outbox and makes the answer.
func (d *data) decided(op backends.Op, outcome backends.Outcome, rec *record) *backends.Decision {
	dec := answered(op, outcome, rec.hold)
	dec.Entry, dec.Dropped = d.write(backends.Entry{Op: op, Hold: rec.hold})
	if dec.Entry != nil {
		dec.Entry.Hold = dec.Hold
	}
	return dec
}

// answered is a decision that changed nothing.
func answered(op backends.Op, outcome backends.Outcome, h *backends.Hold) *backends.Decision {
	return &backends.Decision{Op: op, Outcome: outcome, Hold: copyHold(h)}
}

// bare tells whether h is a tombstone of a hold that this store never knew.
func bare(h *backends.Hold) bool { return h.State == backends.Released && len(h.Lines) == 0 }

func equalLine(a, b backends.Line) bool {
	return a.Item == b.Item && a.Quantity == b.Quantity && a.Split == b.Split && slices.Equal(a.Locations, b.Locations)
}

// copyHold is Hold.Clone with two allocations for the lines instead of one each.
func copyHold(h *backends.Hold) *backends.Hold {
	if h == nil {
		return nil
	}
	c := *h
	c.Lines = copyLines(h.Lines)
	c.Allocs = slices.Clone(h.Allocs)
	return &c
}

func copyLines(lines []backends.Line) []backends.Line {
	n := 0
	for i := range lines {
		n += len(lines[i].Locations)
	}
	locs := make([]backends.Location, 0, n)
	out := slices.Clone(lines)
	for i := range out {
		from := len(locs)
		locs = append(locs, out[i].Locations...)
		out[i].Locations = locs[from:len(locs):len(locs)]
	}
	return out
}
