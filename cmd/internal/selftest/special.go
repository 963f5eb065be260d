package selftest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
)

// Injections that lead to no finding of a hold or level: what shows them is the account, the outbox or a check before the start.

const (
	silentCarts = 20
	silentUnits = 2 // of each
)

// silentShadow: in shadow checkout notices nothing, the account says that so many decisions wait, and the outbox has their units. In live
// nothing is acknowledged that Redis has not accepted. When the shadow speaks again, all of it arrives.
func silentShadow(ctx context.Context, p *pod, g *play) error {
	if err := g.honest(ctx, p, "early"); err != nil {
		return err
	}
	was := p.comparator.Snapshot()
	p.book.worst.Store(0)
	speak := p.fault.hush()
	defer speak()
	granted, unknown := p.silentCarts(ctx)
	live := p.stage == backends.Live
	switch {
	case live && granted > 0:
		g.problem("%d carts were told that they were granted, while Redis, which arbitrates, was silent", granted)
	case !live && granted != silentCarts:
		g.problem("%d of %d carts were granted: checkout felt the silent shadow", granted, silentCarts)
	case !live && time.Duration(p.book.worst.Load()) >= slowLimit:
		g.problem("an answer took %s: checkout waited for the shadow", time.Duration(p.book.worst.Load()))
	}
	g.row.Expected = Figure{Class: comparator.Pending.String(), Count: silentCarts, Units: silentCarts * silentUnits, Found: byStats}
	if err := until(ctx, "the breaker to open", func() (bool, error) { return p.guard.Open(), nil }); err != nil {
		return err
	}
	now := p.comparator.Snapshot()
	if now.Matched != was.Matched || now.Probed != was.Probed || now.Confirmed != was.Confirmed {
		g.problem("decisions were compared with a silent shadow: %+v, before %+v", now.Counts, was.Counts)
	}
	units, lag, err := p.waiting(ctx)
	if err != nil {
		return err
	}
	if lag < silentAge {
		g.problem("the outbox's oldest entry is %s old: the lag does not show", lag)
	}
	g.row.Seen = Figure{Class: comparator.Pending.String(), Count: now.Pending, Units: units, Found: byStats}
	speak()
	if err := p.rest(ctx); err != nil {
		return fmt.Errorf("after the shadow spoke again: %w", err)
	}
	p.book.decisions.Add(unknown) // decided all the same, and compared by now
	g.row.Repaired = "by itself"
	return g.clean(ctx, p)
}

// silentCarts are sent at the same time, since in live each waits.
func (p *pod) silentCarts(ctx context.Context) (granted, unknown int64) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range silentCarts {
		wg.Go(func() {
			got, err := p.reserve(ctx, backends.HoldID(fmt.Sprintf("silent-%d", i)), line(plentyItem, silentUnits))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				unknown++
			case got == backends.OutcomeGranted:
				granted++
			}
		})
	}
	wg.Wait()
	return granted, unknown
}

// waiting is the units of grants in the truth's outbox, and the age of its oldest entry.
func (p *pod) waiting(ctx context.Context) (units int64, lag time.Duration, err error) {
	es, err := p.truth.Pending(ctx, "", 0, backends.MaxPage)
	if err != nil {
		return 0, 0, err
	}
	for i := range es {
		if es[i].Op == backends.OpReserve && es[i].Hold != nil {
			units += unitsOf(es[i].Hold)
		}
	}
	st, err := p.truth.OutboxStats(ctx)
	return units, time.Duration(st.OldestMillis) * time.Millisecond, err
}

// sameStore: the check before the start says so, and so does an audit. Were it started all the same, nothing would count as a match.
func sameStore(ctx context.Context, p *pod, g *play) error {
	g.row.Expected = Figure{Class: "refused", Found: byStartUp + ", " + byAudit}
	err := backends.Apart(ctx, p.stores.Redis, p.stores.MySQL)
	if !errors.Is(err, backends.ErrSameStore) {
		g.problem("the check before the start says: %v", err)
		return nil
	}
	_, err = comparator.Audit(ctx, comparator.AuditInput{Pod: p.name, Epoch: epoch, Pair: p.pair})
	if !errors.Is(err, backends.ErrSameStore) {
		g.problem("an audit of the store against itself says: %v", err)
		return nil
	}
	g.row.Seen = g.row.Expected
	two := []backends.Store{p.redis, p.mysql}
	if err := backends.Apart(ctx, two[0], two[1]); err != nil {
		g.problem("two stores are taken for one: %v", err)
		return nil
	}
	g.row.Repaired = "by pointing it at its own"
	return nil
}

// panics: each decision is undetermined, once, and checkout notices nothing. A comparator without that judge finds the pod whole.
func panics(ctx context.Context, p *pod, g *play) error {
	p.panicking.Store(true)
	if err := g.honest(ctx, p, "early"); err != nil {
		return err
	}
	n := p.book.decisions.Load()
	st := p.comparator.Stats()
	g.row.Expected = Figure{Class: comparator.Undetermined.String(), Count: n, Found: byStats}
	g.row.Seen = Figure{Class: comparator.Undetermined.String(), Count: st.Undetermined["panic"], Found: byStats}
	if st.Panics != n || st.LastPanic == "" || st.Coverage.Undetermined != n {
		g.problem("%d panics, %d undetermined, of %d decisions; the last: %q", st.Panics, st.Coverage.Undetermined, n, st.LastPanic)
	}
	p.panicking.Store(false)
	if err := g.honest(ctx, p, "late"); err != nil {
		return err
	}
	if c := p.comparator.Snapshot(); c.Matched == 0 {
		g.problem("without the panic nothing is compared either: %+v", c.Counts)
	}
	g.row.Repaired = "by itself"
	return g.clean(ctx, p)
}
