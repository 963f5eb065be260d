package killswitch_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// carrier carries real entries between the memory stores.
type carrier struct {
	p *process
	// stuck: drains do not get anywhere.
	stuck bool
	// strict: both fences have to be where the work is done.
	strict bool
	// atDrain runs once, when a drain begins; pauses are slept through by backfills.
	atDrain   func()
	pauses    []time.Duration
	backfills int
	settles   int
	restores  int
	complete  bool // what the last restore was told
}

func (c *carrier) of(side backends.Side) *memstore.Store {
	if side == backends.SideRedis {
		return c.p.w.redis
	}
	return c.p.w.mysql
}

func (c *carrier) reach() error {
	if err := c.p.enter(); err != nil {
		return err
	}
	for _, side := range []backends.Side{backends.SideRedis, backends.SideMySQL} {
		if c.p.down[side] {
			return fmt.Errorf("%s is down: %w", side, backends.ErrUnavailable)
		}
	}
	return nil
}

// Drain mirrors one entry at a time, so that a process can die between any two.
func (c *carrier) Drain(ctx context.Context, _ backends.Pod, under backends.Fence) error {
	truth, shadow := c.of(under.Stage.Truth()), c.of(under.Stage.Truth().Other())
	if f := c.atDrain; f != nil {
		c.atDrain = nil
		f()
	}
	if c.stuck {
		<-ctx.Done()
		return ctx.Err()
	}
	for {
		if err := c.reach(); err != nil {
			return err
		}
		es, err := truth.Pending(ctx, "", 0, 1)
		if err != nil || len(es) == 0 {
			return err
		}
		now, err := shadow.Now(ctx)
		if err != nil {
			return err
		}
		as, err := shadow.Apply(ctx, backends.Token{Epoch: under.Epoch}, now, es)
		if err != nil {
			return err
		}
		if as[0].Err != nil {
			return as[0].Err
		}
		if _, err := truth.Done(ctx, []string{es[0].Seq}); err != nil {
			return err
		}
	}
}

// Settle voids or copies what is in MySQL's outbox, by re-emitting Redis's word on it.
func (c *carrier) Settle(ctx context.Context, _ backends.Pod, under backends.Fence) error {
	c.settles++
	if r, m := c.p.w.fences(); c.strict && (r != under || m != under) {
		c.p.w.tb.Errorf("settling under %s with Redis at %s and MySQL at %s", under, r, m)
	}
	t := backends.Token{Epoch: under.Epoch}
	for {
		if err := c.reach(); err != nil {
			return err
		}
		es, err := c.p.w.mysql.Pending(ctx, "", 0, 1)
		if err != nil || len(es) == 0 {
			return err
		}
		if h := es[0].Hold; h != nil {
			if _, err := c.p.w.redis.Reemit(ctx, t, []backends.HoldID{h.ID}); err != nil {
				return err
			}
		}
		if _, err := c.p.w.mysql.Done(ctx, []string{es[0].Seq}); err != nil {
			return err
		}
	}
}

// Backfill emits every hold that either store has open, and mirrors it.
func (c *carrier) Backfill(ctx context.Context, pod backends.Pod, under backends.Fence, progress func(killswitch.Progress)) error {
	c.backfills++
	if err := c.reach(); err != nil {
		return err
	}
	truth, shadow := c.of(under.Stage.Truth()), c.of(under.Stage.Truth().Other())
	t := backends.Token{Epoch: under.Epoch}
	st, err := truth.OutboxStats(ctx)
	if err != nil {
		return err
	}
	ls, _, err := truth.ScanLevels(ctx, "", 100)
	if err != nil {
		return err
	}
	for _, l := range ls {
		if _, err := truth.ReemitLevels(ctx, t, []backends.Key{l.Key}); err != nil {
			return err
		}
	}
	for _, s := range []*memstore.Store{truth, shadow} {
		hs, _, err := s.ScanHolds(ctx, "", backends.MaxPage, true)
		if err != nil {
			return err
		}
		for _, h := range hs {
			if _, err := truth.Reemit(ctx, t, []backends.HoldID{h.ID}); err != nil {
				return err
			}
		}
	}
	for _, d := range c.pauses {
		progress(killswitch.Progress{Phase: "open holds"})
		elapse(d)
	}
	return errors.Join(c.Drain(ctx, pod, under), truth.EndBackfill(ctx, t, st.Dropped))
}

// Restore gives Redis what MySQL has, one hold at a time.
func (c *carrier) Restore(ctx context.Context, _ backends.Pod, under backends.Fence, complete bool) (killswitch.Restored, error) {
	res := killswitch.Restored{}
	c.complete = complete
	if err := c.reach(); err != nil {
		return res, err
	}
	if c.restores++; !under.Open {
		if err := c.Drain(ctx, "", under); err != nil {
			return res, err
		}
	}
	hs, _, err := c.p.w.mysql.ScanHolds(ctx, "", 1000, false)
	for _, h := range hs {
		if err := c.reach(); err != nil {
			return res, err
		}
		now, _ := c.p.w.redis.Now(ctx)
		if _, err := c.p.w.redis.Restore(ctx, backends.Token{Epoch: under.Epoch}, now, []backends.Entry{{Op: backends.OpReemit, Hold: h}}); err != nil {
			return res, err
		}
		res.Holds++
	}
	return res, err
}
