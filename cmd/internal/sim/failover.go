package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/memstore"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// failingOver has Redis replaced by a replica that lags behind, and an operator who sees it after a while.
func (w *world) failingOver() {
	rng := w.s.rng
	w.s.spawn(nil, "failover", func() {
		w.sleep(rng.IntN(150))
		w.replica = w.redis.Snapshot()
		w.sleep(rng.IntN(40))
		w.promote()
		w.sleep(5 + rng.IntN(80))
		for range 8 {
			if !w.redis.Restarted() {
				return // it was re-issued, or a switch or kill has come by
			}
			w.reissue()
			w.sleep(20)
		}
	})
}

// raised: a fence counts when the replica has it, and with it all that came before.
func (w *world) raised() {
	if w.replica != nil {
		w.replica = w.redis.Snapshot()
	}
}

// promote is the failover. What neither the replica nor MySQL has is lost, unless a lane of a proxy brings it back.
func (w *world) promote() {
	ctx := context.Background()
	before := make(map[backends.HoldID]*backends.Hold, len(w.holds))
	for _, id := range w.holds {
		before[id], _ = w.redis.Get(ctx, id)
	}
	f, _ := w.redis.Fence(ctx)
	alone := f.Stage == backends.RedisOnly // in which only claims and restocks are for MySQL, and so in the memory of proxies; a full outbox drops takes as well
	ids, counts := map[backends.OpID]int{}, map[backends.OpID]bool{}
	for _, o := range w.ops {
		if o.opID != "" {
			for id := o.opID; w.redis.Knows(id); id += "'" { // as w.do makes them
				ids[id], counts[id] = o.key, o.kind == backends.OpCount
			}
		}
	}
	w.redis.Promote(w.replica)
	w.replica = nil
	w.failovers++
	for id, h := range before {
		if h == nil || !newer(ctx, h, w.redis) || !newer(ctx, h, w.mysql) {
			continue
		}
		w.lostHolds[id] = append(w.lostHolds[id], h.Takes()...)
		w.unwritten[string(id)] = w.unwritten[string(id)] || alone && h.State != backends.Claimed
		w.bareClaims[id] = w.bareClaims[id] || alone && h.State == backends.Claimed
	}
	unsettled := w.unsettled(ctx)
	for id, key := range ids {
		if !w.redis.Knows(id) && (!w.mysql.Knows(id) || unsettled[id]) {
			w.lostOps[id] = keys[key]
			w.unwritten[string(id)] = w.unwritten[string(id)] || (alone || w.tight) && counts[id]
		}
	}
	w.mutated()
	w.tell(func() string {
		return fmt.Sprintf("failover: lost holds %v, lost operations %v", w.lostHolds, w.lostOps)
	})
}

// unsettled are operations in MySQL's outbox from before a kill: what MySQL knows of them is not what Redis has decided
// since, and is voided by the settling. (Redis replaced between a kill and its settling: docs/limits.md.)
func (w *world) unsettled(ctx context.Context) map[backends.OpID]bool {
	out := map[backends.OpID]bool{}
	if f, _ := w.redis.Fence(ctx); f.Stage.Truth() != backends.SideRedis {
		return out
	}
	es, _ := w.mysql.Pending(ctx, "", 0, backends.MaxPage)
	for i := range es {
		if l := es[i].Level; l != nil {
			out[l.OpID] = true
		}
	}
	return out
}

// forgiven tells whether what a failover has lost may stay lost: nobody was told of it, or a proxy that told has
// died since, and with it the memory of it, or it never was in that. What a living proxy has told it gives back.
func (w *world) forgiven(id string) bool {
	told := w.tellers[id]
	if w.bareClaims[backends.HoldID(id)] && !w.toldClaimed(backends.HoldID(id)) {
		return true // the grant was in no outbox, and the claim was a message that the network had doubled
	}
	return len(told) == 0 || w.unwritten[id] || slices.ContainsFunc(told, func(g *group) bool { return g.dead })
}

// onRecord tells whether the proxy that told of a count had the answer from Redis's record of it: the record says what
// was answered, and not what was moved, so that there is nothing to give back (docs/limits.md).
func (w *world) onRecord(id backends.OpID) bool {
	id = backends.OpID(strings.TrimRight(string(id), "'"))
	return slices.ContainsFunc(w.ops, func(o *op) bool { return o.opID == id && o.replayed })
}

// toldClaimed tells whether somebody was told that a hold is claimed.
func (w *world) toldClaimed(id backends.HoldID) bool {
	return slices.ContainsFunc(w.ops, func(o *op) bool {
		return o.hold == id && o.kind == backends.OpClaim && o.ended && o.err == nil && o.outcome == backends.OutcomeClaimed
	})
}

// lostAt tells whether something is lost for good at a key.
func (w *world) lostAt(k backends.Key) bool {
	for id, us := range w.lostHolds {
		if w.forgiven(string(id)) && slices.ContainsFunc(us, func(u backends.Units) bool { return u.Key == k }) {
			return true
		}
	}
	for id, at := range w.lostOps {
		if at == k && (w.hastened || w.onRecord(id) || w.forgiven(strings.TrimRight(string(id), "'"))) {
			return true
		}
	}
	return w.setAside[k]
}

// giveBack has the proxies that live do what their loops do: what they keep goes back to Redis.
func (w *world) giveBack(ctx context.Context) {
	for _, p := range w.proxies {
		if p.g.dead {
			continue
		}
		p.cut = [3]time.Time{}
		_ = p.pod.Refresh(ctx)
		for range healthyRounds {
			for lane := range 2 {
				p.pod.LaneStep(ctx, lane)
			}
			_ = p.pod.GiveBack(ctx)
		}
	}
}

// newer tells whether h is a later state than the store's.
func newer(ctx context.Context, h *backends.Hold, s backends.Inspector) bool {
	have, _ := s.Get(ctx, h.ID)
	return have == nil || h.Version.After(have.Version)
}

// reissue is the operator's word, said to whichever proxy lives.
func (w *world) reissue() {
	p := w.proxies[w.s.rng.IntN(len(w.proxies))]
	if p.g.dead {
		return
	}
	done := false
	proc := w.s.spawn(p.g, "reissue", func() {
		res, err := p.drv.Reissue(context.Background(), podName, "sim", "sim")
		w.tell(func() string { return fmt.Sprintf("reissue: %s %v", show(res.Change.Steps), err) })
		done = true
	})
	for !done && !proc.dead {
		w.sleep(5)
	}
}

// healthyRounds bounds what one healthy proxy may need to bring a pod in order; a takeover is one of them.
const healthyRounds = 24

// putInOrder has one healthy proxy do what it does by itself: end the open switch, and do the work that is left. An
// operator re-issues the fence of a Redis that was replaced, and repairs levels where a backfill asks for it. It is
// the promise that a switch whose driver has died ends.
func (w *world) putInOrder() {
	ctx := context.Background()
	p := w.healthy()
	p.drv = p.driver(p.stores)
	sw := w.control.state.Switch
	w.hastened = w.redis.Restarted() || sw != nil && sw.Kind == killswitch.KindRealign
	var last error
	for range healthyRounds {
		w.s.now = w.s.now.Add(simTakeover)
		if _, err := p.drv.Resume(ctx, podName); err != nil {
			last = err
			continue
		}
		if w.redis.Restarted() && w.control.state.Switch == nil {
			if _, err := p.drv.Reissue(ctx, podName, "sim", "sim"); err != nil {
				last = err
				continue
			}
		}
		works, err := p.drv.Work(ctx, podName, nil)
		w.tell(func() string { return fmt.Sprintf("recovery: %v %v", works, err) })
		var differ *dualwrite.LevelsDifferError
		if errors.As(err, &differ) && w.failovers > 0 {
			w.repair(ctx)
		}
		if last = err; err == nil && len(works) == 0 {
			return
		}
	}
	w.fail("progress: the pod is not in order after %d rounds: %v (%s)", healthyRounds, last, show(w.control.state))
}

// healthy is a proxy that starts when all disturbances are over.
func (w *world) healthy() *proxy {
	p := &proxy{w: w, n: len(w.proxies), g: &group{}, stores: dualwrite.Stores{Redis: w.redis, MySQL: w.mysql}}
	if w.tight {
		sweep := func() { _, _, _ = p.pod.SweepNow(context.Background(), 0) }
		p.stores = dualwrite.Stores{Redis: singly{w.redis, sweep}, MySQL: singly{w.mysql, sweep}}
	}
	p.pod = dualwrite.NewPod(podName, p.stores, dualwrite.Options{Lone: aftermath{w}, Lanes: 1, LaneDepth: 1, Clock: clock{w.s}, Comparer: counter{w}, Filer: lister{w}})
	return p
}

// settleListed has the operator decide on what a restore could only list: the truth's units on hand stay.
func (w *world) settleListed(ctx context.Context, truth, shadow *memstore.Store) {
	ls, _ := truth.Levels(ctx, keys[:])
	for _, l := range ls {
		have, _ := shadow.Levels(ctx, []backends.Key{l.Key})
		if (w.listed || w.lostAt(l.Key)) && len(have) == 1 && have[0].OnHand != l.OnHand {
			w.setAside[l.Key] = true
			w.correct(ctx, shadow, l.Key, l.OnHand-have[0].OnHand)
		}
	}
}

func (w *world) correct(ctx context.Context, s *memstore.Store, k backends.Key, by int64) {
	f, _ := s.Fence(ctx)
	now, _ := s.Now(ctx)
	w.nextID++
	c := &backends.Correction{OpID: backends.OpID(fmt.Sprintf("repair%d", w.nextID)), Key: k, Sellable: by, OnHand: by}
	if _, err := s.Correct(ctx, backends.Token{Epoch: f.Epoch}, now, c); err != nil {
		w.fail("repair: %v", err)
	}
}

// repair does what 'crossfade repair' does to a Redis that is the shadow: its levels get the truth's units.
func (w *world) repair(ctx context.Context) {
	truth, _ := w.mysql.Levels(ctx, keys[:])
	for _, l := range truth {
		have, _ := w.redis.Levels(ctx, []backends.Key{l.Key})
		by := l.OnHand
		if len(have) == 1 {
			by -= have[0].OnHand
		}
		if by != 0 {
			w.correct(ctx, w.redis, l.Key, by)
		}
	}
	w.repairs++
}

// controlAway has nobody reach the control store for a while.
func (w *world) controlAway() {
	rng := w.s.rng
	w.s.spawn(nil, "control store away", func() {
		w.sleep(rng.IntN(120))
		w.control.away = w.s.now.Add(time.Duration(20+rng.IntN(120)) * time.Millisecond)
	})
}

// murder ends the proxy of a process that drives a switch or a work, at the n-th call that it makes for it.
func (w *world) murder(p *process) {
	if w.murders == 0 || p == nil || p.group == nil {
		return
	}
	if w.murders--; w.murders > 0 {
		return
	}
	for _, q := range w.proxies {
		if q.g == p.group {
			w.crashes++
			w.s.kill(q.g)
			w.s.spawn(nil, "restart", func() {
				w.sleep(w.s.rng.IntN(60))
				if q.g.dead {
					q.start()
				}
			})
			panic(crashed{})
		}
	}
}

var _ killswitch.Restorer = carrier{}

// lister is what operators are told of: promises that a failover has broken.
type lister struct{ w *world }

func (l lister) FileApologies(_ context.Context, _ backends.Pod, _ backends.Side, as []backends.Apology) error {
	for _, a := range as {
		l.w.listedHolds[a.Hold] = true
		l.w.tell(func() string { return fmt.Sprintf("listed: %+v", a) })
	}
	l.w.sorry.file(as)
	return nil
}
