package behind

import (
	"context"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/dualwrite/journal"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

const (
	// carryPage is how many states are brought to Redis between two looks at the journal.
	carryPage = 1024
	// carryBarred bounds the bringing while a kill waits.
	carryBarred = time.Second
)

// leave takes a run out of the holders, after Redis has its journal; or, while a kill waits, after others know what
// Redis does not have.
func (k *Keeper) leave(ctx context.Context, b *killswitch.RedisBehind, run string, say bool) error {
	if !say { // most of it while this process may still answer
		if err := k.carry(ctx, b.Epoch, run, false); err != nil {
			return err
		}
	}
	err := k.permit.Leave(ctx, b.Epoch, run, func(ctx context.Context) error { return k.carry(ctx, b.Epoch, run, say) })
	k.rouse()
	return err
}

// carry brings what a run has kept of an epoch to Redis, from where it has been brought to. With say it tells the others what Redis
// did not take; without it that is an error.
func (k *Keeper) carry(ctx context.Context, epoch uint64, run string, say bool) error {
	k.mu.Lock()
	if k.carriedEpoch != epoch {
		k.carried, k.carriedEpoch = 0, epoch
	}
	from := k.carried
	k.mu.Unlock()
	own := run == k.o.Run
	if !own {
		from = 0
	}
	cctx, cancel := context.WithCancel(ctx)
	if say {
		cctx, cancel = context.WithTimeout(ctx, carryBarred)
	}
	defer cancel()
	left, next, err := k.bring(cctx, epoch, run, from)
	if err == nil && len(left) == 0 && own {
		k.mu.Lock()
		k.carried = next
		k.mu.Unlock()
	}
	if !say {
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%w: Redis did not take %d states that were answered without it yet", backends.ErrUnavailable, len(left))
		}
		return err
	}
	m, err := k.missing(epoch, run, from, left, err)
	if err != nil {
		return err
	}
	err = killswitch.SayMissed(ctx, k.o.Control, k.o.Pod, epoch, run, m)
	if err == nil && k.o.Journal.Damaged() > 0 { // who does not leave is waited for, and named
		err = fmt.Errorf("%w: the journal of answers without Redis has lines that cannot be read; MySQL's outbox has what they had", backends.ErrDamaged)
	}
	return err
}

// missing lists what was left; all of it, where bringing it failed.
func (k *Keeper) missing(epoch uint64, run string, from int64, left []backends.Entry, failed error) (m killswitch.Missing, err error) {
	if failed != nil {
		_, err = k.o.Journal.Each(from, func(l journal.Kept) error {
			if l.Epoch == epoch && l.Run == run {
				m.Add(stateOf(&l.Entry))
			}
			return nil
		})
		return m, err
	}
	for i := range left {
		m.Add(stateOf(&left[i]))
	}
	return m, nil
}

// bring brings the journal to Redis page by page, and what was not taken once more at the end.
func (k *Keeper) bring(ctx context.Context, epoch uint64, run string, from int64) (left []backends.Entry, next int64, err error) {
	under := backends.Fence{Epoch: epoch, Stage: backends.Live}
	var page []backends.Entry
	flush := func() error {
		still, err := k.pod.Carry(ctx, under, page)
		left = append(left, still...)
		page = page[:0:0]
		return err
	}
	next, err = k.o.Journal.Each(from, func(l journal.Kept) error {
		if l.Epoch != epoch || l.Run != run {
			return nil
		}
		if page = append(page, l.Entry); len(page) < carryPage {
			return nil
		}
		return flush()
	})
	if err == nil && len(page) > 0 {
		err = flush()
	}
	if err == nil && len(left) > 0 {
		left, err = k.pod.Carry(ctx, under, left)
	}
	return left, next, err
}

func stateOf(e *backends.Entry) (s killswitch.MissingState) {
	if h := e.Hold; h != nil {
		return killswitch.MissingState{Hold: h.ID, State: h.State, Units: h.Takes()}
	}
	if l := e.Level; l != nil {
		return killswitch.MissingState{Operation: l.OpID, Units: []backends.Units{{Key: l.Key, Quantity: l.OnHandDelta}}}
	}
	return s
}

// Carry is what a kill needs of a proxy. It fills killswitch.KillCarry.
type Carry struct {
	Pod  *dualwrite.Pod
	Docs killswitch.Documents
}

var _ killswitch.KillCarry = Carry{}

// Outbox implements killswitch.KillCarry.
func (c Carry) Outbox(ctx context.Context, under backends.Fence) (m killswitch.Missing, err error) {
	left, err := c.Pod.CarryOutbox(backends.Urgent(ctx), under)
	for i := range left {
		m.Add(stateOf(&left[i]))
	}
	return m, err
}

// Outstanding implements killswitch.KillCarry.
func (c Carry) Outstanding(ctx context.Context) (m killswitch.Missing, err error) {
	ctx = backends.Urgent(ctx)
	stats, err := c.Pod.Stores().MySQL.OutboxStats(ctx)
	if err != nil {
		return m, err
	}
	if stats.Lost {
		return m, fmt.Errorf("MySQL's outbox has dropped %d entries", stats.Dropped)
	}
	es, err := c.Pod.Outstanding(ctx, killswitch.MaxMissing)
	if err != nil {
		return m, err
	}
	for i := range es {
		m.Add(stateOf(&es[i]))
	}
	m.Count = max(m.Count, stats.Entries)
	return m, nil
}

// Missed implements killswitch.KillCarry.
func (c Carry) Missed(ctx context.Context, epoch uint64, h killswitch.Holder) (killswitch.Missing, error) {
	return killswitch.ReadMissed(ctx, c.Docs, c.Pod.Name(), epoch, h.Run)
}
