package dualwrite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

const (
	// acceptAlone is acceptTimeout where MySQL may answer alone: who waits that long for a Redis that has stalled is
	// answered without it, and those after him at once.
	acceptAlone = time.Second
	// carryBatch is how many entries one call brings to Redis when nobody waits for any of them by itself.
	carryBatch = MirrorBatch
	// carryDone bounds taking out of the outbox what a pass has brought to Redis. It is not what a kill waits for, and a MySQL
	// whose sessions all wait for a lock does not come to it: whoever sweeps next takes it out.
	carryDone = 50 * time.Millisecond
)

// Lone permits answers without Redis (DESIGN §6). Redis arbitrates live; where its fence allows it ([backends.Fence].Alone)
// and Redis cannot be reached, an answer may be given that rests on MySQL alone, while this proxy has a permission: nobody
// makes Redis decide as long as one is valid.
type Lone interface {
	// Away tells whether Redis is known to be out of reach, so that nobody need wait for it to find out.
	Away() bool
	// Answer is called after MySQL has committed what it decided under f: nil means that the answer may be given. It keeps
	// es, the states that the answer rests on and Redis may not have, so that they can be brought there, and looks
	// at its permission after that. Nil es are for what rests on no state but levels.
	Answer(ctx context.Context, f backends.Fence, es []backends.Entry) error
	// Voided is told of a hold or a count that a settling voids, since Redis never had it, although it may have been
	// acknowledged. The same may come again. On an error it stays to be settled.
	Voided(ctx context.Context, f backends.Fence, e *backends.Entry) error
}

// accept is the rule of live: nothing is acknowledged that Redis has not accepted, but what a permission allows.
func (p *Pod) accept(ctx context.Context, f backends.Fence, d *backends.Decision, a *ask, start time.Time, took time.Duration) error {
	if !p.mayBeAlone(f) {
		return p.arbitrate(ctx, f, d, a, start, took)
	}
	if !p.o.Lone.Away() {
		rctx, cancel := context.WithTimeout(ctx, acceptAlone)
		err := p.arbitrate(rctx, f, d, a, start, took)
		cancel()
		if !unreachable(ctx, err) {
			return err
		}
	}
	es, err := p.restsOn(ctx, f, d, a)
	if err != nil {
		return err
	}
	if err := p.o.Lone.Answer(ctx, f, es); err != nil {
		return errors.Join(backends.ErrUnavailable, err)
	}
	if d.Op == backends.OpReserve && d.Outcome == backends.OutcomeSoldOut {
		p.o.Comparer.Lost(f.Epoch, 1) // there is no shadow to ask
	}
	return nil
}

func (p *Pod) mayBeAlone(f backends.Fence) bool { return p.o.Lone != nil && f.MayAnswerAlone() }

// unreachable tells whether Redis could not say anything. A fence that refuses has said something; and who hangs up says
// nothing about Redis.
func unreachable(ctx context.Context, err error) bool {
	var fe *backends.FencedError
	switch {
	case err == nil, ctx.Err() != nil, errors.As(err, &fe), backends.IsRejection(err):
		return false
	default:
		return errors.Is(err, backends.ErrUnavailable) || backends.IsAmbiguous(err) || errors.Is(err, context.DeadlineExceeded)
	}
}

// restsOn are the states that an answer acknowledges, and that Redis may not have.
func (p *Pod) restsOn(ctx context.Context, f backends.Fence, d *backends.Decision, a *ask) ([]backends.Entry, error) {
	switch {
	case d.Dropped:
		// Nobody would bring it to Redis later.
		return nil, fmt.Errorf("%w: Redis is away, and MySQL's outbox is full", backends.ErrUnavailable)
	case d.Entry != nil:
		return []backends.Entry{*d.Entry}, nil
	case d.Hold != nil:
		return p.keptBefore(ctx, f, d)
	case d.Replayed: // a restock or count done before: its entry is in the outbox, or Redis has it
		return p.pendingOf(ctx, f, a.key)
	default:
		return nil, nil
	}
}

// keptBefore is for an answer that rests on a state from before: it is in the outbox or Redis has it, unless the outbox had
// no room for it.
func (p *Pod) keptBefore(ctx context.Context, f backends.Fence, d *backends.Decision) ([]backends.Entry, error) {
	st, err := p.stores.Of(f.Stage.Truth()).OutboxStats(ctx)
	switch {
	case err != nil:
		return nil, err
	case st.Lost:
		return nil, fmt.Errorf("%w: Redis is away, and MySQL's outbox has dropped what was decided before", backends.ErrUnavailable)
	}
	// Once more, so that this does not rest on who has cleared the flag, and when.
	n, err := p.stores.Of(f.Stage.Truth()).Reemit(ctx, backends.Token{Epoch: f.Epoch}, []backends.HoldID{d.Hold.ID})
	switch {
	case err != nil:
		return nil, err
	case n != 1:
		return nil, fmt.Errorf("%w: Redis is away, and MySQL's outbox has no room for hold %q", backends.ErrUnavailable, d.Hold.ID)
	default:
		return []backends.Entry{{Op: d.Op, Hold: d.Hold}}, nil
	}
}

// pendingOf lists what is pending for a key.
func (p *Pod) pendingOf(ctx context.Context, f backends.Fence, key backends.Key) (of []backends.Entry, err error) {
	truth := p.stores.Of(f.Stage.Truth())
	for after := ""; ; {
		es, err := truth.Pending(ctx, after, 0, SweepPage)
		if err != nil {
			return nil, err
		}
		for _, e := range es {
			if e.Level != nil && e.Level.Key == key {
				of = append(of, e)
			}
			after = e.Seq
		}
		if len(es) < SweepPage {
			return of, nil
		}
	}
}

// confirmed ties what was read from MySQL to the epoch: by Redis, or by a permission.
func (p *Pod) confirmed(ctx context.Context, f backends.Fence) error {
	if !p.mayBeAlone(f) {
		return p.admitted(ctx, f)
	}
	if !p.o.Lone.Away() {
		rctx, cancel := context.WithTimeout(ctx, acceptAlone)
		err := p.admitted(rctx, f)
		cancel()
		if !unreachable(ctx, err) {
			return err
		}
	}
	if err := p.o.Lone.Answer(ctx, f, nil); err != nil {
		return errors.Join(backends.ErrUnavailable, err)
	}
	return nil
}

// refreshAlone learns from MySQL's fence while Redis's cannot be read, where MySQL may answer without it: a proxy that
// starts then would know of no epoch. What it decides still waits for Redis or a permission.
func (p *Pod) refreshAlone(ctx context.Context) error {
	if p.o.Lone == nil {
		return nil
	}
	m, err := p.stores.MySQL.Fence(ctx)
	if err == nil && m.Open && m.MayAnswerAlone() {
		p.met(&backends.FencedError{Side: backends.SideMySQL, Have: m})
	}
	return err
}

// Carry brings entries of MySQL to Redis under f, in their order, and answers those that Redis did not take. It goes
// round as long as there is progress: a count may wait for another's. On an error what is left is not known.
func (p *Pod) Carry(ctx context.Context, f backends.Fence, es []backends.Entry) (left []backends.Entry, err error) {
	left = es
	for {
		var still []backends.Entry
		for rest := left; len(rest) > 0; {
			n := min(len(rest), carryBatch)
			now, err := p.stores.Redis.Now(ctx)
			if err != nil {
				return left, err
			}
			res, err := p.stores.Redis.Apply(ctx, backends.Token{Epoch: f.Epoch}, now, rest[:n])
			if err != nil {
				return left, err
			}
			for i := range res {
				if res[i].Err != nil {
					still = append(still, rest[i])
				}
			}
			rest = rest[n:]
		}
		if len(still) == 0 || len(still) == len(left) {
			return still, nil
		}
		left = still
	}
}

// CarryOutbox brings what is in MySQL's outbox to Redis under f, whatever the breaker says, and answers what Redis did not
// take. What is decided meanwhile is not waited for: of what was there when it was called nothing else is left out. It
// goes round as long as there is progress: a count may wait for another's. An error says that it did not come to the end, or that the
// outbox has dropped entries.
func (p *Pod) CarryOutbox(ctx context.Context, f backends.Fence) (left []backends.Entry, err error) {
	for before := -1; ; before = len(left) {
		if left, err = p.carryPass(ctx, f); err != nil {
			return nil, err
		}
		if len(left) > 0 && (before < 0 || len(left) < before) {
			continue
		}
		st, err := p.stores.MySQL.OutboxStats(ctx)
		if err == nil && st.Lost {
			err = fmt.Errorf("%w: MySQL's outbox has dropped %d entries", backends.ErrUnavailable, st.Dropped)
		}
		return left, err
	}
}

// Rewind has the next reading of MySQL's outbox begin at its head: what another proxy has numbered by a clock that is behind must
// not be missed by who says that nothing is left.
func (p *Pod) Rewind() {
	if r, ok := p.stores.MySQL.(backends.Rewinder); ok {
		r.Rewind()
	}
}

// carryPass goes through the outbox once, from its head.
func (p *Pod) carryPass(ctx context.Context, f backends.Fence) (left []backends.Entry, err error) {
	p.Rewind()
	done := true
	for after := ""; ; {
		es, err := p.stores.MySQL.Pending(ctx, after, 0, SweepPage)
		if err != nil {
			return nil, err
		}
		its := make([]item, len(es))
		for i, e := range es {
			its[i] = item{fence: f, entry: e}
		}
		for len(its) > 0 {
			k := batchOf(its)
			if _, err := p.apply(ctx, f, its[:k]); err != nil {
				return nil, err
			}
			if done {
				dctx, cancel := context.WithTimeout(ctx, carryDone)
				p.finish(dctx, f, its[:k], true)
				done = dctx.Err() == nil
				cancel()
			}
			for _, it := range unapplied(its[:k]) {
				left = append(left, it.entry)
			}
			its = its[k:]
		}
		if len(es) < SweepPage {
			return left, nil
		}
		after = es[len(es)-1].Seq
	}
}

// Outstanding lists at most limit entries of MySQL's outbox.
func (p *Pod) Outstanding(ctx context.Context, limit int) (es []backends.Entry, err error) {
	for after := ""; len(es) < limit; {
		page, err := p.stores.MySQL.Pending(ctx, after, 0, min(SweepPage, limit-len(es)))
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		es = append(es, page...)
		after = page[len(page)-1].Seq
	}
	return es, nil
}

// voiding has a hold that settling will void made known, where it may have been acknowledged: MySQL had answered
// without Redis in the epoch that a kill has ended.
// A claim is not voided: it follows the claim rule.
func (p *Pod) voiding(ctx context.Context, f backends.Fence, e *backends.Entry) error {
	if !f.Alone || p.o.Lone == nil || e.Hold.State != backends.Held {
		return nil
	}
	known, err := p.stores.Redis.Get(ctx, e.Hold.ID)
	if err != nil || known != nil && (known.State == backends.Claimed || known.State == backends.Released || known.ExpiresAt >= e.Hold.ExpiresAt) {
		return err // Redis has it, or its buyer has gone on; but an extension that it does not have is lost
	}
	return p.o.Lone.Voided(ctx, f, e)
}

// settleCount settles a count that nobody was told of: it is void, whole, and if it is sent again, it is decided anew. One
// that somebody may have been told of is made known.
func (p *Pod) settleCount(ctx context.Context, f backends.Fence, e *backends.Entry) error {
	void, err := p.stores.Redis.SettleOp(ctx, backends.Token{Epoch: f.Epoch}, e.Level.Key, e.Level.OpID)
	if err == nil && void && f.Alone && p.o.Lone != nil {
		err = p.o.Lone.Voided(ctx, f, e)
	}
	return err
}
