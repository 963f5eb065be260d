package dualwrite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Bounds of background steps.
const (
	// ExpireBatch is how many holds one expiry step ends.
	ExpireBatch = 128
	// MaxSweepPages bounds one sweep; the rest is for the next one.
	MaxSweepPages = 64
	// backfillPages is how many of its pages a backfill may have waiting in the outbox: it is paced by the shadow, so that
	// neither the outbox nor the lag of live traffic grows because of it. Together they fit into the smallest outbox.
	backfillPages = 2
	backfillPage  = SweepPage
	backfillAhead = backfillPages * backfillPage
	drainPause    = 2 * time.Millisecond
	behindPause   = 50 * time.Millisecond
)

// Sweep mirrors what has been in the truth's outbox for at least age, under f. It answers how many
// entries it has confirmed, and how many it saw. An entry that fails does not stop those after it.
func (p *Pod) Sweep(ctx context.Context, f backends.Fence, age time.Duration) (confirmed, saw int, err error) {
	return p.sweep(ctx, f, age, func(e *backends.Entry) bool { return age == 0 || !p.lanes.rides(e.Seq) })
}

// sweep is Sweep of those entries that take wants.
func (p *Pod) sweep(ctx context.Context, f backends.Fence, age time.Duration, take func(*backends.Entry) bool) (confirmed, saw int, err error) {
	if !f.Stage.TakesMirrors(shadowOf(f)) {
		return 0, 0, nil
	}
	truth := p.stores.Of(f.Stage.Truth())
	after := ""
	for range MaxSweepPages {
		es, err := truth.Pending(ctx, after, age.Milliseconds(), SweepPage)
		if err != nil {
			return confirmed, saw, err
		}
		saw += len(es)
		var its []item
		for i := range es {
			if take(&es[i]) {
				its = append(its, item{fence: f, entry: es[i]})
			}
		}
		for len(its) > 0 {
			k := batchOf(its)
			n := p.Mirror(ctx, f, its[:k], true)
			its = its[k:]
			if n == 0 && !p.stillServing(f) {
				return confirmed, saw, nil // the fence has moved: nothing more to do here
			}
			confirmed += n
			if n == 0 && p.o.Guard.Open() {
				return confirmed, saw, nil // the shadow is away: all wait
			}
		}
		if len(es) < SweepPage {
			break
		}
		after = es[len(es)-1].Seq
	}
	return confirmed, saw, nil
}

func (p *Pod) stillServing(f backends.Fence) bool { return p.gate.Serving().Epoch <= f.Epoch }

// SweepNow is Sweep under the fence that the pod serves.
func (p *Pod) SweepNow(ctx context.Context, age time.Duration) (confirmed, saw int, err error) {
	return p.Sweep(ctx, p.gate.Serving(), age)
}

// Drain sweeps the truth's outbox under f until it is empty or the context is done. It is the
// step of a switch that comes after the truth's fence was closed, so nothing new arrives.
func (p *Pod) Drain(ctx context.Context, f backends.Fence) error {
	truth := p.stores.Of(f.Stage.Truth())
	for {
		if _, _, err := p.Sweep(ctx, f, 0); err != nil {
			return err
		}
		st, err := truth.OutboxStats(ctx)
		if err != nil {
			return err
		}
		if st.Entries == 0 {
			return nil
		}
		if err := p.o.Clock.Wait(ctx, nil, drainPause); err != nil {
			return fmt.Errorf("%d entries are still in the outbox of %s: %w", st.Entries, f.Stage.Truth(), err)
		}
	}
}

// Expire ends holds whose time has passed, by the truth's clock, and has that mirrored.
func (p *Pod) Expire(ctx context.Context) (int, error) {
	f := p.gate.Serving()
	truth := p.stores.Of(f.Stage.Truth())
	if truth == nil {
		return 0, nil
	}
	ds, err := truth.Expire(ctx, backends.Token{Epoch: f.Epoch}, ExpireBatch)
	if err != nil {
		var fe *backends.FencedError
		if errors.As(err, &fe) {
			p.met(fe)
			return 0, nil
		}
		return 0, err
	}
	now := p.o.Clock.Now()
	for _, d := range ds {
		if d.Entry == nil {
			continue
		}
		it := item{fence: f, entry: *d.Entry, decision: d, at: now}
		p.offer(&it)
	}
	return len(ds), nil
}

// Maintain does one round of upkeep in each store that this epoch admits.
func (p *Pod) Maintain(ctx context.Context) (more bool, err error) {
	f := p.gate.Serving()
	if f.Epoch == 0 {
		return false, nil
	}
	for _, side := range []backends.Side{backends.SideRedis, backends.SideMySQL} {
		if f.Stage.Truth() != side && !f.Stage.TakesMirrors(side) {
			continue
		}
		m, e := p.stores.Of(side).Maintain(ctx, backends.Token{Epoch: f.Epoch})
		var fe *backends.FencedError
		if errors.As(e, &fe) {
			p.met(fe)
			continue
		}
		more = more || m
		err = errors.Join(err, e)
	}
	return more, err
}

// RaiseShadow brings MySQL's fence up to a fence under which Redis is the truth: after a kill, or
// when MySQL was away. (The other direction is a switch's business: a proxy never makes MySQL the
// truth by itself.) It answers whether MySQL's fence is at f now.
func (p *Pod) RaiseShadow(ctx context.Context, f backends.Fence) (bool, error) {
	if f.Stage.Truth() != backends.SideRedis || !f.Open {
		return true, nil
	}
	have, err := p.stores.MySQL.Fence(ctx)
	if err != nil {
		return false, err
	}
	if f.Outranks(have) {
		have, err = p.stores.MySQL.Raise(ctx, f, 0)
		var fe *backends.FencedError
		if err != nil && !errors.As(err, &fe) {
			return false, err
		}
	}
	return have.Epoch == f.Epoch && have.Open, nil
}

// Settle handles what is left in MySQL's outbox when Redis is the truth again (DESIGN §6): Redis's
// state of a known hold is copied to MySQL, an unknown hold or count is voided (a hold in the kill's own epoch only), a claim follows the
// claim rule, a restock is carried by its operation id. When all that is done, promises that are left without stock are listed. MySQL's
// fence must be raised first. It answers how many entries it settled.
func (p *Pod) Settle(ctx context.Context) (int, error) {
	f := p.gate.Serving()
	if f.Stage.Truth() != backends.SideRedis {
		return 0, nil
	}
	if at, err := p.RaiseShadow(ctx, f); err != nil || !at {
		return 0, err
	}
	var late []backends.Entry
	n, after := 0, ""
	for {
		es, err := p.stores.MySQL.Pending(ctx, after, 0, SweepPage)
		if err != nil {
			return n, err
		}
		if len(es) == 0 {
			break
		}
		after = es[len(es)-1].Seq
		var done []backends.Entry
		for i := range es {
			if err := p.settleOne(ctx, f, &es[i]); err != nil {
				return n, err
			}
			promised, err := p.promised(ctx, &es[i])
			if err != nil {
				return n, err
			}
			if promised {
				late = append(late, es[i])
			} else {
				done = append(done, es[i])
			}
		}
		removed, err := p.settled(ctx, done)
		n += len(removed)
		if err != nil {
			return n, err
		}
	}
	m, err := p.soldOn(ctx, late)
	return n + m, err
}

// settled takes entries out of MySQL's outbox, and answers those that it took out and nobody else.
func (p *Pod) settled(ctx context.Context, es []backends.Entry) (removed []string, err error) {
	if len(es) == 0 {
		return nil, nil
	}
	seqs := make([]string, len(es))
	for i := range es {
		seqs[i] = es[i].Seq
	}
	removed, err = p.stores.MySQL.Done(ctx, seqs)
	for _, s := range removed {
		i := slices.Index(seqs, s)
		if i >= 0 && es[i].Op == backends.OpReserve && es[i].Hold != nil {
			p.o.Comparer.Lost(es[i].Hold.Version.Epoch, 1) // voided or carried, never compared
		}
	}
	return removed, err
}

// outlived gives Redis an open hold that it does not know, where more than the kill has happened since: Redis may have been replaced
// by a replica that lost it, and what nobody was told of ends by its time. In the kill's own epoch it knows all that counts: a
// Redis that is replaced needs another one.
func (p *Pod) outlived(ctx context.Context, f backends.Fence, e *backends.Entry) error {
	if e.Hold.State != backends.Held || f.Epoch <= e.Hold.Version.Epoch+1 {
		return nil
	}
	known, err := p.stores.Redis.Get(ctx, e.Hold.ID)
	if err != nil || known != nil {
		return err
	}
	return p.give(ctx, f, []*ride{{entry: *e}})
}

func (p *Pod) settleOne(ctx context.Context, f backends.Fence, e *backends.Entry) error {
	redis, t := p.stores.Redis, backends.Token{Epoch: f.Epoch}
	if h := e.Hold; h != nil {
		if err := p.outlived(ctx, f, e); err != nil {
			return fmt.Errorf("settling hold %q: %w", h.ID, err)
		}
		if err := p.voiding(ctx, f, e); err != nil {
			return fmt.Errorf("settling hold %q: %w", h.ID, err)
		}
		if h.State == backends.Claimed {
			d, err := redis.Claim(ctx, t, &backends.ClaimRequest{ID: h.ID, Shop: h.Shop, Lines: h.Lines, Caller: h.Caller})
			if err != nil {
				return fmt.Errorf("settling the claim of hold %q: %w", h.ID, err)
			}
			for _, ap := range d.Apologies {
				p.o.Observer.Apology(p.name, ap)
			}
		}
		if _, err := redis.Reemit(ctx, t, []backends.HoldID{h.ID}); err != nil {
			return fmt.Errorf("settling hold %q: %w", h.ID, err)
		}
		return nil
	}
	l := e.Level
	if l == nil {
		return nil
	}
	if e.Op == backends.OpCount {
		if err := p.settleCount(ctx, f, e); err != nil {
			return fmt.Errorf("settling operation %q: %w", l.OpID, err)
		}
		return nil
	}
	if l.OpID != "" && l.OnHandDelta != 0 {
		// Who sent it may send it again under the same id: then this is its answer.
		if _, err := redis.Restock(ctx, t, &backends.RestockRequest{OpID: l.OpID, Key: l.Key, Amount: l.OnHandDelta}); err != nil {
			return fmt.Errorf("settling operation %q: %w", l.OpID, err)
		}
	}
	if _, err := redis.ReemitLevels(ctx, t, []backends.Key{l.Key}); err != nil {
		return fmt.Errorf("settling level %s: %w", l.Key, err)
	}
	return nil
}
