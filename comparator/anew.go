package comparator

import (
	"context"
	"time"
)

// await keeps a refusal about stock that the shadow does not know yet: its first level is on the way. It waits in
// the settle queue, and the shadow is asked anew.
func (c *Comparator) await(o Observation, now time.Time) {
	c.acct.move(o.Epoch, Pending, Settling, 1, now)
	oc := &openCase{
		Case: Case{Observation: o, Since: now, Window: c.cfg.SettleWindow},
		due:  now.Add(firstRecheck), pause: firstRecheck, awaits: true,
	}
	if !c.queue.add(oc) {
		c.undetermined(o.Epoch, Settling, causeSettleFull)
	}
}

// askAnew asks the shadow about those of cases that wait for its answer, at most maxAskedAnew of them, and answers
// the others.
func (c *Comparator) askAnew(ctx context.Context, cases []*openCase) (rest []*openCase) {
	asked := 0
	for _, oc := range cases {
		switch {
		case !oc.awaits:
			rest = append(rest, oc)
		case asked == maxAskedAnew || ctx.Err() != nil:
			c.queue.back(oc) // still due
		default:
			asked++
			c.askOne(ctx, oc)
		}
	}
	return rest
}

func (c *Comparator) askOne(ctx context.Context, oc *openCase) {
	o := c.again(ctx, &oc.Observation)
	now := c.cfg.Now()
	if o.Shadow == nil {
		if now.Sub(oc.Since) >= oc.Window {
			c.queue.end()
			c.undetermined(o.Epoch, Settling, causeOfNone(o.Missing))
			return
		}
		c.later(oc, now)
		return
	}
	j, ok := c.judgement(o)
	if ok && j.Verdict == VerdictDiverged {
		oc.Window = max(restPatience, oc.Window-now.Sub(oc.Since)) // of which it has waited a part already
		oc.Observation, oc.Judgement, oc.Since, oc.awaits = o, j, now, false
		if !c.atOnce(oc) {
			oc.pause = firstRecheck
			c.later(oc, now)
			return
		}
		c.queue.end()
		return
	}
	c.queue.end()
	switch {
	case !ok:
		c.undetermined(o.Epoch, Settling, causePanic)
	case j.Verdict == VerdictMatch:
		c.acct.move(o.Epoch, Settling, Probed, 1, now)
		c.compared(&o, false)
	default:
		c.undetermined(o.Epoch, Settling, causeNoVerdict)
	}
}

// again calls what asks the shadow, which may panic: then nothing is known yet.
func (c *Comparator) again(ctx context.Context, was *Observation) (o Observation) {
	o = *was
	defer c.recovered("probe")
	actx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	next := was.Again(actx)
	next.Again, next.At = was.Again, was.At
	if next.Pod == "" {
		next.Pod = was.Pod
	}
	c.tookShadow(&next)
	o = next
	return o
}

func causeOfNone(r Reason) cause {
	switch r {
	case ReasonProbeFailed:
		return causeProbeFailed
	case ReasonUnknownStock:
		return causeUnknownStock
	default:
		return causeOther
	}
}
