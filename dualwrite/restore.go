package dualwrite

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Restored is what a truth was given back.
type Restored struct {
	Holds  int `json:"holds"`   // states of holds
	Taken  int `json:"taken"`   // sums of takes
	OnHand int `json:"on_hand"` // keys whose units on hand were set to the ledger's
	// Differ are keys whose units on hand differ from the ledger's and were left as they are, and Left why.
	Differ int    `json:"differ"`
	Left   string `json:"left,omitempty"`
}

// errNoRestorer: a store that cannot be given anything back. Redis can.
var errNoRestorer = errors.New("this store cannot be given back what it has lost")

// Restore gives Redis, which is the truth under f or in live the shadow, what it has lost and MySQL still has: a Redis that was replaced by
// a replica without the last writes knows less than its shadow. What proxies keep, and what Redis still has to tell, goes
// first. Then MySQL has the newest state that anybody knows, and Redis follows it by versions: again is safe, and so is a
// Redis that has lost nothing.
//
// Under a closed fence nothing is decided meanwhile. Then the units on hand are set to the ledger's as well, where
// complete says that MySQL had all of Redis's (its backfill was done): that is how a lost restock comes back. Otherwise
// they are only compared. Under an open fence what comes back may find its units sold: that is filed as an apology.
//
// A hold that MySQL has, and that nobody was told of, comes back too: it ends by its time.
func (p *Pod) Restore(ctx context.Context, f backends.Fence, complete bool) (Restored, error) {
	to, ok := p.stores.Redis.(backends.Restorer)
	switch {
	case !f.Stage.Dual() && f.Stage.Truth() != backends.SideRedis:
		return Restored{}, nil
	case f.Stage.Truth() != backends.SideRedis:
		to = follower{p.stores.Redis}
	case !ok:
		return Restored{}, errNoRestorer
	}
	r := restore{p: p, f: f, t: backends.Token{Epoch: f.Epoch}, to: to}
	switch {
	case f.Open:
		r.why = "Redis decides already"
	case !complete:
		r.why = "MySQL was not known to have all of Redis's, since its backfill had not ended"
	}
	for _, phase := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"what proxies keep", r.kept},
		{"what the truth still has to tell", r.drained},
		{"open holds", r.open},
		{"ended holds", r.ended},
		{"takes", r.levels},
		{"what the truth has told since", r.told},
		{"units on hand", r.onHand},
		{"promises without stock", r.short},
	} {
		if err := phase.do(ctx); err != nil {
			return r.done, fmt.Errorf("restoring Redis from MySQL, %s: %w", phase.name, err)
		}
	}
	if r.done.Left = r.why; r.zero {
		r.done.Left = "the ledger has none of them"
	}
	return r.done, p.listLacks(ctx, f)
}

// follower is Redis where it is the shadow: it follows as it always does.
type follower struct{ backends.Store }

// Restore implements backends.Restorer.
func (s follower) Restore(ctx context.Context, t backends.Token, asOf backends.Instant, es []backends.Entry) ([]backends.Applied, error) {
	return s.Apply(ctx, t, asOf, es)
}

// RestoreLevel implements backends.Restorer.
func (s follower) RestoreLevel(ctx context.Context, t backends.Token, asOf backends.Instant, c *backends.Correction) (bool, error) {
	return s.Correct(ctx, t, asOf, c)
}

type restore struct {
	p    *Pod
	f    backends.Fence
	t    backends.Token
	to   backends.Restorer
	zero bool   // a ledger's zero was left
	why  string // units on hand are not set; empty: they are
	done Restored
}

// kept waits until proxies have given Redis what they keep: they do so as soon as they see the closed fence. Who is cut
// off gives it back later, under the open one.
func (r *restore) kept(ctx context.Context) error {
	if r.f.Open || r.f.Stage.Truth() != backends.SideRedis {
		return nil
	}
	if err := r.p.giveClosed(ctx, r.f.Epoch); err != nil {
		return err
	}
	return r.p.o.Clock.Wait(ctx, nil, giveBackWait)
}

// drained brings the outbox of a closed truth to the other store: then that has the newest state that anybody knows.
func (r *restore) drained(ctx context.Context) error {
	if r.f.Open {
		return nil
	}
	return r.p.Drain(ctx, r.f)
}

// told brings the outbox of an open truth to the other store, as far as it goes back to now: what it still has to tell would
// hide a difference of the units on hand, or look like one. In redis-only that is what moves the ledger. It comes after the holds, since
// somebody waits for those.
func (r *restore) told(ctx context.Context) error {
	if !r.f.Open {
		return nil
	}
	err := r.p.deliver(ctx, r.f, tellWithin)
	if errors.Is(err, errUndelivered) {
		r.why, err = "Redis decides already, and its outbox could not be delivered before they were compared", nil
	}
	return err
}

// tellWithin bounds how long a restore under traffic waits for the other store.
const tellWithin = 10 * time.Second

func (r *restore) give(ctx context.Context, es []backends.Entry) (int, error) {
	if len(es) == 0 {
		return 0, nil
	}
	now, err := r.p.stores.Redis.Now(ctx)
	if err != nil {
		return 0, err
	}
	as, err := r.to.Restore(ctx, r.t, now, es)
	if err != nil {
		if r.f.Stage.Truth() == backends.SideRedis {
			r.p.unheard(r.f.Epoch, es, now, err)
		}
		return 0, err
	}
	n := 0
	for i := range as {
		switch {
		case r.f.Open:
			r.p.apologise(ctx, sorryFor(&es[i], &as[i], now))
		case r.f.Stage.Truth() == backends.SideRedis: // where it is the shadow, the truth has its apologies
			r.p.lacks(r.f.Epoch, &es[i], &as[i], now)
		}
		if as[i].Err != nil {
			return n, as[i].Err
		}
		if as[i].Changed {
			n++
		}
	}
	return n, nil
}

// open are the holds that somebody may still claim; they come first, since a restore is bounded in time.
func (r *restore) open(ctx context.Context) error { return r.holds(ctx, true) }

func (r *restore) ended(ctx context.Context) error { return r.holds(ctx, false) }

func (r *restore) holds(ctx context.Context, openOnly bool) error {
	now, err := r.p.stores.Redis.Now(ctx)
	if err != nil {
		return err
	}
	for cursor := ""; ; {
		hs, next, err := r.p.stores.MySQL.ScanHolds(ctx, cursor, backfillPage, openOnly)
		if err != nil {
			return err
		}
		known := map[backends.HoldID]*backends.Hold{}
		if len(hs) > 0 {
			if known, err = r.p.stores.Redis.GetMany(ctx, idsOf(hs)); err != nil {
				return err
			}
		}
		var es []backends.Entry
		for _, h := range hs {
			if err := r.claim(ctx, h, known[h.ID]); err != nil {
				return err
			}
			if k := known[h.ID]; k == nil && r.unforgotten(h, now) || k != nil && h.Version.After(k.Version) {
				es = append(es, backends.Entry{Op: backends.OpReemit, Hold: h})
			}
		}
		n, err := r.give(ctx, es)
		r.done.Holds += n
		if err != nil || next == "" {
			return err
		}
		cursor = next
	}
}

// unforgotten tells whether Redis would know the hold, had it lost nothing. One that ended long ago it has forgotten for its
// age, and a claim of that kind would be deducted once more. What ended without a sale is brought so that its id is
// not granted again, and only as far back as a replica may be behind.
func (r *restore) unforgotten(h *backends.Hold, now backends.Instant) bool {
	ago := now.Sub(h.EndedAt)
	switch h.State {
	case backends.Held:
		return true
	case backends.Claimed:
		return !h.LedgerOwed && ago <= r.p.o.Retain/2 // what is owed travels with the level
	default:
		return ago <= min(r.p.o.Retain/2, keptFor)
	}
}

// claim follows the claim rule where versions do not help: a hold that Redis had lost the claim of and has ended since,
// by its time, was paid for all the same. What is not there any more is an apology.
func (r *restore) claim(ctx context.Context, h, known *backends.Hold) error {
	if !r.f.Open || h.State != backends.Claimed || known == nil || known.State == backends.Claimed || h.Version.After(known.Version) {
		return nil
	}
	r.done.Holds++
	return r.p.claimAgain(ctx, r.t, h)
}

func (r *restore) levels(ctx context.Context) error {
	return r.pages(ctx, func(ls []backends.Level) error {
		var es []backends.Entry
		for _, l := range ls {
			if l.TakenVersion != (backends.Version{}) {
				es = append(es, backends.Entry{Op: backends.OpReemit, Level: &backends.LevelChange{Key: l.Key, Taken: l.Taken, Version: l.TakenVersion}})
			}
		}
		n, err := r.give(ctx, es)
		r.done.Taken += n
		return err
	})
}

func (r *restore) pages(ctx context.Context, do func([]backends.Level) error) error {
	for cursor := ""; ; {
		ls, next, err := r.p.stores.MySQL.ScanLevels(ctx, cursor, backfillPage)
		if err == nil && len(ls) > 0 {
			err = do(ls)
		}
		if err != nil || next == "" {
			return err
		}
		cursor = next
	}
}

// onHand sets the units on hand to the ledger's, which is authoritative in every stage. Where the ledger says none there may
// be no row of it, and Redis's are left. They are left as well while claims are still to be settled: those are in the
// ledger, and reach Redis by being settled.
func (r *restore) onHand(ctx context.Context) error {
	unsettled, err := r.p.stores.MySQL.OutboxStats(ctx)
	if err != nil {
		return err
	}
	if unsettled.Entries > 0 && r.why == "" {
		r.why = "MySQL's outbox from before a kill was not settled"
	}
	return r.pages(ctx, func(ls []backends.Level) error {
		have, err := r.p.stores.Redis.Levels(ctx, keysOf(ls))
		if err != nil {
			return err
		}
		// Read after Redis's, and Redis still closed after both: nobody has moved either between.
		if ls, err = r.p.stores.MySQL.Levels(ctx, keysOf(ls)); err != nil {
			return err
		}
		if err := r.closed(ctx); err != nil {
			return err
		}
		return r.onHandOf(ctx, ls, have)
	})
}

// closed complains when a restore that began under a closed fence is late.
func (r *restore) closed(ctx context.Context) error {
	if r.f.Open {
		return nil
	}
	have, err := r.p.stores.Of(r.f.Stage.Truth()).Fence(ctx)
	if err == nil && (have.Open || have.Epoch != r.f.Epoch) {
		err = ErrEpochMoved
	}
	return err
}

func (r *restore) onHandOf(ctx context.Context, ls, have []backends.Level) error {
	onHand := make(map[backends.Key]int64, len(have))
	for _, l := range have {
		onHand[l.Key] = l.OnHand
	}
	for _, l := range ls {
		switch by := l.OnHand - onHand[l.Key]; {
		case by == 0:
		case r.why != "":
			r.done.Differ++
		case l.OnHand == 0:
			r.done.Differ++
			r.zero = true
		default:
			if err := r.correct(ctx, l.Key, by); err != nil {
				return err
			}
		}
	}
	return nil
}

// correct moves one level, under an operation id that whoever restores the pod in this epoch gives it: two
// who find the same difference move it once.
func (r *restore) correct(ctx context.Context, k backends.Key, by int64) error {
	now, err := r.p.stores.Redis.Now(ctx)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(strconv.FormatUint(r.f.Epoch, 10) + " " + k.String()))
	c := &backends.Correction{OpID: backends.OpID("restore:" + hex.EncodeToString(sum[:16])), Key: k, Sellable: by, OnHand: by}
	moved, err := r.to.RestoreLevel(ctx, r.t, now, c)
	if moved {
		r.done.OnHand++
	}
	return err
}
