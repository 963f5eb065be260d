package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// deliverWithin bounds how long a repair waits for the shadow to confirm what was emitted; what is not by then
// arrives later, and the repair says that it was not seen.
const deliverWithin = 30 * time.Second

// Repair plans, and with Apply executes, what makes the shadow agree with the truth.
func (p *Proxy) Repair(ctx context.Context, q admin.RepairAsked, progress func(comparator.RepairProgress)) (*comparator.RepairResult, error) {
	r, err := p.find(q.Pod)
	if err != nil {
		return nil, err
	}
	if err := r.comparator.Flush(ctx); err != nil {
		return nil, findingsAway(err, false)
	}
	res, err := comparator.Repair(ctx, comparator.RepairInput{
		Pod: q.Pod, Pair: r.pair, Hands: r.hands, Store: r.findings, Record: r.comparator.Record, Flush: r.comparator.Flush,
		IDs: q.IDs, CorrectLedger: q.CorrectLedger, Apply: q.Apply, By: q.By, Why: q.Why,
		Retain: r.retain, Excuses: r.excuses.current(), Progress: progress,
	})
	if q.Apply && res != nil {
		p.log.Info("a repair ended", "pod", string(q.Pod), "by", q.By, "why", q.Why, "epoch", res.Epoch, "outcomes", fmt.Sprint(res.Outcomes), "recorded", res.Recorded, "error", err)
	}
	return res, err
}

// hands are what a repair writes with, in the roles of the stage that is served.
func (p *podRuntime) hands() (comparator.RepairHands, error) {
	f := p.pod.Gate().Serving()
	truth, shadow := p.stores.Of(f.Stage.Truth()), p.stores.Of(f.Stage.Truth().Other())
	if truth == nil || shadow == nil {
		return comparator.RepairHands{}, comparator.ErrNoPair
	}
	return comparator.RepairHands{
		Stage: f.Stage, Token: backends.Token{Epoch: f.Epoch}, Truth: truth, Shadow: shadow,
		Deliver: func(ctx context.Context) error {
			within, cancel := context.WithTimeout(ctx, deliverWithin)
			defer cancel()
			err := p.pod.Deliver(within)
			if err != nil && ctx.Err() == nil && within.Err() != nil {
				return errors.Join(backends.ErrUnavailable, err) // the shadow is slow or away
			}
			return err
		},
	}, nil
}
