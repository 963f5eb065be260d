package dualwrite

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
)

// What a proxy had from Redis and MySQL has not confirmed is in Redis's outbox, and nowhere else but in the memory of
// this proxy. A Redis that is replaced by a replica without the last writes has lost it. So the proxy keeps the newest
// of it, and gives it back under the next epoch.

// Bounds of what is kept.
const (
	// maxKept is how many states are kept beside those in lanes, the newest ones: a replica lacks the last writes.
	maxKept = 8192
	// keptFor is how long a state is kept under the epoch that it was decided in: longer than a replica may be behind.
	keptFor = 10 * time.Minute
	// giveBackEvery is how often what could not be given back is tried again.
	giveBackEvery = 250 * time.Millisecond
	// giveBackWait is how long a restore waits for all proxies to have given back what they keep: each learns of the
	// closed fence after refreshEvery at the latest.
	giveBackWait = refreshEvery + giveBackEvery
	// maxReason is what an apology has room for, in bytes.
	maxReason = 255
)

// Filer keeps the list of promises without stock behind them. comparator.ApologyBook is one.
type Filer interface {
	// FileApologies files what is not there yet; again is safe.
	FileApologies(ctx context.Context, pod backends.Pod, from backends.Side, as []backends.Apology) error
}

// NoFiler lists nothing.
type NoFiler struct{}

// FileApologies implements Filer.
func (NoFiler) FileApologies(context.Context, backends.Pod, backends.Side, []backends.Apology) error {
	return nil
}

// ride is a state that the truth had decided under fence.
type ride struct {
	fence backends.Fence
	entry backends.Entry
	at    time.Time
	given uint64 // the last epoch under which Redis was given it
	// news is the epoch under which MySQL did not have it, before this proxy brought it there; there: it has it now.
	news  uint64
	there bool
}

// mayBeLost tells whether a failover of Redis may have lost it, as far as one knows under epoch.
func (r *ride) mayBeLost(epoch uint64) bool {
	return r.fence.Stage.Truth() == backends.SideRedis && r.fence.Epoch < epoch
}

// delta tells whether it moves units on hand by an operation id, and not by a state.
func (r *ride) delta() bool { return r.entry.Level != nil && r.entry.Level.OnHandDelta != 0 }

// unmoving is what of it does not move units on hand: as long as the fence is closed those are compared with the ledger's, and
// the rest waits. A sum of takes must not wait: Redis numbers it anew once it decides.
func (r *ride) unmoving() (e backends.Entry, ok bool) {
	l := r.entry.Level
	switch {
	case l == nil:
		return r.entry, r.entry.Hold.State != backends.Claimed
	case l.OnHandDelta == 0:
		return r.entry, true
	}
	sum := &backends.LevelChange{Key: l.Key, Taken: l.Taken, Version: l.Version}
	return backends.Entry{Op: backends.OpReemit, At: r.entry.At, Level: sum}, l.Version != (backends.Version{})
}

// kept are states that have left the lanes without MySQL's word.
type kept struct {
	mu    sync.Mutex
	rides []ride
	sorry []backends.Apology // that could not be filed yet
	lacks []lack
}

func (k *kept) add(rs ...ride) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rides = append(k.rides, rs...); len(k.rides) > maxKept {
		k.rides = append([]ride(nil), k.rides[len(k.rides)-maxKept:]...)
	}
}

// take empties it. Who took puts back what is left to do; meanwhile others find nothing to do.
func (k *kept) take() (rs []ride, sorry []backends.Apology) {
	k.mu.Lock()
	defer k.mu.Unlock()
	rs, sorry = k.rides, k.sorry
	k.rides, k.sorry = nil, nil
	return rs, sorry
}

func (k *kept) owe(as ...backends.Apology) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sorry = append(k.sorry, as...); len(k.sorry) > maxKept {
		k.sorry = k.sorry[len(k.sorry)-maxKept:]
	}
}

// offer hands an item to its lane. An entry that finds it full waits in the outbox.
func (p *Pod) offer(it *item) {
	if !p.lanes.offer(laneOf(it), *it) {
		p.o.Observer.LaneFull(p.name, "entry")
		p.keep(*it)
	}
}

// keep remembers entries that MySQL has not confirmed.
func (p *Pod) keep(its ...item) {
	var rs []ride
	for i := range its {
		it := &its[i]
		if it.applied == nil && it.fence.Stage.Truth() == backends.SideRedis && (it.entry.Hold != nil || it.entry.Level != nil) {
			rs = append(rs, ride{fence: it.fence, entry: it.entry, at: p.o.Clock.Now()})
		}
	}
	if len(rs) > 0 {
		p.kept.add(rs...)
	}
}

// Kept counts what is kept, and what is still to be listed.
func (p *Pod) Kept() int {
	p.kept.mu.Lock()
	defer p.kept.mu.Unlock()
	return len(p.kept.rides) + len(p.kept.sorry) + len(p.kept.lacks)
}

// GiveBack gives Redis what this proxy had from it under an earlier epoch, as far as Redis has lost that: under the closed
// fence of a re-issue what does not move units on hand, under an open one everything, and then MySQL. What cannot be
// given back because its units are gone is filed as an apology. It answers nil when there is nothing left that it can do now.
func (p *Pod) GiveBack(ctx context.Context) error {
	seen, f := p.gate.Seen(), p.gate.Serving()
	var err error
	if !seen.Open && seen.Stage == backends.RedisOnly {
		err = p.giveClosed(ctx, seen.Epoch)
	}
	rs, sorry := p.kept.take()
	left := rs[:0:0]
	var due []ride
	for _, r := range rs {
		switch {
		case r.mayBeLost(f.Epoch):
			due = append(due, r)
		case p.o.Clock.Now().Sub(r.at) <= keptFor:
			left = append(left, r)
		}
	}
	var deltas []ride
	due = slices.DeleteFunc(due, func(r ride) bool {
		if r.delta() && f.Stage.Truth() == backends.SideRedis {
			deltas = append(deltas, r)
			return true
		}
		return false
	})
	for i := range deltas {
		if e := p.giveDelta(ctx, f, &deltas[i]); e != nil {
			left, err = append(left, deltas[i]), errors.Join(err, e)
		}
	}
	for len(due) > 0 {
		n := min(len(due), MirrorBatch)
		more, e := p.giveOpen(ctx, f, due[:n])
		left, due, err = append(left, more...), due[n:], errors.Join(err, e)
		if e != nil {
			left, due = append(left, due...), nil
		}
	}
	p.kept.add(left...)
	if f.Open {
		err = errors.Join(err, p.listLacks(ctx, f))
	}
	return errors.Join(err, p.file(ctx, sorry))
}

func (p *Pod) file(ctx context.Context, as []backends.Apology) error {
	if len(as) == 0 {
		return nil
	}
	err := p.o.Filer.FileApologies(ctx, p.name, backends.SideRedis, as)
	if err != nil {
		p.kept.owe(as...)
	}
	return err
}

// apologise lists what has no stock behind it, at once or with the next GiveBack.
func (p *Pod) apologise(ctx context.Context, as []backends.Apology) {
	for _, a := range as {
		p.o.Observer.Apology(p.name, a)
	}
	_ = p.file(ctx, as)
}

// giveClosed is given under a fence that admits nothing else.
func (p *Pod) giveClosed(ctx context.Context, epoch uint64) error {
	rs := p.lanes.all()
	p.kept.mu.Lock()
	rs = append(rs, p.kept.rides...)
	p.kept.mu.Unlock()
	var es []backends.Entry
	for i := range rs {
		if r := &rs[i]; r.mayBeLost(epoch) && r.given < epoch {
			if e, ok := r.unmoving(); ok {
				es = append(es, e)
			}
		}
	}
	to, ok := p.stores.Redis.(backends.Restorer)
	if len(es) == 0 || !ok {
		return nil
	}
	now, err := p.stores.Redis.Now(ctx)
	if err != nil {
		return err
	}
	for from := 0; from < len(es); from += MirrorBatch {
		// What fails by itself is tried again under the open fence, and listed then.
		page := es[from:min(from+MirrorBatch, len(es))]
		as, err := to.Restore(ctx, backends.Token{Epoch: epoch}, now, page)
		if err != nil {
			p.unheard(epoch, page, now, err)
			return err
		}
		for i := range as {
			p.lacks(epoch, &page[i], &as[i], now)
		}
	}
	p.lanes.given(rs, epoch)
	return nil
}

// giveOpen gives back under the fence that is served, has MySQL follow, and answers what is left to do.
func (p *Pod) giveOpen(ctx context.Context, f backends.Fence, rs []ride) (left []ride, err error) {
	if f.Stage.Truth() != backends.SideRedis {
		return p.missed(ctx, f, rs)
	}
	var todo []*ride
	for i := range rs {
		if rs[i].given < f.Epoch {
			todo = append(todo, &rs[i])
		}
	}
	if err := p.give(ctx, f, todo); err != nil {
		return rs, err
	}
	if !f.Stage.TakesMirrors(backends.SideMySQL) {
		return nil, nil
	}
	its := make([]item, len(rs))
	for i := range rs {
		its[i] = item{fence: f, entry: rs[i].entry}
	}
	p.Mirror(ctx, f, its, true)
	for i := range its {
		if its[i].applied == nil {
			left = append(left, rs[i])
		}
	}
	return left, nil
}

// giveDelta gives back a restock. One that MySQL had is in the ledger, and so in what Redis's units on hand were set to
// or are compared with: given by its operation id as well it would count twice. So MySQL comes first.
func (p *Pod) giveDelta(ctx context.Context, f backends.Fence, r *ride) error {
	if r.news != f.Epoch {
		known, err := p.stores.MySQL.KnowsOp(ctx, r.entry.Level.OpID)
		if err != nil || known {
			return err
		}
		r.news = f.Epoch // whatever becomes of the answers to what follows
	}
	if !r.there {
		its := []item{{fence: f, entry: r.entry}}
		if p.Mirror(ctx, f, its, true); its[0].applied == nil {
			return backends.ErrUnavailable
		}
		r.there = true
	}
	return p.give(ctx, f, []*ride{r})
}

// give gives Redis, the truth under the open fence f, what it does not have. A claim that it had forgotten, of a hold
// which has ended since, follows the claim rule.
func (p *Pod) give(ctx context.Context, f backends.Fence, rs []*ride) error {
	to, ok := p.stores.Redis.(backends.Restorer)
	if !ok || len(rs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.o.MirrorTimeout)
	defer cancel()
	now, err := p.stores.Redis.Now(ctx)
	if err != nil {
		return err
	}
	es := make([]backends.Entry, len(rs))
	for i, r := range rs {
		es[i] = r.entry
	}
	t := backends.Token{Epoch: f.Epoch}
	as, err := to.Restore(ctx, t, now, es)
	if err != nil {
		p.unheard(f.Epoch, es, now, err)
		var fe *backends.FencedError
		if errors.As(err, &fe) {
			p.met(fe)
		}
		return err
	}
	for i, r := range rs {
		if h := r.entry.Hold; h != nil && h.State == backends.Claimed && !as[i].Changed && as[i].Err == nil {
			if err := p.claimAgain(ctx, t, h); err != nil {
				return err
			}
		}
		r.given = f.Epoch
		p.apologise(ctx, sorryFor(&r.entry, &as[i], now))
	}
	return nil
}

// claimAgain claims a hold that was paid for and that Redis has as anything else, by the claim rule.
func (p *Pod) claimAgain(ctx context.Context, t backends.Token, h *backends.Hold) error {
	known, err := p.stores.Redis.Get(ctx, h.ID)
	if err != nil || known != nil && known.State == backends.Claimed {
		return err
	}
	d, err := p.stores.Redis.Claim(ctx, t, &backends.ClaimRequest{ID: h.ID, Shop: h.Shop, Lines: h.Lines, Caller: h.Caller})
	if err != nil {
		return err
	}
	for _, a := range d.Apologies { // Redis has filed them
		p.o.Observer.Apology(p.name, a)
	}
	return nil
}

// sorryFor lists the units of a state that came back too late: they had been sold again, or Redis would not have it.
func sorryFor(e *backends.Entry, a *backends.Applied, now backends.Instant) (out []backends.Apology) {
	if e.Hold == nil {
		return nil
	}
	debt := make(map[backends.Key]int64, len(a.Debt))
	for _, u := range a.Debt {
		debt[u.Key] = u.Quantity
	}
	for _, u := range e.Hold.Footprint() {
		n, why := min(u.Quantity, debt[u.Key]), "Redis did not have it, as after a failover, and its units were sold again"
		if a.Err != nil {
			n, why = u.Quantity, "Redis did not have it, as after a failover, and did not take it back: "+a.Err.Error()
		}
		if n > 0 {
			out = append(out, backends.Apology{Hold: e.Hold.ID, Key: u.Key, Quantity: n, Reason: why[:min(len(why), maxReason)], At: now})
		}
	}
	return out
}

// missed lists what this proxy had from Redis and MySQL, which has become the truth since, does not have: too late
// to be given back.
func (p *Pod) missed(ctx context.Context, f backends.Fence, rs []ride) (left []ride, err error) {
	truth := p.stores.Of(f.Stage.Truth())
	var ids []backends.HoldID
	for i := range rs {
		if h := rs[i].entry.Hold; h != nil {
			ids = append(ids, h.ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	now, err := truth.Now(ctx)
	if err != nil {
		return rs, err
	}
	known, err := truth.GetMany(ctx, ids)
	if err != nil {
		return rs, err
	}
	newest := map[backends.HoldID]*backends.Hold{}
	for i := range rs {
		if h := rs[i].entry.Hold; h != nil && (newest[h.ID] == nil || h.Version.After(newest[h.ID].Version)) {
			newest[h.ID] = h
		}
	}
	for _, id := range ids {
		h, k := newest[id], known[id]
		if h == nil || k != nil && !h.Version.After(k.Version) || h.State.Open() && h.ExpiresAt < now {
			continue
		}
		delete(newest, id)
		var as []backends.Apology
		for _, u := range h.Footprint() {
			as = append(as, backends.Apology{Hold: id, Key: u.Key, Quantity: u.Quantity, Reason: "lost in a failover of Redis; only this proxy knew of it, and MySQL decides now", At: now})
		}
		p.apologise(ctx, as)
	}
	return nil, nil
}
