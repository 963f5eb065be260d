package dualwrite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// BackfillProgress is told to a backfill's caller after every page.
type BackfillProgress struct {
	Phase   string // "waiting for what was there", "levels", "open holds", "holds that only the shadow has", "late claims", "waiting for the shadow", "noting that nothing is lost", "checking units on hand"
	Levels  int
	Holds   int
	Voided  int
	Waiting int64 // entries in the outbox
}

// ErrEpochMoved: the pod's epoch changed during a backfill; start it again under the new one.
var ErrEpochMoved = errors.New("the pod's epoch changed during the backfill; start it again")

// Backfill makes the shadow complete, under traffic: the truth emits every level and every open
// hold once more into its outbox, and settles each hold that is open in the shadow and not in the
// truth. It is paced by the shadow and ends when the shadow has confirmed everything that was
// emitted. It may run in several proxies at once, and again at any time: emitting twice is once.
func (p *Pod) Backfill(ctx context.Context, progress func(BackfillProgress)) error {
	f := p.gate.Serving()
	if !f.Stage.Dual() {
		return nil
	}
	b := backfill{p: p, f: f, t: backends.Token{Epoch: f.Epoch}, truth: p.stores.Of(f.Stage.Truth()), shadow: p.stores.Of(shadowOf(f)), tell: progress}
	if b.tell == nil {
		b.tell = func(BackfillProgress) {}
	}
	err := b.run(ctx)
	var fe *backends.FencedError
	if errors.As(err, &fe) {
		p.met(fe)
		return errors.Join(ErrEpochMoved, err)
	}
	return err
}

type backfill struct {
	p             *Pod
	f             backends.Fence
	t             backends.Token
	truth, shadow backends.Store
	tell          func(BackfillProgress)
	done          BackfillProgress
	paged         []time.Time // when the last pages had been emitted, the oldest first
	dropped       int64       // by the truth's outbox, before the backfill began
	// within bounds the wait for what was in the outbox; 0: as long as it takes.
	within time.Duration
}

func (b *backfill) run(ctx context.Context) error {
	if err := b.begin(ctx); err != nil {
		return fmt.Errorf("beginning the backfill: %w", err)
	}
	for _, phase := range []struct {
		name string
		do   func(context.Context) error
	}{
		// What waits from before goes first: under a single store later states of the same holds were
		// not emitted, so an old entry that arrives after the strays were looked for would bring back
		// a hold that has ended.
		{"waiting for what was there", b.settled},
		{"levels", b.levels},
		{"open holds", b.open},
		{"holds that only the shadow has", b.strays},
		{"late claims", b.lateClaims},
		{"waiting for the shadow", b.settled},
		{"noting that nothing is lost", b.complete},
		{"checking units on hand", b.check},
	} {
		b.done.Phase = phase.name
		if err := phase.do(ctx); err != nil {
			return fmt.Errorf("backfill, %s: %w", phase.name, err)
		}
	}
	return nil
}

// pages calls do with each cursor until it answers an empty one, and lets the shadow follow after each that has emitted
// something. The others need not wait for it: of the ended holds, all but a few pages are such.
func (b *backfill) pages(ctx context.Context, do func(cursor string) (next string, emitted int, err error)) error {
	for cursor := ""; ; {
		next, emitted, err := do(cursor)
		if err != nil {
			return err
		}
		if emitted > 0 {
			err = b.pace(ctx)
		} else {
			b.tell(b.done)
			err = b.stillServing()
		}
		if err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		cursor = next
	}
}

// begin makes sure that the truth is the truth, and notes what it has dropped so far.
func (b *backfill) begin(ctx context.Context) error {
	side := b.f.Stage.Truth()
	have, err := b.truth.Fence(ctx)
	if err != nil {
		return err
	}
	if !have.Admits(b.t, side) {
		return &backends.FencedError{Side: side, Have: have, Want: b.t}
	}
	st, err := b.truth.OutboxStats(ctx)
	b.dropped = st.Dropped
	return err
}

// complete has the truth forget that its outbox had dropped entries before the backfill began. Not earlier: broken off half-way, it
// would leave a shadow that nobody knows to be incomplete.
func (b *backfill) complete(ctx context.Context) error {
	return b.truth.EndBackfill(ctx, b.t, b.dropped)
}

func (b *backfill) levels(ctx context.Context) error {
	return b.pages(ctx, func(cursor string) (string, int, error) {
		ls, next, err := b.truth.ScanLevels(ctx, cursor, backfillPage)
		if err != nil || len(ls) == 0 {
			return next, 0, err
		}
		n, err := b.truth.ReemitLevels(ctx, b.t, keysOf(ls))
		b.done.Levels += n
		return next, n, err
	})
}

func (b *backfill) open(ctx context.Context) error {
	return b.pages(ctx, func(cursor string) (string, int, error) {
		hs, next, err := b.truth.ScanHolds(ctx, cursor, backfillPage, true)
		if err != nil {
			return "", 0, err
		}
		n, err := b.reemit(ctx, hs)
		b.done.Holds += n
		return next, n, err
	})
}

func (b *backfill) reemit(ctx context.Context, hs []*backends.Hold) (int, error) {
	if len(hs) == 0 {
		return 0, nil
	}
	return b.truth.Reemit(ctx, b.t, idsOf(hs))
}

// strays are open in the shadow and not in the truth: ended there without word, or never there.
func (b *backfill) strays(ctx context.Context) error {
	return b.pages(ctx, func(cursor string) (string, int, error) {
		hs, next, err := b.shadow.ScanHolds(ctx, cursor, backfillPage, true)
		if err != nil {
			return "", 0, err
		}
		known, err := b.truth.GetMany(ctx, idsOf(hs))
		if err != nil {
			return "", 0, err
		}
		n, err := b.reemit(ctx, slices.DeleteFunc(hs, func(h *backends.Hold) bool { k := known[h.ID]; return k != nil && k.State.Open() }))
		b.done.Voided += n
		return next, n, err
	})
}

// lateClaims are holds that are claimed in MySQL and not in Redis, and open nowhere: those that had ended in both stores
// and were claimed in mysql-only afterwards, which Redis would take the units of again if it was asked to claim them once
// more as the truth; and those that a Redis which was replaced by a replica has lost, from their first state to their
// claim. One that Redis has forgotten for its age was deducted long ago. Only MySQL makes them: in redis-only claims go
// through the outbox.
func (b *backfill) lateClaims(ctx context.Context) error {
	if b.f.Stage.Truth() != backends.SideMySQL {
		return nil
	}
	now, err := b.truth.Now(ctx)
	if err != nil {
		return err
	}
	return b.pages(ctx, func(cursor string) (string, int, error) {
		hs, next, err := b.truth.ScanHolds(ctx, cursor, backfillPage, false)
		if err != nil {
			return "", 0, err
		}
		hs = slices.DeleteFunc(hs, func(h *backends.Hold) bool { return h.State != backends.Claimed })
		if len(hs) == 0 {
			return next, 0, nil
		}
		known, err := b.shadow.GetMany(ctx, idsOf(hs))
		if err != nil {
			return "", 0, err
		}
		n, err := b.reemit(ctx, slices.DeleteFunc(hs, func(h *backends.Hold) bool {
			k := known[h.ID]
			if k == nil {
				return h.LedgerOwed || now.Sub(h.EndedAt) > b.p.o.Retain/2
			}
			return k.State == backends.Claimed
		}))
		b.done.Holds += n
		return next, n, err
	})
}

func idsOf(hs []*backends.Hold) []backends.HoldID {
	ids := make([]backends.HoldID, len(hs))
	for i, h := range hs {
		ids[i] = h.ID
	}
	return ids
}

func keysOf(ls []backends.Level) []backends.Key {
	keys := make([]backends.Key, len(ls))
	for i := range ls {
		keys[i] = ls[i].Key
	}
	return keys
}

// settled waits until everything that was in the outbox when it began has left it.
func (b *backfill) settled(ctx context.Context) error {
	start := b.p.o.Clock.Now()
	for {
		if err := b.sweep(ctx); err != nil {
			return err
		}
		st, err := b.truth.OutboxStats(ctx)
		if err != nil {
			return err
		}
		b.done.Waiting = st.Entries
		b.tell(b.done)
		waited := b.p.o.Clock.Now().Sub(start)
		if st.Entries == 0 || younger(st, waited) {
			return nil
		}
		if b.within > 0 && waited >= b.within {
			return errUndelivered
		}
		if err := b.again(ctx); err != nil {
			return err
		}
	}
}

// errUndelivered: the truth's outbox did not get across in the time that was given.
var errUndelivered = errors.New("the outbox could not be delivered in time")

// Deliver sweeps until everything that is in the truth's outbox when it is called has left it.
func (p *Pod) Deliver(ctx context.Context) error { return p.deliver(ctx, p.gate.Serving(), 0) }

// deliver is Deliver under f, for as long as within says; 0: without a bound. Errors: errUndelivered, ErrEpochMoved.
func (p *Pod) deliver(ctx context.Context, f backends.Fence, within time.Duration) error {
	b := backfill{p: p, f: f, within: within, truth: p.stores.Of(f.Stage.Truth()), tell: func(BackfillProgress) {}}
	if b.truth == nil {
		return backends.ErrUnavailable
	}
	return b.settled(ctx)
}

// LevelsDifferError: the units on hand of the two stores differ after everything was delivered.
type LevelsDifferError struct {
	Key           backends.Key
	Truth, Shadow int64
	Keys          int // how many keys differ on this page
}

func (e *LevelsDifferError) Error() string {
	return fmt.Sprintf("%d units of %s are on hand in the truth and %d in the shadow (%d keys differ so far): backfill carries changes, and the shadow has lost what they were made to; see 'crossfade audit', and docs/operations.md for the way to set it right", e.Truth, e.Key, e.Shadow, e.Keys)
}

// checkRounds bounds how often a difference is looked at again, sweeping in between: claims that
// happen meanwhile are on their way.
const checkRounds = 50

// check demands, before Redis may become the arbiter of live, that it has the units on hand that
// MySQL has. Backfill emits changes; a Redis that was emptied has nothing that they could be added to,
// and a kill would make it the truth.
func (b *backfill) check(ctx context.Context) error {
	if b.f.Stage != backends.Live || b.f.Filled {
		return nil
	}
	return b.pages(ctx, func(cursor string) (string, int, error) {
		ls, next, err := b.truth.ScanLevels(ctx, cursor, backfillPage)
		if err != nil {
			return "", 0, err
		}
		return next, 0, b.checkPage(ctx, ls)
	})
}

func (b *backfill) checkPage(ctx context.Context, ls []backends.Level) error {
	for round := 0; ; round++ {
		have, err := b.shadow.Levels(ctx, keysOf(ls))
		if err != nil {
			return err
		}
		onHand := make(map[backends.Key]int64, len(have))
		for _, l := range have {
			onHand[l.Key] = l.OnHand
		}
		var differ []backends.Level
		for _, l := range ls {
			if onHand[l.Key] != l.OnHand {
				differ = append(differ, l)
			}
		}
		if len(differ) == 0 {
			return nil
		}
		if round == checkRounds {
			d := differ[0]
			return &LevelsDifferError{Key: d.Key, Truth: d.OnHand, Shadow: onHand[d.Key], Keys: len(differ)}
		}
		if err := b.sweep(ctx); err != nil {
			return err
		}
		if err := b.again(ctx); err != nil {
			return err
		}
		if ls, err = b.truth.Levels(ctx, keysOf(differ)); err != nil {
			return err
		}
	}
}

// pace is called after each page that has emitted something, and sweeps until at most backfillPages of them wait. Under traffic the outbox may never be
// short; then it goes by age: what a page emitted has been confirmed when the oldest entry is younger than its end.
func (b *backfill) pace(ctx context.Context) error {
	b.paged = append(b.paged, b.p.o.Clock.Now())
	if n := len(b.paged) - backfillPages - 1; n > 0 {
		b.paged = b.paged[n:]
	}
	for {
		st, err := b.truth.OutboxStats(ctx)
		if err != nil {
			return err
		}
		b.done.Waiting = st.Entries
		b.tell(b.done)
		if st.Entries <= backfillAhead || b.confirmed(st) {
			return nil
		}
		if err := b.sweep(ctx); err != nil {
			return err
		}
		if err := b.again(ctx); err != nil {
			return err
		}
	}
}

// confirmed tells whether the page before the last backfillPages ones has been.
func (b *backfill) confirmed(st backends.OutboxStats) bool {
	if len(b.paged) <= backfillPages {
		return true
	}
	return younger(st, b.p.o.Clock.Now().Sub(b.paged[0]))
}

// younger tells whether every entry of an outbox was made less than d ago. The age is the difference of two instants in whole
// milliseconds, so an entry may be almost one older than it says.
func younger(st backends.OutboxStats, d time.Duration) bool {
	return time.Duration(st.OldestMillis+1)*time.Millisecond <= d
}

// stillServing is nil while the pod is in the epoch that the backfill began in.
func (b *backfill) stillServing() error {
	if !b.p.stillServing(b.f) {
		return ErrEpochMoved
	}
	return nil
}

// sweep brings what the backfill has sent to the shadow, and what was left behind. What is in lanes it leaves alone while the
// shadow is behind: brought there twice, the shadow would fall further behind, and a busy pod never get out of
// its backfill.
func (b *backfill) sweep(ctx context.Context) error {
	age := b.p.lagAge()
	_, _, err := b.p.Sweep(ctx, b.f, age)
	if err == nil && age > 0 {
		_, _, err = b.p.sweep(ctx, b.f, 0, func(e *backends.Entry) bool { return e.Op == backends.OpReemit })
	}
	return err
}

func (b *backfill) again(ctx context.Context) error {
	if err := b.stillServing(); err != nil {
		return err
	}
	pause := drainPause
	if b.p.lagAge() > 0 {
		pause = behindPause // to read a long outbox over and over costs the truth
	}
	return b.p.o.Clock.Wait(ctx, nil, pause)
}
