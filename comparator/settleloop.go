package comparator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// settleLoop takes looks for the cases that are due.
func (c *Comparator) settleLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		began := c.cfg.Now()
		looked, searched := c.settleRound(ctx)
		// The pause is at least as long as was searched, so that searches get half of one processor at most.
		wait, wake := max(lookEvery, searched, min(c.cfg.Now().Sub(began), longestBreath)), (chan struct{})(nil)
		if !looked {
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

// settleRound takes one look for all cases that are due, and settles those that can be, for as long as searchFor allows:
// the others keep their turn. It answers false when none was due, and how long it searched.
func (c *Comparator) settleRound(ctx context.Context) (looked bool, searched time.Duration) {
	cases := c.queue.take(c.cfg.Now())
	if len(cases) == 0 {
		return false, 0
	}
	if cases = c.askAnew(ctx, cases); len(cases) == 0 {
		return true, 0
	}
	ev, err := c.look(ctx, keysOf(cases))
	began := c.cfg.Now()
	if err == nil && ev.At.IsZero() {
		ev.At = began
	}
	seen := &ev
	if err != nil {
		seen = nil
	}
	for i, oc := range cases {
		if searched = c.cfg.Now().Sub(began); searched >= searchFor || ctx.Err() != nil {
			for _, rest := range cases[i:] {
				c.queue.back(rest)
			}
			return true, searched
		}
		c.settleCase(oc, seen, began)
	}
	return true, c.cfg.Now().Sub(began)
}

// settleCase goes on with one case after a look; seen is nil when that has failed.
func (c *Comparator) settleCase(oc *openCase, seen *Evidence, now time.Time) {
	s, why := Settlement{End: SettledUndetermined, Proof: "settling it panicked"}, causePanic
	c.protected("settle", func() {
		if seen != nil {
			oc.History = append(oc.History, seen.only(oc.Judgement.Keys))
			c.inquire(oc, seen)
		}
		s, why = Settle(oc.Case, now), oc.why()
	})
	if s.End == SettledWait {
		c.later(oc, now)
		return
	}
	c.queue.end()
	c.told(oc)
	c.conclude(oc, s, why)
}

// later puts a case back for another look, after a pause that grows.
func (c *Comparator) later(oc *openCase, now time.Time) {
	oc.pause = min(oc.pause*2, c.slowest)
	oc.due = now.Add(oc.pause)
	c.queue.back(oc)
}

// why names the cause for which a decision would stay undetermined.
func (oc *openCase) why() cause {
	switch {
	case oc.Search.Found == FoundTooLarge:
		return causeTooLarge
	case oc.asked > 0 && !oc.Search.Complete:
		return causeRecord
	default:
		return causeWindow
	}
}

// inquire searches what is recorded for a legal order. It waits for a look that shows that all that the
// truth had decided by then has reached the shadow: then whoever brought it there has recorded it,
// and can be asked.
func (c *Comparator) inquire(oc *openCase, ev *Evidence) {
	defer c.recovered("search")
	o, keys := &oc.Observation, oc.Judgement.Keys
	// That there is no order is asked again until it is confirmed: a proxy that has only just started may
	// tell of itself.
	if oc.Search.Complete && oc.Search.Found != FoundNone || len(keys) == 0 || !o.TruthSpan.Known() {
		return
	}
	if oc.asked == 0 {
		if why := tooLate(o, ev, c.cfg.Now()); why != "" {
			oc.Search.Why, oc.Search.Broken = why, true
			return
		}
		if ev.Unsure != "" || slices.ContainsFunc(keys, func(k backends.Key) bool { return !ev.Keys[k].DecidedBy(o.TruthSpan.To) }) {
			oc.Search.Why = "not all that the truth had decided by then is known to have reached the shadow"
			return
		}
		if oc.asked = c.exchange.ask(keys, o.RecordSince); oc.asked == 0 {
			oc.Search.Why = "the other proxies are being asked about too many keys already"
			return
		}
	}
	h := heard{}
	if c.cfg.Sheets != nil {
		if h = c.exchange.about(o, keys, oc.asked); h.silent != "" && oc.Search.Found == FoundNothing {
			oc.Search.Why = unheard(h.silent) // what this proxy has recorded says nothing without it
			return
		}
	}
	own := c.record.at(keys, o.RecordSince)
	s := Search{Intact: max(own.Intact, h.intact) <= o.RecordSince && !h.lost}
	if own.Truth != o.Stage.Truth() {
		s.Intact, own.Steps = s.Intact && own.Truth == backends.SideUnknown, nil
	}
	if own.Open <= o.ShadowSpan.To && h.silent == "" {
		h.silent = c.cfg.Proxy
	}
	s.Complete = s.Intact && h.silent == ""
	switch {
	case !s.Intact:
		s.Why = "operations of that time are not in the record any more"
	case !s.Complete:
		s.Why = unheard(h.silent)
	default:
		steps := overlapping(o, append(own.Steps, h.steps...))
		mark := markOf(steps)
		if oc.Search.Complete && oc.Search.Found == FoundNone && mark == oc.mark {
			return // among the same operations there is none still
		}
		oc.mark = mark
		s.look(o, &oc.Judgement, steps)
	}
	s.Broken = !s.Intact
	oc.Search = s
	if s.Complete && s.Found != FoundNone {
		c.told(oc) // or the others would list all since then for as long as the case is open
	}
}

func unheard(proxy string) string {
	return fmt.Sprintf("proxy %s has not told yet what it had the shadow follow", proxy)
}

// tooLate tells why what was followed around a decision can no longer be found out; "" when it can.
func tooLate(o *Observation, ev *Evidence, now time.Time) string {
	switch {
	case ev.Stage.Truth() != o.Stage.Truth():
		return fmt.Sprintf("the pod has gone from %s to %s since", o.Stage, ev.Stage)
	case o.Decided.Before(ev.SureSince):
		return "the shadow was being filled, or a change of stage was under way"
	case o.Decided.IsZero(), now.Sub(o.Decided) > recordFor:
		return fmt.Sprintf("it was decided longer than %s before all of that time had reached the shadow, and no record goes back so far", recordFor)
	default:
		return ""
	}
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

// conclude puts a diverged decision into its last column, and keeps it with its proof. Whatever panics, it gets one.
func (c *Comparator) conclude(oc *openCase, s Settlement, why cause) {
	at := Settling
	if !c.protected("conclude", func() { c.concluded(oc, &s, why, &at) }) {
		c.giveUp(oc.Observation.Epoch, at)
	}
}

// concluded keeps in at where the decision stands, as judged does.
func (c *Comparator) concluded(oc *openCase, s *Settlement, why cause, at *Column) {
	epoch, now := oc.Observation.Epoch, c.cfg.Now()
	switch s.End {
	case SettledExplained:
		c.acct.move(epoch, Settling, Explained, 1, now)
		*at = ColumnUnknown
		c.example(oc, s, LifeExplained, now)
		c.compared(&oc.Observation, false)
	case SettledConfirmed:
		c.confirm(oc, s, now, at)
	default:
		c.undetermined(epoch, Settling, why)
		*at = ColumnUnknown
		c.example(oc, s, LifeUndetermined, now)
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
