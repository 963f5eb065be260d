package comparator

import (
	"context"
	"errors"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// settleLoop takes looks for the cases that are due.
func (c *Comparator) settleLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait, wake := lookEvery, (chan struct{})(nil)
		if !c.settleRound(ctx) {
			wake = c.queue.wake
			if due, some := c.queue.next(c.cfg.Now()); some {
				wait = due
			} else {
				wait = time.Hour // nothing to do before a case wakes us
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-wake: // nil after a look: the pause is kept whatever comes in
		}
	}
}

// settleRound takes one look for all cases that are due, and settles those that can be.
// It answers false when none was due.
func (c *Comparator) settleRound(ctx context.Context) bool {
	cases := c.queue.take(c.cfg.Now())
	if len(cases) == 0 {
		return false
	}
	ev, err := c.look(ctx, keysOf(cases))
	now := c.cfg.Now()
	if err == nil && ev.At.IsZero() {
		ev.At = now
	}
	for _, oc := range cases {
		if err == nil {
			oc.History = append(oc.History, ev.only(oc.Judgement.Keys))
		}
		s := c.settlement(oc, now)
		if s.End == SettledWait {
			oc.pause = min(oc.pause*2, c.slowest)
			oc.due = now.Add(oc.pause)
			c.queue.back(oc)
			continue
		}
		c.queue.end()
		c.conclude(oc, s, causeWindow)
	}
	return true
}

var errPanicked = errors.New("comparator: it panicked")

// look asks the rechecker about keys.
func (c *Comparator) look(ctx context.Context, keys []backends.Key) (Evidence, error) {
	return c.lookAt(ctx, keys, nil)
}

// lookAt asks the rechecker, who may fail or panic.
func (c *Comparator) lookAt(ctx context.Context, keys []backends.Key, holds []backends.HoldID) (ev Evidence, err error) {
	c.stats.looks.Add(1)
	defer func() {
		if err != nil {
			c.stats.looksFailed.Add(1)
			if ctx.Err() == nil {
				c.failed(err)
			}
		}
	}()
	err = errPanicked
	defer c.recovered("recheck")
	lctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	ev, err = c.cfg.Rechecker.Recheck(lctx, keys, holds)
	return ev, err
}

// settlement calls Settle; a panic of it must not stop the queue.
func (c *Comparator) settlement(oc *openCase, now time.Time) (s Settlement) {
	s = Settlement{End: SettledUndetermined, Proof: "settling it panicked"}
	defer c.recovered("settle")
	return Settle(oc.Case, now)
}

// conclude puts a diverged decision into its last column, and keeps it with its proof.
func (c *Comparator) conclude(oc *openCase, s Settlement, why cause) {
	defer c.recovered("conclude")
	epoch, now := oc.Observation.Epoch, c.cfg.Now()
	switch s.End {
	case SettledExplained:
		c.acct.move(epoch, Settling, Explained, 1, now)
		c.compared(&oc.Observation, false)
		c.example(oc, &s, LifeExplained, now)
	case SettledConfirmed:
		c.confirm(oc, &s, now)
	default:
		c.undetermined(epoch, Settling, why)
		c.example(oc, &s, LifeUndetermined, now)
	}
}

// example keeps an explained or undetermined decision, up to so many a minute.
func (c *Comparator) example(oc *openCase, s *Settlement, life Life, now time.Time) {
	if !c.keep.room(life, now) {
		c.stats.notKept.Add(1)
		return
	}
	c.put(decisionFinding(&oc.Case, s, life, now))
}
