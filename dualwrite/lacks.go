package dualwrite

import (
	"context"
	"errors"
	"slices"

	"github.com/crossfade-proxy/crossfade/backends"
)

// What comes back to a replaced Redis may have no stock behind it. Of a claim without a hold Redis had filed an apology, and
// that is as lost as the rest of its last writes.

const noStock = "Redis had lost it in a failover, and there was no stock behind it when it came back"

// lack is a promise that found no stock when it came back under the closed fence of an epoch. The stock may come
// back behind it, so what is still missing is listed when all has.
type lack struct {
	backends.Apology
	epoch uint64
}

func (k *kept) lack(epoch uint64, as []backends.Apology) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range as {
		k.lacks = append(k.lacks, lack{a, epoch})
	}
	if len(k.lacks) > maxKept {
		k.lacks = k.lacks[len(k.lacks)-maxKept:]
	}
}

// lacking takes those from under f's epoch and before.
func (k *kept) lacking(f backends.Fence) (out []lack) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lacks = slices.DeleteFunc(k.lacks, func(l lack) bool {
		if l.epoch <= f.Epoch {
			out = append(out, l)
		}
		return l.epoch <= f.Epoch
	})
	return out
}

// lacks remembers what came back under the closed fence of epoch and found no stock.
func (p *Pod) lacks(epoch uint64, e *backends.Entry, a *backends.Applied, now backends.Instant) {
	if a.Err != nil || !a.Changed {
		return
	}
	as := sorryFor(e, a, now)
	for i := range as {
		as[i].Reason = noStock
	}
	p.kept.lack(epoch, as)
}

// unheard remembers what may have come back by a call whose answer was lost: given once more it changes nothing, and
// nobody is told of a debt. What is listed of it is bounded by the debt that there is.
func (p *Pod) unheard(epoch uint64, es []backends.Entry, now backends.Instant, err error) {
	if !errors.Is(err, backends.ErrAmbiguous) {
		return
	}
	for i := range es {
		if h := es[i].Hold; h != nil {
			for _, u := range h.Footprint() {
				p.kept.lack(epoch, []backends.Apology{{Hold: h.ID, Key: u.Key, Quantity: u.Quantity, Reason: noStock, At: now}})
			}
		}
	}
}

// listLacks lists what came back without stock, as far as the truth under f is still short of it.
func (p *Pod) listLacks(ctx context.Context, f backends.Fence) error {
	ls := p.kept.lacking(f)
	if len(ls) == 0 {
		return nil
	}
	var ks []backends.Key
	for _, l := range ls {
		if !slices.Contains(ks, l.Key) {
			ks = append(ks, l.Key)
		}
	}
	debt := map[backends.Key]int64{}
	for page := range slices.Chunk(ks, backfillPage) {
		levels, err := p.stores.Of(f.Stage.Truth()).Levels(ctx, page)
		if err != nil {
			for _, l := range ls {
				p.kept.lack(l.epoch, []backends.Apology{l.Apology})
			}
			return err
		}
		for i := range levels {
			debt[levels[i].Key] = max(0, -levels[i].Sellable())
		}
	}
	var as []backends.Apology
	listed := map[promise]bool{}
	for _, l := range ls {
		a := l.Apology
		if listed[promise{a.Hold, a.Key}] {
			continue
		}
		if a.Quantity = min(a.Quantity, debt[a.Key]); a.Quantity > 0 {
			debt[a.Key] -= a.Quantity
			listed[promise{a.Hold, a.Key}] = true
			as = append(as, a)
		}
	}
	p.apologise(ctx, as)
	return nil
}

// short looks, under the open fence, for what was given back under the closed one by a driver that has died before it could list
// anything: promises from before this epoch at keys that are short of units. What is listed is bounded by that, less what Redis
// has listed itself.
func (r *restore) short(ctx context.Context) error {
	if !r.f.Open || r.f.Stage.Truth() != backends.SideRedis {
		return nil
	}
	debt := map[backends.Key]int64{}
	err := r.pages(ctx, func(ls []backends.Level) error {
		have, err := r.p.stores.Redis.Levels(ctx, keysOf(ls))
		for i := range have {
			if by := -have[i].Sellable(); by > 0 {
				debt[have[i].Key] = by
			}
		}
		return err
	})
	if err != nil || len(debt) == 0 {
		return err
	}
	now, err := r.p.stores.Redis.Now(ctx)
	if err != nil {
		return err
	}
	if err := less(ctx, debt, now, map[promise]bool{}, r.p.stores.Redis); err != nil {
		return err
	}
	for _, openOnly := range []bool{true, false} {
		if err := r.promises(ctx, openOnly, debt); err != nil {
			return err
		}
	}
	return nil
}

// promises remembers what holds from before this epoch have at keys in debt, as far as that goes.
func (r *restore) promises(ctx context.Context, openOnly bool, debt map[backends.Key]int64) error {
	now, err := r.p.stores.Redis.Now(ctx)
	if err != nil {
		return err
	}
	for cursor := ""; ; {
		hs, next, err := r.p.stores.MySQL.ScanHolds(ctx, cursor, backfillPage, openOnly)
		if err != nil {
			return err
		}
		for _, h := range hs {
			if h.State != backends.Held && h.State != backends.Claimed || h.Version.Epoch >= r.f.Epoch || openOnly != h.State.Open() {
				continue
			}
			for _, u := range h.Footprint() {
				if by := min(u.Quantity, debt[u.Key]); by > 0 {
					debt[u.Key] -= by
					r.p.kept.lack(r.f.Epoch, []backends.Apology{{Hold: h.ID, Key: u.Key, Quantity: by, Reason: noStock, At: now}})
				}
			}
		}
		if cursor = next; next == "" {
			return nil
		}
	}
}

// promise is what an apology is of.
type promise struct {
	hold backends.HoldID
	key  backends.Key
}

// less takes from debt what a store has listed of it itself, lately: older apologies are of debts that were paid, or of others. What is in
// told was taken off before.
func less(ctx context.Context, debt map[backends.Key]int64, now backends.Instant, told map[promise]bool, s backends.Inspector) error {
	for cursor := ""; ; {
		as, next, err := s.Apologies(ctx, cursor, backfillPage)
		if err != nil {
			return err
		}
		for _, a := range as {
			if of := (promise{a.Hold, a.Key}); debt[a.Key] > 0 && now.Sub(a.At) <= keptFor && !told[of] {
				told[of] = true
				debt[a.Key] -= a.Quantity
			}
		}
		if cursor = next; next == "" {
			return nil
		}
	}
}
