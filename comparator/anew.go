package comparator

import "context"

// await keeps a refusal about stock that the shadow does not know yet: its first level is on the way. It waits in
// the settle queue, and the shadow is asked anew. at is as in judged.
func (c *Comparator) await(o *Observation, at *Column) {
	now := c.cfg.Now()
	c.acct.move(o.Epoch, Pending, Settling, 1, now)
	*at = Settling
	oc := &openCase{
		Case: Case{Observation: *o, Since: now, Window: c.cfg.SettleWindow},
		due:  now.Add(firstRecheck), pause: firstRecheck, awaits: true,
	}
	if !c.queue.add(oc) {
		c.undetermined(o.Epoch, Settling, causeSettleFull)
	}
	*at = ColumnUnknown
}

// askAnew asks the shadow about those of cases that wait for its answer, at most maxAskedAnew of them and for askFor
// together, and answers the others. Who was not asked waits for another round, behind what is due by then.
func (c *Comparator) askAnew(ctx context.Context, cases []*openCase) (rest []*openCase) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	asked := 0
	for _, oc := range cases {
		switch {
		case !oc.awaits:
			rest = append(rest, oc)
		case asked == maxAskedAnew || ctx.Err() != nil:
			c.notAsked(oc)
		default:
			asked++
			c.askOne(ctx, oc)
		}
	}
	return rest
}

// notAsked puts a case off, or ends it when its window is over.
func (c *Comparator) notAsked(oc *openCase) {
	now := c.cfg.Now()
	if now.Sub(oc.Since) < oc.Window {
		c.later(oc, now)
		return
	}
	c.queue.end()
	c.undetermined(oc.Observation.Epoch, Settling, causeOfNone(oc.Observation.Missing))
}

func (c *Comparator) askOne(ctx context.Context, oc *openCase) {
	at, waits := Settling, false
	ok := c.protected("probe", func() { waits = c.askedAnew(oc, c.again(ctx, &oc.Observation), &at) })
	if waits {
		c.later(oc, c.cfg.Now())
		return
	}
	c.queue.end()
	if !ok {
		c.giveUp(oc.Observation.Epoch, at)
	}
}

// askedAnew takes the shadow's answer; it answers true when the case has to wait on. at is as in judged.
func (c *Comparator) askedAnew(oc *openCase, o Observation, at *Column) (waits bool) {
	now := c.cfg.Now()
	if o.Shadow == nil {
		if now.Sub(oc.Since) < oc.Window {
			return true
		}
		c.undetermined(o.Epoch, Settling, causeOfNone(o.Missing))
		*at = ColumnUnknown
		return false
	}
	c.tookShadow(&o) // now that it has decided; whatever it did not know took no decision
	c.slow(&o)
	j, ok := c.judgement(o)
	if ok && j.Verdict == VerdictDiverged {
		oc.Window = max(restPatience, oc.Window-now.Sub(oc.Since)) // of which it has waited a part already
		oc.Observation, oc.Judgement, oc.Since, oc.awaits = o, j, now, false
		if !c.atOnce(oc) {
			oc.pause = firstRecheck
			return true
		}
		*at = ColumnUnknown
		return false
	}
	switch {
	case !ok:
		c.undetermined(o.Epoch, Settling, causePanic)
	case j.Verdict == VerdictMatch:
		c.acct.move(o.Epoch, Settling, Probed, 1, now)
	default:
		c.undetermined(o.Epoch, Settling, causeNoVerdict)
	}
	*at = ColumnUnknown
	if ok && j.Verdict == VerdictMatch {
		c.compared(&o, false)
	}
	return false
}

// again calls what asks the shadow, which may panic: then nothing is known yet.
func (c *Comparator) again(ctx context.Context, was *Observation) (o Observation) {
	o = *was
	defer c.recovered("probe")
	next := was.Again(ctx)
	next.Again, next.At = was.Again, was.At
	if next.Pod == "" {
		next.Pod = was.Pod
	}
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
